"""Merkle trees are those of RFC 6962: roots by its recursive definition, and paths that lead nowhere else."""

from __future__ import annotations

from hashlib import sha256

import pytest

from domain.merkle import EMPTY_ROOT, PathRefused, leaf_hash, node_hash, require_included, root_of, tree_of

SIZES = [*range(70), 127, 128, 129, 1025]


def leaves(size: int) -> list[bytes]:
    return [sha256(number.to_bytes(4, "big")).digest() for number in range(size)]


def by_definition(contents: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not contents:
        return EMPTY_ROOT
    if len(contents) == 1:
        return leaf_hash(contents[0])
    split = 1
    while split * 2 < len(contents):
        split *= 2
    return node_hash(by_definition(contents[:split]), by_definition(contents[split:]))


@pytest.mark.parametrize("size", SIZES)
def test_a_streamed_root_is_the_one_of_the_definition(size: int) -> None:
    """Given leaves that are read once, when their root is taken, then it is that of the recursive definition."""
    tree = tree_of(iter(leaves(size)))
    assert (tree.size, tree.root) == (size, by_definition(leaves(size)))


def test_a_known_root() -> None:
    """Given the test vectors of the certificate-transparency project, then the roots are theirs."""
    contents = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    contents.append(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))
    assert root_of(contents).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert root_of(contents[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"


@pytest.mark.parametrize("size", [size for size in SIZES if size])
def test_every_path_leads_from_its_leaf_to_the_root(size: int) -> None:
    """Given a tree, when the paths of all leaves are taken in one pass, then each holds for its own leaf."""
    contents = leaves(size)
    tree = tree_of(contents, range(size))
    for index, content in enumerate(contents):
        require_included(content, index, size, tree.paths[index], tree.root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
def test_a_path_proves_nothing_else(size: int) -> None:
    """Given a true path, when leaf, index, size, step or root is another, then it is refused."""
    contents = leaves(size)
    tree = tree_of(contents, [0])
    path = tree.paths[0]
    lies = [
        (b"another", 0, size, path, tree.root),
        (contents[0], 0, size, [*path, bytes(32)], tree.root),
        (contents[0], 0, size, path, bytes(32)),
        (contents[0], size, size, path, tree.root),
        (contents[0], -1, size, path, tree.root),
        (contents[0], 0, 0, path, tree.root),
    ]
    if path:
        lies += [
            (contents[0], 1, size, path, tree.root),
            (contents[0], 0, size, path[:-1], tree.root),
            (contents[0], 0, size, [bytes(32), *path[1:]], tree.root),
        ]
    for lie in lies:
        with pytest.raises(PathRefused):
            require_included(*lie)
