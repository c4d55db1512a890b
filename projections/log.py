"""Reading a tenant's log for projections: by windows of positions, by topic, by day.

Positions run without gaps and `recorded_at` never runs backwards along them (I3), so a day is a section of the log
and is found by halving. Every read is bounded by positions: a window costs the same wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.mapper import LedgerEvent
from ledger.recorder import ledger_event

WINDOW_EVENTS = 10_000
"""Positions per transaction of a projection: enough to spread its round trips, and little to hold in memory."""

SELECT_END = "SELECT position FROM lethe.head WHERE tenant_id = %s"
SELECT_RECORDED_AT = "SELECT recorded_at FROM lethe.event WHERE tenant_id = %s AND position = %s"
SELECT_EVENTS = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s) ORDER BY position
"""


def end_of_log(connection: Connection[Any], tenant: UUID) -> int:
    """The last position of a tenant's log, 0 if it is empty or unknown."""
    row = connection.execute(SELECT_END, (tenant,)).fetchone()
    return int(row[0]) if row else 0


def first_position_at(connection: Connection[Any], tenant: UUID, moment: datetime) -> int:
    """The first position recorded at or after a moment; one past the end if there is none."""
    low, high = 1, end_of_log(connection, tenant) + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(SELECT_RECORDED_AT, (tenant, middle)).fetchone()
        if row is not None and row[0] >= moment:
            high = middle
        else:
            low = middle + 1
    return low


def read_events(
    connection: Connection[Any], tenant: UUID, topics: Iterable[str], after: int, last: int
) -> list[LedgerEvent]:
    """The events of these topics at positions after `after` and up to `last`, in order of the log."""
    values = (tenant, after, last, every_version(topics))
    return [ledger_event(row) for row in connection.execute(SELECT_EVENTS, values, binary=True)]


def windows(after: int, last: int, size: int = WINDOW_EVENTS) -> Iterator[tuple[int, int]]:
    """The section (after, last] of a log in pieces of at most `size` positions, each as (after, last)."""
    while after < last:
        end = min(after + size, last)
        yield after, end
        after = end


def every_version(topics: Iterable[str]) -> list[str]:
    """Topics with the older versions of each, which stay in the log for ever: `x.v2` gives `x.v1` and `x.v2`."""
    return [f"{name}.v{number}" for name, newest in _split(topics) for number in range(1, newest + 1)]


def _split(topics: Iterable[str]) -> Iterator[tuple[str, int]]:
    for topic in topics:
        name, _, number = topic.rpartition(".v")
        yield name, int(number)


Rows = Sequence[tuple[Any, ...]]
