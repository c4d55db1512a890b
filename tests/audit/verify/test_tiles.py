"""Tiles: named as C2SP names them, believed only below their root, and grown as they are read."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.verify.errors import ProofRefused, TileRefused
from audit.verify.merkle import EMPTY_ROOT, TREE_SIZE_MAX, leaf_hash, require_included
from audit.verify.tiles import (
    ENTRIES,
    TILES_REMEMBERED,
    GrowingTiles,
    ProvenTiles,
    TileName,
    Tiles,
    folded,
    pack_entries,
    tiles_at,
    unpack_entries,
    width_at,
)
from tests.verifiers.folder import FolderLog, log_of

SMALL = log_of(600)
LARGE = log_of(70_000, roots=False)
"""Three levels of tiles, as in the example of the specification."""


def require_every_leaf(proven: ProvenTiles, log: FolderLog) -> None:
    """Check all entries of a log that a tree holds, in their order."""
    for index, entry in enumerate(log.entries[: proven.size]):
        proven.require_leaf(index, leaf_hash(entry))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (TileName(0, 0), "tile/0/000"),
        (TileName(0, 5, 7), "tile/0/005.p/7"),
        (TileName(1, 1_234_067), "tile/1/x001/x234/067"),
        (TileName(63, 999, 255), "tile/63/999.p/255"),
        (TileName(ENTRIES, 1_000, 1), "tile/entries/x001/000.p/1"),
    ],
)
def test_tiles_have_the_paths_of_the_specification(name: TileName, path: str) -> None:
    """Given a tile, when it is named, then the path is the specification's, and leads back to it."""
    assert name.path() == path
    assert TileName.parse(path) == name


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/007",
        "tile/0/000.p",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/../000",
        "tile/0/٠٠٠",
        "tile/0/x999/x999/x999/x999/x999/x999/999",
        "tile/0/x001/x999/x999/x999/x999/x999/x999/999",
        "tile/0/000\n",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    """Given a path that is spelt another way, or leads elsewhere, when it is read, then it is refused."""
    with pytest.raises(TileRefused):
        TileName.parse(path)


def test_the_tiles_of_a_size_are_those_of_the_specifications_example() -> None:
    """Given 70,000 entries, when their tiles are counted, then there are as many as the specification says."""
    names = list(tiles_at(70_000))
    assert Counter(name.level for name in names if name.width == 256) == {0: 273, 1: 1}
    assert [name for name in names if name.width < 256] == [
        TileName(0, 273, 112),
        TileName(1, 1, 17),
        TileName(2, 0, 1),
    ]
    assert list(tiles_at(256)) == [TileName(0, 0, 256), TileName(1, 0, 1)]
    assert list(tiles_at(0)) == []
    assert all(width_at(name.level, name.number, 70_000) == name.width for name in names)
    assert (width_at(0, 274, 70_000), width_at(3, 0, 70_000), width_at(ENTRIES, 273, 70_000)) == (0, 0, 112)


def test_growing_gives_what_reading_gives_at_every_size() -> None:
    """Given a log that grows, when its root is read from tiles at each size, then both are the same."""
    tiles = Tiles(SMALL.read)
    assert [tiles.root(size) for size in range(SMALL.size + 1)] == SMALL.roots
    assert tiles.leaf(7, SMALL.size) == leaf_hash(SMALL.entries[7])


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 599])
def test_a_log_is_taken_up_again_where_it_stood(size: int) -> None:
    """Given the stored tiles of a size, when growing goes on from there, then the same tiles and roots come of it."""
    again = GrowingTiles.reopened(size, SMALL.read)
    assert again.root() == SMALL.roots[size]
    full = [tile for entry in SMALL.entries[size:] for tile in again.append(leaf_hash(entry))]
    assert again.root() == SMALL.roots[-1]
    for name, hashes in (*full, *again.partial()):
        assert hashes == SMALL.read(name.level, name.number, name.width)


