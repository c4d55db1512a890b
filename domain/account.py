"""Accounts: a controller, our tenant, with the policy pack it lives under."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal

from domain.facts import BY_TENANT_AND_MONTH, Fact, SealedBy
from domain.personal import Content, Personal

Pack = Literal["mailkai", "mailenium"]


class AccountOpened(Fact):
    """A controller's account begins. `country` is where it is established (ISO 3166 alpha-2)."""

    TOPIC: ClassVar[str] = "account.opened.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Content.name: BY_TENANT_AND_MONTH}
    name: Personal[str, Content]
    pack: str
    country: str | None = None
    minimum_age: int = 0


class ApiKeyIssued(Fact):
    """A key for the API was made; the log holds its public id and scopes, never the secret."""

    TOPIC: ClassVar[str] = "account.api_key_issued.v1"
    key_id: str
    scopes: tuple[str, ...]


class ApiKeyRevoked(Fact):
    """A key for the API stopped working."""

    TOPIC: ClassVar[str] = "account.api_key_revoked.v1"
    key_id: str


@dataclass(frozen=True, slots=True)
class Account:
    """The state of an account. `minimum_age` is the youngest age that its policy pack lets it mail, in years."""

    pack: str
    country: str | None
    minimum_age: int
    version: int
    opened_at: datetime


def evolve(account: Account | None, fact: Fact) -> Account | None:
    """The account after one more fact of its stream."""
    if isinstance(fact, AccountOpened):
        return Account(fact.pack, fact.country, fact.minimum_age, fact.originator_version, fact.occurred_at)
    if account is None:
        return None
    return Account(account.pack, account.country, account.minimum_age, fact.originator_version, account.opened_at)


def fold(account: Account | None, facts: Iterable[Fact]) -> Account | None:
    """The account after a run of facts: the projector that eventsourcing's Repository takes."""
    for fact in facts:
        account = evolve(account, fact)
    return account
