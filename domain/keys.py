"""Keys: what is recorded of their end. A plan has a stream of its own, and its facts count what went and name nobody.

What destroys is intended before it is done (invariant I9): the intent stands in the log, under the head lock and after
holds were looked at, before the first key goes. Each item of a plan is closed by a fact of its own.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from domain.facts import Fact

Action = Literal["destroy_period", "destroy_persons", "destroy_class", "erase_holders"]


class DestructionIntended(Fact):
    """One item of a plan is about to be done; a hold placed from here on is too late for it.

    `person_keys` is how many keys of persons the item is about, None where it is about a key that all of them share;
    `last_on` the last day on which anything may have kept these keys alive.
    """

    TOPIC: ClassVar[str] = "keys.destruction_intended.v1"
    item: str
    action: Action
    retention_class: str
    period: str | None = None
    person_keys: int | None = None
    clause: str
    due_on: str
    last_on: str | None = None
    aggregate_first: bool = False
    minimum: bool = False
    pack: str
    pack_version: int
    plan_sha256: str
    certificate: str


class AggregatePublished(Fact):
    """Figures of one campaign in one month (all campaigns together where `campaign` is absent), published once.

    Figures count messages; none is less than ten, and no two of them differ by one to nine. `withheld` names the
    kinds that are not told for that reason. The figures are aggregated, and that is all that is claimed of them.
    """

    TOPIC: ClassVar[str] = "keys.aggregate_published.v1"
    month: str
    campaign: str | None = None
    figures: dict[str, int]
    withheld: tuple[str, ...]


class PeriodKeyDestroyed(Fact):
    """The key of one class and period is gone, for everybody; opening was seen to fail.

    `commitment` is what the key was known by since it was made (hex), empty for a key older than commitments.
    `escrowed` counts held persons' own keys of the period, which are kept until their holds end.
    """

    TOPIC: ClassVar[str] = "keys.period_destroyed.v1"
    item: str
    retention_class: str
    period: str
    commitment: str
    escrowed: int = 0


class SubjectKeysExpired(Fact):
    """The keys of one class are gone of those persons whose time was over: how many, and not whose.

    `spared` counts persons of whom something was recorded after the plan was made, so that their time began anew.
    """

    TOPIC: ClassVar[str] = "keys.subjects_expired.v1"
    item: str
    retention_class: str
    keys: int
    spared: int = 0


class AccountHoldersErased(Fact):
    """Account holders whose last account had ended were erased, each by an erasure of their own: how many, not who.

    `spared` counts who was erased before, is held, or holds an account again.
    """

    TOPIC: ClassVar[str] = "keys.account_holders_erased.v1"
    item: str
    erased: int
    spared: int = 0


class ClassKeysDestroyed(Fact):
    """After the account's end: every period's key of a class is gone, and the account's own. `keys` says how many."""

    TOPIC: ClassVar[str] = "keys.class_destroyed.v1"
    item: str
    retention_class: str
    keys: int
    escrowed: int = 0


class PlanApplied(Fact):
    """Everything that a plan intended is done."""

    TOPIC: ClassVar[str] = "keys.plan_applied.v1"
    plan_sha256: str
    items: int
    keys: int
    certificate: str


class KeyCommitmentsPublished(Fact):
    """The commitments of the keys that a day made: how many, and the RFC 6962 root over them in order (hex).

    A certificate shows that what it calls destroyed stood under such a root while it lived.
    """

    TOPIC: ClassVar[str] = "keys.committed.v1"
    day: str
    count: int
    root: str


class CertificateIssued(Fact):
    """A certificate of destruction reached a stage. `digest` is the SHA-256 of its signed document (hex)."""

    TOPIC: ClassVar[str] = "certificate.issued.v1"
    stage: int
    digest: str


class EpochOpened(Fact):
    """A new epoch key wraps everything from here on. Nothing destroyed in this epoch is recoverable after `destroy_on`
    (a day), once the place of the key has let it go as well."""

    TOPIC: ClassVar[str] = "keys.epoch_opened.v1"
    epoch: int
    destroy_on: str


class EpochRolled(Fact):
    """Everything that lives was renewed out of an epoch into a later one, and was seen to open there."""

    TOPIC: ClassVar[str] = "keys.epoch_rolled.v1"
    epoch: int
    into: int


class EpochKeyDestroyed(Fact):
    """Every copy of an epoch's key is destroyed, each by the method named; on `gone_on` the last can no longer be had.

    From that day on no enumerated copy opens what was destroyed in that epoch: the backup horizon.
    """

    TOPIC: ClassVar[str] = "keys.epoch_key_destroyed.v1"
    epoch: int
    methods: tuple[str, ...]
    gone_on: str
