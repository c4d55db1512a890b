"""Which events an export of the audit trail is about: positions, fixed when it begins, and topics.

`recorded_at` never runs backwards along the positions (I3), so times become positions by halving. The end is fixed
too: what is written while the export runs, its own records included, belongs to the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.application import Ledger
from ledger.mapper import LedgerEvent
from ledger.recorder import ledger_event
from projections.history import matching_topics
from projections.log import end_of_log, first_position_at, windows

WINDOW_POSITIONS: Final = 2_000
"""Positions that one transaction reads: a few megabytes in memory, and a snapshot that is soon let go."""

OPENED_POSITIONS: Final = 200
"""The same where sealed parts are read as well, each of which may be a hundred times as large as its entry."""

# Without sealed parts: who opens none has no use for them.
SELECT_CLOSED = """
SELECT stream_id, version, topic, entry, NULL::bytea, position, recorded_at FROM lethe_read.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND (%s::text[] IS NULL OR topic = ANY(%s)) ORDER BY position
"""


class SectionRefused(ValueError):
    """No section of the log can be meant by this. The text says what can be asked for."""


@dataclass(frozen=True, slots=True)
class Section:
    """The positions after `after`, up to and with `last`. `topics` is None for all; `kinds` are the words asked for."""

    after: int
    last: int
    kinds: tuple[str, ...] = ()
    topics: tuple[str, ...] | None = None

    def words(self) -> str:
        """What was asked for: positions and kinds, nothing that says who."""
        kinds = f" of {', '.join(self.kinds)}" if self.kinds else ""
        return f"positions {self.after + 1} to {self.last}{kinds}"


def section_of(
    ledger: Ledger,
    *,
    kinds: Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    after: int = 0,
) -> Section:
    """The section recorded from `since` (inclusive) to `until` (exclusive), after a position.

    Raises `UnknownKind`; and `SectionRefused` for what would come out empty by mistake, and for a position that the log
    has not reached: whoever went on from there would never be shown the events that are still to stand before it.
    """
    if since is not None and until is not None and since >= until:
        raise SectionRefused("The end of the time asked for does not come after its beginning. Exchange the two.")
    topics = tuple(matching_topics(kinds)) if kinds else None
    with ledger.services.writer.transaction() as connection:
        first, last = after, end_of_log(connection, ledger.tenant)
        if after > last:
            raise SectionRefused(f"The log ends at position {last:,}. Go on after that one, or after an earlier one.")
        if since is not None:
            first = max(first, first_position_at(connection, ledger.tenant, since) - 1)
        if until is not None:
            last = min(last, first_position_at(connection, ledger.tenant, until) - 1)
    return Section(first, max(first, last), tuple(kinds), topics)


def positions_at_once(*, opened: bool) -> int:
    """How many positions a window of an export has."""
    return OPENED_POSITIONS if opened else WINDOW_POSITIONS


def read(ledger: Ledger, section: Section, *, opened: bool) -> Iterator[list[LedgerEvent]]:
    """The events of a section, window by window, each read in a short transaction of its own; with their sealed parts
    only where these are to be opened."""
    for after, last in windows(section.after, section.last, positions_at_once(opened=opened)):
        if opened:
            yield ledger.log.select_log(after, last - after, last, section.topics or (), inclusive_of_start=False)
        else:
            yield _closed(ledger, section, after, last)


def _closed(ledger: Ledger, section: Section, after: int, last: int) -> list[LedgerEvent]:
    topics = None if section.topics is None else list(section.topics)
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        rows = connection.execute(SELECT_CLOSED, (ledger.tenant, after, last, topics, topics), binary=True).fetchall()
    return [ledger_event(row) for row in rows]
