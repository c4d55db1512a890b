"""Mending tiles: those that do not hold what was signed are made anew from the events (docs/adr/0041).

A tile is a function of events, so a damaged one loses nothing, as long as the events are those that were signed. That
is found out first, by the whole check of `fsck`, which here sets wrong tiles aside and raises over everything else:
every root that was published or kept has to come out of the rows. What the tiles have to hold is written down on the
way, in a file without a name, so nothing has to be computed twice and memory stays flat.

Writing needs the connection of the owner: the program's own roles can take no tile away. Each transaction holds the
rows of the log's series, as the sequencer does, and writes tiles that are right by themselves. Killed anywhere, the
next run finds what is left.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg import Connection

from audit.fsck.check import Outside, Told, Whole, require_whole_log
from audit.fsck.tiles import WITH_WIDTH, StoredTiles, TileRule
from audit.fsck.tree import TILE_BYTES
from audit.verify.merkle import HASH_BYTES
from audit.verify.tiles import TileName, width_at
from ledger.errors import LedgerError, SettingsRefused, Unavailable

TILES_PER_TRANSACTION: Final = 256
"""Who needs it: the sequencer, which passes the log by while its rows are held: some tens of milliseconds."""

TILES_SHOWN_MAX: Final = 10
"""Who needs it: a person who reads the plan; the rest is counted."""

LOCK_SECONDS_MAX: Final = 30
"""How long the sequencer is waited for."""

RECORD: Final = struct.Struct(">hhqh")
"""Series, level, number and width, before the hashes."""

COUNT_SURPLUS = f"SELECT count(*) FROM ({WITH_WIDTH}) AS t WHERE width = 0"
# Growing tiles that go on behind the end of the tree: with the table's key in place there is one for each level.
SELECT_LONG = f"""
SELECT series, level, number, width, substring(hashes FOR 32 * width)
FROM ({WITH_WIDTH}) AS t WHERE width > 0 AND stored > 32 * width AND stored <= {TILE_BYTES} LIMIT 100
"""
HOLD_SERIES = "SELECT series, size FROM lethe.log_series WHERE tenant_id = %s ORDER BY series FOR UPDATE"
MAY_TAKE_AWAY = "SELECT has_table_privilege('lethe.log_tile', 'DELETE')"
TAKE_AWAY = """
DELETE FROM lethe.log_tile t USING unnest(%s::smallint[], %s::smallint[], %s::bigint[]) AS n(series, level, number)
WHERE t.tenant_id = %s AND t.series = n.series AND t.level = n.level AND t.number = n.number
"""
PUT = """
INSERT INTO lethe.log_tile (tenant_id, series, level, number, hashes)
SELECT %s, n.series, n.level, n.number, n.hashes
FROM unnest(%s::smallint[], %s::smallint[], %s::bigint[], %s::bytea[]) AS n(series, level, number, hashes)
"""
TAKE_SURPLUS_AWAY = f"""
DELETE FROM lethe.log_tile WHERE ctid = ANY(ARRAY(SELECT t.ctid FROM ({WITH_WIDTH}) AS t WHERE width = 0 LIMIT %s))
"""


class LogMovedOn(LedgerError):
    """The log was published further behind a tile that was to be mended: what was planned is too short now."""


class RightTile(NamedTuple):
    """What a tile of a series has to hold."""

    series: int
    name: TileName
    hashes: bytes


@dataclass(slots=True)
class TilePlan:
    """What mending does: tiles that hold something else, that are not there, and that should not be there.

    `first` are the first tiles of the first two kinds; `tiles` reads all of them.
    """

    tenant: UUID
    _file: IO[bytes]
    damaged: int = 0
    missing: int = 0
    surplus: int = 0
    first: list[RightTile] = field(default_factory=list)
    whole: Whole = field(init=False)

    @property
    def count(self) -> int:
        """How many tiles are wrong."""
        return self.damaged + self.missing + self.surplus

    def set_aside(self, tile: RightTile) -> None:
        """Write down what a tile has to hold."""
        if len(self.first) < TILES_SHOWN_MAX:
            self.first.append(tile)
        name = tile.name
        self._file.write(RECORD.pack(tile.series, name.level, name.number, name.width) + tile.hashes)

    def tiles(self) -> Iterator[RightTile]:
        """Every tile to be written, in the order in which they were found."""
        self._file.seek(0)
        while head := self._file.read(RECORD.size):
            series, level, number, width = RECORD.unpack(head)
            yield RightTile(series, TileName(level, number, width), self._file.read(width * HASH_BYTES))


@contextmanager
def tile_plan(
    source: Connection[Any] | str, tenant: UUID, outside: Outside | None = None, *, told: Told | None = None
) -> Iterator[TilePlan]:
    """What is wrong with a log's tiles, for the length of the block. Changes nothing.

    Raises `LogLies` where anything else is wrong: then the tiles are all that tells what was published.
    """
    with TemporaryFile() as file:
        plan = TilePlan(tenant, file)
        plan.whole = require_whole_log(source, tenant, outside, told=told, tiles=_SettingAside(plan))
        yield plan


def mend(owner_url: str, plan: TilePlan, *, begun: Callable[[], None], told: Told) -> None:
    """Write what a plan says. `begun` is called before the first tile is written, and records that.

    Raises `SettingsRefused` for a role that may not write, and `LogMovedOn`.
    """
    total, done = plan.count, 0
    with _owning(owner_url) as connection:
        begun()
        tiles = plan.tiles()
        while batch := list(islice(tiles, TILES_PER_TRANSACTION)):
            with connection.transaction():
                _write(connection, plan.tenant, batch)
            done += len(batch)
            told(done, total)
        while taken := _take_surplus_away(connection, plan.tenant):
            done += taken
            told(done, max(done, total))


def _write(connection: Connection[Any], tenant: UUID, batch: Sequence[RightTile]) -> None:
    """Put these tiles in the place of whatever stands there; twice in the same place, too."""
    sizes = dict(connection.execute(HOLD_SERIES, (tenant,)).fetchall())
    for series, name, _ in batch:
        if width_at(name.level, name.number, sizes.get(series, 0)) != name.width:
            raise LogMovedOn("The log was published further meanwhile. What was written is right; run it again.")
    columns = (
        [tile.series for tile in batch],
        [tile.name.level for tile in batch],
        [tile.name.number for tile in batch],
    )
    connection.execute(TAKE_AWAY, (*columns, tenant))
    connection.execute(PUT, (tenant, *columns, [tile.hashes for tile in batch]))


def _take_surplus_away(connection: Connection[Any], tenant: UUID) -> int:
    with connection.transaction():
        connection.execute(HOLD_SERIES, (tenant,))
        return connection.execute(TAKE_SURPLUS_AWAY, (tenant, TILES_PER_TRANSACTION)).rowcount


@contextmanager
def _owning(owner_url: str) -> Iterator[Connection[Any]]:
    """A connection of a role that may take tiles away."""
    try:
        with psycopg.connect(owner_url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(f"SET lock_timeout = '{LOCK_SECONDS_MAX}s'")
            may = connection.execute(MAY_TAKE_AWAY).fetchone()
            if may is None or not may[0]:
                raise SettingsRefused(
                    "Mending runs as the owner of the ledger's database, as migrations do: LETHE_LEDGER_OWNER_URL "
                    "signs in as a role that may not take a tile away."
                )
            yield connection
    except psycopg.errors.LockNotAvailable:
        raise Unavailable(
            f"Somebody has held the log for {LOCK_SECONDS_MAX} seconds. What was written is right; run it again."
        ) from None


class _SettingAside(TileRule):
    """Wrong tiles go into a plan."""

    def __init__(self, plan: TilePlan) -> None:
        self._plan = plan

    def of_series(self, connection: Connection[Any], tenant: UUID, series: int, size: int) -> StoredTiles:
        return _Mendable(connection, tenant, series, size, self._plan)

    def require_no_other(self, connection: Connection[Any], tenant: UUID) -> None:
        row = connection.execute(COUNT_SURPLUS, (tenant,)).fetchone()
        self._plan.surplus = row[0] if row else 0
        planned = {(tile.series, tile.name) for tile in self._plan.tiles() if tile.name.width * HASH_BYTES < TILE_BYTES}
        for series, level, number, width, hashes in connection.execute(SELECT_LONG, (tenant,), binary=True).fetchall():
            # As far as the tree goes it holds what the rows give, or it was set aside before.
            tile = RightTile(series, TileName(level, number, width), bytes(hashes))
            if (series, tile.name) not in planned:
                self._plan.damaged += 1
                self._plan.set_aside(tile)


class _Mendable(StoredTiles):
    """The tiles of one series; a wrong one is no lie."""

    def __init__(self, connection: Connection[Any], tenant: UUID, series: int, size: int, plan: TilePlan) -> None:
        super().__init__(connection, tenant, series, size)
        self._plan = plan

    def _compare_one(self, name: TileName, made: bytes, stored: bytes | None) -> None:
        width = width_at(name.level, name.number, self._size)
        if stored is None:
            self._plan.missing += 1
        elif _holds(stored, made, width):
            return
        else:
            self._plan.damaged += 1
        self._plan.set_aside(
            RightTile(self._series, TileName(name.level, name.number, width), made[: width * HASH_BYTES])
        )

    def _twice(self, level: int, number: int) -> bytes:
        return b""  # Whatever both of them hold, they make way for one.


def _holds(stored: bytes, made: bytes, width: int) -> bool:
    """Whether a stored tile begins as it was published, and goes on, if the log has grown since, as the rows do."""
    common = min(len(made), len(stored))
    sound = width * HASH_BYTES <= len(stored) <= TILE_BYTES and not len(stored) % HASH_BYTES
    return sound and made[:common] == stored[:common]
