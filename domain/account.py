"""Accounts: a controller, our tenant, with the policy pack it lives under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import ClassVar, Literal

from domain.facts import BY_TENANT_AND_MONTH, Fact, SealedBy
from domain.personal import Content, Personal

Status = Literal["active", "terminated", "closed"]

FIRST_PACK_VERSION = 1
"""What an account lives under from its opening on, until it adopts another version."""


class AccountOpened(Fact):
    """A controller's account begins. `country` is where it is established (ISO 3166 alpha-2).

    `operator` marks the account of the platform itself, whose subjects are its account holders, support contacts,
    visitors, prospects and affiliates (Mailenium 1.1). `pack_digest` is the SHA-256 of what the pack's first version
    promises; None in older events, and where another version is adopted right after.
    """

    TOPIC: ClassVar[str] = "account.opened.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Content.name: BY_TENANT_AND_MONTH}
    name: Personal[str, Content]
    pack: str
    country: str | None = None
    minimum_age: int = 0
    operator: bool = False
    pack_digest: str | None = None


class ApiKeyIssued(Fact):
    """A key for the API was made; the log holds its public id and scopes, never the secret."""

    TOPIC: ClassVar[str] = "account.api_key_issued.v1"
    key_id: str
    scopes: tuple[str, ...]


class ApiKeyRevoked(Fact):
    """A key for the API stopped working."""

    TOPIC: ClassVar[str] = "account.api_key_revoked.v1"
    key_id: str


class PackChangeAnnounced(Fact):
    """Notice was given that the account will live under another version of a policy, or under another policy.

    `digest` is the SHA-256 of what the pack promises; days are UTC. The change may take effect on `effective_on`.
    """

    TOPIC: ClassVar[str] = "account.pack_change_announced.v1"
    pack: str
    pack_version: int
    digest: str
    given_on: str
    effective_on: str


class PackAdopted(Fact):
    """The account lives under this version of a policy from now on, with this minimum age."""

    TOPIC: ClassVar[str] = "account.pack_adopted.v1"
    pack: str
    pack_version: int
    digest: str
    minimum_age: int


class RulesAdopted(Fact):
    """Sends are decided by this version of the legal rules, in exactly these words, from now on.

    `digest` is the SHA-256 of the complete rows, with their days, sources and notes (`RuleSet.digest`). Recorded before
    the first decision by them, so that nobody can word the rules of that day afterwards.
    """

    TOPIC: ClassVar[str] = "account.rules_adopted.v1"
    rules_version: str
    digest: str


class AccountTerminated(Fact):
    """The subscription ended. Nothing is sent and nothing new is taken in; what is held can be read and exported."""

    TOPIC: ClassVar[str] = "account.terminated.v1"


class AccountReactivated(Fact):
    """The account goes on as if it had not been terminated; possible until the first of its keys is to go."""

    TOPIC: ClassVar[str] = "account.reactivated.v1"


class AccountClosed(Fact):
    """The first keys of a terminated account are to be destroyed: from here on there is no way back."""

    TOPIC: ClassVar[str] = "account.closed.v1"


class AccountRefused(Exception):
    """What was asked of an account does not fit its state. `reason` is a stable code; the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Announcement:
    """A notice that was given: for which words, on which day, and from which day the change may take effect."""

    digest: str
    given_on: date
    effective_on: date


@dataclass(frozen=True, slots=True)
class Account:
    """The state of an account. `minimum_age` is the youngest age that its policy pack lets it mail, in years.

    `terminated_at` is when the subscription ended, None while it runs; `closed_at` when there was no way back.
    `pack_digest` is None where the account was opened before digests were kept and has adopted nothing since;
    `announced` is by a pack's name and version. `rules_adopted` holds version and digest of every set of legal rules
    that something was decided by; a version has several digests where a day, source or note was mended under it.
    """

    pack: str
    country: str | None
    minimum_age: int
    version: int
    opened_at: datetime
    terminated_at: datetime | None = None
    closed_at: datetime | None = None
    pack_version: int = FIRST_PACK_VERSION
    pack_digest: str | None = None
    announced: Mapping[tuple[str, int], Announcement] = field(default_factory=dict)
    operator: bool = False
    rules_adopted: frozenset[tuple[str, str]] = frozenset()

    @property
    def status(self) -> Status:
        """active, terminated (can be reactivated) or closed."""
        if self.closed_at is not None:
            return "closed"
        return "active" if self.terminated_at is None else "terminated"


def terminate(account: Account) -> list[Fact]:
    """What ending the subscription leads to; nothing where it has ended already."""
    return [AccountTerminated()] if account.status == "active" else []


def reactivate(account: Account) -> list[Fact]:
    """What taking the account up again leads to. Raises `AccountRefused` once its keys are being destroyed."""
    if account.closed_at is not None:
        raise AccountRefused(
            "account_closed",
            f"The account was closed on {account.closed_at:%Y-%m-%d}, and keys of it have been destroyed since. "
            "It cannot be taken up again: open a new account.",
        )
    return [AccountReactivated()] if account.status == "terminated" else []


def close(account: Account) -> list[Fact]:
    """What the first destruction after a termination leads to. Raises `AccountRefused` for an account that runs."""
    if account.terminated_at is None:
        raise AccountRefused("account_active", "The account is not terminated, so nothing of it is closed.")
    return [AccountClosed()] if account.closed_at is None else []


def adopt_rules(account: Account, rules_version: str, digest: str) -> list[Fact]:
    """What deciding by these legal rules leads to; nothing where they were adopted in these words before."""
    if (rules_version, digest) in account.rules_adopted:
        return []
    return [RulesAdopted(rules_version=rules_version, digest=digest)]


def evolve(account: Account | None, fact: Fact) -> Account | None:
    """The account after one more fact of its stream."""
    if isinstance(fact, AccountOpened):
        opened = (fact.pack, fact.country, fact.minimum_age, fact.originator_version, fact.occurred_at)
        return Account(*opened, operator=fact.operator, pack_digest=fact.pack_digest)
    if account is None:
        return None
    account = replace(account, version=fact.originator_version)
    if isinstance(fact, AccountTerminated):
        return replace(account, terminated_at=fact.occurred_at)
    if isinstance(fact, AccountReactivated):
        return replace(account, terminated_at=None)
    if isinstance(fact, AccountClosed):
        return replace(account, closed_at=fact.occurred_at)
    if isinstance(fact, PackAdopted):
        return replace(
            account,
            pack=fact.pack,
            pack_version=fact.pack_version,
            pack_digest=fact.digest,
            minimum_age=fact.minimum_age,
        )
    if isinstance(fact, RulesAdopted):
        return replace(account, rules_adopted=account.rules_adopted | {(fact.rules_version, fact.digest)})
    if isinstance(fact, PackChangeAnnounced):
        notice = Announcement(fact.digest, date.fromisoformat(fact.given_on), date.fromisoformat(fact.effective_on))
        return replace(account, announced={**account.announced, (fact.pack, fact.pack_version): notice})
    return account


def fold(account: Account | None, facts: Iterable[Fact]) -> Account | None:
    """The account after a run of facts: the projector that eventsourcing's Repository takes."""
    for fact in facts:
        account = evolve(account, fact)
    return account
