"""Legal holds: what must not be destroyed while a matter is open (Mailkai 8, Mailenium 5.4).

A hold speaks of persons, campaigns, periods of a class, or the whole account; it has a matter, a reason, an owner and
a day on which somebody must look at it again. Words about a matter name people as often as not, and a hold on a
person must not name its subject in the clear, so both are sealed under a key of the hold's own. That key is destroyed
once the hold was released and all that had waited for it was taken up: what is left says that there was a hold, from
when to when, and leads to nobody (invariant I11).

`decide_*` are pure and give the facts that a command leads to; `evolve` folds them into a `Hold`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import ClassVar, Literal, NamedTuple
from uuid import UUID

from domain.facts import Fact, SealedBy, opened
from domain.personal import RETENTION_CLASSES, HoldReference, Personal

HoldKind = Literal["person", "campaign", "account", "period"]

BY_HOLD_FOR_EVER = SealedBy("subject", "ever")
"""The holder is the hold itself: a random kid that no person has."""

WORDS_CHARACTERS_MAX = 2_000
"""Who needs it: a matter is named and a reason given, not pleaded."""

TARGETS_MAX = 10_000
"""Who needs it: the sealed part of one event, which is read whole."""

HELD_CLASSES: frozenset[str] = RETENTION_CLASSES - {"suppression", "feed", "hold"} | {"link"}
"""Classes whose periods can be held. The others are the program's own, and their days end by themselves."""

_PERIOD = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?", re.ASCII)
_REFERENCE_BYTES = 48

Words = Personal[str, HoldReference]
Persons = Personal[tuple[str, ...], HoldReference]
Lates = Personal[tuple[str, ...], HoldReference]


