"""Shredding: destroying wraps and leaving tombstones, inside a transaction that the vault holds.

What goes is first noted in the journal outside the database, then deleted here; the transaction that deletes a wrap
also writes its tombstone. A tombstone is for ever: what it names is never made again (invariant I5). It also keeps
the commitments of the keys that went, which a certificate of destruction names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.personal import RETENTION_CLASSES
from ledger.keys.lost import LOST_CAUSE, found_again, present
from ledger.keys.names import (
    EVERY_GENERATION,
    FOR_EVER,
    TENANT_HOLDER,
    TOMBSTONE_ALL,
    DestroyedKey,
    KeyName,
    Tombstone,
    TombstoneJournal,
)

# More of the classes of a person than the domain names: links are no class of facts.
CLASSES_OF_PERSONS = RETENTION_CLASSES | {"link"}

_RETURNED = "RETURNING holder, class, period, generation, commitment, created_on"
DELETE_HOLDER = f"""
DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND NOT class = ANY(%s) {_RETURNED}
"""
DELETE_KEYS = """
DELETE FROM lethe_vault.wrapped_key k
USING unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[]) AS n(holder, class, period, generation)
WHERE k.tenant_id = %s AND k.holder = n.holder AND k.class = n.class AND k.period = n.period
    AND k.generation = n.generation
RETURNING k.holder, k.class, k.period, k.generation, k.commitment, k.created_on
"""
DELETE_CLASS = f"""
DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = %s {_RETURNED}
"""
# Never with a period: that is what a hold has kept for a person, and it goes, with a tombstone, when the hold ends.
PURGE_CLASS = """
DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = %s AND period = '' AND holder = ANY(ARRAY(
    SELECT holder FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND class = %s AND period = '' AND holder <> '' LIMIT %s))
    -- Only what a destroyed class left behind is swept: without its tombstone these keys still open something.
    AND EXISTS (
        SELECT 1 FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder = '' AND class = %s AND period = '*'
    )
"""
DELETE_COVERED = f"""
DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND (%s = '*' OR class = %s)
    AND (%s = '*' OR period = %s) AND (%s = 0 OR generation = %s) {_RETURNED}
"""
SELECT_KNOWN = """
SELECT n.number FROM unnest(%s::int[], %s::uuid[], %s::bytea[], %s::text[], %s::text[], %s::smallint[])
    AS n(number, tenant_id, holder, class, period, generation), LATERAL (
    SELECT 1 FROM lethe_vault.tombstone t WHERE t.tenant_id = n.tenant_id AND t.holder = n.holder
        AND t.class = n.class AND t.period = n.period AND t.generation = n.generation OFFSET 0
) AS t
"""
INSERT_TOMBSTONES = """
INSERT INTO lethe_vault.tombstone
    (tenant_id, holder, class, period, generation, destroyed_at, cause, certificate, destroyed)
SELECT %s, n.holder, n.class, n.period, n.generation, %s, %s, %s, string_to_array(n.destroyed, ' ')
FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[], %s::text[])
    AS n(holder, class, period, generation, destroyed)
