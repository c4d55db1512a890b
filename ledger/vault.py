"""The vault: wrapped keys and tombstones in a database of their own (DESIGN section 6).

A key is named by tenant, holder, class, period and generation. Wraps are AEAD under a key derived from the epoch
key, with the name and the epoch as associated data: a wrap copied elsewhere, or from another epoch, does not open.
Creating and destroying take the same advisory lock per tenant, so that no key is made for what has a tombstone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.personal import Erased
from ledger.arrays import Bytes16Array, BytesArray
from ledger.connections import Pool
from ledger.errors import KeyDestroyed, KeyMissing, PeriodDestroyed
from ledger.key_names import (
    EVERY_GENERATION,
    FOR_EVER,
    TENANT_HOLDER,
    TOMBSTONE_ALL,
    DestroyedKey,
    DueKey,
    Found,
    KeyName,
    TombstoneJournal,
    key_commitment,
)
from ledger.key_provider import EpochKeyProvider
from ledger.ports import Clock
from ledger.sealing import KEY_BYTES, length_prefixed, open_box, seal_box
from ledger.shredding import Shredder

__all__ = [
    "FOR_EVER",
    "TENANT_HOLDER",
    "TOMBSTONE_ALL",
    "DestroyedKey",
    "DueKey",
    "Found",
    "KeyName",
    "Vault",
    "erased_or_missing",
    "key_commitment",
]

DUE_PER_PAGE = 10_000
"""Persons per page of what is due: enough to spread the round trips, little enough to hold."""

LOCK_SHARED = "SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0))"
LOCK_EXCLUSIVE = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

SELECT_WRAPS = """
SELECT k.* FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[]) AS n(holder, class, period, generation),
LATERAL (
    SELECT holder, class, period, generation, epoch, wrap FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND holder = n.holder AND class = n.class AND period = n.period
        AND generation = n.generation OFFSET 0
) AS k
"""

SELECT_TOMBSTONES = """
SELECT t.* FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[]) AS n(holder, class, period, generation),
LATERAL (
    SELECT holder, class, period, generation, destroyed_at, cause, certificate FROM lethe_vault.tombstone
    WHERE tenant_id = %s AND holder = n.holder AND class IN (n.class, '*') AND period IN (n.period, '*')
        AND generation IN (n.generation, 0) OFFSET 0
) AS t
"""

INSERT_WRAPS = """
INSERT INTO lethe_vault.wrapped_key
    (tenant_id, holder, class, period, generation, epoch, wrap, commitment, created_on, last_on)
SELECT %s, n.*, %s, %s FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[], %s::int[], %s::bytea[],
    %s::bytea[]) AS n(holder, class, period, generation, epoch, wrap, commitment)
ON CONFLICT DO NOTHING
"""

SELECT_SUBJECT_WRAPS = """
SELECT k.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder, epoch, wrap, last_on FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND holder = n.holder AND class = %s AND period = '' AND generation = %s OFFSET 0
) AS k
"""
INSERT_SUBJECT_WRAPS = """
INSERT INTO lethe_vault.wrapped_key
    (tenant_id, holder, class, period, generation, epoch, created_on, last_on, wrap, commitment)
SELECT %s, n.holder, %s, '', %s, %s, %s, %s, n.wrap, n.commitment FROM unnest(%s, %s, %s) AS n(holder, wrap, commitment)
ON CONFLICT DO NOTHING
"""
SELECT_HOLDER_TOMBSTONES = """
SELECT t.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder FROM lethe_vault.tombstone
    WHERE tenant_id = %s AND holder = n.holder AND class IN (%s, '*') AND period IN ('', '*')
        AND generation IN (%s, 0) OFFSET 0
) AS t
"""
# A clock only moves forward: what arrives late does not shorten anything.
TOUCH = """
UPDATE lethe_vault.wrapped_key k SET last_on = n.used_on
FROM unnest(%s::bytea[], %s::date[]) AS n(holder, used_on)
WHERE k.tenant_id = %s AND k.holder = n.holder AND k.class = %s AND k.period = '' AND k.generation = %s
    AND k.last_on < n.used_on
"""
SELECT_DUE = """
SELECT holder, generation, last_on FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND class = %s AND period = '' AND (holder, generation) > (%s, %s) AND last_on <= %s
    AND holder <> ''
