"""How a tenant's log stands: what is published, by which keys, and how far it is behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from audit.log.keys import living
from audit.log.store import LogKey, LogSeries, PublishedCheckpoint, all_series, latest_checkpoint, log_keys

SELECT_HEAD = "SELECT position FROM head WHERE tenant_id = %s"
SELECT_RECORDED_AT = "SELECT recorded_at FROM event WHERE tenant_id = %s AND position = %s"
SELECT_COSIGNED = """
SELECT size, count(*) FROM log_cosignature WHERE tenant_id = %s AND series = %s
GROUP BY size ORDER BY size DESC LIMIT 1
"""
# Over all tenants: only the probe and the figures of a process look across them. The first event that is not published
# says since when; a log without a series waits since its first event.
SELECT_WORST = """
SELECT coalesce(sum(s.size), 0), coalesce(sum(c.size), 0), coalesce(max(h.position - coalesce(s.size, 0)), 0),
    extract(epoch FROM %s - min(e.recorded_at))
FROM lethe.head h LEFT JOIN LATERAL (
    SELECT series, size FROM lethe.log_series WHERE tenant_id = h.tenant_id ORDER BY series DESC LIMIT 1
) AS s ON true
LEFT JOIN LATERAL (
    SELECT size FROM lethe.log_cosignature WHERE tenant_id = h.tenant_id AND series = s.series
    ORDER BY size DESC LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    SELECT position, recorded_at FROM lethe.event
    WHERE tenant_id = h.tenant_id AND position = coalesce(s.size, 0) + 1 AND h.position > coalesce(s.size, 0)
) AS e ON true
"""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """One tenant's log. `waiting_since` is when the first event was recorded that is not published yet."""

    tenant: UUID
    series: LogSeries | None
    checkpoint: PublishedCheckpoint | None
    keys: tuple[LogKey, ...]
    head: int
    cosigned_size: int
    cosigned_by: int
    waiting_since: datetime | None

    @property
    def lag_events(self) -> int:
        """How many events are not published yet."""
        return self.head - (self.series.size if self.series else 0)


@dataclass(frozen=True, slots=True)
class LogLag:
    """All logs of a database: how many entries are published and cosigned, and the worst lag of all."""

    entries: int
    cosigned: int
    events: int
    seconds: float


def log_status(connection: Connection[Any], tenant: UUID) -> LogStatus:
    """How one log stands."""
    every = all_series(connection, tenant)
    newest = every[-1] if every else None
    row = connection.execute(SELECT_HEAD, (tenant,)).fetchone()
    head, size = int(row[0]) if row else 0, newest.size if newest else 0
    cosigned = connection.execute(SELECT_COSIGNED, (tenant, newest.series)).fetchone() if newest else None
    cosigned_size, cosigned_by = cosigned or (0, 0)
    waiting = connection.execute(SELECT_RECORDED_AT, (tenant, size + 1)).fetchone() if head > size else None
    return LogStatus(
        tenant,
        newest,
        latest_checkpoint(connection, tenant),
        tuple(living(log_keys(connection, tenant), newest.series)) if newest else (),
        head,
        cosigned_size,
        cosigned_by,
        waiting[0] if waiting else None,
    )


def log_lag(connection: Connection[Any], now: datetime) -> LogLag:
    """How far the logs of all tenants are behind; `connection` has the writer's role."""
    row = connection.execute(SELECT_WORST, (now,)).fetchone()
    entries, cosigned, events, seconds = row or (0, 0, 0, None)
    return LogLag(int(entries), int(cosigned), int(events), max(0.0, float(seconds or 0)))
