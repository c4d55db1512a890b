"""What the ledger and the vault know about keeping a policy: every query behind the figures of a policy report.

One account is read at a time, through its own views in the ledger and by its id in the vault; nothing is opened and
nothing personal is asked for. The sums over several accounts are made here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from psycopg import Connection

from domain.register import KINDS, RecipientStated, SafeguardStated
from domain.register_shape import needs_document
from ledger.application import Ledger
from ledger.keys.vault import TENANT_HOLDER, Vault
from projections.campaign_view import NAME as CAMPAIGN_VIEW
from retention.plans.account_holders import ended_holders

T = TypeVar("T", str, date, datetime)

SUB_PROCESSOR: Final = "sub_processor"
WITHOUT_DOCUMENT: Final = "safeguard_without_document"

SELECT_LIVING: Final = """
SELECT class, holder = %s, period <> '', count(*), min(period COLLATE "C"), min(last_on)
FROM lethe_vault.wrapped_key WHERE tenant_id = %s GROUP BY 1, 2, 3
"""
# A tombstone names each key that went with it; its class comes first.
SELECT_DESTROYED: Final = """
SELECT split_part(d.key, '|', 1), t.cause, count(*), max(t.destroyed_at)
FROM lethe_vault.tombstone t, unnest(t.destroyed) AS d(key) WHERE t.tenant_id = %s GROUP BY 1, 2
"""
SELECT_SUPPRESSIONS: Final = """
SELECT s.cause, count(*), min(s.since) FROM lethe_read.head h
JOIN lethe_read.suppression s ON s.tenant_id = h.tenant_id AND s.generation = h.generation
WHERE h.tenant_id = %s GROUP BY 1
"""
SELECT_HOLDS: Final = """
SELECT count(*), count(*) FILTER (WHERE account), min(placed_at), min(review_on)
FROM lethe_read.legal_hold WHERE tenant_id = %s AND released_at IS NULL
"""
SELECT_HELD: Final = """
SELECT kind, count(*) FROM lethe_read.legal_hold_target WHERE tenant_id = %s GROUP BY 1
"""
SELECT_SENDS: Final = """
SELECT c.kind, c.rule, sum(c.count)::bigint FROM lethe_read.tracking t
JOIN lethe_read.campaign_count c ON c.tenant_id = t.tenant_id AND c.generation = t.generation
WHERE t.tenant_id = %s AND t.projection = %s AND t.live GROUP BY 1, 2
"""
SELECT_ERASURES: Final = """
SELECT state, count(*), min(requested_at) FILTER (WHERE finished_at IS NULL)
FROM lethe_read.erasure WHERE tenant_id = %s GROUP BY 1
"""
SELECT_EVENTS: Final = "SELECT position FROM lethe_read.head WHERE tenant_id = %s"
# The vault's epochs are those of all accounts.
SELECT_EPOCHS: Final = """
SELECT count(*), min(opened_at), max(opened_at), min(destroy_on), (SELECT count(*) FROM lethe_vault.epoch
    WHERE destroyed_at IS NOT NULL) FROM lethe_vault.epoch WHERE destroyed_at IS NULL
"""
SELECT_API_KEYS: Final = "SELECT count(*) FROM lethe.api_key WHERE tenant_id = %s AND revoked_at IS NULL"


@dataclass(slots=True)
class ClassFigures:
    """The keys of one class: those alive, their oldest, and those destroyed by cause."""

    period_keys: int = 0
    oldest_period: str | None = None
    person_keys: int = 0
    oldest_last_on: date | None = None
    escrowed_keys: int = 0
    destroyed: Counter[str] = field(default_factory=Counter)
    last_destroyed_at: datetime | None = None

    @property
    def living(self) -> int:
        """Every key of the class that is alive."""
        return self.period_keys + self.person_keys + self.escrowed_keys

    def add(self, other: ClassFigures) -> None:
        """Take in the figures of another account."""
        self.period_keys += other.period_keys
        self.person_keys += other.person_keys
        self.escrowed_keys += other.escrowed_keys
        self.destroyed += other.destroyed
        self.oldest_period = _earlier(self.oldest_period, other.oldest_period)
        self.oldest_last_on = _earlier(self.oldest_last_on, other.oldest_last_on)
        self.last_destroyed_at = _later(self.last_destroyed_at, other.last_destroyed_at)


@dataclass(slots=True)
class AccountFigures:
    """What is known of one account, or of several together."""

    terminated_on: date | None = None
    announced: list[tuple[str, int, date]] = field(default_factory=list)
    api_keys: int = 0
    events: int = 0
    classes: dict[str, ClassFigures] = field(default_factory=dict)
    suppressions: Counter[str] = field(default_factory=Counter)
    oldest_suppression: date | None = None
    sends: Counter[tuple[str, str]] = field(default_factory=Counter)
    erasures: Counter[str] = field(default_factory=Counter)
    oldest_open_erasure: datetime | None = None
    holders: int = 0
    holders_ended: Counter[date] = field(default_factory=Counter)
    """Persons in the operator's account whose last account ended, by the day on which it did."""
    holds: int = 0
    held: Counter[str] = field(default_factory=Counter)
    registers: Counter[str] = field(default_factory=Counter)
    """Entries in force by kind; sub-processors, and safeguards without a document, also by themselves."""
    oldest_hold: datetime | None = None
    next_review_on: date | None = None

    def of_class(self, name: str) -> ClassFigures:
        """The figures of one class; all zero where nothing of it is held or was destroyed."""
        return self.classes.setdefault(name, ClassFigures())

    def add(self, other: AccountFigures) -> None:
        """Take in another account."""
        self.announced += other.announced
        self.api_keys += other.api_keys
        self.events += other.events
        for name, known in other.classes.items():
            self.of_class(name).add(known)
        self.suppressions += other.suppressions
        self.oldest_suppression = _earlier(self.oldest_suppression, other.oldest_suppression)
        self.sends += other.sends
        self.erasures += other.erasures
        self.oldest_open_erasure = _earlier(self.oldest_open_erasure, other.oldest_open_erasure)
        self.holders += other.holders
        self.holders_ended += other.holders_ended
        self.holds += other.holds
        self.held += other.held
        self.registers += other.registers
        self.oldest_hold = _earlier(self.oldest_hold, other.oldest_hold)
        self.next_review_on = _earlier(self.next_review_on, other.next_review_on)


