"""Publishing beside bulk authorisation: what it costs, how far behind the log is at the end, how fast it catches up.

Rounds authorise the same campaigns, with a process that publishes beside them and without, in turns. What the rounds
without it left unpublished is published in between, and nobody's clock runs. The lag is from the last commit of a
round until all of it stands in a signed checkpoint.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter
from typing import Any, Final

from audit.log.status import log_status
from bench.budgets import Line
from bench.stand import ROOT, Stand, python, register
from bench.timing import interleaved, rate, seconds

CAMPAIGNS_PER_ROUND: Final = 3
"""Long enough that publishing every third of a second happens several times in it."""

CHILD_SECONDS_MAX: Final = 60.0
PUBLISHED_SECONDS_MAX: Final = 600.0
LOOK_EVERY_SECONDS: Final = 0.02


def measure(stand: Stand) -> list[Line]:
    """Authorise with and without a process that publishes; both in turns."""
    stand.authorise(register(stand.ledger), stand.recipients)  # The account and its people are made before any clock.
    lags: list[float] = []
    with _child(stand) as child:
        before = _unpublished(stand)
        with _publishing(child):
            caught_up = seconds(lambda: _until_published(stand))

        def alone(_: int) -> float:
            found = _authorise(stand)
            with _publishing(child):
                _until_published(stand)
            return found

        def beside(number: int) -> float:
            with _publishing(child):
                found = _authorise(stand)
                lag = seconds(lambda: _until_published(stand))
            if number >= 0:
                lags.append(lag)
            return found

        found = interleaved({"alone": alone, "beside": beside}, stand.sizes.rounds)
        told = _end(child)
    speeds = {name: median(rates) for name, rates in found.items()}
    ratio = speeds["beside"] / speeds["alone"]
    return [
        Line("publish_backlog", f"{before:,} events published that had waited", before / caught_up, "events/s"),
        Line("publish_alone", "bulk authorisation, nothing published", speeds["alone"], "recipients/s"),
        Line(
            "publish_beside",
            "the same beside publishing : alone",
            speeds["beside"],
            "recipients/s",
            "authorise_beside_publishing",
            ratio,
            tuple(found["beside"]),
        ),
        Line(
            "publish_lag",
            "from the last commit until everything is published",
            max(lags),
            "s",
            "publishing_lag_seconds",
            rounds=tuple(lags),
        ),
        Line("publish_start_mb", "memory of the process that publishes, before it begins", told["start_mb"], "MB"),
        Line("publish_peak_mb", "memory of the process that publishes, peak", told["peak_mb"], "MB"),
    ]


def _authorise(stand: Stand) -> float:
    """Recipients per second over some fresh campaigns."""
    campaigns = [register(stand.ledger) for _ in range(CAMPAIGNS_PER_ROUND)]

    def work() -> None:
        for campaign in campaigns:
            stand.authorise(campaign, stand.recipients)

    return rate(CAMPAIGNS_PER_ROUND * stand.sizes.people, work)


def _unpublished(stand: Stand) -> int:
    with stand.instance.services.writer.transaction() as connection:
        return log_status(connection, stand.ledger.tenant).lag_events


def _until_published(stand: Stand) -> None:
    end = perf_counter() + PUBLISHED_SECONDS_MAX
    while _unpublished(stand):
        assert perf_counter() < end, "The process that publishes does not."
        time.sleep(LOOK_EVERY_SECONDS)


@contextmanager
def _publishing(child: subprocess.Popen[str]) -> Iterator[None]:
    """Let the child publish for the length of the block."""
    assert child.stdin is not None
    assert child.stdout is not None
    print("on", file=child.stdin, flush=True)
    try:
        yield
    finally:
        print("off", file=child.stdin, flush=True)
        assert child.stdout.readline() == "off\n", "The process that publishes has ended."


@contextmanager
def _child(stand: Stand) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        python("-m", "bench.child_publish"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=stand.environment(),
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n", "The process that is to publish did not start."
            yield child
        finally:
            child.kill()


def _end(child: subprocess.Popen[str]) -> dict[str, Any]:
    told, _ = child.communicate(timeout=CHILD_SECONDS_MAX)
    found: dict[str, Any] = json.loads(told.splitlines()[-1])
    return found