ON CONFLICT DO NOTHING
"""
SELECT_DESTROYED = """
SELECT destroyed FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder = %s ORDER BY class, period, generation
"""
SELECT_TOLD = """
SELECT t.holder, t.destroyed FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[])
    AS n(holder, class, period, generation), LATERAL (
    SELECT holder, destroyed FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder = n.holder AND class = n.class
        AND period = n.period AND generation = n.generation OFFSET 0
) AS t
"""
RAISE_FLOORS = """
INSERT INTO lethe_vault.period_floor (tenant_id, class, floor)
SELECT %s, n.class, n.floor FROM unnest(%s::text[], %s::text[]) AS n(class, floor)
ON CONFLICT (tenant_id, class) DO UPDATE SET floor = greatest(period_floor.floor, excluded.floor)
"""


class Shredder:
    """Destroys keys in the caller's transaction. `journal` keeps tombstones outside the database."""

    def __init__(self, journal: TombstoneJournal | None) -> None:
        self._journal = journal

    def destroy_holder(
        self,
        connection: Connection[Any],
        tenant: UUID,
        holder: bytes,
        keep: frozenset[str],
        when: datetime,
        cause: str,
        certificate: str | None,
    ) -> tuple[DestroyedKey, ...]:
        """Every key of one person but those of the classes kept; answers the same however often it is called."""
        classes = sorted(CLASSES_OF_PERSONS - keep) if keep else [TOMBSTONE_ALL]
        places = [(holder, c, TOMBSTONE_ALL, EVERY_GENERATION) for c in classes]
        self._note(tenant, places, when, cause, certificate)
        rows = connection.execute(DELETE_HOLDER, (tenant, holder, sorted(keep)))
        went = [_destroyed(row) for row in rows]
        by_class = {c: [key for key in went if c in (key.name.retention_class, TOMBSTONE_ALL)] for c in classes}
        _insert_tombstones(
            connection, tenant, [(place, by_class[place[1]]) for place in places], when, cause, certificate
        )
        told = connection.execute(SELECT_DESTROYED, (tenant, holder)).fetchall()
        return tuple(_parsed(holder, text) for (texts,) in told for text in texts)

    def destroy_keys(
        self,
        connection: Connection[Any],
        tenant: UUID,
        names: Sequence[KeyName],
        when: datetime,
        cause: str,
        certificate: str | None,
    ) -> tuple[DestroyedKey, ...]:
        """Exactly these keys; returns those that went now."""
        if not names:
            return ()
        self._note(tenant, names, when, cause, certificate)
        columns = [list(column) for column in zip(*names, strict=True)]
        went = {(key := _destroyed(row)).name: key for row in connection.execute(DELETE_KEYS, (*columns, tenant))}
        places = [(name, [went[name]] if name in went else []) for name in names]
        _insert_tombstones(connection, tenant, places, when, cause, certificate)
        _raise_floors(connection, tenant, names)
        return tuple(went.values())

    def destroy_class(
        self,
        connection: Connection[Any],
        tenant: UUID,
        retention_class: str,
        when: datetime,
        cause: str,
        certificate: str | None,
    ) -> tuple[DestroyedKey, ...]:
        """Every period key of a class and the tenant's own key of it."""
        place = KeyName(TENANT_HOLDER, retention_class, TOMBSTONE_ALL, EVERY_GENERATION)
        self._note(tenant, [place], when, cause, certificate)
        rows = connection.execute(DELETE_CLASS, (tenant, TENANT_HOLDER, retention_class))
        went = [_destroyed(row) for row in rows]
        _insert_tombstones(connection, tenant, [(place, went)], when, cause, certificate)
        return tuple(went)

    def purge_class(self, connection: Connection[Any], tenant: UUID, retention_class: str, limit: int) -> int:
        """Some of the persons' keys of a class, but not what is kept for held persons; returns how many went."""
        values = (tenant, retention_class, tenant, retention_class, limit, tenant, retention_class)
        return connection.execute(PURGE_CLASS, values).rowcount

    def told_of(self, connection: Connection[Any], tenant: UUID, places: Sequence[KeyName]) -> list[DestroyedKey]:
        """The keys that went with these tombstones, as they were noted then."""
        columns = [list(column) for column in zip(*places, strict=True)]
        rows = connection.execute(SELECT_TOLD, (*columns, tenant))
        return [_parsed(bytes(holder), text) for holder, texts in rows for text in texts if text]

    def write_off(self, connection: Connection[Any], tenant: UUID, names: Sequence[KeyName], when: datetime) -> int:
        """Tombstones for keys that are lost; returns how many. A key that is here is none, and no floor rises."""
        lost = [Tombstone(tenant, *name, when, LOST_CAUSE, None) for name in names]
        lost = [t for t, there in zip(lost, present(connection, lost), strict=True) if not there]
        if lost:
            places = [tombstone[1:5] for tombstone in lost]
            self._note(tenant, places, when, LOST_CAUSE, None)
            _insert_tombstones(connection, tenant, [(place, []) for place in places], when, LOST_CAUSE, None)
        return len(lost)

    def replay(self, connection: Connection[Any], tombstone: Tombstone) -> None:
        """Destroy again what a restore brought back. The journal knows of it already.

        What was only lost is not destroyed where it was found again.
        """
        if found_again(connection, [tombstone]):
            return
        holder, retention_class, period, generation = place = tombstone[1:5]
        both = (retention_class, retention_class, period, period, generation, generation)
        went = [_destroyed(row) for row in connection.execute(DELETE_COVERED, (tombstone.tenant, holder, *both))]
        told = (tombstone.when, tombstone.cause, tombstone.certificate)
        _insert_tombstones(connection, tombstone.tenant, [(place, went)], *told)
        if period != TOMBSTONE_ALL and tombstone.cause != LOST_CAUSE:
            _raise_floors(connection, tombstone.tenant, [KeyName(*place)])

    def known(self, connection: Connection[Any], tombstones: Sequence[Tombstone]) -> list[bool]:
        """Which of these tombstones stand in the vault, or need not to, in the order given."""
        columns = [list(column) for column in zip(*(t[:5] for t in tombstones), strict=True)]
        rows = connection.execute(SELECT_KNOWN, (list(range(len(tombstones))), *columns))
        there = {row[0] for row in rows}
        again = found_again(connection, [t for number, t in enumerate(tombstones) if number not in there])
        return [number in there or tombstone in again for number, tombstone in enumerate(tombstones)]

    def _note(
        self,
        tenant: UUID,
        places: Iterable[tuple[bytes, str, str, int]],
        when: datetime,
        cause: str,
        certificate: str | None,
    ) -> None:
        if self._journal is not None:
            self._journal.note([Tombstone(tenant, *place, when, cause, certificate) for place in places])


