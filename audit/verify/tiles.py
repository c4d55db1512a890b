"""Hash tiles of the transparency log, as C2SP tlog-tiles lays them out, and the proofs that are read from them.

A tile holds up to 256 hashes of 32 bytes. Level 0 holds leaf hashes; a hash on level L+1 is the root of a full tile on
level L. A partial tile is a prefix of the full one, so nothing has to be stored twice: whoever serves a partial tile
cuts the growing one off at the width that the size of the tree gives.

    tile/<level>/<number>[.p/<width>]        number in groups of three digits, all but the last behind an x
    tile/entries/<number>[.p/<width>]        the entries under one tile of level 0, each behind its length (2 bytes)

`Tiles` reads roots and paths; it believes what it reads, because its paths are checked against a signed root
afterwards. `ProvenTiles` believes nothing that does not lead up to the root it was given. `GrowingTiles` builds.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Self

from audit.verify.errors import ProofRefused, TileRefused
from audit.verify.merkle import EMPTY_ROOT, HASH_BYTES, TREE_SIZE_MAX, node_hash

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
ENTRIES: Final = -1
"""The level that stands for bundles of entries in coordinates of tiles."""

LEVEL_MAX: Final = 63
TILES_REMEMBERED: Final = 64
"""A path needs two tiles per level and seven levels hold any log: neighbouring proofs read hardly any tile twice."""

TileReader = Callable[[int, int, int], bytes]
"""(level, number, width) -> that many hashes, one behind the other; `TileRefused` where there is no such tile. Width is
what the size of the tree gives the tile: a reader that holds a longer one cuts it off there."""


@dataclass(frozen=True, slots=True, order=True)
class TileName:
    """Where a tile stands, and how many hashes (or entries) it has."""

    level: int
    number: int
    width: int = TILE_WIDTH

    def path(self) -> str:
        """Its path under a log's prefix."""
        groups = f"{self.number % 1000:03d}"
        rest = self.number // 1000
        while rest:
            groups, rest = f"x{rest % 1000:03d}/{groups}", rest // 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{groups}{partial}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """The tile of a path, of which there is one spelling only. Raises `TileRefused`."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise TileRefused("Not the path of a tile: tile/<level>/<number>, with .p/<width> where it is partial.")
        level = ENTRIES if found["level"] == "entries" else int(found["level"])
        number = int(found["number"].replace("x", "").replace("/", ""))
        name = cls(level, number, int(found["width"] or TILE_WIDTH))
        if level > LEVEL_MAX or number > TREE_SIZE_MAX or name.path() != path or not 0 < name.width <= TILE_WIDTH:
            raise TileRefused("Not the path of a tile: its numbers are not spelt as C2SP tlog-tiles spells them.")
        return name


def width_at(level: int, number: int, size: int) -> int:
    """How many hashes a tile has in a tree of `size`; 0 where the tree has not come that far."""
    hashes = size >> TILE_HEIGHT * max(level, 0)
    return max(0, min(TILE_WIDTH, hashes - number * TILE_WIDTH))


