"""What a restored account has lost: persons to be forgotten again, and keys that the log needs and nobody destroyed.

A key is lost where the vault is older than what was made with it. Envelopes of persons' own streams and of the account
name their keys. Messages do not say whose they are: the link key of their month is known by their campaign, persons'
link keys by the standing, and persons' engagement keys by going from every person to their messages. What is sealed in
a class that an account's closure destroyed whole is not lost but gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from psycopg import Connection

from domain.campaign import Campaign
from domain.ids import month_of
from domain.message import SendAuthorised, SendRefused
from domain.personal import Engagement, EngagementTechnical, HoldReference, Identity
from ledger.application import Ledger
from ledger.arrays import Uuid16Array
from ledger.backup.gate import GateState, LogBehind
from ledger.connections import Pool
from ledger.entry import parse_entry_time
from ledger.keys.keyring import LINK, PEPPER
from ledger.keys.lost import LOST_CAUSE
from ledger.keys.names import FOR_EVER, TENANT_HOLDER, KeyName
from ledger.recorder import ledger_event
from ledger.standing_row import NO_KEY, StandingRow
from projections.log import end_of_log, first_position_at, read_events, windows
from projections.standing import InlineStanding
from retention.plans.closure import destroyed_classes

ROWS_PER_PAGE: Final = 5_000
"""Standing rows opened at a time: some megabytes."""

MADE_BEFORE: Final = timedelta(hours=1)
"""Keys are made before the append that needs them: how far before a backup events are looked at."""

AFTER_EVERY_PERIOD: Final = "9999-99"
STREAMS_PER_QUERY: Final = 50_000
ENGAGEMENT_CLASSES: Final = (Engagement.name, EngagementTechnical.name)

SELECT_SEALED = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND sealed IS NOT NULL
"""
SELECT_ENGAGED = """
SELECT e.* FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT DISTINCT uuid_send(stream_id) FROM lethe.event WHERE tenant_id = %s AND stream_id = n.stream_id
        AND position >= %s AND sealed IS NOT NULL OFFSET 0
) AS e
"""
SELECT_FINGERPRINTS = """
SELECT EXISTS (SELECT 1 FROM lethe.standing WHERE tenant_id = %s)
    OR EXISTS (SELECT 1 FROM lethe.suppression WHERE tenant_id = %s)
"""


@dataclass(slots=True)
class AccountOpening:
    """What one account's restored data is like. `behind` is None where its log reaches its kept head.

    `destroyed` are the classes that its closure destroyed whole.
    """

    tenant: UUID
    behind: LogBehind | None = None
    destroyed: frozenset[str] = frozenset()
    to_forget: list[StandingRow] = field(default_factory=list)
    lost_keys: set[KeyName] = field(default_factory=set)

    @property
    def keys_missing(self) -> int:
        """How many keys the log needs and the vault has not."""
        return len(self.lost_keys)


