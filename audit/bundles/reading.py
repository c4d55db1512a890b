"""Reading the log for bundles: by position and by stream, in short keyset transactions through the reader's views."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final
from uuid import UUID

from audit.bundles.model import require_room
from ledger.application import Ledger
from ledger.arrays import Uuid16Array
from ledger.mapper import LedgerEvent
from ledger.recorder import ledger_event

PAGE_EVENTS: Final = 1_000
"""Entries and sealed parts in memory at a time: about a megabyte."""

STREAMS_PER_QUESTION: Final = 5_000
WINDOW_POSITIONS: Final = 20_000
"""Positions that one transaction looks at where a filter matches rarely: about a tenth of a second."""

SELECT_END = "SELECT position FROM lethe_read.head WHERE tenant_id = %s"
SELECT_RECORDED_AT = "SELECT recorded_at FROM lethe_read.event WHERE tenant_id = %s AND position = %s"
SELECT_AT = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe_read.event
WHERE tenant_id = %s AND position = ANY(%s) ORDER BY position
"""
# The inner order makes the planner probe the index of streams; see ledger/recorder.py.
SELECT_PLACES = """
SELECT e.stream_id, e.version, e.position FROM unnest(%s) AS n(wanted), LATERAL (
    SELECT stream_id, version, position FROM lethe_read.event
    WHERE tenant_id = %s AND stream_id = n.wanted ORDER BY tenant_id, stream_id, version
) AS e WHERE e.position <= %s
"""
SELECT_NAMING = """
SELECT position FROM lethe_read.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND (stream_id = %s OR position(%s IN entry) > 0)
ORDER BY position
"""
SELECT_TOPICS = """
SELECT stream_id, version, position FROM lethe_read.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s) ORDER BY position
"""

Progress = Callable[[int, int], None]
"""Called with how many of how many are done."""


@dataclass(slots=True)
class Places:
    """Where events stand: positions in the order found, and the last version of each stream that was seen."""

    positions: list[int] = field(default_factory=list)
    last: dict[UUID, int] = field(default_factory=dict)

    def take(self, rows: Iterable[tuple[UUID, int, int]]) -> None:
        """Take in rows of stream, version and position."""
        for stream, version, position in rows:
            self.positions.append(position)
            self.last[stream] = max(version, self.last.get(stream, 0))

    def claimed(self) -> dict[str, int]:
        """The streams with their last versions, as `claims.json` writes them."""
        return {stream.hex: version for stream, version in sorted(self.last.items())}


def end_of(ledger: Ledger) -> int:
    """The last position of the log, 0 for an empty one."""
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        row = connection.execute(SELECT_END, (ledger.tenant,)).fetchone()
    return int(row[0]) if row else 0


def position_at(ledger: Ledger, moment: datetime, end: int) -> int:
    """The first position recorded at or after a moment; one past the end if there is none."""
    low, high = 1, end + 1
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        while low < high:
            middle = (low + high) // 2
            row = connection.execute(SELECT_RECORDED_AT, (ledger.tenant, middle)).fetchone()
            if row is not None and row[0] >= moment:
                high = middle
            else:
                low = middle + 1
    return low


def events_at(ledger: Ledger, positions: array[int] | Sequence[int]) -> Iterator[list[LedgerEvent]]:
    """The events at these positions, in pages, in order of the log."""
    for start in range(0, len(positions), PAGE_EVENTS):
        wanted = list(positions[start : start + PAGE_EVENTS])
        with ledger.services.reader.tenant(ledger.tenant) as connection:
            rows = connection.execute(SELECT_AT, (ledger.tenant, wanted), binary=True).fetchall()
        yield [ledger_event(row) for row in rows]


def places_of(ledger: Ledger, streams: Iterable[UUID], end: int) -> Places:
    """Where every event of these streams stands, up to the position `end`."""
    found, waiting = Places(), iter(streams)
    while chunk := list(islice(waiting, STREAMS_PER_QUESTION)):
        values = (Uuid16Array(stream.bytes for stream in chunk), ledger.tenant, end)
        with ledger.services.reader.tenant(ledger.tenant) as connection:
            found.take(connection.execute(SELECT_PLACES, values, binary=True))
    return found


def positions_naming(
    ledger: Ledger, stream: UUID | None, needle: bytes, after: int, end: int, progress: Progress | None = None
) -> array[int]:
    """Where events stand that are of a stream, if one is given, or whose entry holds these bytes, in a whole section.

    Raises `CannotBundle` as soon as there are more than a bundle holds.
    """
    found = array("Q")
    for low, high in _windows(after, end):
        with ledger.services.reader.tenant(ledger.tenant) as connection:
            rows = connection.execute(SELECT_NAMING, (ledger.tenant, low, high, stream, needle), binary=True)
            found.extend(row[0] for row in rows)
        require_room(len(found))
        if progress is not None:
            progress(high - after, end - after)
    return found


def places_of_topics(ledger: Ledger, topics: Sequence[str], after: int, end: int) -> Places:
    """Where events of these topics stand in a section of the log."""
    found = Places()
    for low, high in _windows(after, end):
        with ledger.services.reader.tenant(ledger.tenant) as connection:
            values = (ledger.tenant, low, high, list(topics))
            found.take(connection.execute(SELECT_TOPICS, values, binary=True))
    return found


def _windows(after: int, end: int) -> Iterator[tuple[int, int]]:
    for low in range(after, end, WINDOW_POSITIONS):
        yield low, min(low + WINDOW_POSITIONS, end)
