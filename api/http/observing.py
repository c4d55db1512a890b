"""The outermost layer of every request: security headers, the access log, the figures, and the last net for errors.

Pure ASGI, because it is on the path of the permission check. An access log line carries the route's template, never
the path that was asked for, and neither query, body nor header.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.metrics import Metrics
from api.http.operation import CALLER_STATE, answer_error
from api.settings import Settings

UNMATCHED: Final = "unmatched"
METHODS: Final = frozenset({"GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS"})

API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
HSTS: Final = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")
ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
DEFAULTS: Final = (
    (b"content-security-policy", API_POLICY.encode()),
    (b"cache-control", b"no-store"),
)

access_log = structlog.get_logger("lethe.access")


class Observing:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, settings: Settings) -> None:
        self._app = app
        self._metrics = metrics
        production = settings.environment == "production"
        self._log = logged_as_json if production else logged_by_structlog
        self._logs = settings.log_level in ("DEBUG", "INFO")
        self._always = [*ALWAYS, HSTS] if production else list(ALWAYS)
        self._usual = [*self._always, *DEFAULTS]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and say that it was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = self._headers(message.get("headers", ()))
            await send(message)

        self._metrics.begin()
        try:
            await self._app(scope, receive, observed)
        except Exception as error:  # noqa: BLE001  The last net: the server would log the text of the exception.
            response = answer_error(error, _route(scope))
            if status:
                raise ConnectionAbortedError("The answer broke off.") from None
            await response(scope, receive, observed)
        finally:
            self._say(scope, status, time.perf_counter() - began)

    def _headers(self, given: Any) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        names = {name for name, _ in headers}
        if b"content-security-policy" not in names and b"cache-control" not in names:
            return headers + self._usual
        return headers + self._always + [pair for pair in DEFAULTS if pair[0] not in names]

    def _say(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self._metrics.end(method, route, status, seconds)
        if self._logs:
            self._log(
                {
                    "method": method,
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 1),
                    "key_id": scope.get(CALLER_STATE),
                }
            )


Line = Mapping[str, str | int | float | None]


def logged_by_structlog(line: Line) -> None:
    """An access line for people to read, as all other lines are written."""
    access_log.info("request", **line)


def logged_as_json(line: Line) -> None:
    """An access line in production, in the form of `api/logs.py`, written directly.

    There is one for every request and nothing in it that could be personal, and the way through structlog takes
    longer than answering a permission check.
    """
    head = {"event": "request", "level": "info", "logger": "lethe.access", "timestamp": datetime.now(UTC)}
    sys.stderr.write(orjson.dumps({**line, **head}, option=orjson.OPT_UTC_Z).decode() + "\n")


def _route(scope: Scope) -> str:
    """The template of the route that answered."""
    return getattr(scope.get("route"), "path", UNMATCHED)