@dataclass(frozen=True, slots=True)
class Losses:
    """Looks for what is lost, account by account; changes nothing."""

    writer: Pool
    book: InlineStanding
    ledger_of: Callable[[UUID], Ledger]

    def of(self, tenant: UUID, state: GateState) -> AccountOpening:
        """What one account has lost."""
        ledger = self.ledger_of(tenant)
        behind = next((log for log in state.behind if log.tenant == tenant), None)
        account = AccountOpening(tenant, behind, frozenset(destroyed_classes(ledger)))
        for rows in self._standing(ledger):
            self._persons(ledger, account, rows)
        account.lost_keys.update(self._absent(ledger, self._pepper(ledger)))
        if state.vault_taken_at is not None:
            self._since(ledger, account, state.vault_taken_at)
        account.lost_keys = {n for n in account.lost_keys if n.retention_class not in account.destroyed}
        return account

    def _persons(self, ledger: Ledger, account: AccountOpening, rows: list[StandingRow]) -> None:
        """Who was forgotten since, and whose keys are older than the vault."""
        identities = {row.fingerprint: KeyName(row.person.kid, Identity.name) for row in rows}
        links = {row.fingerprint: KeyName(row.person.kid, LINK, "", row.person.link_generation) for row in rows}
        found = ledger.services.vault.find(ledger.tenant, [*identities.values(), *links.values()])
        for row in rows:
            identity, link = identities[row.fingerprint], links[row.fingerprint]
            tombstone = found.tombstones.get(identity)
            if tombstone is not None:
                if tombstone.why != LOST_CAUSE:
                    account.to_forget.append(row)
                continue
            if identity not in found.keys:
                account.lost_keys.add(identity)
            if link not in found.keys and link not in found.tombstones and row.person.link_key != NO_KEY:
                account.lost_keys.add(link)
                of_messages = [link._replace(retention_class=name) for name in ENGAGEMENT_CLASSES]
                account.lost_keys.update(self._absent(ledger, of_messages))

    def _since(self, ledger: Ledger, account: AccountOpening, taken_at: datetime) -> None:
        """Keys that events recorded since the vault's backup need, and that are neither there nor destroyed."""
        with self.writer.transaction() as connection:
            first = first_position_at(connection, ledger.tenant, taken_at - MADE_BEFORE)
            end = end_of_log(connection, ledger.tenant)
            generation = ledger.appender.read_head(connection).generation
            campaigns = ledger.services.book.campaigns(connection, ledger.tenant, generation)
        engaged = False
        for after, last in windows(first - 1, end):
            with self.writer.transaction() as connection:
                rows = connection.execute(SELECT_SEALED, (ledger.tenant, after, last), binary=True).fetchall()
                months = _link_months(connection, ledger, campaigns, after, last)
            names = {name for row in rows for name in ledger.sealing.keys_needed(ledger_event(row))}
            engaged = engaged or any(name.retention_class in ENGAGEMENT_CLASSES for name in names)
            names |= {KeyName(TENANT_HOLDER, LINK, month) for month in months}
            account.lost_keys.update(self._absent(ledger, names))
        if engaged:
            for page in self._standing(ledger):
                account.lost_keys.update(self._engaged(ledger, page, campaigns, first))

    def _engaged(
        self, ledger: Ledger, rows: list[StandingRow], campaigns: Mapping[UUID, Campaign], first: int
    ) -> set[KeyName]:
        """Engagement keys that these persons must have had, because a message of theirs was engaged with since."""
        lacking: dict[bytes, set[KeyName]] = {}
        every = [
            KeyName(row.person.kid, name, "", row.person.link_generation) for row in rows for name in ENGAGEMENT_CLASSES
        ]
        for name in self._absent(ledger, every):
            lacking.setdefault(name.holder, set()).add(name)
        if not lacking:
            return set()
        messages = ledger.hold_book.message_ids(ledger.tenant, sorted(lacking), campaigns)
        lost: set[KeyName] = set()
        streams = sorted(messages)
        for start in range(0, len(streams), STREAMS_PER_QUERY):
            values = (Uuid16Array(streams[start : start + STREAMS_PER_QUERY]), ledger.tenant, first)
            with self.writer.transaction() as connection:
                for (stream,) in connection.execute(SELECT_ENGAGED, values, binary=True):
                    lost |= lacking[messages[bytes(stream)][0]]
        return lost

    def _pepper(self, ledger: Ledger) -> list[KeyName]:
        """The account's pepper, if anybody is known by a fingerprint."""
        with self.writer.transaction() as connection:
            row = connection.execute(SELECT_FINGERPRINTS, (ledger.tenant, ledger.tenant)).fetchone()
        return [KeyName(TENANT_HOLDER, PEPPER)] if row is not None and row[0] else []

    def _absent(self, ledger: Ledger, names: Iterable[KeyName]) -> set[KeyName]:
        """Those of these names that have neither key nor tombstone."""
        wanted = sorted(names)
        absent: set[KeyName] = set()
        for start in range(0, len(wanted), ROWS_PER_PAGE):
            page = wanted[start : start + ROWS_PER_PAGE]
            found = ledger.services.vault.find(ledger.tenant, page)
            absent.update(name for name in page if name not in found.keys and name not in found.tombstones)
        return absent

    def _standing(self, ledger: Ledger) -> Iterator[list[StandingRow]]:
        """Every person whom the ledger knows, page by page."""
        after = b""
        while True:
            with self.writer.transaction() as connection:
                generation = ledger.appender.read_head(connection).generation
                rows = self.book.page(connection, ledger.tenant, generation, after, ROWS_PER_PAGE)
            if not rows:
                return
            yield rows
            after = rows[-1].fingerprint


def to_write_off(ledger: Ledger, account: AccountOpening) -> list[KeyName]:
    """Of the lost keys those under whose names none may be made again, in order.

    What is sealed takes two keys, so one of the two is enough: where every period of a class went with it, the
    account's own key of the class is made anew and the class goes on with the next period. Of holds each has a key of
    its own, and that is enough as well. Without its pepper no address of an account is found any more.
    """
    return sorted(name for name in account.lost_keys if not _made_anew(ledger, name))


def _made_anew(ledger: Ledger, name: KeyName) -> bool:
    if name.holder != TENANT_HOLDER or name.retention_class == PEPPER or name.period not in ("", FOR_EVER):
        return False
    if name.retention_class == HoldReference.name:
        return True
    vault, lasting = ledger.services.vault, name._replace(period=FOR_EVER)
    if name.period or vault.living_periods(ledger.tenant, name.retention_class, AFTER_EVERY_PERIOD):
        return False
    return lasting not in vault.find(ledger.tenant, [lasting]).keys


def _link_months(
    connection: Connection[Any], ledger: Ledger, campaigns: Mapping[UUID, Campaign], after: int, last: int
) -> set[str]:
    """The link months that the decisions of a section of the log were made with."""
    months = set()
    for event in read_events(connection, ledger.tenant, [SendAuthorised.TOPIC, SendRefused.TOPIC], after, last):
        entry = orjson.loads(event.state)
        campaign = campaigns.get(UUID(entry["plain"]["campaign"]))
        decided_at = parse_entry_time(entry["occurred_at"])
        months.add(campaign.month(decided_at) if campaign is not None else month_of(decided_at))
    return months