@dataclass(slots=True)
class EpochFigures:
    """The epochs whose keys are alive, when the next of them goes, and how many have gone. `copies` is per key."""

    living: int = 0
    oldest_opened_at: datetime | None = None
    newest_opened_at: datetime | None = None
    next_destroy_on: date | None = None
    destroyed: int = 0
    copies: int = 0


@dataclass(slots=True)
class LiveFigures(AccountFigures):
    """The accounts of a report: each of them, their sums, and what they share. `now` is aware."""

    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    each: list[AccountFigures] = field(default_factory=list)
    epochs: EpochFigures = field(default_factory=EpochFigures)

    @property
    def today(self) -> date:
        """The day (UTC) of the figures."""
        return self.now.astimezone(UTC).date()


def read_figures(ledgers: Iterable[Ledger], vault: Vault, now: datetime) -> LiveFigures:
    """The figures of these accounts and of their vault, as of `now` (aware)."""
    figures = LiveFigures(now=now, epochs=read_epochs(vault))
    for ledger in ledgers:
        account = _of_account(ledger)
        figures.each.append(account)
        figures.add(account)
    return figures


def read_epochs(vault: Vault) -> EpochFigures:
    """The figures of the vault's epochs, which all accounts share."""
    with vault.pool.transaction() as connection:
        row = connection.execute(SELECT_EPOCHS).fetchone()
    assert row is not None
    living, oldest, newest, next_on, destroyed = row
    return EpochFigures(living, oldest, newest, next_on, destroyed, len(vault.provider.copies()))


def _of_account(ledger: Ledger) -> AccountFigures:
    figures = AccountFigures()
    account = ledger.account()
    if account.terminated_at is not None:
        figures.terminated_on = account.terminated_at.astimezone(UTC).date()
    if account.operator:
        figures.holders, figures.holders_ended = ended_holders(ledger)
    for (name, version), notice in account.announced.items():
        if (name, version) != (account.pack, account.pack_version):
            figures.announced.append((name, version, notice.effective_on))
    figures.registers = _registers(ledger)
    with ledger.services.vault.pool.transaction() as connection:
        _add_living(figures, connection, ledger.tenant)
        _add_destroyed(figures, connection, ledger.tenant)
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        _add_ledger(figures, connection, ledger.tenant)
    with ledger.services.writer.connection() as connection:
        for (count,) in connection.execute(SELECT_API_KEYS, (ledger.tenant,)):
            figures.api_keys = count
    return figures


def _registers(ledger: Ledger) -> Counter[str]:
    register = ledger.registers.state(words=False)
    found: Counter[str] = Counter({kind: len(register.in_force(kind)) for kind in KINDS})
    for entry in (*register.in_force("recipient"), *register.in_force("safeguard")):
        stated = entry.stated
        if isinstance(stated, RecipientStated) and stated.recipient_kind == SUB_PROCESSOR:
            found[SUB_PROCESSOR] += 1
        elif isinstance(stated, SafeguardStated) and needs_document(stated):
            found[WITHOUT_DOCUMENT] += 1
    return found


def _add_living(figures: AccountFigures, connection: Connection[Any], tenant: UUID) -> None:
    rows = connection.execute(SELECT_LIVING, (TENANT_HOLDER, tenant))
    for name, of_tenant, of_period, count, oldest, last_on in rows:
        known = figures.of_class(name)
        if of_tenant and of_period:
            known.period_keys, known.oldest_period = count, oldest
        elif of_period:
            known.escrowed_keys = count
        elif not of_tenant:
            known.person_keys, known.oldest_last_on = count, last_on


def _add_destroyed(figures: AccountFigures, connection: Connection[Any], tenant: UUID) -> None:
    for name, cause, count, last in connection.execute(SELECT_DESTROYED, (tenant,)):
        known = figures.of_class(name)
        known.destroyed[cause] += count
        known.last_destroyed_at = _later(known.last_destroyed_at, last)


def _add_ledger(figures: AccountFigures, connection: Connection[Any], tenant: UUID) -> None:
    for cause, count, since in connection.execute(SELECT_SUPPRESSIONS, (tenant,)):
        figures.suppressions[cause] += count
        figures.oldest_suppression = _earlier(figures.oldest_suppression, since)
    for kind, rule, count in connection.execute(SELECT_SENDS, (tenant, CAMPAIGN_VIEW)):
        figures.sends[kind, rule] += count
    for state, count, open_since in connection.execute(SELECT_ERASURES, (tenant,)):
        figures.erasures[state] += count
        figures.oldest_open_erasure = _earlier(figures.oldest_open_erasure, open_since)
    for kind, count in connection.execute(SELECT_HELD, (tenant,)):
        figures.held[kind] += count
    for count, of_account, placed_at, review_on in connection.execute(SELECT_HOLDS, (tenant,)):
        figures.holds += count
        figures.held["account"] += of_account
        figures.oldest_hold, figures.next_review_on = placed_at, review_on
    for (position,) in connection.execute(SELECT_EVENTS, (tenant,)):
        figures.events += position


def _earlier(one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)
