"""The gate in front of a database that was restored: it stays shut until nothing destroyed can come back (FAULTS 3, 4).

A restore by `lethe restore` shuts it by a row in each database. One that was made behind our back (a base backup put
back, a snapshot of a disk) is known by what is kept outside PostgreSQL: a log that ends before its kept head or its
last signed checkpoint, or says something else there. A vault that does not know a noted tombstone is told of it at
once, whatever the reason.

Opening the gate is `retention/restoring/reopening.py`; here is what every process asks before it serves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from domain.records import RECORD_CLASSES
from ledger.application import Ledger, tenants
from ledger.connections import Pool
from ledger.custody.journal import Custody, KeptCheckpoint, KeptHead, TombstoneNote
from ledger.errors import GateShut, KeyMissing, TamperError
from ledger.keys.names import TENANT_HOLDER, Tombstone
from ledger.keys.vault import Vault
from ledger.log_tree import root_of_events, tree_at

SetAside = Callable[[Sequence[Tombstone]], None]
"""Keeps held persons' own parts of these months and classes, which are about to be destroyed again (invariant I9)."""

NOTES_PER_TURN = 1_000
WATCH_EVERY_SECONDS = 30.0
"""How long a process may serve from databases that were put back: less than a key's lease."""

KEEP_EVERY_SECONDS = 60.0
"""What a ledger can lose behind our back without the gate seeing it, unless it led to a destruction."""

KEEP_TRIES_MAX = 5

SELECT_SHUT = "SELECT backup_id, taken_at FROM restore_gate ORDER BY shut_at LIMIT 1"
OPEN = "DELETE FROM restore_gate"
SELECT_HEADS = """
SELECT h.tenant_id, h.position, h.recorded_at, e.entry FROM lethe.head h
JOIN lethe.event e ON e.tenant_id = h.tenant_id AND e.position = h.position WHERE h.tenant_id = ANY(%s)
"""
SELECT_SIGNED = """
SELECT n.tenant_id, h.position, c.root, (SELECT max(series) FROM lethe.log_series s WHERE s.tenant_id = n.tenant_id)
FROM unnest(%s::uuid[], %s::smallint[], %s::bigint[]) AS n(tenant_id, series, size)
LEFT JOIN lethe.head h ON h.tenant_id = n.tenant_id
LEFT JOIN lethe.log_checkpoint c ON c.tenant_id = n.tenant_id AND c.series = n.series AND c.size = n.size
"""
SELECT_ENTRIES = """
SELECT e.tenant_id, e.position, e.entry FROM unnest(%s::uuid[], %s::bigint[]) AS n(tenant_id, position)
JOIN lethe.event e ON e.tenant_id = n.tenant_id AND e.position = n.position
"""


@dataclass(frozen=True, slots=True)
class LogBehind:
    """A log that ends before the head that was kept of it, or says something else there.

    `unreached`: it is not the log of which the last checkpoint was signed. `kept` is then that checkpoint's end, with
    its root as digest, where it lies further than the kept head. `series`: it goes on as this series, and nobody
    accepted that the one of that checkpoint was given up.
    """

    tenant: UUID
    kept: KeptHead
    position: int
    rewritten: bool
    unreached: bool = False
    series: int | None = None

    @property
    def lost(self) -> tuple[int, int] | None:
        """The first and the last position that are missing."""
        return (self.position + 1, self.kept.position) if self.kept.position > self.position else None

    def said(self) -> str:
        """What is wrong, in a sentence."""
        if self.rewritten and self.unreached:
            return f"The first {self.kept.position} events of the log of {self.tenant} are not those that were signed."
        if self.series is not None and self.lost is None:
            return (
                f"The log of {self.tenant} goes on as series {self.series}, and nobody accepted that the series before "
                f"was given up, of which {self.kept.position} events were signed."
            )
        if self.rewritten:
            return f"The log of {self.tenant} holds another event at {self.kept.position} than the one that was kept."
        return (
            f"The log of {self.tenant} ends at {self.position}; events up to {self.kept.position} were recorded and "
            "are missing."
        )


class Restored(NamedTuple):
    """A database that a backup was restored into."""

    database: str
    backup_id: str

    def said(self) -> str:
        """That in a sentence."""
        return f"The {self.database} was restored from backup {self.backup_id}."


@dataclass(frozen=True, slots=True)
class GateState:
    """Why the gate is shut: the backup that was restored into a database, and logs that do not reach their head.

    `vault_taken_at` is when the backup was taken that the vault was restored from, None if it was not restored.
    """

    restored: tuple[Restored, ...]
    behind: tuple[LogBehind, ...]
    vault_taken_at: datetime | None = None

    @property
    def shut(self) -> bool:
        """Whether the gate is shut."""
        return bool(self.restored or self.behind)


