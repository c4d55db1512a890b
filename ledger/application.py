"""The ledger of one tenant: eventsourcing's `Application` with our recorder and mapper, and every command.

One light object per account. Commands are grouped by what they are about (subjects, suppressions, campaigns and
sends, feedback, erasures); this class wires them for one tenant and holds what is small enough to stand here.
"""

from __future__ import annotations

import hmac
import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import Any
from uuid import UUID

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.persistence import InfrastructureFactory, Mapper
from eventsourcing.utils import Environment

from domain import account as accounts
from domain import campaign as campaigns
from domain.access import AccessRefused, ExportProduced, PersonalDataViewed
from domain.account import Account, AccountOpened, ApiKeyIssued, ApiKeyRevoked
from domain.campaign import Campaign, CampaignClosed, CampaignRegistered, Kind
from domain.facts import Fact
from domain.ids import micros, unix_ms, uuid7
from domain.permission import TERMINATED, Decision, SendTerms, decide
from domain.personal import Personal
from domain.scope import checked_purpose
from ledger.account_holders import HolderDesk
from ledger.accounts import AccountDesk, require_active
from ledger.append import Appender, LockedTenant
from ledger.authorise import AuthorisationDesk, RulesOn
from ledger.connections import Pool
from ledger.desk import DeskTools
from ledger.due_clock import DueClock
from ledger.erasures import ErasureDesk
from ledger.errors import KeyDestroyed, UnknownAccount, UnknownCampaign
from ledger.exports import ExportDesk
from ledger.feedback import FeedbackDesk
from ledger.fingerprints import Fingerprinter
from ledger.group_commit import GroupCommitter
from ledger.holds import HoldBook, HoldDesk
from ledger.idempotency import PartStore
from ledger.keys.epochs import EpochBook
from ledger.keys.keyring import PEPPER, Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName, Vault, erased_or_missing
from ledger.link_generations import LinkDesk
from ledger.mapper import SealingMapper
from ledger.ports import Clock, StandingBook
from ledger.recorder import LedgerFactory, ReaderPool, TenantRecorder
from ledger.recording import RecordDesk
from ledger.registers import RegisterDesk
from ledger.standing_row import StandingRow
from ledger.streams import next_version
from ledger.subjects import Act, Outcome, SubjectDesk
from ledger.suppressing import SuppressionDesk

INSERT_API_KEY = """
INSERT INTO lethe.api_key (tenant_id, key_id, secret_hash, scopes, created_at) VALUES (%s, %s, %s, %s, %s)
"""
SELECT_API_KEY = """
SELECT secret_hash, scopes FROM lethe.api_key WHERE tenant_id = %s AND key_id = %s AND revoked_at IS NULL
"""
REVOKE_API_KEY = """
UPDATE lethe.api_key SET revoked_at = %s WHERE tenant_id = %s AND key_id = %s AND revoked_at IS NULL
"""
SELECT_TENANTS = "SELECT tenant_id FROM lethe.head ORDER BY tenant_id"

ACCOUNT_BELIEVED_SECONDS = 5.0
"""How long a process believes what it read of an account: another one may have adopted a pack since."""

API_KEY_PREFIX = "lethe_"
API_SCOPES = ("campaign", "officer", "auditor", "admin")


@dataclass(frozen=True, slots=True)
class LedgerServices:
    """What every tenant's ledger shares: connections, the vault, the inline projections, the clock, the law."""

    writer: Pool
    reader: ReaderPool
    vault: Vault
    book: StandingBook
    clock: Clock
    rules: RulesOn
    epochs: EpochBook
    due_clock: DueClock
    """By which things fall due; `clock` is when they happened."""

    gated: bool = True
    """Whether a restored database refuses everything until it is opened; False for what opens it."""

    on_key_revoked: list[Callable[[UUID, str], None]] = field(default_factory=list)
    """Called with tenant and key id when this process revokes an API key; whoever caches keys listens here."""


@dataclass(frozen=True, slots=True)
class ApiKeyHolder:
    """Who an API key stands for."""

    tenant: UUID
    key_id: str
    scopes: frozenset[str]


