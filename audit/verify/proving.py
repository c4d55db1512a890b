"""What of a log's tree a bundle holds: the tiles that prove its entries and its older checkpoints, and no others.

An entry is proven by its tile, that tile by its parent's, and so on up to the right edge, which gives the root that the
checkpoint signs. An older checkpoint is proven by computing its root from the same tiles: its tree is the beginning of
this one. Each tile is proven once, so the cost is that of the tiles and not of the entries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from audit.verify.archive import Archive
from audit.verify.checkpoint import Checkpoint
from audit.verify.errors import ArchiveRefused, ProofRefused, TileRefused
from audit.verify.merkle import HASH_BYTES, leaf_hash
from audit.verify.tiles import TILE_HEIGHT, TILE_WIDTH, ProvenTiles, TileName, Tiles, width_at

FOLDER: Final = "log/"
TILE_BYTES_MAX: Final = TILE_WIDTH * HASH_BYTES


class ProvenTree:
    """The tree of a bundle's checkpoint, read from the tiles in the bundle."""

    def __init__(self, archive: Archive, checkpoint: Checkpoint) -> None:
        self._archive = archive
        self._checkpoint = checkpoint
        self._read: set[str] = set()
        self._tiles = ProvenTiles(self._tile, checkpoint.size, checkpoint.root)

    def require_edge(self) -> None:
        """Raise unless the tiles at the right edge give the root that the checkpoint signs."""
        if self._checkpoint.size:
            self._tiles.tile(*_last_of_edge(self._checkpoint.size))

    def require_entry(self, entry: bytes, index: int) -> None:
        """Raise unless the log has exactly these bytes at this index."""
        self._tiles.require_leaf(index, leaf_hash(entry))

    def require_prefix(self, older: Checkpoint) -> None:
        """Raise `ProofRefused` unless the tree of this size had the root that an older checkpoint says."""
        if older.size > self._checkpoint.size:
            raise ProofRefused("This checkpoint is newer than the one that everything here is proven for.")
        root = Tiles(self._proven).root(older.size)
        if root != older.root:
            raise ProofRefused(
                f"The log of size {self._checkpoint.size} is not a continuation of that of size {older.size}: "
                "there are two histories."
            )

    def require_all_used(self, names: Iterable[str]) -> None:
        """Raise `TileRefused` for a tile that proves nothing: nothing was seen to lead from it to the root."""
        for name in names:
            if name not in self._read:
                raise TileRefused(f"{name} proves no event and no checkpoint of this bundle.")

    def _tile(self, level: int, number: int, width: int) -> bytes:
        name = FOLDER + TileName(level, number, width).path()
        self._read.add(name)
        return self._archive.read(name, TILE_BYTES_MAX)

    def _proven(self, level: int, number: int, width: int) -> bytes:
        return self._tiles.tile(level, number)[: width * HASH_BYTES]


def needed_tiles(size: int, positions: Iterable[int], older: Iterable[int] = ()) -> set[TileName]:
    """The tiles that a bundle needs: for these events, and for checkpoints of these older sizes."""
    needed: set[TileName] = set()
    for level, number in _edge(size):
        needed.add(TileName(level, number, width_at(level, number, size)))
    for position in positions:
        _with_parents(needed, 0, (position - 1) >> TILE_HEIGHT, size)
    for smaller in older:
        for level, number in _edge(smaller):
            _with_parents(needed, level, number, size)
    return needed


def _with_parents(needed: set[TileName], level: int, number: int, size: int) -> None:
    while True:
        name = TileName(level, number, width_at(level, number, size))
        if name in needed:
            return
        if not name.width:
            raise ArchiveRefused(f"A log of size {size} has no {name.path()}.")
        needed.add(name)
        level, number = level + 1, number >> TILE_HEIGHT


def _edge(size: int) -> Iterable[tuple[int, int]]:
    """The partial tiles of a tree: together they give its root."""
    level, hashes = 0, size
    while hashes:
        if hashes % TILE_WIDTH:
            yield level, hashes >> TILE_HEIGHT
        level, hashes = level + 1, hashes >> TILE_HEIGHT


def _last_of_edge(size: int) -> tuple[int, int]:
    *_, last = _edge(size)
    return last
