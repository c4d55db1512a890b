"""Restore: a backup into empty databases, which stay shut behind it.

The whole file is read and checked before the first row is written, so that a damaged backup changes nothing. Each
part goes in with a transaction of its own, and the gate of each database is shut with its first; a restore that was
cut off leaves a database that serves nothing and takes no second one: make it anew and restore again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from psycopg import Connection, Copy, sql

from ledger.backup.file import DATA, END, PART, SUMMARY, BackupHeader, BackupReader, BackupRefused
from ledger.backup.writing import LEDGER, Database, Progress
from ledger.custody.provider import EpochKeyProvider

COUNT_ROWS = {
    LEDGER: "SELECT count(*) FROM (SELECT 1 FROM lethe.head LIMIT 1) AS t",
    "vault": "SELECT count(*) FROM (SELECT 1 FROM lethe_vault.wrapped_key LIMIT 1) AS t",
}
SHUT = sql.SQL("INSERT INTO {} (shut_at, backup_id, taken_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING")


class NotEmpty(BackupRefused):
    """The database that a backup is to go into holds something already."""


def read_summary(path: Path, provider: EpochKeyProvider) -> dict[str, Any]:
    """Read a whole backup and check every byte of it; what it says of itself. Raises `BackupRefused`."""
    summary: dict[str, Any] | None = None
    with path.open("rb") as source:
        for kind, payload in BackupReader(source, provider).items():
            if kind == SUMMARY:
                summary = orjson.loads(payload)
    if summary is None:
        raise BackupRefused("This backup has no summary. Use another one; nothing was restored from it.")
    return summary


def restore(
    path: Path,
    databases: Sequence[Database],
    provider: EpochKeyProvider,
    *,
    now: datetime,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Restore these databases (one or both) from a backup and leave them shut; returns the backup's summary.

    Raises `BackupRefused` and `NotEmpty` before anything is written.
    """
    for database in databases:
        _require_empty(database)
    summary = read_summary(path, provider)
    by_name = {database.name: database for database in databases}
    with path.open("rb") as source:
        reader = BackupReader(source, provider)
        for database in databases:
            _shut(database, reader.header, now)
        _fill(reader, by_name, progress)
    return summary


def _require_empty(database: Database) -> None:
    with database.pool.transaction() as connection:
        row = connection.execute(COUNT_ROWS[database.name].encode()).fetchone()
    if row is not None and row[0]:
        raise NotEmpty(
            f"The {database.name}'s database holds data already. A backup is restored into an empty one: create a new "
            "database, point the URL at it, run lethe migrate, and restore again. Nothing was changed."
        )


def _shut(database: Database, header: BackupHeader, now: datetime) -> None:
    gate = sql.Identifier(database.schema, "restore_gate")
    with database.pool.transaction() as connection:
        connection.execute(SHUT.format(gate), (now, header.backup_id, header.created_at))


def _fill(reader: BackupReader, databases: dict[str, Database], progress: Progress | None) -> None:
    items = reader.items()
    for kind, payload in items:
        if kind != PART:
            continue
        part = orjson.loads(payload)
        database = databases.get(part["database"])
        if database is None:
            _skip(items)
            continue
        with database.pool.transaction() as connection:
            rows = _fill_part(connection, database, part, items)
        if progress is not None:
            progress(database.name, rows)


def _skip(items: Iterator[tuple[int, bytes]]) -> None:
    for kind, _ in items:
        if kind == END:
            return


def _fill_part(
    connection: Connection[Any], database: Database, part: dict[str, Any], items: Iterator[tuple[int, bytes]]
) -> int:
    names = sql.SQL(", ").join(map(sql.Identifier, part["columns"]))
    table = sql.Identifier(database.schema, part["table"])
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, names)
    with connection.cursor().copy(statement) as copy:
        return _pour(copy, items)


def _pour(copy: Copy, items: Iterator[tuple[int, bytes]]) -> int:
    for kind, payload in items:
        if kind == END:
            return int(orjson.loads(payload)["rows"])
        if kind == DATA:
            copy.write(payload)
    raise BackupRefused("A part of this backup has no end.")