class Ledger(Application[UUID]):
    """Everything one account can do."""

    def __init__(self, tenant: UUID, services: LedgerServices) -> None:
        self.tenant = tenant
        self.services = services
        self.clock = services.clock
        self.appender = Appender(tenant, services.writer, services.clock, gated=services.gated)
        self.keyring = Keyring(services.vault, tenant)
        self.sealing = SealingMapper(tenant, self.keyring)
        self.name = tenant.hex
        super().__init__(env={"AGGREGATE_CACHE_MAXSIZE": "100"})
        fingerprinter = Fingerprinter(self._peppers(), self._living_peppers)
        self.fingerprint = fingerprinter
        tools = DeskTools(
            tenant, self.appender, services.book, self.keyring, self.sealing, fingerprinter, services.clock
        )
        self.subjects = SubjectDesk(tools)
        self.suppressions = SuppressionDesk(tools, subjects=self.subjects)
        self.parts = PartStore(tenant, self.keyring)
        self.accounts = AccountDesk(tools)
        self.authorisations = AuthorisationDesk(tools, rules=services.rules, parts=self.parts, accounts=self.accounts)
        self.links = LinkDesk(tools)
        self.feedback = FeedbackDesk(tools, subjects=self.subjects)
        self.hold_book = HoldBook(self.keyring, services.book, services.clock)
        self.holds = HoldDesk(tools, book=self.hold_book)
        self.erasures = ErasureDesk(tools, holds=self.hold_book)
        self.holders = HolderDesk(tools, accounts=self.accounts)
        self.records = RecordDesk(tools, parts=self.parts)
        self.registers = RegisterDesk(tools, reader=services.reader)
        self.exports = ExportDesk(tools)
        self._single = GroupCommitter[Act, Outcome](lambda acts: self.subjects.act(acts)[0])
        self._account: Account | None = None
        self._account_until = 0.0

    def construct_factory(self, env: Environment) -> InfrastructureFactory[Any]:
        """The factory that gives this tenant's recorder."""
        return LedgerFactory(env, TenantRecorder(self.tenant, self.appender, self.services.reader))

    def construct_mapper(self) -> Mapper[UUID]:
        """The sealing mapper."""
        return self.sealing

    @property
    def log(self) -> TenantRecorder:  # type: ignore[override]
        """The tenant's events, by stream and by position."""
        assert isinstance(self.recorder, TenantRecorder)
        return self.recorder

    # Single commands ------------------------------------------------------------------------------------------------

    def act(self, act: Act) -> Outcome:
        """One command about one person, sharing its transaction with others that come at the same time.

        Raises the refusal, if the command was refused, and `InvalidAddress` before it joins a group.
        """
        if act.address is not None:
            self.fingerprint(act.address)
        outcome = self._single.submit(act)
        if outcome.refused is not None:
            raise outcome.refused
        return outcome

    # The account ----------------------------------------------------------------------------------------------------

    def open_account(
        self,
        *,
        name: str,
        pack: str,
        country: str | None,
        minimum_age: int,
        actor: str,
        operator: bool = False,
        pack_digest: str | None = None,
    ) -> None:
        """Open this account: its head, its pepper and its first fact. `operator`: it is the platform's own.

        `retention.adopting.open_under` is the way in: it gives the digest of the pack, without which a pack whose file
        is rewritten later would be taken for the one the account was opened under.
        """
        self.appender.open_tenant(self.services.vault.newest_epoch())
        terms: dict[str, Any] = {"pack": pack, "country": country, "minimum_age": minimum_age, "operator": operator}
        fact = AccountOpened(name=Personal(name), pack_digest=pack_digest, **terms)
        self.save(self._headed(fact, self.tenant, 1, actor))

    def account(self) -> Account:
        """The account's state, at most `ACCOUNT_BELIEVED_SECONDS` old. Raises `UnknownAccount`."""
        held, now = self._account, time.monotonic()
        if held is None or now > self._account_until:
            try:
                found = self.repository.get(self.tenant, projector_func=accounts.fold)  # type: ignore[type-var]
            except AggregateNotFoundError:
                raise UnknownAccount("There is no account with this id here. Open it: lethe account open.") from None
            assert isinstance(found, Account)
            self._account_until = now + ACCOUNT_BELIEVED_SECONDS
            self._account = held = found
        return held

    def change_pack(self, decide: Callable[[Account, date], list[Fact]], *, actor: str) -> Account:
        """Announce or adopt a policy pack; see `AccountDesk.change_pack`."""
        account = self.accounts.change_pack(decide, actor=actor)
        self._account = None
        return account

    def issue_api_key(self, scopes: Sequence[str], *, actor: str) -> str:
        """A new API key, shown this once: the ledger keeps a hash of its secret only."""
        unknown = set(scopes) - set(API_SCOPES)
        if unknown or not scopes:
            raise ValueError(f"Scopes are one or more of {', '.join(API_SCOPES)}.")
        key_id, secret = os.urandom(8), os.urandom(32)
        with self.appender.locked() as locked:
            fact = ApiKeyIssued(key_id=key_id.hex(), scopes=tuple(scopes))
            version = next_version(locked.connection, self.tenant, self.tenant)
            locked.record(
                [(self.sealing.draft(self._headed(fact, self.tenant, version, actor)), version)], restricts=False
            )
            values = (self.tenant, key_id.hex(), sha256(secret).digest(), list(scopes), locked.now)
            locked.connection.execute(INSERT_API_KEY, values)
        return API_KEY_PREFIX + urlsafe_b64encode(self.tenant.bytes + key_id + secret).decode().rstrip("=")

    def revoke_api_key(self, key_id: str, *, actor: str) -> bool:
        """Make a key stop working; False if there was no such living key."""
        with self.appender.locked() as locked:
            revoked = locked.connection.execute(REVOKE_API_KEY, (locked.now, self.tenant, key_id)).rowcount
            if revoked:
                version = next_version(locked.connection, self.tenant, self.tenant)
                fact = self._headed(ApiKeyRevoked(key_id=key_id), self.tenant, version, actor)
                locked.record([(self.sealing.draft(fact), version)], restricts=False)
        for forget in self.services.on_key_revoked:
            forget(self.tenant, key_id)
        return bool(revoked)

    # Campaigns ------------------------------------------------------------------------------------------------------

    def register_campaign(
        self,
        *,
        name: str,
        purpose: str,
        channel: str,
        kind: Kind,
        content_sha256: str | None,
        tracking_disclosed: bool,
        actor: str,
        before: Callable[[LockedTenant], None] | None = None,
        also: Callable[[LockedTenant, UUID], None] | None = None,
    ) -> UUID:
        """Announce a campaign; returns its id.

        `before` runs as soon as the lock is held, `also` when everything is written; both may raise to undo all.
        """
        fact = CampaignRegistered(
            name=Personal(name),
            purpose=checked_purpose(purpose),
            channel=channel,
            kind=kind,
            content_sha256=content_sha256,
            tracking_disclosed=tracking_disclosed,
        )
        campaign_id = self._new_id()
        headed = self._headed(fact, campaign_id, 1, actor)
        draft = self.sealing.draft(headed)
        state = campaigns.evolve(None, headed)
        assert state is not None
        with self.appender.locked() as locked:
            if before is not None:
                before(locked)
            require_active(locked.head)
            locked.record([(draft, 1)], restricts=False)
            self.services.book.write_campaign(locked.connection, self.tenant, locked.generation, campaign_id, state)
            if also is not None:
                also(locked, campaign_id)
        return campaign_id

    def campaign(self, campaign_id: UUID) -> Campaign:
        """A campaign's state. Raises `UnknownCampaign`."""
        with self.services.writer.transaction() as connection:
            generation = self.appender.read_head(connection).generation
            found = self.services.book.campaign(connection, self.tenant, generation, campaign_id)
        if found is None:
            raise UnknownCampaign("There is no campaign with this id in this account. Register it first.")
        return found

    def close_campaign(self, campaign_id: UUID, *, actor: str) -> None:
        """Authorise no more sends for a campaign; harmless when it is closed already."""
        with self.appender.locked() as locked:
            book = self.services.book
            held = book.campaign(locked.connection, self.tenant, locked.generation, campaign_id)
            if held is None:
                raise UnknownCampaign("There is no campaign with this id in this account.")
            if held.closed:
                return
            version = next_version(locked.connection, self.tenant, campaign_id)
            fact = self._headed(CampaignClosed(), campaign_id, version, actor)
            locked.record([(self.sealing.draft(fact), version)], restricts=True)
            closed = campaigns.evolve(held, fact)
            assert closed is not None
            book.write_campaign(locked.connection, self.tenant, locked.generation, campaign_id, closed)

    # Questions ------------------------------------------------------------------------------------------------------

    def check(self, asked: Sequence[tuple[str, str, str]]) -> list[Decision]:
        """May these be mailed? Address, purpose and channel each; records nothing. Raises `InvalidAddress`."""
        probes = [self.fingerprint.every(email) for email, _, _ in asked]
        every = [f for fingerprints in probes for f in fingerprints]
        book = self.services.book
        with self.services.writer.connection() as connection:
            head = self.appender.read_head(connection)
            rows = book.read(connection, self.tenant, head.generation, every)
            listed = book.suppressions(connection, self.tenant, head.generation, every)
        account = self.account()
        now = max(self.clock(), head.recorded_at)
        rules = self.services.rules(now.date())
        decisions = []
        for (_, purpose, channel), fingerprints in zip(asked, probes, strict=True):
            row = next((rows[f] for f in fingerprints if f in rows), None)
            against = [entry for f in fingerprints for entry in listed.get(f, ())]
            terms = SendTerms.of(purpose, channel, account.country, account.minimum_age)
            decision = decide(row.standing if row else None, against, terms, rules, micros(now))
            decisions.append(decision if head.terminated_at is None else TERMINATED)
        return decisions

    def person(self, email: str) -> StandingRow | None:
        """The living subject with this address, current or superseded; None if there is none."""
        probes = self.fingerprint.every(email)
        with self.services.writer.connection() as connection:
            generation = self.appender.read_head(connection).generation
            found = self.services.book.resolve(connection, self.tenant, generation, probes)
        return next((found[f] for f in probes if f in found), None)

    # Access ---------------------------------------------------------------------------------------------------------

    def record_view(self, what: str, *, subject: UUID | None, parts_opened: int, actor: str) -> None:
        """Note that personal data was read (I8); durable before the data is handed out."""
        fact = PersonalDataViewed(what=what, subject=subject, parts_opened=parts_opened)
        self.save(self._headed(fact, self._new_id(), 1, actor))

    def record_export(
        self, kind: str, what: str, *, entries: int, opened: int, actor: str, digest: str | None = None
    ) -> None:
        """Note that something leaves the house (I8); durable before it is handed out. See `ExportProduced`."""
        fact = ExportProduced(kind=kind, what=what, entries=entries, opened=opened, digest=digest)
        self.save(self._headed(fact, self._new_id(), 1, actor))

    def record_refusal(self, route: str, reason: str, *, key_id: str | None) -> None:
        """Note that a request was turned away."""
        fact = AccessRefused(route=route, reason=reason, key_id=key_id)
        self.save(self._headed(fact, self._new_id(), 1, f"key:{key_id}" if key_id else "unknown"))

    def _headed(self, fact: Fact, stream: UUID, version: int, actor: str) -> Fact:
        return fact.model_copy(
            update={
                "originator_id": stream,
                "originator_version": version,
                "event_id": self._new_id(),
                "occurred_at": self.clock(),
                "actor": actor,
                "command": UUID(bytes=os.urandom(16), version=4),
            }
        )

    def _new_id(self) -> UUID:
        return uuid7(unix_ms(self.clock()), os.urandom(10))

    def _peppers(self) -> tuple[bytes, ...]:
        generations = self.keyring.pepper_generations()
        names = [KeyName(TENANT_HOLDER, PEPPER, "", generation) for generation in generations]
        try:
            keys = self.keyring.ensure(names)
        except KeyDestroyed:  # The account was closed: what is left of it is found without any address.
            return ()
        return tuple(keys[name] for name in names)

    def _living_peppers(self) -> tuple[bytes, ...]:
        """As the vault has them now, past the keyring's leases and making none. Raises `KeyMissing`."""
        names = [KeyName(TENANT_HOLDER, PEPPER, "", generation) for generation in self.keyring.pepper_generations()]
        found = self.services.vault.find(self.tenant, names)
        for name in names:
            if name not in found.keys:
                erased_or_missing(found, name)
        return tuple(found.keys[name] for name in names if name in found.keys)


def api_key_holder(writer: Pool, presented: str) -> ApiKeyHolder | None:
    """Who a presented API key stands for; None for anything that is not a living key."""
    parsed = parse_api_key(presented)
    if parsed is None:
        return None
    tenant, key_id, secret = parsed
    with writer.connection() as connection:
        row = connection.execute(SELECT_API_KEY, (tenant, key_id)).fetchone()
    if row is None or not hmac.compare_digest(bytes(row[0]), sha256(secret).digest()):
        return None
    return ApiKeyHolder(tenant, key_id, frozenset(row[1]))


def parse_api_key(presented: str) -> tuple[UUID, str, bytes] | None:
    """Tenant, key id and secret of a well-formed API key, None otherwise."""
    if not presented.startswith(API_KEY_PREFIX):
        return None
    text = presented.removeprefix(API_KEY_PREFIX)
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        return None
    if len(raw) != 16 + 8 + 32:
        return None
    return UUID(bytes=raw[:16]), raw[16:24].hex(), raw[24:]


def tenants(writer: Pool) -> list[UUID]:
    """Every account of this ledger."""
    with writer.connection() as connection:
        return [row[0] for row in connection.execute(SELECT_TENANTS)]