def tiles_at(size: int) -> Iterator[TileName]:
    """The hash tiles of a tree of `size`, from the leaves up, the partial ones last in their level."""
    level, hashes = 0, size
    while hashes:
        for number in range(-(-hashes // TILE_WIDTH)):
            yield TileName(level, number, min(TILE_WIDTH, hashes - number * TILE_WIDTH))
        level, hashes = level + 1, hashes >> TILE_HEIGHT


def pack_entries(entries: Iterable[bytes]) -> bytes:
    """A bundle of entries: each behind its length in two bytes, so none is longer than 65,535 (`OverflowError`)."""
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def unpack_entries(bundle: bytes, width: int) -> list[bytes]:
    """The entries of a bundle that has `width` of them. Raises `TileRefused` for bytes that do not add up."""
    entries, at = list[bytes](), 0
    while at < len(bundle) and len(entries) < width:
        start = at + 2
        at = start + int.from_bytes(bundle[at:start], "big")
        entries.append(bundle[start:at])
    if at != len(bundle) or len(entries) != width:
        raise TileRefused(f"A bundle of entries does not hold {width} of them, whole, and nothing else.")
    return entries


def folded(hashes: bytes) -> bytes:
    """The root over a power of two of hashes that stand one behind the other."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


@dataclass(slots=True)
class Tiles:
    """Roots and paths of a log, read from its tiles. Remembers a few of them, so make one for each run of questions."""

    read: TileReader
    _seen: OrderedDict[TileName, bytes] = field(default_factory=OrderedDict)

    def root(self, size: int) -> bytes:
        """The root of the tree of `size`."""
        _require_size(size)
        return self._range(0, size, size) if size else EMPTY_ROOT

    def inclusion_path(self, index: int, size: int) -> list[bytes]:
        """The path of the entry at `index` (from 0), from the leaf's sibling up to the root's child."""
        _require_size(size)
        if not 0 <= index < size:
            raise ProofRefused(f"There is no entry at index {index} in a log of size {size}.")
        path, start, end = list[bytes](), 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range(middle, end, size))
                end = middle
            else:
                path.append(self._range(start, middle, size))
                start = middle
        return path[::-1]

    def consistency_path(self, old_size: int, new_size: int) -> list[bytes]:
        """The proof that the tree of the old size is the beginning of that of the new one (RFC 6962, 2.1.2)."""
        _require_size(new_size)
        if not 0 <= old_size <= new_size:
            raise ProofRefused(f"A log of size {new_size} never was one of size {old_size}.")
        path, start, end = list[bytes](), 0, new_size
        while 0 < old_size < end:
            middle = start + _split(end - start)
            if old_size <= middle:
                path.append(self._range(middle, end, new_size))
                end = middle
            else:
                path.append(self._range(start, middle, new_size))
                start = middle
        if start:
            path.append(self._range(start, end, new_size))
        return path[::-1]

    def leaf(self, index: int, size: int) -> bytes:
        """The leaf hash at an index."""
        return self._perfect(0, index, size)

    def _range(self, start: int, end: int, size: int) -> bytes:
        """The root over leaves from a start that is aligned to what follows it."""
        pieces = list[bytes]()
        while start < end:
            height = (end - start).bit_length() - 1
            pieces.append(self._perfect(height, start >> height, size))
            start += 1 << height
        digest = pieces.pop()
        while pieces:
            digest = node_hash(pieces.pop(), digest)
        return digest

    def _perfect(self, height: int, number: int, size: int) -> bytes:
        """The root of a perfect subtree, from the tile that holds the hashes under it."""
        level, above = divmod(height, TILE_HEIGHT)
        first = number << above
        tile = first >> TILE_HEIGHT
        hashes = self._tile(TileName(level, tile, width_at(level, tile, size)))
        at = (first & TILE_WIDTH - 1) * HASH_BYTES
        return folded(hashes[at : at + (HASH_BYTES << above)])

    def _tile(self, name: TileName) -> bytes:
        hashes = self._seen.get(name)
        if hashes is None:
            hashes = read_tile(self.read, name)
            self._seen[name] = hashes
            if len(self._seen) > TILES_REMEMBERED:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(name)
        return hashes


def read_tile(read: TileReader, name: TileName) -> bytes:
    """The hashes of a tile. Raises `TileRefused` unless there are as many as its name says."""
    hashes = read(name.level, name.number, name.width)
    if len(hashes) != name.width * HASH_BYTES:
        raise TileRefused(f"{name.path()} has {len(hashes)} bytes instead of {name.width * HASH_BYTES}.")
    return hashes


@dataclass(slots=True)
class ProvenTiles:
    """The tiles of a tree of one size and root, each proven before it is believed, and once only.

    For checks of many entries against one checkpoint: a leaf hash in a proven tile stands in the tree at its index.
    """

    read: TileReader
    size: int
    root: bytes
    _edge: dict[TileName, bytes] = field(default_factory=dict)
    _full: OrderedDict[TileName, bytes] = field(default_factory=OrderedDict)

    def require_leaf(self, index: int, leaf: bytes) -> None:
        """Raise `ProofRefused` unless this leaf hash stands at `index` (from 0); `TileRefused` for a false tile."""
        if not 0 <= index < self.size:
            raise ProofRefused(f"An entry is said to stand at index {index}, outside of its tree of size {self.size}.")
        at = (index & TILE_WIDTH - 1) * HASH_BYTES
        if self.tile(0, index >> TILE_HEIGHT)[at : at + HASH_BYTES] != leaf:
            raise ProofRefused(f"The entry at index {index} is not the one that the log's tree has there.")

    def tile(self, level: int, number: int) -> bytes:
        """The hashes of a tile, after they were seen to lead up to the root."""
        name = TileName(level, number, width_at(level, number, self.size))
        if not name.width:
            raise ProofRefused(f"A tree of size {self.size} has no tile {number} on level {level}.")
        if not self._edge:
            self._edge = self._proven_edge()
        if name.width < TILE_WIDTH:
            return self._edge[name]
        hashes = self._full.get(name)
        if hashes is None:
            hashes = self._full[name] = self._below_its_parent(name)
            if len(self._full) > TILES_REMEMBERED:
                self._full.popitem(last=False)
        else:
            self._full.move_to_end(name)
        return hashes

    def _below_its_parent(self, name: TileName) -> bytes:
        parent = self.tile(name.level + 1, name.number >> TILE_HEIGHT)
        at = (name.number & TILE_WIDTH - 1) * HASH_BYTES
        hashes = read_tile(self.read, name)
        if folded(hashes) != parent[at : at + HASH_BYTES]:
            raise TileRefused(f"{name.path()} is not the tile that the tree of size {self.size} has there.")
        return hashes

    def _proven_edge(self) -> dict[TileName, bytes]:
        """The right edge, which is every partial tile: those have no parent, the root itself vouches for them."""
        _require_size(self.size)
        edge = {name: read_tile(self.read, name) for name in _edge(self.size)}
        if edge_root(edge.values()) != self.root:
            raise TileRefused(f"The tiles at the right edge do not give the root of the tree of size {self.size}.")
        return edge


@dataclass(slots=True)
class GrowingTiles:
    """A tree that grows: the size, and on each level the tile that is not full yet. Memory: one tile per level."""

    size: int = 0
    tails: list[bytearray] = field(default_factory=list)

    @classmethod
    def reopened(cls, size: int, read: TileReader) -> Self:
        """The tree of a size that was stored before, by its partial tiles."""
        _require_size(size)
        tails, level = list[bytearray](), 0
        while size >> TILE_HEIGHT * level:
            hashes = size >> TILE_HEIGHT * level
            name = TileName(level, hashes >> TILE_HEIGHT, hashes & TILE_WIDTH - 1)
            tails.append(bytearray(read_tile(read, name) if name.width else b""))
            level += 1
        return cls(size, tails)

    def append(self, leaf: bytes) -> list[tuple[TileName, bytes]]:
        """Add a leaf hash. Returns the tiles that became full with it, from the leaves up; mostly none."""
        full = list[tuple[TileName, bytes]]()
        level, digest = 0, leaf
        while True:
            if level == len(self.tails):
                self.tails.append(bytearray())
            tail = self.tails[level]
            tail += digest
            if len(tail) < TILE_WIDTH * HASH_BYTES:
                break
            hashes = bytes(tail)
            tail.clear()
            full.append((TileName(level, self.size >> TILE_HEIGHT * (level + 1)), hashes))
            level, digest = level + 1, folded(hashes)
        self.size += 1
        return full

    def partial(self) -> list[tuple[TileName, bytes]]:
        """The tiles that are not full yet, from the leaves up; a level that just filled has none."""
        return [
            (TileName(level, self.size >> TILE_HEIGHT * (level + 1), len(tail) // HASH_BYTES), bytes(tail))
            for level, tail in enumerate(self.tails)
            if tail
        ]

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return edge_root([bytes(tail) for tail in self.tails if tail]) if self.size else EMPTY_ROOT


def edge_root(tiles: Iterable[bytes]) -> bytes:
    """The root of a tree from its partial tiles, given from the leaves up."""
    digest: bytes | None = None
    for tile in tiles:
        end = len(tile) // HASH_BYTES
        while end:
            count = end & -end  # The smallest perfect subtree stands at the right.
            piece = folded(tile[(end - count) * HASH_BYTES : end * HASH_BYTES])
            digest = piece if digest is None else node_hash(piece, digest)
            end -= count
    return EMPTY_ROOT if digest is None else digest


_PATH: Final = re.compile(
    r"tile/(?P<level>entries|[0-9]{1,2})/(?P<number>(?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/(?P<width>[0-9]{1,3}))?"
)


def _edge(size: int) -> Iterator[TileName]:
    level, hashes = 0, size
    while hashes:
        if width := hashes & TILE_WIDTH - 1:
            yield TileName(level, hashes >> TILE_HEIGHT, width)
        level, hashes = level + 1, hashes >> TILE_HEIGHT


def _split(leaves: int) -> int:
    """The largest power of two below a number above one."""
    return 1 << (leaves - 1).bit_length() - 1


def _require_size(size: int) -> None:
    if not 0 <= size <= TREE_SIZE_MAX:
        raise ProofRefused(f"No log has the size {size}.")
