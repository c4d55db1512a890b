"""The growing tree: whatever the steps, its roots are RFC 6962's and its tiles only ever get longer."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.growing_tree import TILE_BYTES, TILE_WIDTH, GrowingTree, Tile
from domain.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash, root_of

LEAVES = [number.to_bytes(4, "big") for number in range(70_000)]
HASHES = b"".join(map(leaf_hash, LEAVES))

Tiles = dict[tuple[int, int], bytes]


def kept(tiles: Tiles, changed: list[Tile]) -> None:
    """Keep tiles as the database does: one that is there is only made longer."""
    for tile in changed:
        before = tiles.get((tile.level, tile.number), b"")
        assert tile.hashes.startswith(before)
        assert before != tile.hashes, "A tile that did not change was told."
        tiles[tile.level, tile.number] = tile.hashes


def reader(tiles: Tiles, asked: list[tuple[int, int, int]] | None = None):  # type: ignore[no-untyped-def]
    """Reads tiles by truncation."""

    def read(level: int, number: int, width: int) -> bytes:
        if asked is not None:
            asked.append((level, number, width))
        return tiles[level, number][: width * HASH_BYTES]

    return read


def leaves(after: int, last: int) -> bytes:
    """The hashes of a section of the leaves."""
    return HASHES[after * HASH_BYTES : last * HASH_BYTES]


def test_an_empty_tree_has_the_root_of_nothing() -> None:
    """Given no leaf, when the root is asked for, then it is the hash of nothing; adding nothing changes nothing."""
    tree = GrowingTree()
    assert tree.root() == EMPTY_ROOT == sha256(b"").digest()
    assert tree.extend(b"") == []
    assert (tree.size, tree.root()) == (0, EMPTY_ROOT)


@given(st.lists(st.integers(0, 700), min_size=1, max_size=8))
def test_any_steps_give_the_roots_of_rfc_6962(steps: list[int]) -> None:
    """Given leaves that come in steps of any length, when each is added, then root and tiles are as if at once."""
    tree, tiles, size = GrowingTree(), Tiles(), 0
    for step in steps:
        kept(tiles, tree.extend(leaves(size, size + step)))
        size += step
        assert tree.size == size
        assert tree.root() == root_of(LEAVES[:size])
        assert GrowingTree(size, reader(tiles)).root() == tree.root()
    at_once = Tiles()
    kept(at_once, GrowingTree().extend(leaves(0, size)))
    assert at_once == tiles


@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537, 65_792, 65_793])
def test_sizes_around_full_tiles(size: int) -> None:
    """Given sizes around a full tile and a full tile of tiles, when the last leaf comes, then all levels are right."""
    tree, tiles = GrowingTree(), Tiles()
    kept(tiles, tree.extend(leaves(0, size - 1)))
    kept(tiles, tree.extend(leaves(size - 1, size)))
    assert tree.root() == root_of(LEAVES[:size])
    counts = [size]
    while counts[-1] >= TILE_WIDTH:
        counts.append(counts[-1] // TILE_WIDTH)
    assert {
        (level, number): len(tiles[level, number]) // HASH_BYTES
        for level, count in enumerate(counts)
        for number in range(-(-count // TILE_WIDTH))
    } == {place: len(hashes) // HASH_BYTES for place, hashes in tiles.items()}
    assert GrowingTree(size, reader(tiles)).root() == tree.root()


def test_an_older_size_is_read_from_newer_tiles() -> None:
    """Given tiles that have grown since, when an earlier size is read from them, then its root is the old one."""
    tiles = Tiles()
    kept(tiles, GrowingTree().extend(leaves(0, 66_000)))
    for size in (1, 200, 256, 300, 65_535, 65_536, 65_900):
        assert GrowingTree(size, reader(tiles)).root() == root_of(LEAVES[:size])


def test_going_on_needs_the_edge_and_nothing_else() -> None:
    """Given a tree of billions of leaves of which only the edge exists, when leaves are added, then that is enough."""
    size = 3 * 2**32 + 5 * 2**16 + 2 * 2**8 + 250
    edge = {(0, size >> 8): 250, (1, size >> 16): 2, (2, size >> 24): 5, (3, size >> 32): 0, (4, 0): 3}
    tiles = {(level, number): bytes([level]) * HASH_BYTES * width for (level, number), width in edge.items() if width}
    asked: list[tuple[int, int, int]] = []
    tree = GrowingTree(size, reader(tiles, asked))
    assert sorted(asked) == sorted((level, number, width) for (level, number), width in edge.items() if width)
    changed = tree.extend(leaves(0, 6))
    assert [(tile.level, tile.number, len(tile.hashes) // HASH_BYTES) for tile in changed] == [
        (0, size >> 8, 256),
        (1, size >> 16, 3),
    ]
    whole = changed[0].hashes
    assert whole == tiles[0, size >> 8] + leaves(0, 6)
    assert changed[1].hashes[-HASH_BYTES:] == perfect_root(whole)


def perfect_root(hashes: bytes) -> bytes:
    """The root over a full tile, level by level."""
    row = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def test_torn_hashes_and_short_tiles_are_refused() -> None:
    """Given part of a hash, or a tile that is too short, when it is offered, then it is refused."""
    with pytest.raises(ValueError, match="32 bytes"):
        GrowingTree().extend(b"x" * 33)
    with pytest.raises(ValueError, match="must have 5 hashes"):
        GrowingTree(5, lambda *_: bytes(4 * HASH_BYTES))
    with pytest.raises(ValueError, match="read from its tiles"):
        GrowingTree(5)
    assert TILE_BYTES == 8192