ORDER BY holder, generation LIMIT %s
"""

SELECT_PERIODS = """
SELECT period FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = %s AND class = %s AND period <> '' AND period < %s COLLATE "C" ORDER BY period
"""
GENERATIONS = """
SELECT coalesce(max(generation), 1) FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = %s
"""
SELECT_FLOORS = "SELECT class, floor FROM lethe_vault.period_floor WHERE tenant_id = %s AND class = ANY(%s)"


class Vault:
    """The keys of all tenants, by name. Every method is one short transaction of the vault's database."""

    def __init__(
        self,
        pool: Pool,
        provider: EpochKeyProvider,
        *,
        clock: Clock | None = None,
        journal: TombstoneJournal | None = None,
    ) -> None:
        self._pool = pool
        self._provider = provider
        self._clock = clock or _utc_now
        self._shredder = Shredder(journal)

    @property
    def pool(self) -> Pool:
        """Connections to the vault's database, for what renews or inspects it."""
        return self._pool

    @property
    def provider(self) -> EpochKeyProvider:
        """Where the epoch keys are held."""
        return self._provider

    def find(self, tenant: UUID, names: Sequence[KeyName]) -> Found:
        """The living keys and the tombstones among `names`; a name in neither is simply absent."""
        with self._pool.transaction() as connection:
            return self._find(connection, tenant, names)

    def ensure(self, tenant: UUID, names: Iterable[KeyName]) -> dict[KeyName, bytes]:
        """The keys of these names, each made durably if it does not exist yet.

        Raises `PeriodDestroyed` or `KeyDestroyed` if a name has a tombstone: what was destroyed stays so.
        """
        wanted = list(dict.fromkeys(names))
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            found = self._find(connection, tenant, wanted)
            _refuse_destroyed(found)
            missing = [name for name in wanted if name not in found.keys]
            if not missing:
                return found.keys
            made = self._insert(connection, tenant, missing)
            return found.keys | (made or self._find(connection, tenant, missing).keys)

    def ensure_subject_keys(
        self,
        tenant: UUID,
        retention_class: str,
        kids: Sequence[bytes],
        *,
        generation: int = 1,
        used_on: date | None = None,
    ) -> dict[bytes, bytes]:
        """As `ensure`, for one class of many persons (kids of 16 bytes), by kid; a kid with a tombstone is absent.

        `used_on` is the day that a new key's clock starts on; that of an older key is moved by `touch`.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            values = (Bytes16Array(kids), tenant, retention_class, generation)
            gone = {row[0] for row in connection.execute(SELECT_HOLDER_TOMBSTONES, values, binary=True)}
            living = [kid for kid in kids if kid not in gone] if gone else kids
            found = self._find_subject_keys(connection, tenant, retention_class, generation, living)
            missing = [kid for kid in living if kid not in found]
            if missing:
                made = self._insert_subject_keys(connection, tenant, retention_class, generation, missing, used_on)
                found |= made or self._find_subject_keys(connection, tenant, retention_class, generation, missing)
        return found

    def touch(self, tenant: UUID, retention_class: str, used: Mapping[bytes, date], *, generation: int = 1) -> int:
        """Something happened on these days that keeps these persons' keys alive; returns how many clocks moved."""
        if not used:
            return 0
        holders = sorted(used)
        values = (holders, [used[holder] for holder in holders], tenant, retention_class, generation)
        with self._pool.transaction() as connection:
            return connection.execute(TOUCH, values).rowcount

    def keys_due(
        self,
        tenant: UUID,
        retention_class: str,
        last_on: date,
        *,
        after: tuple[bytes, int] = (b"", 0),
        limit: int = DUE_PER_PAGE,
    ) -> list[DueKey]:
        """Persons' keys of a class that nothing kept alive after `last_on`, in order of holder and generation."""
        values = (tenant, retention_class, *after, last_on, limit)
        with self._pool.transaction() as connection:
            return [DueKey(bytes(row[0]), row[1], row[2]) for row in connection.execute(SELECT_DUE, values)]

    def _find_subject_keys(
        self, connection: Connection[Any], tenant: UUID, retention_class: str, generation: int, kids: Sequence[bytes]
    ) -> dict[bytes, bytes]:
        values = (Bytes16Array(kids), tenant, retention_class, generation)
        before, after = _subject_wrap_aad(tenant, retention_class, generation)
        return {
            holder: open_box(self._provider.key(epoch), wrap, before + holder + after + _epoch_field(epoch))
            for holder, epoch, wrap, _ in connection.execute(SELECT_SUBJECT_WRAPS, values, binary=True)
        }

    def _insert_subject_keys(
        self,
        connection: Connection[Any],
        tenant: UUID,
        retention_class: str,
        generation: int,
        kids: Sequence[bytes],
        used_on: date | None,
    ) -> dict[bytes, bytes]:
        """New keys for these kids; empty if another process made one of them at the same time."""
        epoch = self._provider.current()
        epoch_key = self._provider.key(epoch)
        before, after = _subject_wrap_aad(tenant, retention_class, generation)
        after += _epoch_field(epoch)
        made = {kid: os.urandom(KEY_BYTES) for kid in kids}
        wraps = BytesArray(seal_box(epoch_key, key, before + kid + after) for kid, key in made.items())
        commitments = BytesArray(key_commitment(key) for key in made.values())
        today = self._clock().date()
        days = (today, used_on or today)
        values = (tenant, retention_class, generation, epoch, *days, Bytes16Array(made), wraps, commitments)
        inserted = connection.execute(INSERT_SUBJECT_WRAPS, values).rowcount
        return made if inserted == len(made) else {}

    def destroy_holder(
        self,
        tenant: UUID,
        holder: bytes,
        *,
        keep: frozenset[str] = frozenset(),
        when: datetime,
        cause: str,
        certificate: str | None,
    ) -> tuple[DestroyedKey, ...]:
        """Destroy every key of one person but those of the classes in `keep`, and leave tombstones.

        Idempotent: a second call destroys nothing more and answers as the first one did.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            return self._shredder.destroy_holder(connection, tenant, holder, keep, when, cause, certificate)

    def destroy_keys(
        self, tenant: UUID, names: Sequence[KeyName], *, when: datetime, cause: str, certificate: str | None = None
    ) -> tuple[DestroyedKey, ...]:
        """Destroy exactly these keys, each with a tombstone, in one transaction. Idempotent; returns what went now.

        A period key that is named here raises the floor of its class.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            return self._shredder.destroy_keys(connection, tenant, names, when, cause, certificate)

    def destroy_class(
        self, tenant: UUID, retention_class: str, *, when: datetime, cause: str, certificate: str | None = None
    ) -> tuple[DestroyedKey, ...]:
        """Destroy every period key of a class and the tenant's own, for good: nothing of that class opens any more.

        Persons' keys of the class are useless from then on; `purge_class` deletes them afterwards.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            return self._shredder.destroy_class(connection, tenant, retention_class, when, cause, certificate)

    def purge_class(self, tenant: UUID, retention_class: str, *, limit: int = DUE_PER_PAGE) -> int:
        """Delete some persons' keys of a class that `destroy_class` destroyed; 0 when none is left."""
        with self._pool.transaction() as connection:
            return self._shredder.purge_class(connection, tenant, retention_class, limit)

    def destroy_period(
        self,
        tenant: UUID,
        retention_class: str,
        period: str,
        *,
        when: datetime,
        cause: str,
        certificate: str | None = None,
    ) -> int:
        """Destroy a class's key of one period, for everybody. Returns how many keys went; idempotent."""
        name = KeyName(TENANT_HOLDER, retention_class, period)
        return len(self.destroy_keys(tenant, [name], when=when, cause=cause, certificate=certificate))

    def escrow(self, tenant: UUID, scopes: Mapping[KeyName, bytes]) -> None:
        """Keep the two-key K of held persons, by kid, class and period, before the period's key goes.

        Raises `KeyDestroyed` for a person whose keys were destroyed: what was destroyed stays so.
        """
        if not scopes:
            return
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            names = list(scopes)
            _refuse_destroyed(Found({}, self._tombstones(connection, tenant, names)))
            persons = [KeyName(name.holder, name.retention_class) for name in names]
            _refuse_destroyed(Found({}, self._tombstones(connection, tenant, persons)))
            self._insert(connection, tenant, names, scopes)

    def living_periods(self, tenant: UUID, retention_class: str, before: str) -> list[str]:
        """The periods of a class whose key lives and that end before a month or day, oldest first."""
        with self._pool.transaction() as connection:
            rows = connection.execute(SELECT_PERIODS, (tenant, TENANT_HOLDER, retention_class, before)).fetchall()
        return [row[0] for row in rows]

    def newest_generation(self, tenant: UUID, holder: bytes, retention_class: str) -> int:
        """The highest generation of a key, 1 if there is none."""
        with self._pool.transaction() as connection:
            row = connection.execute(GENERATIONS, (tenant, holder, retention_class)).fetchone()
            return int(row[0]) if row else 1

    def _find(self, connection: Connection[Any], tenant: UUID, names: Sequence[KeyName]) -> Found:
        if not names:
            return Found({}, {})
        columns = [list(column) for column in zip(*names, strict=True)]
        wraps = connection.execute(SELECT_WRAPS, (*columns, tenant), binary=True).fetchall()
        # Tombstones are read after the wraps, so that a key destroyed in between is not taken for a missing one, and
        # they win: what a restore or a hand brought back does not open (I5).
        tombstones = self._tombstones(connection, tenant, names)
        keys = {}
        for holder, retention_class, period, generation, epoch, wrap in wraps:
            name = KeyName(bytes(holder), retention_class, period, generation)
            if name in tombstones:
                continue
            keys[name] = open_box(self._provider.key(epoch), bytes(wrap), _wrap_aad(tenant, name, epoch))
        return Found(keys, tombstones)

    def _tombstones(self, connection: Connection[Any], tenant: UUID, names: Sequence[KeyName]) -> dict[KeyName, Erased]:
        columns = [list(column) for column in zip(*names, strict=True)]
        rows = connection.execute(SELECT_TOMBSTONES, (*columns, tenant)).fetchall()
        found = {}
        for holder, retention_class, period, generation, when, cause, certificate in rows:
            for name in names:
                fits = retention_class in (name.retention_class, TOMBSTONE_ALL)
                fits = fits and generation in (name.generation, EVERY_GENERATION)
                if bytes(holder) == name.holder and fits and period in (name.period, TOMBSTONE_ALL):
                    found[name] = Erased(when, cause, certificate)
        return found

    def _insert(
        self,
        connection: Connection[Any],
        tenant: UUID,
        names: Sequence[KeyName],
        given: Mapping[KeyName, bytes] | None = None,
    ) -> dict[KeyName, bytes]:
        """New keys for these names; empty if another process made one of them at the same time."""
        self._refuse_below_floor(connection, tenant, names)
        epoch = self._provider.current()
        epoch_key = self._provider.key(epoch)
        made = {name: given[name] if given is not None else os.urandom(KEY_BYTES) for name in names}
        wraps = [seal_box(epoch_key, key, _wrap_aad(tenant, name, epoch)) for name, key in made.items()]
        commitments = [key_commitment(key) for key in made.values()]
        columns = [list(column) for column in zip(*names, strict=True)]
        today = self._clock().date()
        values = (tenant, today, today, *columns, [epoch] * len(names), wraps, commitments)
        inserted = connection.execute(INSERT_WRAPS, values).rowcount
        return made if inserted == len(names) else {}

    def _refuse_below_floor(self, connection: Connection[Any], tenant: UUID, names: Sequence[KeyName]) -> None:
        """A period at or before one that was destroyed is never made, also if it never had a key (FAULTS 14a)."""
        periods = [n for n in names if n.holder == TENANT_HOLDER and n.period not in ("", FOR_EVER)]
        if not periods:
            return
        values = (tenant, [name.retention_class for name in periods])
        floors = dict(connection.execute(SELECT_FLOORS, values).fetchall())
        for name in periods:
            if name.period <= floors.get(name.retention_class, ""):
                raise PeriodDestroyed(
                    f"The {name.retention_class} data of {name.period} is past its time: everything up to "
                    f"{floors[name.retention_class]} was destroyed, so this event is refused at the door."
                )