def look(writer: Pool, vault: Pool, custody: Custody, *, thoroughly: bool = False) -> GateState:
    """How the gate stands. `thoroughly`: what was signed is computed again from all events as well."""
    restored = []
    vault_taken_at = None
    for name, pool in (("ledger", writer), ("vault", vault)):
        with pool.transaction() as connection:
            row = connection.execute(SELECT_SHUT).fetchone()
        if row is not None:
            restored.append(Restored(name, row[0]))
            vault_taken_at = row[1] if name == "vault" else vault_taken_at
    behind = {log.tenant: log for log in logs_behind(writer, custody.kept_heads())}
    for log in checkpoints_behind(writer, custody.kept_checkpoints(), thoroughly=thoroughly):
        behind[log.tenant] = _further(log, behind.get(log.tenant))
    return GateState(tuple(restored), tuple(behind.values()), vault_taken_at)


def require_open(writer: Pool, vault: Vault, custody: Custody, set_aside: SetAside) -> None:
    """Raises `GateShut`. Tells the vault of every noted tombstone that it does not know, on the way."""
    try:
        replay(vault, custody, set_aside, only_if_behind=True)
    except KeyMissing as error:
        raise GateShut(
            "The vault does not know what was destroyed, and lacks the key of a legal hold, so nothing tells whom it "
            "protects from what is to be destroyed again. Restore a newer backup, or see: lethe reopen --dry-run."
        ) from error
    state = look(writer, vault.pool, custody)
    if state.shut:
        reasons = " ".join((*(found.said() for found in state.restored), *(log.said() for log in state.behind)))
        raise GateShut(
            f"{reasons} Nothing is served until the tombstones are replayed and the logs are matched: "
            "lethe reopen --dry-run shows what that means."
        )


def replay(
    vault: Vault, custody: Custody, set_aside: SetAside, *, only_if_behind: bool = False, dry_run: bool = False
) -> int:
    """Destroy in the vault whatever was noted as destroyed and is not, with its tombstone; returns how many those were.

    Persons' own keys go first, so that nothing is set aside for who was erased; then held persons' parts of what
    everybody shares are set aside, and the shared keys go. The last notes go last: with `only_if_behind` only they
    are looked at, and the rest only if one of them was missing. With `dry_run` they are counted and nothing is done.
    """
    tail_after = max(0, custody.count() - NOTES_PER_TURN)
    if only_if_behind and not _missing(vault, custody.latest(NOTES_PER_TURN)):
        return 0
    persons: list[Tombstone] = []
    shared: list[Tombstone] = []
    tail: list[Tombstone] = []
    told = 0
    tenants_told: set[UUID] = set()
    notes = custody.notes()
    while chunk := list(islice(notes, NOTES_PER_TURN)):
        for note in _missing(vault, chunk):
            told += 1
            tenants_told.add(note.tenant)
            if note.number > tail_after:
                tail.append(note.tombstone)
            else:
                (persons if note.holder else shared).append(note.tombstone)
        if not dry_run:
            persons = _replay_whole_holders(vault, persons)
    if not told or dry_run:
        return told
    vault.replay(persons)
    set_aside([*shared, *(tombstone for tombstone in tail if tombstone.holder == TENANT_HOLDER)])
    vault.replay(shared)
    most, last = _last_holder(tail)
    for some in (most, last):
        vault.replay(some)
        for tenant in tenants_told:
            vault.rehome_again(tenant, RECORD_CLASSES)
    return told


def _replay_whole_holders(vault: Vault, tombstones: list[Tombstone]) -> list[Tombstone]:
    """Replay these but those of the last holder, of whom more may follow; returns the rest."""
    whole, rest = _last_holder(tombstones)
    vault.replay(whole)
    return rest


def _last_holder(tombstones: list[Tombstone]) -> tuple[list[Tombstone], list[Tombstone]]:
    """All up to the last holder's, and those of the last holder."""
    start = len(tombstones)
    while start and tombstones[start - 1][:2] == tombstones[-1][:2]:
        start -= 1
    return tombstones[:start], tombstones[start:]


def logs_behind(writer: Pool, kept: Mapping[UUID, KeptHead]) -> list[LogBehind]:
    """Every log that does not hold what was kept of it."""
    tenants = list(kept)
    with writer.transaction() as connection:
        heads = {row[0]: row[1] for row in connection.execute(SELECT_HEADS, (tenants,))}
        columns = (tenants, [kept[tenant].position for tenant in tenants])
        found = {row[0]: sha256(row[2]).digest() for row in connection.execute(SELECT_ENTRIES, columns)}
    behind = []
    for tenant, head in kept.items():
        if tenant not in found:
            behind.append(LogBehind(tenant, head, heads.get(tenant, 0), False))
        elif found[tenant] != head.digest:
            behind.append(LogBehind(tenant, head, heads.get(tenant, 0), True))
    return behind


