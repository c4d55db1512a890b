"""A Merkle tree that grows at its end, kept as tiles (RFC 6962 section 2.1, C2SP tlog-tiles).

    tile of level 0    the hashes of up to 256 leaves, side by side
    tile of level L    the roots of up to 256 full tiles of level L - 1

All that is needed to go on is the growing tile of each level, its edge: at most 255 hashes for each factor of 256 in
the size. Tiles that are full never change, and those that grow do so at their end, so a partial tile is the beginning
of a later one.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final, NamedTuple

from domain.merkle import EMPTY_ROOT, HASH_BYTES, node_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
TILE_BYTES: Final = TILE_WIDTH * HASH_BYTES
LEVELS_MAX: Final = 8
"""Tiles of eight levels hold 2^64 leaves."""


class Tile(NamedTuple):
    """1 to 256 hashes of 32 bytes, side by side, and where they stand."""

    level: int
    number: int
    hashes: bytes


ReadTile = Callable[[int, int, int], bytes]
"""(level, number, width) -> the first `width` hashes of that tile."""


class GrowingTree:
    """The tree over the first `size` leaves, of which only the edge is held."""

    def __init__(self, size: int = 0, read: ReadTile | None = None) -> None:
        """The tree as its tiles tell it: `read` is asked once for each level that has a partial tile."""
        if size < 0:
            raise ValueError("A tree has no leaves or more.")
        self.size = size
        self._edge: list[bytearray] = []
        for level, rest in enumerate(_counts(size)):
            number, width = divmod(rest, TILE_WIDTH)
            if not width:
                self._edge.append(bytearray())
                continue
            if read is None:
                raise ValueError("A tree that holds something is read from its tiles.")
            hashes = read(level, number, width)
            if len(hashes) != width * HASH_BYTES:
                raise ValueError(f"Tile {number} of level {level} must have {width} hashes.")
            self._edge.append(bytearray(hashes))

    def extend(self, leaf_hashes: bytes) -> list[Tile]:
        """Put these hashes (32 bytes each, side by side) behind the last leaf; returns every tile that changed.

        Tiles come in order of level and number; the last one of a level may be partial.
        """
        count, torn = divmod(len(leaf_hashes), HASH_BYTES)
        if torn:
            raise ValueError("A hash has 32 bytes.")
        before = _counts(self.size)
        changed: list[Tile] = []
        level, added = 0, leaf_hashes
        while added:
            if level == len(self._edge):
                self._edge.append(bytearray())
            first = before[level] // TILE_WIDTH if level < len(before) else 0
            tiles, added = self._grow(level, first, added)
            changed += tiles
            level += 1
        self.size += count
        return changed

    def root(self) -> bytes:
        """The root over everything so far: subtrees from the largest, on the left, to the smallest."""
        peaks = [peak for edge in reversed(self._edge) for peak in _peaks(edge)]
        if not peaks:
            return EMPTY_ROOT
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root

    def _grow(self, level: int, first: int, added: bytes) -> tuple[list[Tile], bytes]:
        """The tiles of a level that changed, the first of them being number `first`, and the roots of the full ones."""
        edge = self._edge[level]
        edge += added
        full = len(edge) // TILE_BYTES
        tiles = [Tile(level, first + n, bytes(edge[n * TILE_BYTES : (n + 1) * TILE_BYTES])) for n in range(full)]
        del edge[: full * TILE_BYTES]
        roots = b"".join(subtree_root(tile.hashes) for tile in tiles)
        if edge:
            tiles.append(Tile(level, first + full, bytes(edge)))
        return tiles, roots


def subtree_root(hashes: bytes) -> bytes:
    """The root over a power of two of hashes, side by side."""
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([sha256(b"\x01" + hashes[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
    return bytes(hashes)


def _counts(size: int) -> list[int]:
    """How many hashes each level has, from the leaves up, as long as there are any."""
    counts = []
    while size:
        counts.append(size)
        size //= TILE_WIDTH
    return counts


def _peaks(edge: bytearray) -> list[bytes]:
    """The roots of the perfect subtrees in a partial tile, largest first."""
    peaks, start = [], 0
    while start < len(edge):
        width = 1 << ((len(edge) - start) // HASH_BYTES).bit_length() - 1
        peaks.append(subtree_root(bytes(edge[start : start + width * HASH_BYTES])))
        start += width * HASH_BYTES
    return peaks