def erased_or_missing(found: Found, name: KeyName) -> Erased:
    """The tombstone of a key that was not found. Raises `KeyMissing` if it has none: an incident (I6)."""
    try:
        return found.tombstones[name]
    except KeyError:
        raise KeyMissing(
            f"A key of class {name.retention_class} is gone from the vault and has no tombstone. This is an incident: "
            "restore the vault from a backup; do not treat the data as erased."
        ) from None


def _refuse_destroyed(found: Found) -> None:
    for name, tombstone in found.tombstones.items():
        if name.period and name.holder == TENANT_HOLDER:
            raise PeriodDestroyed(
                f"The {name.retention_class} data of {name.period} is past its time: its key was destroyed on "
                f"{tombstone.when:%Y-%m-%d}, so this event is refused at the door."
            )
        raise KeyDestroyed("The keys of this person were destroyed; nothing more is sealed for them.")


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _subject_wrap_aad(tenant: UUID, retention_class: str, generation: int) -> tuple[bytes, bytes]:
    """What stands before and after the kid in `_wrap_aad` of a person's key, but for the epoch."""
    before, after = _wrap_aad(tenant, KeyName(_SIXTEEN, retention_class, "", generation), 0).split(_SIXTEEN)
    return before, after[: -len(_epoch_field(0))]


def _epoch_field(epoch: int) -> bytes:
    return length_prefixed(epoch.to_bytes(4, "big"))


_SIXTEEN = b"kid of 16 bytes."


def _wrap_aad(tenant: UUID, name: KeyName, epoch: int) -> bytes:
    return length_prefixed(
        tenant.bytes,
        name.holder,
        name.retention_class.encode(),
        name.period.encode(),
        name.generation.to_bytes(2, "big"),
        epoch.to_bytes(4, "big"),
    )
