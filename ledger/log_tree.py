"""Leaves and tiles of a tenant's transparency log, as the database holds them.

The hash of a leaf is made by PostgreSQL (`sha256('\\x00' || entry)`), so that entries do not travel: of 64,000 events
two megabytes come out (docs/adr/0028). Whoever asks for a section of the log gets exactly as many hashes as positions,
or an error: a gap is an incident.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.growing_tree import TILE_WIDTH, GrowingTree, ReadTile
from domain.merkle import HASH_BYTES
from ledger.errors import TamperError

LEAVES_PER_READ: Final = 65_536
"""Leaves hashed by one statement: some tens of milliseconds, and two megabytes of hashes."""

# One short index scan for each tile: no plan can sort or hash the whole section.
SELECT_LEAVES = f"""
SELECT t.number, h.leaves, h.hashes
FROM generate_series(%(after)s::bigint / {TILE_WIDTH}, (%(last)s::bigint - 1) / {TILE_WIDTH}) AS t(number), LATERAL (
    SELECT count(*) AS leaves, string_agg(sha256('\\x00'::bytea || entry), ''::bytea ORDER BY position) AS hashes
    FROM lethe.event
    WHERE tenant_id = %(tenant)s AND position > greatest(t.number * {TILE_WIDTH}, %(after)s::bigint)
        AND position <= least((t.number + 1) * {TILE_WIDTH}, %(last)s::bigint)
) AS h ORDER BY t.number
"""
SELECT_TILE = """
SELECT substring(hashes FROM 1 FOR %s) FROM lethe.log_tile
WHERE tenant_id = %s AND series = %s AND level = %s AND number = %s
"""
SELECT_TILED = "SELECT size FROM lethe.log_series WHERE tenant_id = %s AND series = %s"


def leaf_hashes(connection: Connection[Any], tenant: UUID, after: int, last: int) -> bytes:
    """The hashes of the leaves at positions after `after` and up to `last`, side by side; at most `LEAVES_PER_READ`.

    Raises `TamperError` where an event is missing.
    """
    if not 0 <= after <= last or last - after > LEAVES_PER_READ:
        raise ValueError(f"A section of the log has up to {LEAVES_PER_READ} leaves.")
    if after == last:
        return b""
    wanted = {"tenant": tenant, "after": after, "last": last}
    found = []
    for number, leaves, hashes in connection.execute(SELECT_LEAVES, wanted, binary=True):
        begin, end = max(number * TILE_WIDTH, after), min((number + 1) * TILE_WIDTH, last)
        if leaves != end - begin:
            raise TamperError(
                f"The log of {tenant} lacks {end - begin - leaves} of its events between {begin + 1} and {end}. "
                "This is an incident: see lethe fsck, and restore a backup of the real log."
            )
        found.append(hashes)
    return b"".join(found)


def sections(after: int, last: int) -> Iterator[tuple[int, int]]:
    """The section (after, last] in pieces that `leaf_hashes` takes, each as (after, last)."""
    while after < last:
        end = min(after + LEAVES_PER_READ, last)
        yield after, end
        after = end


def tile_reader(connection: Connection[Any], tenant: UUID, series: int) -> ReadTile:
    """Tiles of one series as they are stored. Reading raises `TamperError` for one that is missing or too short."""

    def read(level: int, number: int, width: int) -> bytes:
        values = (width * HASH_BYTES, tenant, series, level, number)
        row = connection.execute(SELECT_TILE, values, binary=True).fetchone()
        if row is None or len(row[0]) != width * HASH_BYTES:
            raise TamperError(
                f"Tile {number} of level {level} of the log of {tenant} is missing or too short. See: lethe fsck."
            )
        return bytes(row[0])

    return read


def tree_at(connection: Connection[Any], tenant: UUID, series: int, size: int) -> GrowingTree:
    """The tree of a size: from the tiles as far as they go, and from the events behind them."""
    row = connection.execute(SELECT_TILED, (tenant, series)).fetchone()
    tiled = min(row[0] if row else 0, size)
    if tiled < 0:
        raise TamperError(f"The log of {tenant} is said to have {tiled} leaves. See: lethe fsck.")
    tree = GrowingTree(tiled, tile_reader(connection, tenant, series))
    for after, last in sections(tiled, size):
        tree.extend(leaf_hashes(connection, tenant, after, last))
    return tree


def root_of_events(connection: Connection[Any], tenant: UUID, size: int) -> bytes:
    """The root over the first events of a log, from the events alone: no tile is believed."""
    tree = GrowingTree()
    for after, last in sections(0, size):
        tree.extend(leaf_hashes(connection, tenant, after, last))
    return tree.root()
