"""Figures for Prometheus, in its text format. Labels are route templates, methods and statuses: nothing personal.

Figures of requests are counted per process; behind several processes, scrape each. Those of the log are the database's.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from audit.log.status import LogLag

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class Metrics:
    """The figures of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "lethe_http_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "lethe_http_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._open = Gauge("lethe_http_requests_open", "Requests under way.", registry=self.registry)
        self._log_size = Gauge(
            "lethe_log_published_events", "Events in the published logs of all accounts.", registry=self.registry
        )
        self._log_cosigned = Gauge(
            "lethe_log_cosigned_events", "Of these, events that a witness has cosigned.", registry=self.registry
        )
        self._log_lag = Gauge(
            "lethe_log_lag_seconds",
            "How long the oldest event waits that is in no published log.",
            registry=self.registry,
        )
        self._lines: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def begin(self) -> None:
        """A request came."""
        self._open.inc()

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """It was answered."""
        self._open.dec()
        line = self._lines.get((method, route, status))
        if line is None:
            line = (self._requests.labels(method, route, str(status)), self._seconds.labels(method, route))
            self._lines[method, route, status] = line
        line[0].inc()
        line[1].observe(seconds)

    def log(self, lag: LogLag) -> None:
        """How the published logs stand, all accounts together: as this database tells it, not this process."""
        self._log_size.set(lag.entries)
        self._log_cosigned.set(lag.cosigned)
        self._log_lag.set(lag.seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
