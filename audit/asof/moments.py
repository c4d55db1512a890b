"""A moment of the past, and the two meanings that a question about it can have (DESIGN section 3).

`recorded` asks what was known: events that had been recorded by then, in the order of the log. That is what a decision
of that day rested on. `occurred` asks what was true, by all that is known today: events that had happened by then,
whenever they were recorded, in the order in which they happened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from domain.facts import Fact

Meaning = Literal["recorded", "occurred"]
MEANINGS: Final[tuple[Meaning, ...]] = ("recorded", "occurred")

AHEAD_MAX: Final = timedelta(days=1)
"""Who needs it: who asks for today, the end of which is still to come, and clocks that do not agree."""

_DAY_CHARACTERS: Final = len("2026-11-21")

# Python reads more forms than these, and in some of them (20261121) a day would be its first instant.
_is_written_so = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?", re.ASCII).fullmatch


class MomentRefused(ValueError):
    """A date or time cannot be read, or nobody knows of it yet."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The last instant that counts, in UTC, and what the question means by it."""

    at: datetime
    meaning: Meaning = "recorded"

    def known_by(self, now: datetime) -> Moment:
        """This moment, or now where it is still to come. Raises `MomentRefused` for a day that has not begun."""
        if self.at > now + AHEAD_MAX:
            raise MomentRefused(
                f"{self.at:%Y-%m-%d} is still to come, and nobody knows it yet. Ask for a day until today."
            )
        return replace(self, at=min(self.at, now))

    def covers(self, fact: Fact) -> bool:
        """Whether a recorded fact counts."""
        when = fact.occurred_at if self.meaning == "occurred" else fact.recorded_at
        return when is not None and when <= self.at

    def told(self, facts: Iterable[Fact]) -> list[Fact]:
        """The facts that count, in the order in which they are to be folded."""
        counting = [fact for fact in facts if self.covers(fact)]
        if self.meaning == "occurred":
            counting.sort(key=lambda fact: (fact.occurred_at, fact.position or 0))
        return counting


def parse_moment(text: str, meaning: Meaning = "recorded") -> Moment:
    """A moment from ISO 8601: a day means its end in UTC, a time without a zone is UTC. Raises `MomentRefused`."""
    odd = MomentRefused("Write a day as 2026-11-21, or a time as 2026-11-21T20:15:00Z.")
    if not _is_written_so(text):
        raise odd
    try:
        if len(text) == _DAY_CHARACTERS:
            day = date.fromisoformat(text)
            end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, microseconds=-1)
            return Moment(end, meaning)
        when = datetime.fromisoformat(text)
        return Moment(when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC), meaning)
    except (ValueError, OverflowError):
        raise odd from None
