"""Registers: what an account states about its processing (GDPR Art. 30): activities, recipients, safeguards, parties.

Each entry has a key of the account's own and is declared, amended and retired; an amendment states the whole entry
anew, so that an entry as of any day is the last statement before it. All entries of an account stand in one stream.

Codes stand in the clear: categories, countries, clocks, keys. Words are sealed as the account's content: a purpose is
free text, a recipient may be a person in business, and a data protection officer has a name. What the words say is
never needed to compare what was declared with what the ledger observed; the codes are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar, Final, Literal

from pydantic import Field

from domain.facts import BY_TENANT_AND_MONTH, Fact, SealedBy
from domain.personal import Content, Personal

Kind = Literal["activity", "recipient", "safeguard", "party"]
KINDS: Final[tuple[Kind, ...]] = ("party", "safeguard", "recipient", "activity")
"""In the order in which they can be declared: an activity names recipients, a recipient names safeguards."""

Ending = Literal["ended", "replaced", "mistake"]
ENDINGS: Final[dict[Ending, str]] = {
    "ended": "it is not done any more",
    "replaced": "another entry took its place",
    "mistake": "it should not have been declared",
}


class RegisterFact(Fact):
    """An entry of a register was stated. `source` says which policy pack the words came from (`mailkai 1`)."""

    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Content.name: BY_TENANT_AND_MONTH}
    key: str
    source: str | None = None
    name: Personal[str, Content]
    note: Personal[str, Content] | None = None


class ActivityStated(RegisterFact):
    """What a processing activity is. `limits` and `clauses` are by category of data.

    `measures` are codes; `measures_said` are measures in words, and `other_categories` data that the ledger does not
    know of.
    """

    role: str
    lawful_bases: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    limits: dict[str, str] = Field(default_factory=dict)
    clauses: dict[str, str] = Field(default_factory=dict)
    measures: tuple[str, ...] = ()
    purposes: Personal[tuple[str, ...], Content]
    measures_said: Personal[tuple[str, ...], Content] | None = None
    other_categories: Personal[tuple[str, ...], Content] | None = None


class ActivityDeclared(ActivityStated):
    """A processing activity entered the record."""

    TOPIC: ClassVar[str] = "register.activity_declared.v1"


class ActivityAmended(ActivityStated):
    """A processing activity is described anew."""

    TOPIC: ClassVar[str] = "register.activity_amended.v1"


class RecipientStated(RegisterFact):
    """Who data is disclosed to. `seen_as` are the codes under which the ledger observes them, `provider:*` for many.

    `safeguards` are the keys of what covers a transfer to the countries; `agreement_sha256` is of the contract that
    binds a processor (GDPR Art. 28).
    """

    recipient_kind: str
    countries: tuple[str, ...] = ()
    safeguards: tuple[str, ...] = ()
    agreement_sha256: str | None = None
    seen_as: tuple[str, ...] = ()
    category: Personal[str, Content] | None = None
    contact: Personal[str, Content] | None = None


class RecipientDeclared(RecipientStated):
    """A recipient entered the register."""

    TOPIC: ClassVar[str] = "register.recipient_declared.v1"


class RecipientAmended(RecipientStated):
    """A recipient is described anew."""

    TOPIC: ClassVar[str] = "register.recipient_amended.v1"


class SafeguardStated(RegisterFact):
    """What makes a transfer lawful (GDPR Art. 46, 49). The digest is the SHA-256 of its document (hex)."""

    mechanism: str
    countries: tuple[str, ...] = ()
    document_sha256: str | None = None
    where: Personal[str, Content] | None = None


class SafeguardDeclared(SafeguardStated):
    """A safeguard entered the register."""

    TOPIC: ClassVar[str] = "register.safeguard_declared.v1"


class SafeguardAmended(SafeguardStated):
    """A safeguard is described anew."""

    TOPIC: ClassVar[str] = "register.safeguard_amended.v1"


class PartyStated(RegisterFact):
    """Who is answerable, and how to reach them. `person` is a natural person's name, where there is one."""

    role: str
    country: str | None = None
    person: Personal[str, Content] | None = None
    address: Personal[str, Content] | None = None
    email: Personal[str, Content] | None = None
    phone: Personal[str, Content] | None = None
    website: Personal[str, Content] | None = None