def _insert_tombstones(
    connection: Connection[Any],
    tenant: UUID,
    places: Sequence[tuple[tuple[bytes, str, str, int], Sequence[DestroyedKey]]],
    when: datetime,
    cause: str,
    certificate: str | None,
) -> None:
    columns = [list(column) for column in zip(*(place for place, _ in places), strict=True)]
    destroyed = [" ".join(_text(key) for key in went) for _, went in places]
    connection.execute(INSERT_TOMBSTONES, (tenant, when, cause, certificate, *columns, destroyed))


def _raise_floors(connection: Connection[Any], tenant: UUID, names: Sequence[KeyName]) -> None:
    floors: dict[str, str] = {}
    for name in names:
        if name.holder == TENANT_HOLDER and name.period not in ("", FOR_EVER):
            floors[name.retention_class] = max(floors.get(name.retention_class, ""), name.period)
    if floors:
        connection.execute(RAISE_FLOORS, (tenant, list(floors), list(floors.values())))


def _destroyed(row: tuple[Any, ...]) -> DestroyedKey:
    holder, retention_class, period, generation, commitment, created_on = row
    name = KeyName(bytes(holder), retention_class, period, generation)
    return DestroyedKey(name, bytes(commitment or b""), created_on)


def _text(key: DestroyedKey) -> str:
    """How a tombstone tells of a key: class, period, generation, first day and commitment."""
    name = key.name
    return f"{name.retention_class}|{name.period}|{name.generation}|{key.created_on}|{key.commitment.hex()}"


def _parsed(holder: bytes, text: str) -> DestroyedKey:
    retention_class, period, generation, created_on, commitment = text.split("|")
    name = KeyName(holder, retention_class, period, int(generation))
    return DestroyedKey(name, bytes.fromhex(commitment), date.fromisoformat(created_on))
