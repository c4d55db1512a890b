"""What somebody can do to a log who may do anything to the ledger's database (FAULTS 18)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from audit.verify.merkle import leaf_hash
from audit.verify.tiles import GrowingTiles
from ledger.entry import canonical, pack_sealed, unpack_sealed

CONSTRAINTS = """
SELECT conrelid::regclass::text, conname FROM pg_constraint
WHERE connamespace = 'lethe'::regnamespace AND conrelid = ANY(%s::regclass[]) AND contype IN ('p', 'u', 'c')
"""
TABLES = ("event", "head", "log_series", "log_key", "log_tile", "log_checkpoint", "log_cosignature", "log_timestamp")


def unprotect(connection: Connection[Any]) -> None:
    """Drop every constraint, and every index with it, that stands in the way."""
    wanted = [f"lethe.{table}" for table in TABLES]
    for table, name in connection.execute(CONSTRAINTS, (wanted,)).fetchall():
        connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')


def rewrite(connection: Connection[Any], tenant: UUID, position: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what an entry says, and write it canonically."""
    entry = orjson.loads(_row(connection, tenant, position)[0])
    change(entry)
    _put(connection, tenant, position, canonical(entry), None)


def reseal(connection: Connection[Any], tenant: UUID, position: int) -> None:
    """Change a sealed part, and let its entry vouch for what it is now."""
    stored, sealed = _row(connection, tenant, position)
    entry, parts = orjson.loads(stored), unpack_sealed(sealed)
    name = next(iter(parts))
    parts[name] = parts[name][:-1] + bytes((parts[name][-1] ^ 1,))
    entry["sealed"][name] = sha256(parts[name]).hexdigest()
    _put(connection, tenant, position, canonical(entry), pack_sealed(parts))


def retile(connection: Connection[Any], tenant: UUID, size: int) -> None:
    """Make every tile anew from the rows."""
    tree, tiles = GrowingTiles(), []
    rows = connection.execute(
        "SELECT entry FROM lethe.event WHERE tenant_id = %s AND position <= %s ORDER BY position", (tenant, size)
    )
    for (entry,) in rows.fetchall():
        tiles += tree.append(leaf_hash(entry))
    connection.execute("DELETE FROM lethe.log_tile WHERE tenant_id = %s", (tenant,))
    for name, hashes in (*tiles, *tree.partial()):
        values = (tenant, name.level, name.number, hashes)
        connection.execute("INSERT INTO lethe.log_tile VALUES (%s, 1, %s, %s, %s)", values)


def cut(connection: Connection[Any], tenant: UUID, after: int) -> None:
    """Cut a log off behind a position, and move its head back to there."""
    connection.execute("DELETE FROM lethe.event WHERE tenant_id = %s AND position > %s", (tenant, after))
    connection.execute(
        """
        UPDATE lethe.head SET position = %(after)s, recorded_at = COALESCE(
            (SELECT recorded_at FROM lethe.event WHERE tenant_id = %(tenant)s AND position = %(after)s), '-infinity'
        ) WHERE tenant_id = %(tenant)s
        """,
        {"tenant": tenant, "after": after},
    )


def unpublish(connection: Connection[Any], tenant: UUID, after: int) -> None:
    """Take back everything that was published beyond a size which was signed; 0 takes back all of it."""
    for table in ("log_checkpoint", "log_cosignature", "log_timestamp"):
        connection.execute(f"DELETE FROM lethe.{table} WHERE tenant_id = %s AND size > %s", (tenant, after))
    connection.execute("UPDATE lethe.log_series SET size = %s WHERE tenant_id = %s", (after, tenant))
    retile(connection, tenant, after)
    # The keys that facts beyond it opened, and their word on those that were retired.
    connection.execute("DELETE FROM lethe.log_key WHERE tenant_id = %s AND generation > 1", (tenant,))
    connection.execute("UPDATE lethe.log_key SET retired_at = NULL WHERE tenant_id = %s", (tenant,))
    if after == 0:
        for table in ("log_series", "log_key"):
            connection.execute(f"DELETE FROM lethe.{table} WHERE tenant_id = %s", (tenant,))


def _row(connection: Connection[Any], tenant: UUID, position: int) -> tuple[bytes, bytes | None]:
    statement = "SELECT entry, sealed FROM lethe.event WHERE tenant_id = %s AND position = %s"
    row = connection.execute(statement, (tenant, position)).fetchone()
    assert row is not None
    return row[0], row[1]


def _put(connection: Connection[Any], tenant: UUID, position: int, entry: bytes, sealed: bytes | None) -> None:
    statement = (
        "UPDATE lethe.event SET entry = %s, sealed = COALESCE(%s, sealed) WHERE tenant_id = %s AND position = %s"
    )
    assert connection.execute(statement, (entry, sealed, tenant, position)).rowcount == 1