class PartyDeclared(PartyStated):
    """A party entered the register."""

    TOPIC: ClassVar[str] = "register.party_declared.v1"


class PartyAmended(PartyStated):
    """A party is described anew."""

    TOPIC: ClassVar[str] = "register.party_amended.v1"


class EntryRetired(Fact):
    """An entry of a register is in force no longer; what was stated of it stays in the log."""

    TOPIC: ClassVar[str] = "register.entry_retired.v1"
    kind: str
    key: str
    reason: str


DECLARED: Final[Mapping[Kind, type[RegisterFact]]] = {
    "activity": ActivityDeclared,
    "recipient": RecipientDeclared,
    "safeguard": SafeguardDeclared,
    "party": PartyDeclared,
}
AMENDED: Final[Mapping[Kind, type[RegisterFact]]] = {
    "activity": ActivityAmended,
    "recipient": RecipientAmended,
    "safeguard": SafeguardAmended,
    "party": PartyAmended,
}
KIND_OF: Final[Mapping[type[Fact], Kind]] = {
    fact_class: kind for of_kind in (DECLARED, AMENDED) for kind, fact_class in of_kind.items()
}


class RegisterRefused(Exception):
    """A statement that is not taken. `reason` is a stable code; the text says what to do and repeats no words."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it stands: its last statement, and when it was declared, changed and, maybe, retired."""

    kind: Kind
    stated: RegisterFact
    declared_at: datetime
    changed_at: datetime
    retired_at: datetime | None = None
    ending: str | None = None
    by_hand: bool = False
    """Whether its last words are somebody's own, and not those of a policy pack."""

    @property
    def key(self) -> str:
        """The key of the account's own."""
        return self.stated.key

    @property
    def in_force(self) -> bool:
        """Whether it was not retired."""
        return self.retired_at is None


@dataclass(frozen=True, slots=True)
class Register:
    """Every entry of an account, by kind and key, and the version of their stream."""

    entries: Mapping[tuple[Kind, str], Entry] = field(default_factory=dict)
    version: int = 0

    def entry(self, kind: Kind, key: str) -> Entry | None:
        """One entry, in force or retired."""
        return self.entries.get((kind, key))

    def of_kind(self, kind: Kind) -> tuple[Entry, ...]:
        """Every entry of a kind, by key."""
        return tuple(entry for (of, _), entry in sorted(self.entries.items()) if of == kind)

    def in_force(self, kind: Kind) -> tuple[Entry, ...]:
        """Every entry of a kind that was not retired, by key."""
        return tuple(entry for entry in self.of_kind(kind) if entry.in_force)


NOTHING: Final = Register()

Decide = Callable[[Register], list[Fact]]
"""A decision about registers: what of them is to be recorded."""


def declare(register: Register, stated: RegisterFact) -> list[Fact]:
    """Enter something; nothing where the same stands there already. Raises `RegisterRefused`."""
    kind = KIND_OF[type(stated)]
    held = register.entry(kind, stated.key)
    if held is not None and held.in_force:
        if same_words(held.stated, stated):
            return []
        raise RegisterRefused(
            "declared_already", f"The {kind} {stated.key} is declared in other words. To change them, amend it."
        )
    _require_known(register, stated)
    return [_as(DECLARED[kind], stated)]


def amend(register: Register, stated: RegisterFact) -> list[Fact]:
    """Describe something anew; nothing where nothing changes. Raises `RegisterRefused`."""
    kind = KIND_OF[type(stated)]
    held = register.entry(kind, stated.key)
    if held is None or not held.in_force:
        raise RegisterRefused("not_declared", f"There is no {kind} {stated.key} in force. Declare it.")
    if same_words(held.stated, stated):
        return []
    _require_known(register, stated)
    return [_as(AMENDED[kind], stated)]


def retire(register: Register, kind: Kind, key: str, reason: str) -> list[Fact]:
    """End an entry; nothing where it has ended. Raises `RegisterRefused`."""
    held = register.entry(kind, key)
    if held is None:
        raise RegisterRefused("not_declared", f"There is no {kind} of this key. See: lethe register list.")
    if reason not in ENDINGS:
        raise RegisterRefused("unknown_reason", f"A reason is one of {', '.join(ENDINGS)}.")
    if not held.in_force:
        return []
    users = _users(register, kind, key)
    if users:
        raise RegisterRefused("in_use", f"The {kind} {key} is named by {', '.join(users)}. Amend or retire that first.")
    return [EntryRetired(kind=kind, key=key, reason=reason)]


