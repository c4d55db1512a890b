"""The record of processing activities as plain values (GDPR Art. 30(1) and 30(2)): what every rendering is made from.

One record is about one account as of one day. What was declared (the registers) stands beside what the ledger
observed; where they differ there is a finding. Fields that Article 30 does not ask for are named in `EXTRAS`, and a
rendering marks them as extras. `words` is always what people read, `code` what machines compare.

A text is None where the keys that sealed it have been destroyed (after the account's end): the codes remain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal
from uuid import UUID

from audit.asof.moments import Meaning

__all__ = ["EXTRAS", "Activity", "AsOf", "Change", "Coded", "Difference", "Enforced", "Finding", "Meaning", "Measure"]
__all__ += ["Observed", "ObservedCategory", "ObservedRecipient", "ObservedTopic", "OldestKey", "Party", "PartyRole"]
__all__ += ["Recipient", "RecordsOfProcessing", "Role", "Safeguard", "Severity", "TimeLimit", "Transfer", "What"]

Role = Literal["controller", "processor"]
"""controller: a row of Art. 30(1). processor: a row of Art. 30(2)."""

PartyRole = Literal[
    "controller", "controller_representative", "controller_dpo", "joint_controller",
    "processor", "processor_representative", "processor_dpo",
]  # fmt: skip

Severity = Literal["finding", "note"]
What = Literal["declared", "amended", "retired", "appeared", "grew", "gone"]

EXTRAS: Final = frozenset({"lawful_bases", "source", "observed", "findings", "measures.code"})
"""What stands in a record although Article 30 does not ask for it. Renderings mark these as extras."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """The day (UTC, to its end) that a record speaks of, and what that means."""

    on: date
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class Coded:
    """A code and the words for it."""

    code: str
    words: str


@dataclass(frozen=True, slots=True)
class Party:
    """Who is answerable, with contacts: Art. 30(1)(a), 30(2)(a). Each text is None where it was not given or is gone.

    `person` is the name of a natural person, where one was given. `erased`: the keys of the texts are destroyed.
    """

    key: str
    role: PartyRole
    name: str | None
    person: str | None = None
    address: str | None = None
    email: str | None = None
    phone: str | None = None
    website: str | None = None
    country: str | None = None
    erased: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who data is disclosed to: Art. 30(1)(d). `third_countries` are those of `countries` outside the EEA.

    `agreement_sha256` is of the contract that binds a processor (GDPR Art. 28(3)). `safeguards` are keys of the
    register, `seen_as` the codes under which the ledger observes them.
    """

    key: str
    kind: Coded
    name: str | None
    category: str | None
    countries: tuple[str, ...]
    third_countries: tuple[str, ...]
    erased: bool = False
    agreement_sha256: str | None = None
    safeguards: tuple[str, ...] = ()
    seen_as: tuple[str, ...] = ()
    contact: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Safeguard:
    """What makes transfers lawful: Art. 30(1)(e). `where` says how to get a copy of the document."""

    key: str
    mechanism: Coded
    title: str | None
    countries: tuple[str, ...]
    document_sha256: str | None
    where: str | None
    erased: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer to a third country: Art. 30(1)(e), 30(2)(c). Without a safeguard `mechanism` is None: a finding.

    `document_sha256` (hex) is of the safeguard's document, `where` says how to get a copy of it.
    """

    recipient: str
    recipient_name: str | None
    country: str
    mechanism: Coded | None
    safeguard: str | None = None
    title: str | None = None
    document_sha256: str | None = None
    where: str | None = None


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """When the data of a category is to be erased: Art. 30(1)(f). `clause` is of the policy; None: not by the policy.

    `pack_words` is what the account's policy pack says, where that differs from what was declared; None otherwise.
    """

    category: str
    words: str
    clause: str | None
    pack_words: str | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """A security measure: Art. 30(1)(g), 30(2)(d). `code` is one that the program knows something about, or None.

    `contradicted` says why the program knows the measure to be untrue; None where it does not.
    """

    words: str | None
    code: str | None = None
    contradicted: str | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """One processing activity: a row of Art. 30(1) (role controller) or of Art. 30(2) (role processor).

    In a row of Art. 30(2) `purposes` says the categories of processing carried out for the controller. `declared_on`
    and `changed_on` are by the meaning of the record; `retired_on` is set for one that ended by then. `source` says
    where the words came from: a policy pack (`mailkai 1`), or None for somebody's own.
    """

    key: str
    role: Role
    name: str | None
    purposes: tuple[str, ...]
    lawful_bases: tuple[Coded, ...]
    subjects: tuple[Coded, ...]
    categories: tuple[Coded, ...]
    recipients: tuple[Recipient, ...]
    transfers: tuple[Transfer, ...]
    time_limits: tuple[TimeLimit, ...]
    measures: tuple[Measure, ...]
    declared_on: date
    changed_on: date
    retired_on: date | None = None
    source: str | None = None
    note: str | None = None
    erased: bool = False


@dataclass(frozen=True, slots=True)
class ObservedTopic:
    """Events of one topic: how many, and the first and last day on which they happened."""

    topic: str
    events: int
    first_on: date
    last_on: date


@dataclass(frozen=True, slots=True)
class ObservedCategory:
    """What the ledger holds of one category: events that sealed data of it, by topic, and what became of them.

    `declared_by` are the keys of the activities in force that name the category; empty for an undeclared one.
    """

    category: Coded
    events: int
    first_on: date
    last_on: date
    topics: tuple[ObservedTopic, ...]
    declared_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObservedRecipient:
    """Somebody or something that data really went to, as far as the ledger can know.

    `code` is what a recipient of the register names under "seen as" (`provider:ses`, `export:person`, `feed`).
    `declared_as` are the keys of the recipients that say so; empty for an undeclared one.
    """

    code: str
    words: str
    events: int
    first_on: date
    last_on: date
    declared_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Enforced:
    """Retention that really happened: keys of one category destroyed under one clause."""

    category: str
    clause: str
    periods: tuple[str, ...]
    keys: int
    destructions: int
    last_on: date


@dataclass(frozen=True, slots=True)
class OldestKey:
    """The oldest living keys of one category, and when they fall due under the account's pack.

    `kind` is `period` (oldest is a month or a day), `person` (oldest is the last day on which a clock moved) or
    `account` (after the account's end). `due_on` is None where they never fall due as things stand.
    """

    category: str
    kind: Literal["period", "person", "account"]
    keys: int
    oldest: str
    clause: str | None
    due_on: date | None
    overdue: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """What the ledger and the vault know. `counted_to` is the last position that was counted.

    `oldest_keys` is None where it cannot be told: the vault knows the keys of today, so only a record as of today
    tells them. `last_plan_on` is when a retention plan was last applied, `erasures` how many persons were erased.
    """

    counted_to: int
    categories: tuple[ObservedCategory, ...]
    recipients: tuple[ObservedRecipient, ...]
    enforced: tuple[Enforced, ...]
    oldest_keys: tuple[OldestKey, ...] | None
    last_plan_on: date | None = None
    erasures: int = 0
    last_erasure_on: date | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Where what was declared and what is differ. A note needs no act; a finding does.

    `code` is stable (`undeclared_category`, `overdue_key`, …); `about` is what it is about (a category, a key of the
    register, a recipient's code); `since` the day since when; `what_to_do` a sentence.
    """

    code: str
    severity: Severity
    about: str
    words: str
    what_to_do: str
    since: date | None = None
    clause: str | None = None


@dataclass(frozen=True, slots=True)
class RecordsOfProcessing:
    """The record of one account as of one day. `position` is the last event of the log that it takes in.

    `parties` are all who are answerable, by role. `activities` are those in force, `retired` those that ended.
    `recipients` are all in force, whether an activity names them or not.
    """

    tenant: UUID
    account_name: str | None
    operator: bool
    as_of: AsOf
    made_at: datetime
    position: int
    pack: str
    pack_version: int
    pack_title: str
    parties: tuple[Party, ...]
    activities: tuple[Activity, ...]
    retired: tuple[Activity, ...]
    recipients: tuple[Recipient, ...]
    observed: Observed
    findings: tuple[Finding, ...]
    safeguards: tuple[Safeguard, ...] = ()

    def of_role(self, role: Role) -> tuple[Activity, ...]:
        """The rows of Art. 30(1) (controller) or 30(2) (processor)."""
        return tuple(activity for activity in self.activities if activity.role == role)

    def party(self, role: PartyRole) -> tuple[Party, ...]:
        """Who holds a role; several joint controllers, mostly one otherwise."""
        return tuple(party for party in self.parties if party.role == role)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs between two dates.

    `register` is activity, recipient, safeguard or party for what was declared, policy for the pack that the account
    lives under, and category, recipient_seen, enforced or finding for what was observed. `what` is declared, amended,
    retired, appeared, grew or gone.
    `before` and `after` are words, None where there was or is nothing.
    """

    register: str
    what: What
    key: str
    part: str | None = None
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed between two records of one account."""

    tenant: UUID
    earlier: AsOf
    later: AsOf
    changes: tuple[Change, ...] = field(default_factory=tuple)
