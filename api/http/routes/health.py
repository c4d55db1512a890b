"""Whether this server lives, whether it is ready, and its figures: for whoever runs it. No key, nothing personal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import psycopg
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response

from api.bootstrap import Instance
from api.http.metrics import CONTENT_TYPE, Metrics
from api.http.operation import json_answer
from audit.log.status import LogLag, log_lag
from ledger.errors import GateShut, Unavailable
from ledger.migrate import pending

READY_SECONDS_MAX: Final = 3.0
"""How long a readiness probe waits for a database; orchestrators give up after about as long."""

LAG_EVENTS_MAX: Final = 100_000
"""Events that the slowest projection may be behind before this server says that it is not ready."""

# The worst of all accounts, and how many have anything to catch up on. Only this probe looks across accounts.
SELECT_LAG = """
SELECT coalesce(max(h.position - t.position), 0) FROM lethe.head h
JOIN lethe.tracking t ON t.tenant_id = h.tenant_id AND t.live
"""

Endpoint = Callable[[Request], Awaitable[Response]]


def health_endpoints(instance: Instance, metrics: Metrics) -> dict[str, Endpoint]:
    """The endpoints by path."""
    limiter, figures_limiter = CapacityLimiter(2), CapacityLimiter(1)

    async def healthz(_: Request) -> Response:
        return json_answer({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            async with asyncio.timeout(READY_SECONDS_MAX):
                checks = await to_thread.run_sync(_checks, instance, limiter=limiter, abandon_on_cancel=True)
        except TimeoutError:
            checks = {"databases": {"ok": False, "detail": "no answer in time"}}
        ready = all(check["ok"] for check in checks.values())
        answer = json_answer({"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503)
        if not ready:
            answer.headers["Retry-After"] = "5"
        return answer

    async def figures(_: Request) -> Response:
        with contextlib.suppress(TimeoutError, Unavailable, psycopg.Error):  # The other figures are told all the same.
            async with asyncio.timeout(READY_SECONDS_MAX):
                limit: dict[str, Any] = {"limiter": figures_limiter, "abandon_on_cancel": True}
                metrics.log(await to_thread.run_sync(_lag_of_logs, instance, **limit))
        return Response(metrics.text(), media_type=None, headers={"content-type": CONTENT_TYPE})

    return {"/healthz": healthz, "/readyz": readyz, "/metrics": figures}


def _checks(instance: Instance) -> dict[str, dict[str, Any]]:
    return {
        "ledger_database": _check(lambda: _migrated(instance.services.writer, "ledger")),
        "vault_database": _check(lambda: _migrated(instance.vault_pool, "vault")),
        "projections": _check(lambda: _lag(instance)),
        "log": _check(lambda: _log_lag(instance)),
        "gate": _check(lambda: _gate(instance)),
    }


def _gate(instance: Instance) -> dict[str, Any]:
    try:
        instance.watch.require_open()
    except GateShut as shut:
        return {"ok": False, "detail": str(shut)}
    return {"ok": True}


def _check(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return look()
    except (Unavailable, psycopg.Error):
        return {"ok": False, "detail": "the database does not answer"}


def _migrated(pool: Any, database: str) -> dict[str, Any]:
    with pool.connection() as connection:
        missing = pending(connection, database)
    return {"ok": not missing} | ({"pending_migrations": missing} if missing else {})


def _log_lag(instance: Instance) -> dict[str, Any]:
    """Told, and no reason to turn requests away: one account's log that is not published must not stop the rest."""
    lag = _lag_of_logs(instance)
    return {"ok": True, "lag_events": lag.events, "lag_seconds": round(lag.seconds, 1)}


def _lag_of_logs(instance: Instance) -> LogLag:
    with instance.services.writer.connection() as connection:
        return log_lag(connection, instance.services.clock())


def _lag(instance: Instance) -> dict[str, Any]:
    with instance.services.writer.connection() as connection:
        row = connection.execute(SELECT_LAG).fetchone()
    lag = int(row[0]) if row else 0
    return {"ok": lag <= LAG_EVENTS_MAX, "lag_events": lag}
