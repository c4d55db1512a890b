"""The checks of the transparency logs: they are published, they end as they were signed, their keys are there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import Connection

from api.cli.checks import TENANTS_LOOKED_AT_MAX, Check, Finding, Patient
from audit.log.sequencer import require_edge
from audit.log.status import log_lag
from ledger.errors import LedgerError
from ledger.signing import LOG

LOG_WARNED: Final = timedelta(seconds=60)

SELECT_LOGS: Final = "SELECT DISTINCT tenant_id FROM lethe.log_series ORDER BY tenant_id LIMIT %s"
SELECT_LIVING_KEYS: Final = """
SELECT tenant_id, generation, key_id FROM lethe.log_key WHERE retired_at IS NULL ORDER BY tenant_id, generation LIMIT %s
"""
SELECT_HELD_KEYS: Final = """
SELECT n.tenant_id, n.generation FROM unnest(%s::uuid[], %s::smallint[]) AS n(tenant_id, generation)
JOIN lethe_vault.wrapped_key k ON k.tenant_id = n.tenant_id AND k.holder = '' AND k.class = %s AND k.period = ''
    AND k.generation = n.generation
"""


def check_logs_published(patient: Patient) -> Iterator[Finding]:
    """What is recorded stands in a published log soon after."""
    for _, connection in patient.on("writer"):
        lag = log_lag(connection, datetime.now(UTC))
        waits = timedelta(seconds=lag.seconds)
        if not lag.events or waits <= LOG_WARNED:
            yield Finding("log: published", "ok", f"{lag.entries:,} events, {lag.events:,} of one account under way")
            continue
        minutes = lag.seconds / 60
        seen = f"an event waits for {minutes:,.0f} minutes to be published; the worst log lacks {lag.events:,} events"
        advice = "Is lethe worker running? It publishes, and says in its log why it does not: log not published."
        yield Finding("log: published", "warn", seen, advice)


def check_log_edges(patient: Patient) -> Iterator[Finding]:
    """The end of each log, and the last event in it, give the root that was signed last."""
    for _, connection in patient.on("writer"):
        wrong, looked_at = "", 0
        for (tenant,) in connection.execute(SELECT_LOGS.encode(), (TENANTS_LOOKED_AT_MAX,)).fetchall():
            looked_at += 1
            try:
                require_edge(connection, tenant)
            except LedgerError as error:
                wrong = wrong or str(error)
        if wrong:
            advice = (
                "Somebody changed tiles or events. Nothing more is signed. Run lethe fsck, which says what was "
                "changed, and keep the databases as they are. If only tiles were: lethe log mend-tiles --dry-run. "
                "Otherwise restore a backup of the real log."
            )
            yield Finding("log: edges", "fail", wrong, advice)
        else:
            yield Finding("log: edges", "ok", f"{looked_at:,} logs end as they were signed")


def check_log_keys(patient: Patient) -> Iterator[Finding]:
    """Every key that signs a log is in the vault."""
    for (_, writer), (_, vault) in zip(patient.on("writer"), patient.on("vault"), strict=False):
        rows = writer.execute(SELECT_LIVING_KEYS.encode(), (TENANTS_LOOKED_AT_MAX,)).fetchall()
        held = _held(vault, rows)
        lost = [key for tenant, generation, key in rows if (tenant, generation) not in held]
        if lost:
            advice = (
                "Restore a newer backup of the vault, or replace it: lethe log rotate, then lethe log retire KEYID."
            )
            yield Finding(
                "log: keys", "fail", f"key {lost[0]} of a log is not in the vault ({len(lost)} in all)", advice
            )
        else:
            yield Finding("log: keys", "ok", f"{len(rows):,} keys sign, all in the vault")


def _held(vault: Connection[Any], rows: list[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    columns = [row[0] for row in rows], [row[1] for row in rows]
    return set(vault.execute(SELECT_HELD_KEYS.encode(), (*columns, LOG)).fetchall())


LOG_CHECKS: Final[tuple[Check, ...]] = (check_logs_published, check_log_edges, check_log_keys)
