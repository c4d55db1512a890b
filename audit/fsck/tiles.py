"""The stored tiles against those that the rows give: every tile of every level, and none that should not be there.

Where the two differ in a leaf, the position is known exactly. Who lies, the row or the tile, is told by what was made
from the leaf when it was published: the hash a level above, or the signed root.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from psycopg import Connection

from audit.fsck.lies import Lie, LogLies
from audit.fsck.tree import TILE_BYTES, tile_root
from audit.verify.errors import TileRefused
from audit.verify.merkle import HASH_BYTES
from audit.verify.tiles import TILE_HEIGHT, TILE_WIDTH, TileName, Tiles, width_at

SELECT_TILES = """
SELECT number, hashes FROM lethe.log_tile
WHERE tenant_id = %s AND series = %s AND level = %s AND number BETWEEN %s AND %s ORDER BY number
"""
# How many hashes a stored tile has to have at the size that its series has in the same moment; 0 where there is none.
WITH_WIDTH = """
SELECT t.ctid, t.series, t.level, t.number, t.hashes, octet_length(t.hashes) AS stored, CASE
    WHEN t.level NOT BETWEEN 0 AND 7 OR t.number < 0 THEN 0
    ELSE least(256, greatest(0, (coalesce(s.size, 0) >> (8 * least(7, greatest(0, t.level)))) - t.number * 256))
END AS width
FROM lethe.log_tile t LEFT JOIN lethe.log_series s ON s.tenant_id = t.tenant_id AND s.series = t.series
WHERE t.tenant_id = %s
"""
SELECT_ODD = f"""
SELECT series, level, number, stored FROM ({WITH_WIDTH}) AS t WHERE stored <> 32 * width
ORDER BY series, level, number LIMIT 1
"""
SELECT_ROOT = """
SELECT size, root FROM lethe.log_checkpoint WHERE tenant_id = %s AND series = %s ORDER BY size DESC LIMIT 1
"""


class StoredTiles:
    """The tiles of one series, which had `size` leaves when the check began. `count` says how many were compared."""

    def __init__(self, connection: Connection[Any], tenant: UUID, series: int, size: int) -> None:
        self.count = 0
        self._connection = connection
        self._tenant = tenant
        self._series = series
        self._size = size

    def compare(self, tiles: Iterable[tuple[TileName, bytes]]) -> None:
        """Raise `LogLies` unless these tiles, made from the rows, are stored as far as the series had come."""
        levels: dict[int, list[tuple[TileName, bytes]]] = {}
        for name, hashes in tiles:
            if width_at(name.level, name.number, self._size):
                levels.setdefault(name.level, []).append((name, hashes))
        for level in sorted(levels):
            made = levels[level]
            stored = self._read(level, made[0][0].number, made[-1][0].number)
            for name, hashes in made:
                self._compare_one(name, hashes, stored.get(name.number))
                self.count += 1

    def _compare_one(self, name: TileName, made: bytes, stored: bytes | None) -> None:
        width = width_at(name.level, name.number, self._size)
        if stored is None or len(stored) < width * HASH_BYTES:
            found = 0 if stored is None else len(stored) // HASH_BYTES
            text = f"Tile {name.number} of level {name.level} is not stored as wide as it was published."
            raise LogLies(Lie(_first(name, found), "tile", text, None, f"{width} hashes", f"{found} hashes"))
        common = min(len(made), len(stored))
        if len(stored) % HASH_BYTES or made[:common] != stored[:common]:
            raise LogLies(self._difference(name, made, stored))

    def _difference(self, name: TileName, made: bytes, stored: bytes) -> Lie:
        at = next(
            (
                at
                for at in range(0, min(len(made), len(stored)), HASH_BYTES)
                if made[at : at + 32] != stored[at : at + 32]
            ),
            len(stored) // HASH_BYTES * HASH_BYTES,
        )
        position = _first(name, at // HASH_BYTES)
        expected, found = made[at : at + HASH_BYTES].hex(), stored[at : at + HASH_BYTES].hex()
        if name.level:
            text = f"Tile {name.number} of level {name.level} is not what the tiles below it give, from here on."
            return Lie(position, "tile", text, None, f"hash {expected}", f"hash {found}")
        if self._was_published(name, stored, position):
            text = "The event is not the one that was published: its row was changed."
            return Lie(position, "entry", text, None, f"leaf {found}", f"leaf {expected}")
        text = "The tile of the published log does not hold the event that stands here."
        return Lie(position, "tile", text, None, f"leaf {expected}", f"leaf {found}")

    def _was_published(self, name: TileName, leaves: bytes, position: int) -> bool:
        """Whether the stored leaves lead to what was made of them: the hash above, or the root that was signed last,
        if it covers this position."""
        if len(leaves) == TILE_BYTES:
            above, index = divmod(name.number, TILE_WIDTH)
            parent = self._read(name.level + 1, above, above).get(above, b"")
            return parent[index * HASH_BYTES : (index + 1) * HASH_BYTES] == tile_root(leaves)
        size, root = self._connection.execute(SELECT_ROOT, (self._tenant, self._series)).fetchone() or (0, None)
        try:
            return position <= size and Tiles(self._tile).root(size) == root
        except TileRefused:
            return False

    def _tile(self, level: int, number: int, width: int) -> bytes:
        return self._read(level, number, number).get(number, b"")[: width * HASH_BYTES]

    def _read(self, level: int, first: int, last: int) -> dict[int, bytes]:
        wanted = (self._tenant, self._series, level, first, last)
        found: dict[int, bytes] = {}
        for number, hashes in self._connection.execute(SELECT_TILES, wanted, binary=True):
            found[number] = self._twice(level, number) if number in found else bytes(hashes or b"")
        return found

    def _twice(self, level: int, number: int) -> bytes:
        text = f"Tile {number} of level {level} stands there twice."
        raise LogLies(Lie(_first(TileName(level, number), 0), "tile", text))


class TileRule:
    """What is done about tiles that are not what the rows give: the first one is a lie."""

    def of_series(self, connection: Connection[Any], tenant: UUID, series: int, size: int) -> StoredTiles:
        """The stored tiles of one series, to be compared."""
        return StoredTiles(connection, tenant, series, size)

    def require_no_other(self, connection: Connection[Any], tenant: UUID) -> None:
        """Raise `LogLies` for a tile, or a hash in one, where no tree of any series has any."""
        odd = connection.execute(SELECT_ODD, (tenant,)).fetchone()
        if odd is not None:
            series, level, number, length = odd
            text = (
                f"Tile {number} of level {level} of series {series} is stored with {length} bytes, which no tile of "
                "this log has there."
            )
            raise LogLies(Lie(0, "tile", text))


def _first(name: TileName, index: int) -> int:
    """The first position under a hash of a tile."""
    return ((name.number * TILE_WIDTH + index) << TILE_HEIGHT * name.level) + 1