def test_full_tiles_are_given_out_once_from_the_leaves_up() -> None:
    """Given 65,536 entries, when the last fills three levels, then each level's tile is given out, lowest first."""
    growing = GrowingTiles.reopened(65_535, LARGE.read)
    full = growing.append(leaf_hash(LARGE.entries[65_535]))
    assert [name for name, _ in full] == [TileName(0, 255), TileName(1, 0)]
    assert [name for name, _ in growing.partial()] == [TileName(2, 0, 1)]
    assert growing.root() == Tiles(LARGE.read).root(65_536)


def test_every_leaf_of_a_large_log_is_proven_with_each_tile_read_once() -> None:
    """Given a log of three levels, when all leaves are checked in order, then no tile is read twice."""
    reads: Counter[tuple[int, int]] = Counter()

    def counting(level: int, number: int, width: int) -> bytes:
        reads[level, number] += 1
        return LARGE.read(level, number, width)

    proven = ProvenTiles(counting, LARGE.size, LARGE.roots[-1])
    require_every_leaf(proven, LARGE)
    assert set(reads.values()) == {1}
    assert len(reads) == len(list(tiles_at(LARGE.size)))


def test_neighbouring_paths_share_their_tiles() -> None:
    """Given a log of three levels, when paths of neighbours are read, then no tile is read for a second time."""
    reads: Counter[tuple[int, int]] = Counter()

    def counting(level: int, number: int, width: int) -> bytes:
        reads[level, number] += 1
        return LARGE.read(level, number, width)

    tiles = Tiles(counting)
    for index in range(1_000, 1_020):
        path = tiles.inclusion_path(index, LARGE.size)
        require_included(leaf_hash(LARGE.entries[index]), index, LARGE.size, path, LARGE.roots[-1])
    assert set(reads.values()) == {1}
    assert len(reads) <= 6


def test_tiles_that_were_forgotten_are_proven_again() -> None:
    """Given more tiles than are remembered, when leaves are asked for in any order, then each is still proven."""
    proven = ProvenTiles(LARGE.read, LARGE.size, LARGE.roots[-1])
    for index in (LARGE.size - 1, *range(0, 256 * 3 * TILES_REMEMBERED, 255), LARGE.size - 1, 0):
        proven.require_leaf(index, leaf_hash(LARGE.entries[index]))
    with pytest.raises(ProofRefused):
        proven.require_leaf(1, leaf_hash(LARGE.entries[0]))


@given(st.integers(1, SMALL.size), st.data())
def test_a_changed_tile_is_never_believed(size: int, data: st.DataObject) -> None:
    """Given a tree of any size with one hash of one tile changed, when all leaves are checked, then it is refused."""
    name = data.draw(st.sampled_from(list(tiles_at(size))))
    at = data.draw(st.integers(0, name.width - 1)) * 32

    def lying(level: int, number: int, width: int) -> bytes:
        hashes = SMALL.read(level, number, width)
        if (level, number) == (name.level, name.number):
            return hashes[:at] + bytes(32) + hashes[at + 32 :]
        return hashes

    with pytest.raises((TileRefused, ProofRefused)):
        require_every_leaf(ProvenTiles(lying, size, SMALL.roots[size]), SMALL)


@pytest.mark.parametrize("level", [0, 1])
def test_a_forged_entry_with_forged_tiles_is_refused(level: int) -> None:
    """Given an entry forged together with the hashes above it up to a level, when it is checked, then it is refused.

    This is the mistake of Go's tile reader before x/mod 0.40 (CVE-2026-56865), which left some tiles unchecked.
    """
    leaf = leaf_hash(b"forged")
    forged = {(0, 5): leaf + LARGE.read(0, 5, 256)[32:]}
    if level == 1:
        upper = LARGE.read(1, 0, 256)
        forged[1, 0] = upper[: 5 * 32] + folded(forged[0, 5]) + upper[6 * 32 :]

    def lying(level: int, number: int, width: int) -> bytes:
        return forged.get((level, number)) or LARGE.read(level, number, width)

    with pytest.raises(TileRefused, match=f"tile/{level}/"):
        ProvenTiles(lying, LARGE.size, LARGE.roots[-1]).require_leaf(5 * 256, leaf)


