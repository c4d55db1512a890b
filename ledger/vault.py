"""The vault: wrapped keys and tombstones in a database of their own (DESIGN section 6).

A key is named by tenant, holder, class, period and generation. Wraps are AEAD under a key derived from the epoch
key, with the name and the epoch as associated data: a wrap copied elsewhere, or from another epoch, does not open.
Creating and destroying take the same advisory lock per tenant, so that no key is made for what has a tombstone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from domain.personal import Erased
from ledger.arrays import Bytes16Array, BytesArray
from ledger.connections import Pool
from ledger.errors import KeyDestroyed, KeyMissing, PeriodDestroyed
from ledger.key_provider import EpochKeyProvider
from ledger.sealing import KEY_BYTES, length_prefixed, open_box, seal_box

TENANT_HOLDER = b""
FOR_EVER = "ever"
TOMBSTONE_ALL = "*"

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
SELECT t.* FROM unnest(%s::bytea[], %s::text[], %s::text[]) AS n(holder, class, period), LATERAL (
    SELECT holder, class, period, destroyed_at, cause, certificate FROM lethe_vault.tombstone
    WHERE tenant_id = %s AND holder = n.holder AND class IN (n.class, '*') AND period IN (n.period, '*') OFFSET 0
) AS t
"""

INSERT_WRAPS = """
INSERT INTO lethe_vault.wrapped_key (tenant_id, holder, class, period, generation, epoch, wrap)
SELECT %s, n.* FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[], %s::int[], %s::bytea[])
    AS n(holder, class, period, generation, epoch, wrap)
ON CONFLICT DO NOTHING
"""

SELECT_SUBJECT_WRAPS = """
SELECT k.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder, epoch, wrap FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND holder = n.holder AND class = %s AND period = '' AND generation = 1 OFFSET 0
) AS k
"""
INSERT_SUBJECT_WRAPS = """
INSERT INTO lethe_vault.wrapped_key (tenant_id, holder, class, period, generation, epoch, wrap)
SELECT %s, n.holder, %s, '', 1, %s, n.wrap FROM unnest(%s, %s) AS n(holder, wrap) ON CONFLICT DO NOTHING
"""
SELECT_HOLDER_TOMBSTONES = """
SELECT t.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder FROM lethe_vault.tombstone
    WHERE tenant_id = %s AND holder = n.holder AND class IN (%s, '*') AND period IN ('', '*') OFFSET 0
) AS t
"""