class HoldRefused(Exception):
    """A command that does not fit a hold as it stands. `reason` is a stable code; the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class HoldFact(Fact):
    """Something that became of a hold."""

    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {HoldReference.name: BY_HOLD_FOR_EVER}


class HoldPlaced(HoldFact):
    """Nothing that this hold speaks of is destroyed from here on. `periods` are written as "class period".

    `too_late` is what was being destroyed already: the hold stands for everything else.
    """

    TOPIC: ClassVar[str] = "hold.placed.v1"
    target: HoldKind
    review_on: str
    campaigns: tuple[str, ...] = ()
    periods: tuple[str, ...] = ()
    matter: Words
    reason: Words
    owner: Words
    persons: Persons | None = None
    too_late: Lates | None = None


class HoldWidened(HoldFact):
    """The hold speaks of more, or is looked at again on a later day; what it held it goes on holding."""

    TOPIC: ClassVar[str] = "hold.widened.v1"
    target: HoldKind | None = None
    review_on: str
    campaigns: tuple[str, ...] = ()
    periods: tuple[str, ...] = ()
    reason: Words | None = None
    persons: Persons | None = None
    too_late: Lates | None = None


class HoldReleased(HoldFact):
    """The matter is resolved. What was due meanwhile is taken up, unless another hold speaks of it."""

    TOPIC: ClassVar[str] = "hold.released.v1"
    reason: Words | None = None


class HoldClosed(HoldFact):
    """All that had waited for this hold was taken up, and the hold's own key is gone.

    `erasures` counts the postponed erasures that were taken up, `escrowed` the keys that were kept for held persons
    only and are destroyed.
    """

    TOPIC: ClassVar[str] = "hold.closed.v1"
    erasures: int
    escrowed: int


class PersonReference(NamedTuple):
    """A person, as a hold knows them: their stream, and the two kids that their keys are held under."""

    subject: bytes
    kid: bytes
    records_kid: bytes

    def text(self) -> str:
        """The sealed form."""
        return (self.subject + self.kid + self.records_kid).hex()

    @staticmethod
    def parse(text: str) -> PersonReference:
        """The reference of a sealed form."""
        raw = bytes.fromhex(text)
        assert len(raw) == _REFERENCE_BYTES
        return PersonReference(raw[:16], raw[16:32], raw[32:])


class Period(NamedTuple):
    """A month or day of a class."""

    retention_class: str
    period: str

    def text(self) -> str:
        """As events and commands write it: `engagement 2026-11`."""
        return f"{self.retention_class} {self.period}"

    @staticmethod
    def parse(text: str) -> Period:
        """The period of a text such as `engagement 2026-11`. Raises `HoldRefused`."""
        retention_class, _, period = text.partition(" ")
        if retention_class not in HELD_CLASSES:
            raise HoldRefused("unknown_class", f"A class is one of {', '.join(sorted(HELD_CLASSES))}.")
        try:
            found = _PERIOD.fullmatch(period) is not None
            if len(period) == len("2026-11-21"):
                date.fromisoformat(period)
        except ValueError:
            found = False
        if not found:
            raise HoldRefused("unknown_period", "A period is a month such as 2026-11, or a day such as 2026-11-21.")
        return Period(retention_class, period)


class TooLate(NamedTuple):
    """A part of what is to be held that a plan is destroying already, and under which certificate.

    `period` is '' where a plan destroys persons' own keys of the class, or all of it.
    """

    retention_class: str
    period: str
    certificate: str

    def text(self) -> str:
        """The sealed form."""
        return f"{self.retention_class}|{self.period}|{self.certificate}"

    @staticmethod
    def parse(text: str) -> TooLate:
        """What a sealed form says."""
        return TooLate(*text.split("|", 2))


@dataclass(frozen=True, slots=True)
class HoldTargets:
    """What a hold speaks of, of one kind. Account holds speak of everything and name nothing."""

    kind: HoldKind
    persons: tuple[PersonReference, ...] = ()
    campaigns: tuple[UUID, ...] = ()
    periods: tuple[Period, ...] = ()

    def require_fitting(self) -> None:
        """Raise `HoldRefused` unless there are targets of the kind named, and no others."""
        given = {"person": self.persons, "campaign": self.campaigns, "period": self.periods}
        if any(targets for kind, targets in given.items() if kind != self.kind):
            raise HoldRefused("other_targets", f"A hold on a {self.kind} takes no other targets. Widen it afterwards.")
        if self.kind != "account" and not given[self.kind]:
            raise HoldRefused("no_target", f"Say which {self.kind} is to be held.")
        if len(given.get(self.kind, ())) > TARGETS_MAX:
            raise HoldRefused("too_many_targets", f"At most {TARGETS_MAX:,} targets at once; widen the hold by more.")


@dataclass(frozen=True, slots=True)
class PlaceHold:
    """Hold these targets for a matter. `review_on` is the day on which the owner must look at it again."""

    targets: HoldTargets
    matter: str
    reason: str
    owner: str
    review_on: date
    too_late: tuple[TooLate, ...] = ()


@dataclass(frozen=True, slots=True)
class WidenHold:
    """Hold more, look at it again later, or both."""

    targets: HoldTargets | None = None
    review_on: date | None = None
    reason: str | None = None
    too_late: tuple[TooLate, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """The state of a hold: the union of all that it was placed on and widened by.

    `persons` is empty once the hold's key is gone.
    """

    review_on: date
    placed_at: datetime
    account: bool = False
    persons: frozenset[PersonReference] = frozenset()
    campaigns: frozenset[UUID] = frozenset()
    periods: frozenset[Period] = frozenset()
    released_at: datetime | None = None
    closed_at: datetime | None = None
    version: int = 1

    @property
    def state(self) -> str:
        """active, released (what waited is being taken up) or closed."""
        if self.closed_at is not None:
            return "closed"
        return "active" if self.released_at is None else "released"


def decide_place(command: PlaceHold, today: date) -> list[Fact]:
    """The facts of a new hold. Raises `HoldRefused`."""
    command.targets.require_fitting()
    _require_later(command.review_on, today)
    return [
        HoldPlaced(
            target=command.targets.kind,
            review_on=command.review_on.isoformat(),
            campaigns=_campaigns(command.targets.campaigns),
            periods=_periods(command.targets.periods),
            matter=_words("matter", command.matter),
            reason=_words("reason", command.reason),
            owner=_words("owner", command.owner),
            persons=_persons(command.targets.persons),
            too_late=_lates(command.too_late),
        )
    ]


def decide_widen(hold: Hold, command: WidenHold, today: date) -> list[Fact]:
    """The facts of a wider or longer hold; none where it is no wider and no longer. Raises `HoldRefused`."""
    if hold.released_at is not None:
        raise HoldRefused("hold_released", "This hold was released. Place a new one.")
    review_on = hold.review_on
    if command.review_on is not None:
        _require_later(command.review_on, today)
        review_on = command.review_on
    targets = command.targets
    if targets is not None:
        targets.require_fitting()
        targets = _beyond(hold, targets)
    if targets is None and review_on == hold.review_on:
        return []
    return [
        HoldWidened(
            target=targets.kind if targets else None,
            review_on=review_on.isoformat(),
            campaigns=_campaigns(targets.campaigns) if targets else (),
            periods=_periods(targets.periods) if targets else (),
            reason=_words("reason", command.reason) if command.reason is not None else None,
            persons=_persons(targets.persons) if targets else None,
            too_late=_lates(command.too_late) if targets else None,
        )
    ]


def decide_release(hold: Hold, reason: str | None = None) -> list[Fact]:
    """The facts of a release; none where it was released before. Raises `HoldRefused`."""
    if hold.released_at is not None:
        return []
    return [HoldReleased(reason=_words("reason", reason) if reason is not None else None)]


def decide_close(hold: Hold, *, erasures: int, escrowed: int) -> list[Fact]:
    """The fact that ends a hold whose key is gone; none where it was closed before. Raises `HoldRefused`."""
    if hold.closed_at is not None:
        return []
    if hold.released_at is None:
        raise HoldRefused("hold_active", "A hold is closed only after it was released.")
    return [HoldClosed(erasures=erasures, escrowed=escrowed)]


def evolve(hold: Hold | None, fact: Fact) -> Hold | None:
    """The hold after one more fact of its stream."""
    if isinstance(fact, HoldPlaced):
        hold = Hold(date.fromisoformat(fact.review_on), fact.occurred_at)
    if hold is None:
        return None
    hold = replace(hold, version=fact.originator_version)
    if isinstance(fact, HoldPlaced | HoldWidened):
        return _widened(hold, fact)
    if isinstance(fact, HoldReleased):
        return replace(hold, released_at=fact.occurred_at)
    if isinstance(fact, HoldClosed):
        return replace(hold, closed_at=fact.occurred_at)
    return hold


def fold(facts: Iterable[Fact]) -> Hold | None:
    """The hold after a run of facts."""
    hold: Hold | None = None
    for fact in facts:
        hold = evolve(hold, fact)
    return hold


def _widened(hold: Hold, fact: HoldPlaced | HoldWidened) -> Hold:
    persons = frozenset(PersonReference.parse(text) for text in opened(fact.persons) or ())
    return replace(
        hold,
        review_on=date.fromisoformat(fact.review_on),
        account=hold.account or fact.target == "account",
        persons=hold.persons | persons,
        campaigns=hold.campaigns | {UUID(hex=campaign) for campaign in fact.campaigns},
        periods=hold.periods | {Period.parse(text) for text in fact.periods},
    )


def _beyond(hold: Hold, targets: HoldTargets) -> HoldTargets | None:
    """What of these targets the hold does not speak of yet; None if nothing."""
    left = HoldTargets(
        targets.kind,
        tuple(p for p in dict.fromkeys(targets.persons) if p not in hold.persons),
        tuple(c for c in dict.fromkeys(targets.campaigns) if c not in hold.campaigns),
        tuple(p for p in dict.fromkeys(targets.periods) if p not in hold.periods),
    )
    if targets.kind == "account":
        return None if hold.account else left
    return left if left.persons or left.campaigns or left.periods else None


def _require_later(review_on: date, today: date) -> None:
    if review_on <= today:
        raise HoldRefused("review_in_the_past", "The review date must lie ahead: a hold is looked at again by then.")


def _words(what: str, text: str) -> Words:
    text = text.strip()
    if not text:
        raise HoldRefused(f"no_{what}", f"A hold has a {what}. Say it in a few words.")
    if len(text) > WORDS_CHARACTERS_MAX:
        raise HoldRefused("too_long", f"The {what} of a hold has at most {WORDS_CHARACTERS_MAX:,} characters.")
    return Personal(text)


def _persons(persons: Iterable[PersonReference]) -> Persons | None:
    """In order of their bytes, so that the order in which they were named is not kept."""
    texts = sorted({person.text() for person in persons})
    return Personal(tuple(texts)) if texts else None


def _lates(found: Iterable[TooLate]) -> Lates | None:
    texts = tuple(sorted(late.text() for late in found))
    return Personal(texts) if texts else None


def _campaigns(campaigns: Iterable[UUID]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(campaign.hex for campaign in campaigns))


def _periods(periods: Iterable[Period]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(period.text() for period in periods))
