"""The book of holds: who and what is held, looked up by whoever is about to destroy something, in their transaction.

A person is looked up by the kids that their keys are held under, each as a keyed tag, so that the table names nobody.
A campaign holds whoever has a message of it: the message's id is computed from the person's link key, one hash for
each living link month, and probed in the log. A period of a class holds that period's key, and with it everybody who
has a key of that class; an account hold, everything. Rows of targets go when a hold is released.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign
from domain.hold import Hold, Period, TooLate
from domain.ids import month_of, previous_month
from domain.personal import HoldReference
from ledger.arrays import Bytes16Array, Uuid16Array
from ledger.keys.keyring import LINK, Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.links import link_scope, message_id
from ledger.ports import Clock, StandingBook
from ledger.standing_row import StandingRow

HoldId = UUID

TAG_PERSON = b"lethe.hold.v1"
PERSON, RECORD, CAMPAIGN, PERIOD = "person", "record", "campaign", "period"

UPSERT_HOLD = """
INSERT INTO lethe.legal_hold (tenant_id, hold_id, holder, account, review_on, placed_at, released_at, closed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, hold_id) DO UPDATE SET account = excluded.account, review_on = excluded.review_on,
    released_at = excluded.released_at, closed_at = excluded.closed_at
"""
INSERT_TARGETS = """
INSERT INTO lethe.legal_hold_target (tenant_id, kind, target, hold_id)
SELECT %s, n.kind, n.target, %s FROM unnest(%s::text[], %s::bytea[]) AS n(kind, target) ON CONFLICT DO NOTHING
"""
DELETE_TARGETS = "DELETE FROM lethe.legal_hold_target WHERE tenant_id = %s AND hold_id = %s"
_COLUMNS = "hold_id, holder, account, review_on, placed_at, released_at, closed_at"
SELECT_HOLDS = f"SELECT {_COLUMNS} FROM lethe.legal_hold WHERE tenant_id = %s ORDER BY hold_id"
SELECT_HOLD = f"SELECT {_COLUMNS} FROM lethe.legal_hold WHERE tenant_id = %s AND hold_id = %s"
SELECT_TO_FINISH = f"""
SELECT {_COLUMNS} FROM lethe.legal_hold
WHERE tenant_id = %s AND released_at IS NOT NULL AND closed_at IS NULL ORDER BY hold_id
"""
SELECT_ACCOUNT_HOLDS = """
SELECT hold_id FROM lethe.legal_hold WHERE tenant_id = %s AND account AND released_at IS NULL ORDER BY hold_id
"""
SELECT_COUNTS = """
SELECT hold_id, kind, count(*) FROM lethe.legal_hold_target WHERE tenant_id = %s AND hold_id = coalesce(%s, hold_id)
GROUP BY hold_id, kind
"""
SELECT_TAGGED = """
SELECT t.target, t.hold_id FROM unnest(%s) AS n(target), LATERAL (
    SELECT target, hold_id FROM lethe.legal_hold_target
    WHERE tenant_id = %s AND kind = ANY(ARRAY['person', 'record']) AND target = n.target OFFSET 0
) AS t ORDER BY t.hold_id
"""
SELECT_OF_KIND = (
    "SELECT target, hold_id FROM lethe.legal_hold_target WHERE tenant_id = %s AND kind = %s ORDER BY hold_id"
)
# OFFSET 0 keeps each probe an index lookup of its own, as in projections/standing.py.
SELECT_BEGUN = """
SELECT uuid_send(e.stream_id) FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT stream_id FROM lethe.event WHERE tenant_id = %s AND stream_id = n.stream_id AND version = 1 OFFSET 0
) AS e
"""
# In the vault: a person's link keys of every generation, and those of months that a hold has kept for them.
SELECT_LINK_NAMES = """
SELECT holder, period, generation FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = ANY(%s) AND class = 'link'
"""
SELECT_HOLDERS_OF_CLASSES = """
SELECT holder, class FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = ANY(%s) AND class = ANY(%s) AND period = ''
"""

HOLDERS_PER_QUERY = 5_000


@dataclass(frozen=True, slots=True)
class HoldRow:
    """One hold as the table has it. `persons`, `campaigns`, `periods` count what it speaks of while it is active.

    `too_late` is told by placing and widening only; afterwards it is among the hold's sealed words.
    """

    hold_id: HoldId
    holder: bytes
    account: bool
    review_on: date
    placed_at: datetime
    released_at: datetime | None
    closed_at: datetime | None
    persons: int = 0
    campaigns: int = 0
    periods: int = 0
    too_late: tuple[TooLate, ...] = ()

    @property
    def state(self) -> str:
        """active, released or closed."""
        if self.closed_at is not None:
            return "closed"
        return "active" if self.released_at is None else "released"

    def overdue(self, today: date) -> bool:
        """Whether somebody should have looked at it again by now."""
        return self.released_at is None and self.review_on < today


class HoldBook:
    """The holds of one tenant, inline: written with their facts, read under the lock by whatever destroys."""

    def __init__(self, keyring: Keyring, book: StandingBook, clock: Clock) -> None:
        self._keyring = keyring
        self._book = book
        self._clock = clock

    # Writing --------------------------------------------------------------------------------------------------------

    def write(self, connection: Connection[Any], tenant: UUID, hold_id: HoldId, holder: bytes, hold: Hold) -> None:
        """The hold as it is now; the targets of one that was released go."""
        values = (hold.account, hold.review_on, hold.placed_at, hold.released_at, hold.closed_at)
        connection.execute(UPSERT_HOLD, (tenant, hold_id, holder, *values))
        if hold.released_at is not None:
            connection.execute(DELETE_TARGETS, (tenant, hold_id))
            return
        targets = self._targets(hold)
        if targets:
            kinds, values_of = [kind for kind, _ in targets], [target for _, target in targets]
            connection.execute(INSERT_TARGETS, (tenant, hold_id, kinds, values_of))

    def _targets(self, hold: Hold) -> list[tuple[str, bytes]]:
        """In order of the bytes, which says nothing of the order in which persons were named."""
        key = self._tag_key() if hold.persons else b""
        targets = [(PERSON, hold_tag(key, person.kid)) for person in hold.persons]
        targets += [(RECORD, hold_tag(key, person.records_kid)) for person in hold.persons]
        targets += [(CAMPAIGN, campaign.bytes) for campaign in hold.campaigns]
        targets += [(PERIOD, period.text().encode()) for period in hold.periods]
        return sorted(targets)

    # Reading --------------------------------------------------------------------------------------------------------

    def holds(self, connection: Connection[Any], tenant: UUID) -> list[HoldRow]:
        """Every hold there ever was, oldest first."""
        counts = _counts(connection, tenant, None)
        rows = connection.execute(SELECT_HOLDS, (tenant,)).fetchall()
        return [_row(row, counts.get(row[0], {})) for row in rows]

    def hold(self, connection: Connection[Any], tenant: UUID, hold_id: HoldId) -> HoldRow | None:
        """One hold; None if the tenant has no such."""
        row = connection.execute(SELECT_HOLD, (tenant, hold_id)).fetchone()
        return _row(row, _counts(connection, tenant, hold_id).get(hold_id, {})) if row else None

    def to_finish(self, connection: Connection[Any], tenant: UUID) -> list[HoldRow]:
        """Holds that were released, and for which what had waited is still to be taken up."""
        return [_row(row, {}) for row in connection.execute(SELECT_TO_FINISH, (tenant,))]

    def holding(
        self,
        connection: Connection[Any],
        tenant: UUID,
        holders: Sequence[bytes],
        *,
        retention_class: str | None = None,
        by_period: bool = True,
        ignoring: HoldId | None = None,
    ) -> dict[bytes, list[HoldId]]:
        """Which of these kids and records kids are held, and by which holds; one that is not held is absent.

        With `retention_class` a hold on periods counts only if it is on that class, without it if the holder has a key
        of the class that it is on; `by_period=False` leaves such holds out. A campaign holds kids, not records kids.
        """
        found: dict[bytes, set[HoldId]] = {}

        def note(holder: bytes, hold_id: HoldId) -> None:
            if hold_id != ignoring:
                found.setdefault(holder, set()).add(hold_id)

        for hold_id in self.holding_account(connection, tenant):
            for holder in holders:
                note(holder, hold_id)
        for start in range(0, len(holders), HOLDERS_PER_QUERY):
            some = list(holders[start : start + HOLDERS_PER_QUERY])
            for holder, hold_id in self._tagged(connection, tenant, some):
                note(holder, hold_id)
            for holder, hold_id in self._by_campaign(connection, tenant, some):
                note(holder, hold_id)
            if by_period:
                for holder, hold_id in self._by_period(connection, tenant, some, retention_class):
                    note(holder, hold_id)
        return {holder: sorted(holds) for holder, holds in found.items()}

    def holding_person_row(
        self, connection: Connection[Any], tenant: UUID, row: StandingRow, *, ignoring: HoldId | None = None
    ) -> list[HoldId]:
        """The holds on one living person, by whatever: as a person, through a campaign, a period or the account."""
        held = self.holding(connection, tenant, [row.person.kid, row.person.records_kid], ignoring=ignoring)
        return sorted({hold_id for holds in held.values() for hold_id in holds})

    def holding_account(
        self, connection: Connection[Any], tenant: UUID, *, ignoring: HoldId | None = None
    ) -> list[HoldId]:
        """The active holds on the whole account."""
        return [row[0] for row in connection.execute(SELECT_ACCOUNT_HOLDS, (tenant,)) if row[0] != ignoring]

    def holding_period(
        self,
        connection: Connection[Any],
        tenant: UUID,
        retention_class: str,
        period: str,
        *,
        ignoring: HoldId | None = None,
    ) -> list[HoldId]:
        """The active holds that keep the key of a period itself: on that period, a day of it, or the account."""
        found = set(self.holding_account(connection, tenant))
        for target, hold_id in connection.execute(SELECT_OF_KIND, (tenant, PERIOD)):
            held = Period(*bytes(target).decode().split(" "))
            if held.retention_class == retention_class and _overlap(held.period, period):
                found.add(hold_id)
        return sorted(found - {ignoring})

    def campaigns_held(self, connection: Connection[Any], tenant: UUID) -> dict[UUID, list[HoldId]]:
        """The campaigns that active holds speak of."""
        found: dict[UUID, list[HoldId]] = {}
        for target, hold_id in connection.execute(SELECT_OF_KIND, (tenant, CAMPAIGN)):
            found.setdefault(UUID(bytes=bytes(target)), []).append(hold_id)
        return found

    def held_by_campaign(
        self, connection: Connection[Any], tenant: UUID, kids: Sequence[bytes], *, only: Collection[UUID] | None = None
    ) -> set[bytes]:
        """Which of these persons have a message of a campaign that an active hold speaks of, or of `only` these."""
        return {kid for kid, _ in self._by_campaign(connection, tenant, kids, only)}

    def _tagged(
        self, connection: Connection[Any], tenant: UUID, holders: Sequence[bytes]
    ) -> Iterable[tuple[bytes, HoldId]]:
        key = self._tag_key()
        tags = {hold_tag(key, holder): holder for holder in holders}
        for target, hold_id in connection.execute(SELECT_TAGGED, (Bytes16Array(tags), tenant), binary=True):
            yield tags[bytes(target)], hold_id

    def _by_campaign(
        self,
        connection: Connection[Any],
        tenant: UUID,
        holders: Sequence[bytes],
        only: Collection[UUID] | None = None,
    ) -> Iterable[tuple[bytes, HoldId]]:
        held = self.campaigns_held(connection, tenant)
        if only is not None:
            held = {campaign: holds for campaign, holds in held.items() if campaign in only}
        if not held:
            return
        generation = _generation(connection, tenant)
        campaigns = {
            campaign_id: campaign
            for campaign_id, campaign in self._book.campaigns(connection, tenant, generation).items()
            if campaign_id in held
        }
        messages = self.message_ids(tenant, holders, campaigns)
        values = (Uuid16Array(messages), tenant)
        for (stream,) in connection.execute(SELECT_BEGUN, values, binary=True):
            holder, campaign_id = messages[bytes(stream)]
            for hold_id in held[campaign_id]:
                yield holder, hold_id

    def message_ids(
        self, tenant: UUID, kids: Sequence[bytes], campaigns: Mapping[UUID, Campaign]
    ) -> dict[bytes, tuple[bytes, UUID]]:
        """Every stream in which a message of these campaigns to one of these persons may stand: kid and campaign.

        One hash for each person, campaign, link month and generation. A month whose key went counts where a hold has
        kept the person's own key of it.
        """
        months = {month for campaign in campaigns.values() for month in _link_months(campaign, month_of(self._clock()))}
        with self._keyring.vault.pool.transaction() as connection:
            rows = connection.execute(SELECT_LINK_NAMES, (tenant, list(kids))).fetchall()
        of_persons = [KeyName(bytes(holder), LINK, period, number) for holder, period, number in rows]
        of_months = {month: KeyName(TENANT_HOLDER, LINK, month) for month in months}
        keys = self._keyring.find([*of_persons, *of_months.values()]).keys
        found: dict[bytes, tuple[bytes, UUID]] = {}
        for campaign_id, campaign in campaigns.items():
            wanted = set(_link_months(campaign, month_of(self._clock())))
            for name in of_persons:
                if name not in keys:
                    continue
                if name.period in wanted:
                    scopes = [keys[name]]
                elif name.period:
                    continue
                else:
                    of_wanted = (of_months[month] for month in wanted)
                    scopes = [link_scope(keys[name], keys[n]) for n in of_wanted if n in keys]
                for scope in scopes:
                    found[message_id(scope, campaign_id.bytes)] = name.holder, campaign_id
        return found

    def _by_period(
        self, connection: Connection[Any], tenant: UUID, holders: Sequence[bytes], retention_class: str | None
    ) -> Iterable[tuple[bytes, HoldId]]:
        of_class: dict[str, list[HoldId]] = {}
        for target, hold_id in connection.execute(SELECT_OF_KIND, (tenant, PERIOD)):
            held = bytes(target).decode().split(" ")[0]
            if retention_class in (None, held):
                of_class.setdefault(held, []).append(hold_id)
        if not of_class:
            return
        with self._keyring.vault.pool.transaction() as vault:
            values = (tenant, list(holders), list(of_class))
            rows = vault.execute(SELECT_HOLDERS_OF_CLASSES, values).fetchall()
        for holder, held_class in rows:
            for hold_id in of_class[held_class]:
                yield bytes(holder), hold_id

    def _tag_key(self) -> bytes:
        return self._keyring.tenant_key(HoldReference.name)


def hold_tag(key: bytes, holder: bytes) -> bytes:
    """What a held person is looked up by: a tag of a kid, under the account's key of holds."""
    return blake2b(holder, key=key, digest_size=16, person=TAG_PERSON).digest()