INSERT_TOMBSTONE = """
INSERT INTO lethe_vault.tombstone (tenant_id, holder, class, period, destroyed_at, cause, certificate, destroyed)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
SELECT_DESTROYED = "SELECT destroyed FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder = %s AND class = %s"

DELETE_HOLDER = "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s RETURNING class"
DELETE_PERIOD = """
DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = %s AND period = %s RETURNING class
"""
SELECT_PERIODS = """
SELECT period FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = %s AND class = %s AND period <> '' AND period < %s COLLATE "C" ORDER BY period
"""
GENERATIONS = """
SELECT coalesce(max(generation), 1) FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = %s
"""


class KeyName(NamedTuple):
    """What a key is for. `period` is '' for a person's key; generations count from 1."""

    holder: bytes
    retention_class: str
    period: str = ""
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What the vault knows of the names asked for: keys that open, and tombstones of those destroyed."""

    keys: dict[KeyName, bytes]
    tombstones: dict[KeyName, Erased]


class Vault:
    """The keys of all tenants, by name. Every method is one short transaction of the vault's database."""

    def __init__(self, pool: Pool, provider: EpochKeyProvider) -> None:
        self._pool = pool
        self._provider = provider

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

    def ensure_subject_keys(self, tenant: UUID, retention_class: str, kids: Sequence[bytes]) -> dict[bytes, bytes]:
        """As `ensure`, for one class of many persons (kids of 16 bytes), by kid; a kid with a tombstone is absent."""
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            values = (Bytes16Array(kids), tenant, retention_class)
            gone = {row[0] for row in connection.execute(SELECT_HOLDER_TOMBSTONES, values, binary=True)}
            living = [kid for kid in kids if kid not in gone] if gone else kids
            found = self._find_subject_keys(connection, tenant, retention_class, living)
            missing = [kid for kid in living if kid not in found]
            if missing:
                made = self._insert_subject_keys(connection, tenant, retention_class, missing)
                found |= made or self._find_subject_keys(connection, tenant, retention_class, missing)
        return found

    def _find_subject_keys(
        self, connection: Connection[Any], tenant: UUID, retention_class: str, kids: Sequence[bytes]
    ) -> dict[bytes, bytes]:
        values = (Bytes16Array(kids), tenant, retention_class)
        before, after = _subject_wrap_aad(tenant, retention_class)
        return {
            holder: open_box(self._provider.key(epoch), wrap, before + holder + after + _epoch_field(epoch))
            for holder, epoch, wrap in connection.execute(SELECT_SUBJECT_WRAPS, values, binary=True)
        }

    def _insert_subject_keys(
        self, connection: Connection[Any], tenant: UUID, retention_class: str, kids: Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """New keys for these kids; empty if another process made one of them at the same time."""
        epoch = self._provider.current()
        epoch_key = self._provider.key(epoch)
        before, after = _subject_wrap_aad(tenant, retention_class)
        after += _epoch_field(epoch)
        made = {kid: os.urandom(KEY_BYTES) for kid in kids}
        wraps = BytesArray(seal_box(epoch_key, key, before + kid + after) for kid, key in made.items())
        values = (tenant, retention_class, epoch, Bytes16Array(made), wraps)
        inserted = connection.execute(INSERT_SUBJECT_WRAPS, values).rowcount
        return made if inserted == len(made) else {}

    def destroy_holder(
        self, tenant: UUID, holder: bytes, *, when: datetime, cause: str, certificate: str | None
    ) -> tuple[str, ...]:
        """Destroy every key of one person and leave one tombstone; returns the class of each key destroyed.

        Idempotent: a second call destroys nothing more and answers as the first one did.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            classes = sorted(row[0] for row in connection.execute(DELETE_HOLDER, (tenant, holder)))
            tombstone = (tenant, holder, TOMBSTONE_ALL, TOMBSTONE_ALL, when, cause, certificate, classes)
            connection.execute(INSERT_TOMBSTONE, tombstone)
            row = connection.execute(SELECT_DESTROYED, (tenant, holder, TOMBSTONE_ALL)).fetchone()
            assert row is not None
            return tuple(row[0])

    def destroy_period(self, tenant: UUID, retention_class: str, period: str, *, when: datetime, cause: str) -> int:
        """Destroy a class's key of one period, for everybody. Returns how many keys went; idempotent."""
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            tombstone = (tenant, TENANT_HOLDER, retention_class, period, when, cause, None, [retention_class])
            connection.execute(INSERT_TOMBSTONE, tombstone)
            names = (tenant, TENANT_HOLDER, retention_class, period)
            return len(connection.execute(DELETE_PERIOD, names).fetchall())

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
        columns = [[n.holder for n in names], [n.retention_class for n in names], [n.period for n in names]]
        rows = connection.execute(SELECT_TOMBSTONES, (*columns, tenant)).fetchall()
        found = {}
        for holder, retention_class, period, when, cause, certificate in rows:
            for name in names:
                fits = retention_class in (name.retention_class, TOMBSTONE_ALL)
                if bytes(holder) == name.holder and fits and period in (name.period, TOMBSTONE_ALL):
                    found[name] = Erased(when, cause, certificate)
        return found

    def _insert(self, connection: Connection[Any], tenant: UUID, names: Sequence[KeyName]) -> dict[KeyName, bytes]:
        """New keys for these names; empty if another process made one of them at the same time."""
        epoch = self._provider.current()
        epoch_key = self._provider.key(epoch)
        made = {name: os.urandom(KEY_BYTES) for name in names}
        wraps = [seal_box(epoch_key, key, _wrap_aad(tenant, name, epoch)) for name, key in made.items()]
        columns = [list(column) for column in zip(*names, strict=True)]
        inserted = connection.execute(INSERT_WRAPS, (tenant, *columns, [epoch] * len(names), wraps)).rowcount
        return made if inserted == len(names) else {}


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


def _subject_wrap_aad(tenant: UUID, retention_class: str) -> tuple[bytes, bytes]:
    """What stands before and after the kid in `_wrap_aad` of a person's first key, but for the epoch."""
    before, after = _wrap_aad(tenant, KeyName(_SIXTEEN, retention_class), 0).split(_SIXTEEN)
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
