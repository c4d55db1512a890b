"""What is asked for, and what was collected: the events of a bundle by position, and what the bundle says of them.

Positions are held as plain integers, eight bytes each, so that a bundle of a million events is collected in a few
megabytes; entries are read again, page by page, when the file is written.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from ledger.errors import LedgerError
from ledger.mapper import Holder
from ledger.standing_row import StandingRow

Kind = Literal["person", "campaign", "request", "destruction", "period", "send"]
KINDS: Final[tuple[Kind, ...]] = ("person", "campaign", "request", "destruction", "period", "send")

EXPORT_KINDS: Final[Mapping[Kind, str]] = {kind: f"bundle.{kind}" for kind in KINDS}
"""How the log names what left the house."""

VIEWED: Final[Mapping[Kind, str]] = {kind: f"bundle {kind}" for kind in KINDS}
"""What is said to have been looked at where sealed parts were opened for a bundle."""

BUNDLE_ENTRIES_MAX: Final = 1_000_000
"""Who needs it: whoever checks a bundle on a laptop; a longer period is asked for in parts."""

STREAMS_CLAIMED_MAX: Final = 10_000
"""Streams whose versions `claims.json` lists one by one: a person's messages and records for many years."""


class CannotBundle(LedgerError):
    """A bundle cannot be made of what was asked for. `reason` is a stable code; the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BundleErased(CannotBundle):
    """What was asked for was erased, or its time is over: nothing leads there any more, and that is on purpose."""

    def __init__(self, text: str) -> None:
        super().__init__("erased", text)


class NothingToBundle(CannotBundle):
    """Nothing of this account answers what was asked for."""

    def __init__(self, text: str) -> None:
        super().__init__("nothing_found", text)


class PeriodBackwards(CannotBundle):
    """A period that ends before it begins: somebody exchanged the two."""

    def __init__(self) -> None:
        super().__init__("ends_before_it_begins", "The period ends before it begins. Exchange the two.")


class LogBehind(LedgerError):
    """The log has not published what a bundle is about, so that nothing could be proven yet."""


def positions_of(found: Iterable[int]) -> array[int]:
    """Positions in order, each once. Raises `CannotBundle` for more than a bundle holds."""
    ordered, before = array("Q"), 0
    for position in sorted(found):
        if position != before:
            ordered.append(position)
            before = position
    require_room(len(ordered))
    return ordered


def require_room(count: int) -> None:
    """Raise `CannotBundle` for more events than a bundle holds."""
    if count > BUNDLE_ENTRIES_MAX:
        raise CannotBundle(
            "too_many_events",
            f"A bundle holds at most {BUNDLE_ENTRIES_MAX:,} events, and this would be {count:,} or more. Ask for less: "
            "a shorter period, for example.",
        )


@dataclass(slots=True)
class Collected:
    """Everything that a bundle is made of, but for the entries themselves.

    `asked` holds ids only and stands in the manifest; `title` and `words` are for the summary. `holders` says whose
    messages and records these are, as far as it is known. `person` is whom all of it is about, where it is one.
    `around` are positions next to which published checkpoints matter; `marks` says what some are to the question.
    """

    kind: Kind
    asked: Mapping[str, Any]
    positions: array[int]
    claims: Mapping[str, Any]
    title: str
    words: tuple[str, ...] = ()
    holders: Mapping[UUID, Holder] = field(default_factory=dict)
    person: StandingRow | None = None
    around: tuple[int, ...] = ()
    marks: Mapping[int, str] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None
