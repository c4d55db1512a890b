"""What was published, as it stands in the database: series, keys, checkpoints, tiles, cosignatures and timestamps.

Every function takes a connection of the writer's or the rebuilder's role, or one whose search path is the reader's
views: no schema is named here, and every query passes the tenant. Nothing is written here; the sequencer and the
witnesses' client write. `series=None` is the newest series, which is the only one unless a loss was accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.log.errors import NothingPublished, TileMissing

HASH_BYTES: Final = 32
TILE_WIDTH: Final = 256
CHECKPOINTS_PER_PAGE: Final = 1_000

TileReader = Callable[[int, int, int], bytes]
"""(level, number, width) -> that many hashes, side by side."""

_SERIES = "(SELECT max(series) FROM log_series WHERE tenant_id = %(tenant)s)"
SELECT_TILE = f"""
SELECT substring(hashes FROM 1 FOR %(bytes)s) FROM log_tile
WHERE tenant_id = %(tenant)s AND series = COALESCE(%(series)s::smallint, {_SERIES})
  AND level = %(level)s AND number = %(number)s
"""
_COLUMNS = "c.tenant_id, c.series, s.origin, c.size, c.root, c.note, c.published_at"
_CHECKPOINTS = f"""
SELECT {_COLUMNS} FROM log_checkpoint c JOIN log_series s ON s.tenant_id = c.tenant_id AND s.series = c.series
WHERE c.tenant_id = %(tenant)s AND c.series = COALESCE(%(series)s::smallint, {_SERIES})
"""
SELECT_LATEST = f"{_CHECKPOINTS} ORDER BY c.size DESC LIMIT 1"
SELECT_AT = f"{_CHECKPOINTS} AND c.size = %(size)s"
SELECT_COVERING = f"{_CHECKPOINTS} AND c.size >= %(size)s ORDER BY c.size LIMIT 1"
SELECT_AFTER = f"{_CHECKPOINTS} AND c.size > %(size)s ORDER BY c.size LIMIT %(limit)s"
SELECT_SERIES = "SELECT series, origin, opened_at, size FROM log_series WHERE tenant_id = %s ORDER BY series"
SELECT_KEYS = """
SELECT generation, series, key_id, verifier_key, opened_at, retired_at FROM log_key
WHERE tenant_id = %s ORDER BY generation
"""
SELECT_COSIGNATURES = """
SELECT witness, line, cosigned_at FROM log_cosignature
WHERE tenant_id = %s AND series = %s AND size = %s ORDER BY witness
"""
SELECT_TIMESTAMPS = """
SELECT authority, token, stamped_at FROM log_timestamp
WHERE tenant_id = %s AND series = %s AND size = %s ORDER BY authority
"""


@dataclass(frozen=True, slots=True)
class PublishedCheckpoint:
    """A signed size and root. `note` is the signed note as text, without what witnesses added later."""

    tenant: UUID
    series: int
    origin: str
    size: int
    root: bytes
    note: str
    published_at: datetime


@dataclass(frozen=True, slots=True)
class LogSeries:
    """A run of checkpoints under one origin; `size` is how many leaves its tiles hold."""

    series: int
    origin: str
    opened_at: datetime
    size: int


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key that signs a series, or did: its verifier key, as Go's note package reads it, names the origin."""

    generation: int
    series: int
    key_id: str
    verifier_key: str
    opened_at: datetime
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Cosignature:
    """What a witness signed: its line of the note."""

    witness: str
    line: str
    cosigned_at: datetime


@dataclass(frozen=True, slots=True)
class Timestamp:
    """An RFC 3161 token over the SHA-256 of a checkpoint's text."""

    authority: str
    token: bytes
    stamped_at: datetime


def all_series(connection: Connection[Any], tenant: UUID) -> list[LogSeries]:
    """Every series of the tenant's log, oldest first; empty if nothing was ever published."""
    return [LogSeries(*row) for row in connection.execute(SELECT_SERIES, (tenant,))]


def log_keys(connection: Connection[Any], tenant: UUID) -> list[LogKey]:
    """Every key that ever signed this log, oldest first, retired ones too: what they signed stays signed."""
    return [LogKey(*row) for row in connection.execute(SELECT_KEYS, (tenant,))]


