"""The journal of tombstones against the vault: one that lost lines is noticed before it is needed.

Every destruction is noted in the journal first and in the vault after it, so the journal never has fewer lines than
the vault has tombstones. If it has, folders were emptied or put back to an older state; a vault that was restored
from a backup afterwards would not be told what to destroy again, and nobody would see it (FAULTS 3, 4).

A journal that is older and just as long as a restored vault's list is told by the file beside it: each checkpoint is
kept there before it is published, so what is kept is never behind what the ledger has published (docs/adr/0042).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from ledger.connections import Pool
from ledger.custody.journal import Custody, KeptCheckpoint
from ledger.errors import JournalLost
from ledger.keys.names import Tombstone

TOMBSTONES_PER_READ: Final = 10_000

COUNT_TOMBSTONES = "SELECT count(*) FROM lethe_vault.tombstone"
SELECT_TOMBSTONES = """
SELECT tenant_id, holder, class, period, generation, destroyed_at, cause, certificate FROM lethe_vault.tombstone
WHERE (tenant_id, holder, class, period, generation) > (%s, %s, %s, %s, %s)
ORDER BY tenant_id, holder, class, period, generation LIMIT %s
"""
SELECT_PUBLISHED = """
SELECT DISTINCT ON (s.tenant_id) s.tenant_id, s.series, s.size, c.root, c.published_at
FROM lethe.log_series s JOIN lethe.log_checkpoint c ON (c.tenant_id, c.series, c.size) = (s.tenant_id, s.series, s.size)
ORDER BY s.tenant_id, s.series DESC
"""
_BEFORE_ALL: Final[tuple[Any, ...]] = (UUID(int=0), b"", "", "", -1)


def require_journal(vault: Pool, custody: Custody) -> None:
    """Raises `JournalLost` if the journal has fewer lines than the vault has tombstones."""
    with vault.transaction() as connection:
        tombstones = count_tombstones(connection)
    # The journal is counted after the vault: it only ever is ahead of it.
    require_lines(tombstones, custody.count(), custody.folders())


def require_current(writer: Pool, custody: Custody) -> None:
    """Raises `JournalLost` if custody's folders keep less of a log than the ledger has published of it."""
    with writer.connection() as connection:
        require_not_put_back(connection, custody)


def require_not_put_back(connection: Connection[Any], custody: Custody) -> None:
    """As `require_current`, on a connection of the writer's role."""
    older = _published_beyond(connection, custody)
    if older:
        tenant, published = min(older.items())
        raise JournalLost(
            f"Of the log of {tenant}, {published.size:,} events are published, and the folders "
            f"{', '.join(custody.folders())} do not know that: they were put back to an older state, and perhaps the "
            "journal of tombstones with them. Nothing is destroyed or served. Bring back the newest tombstones.jsonl, "
            "heads.json and checkpoints.json that there are. If these are the newest, and the vault was not restored "
            "since: lethe vault write-journal."
        )


def keep_published(writer: Pool, custody: Custody) -> None:
    """Keep what is published of each log, where custody knows less: somebody has accepted that it was put back."""
    with writer.connection() as connection:
        custody.keep_checkpoints(_published_beyond(connection, custody))


def _published_beyond(connection: Connection[Any], custody: Custody) -> dict[UUID, KeptCheckpoint]:
    """The last checkpoint of each log of which custody keeps an older one, or none though it keeps other logs'.

    Empty for folders that keep nothing at all: these are new, or lost, which is told by other means.
    """
    # The ledger is read before custody, which only ever is ahead of it.
    rows = connection.execute(SELECT_PUBLISHED).fetchall()
    kept = custody.kept_checkpoints()
    published = {tenant: KeptCheckpoint(series, size, bytes(root), at) for tenant, series, size, root, at in rows}
    return {t: one for t, one in published.items() if kept and is_behind(kept.get(t), one.series, one.size)}


def is_behind(kept: KeptCheckpoint | None, series: int, size: int) -> bool:
    """Whether custody keeps less than was published of this series, which was not given up."""
    return kept is None or (kept.series == series and not kept.abandoned and kept.size < size)


def lost_behind_gate(writer: Pool, vault: Pool, custody: Custody, *, holds_events: bool) -> str | None:
    """What says that the journal of restored databases was lost; None if nothing does.

    A vault from before the first destruction has no tombstone that could be missed. But heads are kept before every
    backup, in the same folders: where these are new, the journal was lost with them.
    """
    try:
        require_journal(vault, custody)
        require_current(writer, custody)
    except JournalLost as lost:
        return str(lost)
    if holds_events and custody.is_new():
        return (
            f"The folders of the journal, {', '.join(custody.folders())}, are new: nothing was ever kept in them, and "
            "heads are kept before every backup. Bring back tombstones.jsonl, heads.json and checkpoints.json from the "
            "disk or the copy that has them, or name the right folders: LETHE_CUSTODY_FOLDERS."
        )
    return None


def count_tombstones(connection: Connection[Any]) -> int:
    """How many tombstones the vault has."""
    row = connection.execute(COUNT_TOMBSTONES).fetchone()
    return int(row[0]) if row else 0


def require_lines(tombstones: int, lines: int, folders: Sequence[str]) -> None:
    """Raises `JournalLost` for a journal that is too short, with what to do."""
    if lines >= tombstones:
        return
    raise JournalLost(
        f"The vault has {tombstones:,} tombstones, and the journal in {', '.join(folders)} has {lines:,} lines: it "
        "was lost, or put back to an older state. Nothing is destroyed or served without it. Bring back "
        "tombstones.jsonl from the disk or the copy that has all of it. If there is none, and the vault was not "
        "restored since: lethe vault write-journal."
    )


def write_journal(vault: Pool, custody: Custody) -> int:
    """Note every tombstone of the vault in the journal once more; returns how many. A line too many does no harm."""
    noted, after = 0, _BEFORE_ALL
    while True:
        with vault.transaction() as connection:
            rows = connection.execute(SELECT_TOMBSTONES, (*after, TOMBSTONES_PER_READ)).fetchall()
        custody.note([_tombstone(*row) for row in rows])
        noted += len(rows)
        if len(rows) < TOMBSTONES_PER_READ:
            return noted
        after = rows[-1][:5]


def _tombstone(
    tenant: UUID,
    holder: bytes,
    retention_class: str,
    period: str,
    generation: int,
    when: datetime,
    cause: str,
    certificate: str | None,
) -> Tombstone:
    return Tombstone(tenant, bytes(holder), retention_class, period, generation, when, cause, certificate)
