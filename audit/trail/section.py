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
from projections.history import matching_topics
from projections.log import end_of_log, first_position_at, windows

WINDOW_POSITIONS: Final = 2_000
"""Positions that one transaction reads: a few megabytes in memory, and a snapshot that is soon let go."""


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
    """The section recorded from `since` (inclusive) to `until` (exclusive), after a position. Raises `UnknownKind`."""
    topics = tuple(matching_topics(kinds)) if kinds else None
    with ledger.services.writer.transaction() as connection:
        first, last = after, end_of_log(connection, ledger.tenant)
        if since is not None:
            first = max(first, first_position_at(connection, ledger.tenant, since) - 1)
        if until is not None:
            last = min(last, first_position_at(connection, ledger.tenant, until) - 1)
    return Section(first, max(first, last), tuple(kinds), topics)


def read(ledger: Ledger, section: Section) -> Iterator[list[LedgerEvent]]:
    """The events of a section, window by window, each read in a short transaction of its own."""
    for after, last in windows(section.after, section.last, WINDOW_POSITIONS):
        yield ledger.log.select_log(after, last - after, last, section.topics or (), inclusive_of_start=False)
