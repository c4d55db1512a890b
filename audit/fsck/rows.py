"""The rows of a log in windows of positions, as the database has them: nothing in them is believed yet.

A window asks for a range of positions and never for "the next so many": a row that stands twice, or one that is
missing, cannot hide at an edge between two questions. Each window is a short transaction of its own (binary COPY,
which streams), so that a check of hours holds no snapshot. The bytes of ids and times are taken as they are.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Final, cast
from uuid import UUID

from psycopg import Connection

from ledger.entry import ENTRY_BYTES_MAX

ROWS_PER_WINDOW: Final = 64 * 256
"""Whole tiles of the Merkle tree. Who needs it: memory, as the leaf hashes of one window are held (half a megabyte)."""

Row = tuple[int, Any, Any, Any, Any, Any, bytes | None]
"""Position, stream (16 bytes), version, topic, recorded_at (8 bytes, microseconds since 2000), entry, sealed parts.

An entry that is longer than any may be is left in the database, and None. So may be whatever has lost its constraint.
"""

COPY_WINDOW = """
COPY (
    SELECT position, stream_id, version, topic, recorded_at,
        CASE WHEN octet_length(entry) <= %s THEN entry END, sealed
    FROM lethe.event
    WHERE tenant_id = %s AND position BETWEEN %s AND %s ORDER BY position
) TO STDOUT (FORMAT BINARY)
"""
TYPES: Final = ("int8", "bytea", "int4", "text", "bytea", "bytea", "bytea")


def window(connection: Connection[Any], tenant: UUID, first: int, last: int) -> Generator[Row, None, None]:
    """Every row between these positions, both included, in order of position. Close it, wherever reading ends."""
    with connection.cursor().copy(COPY_WINDOW, (ENTRY_BYTES_MAX, tenant, first, last)) as copy:
        copy.set_types(TYPES)
        yield from cast(Iterator[Row], copy.rows())