def test_another_root_another_leaf_and_another_place_are_refused() -> None:
    """Given true tiles, when root, leaf or index is another, then it is refused."""
    for size in (1, 256, 300):
        with pytest.raises(TileRefused, match="right edge"):
            ProvenTiles(SMALL.read, size, bytes(32)).require_leaf(0, leaf_hash(SMALL.entries[0]))
    proven = ProvenTiles(SMALL.read, 300, SMALL.roots[300])
    for index in (-1, 300, 10**12):
        with pytest.raises(ProofRefused, match="outside"):
            proven.require_leaf(index, leaf_hash(SMALL.entries[0]))
    with pytest.raises(ProofRefused, match="has no tile"):
        proven.tile(0, 2)
    with pytest.raises(ProofRefused, match="is not the one"):
        proven.require_leaf(1, leaf_hash(SMALL.entries[0]))


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(32 * 255), bytes(32 * 257)])
def test_a_tile_of_another_length_is_refused(wrong: bytes) -> None:
    """Given a reader that gives too little or too much, when anything is read, then it is refused."""
    for ask in (
        lambda: Tiles(lambda *_: wrong).root(256),
        lambda: Tiles(lambda *_: wrong).inclusion_path(3, 256),
        lambda: ProvenTiles(lambda *_: wrong, 256, SMALL.roots[256]).require_leaf(0, bytes(32)),
        lambda: GrowingTiles.reopened(300, lambda *_: wrong),
    ):
        with pytest.raises(TileRefused):
            ask()


def test_questions_outside_of_the_log_are_refused() -> None:
    """Given a log, when an index, an older size or a size that it never had is asked for, then it is refused."""
    tiles = Tiles(SMALL.read)
    for ask in (
        lambda: tiles.inclusion_path(600, 600),
        lambda: tiles.inclusion_path(-1, 600),
        lambda: tiles.inclusion_path(0, 0),
        lambda: tiles.consistency_path(601, 600),
        lambda: tiles.consistency_path(-1, 600),
        lambda: tiles.root(TREE_SIZE_MAX + 1),
        lambda: tiles.root(-1),
        lambda: GrowingTiles.reopened(-1, SMALL.read),
    ):
        with pytest.raises(ProofRefused):
            ask()
    assert tiles.root(0) == GrowingTiles().root() == EMPTY_ROOT


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_bundles_of_entries_come_apart_again(entries: list[bytes]) -> None:
    """Given entries, when they are bundled, then exactly that many come out, and another width is refused."""
    bundle = pack_entries(entries)
    assert unpack_entries(bundle, len(entries)) == entries
    for width in (len(entries) - 1, len(entries) + 1):
        with pytest.raises(TileRefused):
            unpack_entries(bundle, width)
    with pytest.raises(TileRefused):
        unpack_entries(bundle + b"\0", len(entries))
    if bundle:
        with pytest.raises(TileRefused):
            unpack_entries(bundle[:-1], len(entries))


def test_an_entry_too_long_for_its_length_is_no_bundle() -> None:
    """Given an entry of 65,536 bytes, when it is to be bundled, then that fails, and one byte less does not."""
    assert unpack_entries(pack_entries([bytes(65_535)]), 1) == [bytes(65_535)]
    with pytest.raises(OverflowError):
        pack_entries([bytes(65_536)])


def test_tiles_of_one_log_are_none_of_another() -> None:
    """Given two logs, when the tiles of one are shown under the root of the other, then they are refused."""
    other = FolderLog()
    other.append(*reversed(SMALL.entries))
    with pytest.raises(TileRefused):
        ProvenTiles(other.read, SMALL.size, SMALL.roots[-1]).require_leaf(0, leaf_hash(other.entries[0]))