def tile(
    connection: Connection[Any], tenant: UUID, level: int, number: int, width: int, *, series: int | None = None
) -> bytes:
    """The first `width` hashes of a tile. Raises `TileMissing` if the log has no such tile, or not so wide."""
    if not (0 < width <= TILE_WIDTH and level >= 0 and number >= 0):
        raise TileMissing(f"A tile has 1 to {TILE_WIDTH} hashes.")
    wanted = {"tenant": tenant, "series": series, "level": level, "number": number, "bytes": width * HASH_BYTES}
    row = connection.execute(SELECT_TILE, wanted, binary=True).fetchone()
    if row is None or len(row[0]) != width * HASH_BYTES:
        raise TileMissing(f"The log has no tile {number} of {width} hashes at level {level}.")
    return bytes(row[0])


def tile_reader(connection: Connection[Any], tenant: UUID, *, series: int | None = None) -> TileReader:
    """`tile` for one tenant, as `audit.verify.tiles` asks for it."""
    return lambda level, number, width: tile(connection, tenant, level, number, width, series=series)


def latest_checkpoint(
    connection: Connection[Any], tenant: UUID, *, series: int | None = None
) -> PublishedCheckpoint | None:
    """The last checkpoint that was published, None if there is none yet."""
    return _one(connection, SELECT_LATEST, tenant, series)


def require_checkpoint(connection: Connection[Any], tenant: UUID, *, series: int | None = None) -> PublishedCheckpoint:
    """As `latest_checkpoint`. Raises `NothingPublished`."""
    found = latest_checkpoint(connection, tenant, series=series)
    if found is None:
        raise NothingPublished("Nothing of this account's log was published yet. The worker does that: lethe worker.")
    return found


def checkpoint_at(
    connection: Connection[Any], tenant: UUID, size: int, *, series: int | None = None
) -> PublishedCheckpoint | None:
    """The checkpoint of exactly this size, None if none was signed."""
    return _one(connection, SELECT_AT, tenant, series, size=size)


def checkpoint_covering(
    connection: Connection[Any], tenant: UUID, position: int, *, series: int | None = None
) -> PublishedCheckpoint | None:
    """The first checkpoint that holds the event at this position, None if it is not published yet."""
    return _one(connection, SELECT_COVERING, tenant, series, size=position)


def checkpoints(
    connection: Connection[Any], tenant: UUID, *, after: int = 0, series: int | None = None
) -> Iterator[PublishedCheckpoint]:
    """Every checkpoint with a size above `after`, smallest first, read in keyset pages."""
    while True:
        wanted = {"tenant": tenant, "series": series, "size": after, "limit": CHECKPOINTS_PER_PAGE}
        rows = connection.execute(SELECT_AFTER, wanted, binary=True).fetchall()
        yield from map(_checkpoint, rows)
        if len(rows) < CHECKPOINTS_PER_PAGE:
            return
        after = rows[-1][3]


def cosignatures(connection: Connection[Any], checkpoint: PublishedCheckpoint) -> list[Cosignature]:
    """What witnesses signed about a checkpoint, in order of their names."""
    values = (checkpoint.tenant, checkpoint.series, checkpoint.size)
    return [Cosignature(*row) for row in connection.execute(SELECT_COSIGNATURES, values, binary=True)]


def timestamps(connection: Connection[Any], checkpoint: PublishedCheckpoint) -> list[Timestamp]:
    """The time-stamp tokens of a checkpoint, in order of their authorities."""
    values = (checkpoint.tenant, checkpoint.series, checkpoint.size)
    rows = connection.execute(SELECT_TIMESTAMPS, values, binary=True)
    return [Timestamp(authority, bytes(token), stamped_at) for authority, token, stamped_at in rows]


def cosigned_note(connection: Connection[Any], checkpoint: PublishedCheckpoint) -> str:
    """The signed note with every witness's line behind our own."""
    lines = [cosignature.line for cosignature in cosignatures(connection, checkpoint)]
    return checkpoint.note + "".join(f"{line}\n" for line in lines)


def _one(
    connection: Connection[Any], statement: str, tenant: UUID, series: int | None, *, size: int = 0
) -> PublishedCheckpoint | None:
    wanted = {"tenant": tenant, "series": series, "size": size}
    row = connection.execute(statement, wanted, binary=True).fetchone()
    return None if row is None else _checkpoint(row)


def _checkpoint(row: tuple[Any, ...]) -> PublishedCheckpoint:
    tenant, series, origin, size, root, note, published_at = row
    return PublishedCheckpoint(tenant, series, origin, size, bytes(root), bytes(note).decode(), published_at)
