"""Backup: both databases into one encrypted file, account by account, in short transactions.

The ledger goes first and the vault after it, so that every key an event needs is in the file: keys are made durably
before the append that needs them, and what was destroyed in between left a tombstone. The tables of one account are
read in one short snapshot; its events, which never change, window by window after it. One long snapshot over
everything would halve the speed of the head's commits.

Every table is taken as the database lists it, so that a table added later is not forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import orjson
from psycopg import Connection, IsolationLevel, sql

from ledger.backup.file import DATA, END, PART, SUMMARY, BackupWriter
from ledger.connections import Pool
from ledger.custody.provider import EpochKeyProvider

LEDGER: Final = "ledger"
VAULT: Final = "vault"
SCHEMAS: Final = {LEDGER: "lethe", VAULT: "lethe_vault"}
EVENT_TABLE: Final = "event"
NOT_TAKEN: Final = frozenset({"migration", "restore_gate"})
"""What belongs to a database and not to what it holds."""

EVENTS_PER_WINDOW: Final = 50_000
"""Events per transaction: about 30 MB, a fraction of a second."""

SELECT_TABLES = """
SELECT c.table_name::text, array_agg(c.column_name::text ORDER BY c.ordinal_position)
FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
WHERE c.table_schema = %s AND t.table_type = 'BASE TABLE' GROUP BY c.table_name ORDER BY c.table_name
"""
SELECT_TENANTS = sql.SQL("SELECT DISTINCT tenant_id FROM {}")
SELECT_HEAD = "SELECT position, recorded_at FROM lethe.head WHERE tenant_id = %s"
SELECT_ENTRY = "SELECT entry FROM lethe.event WHERE tenant_id = %s AND position = %s"

Progress = Callable[[str, int], None]
"""Told after each part: the database and how many rows that was."""


@dataclass(frozen=True, slots=True)
class Database:
    """One of the two databases: its name, its schema and connections to it."""

    name: str
    pool: Pool

    @property
    def schema(self) -> str:
        return SCHEMAS[self.name]


@dataclass(slots=True)
class BackupSummary:
    """What a backup holds: rows by table, and the head of each account (position, SHA-256 of the entry there)."""

    backup_id: str
    created_at: datetime
    epoch: int
    rows: dict[str, int] = field(default_factory=dict)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    notes: int = 0

    def count(self, database: str, table: str, rows: int) -> None:
        """Add the rows of one part."""
        name = f"{database}.{table}"
        self.rows[name] = self.rows.get(name, 0) + rows


def write_backup(
    path: Path,
    databases: tuple[Database, Database],
    provider: EpochKeyProvider,
    *,
    now: datetime,
    notes: int,
    progress: Progress | None = None,
) -> BackupSummary:
    """Write a backup of the ledger and the vault to `path`, which appears only when it is whole and on disk.

    `notes` is how many tombstones the journal outside the databases holds now.
    """
    summary = BackupSummary(str(uuid4()), now, provider.current(), notes=notes)
    staged = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            writer = BackupWriter(out, provider, summary.backup_id, now)
            for database in databases:
                _take(writer, database, summary, progress)
            writer.item(SUMMARY, orjson.dumps(_told(summary)))
            writer.close()
            os.fsync(out.fileno())
        os.link(staged, path)
    finally:
        staged.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return summary


def _take(writer: BackupWriter, database: Database, summary: BackupSummary, progress: Progress | None) -> None:
    with database.pool.transaction() as connection:
        tables = _tables(connection, database)
        tenants = _tenants(connection, database, tables)
    # The book of epochs goes before the wraps: should a roll overtake the copy, the file says less of it than it holds,
    # and a restored vault is rolled again. The other way round it would hold wraps of an epoch that it calls rolled.
    with _snapshot(database) as connection:
        for table, columns in tables.items():
            if "tenant_id" not in columns:
                _copy(writer, connection, database, table, columns, sql.SQL(""), summary, progress)
    for tenant in tenants:
        _take_tenant(writer, database, tables, tenant, summary, progress)


def _take_tenant(
    writer: BackupWriter,
    database: Database,
    tables: dict[str, list[str]],
    tenant: UUID,
    summary: BackupSummary,
    progress: Progress | None,
) -> None:
    of_tenant = sql.SQL("WHERE tenant_id = {}").format(sql.Literal(tenant))
    position = 0
    with _snapshot(database) as connection:
        if database.name == LEDGER:
            position = _take_head(connection, tenant, summary)
        for table, columns in tables.items():
            if "tenant_id" in columns and table != EVENT_TABLE:
                _copy(writer, connection, database, table, columns, of_tenant, summary, progress)
    if database.name != LEDGER:
        return
    for start in range(0, position, EVENTS_PER_WINDOW):
        window = sql.SQL("{} AND position > {} AND position <= {} ORDER BY position").format(
            of_tenant, sql.Literal(start), sql.Literal(min(start + EVENTS_PER_WINDOW, position))
        )
        with database.pool.transaction() as connection:
            _copy(writer, connection, database, EVENT_TABLE, tables[EVENT_TABLE], window, summary, progress)


def _take_head(connection: Connection[Any], tenant: UUID, summary: BackupSummary) -> int:
    row = connection.execute(SELECT_HEAD, (tenant,)).fetchone()
    position = int(row[0]) if row else 0
    summary.heads[str(tenant)] = (position, entry_digest(connection, tenant, position))
    return position


def entry_digest(connection: Connection[Any], tenant: UUID, position: int) -> str:
    """SHA-256 (hex) of the entry at a position; empty where there is none."""
    row = connection.execute(SELECT_ENTRY, (tenant, position)).fetchone()
    return sha256(row[0]).hexdigest() if row else ""


def _copy(
    writer: BackupWriter,
    connection: Connection[Any],
    database: Database,
    table: str,
    columns: list[str],
    where: sql.Composable,
    summary: BackupSummary,
    progress: Progress | None,
) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    source = sql.Identifier(database.schema, table)
    statement = sql.SQL("COPY (SELECT {} FROM {} {}) TO STDOUT (FORMAT BINARY)").format(names, source, where)
    writer.item(PART, orjson.dumps({"database": database.name, "table": table, "columns": columns}))
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for block in copy:
                writer.item(DATA, block)
        rows = max(cursor.rowcount, 0)
    writer.item(END, orjson.dumps({"rows": rows}))
    summary.count(database.name, table, rows)
    if progress is not None:
        progress(database.name, rows)


@contextmanager
def _snapshot(database: Database) -> Iterator[Connection[Any]]:
    """One short transaction that sees one moment of the database, and writes nothing."""
    with database.pool.connection() as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        try:
            with connection.transaction():
                connection.execute("SET TRANSACTION READ ONLY")
                yield connection
        finally:
            connection.isolation_level = IsolationLevel.READ_COMMITTED


def _tables(connection: Connection[Any], database: Database) -> dict[str, list[str]]:
    rows = connection.execute(SELECT_TABLES, (database.schema,)).fetchall()
    return {str(table): [str(c) for c in columns] for table, columns in rows if table not in NOT_TAKEN}


def _tenants(connection: Connection[Any], database: Database, tables: dict[str, list[str]]) -> list[UUID]:
    """Every tenant that any table names, so that what a closed account left is taken as well."""
    found: set[UUID] = set()
    for table, columns in tables.items():
        if "tenant_id" in columns and table != EVENT_TABLE:
            names = sql.Identifier(database.schema, table)
            found.update(row[0] for row in connection.execute(SELECT_TENANTS.format(names)))
    return sorted(found)


def _told(summary: BackupSummary) -> dict[str, Any]:
    return {
        "backup_id": summary.backup_id,
        "created_at": summary.created_at.isoformat(),
        "epoch": summary.epoch,
        "rows": summary.rows,
        "heads": {tenant: list(head) for tenant, head in summary.heads.items()},
        "notes": summary.notes,
    }


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