def require_in_order(register: Register, facts: Iterable[Fact]) -> None:
    """Nothing ended before the day on which it was declared. `facts` have their days. Raises `RegisterRefused`."""
    for fact in facts:
        if isinstance(fact, EntryRetired):
            held = _named(register, fact)
            begun = None if held is None else held.declared_at.astimezone(UTC).date()
            if begun is not None and fact.occurred_at.astimezone(UTC).date() < begun:
                said = f"The {fact.kind} {fact.key} is declared since {begun}, and cannot have ended before that day."
                raise RegisterRefused("before_it_began", said)
        register = evolve(register, fact)


def in_turn(decisions: Iterable[Decide]) -> Decide:
    """Several decisions as one: each sees what those before it came to. Raises `RegisterRefused`."""

    def decide(register: Register) -> list[Fact]:
        facts: list[Fact] = []
        for one in decisions:
            made = one(register)
            register = fold(made, register)
            facts += made
        return facts

    return decide


def evolve(register: Register, fact: Fact) -> Register:
    """The registers after one more fact of their stream."""
    entries = dict(register.entries)
    version = max(register.version, fact.originator_version)
    kind = KIND_OF.get(type(fact))
    if isinstance(fact, RegisterFact) and kind is not None:
        held = entries.get((kind, fact.key))
        goes_on = held is not None and held.in_force
        entries[kind, fact.key] = Entry(
            kind,
            fact,
            declared_at=min(held.declared_at, fact.occurred_at) if held is not None and goes_on else fact.occurred_at,
            changed_at=fact.occurred_at,
            by_hand=fact.source is None,
        )
    elif isinstance(fact, EntryRetired):
        held = _named(register, fact)
        if held is not None:
            entries[held.kind, held.key] = replace(held, retired_at=fact.occurred_at, ending=fact.reason)
    return Register(entries, version)


def _named(register: Register, fact: EntryRetired) -> Entry | None:
    return next((held for (of, key), held in register.entries.items() if (of, key) == (fact.kind, fact.key)), None)


def fold(facts: Iterable[Fact], register: Register = NOTHING) -> Register:
    """The registers after a run of facts."""
    for fact in facts:
        register = evolve(register, fact)
    return register


def same_words(one: RegisterFact, other: RegisterFact) -> bool:
    """Whether two statements say the same, wherever their words came from."""
    return said(one) == said(other)


def said(stated: RegisterFact) -> dict[str, object]:
    """What a statement says, by field; without its header and without where the words came from."""
    return {name: getattr(stated, name) for name in type(stated).model_fields if name not in _BESIDE}


_BESIDE: Final = frozenset(Fact.model_fields) | {"source"}


def _as(fact_class: type[RegisterFact], stated: RegisterFact) -> RegisterFact:
    return fact_class.model_validate(said(stated) | {"source": stated.source})


def _require_known(register: Register, stated: RegisterFact) -> None:
    """What an entry names must be in force."""
    named: list[tuple[Kind, str]] = []
    if isinstance(stated, ActivityStated):
        named = [("recipient", key) for key in stated.recipients]
    elif isinstance(stated, RecipientStated):
        named = [("safeguard", key) for key in stated.safeguards]
    for kind, key in named:
        held = register.entry(kind, key)
        if held is None or not held.in_force:
            raise RegisterRefused(f"unknown_{kind}", f"There is no {kind} {key} in force. Declare it first.")


def _users(register: Register, kind: Kind, key: str) -> list[str]:
    """The entries in force that name this one."""
    found = []
    for entry in register.entries.values():
        stated = entry.stated
        names = (kind == "recipient" and isinstance(stated, ActivityStated) and key in stated.recipients) or (
            kind == "safeguard" and isinstance(stated, RecipientStated) and key in stated.safeguards
        )
        if entry.in_force and names:
            found.append(f"{entry.kind} {entry.key}")
    return sorted(found)
