"""The words of one person on consent, as they stand in the log: requested, given, refused, withdrawn.

Each act keeps its place: position and leaf, by which anybody can ask for its proof. The evidence is opened where the
reader may see it; where not, the act says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

from domain.facts import UnknownTopic
from domain.merkle import leaf_hash
from domain.permission import GRANT_STANDS_BUT_BLOCKED, Decision
from domain.personal import Erased, Personal, Unopened
from domain.subject import ConsentFact, ConsentGranted, ConsentRefused, ConsentRequested, ConsentWithdrawn
from ledger.application import Ledger
from ledger.errors import KeyMissing, TamperError, UnknownSubject
from ledger.mapper import LedgerEvent
from ledger.standing_row import StandingRow
from projections.history import EventUnreadable
from projections.log import every_version

TOPICS: Final = frozenset(
    every_version(fact.TOPIC for fact in (ConsentRequested, ConsentGranted, ConsentRefused, ConsentWithdrawn))
)
EXPORT_KINDS: Final = {"record": "consent.record", "receipt": "consent.receipt"}
"""What the log calls a document that was handed out."""

ACTS_MAX: Final = 5_000
"""Who needs it: one document about one person, held in memory; somebody who changes their mind daily for ten years."""


class NothingSaid(Exception):
    """A person said nothing on consent, or nothing on the purpose that is asked for."""


class TooManyActs(Exception):
    """A person said more than one document holds."""


@dataclass(frozen=True, slots=True)
class ConsentAct:
    """One act. `evidence` is a table of texts, `Erased`, `Unopened` where it was not opened, or None for none."""

    fact: ConsentFact
    position: int
    leaf: bytes
    evidence: Mapping[str, str] | Erased | Unopened | None

    @property
    def counts(self) -> bool:
        """Whether the act changed what the person has agreed to. A grant without effect did not."""
        fact = self.fact
        return not isinstance(fact, ConsentGranted) or fact.effective or fact.reason in GRANT_STANDS_BUT_BLOCKED


@dataclass(frozen=True, slots=True)
class Said:
    """What one person said on one purpose and channel, in the order of the log; never empty.

    `now` is what the rules of today make of it, with everything else that stands for or against.
    """

    purpose: str
    channel: str
    acts: tuple[ConsentAct, ...]
    now: Decision


@dataclass(slots=True)
class PersonsWords:
    """All that a living person said on consent, by purpose and channel. `opened` counts what was opened for it."""

    person: StandingRow
    said: list[Said] = field(default_factory=list)
    opened: int = 0

    @property
    def subject(self) -> UUID:
        """The person's pseudonymous id: random, made when they were added, and theirs alone."""
        return UUID(bytes=self.person.person.subject)


def words_of(ledger: Ledger, email: str, *, purpose: str | None = None, opened: bool) -> PersonsWords:
    """What the living person with this address said, on one purpose or on all.

    Raises `UnknownSubject`, also for somebody who was erased: nothing leads from the address to their events any more
    (I11); `NothingSaid`; `TooManyActs`; `EventUnreadable` where a key is missing or bytes were changed.
    """
    row = ledger.person(email)
    if row is None:
        raise UnknownSubject("No living contact of this account has this address.")
    words = PersonsWords(row)
    found: dict[tuple[str, str], list[ConsentAct]] = {}
    events = [event for event in ledger.log.select_streams([words.subject]) if event.topic in TOPICS]
    if len(events) > ACTS_MAX:
        raise TooManyActs(f"This person said more than {ACTS_MAX:,} things on consent; ask for their bundle instead.")
    for event in events:
        act = _act(ledger, event, opened=opened)
        if purpose in (None, act.fact.purpose):
            found.setdefault((act.fact.purpose, act.fact.channel), []).append(act)
            words.opened += isinstance(act.evidence, Mapping)
    if not found:
        raise NothingSaid("This person was asked nothing and said nothing on consent, as far as it was asked for.")
    decisions = ledger.check([(email, *key) for key in sorted(found)])
    for (key, acts), decision in zip(sorted(found.items()), decisions, strict=True):
        words.said.append(Said(*key, tuple(acts), decision))
    return words


def _act(ledger: Ledger, event: LedgerEvent, *, opened: bool) -> ConsentAct:
    assert event.position is not None
    try:
        fact = ledger.sealing.open(event, personal=opened)
    except (KeyMissing, TamperError, UnknownTopic) as error:
        raise EventUnreadable(event.position, error) from error
    consent = cast(ConsentFact, fact)
    return ConsentAct(consent, event.position, leaf_hash(event.state), _shown(consent.evidence))


def _shown(evidence: Any) -> Mapping[str, str] | Erased | Unopened | None:
    if isinstance(evidence, Personal):
        return cast(Mapping[str, str], evidence.reveal())
    return cast("Erased | Unopened | None", evidence)