def checkpoints_behind(
    writer: Pool, kept: Mapping[UUID, KeptCheckpoint], *, thoroughly: bool = False
) -> list[LogBehind]:
    """Every log that is not the one of which a checkpoint was signed, but where its loss was accepted.

    What was signed and is in the database is believed, because events and checkpoints are restored together and
    `lethe fsck` compares them; where it is not there, a crash came before the commit, and the root is computed.
    """
    wanted = {tenant: checkpoint for tenant, checkpoint in kept.items() if not checkpoint.abandoned}
    columns = (list(wanted), [c.series for c in wanted.values()], [c.size for c in wanted.values()])
    behind = []
    with writer.connection() as connection:
        for tenant, position, root, series in connection.execute(SELECT_SIGNED, columns).fetchall():
            checkpoint, end = wanted[tenant], position or 0
            head = KeptHead(checkpoint.size, checkpoint.root, checkpoint.signed_at)
            if end < checkpoint.size:
                behind.append(LogBehind(tenant, head, end, rewritten=False, unreached=True))
            elif not _gives(connection, tenant, checkpoint, root, thoroughly=thoroughly):
                behind.append(LogBehind(tenant, head, end, rewritten=True, unreached=True))
            elif series is not None and series > checkpoint.series:
                behind.append(LogBehind(tenant, head, end, rewritten=False, unreached=True, series=series))
    return behind


def _gives(
    connection: Connection[Any], tenant: UUID, checkpoint: KeptCheckpoint, stored: bytes | None, *, thoroughly: bool
) -> bool:
    """Whether a log gives the root that was signed; `stored` is what the database says was signed at that size."""
    try:
        if stored is None:
            stored = tree_at(connection, tenant, checkpoint.series, checkpoint.size).root()
        gives = bytes(stored) == checkpoint.root
        if gives and thoroughly:
            gives = root_of_events(connection, tenant, checkpoint.size) == checkpoint.root
    except TamperError:  # Events or tiles are missing from its middle.
        gives = False
    return gives


def _further(signed: LogBehind, other: LogBehind | None) -> LogBehind:
    """What two looks at one log come to."""
    if other is None:
        return signed
    kept = max(signed.kept, other.kept, key=lambda head: head.position)
    return replace(signed, kept=kept, rewritten=signed.rewritten or other.rewritten)


def heads_of(connection: Connection[Any], tenants: Sequence[UUID]) -> dict[UUID, KeptHead]:
    """Where these tenants' logs end now; a tenant without events is absent."""
    rows = connection.execute(SELECT_HEADS, (list(tenants),))
    return {tenant: KeptHead(position, sha256(entry).digest(), at) for tenant, position, at, entry in rows}


def keep_heads(writer: Pool, custody: Custody, tenants: Sequence[UUID]) -> None:
    """Keep outside the database where these logs end. Raises `TamperError` for a log that was brought back."""
    for _ in range(KEEP_TRIES_MAX):
        with writer.transaction() as connection:
            heads = heads_of(connection, tenants)
        kept = custody.kept_heads()
        moved = {t: h for t, h in heads.items() if t not in kept or kept[t].position < h.position}
        try:
            custody.keep_heads(moved)
        except TamperError:
            # Another process kept a later head between the two looks; unless the log is really behind, look again.
            if logs_behind(writer, {t: h for t, h in custody.kept_heads().items() if t in heads}):
                raise
        else:
            return


class GateWatch:
    """Looks at the gate now and then while a process serves: a database can be put back under a running program.

    A standby that lagged behind takes over, a snapshot is put back: whatever the journal notes as destroyed and the
    vault does not know is destroyed again, and if a log ends before its kept head nothing more is served.
    """

    def __init__(self, writer: Pool, vault: Vault, custody: Custody, set_aside: SetAside) -> None:
        self._writer = writer
        self._vault = vault
        self._custody = custody
        self._set_aside = set_aside
        self._look_at = 0.0
        self._shut: GateShut | None = None

    def look(self) -> None:
        """Look, if it is time. Raises `GateShut`."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + WATCH_EVERY_SECONDS
            self._shut = None
            try:
                require_open(self._writer, self._vault, self._custody, self._set_aside)
            except GateShut as shut:
                self._shut = shut
        self.require_open()

    def require_open(self) -> None:
        """What the last look said. Raises `GateShut`."""
        if self._shut is not None:
            raise GateShut(str(self._shut))


class HeadKeeper:
    """The worker's chore: once a minute the heads of all accounts are kept, whichever account it is called for."""

    def __init__(self, writer: Pool, custody: Custody) -> None:
        self._writer = writer
        self._custody = custody
        self._keep_at = 0.0

    def __call__(self, ledger: Ledger) -> None:
        """Keep the heads if it is time."""
        if time.monotonic() < self._keep_at:
            return
        self._keep_at = time.monotonic() + KEEP_EVERY_SECONDS
        keep_heads(self._writer, self._custody, tenants(self._writer))


class CustodyJournal:
    """The journal that the vault notes destructions in; it keeps the heads of the accounts concerned first.

    So an intent that led to a destruction can never be missing from a ledger without the gate seeing it.
    """

    def __init__(self, custody: Custody, writer: Pool) -> None:
        self._custody = custody
        self._writer = writer

    def note(self, entries: Sequence[Tombstone]) -> None:
        """Keep the heads, then the tombstones; on disk when this returns."""
        keep_heads(self._writer, self._custody, sorted({entry.tenant for entry in entries}))
        self._custody.note(entries)


def _missing(vault: Vault, notes: Iterable[TombstoneNote]) -> list[TombstoneNote]:
    wanted = list(notes)
    known = vault.known_tombstones([note.tombstone for note in wanted])
    return [note for note, there in zip(wanted, known, strict=True) if not there]
