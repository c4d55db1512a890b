"""Persons' keys of one class, for many persons at once, inside a transaction that the vault holds.

A bulk send asks for the keys of thousands of persons: one statement for each chunk, kids as one binary array, and the
associated data of a wrap laid out once. Each key carries a clock, the last day on which something kept it alive.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.arrays import Bytes16Array, BytesArray
from ledger.custody.provider import EpochKeyProvider
from ledger.keys.epochs import ROLLED, newest_epoch
from ledger.keys.names import DueKey, key_commitment
from ledger.keys.wraps import epoch_field, refuse_rolled, subject_wrap_aad
from ledger.ports import Clock
from ledger.sealing import KEY_BYTES, open_box, seal_box

SELECT_WRAPS = f"""
SELECT k.*, {ROLLED} FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder, epoch, wrap FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND holder = n.holder AND class = %s AND period = '' AND generation = %s OFFSET 0
) AS k
"""
INSERT_WRAPS = """
INSERT INTO lethe_vault.wrapped_key
    (tenant_id, holder, class, period, generation, epoch, created_on, last_on, wrap, commitment)
SELECT %s, n.holder, %s, '', %s, %s, %s, %s, n.wrap, n.commitment FROM unnest(%s, %s, %s) AS n(holder, wrap, commitment)
ON CONFLICT DO NOTHING
"""
SELECT_TOMBSTONES = """
SELECT t.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder FROM lethe_vault.tombstone
    WHERE tenant_id = %s AND holder = n.holder AND class IN (%s, '*') AND period IN ('', '*')
        AND generation IN (%s, 0) OFFSET 0
) AS t
"""
# A clock only moves forward: what arrives late does not shorten anything. One day at a time, and no join with the
# holders: a planner without statistics compares each of them with each key, and a chunk of feedback took seconds.
TOUCH = """
UPDATE lethe_vault.wrapped_key SET last_on = %s
WHERE tenant_id = %s AND holder = ANY(%s) AND class = %s AND period = '' AND generation = %s AND last_on < %s
"""
SELECT_DUE = """
SELECT holder, generation, last_on FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND class = %s AND period = '' AND (holder, generation) > (%s, %s) AND last_on <= %s
    AND holder <> ''
ORDER BY holder, generation LIMIT %s
"""


class SubjectKeys:
    """Finds and makes persons' keys in the caller's transaction."""

    def __init__(self, provider: EpochKeyProvider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock

    def ensure(
        self,
        connection: Connection[Any],
        tenant: UUID,
        retention_class: str,
        generation: int,
        kids: Sequence[bytes],
        used_on: date | Mapping[bytes, date] | None,
    ) -> dict[bytes, bytes]:
        """The keys of these kids, made where needed; a kid with a tombstone is absent."""
        values = (Bytes16Array(kids), tenant, retention_class, generation)
        gone = {row[0] for row in connection.execute(SELECT_TOMBSTONES, values, binary=True)}
        living = [kid for kid in kids if kid not in gone] if gone else kids
        found = self.find(connection, tenant, retention_class, generation, living)
        missing = [kid for kid in living if kid not in found]
        if missing:
            made = self._insert(connection, tenant, retention_class, generation, missing, used_on)
            found |= made or self.find(connection, tenant, retention_class, generation, missing)
        return found

    def find(
        self, connection: Connection[Any], tenant: UUID, retention_class: str, generation: int, kids: Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """The living keys of these kids, opened."""
        values = (Bytes16Array(kids), tenant, retention_class, generation)
        before, after = subject_wrap_aad(tenant, retention_class, generation)
        found = {}
        for holder, epoch, wrap, rolled in connection.execute(SELECT_WRAPS, values, binary=True):
            refuse_rolled(epoch, rolled)
            found[holder] = open_box(self._provider.key(epoch), wrap, before + holder + after + epoch_field(epoch))
        return found

    def _insert(
        self,
        connection: Connection[Any],
        tenant: UUID,
        retention_class: str,
        generation: int,
        kids: Sequence[bytes],
        used_on: date | Mapping[bytes, date] | None,
    ) -> dict[bytes, bytes]:
        """New keys for these kids; empty if another process made one of them at the same time."""
        epoch = newest_epoch(connection, self._provider)
        epoch_key = self._provider.key(epoch)
        before, after = subject_wrap_aad(tenant, retention_class, generation)
        after += epoch_field(epoch)
        made = {kid: os.urandom(KEY_BYTES) for kid in kids}
        wraps = BytesArray(seal_box(epoch_key, key, before + kid + after) for kid, key in made.items())
        commitments = BytesArray(key_commitment(key) for key in made.values())
        today = self._clock().date()
        first, later = _clock_starts(used_on, kids, today)
        values = (tenant, retention_class, generation, epoch, today, first, Bytes16Array(made), wraps, commitments)
        inserted = connection.execute(INSERT_WRAPS, values).rowcount
        for day, holders in by_day(later).items():
            touch(connection, tenant, retention_class, generation, day, holders)
        return made if inserted == len(made) else {}


def touch(
    connection: Connection[Any],
    tenant: UUID,
    retention_class: str,
    generation: int,
    day: date,
    holders: Sequence[bytes],
) -> int:
    """Something happened on this day that keeps these persons' keys alive; returns how many clocks moved."""
    values = (day, tenant, Bytes16Array(holders), retention_class, generation, day)
    return connection.execute(TOUCH, values).rowcount


def due(
    connection: Connection[Any],
    tenant: UUID,
    retention_class: str,
    last_on: date,
    after: tuple[bytes, int],
    limit: int,
) -> list[DueKey]:
    """Persons' keys of a class that nothing kept alive after `last_on`, in order of holder and generation."""
    values = (tenant, retention_class, *after, last_on, limit)
    return [DueKey(bytes(row[0]), row[1], row[2]) for row in connection.execute(SELECT_DUE, values)]


def _clock_starts(
    used_on: date | Mapping[bytes, date] | None, kids: Sequence[bytes], today: date
) -> tuple[date, dict[bytes, date]]:
    """The day that all these new keys start on, and the later days of some."""
    if not isinstance(used_on, Mapping):
        return used_on or today, {}
    days = {kid: used_on.get(kid, today) for kid in kids}
    first = min(days.values())
    return first, {kid: day for kid, day in days.items() if day > first}


def by_day(used: Mapping[bytes, date]) -> dict[date, list[bytes]]:
    """Holders by the day that they did something on."""
    holders: dict[date, list[bytes]] = {}
    for holder, day in used.items():
        holders.setdefault(day, []).append(holder)
    return holders