def _counts(connection: Connection[Any], tenant: UUID, hold_id: HoldId | None) -> dict[HoldId, dict[str, int]]:
    """How many targets of each kind holds have, or one hold."""
    counts: dict[UUID, dict[str, int]] = {}
    for found, kind, count in connection.execute(SELECT_COUNTS, (tenant, hold_id)):
        counts.setdefault(found, {})[kind] = count
    return counts


def _row(row: Sequence[Any], counts: Mapping[str, int]) -> HoldRow:
    counted = (counts.get(kind, 0) for kind in (PERSON, CAMPAIGN, PERIOD))
    return HoldRow(row[0], bytes(row[1]), *row[2:], *counted)


def _overlap(one: str, other: str) -> bool:
    """Whether two periods share a moment: they are equal, or one is a day of the other's month."""
    return one == other or one.startswith(f"{other}-") or other.startswith(f"{one}-")


def _link_months(campaign: Campaign, now: str) -> list[str]:
    """The months whose link key the messages of a campaign may have been made with."""
    first = month_of(campaign.registered_at)
    if campaign.kind != "ongoing":
        return [first]
    months, month = [], now
    while month >= first:
        months.append(month)
        month = previous_month(month)
    return months


def _generation(connection: Connection[Any], tenant: UUID) -> int:
    row = connection.execute("SELECT generation FROM lethe.head WHERE tenant_id = %s", (tenant,)).fetchone()
    return int(row[0]) if row else 1
