"""The Merkle tree over the rows, built a tile at a time: every tile of every level, and the root at any size passed.

`audit.verify.tiles` builds the same tree a leaf at a time, for those who add to it; this one is made for a whole log,
and is the second opinion that the stored tiles are compared with. Memory: one tile per level, and one that is folded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final

from audit.verify.merkle import EMPTY_ROOT, HASH_BYTES
from audit.verify.tiles import TILE_HEIGHT, TILE_WIDTH, TileName

TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
_NODE: Final = 2 * HASH_BYTES

Rows = list[bytes]
"""The hashes of a tile, and under each further index the row of hashes one height above it, down to one hash."""


class Tree:
    """A tree that takes leaves in order and says what is asked about sizes on the way."""

    def __init__(self) -> None:
        self._tiles = 0
        self._tail = b""
        self._above: list[bytearray] = []
        self._rows_of_level: dict[int, Rows] = {}

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._tiles * TILE_WIDTH + len(self._tail) // HASH_BYTES

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return self._root(self.size, _rows_above(self._tail))

    def grow(self, leaves: bytes, sizes: Iterable[int]) -> tuple[list[tuple[TileName, bytes]], dict[int, bytes]]:
        """Take these leaves. Returns the tiles that became full, and the roots at those sizes that were passed."""
        full, roots, wanted = list[tuple[TileName, bytes]](), dict[int, bytes](), deque(sorted(set(sizes)))
        hashes = self._tail + leaves
        for start in range(0, len(hashes), TILE_BYTES):
            tile = hashes[start : start + TILE_BYTES]
            whole = len(tile) == TILE_BYTES
            end = self._tiles * TILE_WIDTH + len(tile) // HASH_BYTES
            inside = end - 1 if whole else end  # The size at a tile's end has its root a level above.
            rows = _rows_above(tile) if wanted and wanted[0] <= inside else []
            while wanted and wanted[0] <= inside:
                size = wanted.popleft()
                roots[size] = self._root(size, rows)
            if whole:
                full += self._add(tile)
                if wanted and wanted[0] == end:
                    roots[end] = self._root(wanted.popleft(), [b""])
        self._tail = hashes[len(hashes) // TILE_BYTES * TILE_BYTES :]
        return full, roots

    def growing(self) -> Iterator[tuple[TileName, bytes]]:
        """The tiles that are not full, from the leaves up."""
        for level, hashes in enumerate((self._tail, *self._above)):
            if hashes:
                number = self._tiles * TILE_WIDTH >> TILE_HEIGHT * (level + 1)
                yield TileName(level, number, len(hashes) // HASH_BYTES), bytes(hashes)

    def _add(self, tile: bytes) -> list[tuple[TileName, bytes]]:
        full, level, number = list[tuple[TileName, bytes]](), 0, self._tiles
        self._tiles += 1
        self._rows_of_level.clear()
        while True:
            full.append((TileName(level, number), tile))
            if level == len(self._above):
                self._above.append(bytearray())
            above = self._above[level]
            above += tile_root(tile)
            if len(above) < TILE_BYTES:
                return full
            tile = bytes(above)
            above.clear()
            level, number = level + 1, number >> TILE_HEIGHT

    def _root(self, size: int, leaf_rows: Rows) -> bytes:
        digest = b""
        for height in range(size.bit_length()):
            if size >> height & 1:
                # The perfect subtree of this height is the last whole one: its hash stands at an even index.
                level, row = divmod(height, TILE_HEIGHT)
                rows = leaf_rows if level == 0 else self._rows(level)
                index = (size >> height) - 1 & (TILE_WIDTH >> row) - 1
                node = rows[row][index * HASH_BYTES : (index + 1) * HASH_BYTES]
                digest = sha256(b"\x01" + node + digest).digest() if digest else node
        return digest or EMPTY_ROOT

    def _rows(self, level: int) -> Rows:
        rows = self._rows_of_level.get(level)
        if rows is None:
            rows = self._rows_of_level[level] = _rows_above(bytes(self._above[level - 1]))
        return rows


def tile_root(leaves: bytes) -> bytes:
    """The hash that stands for a full tile on the level above it."""
    return _rows_above(leaves)[TILE_HEIGHT]


def _rows_above(hashes: bytes) -> Rows:
    rows = [hashes]
    for _ in range(TILE_HEIGHT):
        hashes = b"".join(
            [sha256(b"\x01" + hashes[at : at + _NODE]).digest() for at in range(0, len(hashes) - HASH_BYTES, _NODE)]
        )
        rows.append(hashes)
    return rows
