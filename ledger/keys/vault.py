"""The vault: wrapped keys and tombstones in a database of their own (DESIGN section 6).

A key is named by tenant, holder, class, period and generation. Wraps are AEAD under a key derived from the epoch
key, with the name and the epoch as associated data: a wrap copied elsewhere, or from another epoch, does not open.
Creating and destroying take the same advisory lock per tenant, so that no key is made for what has a tombstone.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.personal import Erased
from ledger.connections import Pool
from ledger.custody.provider import EpochKeyProvider
from ledger.errors import KeyDestroyed, KeyMissing, PeriodDestroyed
from ledger.keys import condemned, generations, subject_keys
from ledger.keys.condemned import Executed, Sentence
from ledger.keys.epochs import ROLLED, WRITING_EPOCH, newest_epoch
from ledger.keys.generations import GenerationKey, Generations
from ledger.keys.minimums import Minimums
from ledger.keys.names import (
    EVERY_GENERATION,
    FOR_EVER,
    TENANT_HOLDER,
    TOMBSTONE_ALL,
    DestroyedKey,
    DueKey,
    Found,
    KeyName,
    Tombstone,
    TombstoneJournal,
    key_commitment,
)
from ledger.keys.rehoming import kept_under_tombstones, living_classes, mix_rehomed, rehome
from ledger.keys.shredding import Shredder
from ledger.keys.subject_keys import SubjectKeys, by_day
from ledger.keys.wraps import refuse_rolled, wrap_aad
from ledger.ports import Clock
from ledger.sealing import KEY_BYTES, open_box, seal_box

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

# A writer holds the right to be in the newest epoch until it commits: the opening of the next one waits for it.
LOCK_SHARED = f"SELECT pg_advisory_xact_lock_shared(hashtextextended(%s, 0)), {WRITING_EPOCH}"
LOCK_EXCLUSIVE = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"

SELECT_WRAPS = f"""
SELECT k.*, {ROLLED}
FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::smallint[]) AS n(holder, class, period, generation), LATERAL (
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
        minimums: Minimums | None = None,
    ) -> None:
        self._pool = pool
        self._provider = provider
        self._clock = clock or _utc_now
        self._shredder = Shredder(journal)
        self._subject_keys = SubjectKeys(provider, self._clock)
        self.minimums = minimums or Minimums()

    @property
    def pool(self) -> Pool:
        """Connections to the vault's database, for what renews or inspects it."""
        return self._pool

    @property
    def provider(self) -> EpochKeyProvider:
        """Where the epoch keys are held."""
        return self._provider

    def newest_epoch(self) -> int:
        """The epoch that wraps are written under."""
        with self._pool.transaction() as connection:
            return newest_epoch(connection, self._provider)

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
        used_on: date | Mapping[bytes, date] | None = None,
    ) -> dict[bytes, bytes]:
        """As `ensure`, for one class of many persons (kids of 16 bytes), by kid; a kid with a tombstone is absent.

        `used_on` is the day that a new key's clock starts on, or that of each; an older key's is moved by `touch`.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            return self._subject_keys.ensure(connection, tenant, retention_class, generation, kids, used_on)

    def touch(self, tenant: UUID, retention_class: str, used: Mapping[bytes, date], *, generation: int = 1) -> int:
        """Something happened on these days that keeps these persons' keys alive; returns how many clocks moved."""
        moved = 0
        for day, holders in sorted(by_day(used).items()):
            # A transaction for each day: keys are locked in their order within one, so that two never block each other.
            with self._pool.transaction() as connection:
                moved += subject_keys.touch(connection, tenant, retention_class, generation, day, holders)
        return moved

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
        with self._pool.transaction() as connection:
            return subject_keys.due(connection, tenant, retention_class, last_on, after, limit)

    def generations(self, tenant: UUID, retention_class: str, kids: Sequence[bytes]) -> dict[bytes, Generations]:
        """Every living generation of these persons' keys (kids of 16 bytes), opened; who has none is absent."""
        with self._pool.transaction() as connection:
            living, newest = generations.read(connection, tenant, retention_class, kids)
            by_generation: dict[int, list[generations.Served]] = {}
            for served in living:
                by_generation.setdefault(served.generation, []).append(served)
            found: dict[bytes, dict[int, GenerationKey]] = {kid: {} for kid in newest}
            for number, those in by_generation.items():
                holders = [served.holder for served in those]
                keys = self._subject_keys.find(connection, tenant, retention_class, number, holders)
                for holder, _, serves_from, serves_until in those:
                    if holder in keys:
                        held = GenerationKey(number, keys[holder], serves_from, serves_until)
                        found[holder][number] = held
        return {kid: Generations(newest[kid], living_keys) for kid, living_keys in found.items()}

    def serve(
        self, tenant: UUID, retention_class: str, changes: Sequence[tuple[bytes, int, int]], month: str, today: date
    ) -> set[bytes]:
        """From a month on, let one generation of a person's key take over from another: kid, before, next.

        Returns whose next generation lives. The clock of the next starts today.
        """
        if not changes:
            return set()
        with self._pool.transaction() as connection:
            return generations.serve(connection, tenant, retention_class, changes, month, today)

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
        minimums = self.minimums.months_of(tenant)
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            self.minimums.require_holder(connection, tenant, minimums, holder, keep, when)
            return self._shredder.destroy_holder(connection, tenant, holder, keep, when, cause, certificate)

    def living_classes(self, tenant: UUID, holder: bytes) -> frozenset[str]:
        """The classes of which a holder has a key."""
        with self._pool.transaction() as connection:
            return living_classes(connection, tenant, holder)

    def rehome(self, tenant: UUID, holder: bytes, classes: Collection[str]) -> int:
        """Move what is kept of an erased person's records to a new random holder; returns how many keys."""
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            return rehome(connection, self._provider, tenant, holder, classes, self._clock().date())

    def mix_rehomed(self, tenant: UUID, before: date) -> int:
        """Write some of what was rehomed before a day anew, in no order; returns how many keys, 0 if none is left."""
        with self._pool.transaction() as connection:
            connection.execute(LOCK_SHARED, (str(tenant),))
            return mix_rehomed(connection, self._provider, tenant, before)

    def rehome_again(self, tenant: UUID, classes: Collection[str]) -> int:
        """Move what is kept of erased persons and stands at a holder with tombstones: a restored vault has it there.

        Every tombstone of these persons must be here, or a key that is to go would get away. Returns how many keys.
        """
        with self._pool.transaction() as connection:
            marked = kept_under_tombstones(connection, tenant, classes)
        return sum(self.rehome(tenant, holder, kept) for holder, kept in marked.items())

    def destroy_keys(
        self, tenant: UUID, names: Sequence[KeyName], *, when: datetime, cause: str, certificate: str | None = None
    ) -> tuple[DestroyedKey, ...]:
        """Destroy exactly these keys, each with a tombstone, in one transaction. Idempotent; returns what went now.

        A period key that is named here raises the floor of its class.
        """
        minimums = self.minimums.months_of(tenant)
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            self.minimums.require_names(connection, tenant, minimums, names, when)
            return self._shredder.destroy_keys(connection, tenant, names, when, cause, certificate)

    def destroy_condemned(
        self,
        sentence: Sentence,
        *,
        after: tuple[bytes, int],
        limit: int,
        when: datetime,
        cause: str,
        certificate: str | None = None,
    ) -> Executed:
        """Destroy the next keys that an item of a plan condemned, but of nobody who was active since, as one batch."""
        minimums = self.minimums.months_of(sentence.tenant)
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(sentence.tenant),))
            doomed, spared = condemned.waiting(connection, sentence, after, limit)
            self.minimums.require_names(connection, sentence.tenant, minimums, doomed, when)
            went = self._shredder.destroy_keys(connection, sentence.tenant, doomed, when, cause, certificate)
            condemned.set_fates(connection, sentence, doomed, spared)
        last = max([*doomed, *spared], default=None)
        return Executed(went, len(spared), (last.holder, last.generation) if last else None)

    def destroy_class(
        self, tenant: UUID, retention_class: str, *, when: datetime, cause: str, certificate: str | None = None
    ) -> tuple[DestroyedKey, ...]:
        """Destroy every period key of a class and the tenant's own, for good: nothing of that class opens any more.

        Persons' keys of the class are useless from then on; `purge_class` deletes them afterwards.
        """
        minimums = self.minimums.months_of(tenant)
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            self.minimums.require_class(connection, tenant, minimums, retention_class, when)
            return self._shredder.destroy_class(connection, tenant, retention_class, when, cause, certificate)

    def told_of(self, tenant: UUID, names: Sequence[KeyName]) -> list[DestroyedKey]:
        """The keys that went under exactly these tombstones, with their commitments; of unknown ones there are none."""
        with self._pool.transaction() as connection:
            return self._shredder.told_of(connection, tenant, names)

    def told_of_class(self, tenant: UUID, retention_class: str) -> list[DestroyedKey]:
        """The keys that went when `destroy_class` destroyed this class."""
        return self.told_of(tenant, [KeyName(TENANT_HOLDER, retention_class, TOMBSTONE_ALL, EVERY_GENERATION)])

    def purge_class(self, tenant: UUID, retention_class: str, *, limit: int = DUE_PER_PAGE) -> int:
        """Delete some persons' keys of a class that `destroy_class` destroyed; 0 when none is left.

        What is kept of a period for held persons stays. Nobody may be held: a person's own keys tell who they are.
        """
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

    def replay(self, tombstones: Sequence[Tombstone]) -> None:
        """Destroy again what a restore brought back: these were noted as destroyed, and are not here.

        One transaction for each run of one holder, so that nobody's records are found half destroyed.
        """
        for (tenant, _), run in groupby(tombstones, key=lambda tombstone: (tombstone.tenant, tombstone.holder)):
            with self._pool.transaction() as connection:
                connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
                for tombstone in run:
                    self._shredder.replay(connection, tombstone)

    def write_off(self, tenant: UUID, names: Sequence[KeyName], *, when: datetime) -> int:
        """Tombstones for keys that are lost, so that none is made under their names; returns how many there were.

        Destroys nothing: of a key that is here nothing is written, so minimums have no say. Idempotent.
        """
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(tenant),))
            return self._shredder.write_off(connection, tenant, names, when)

    def known_tombstones(self, tombstones: Sequence[Tombstone]) -> list[bool]:
        """Which of these stand here, or say only that a key was lost which is here, in the order given."""
        if not tombstones:
            return []
        with self._pool.transaction() as connection:
            return self._shredder.known(connection, tombstones)

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

    def floors(self, tenant: UUID, classes: Collection[str]) -> dict[str, str]:
        """The last period of each of these classes up to which everything was destroyed; a class without is absent."""
        with self._pool.transaction() as connection:
            return dict(connection.execute(SELECT_FLOORS, (tenant, sorted(classes))).fetchall())

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
        for holder, retention_class, period, generation, epoch, wrap, rolled in wraps:
            name = KeyName(bytes(holder), retention_class, period, generation)
            if name in tombstones:
                continue
            refuse_rolled(epoch, rolled)
            keys[name] = open_box(self._provider.key(epoch), bytes(wrap), wrap_aad(tenant, name, epoch))
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
        epoch = newest_epoch(connection, self._provider)
        epoch_key = self._provider.key(epoch)
        made = {name: given[name] if given is not None else os.urandom(KEY_BYTES) for name in names}
        wraps = [seal_box(epoch_key, key, wrap_aad(tenant, name, epoch)) for name, key in made.items()]
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
