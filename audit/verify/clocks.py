"""The times of events: they are those of the house's clock, and are held against the clocks of others.

Whoever cosigned or stamped a checkpoint saw a log that holds every event before its size. So none of these events can
have been recorded later, whatever its entry says. An event dated earlier than it was written is not seen by that: only
that it existed by then is shown. Clocks differ a little, so a few minutes are no contradiction; and a clock that was
wrong once is no forgery either, so it is told and not refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from audit.verify.entries import Entry

CLOCKS_APART_SECONDS_MAX: Final = 300
"""Who needs it: two honest machines, of which one is not told the time by the network."""

TIMES_NOT_PROVEN: Final = (
    "When events were recorded: these are times of the house's own clock, and an event can be dated back. By when "
    "others saw the log is said above, where a checkpoint was cosigned or timestamped."
)


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody saw the log of this size, by their own clock."""

    size: int
    at: datetime
    by: str


@dataclass(slots=True)
class Clocks:
    """The clocks of others, which see every event in order and are settled at the end."""

    seen: Sequence[Seen]
    _last: dict[int, Entry] = field(default_factory=dict)
    """The last event here under a checkpoint of each size. Times of entries never run backwards."""

    _events: int = 0

    def take(self, entry: Entry) -> None:
        """Look at one more event."""
        self._events += 1
        for one in self.seen:
            if entry.position <= one.size:
                self._last[one.size] = entry

    def settle(self) -> tuple[list[str], list[str]]:
        """What is proven and what is not, in sentences."""
        told, apart = [], timedelta(seconds=CLOCKS_APART_SECONDS_MAX)
        for one in self.seen:
            entry = self._last.get(one.size)
            if entry is not None and datetime.fromisoformat(entry.said["recorded_at"]) - one.at > apart:
                told.append(
                    f"ATTENTION: event {entry.position} says that it was recorded at {entry.said['recorded_at']}, and "
                    f"{one.by} saw a log that holds it at {one.at.isoformat()} already."
                )
        return told, [TIMES_NOT_PROVEN] * (self._events > 0)
