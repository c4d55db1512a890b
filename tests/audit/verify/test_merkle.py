"""Merkle proofs: every true one is accepted, and nothing else, at every size of interest and with any hash changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.verify.errors import ProofRefused
from audit.verify.merkle import (
    EMPTY_ROOT,
    PATH_HASHES_MAX,
    TREE_SIZE_MAX,
    leaf_hash,
    node_hash,
    require_consistent,
    require_included,
)
from audit.verify.tiles import Tiles
from domain import merkle as of_the_domain
from tests.verifiers.folder import log_of

SIZE = 600
LOG = log_of(SIZE)
LEAVES = [leaf_hash(entry) for entry in LOG.entries]

RFC_6962_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
RFC_6962_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""The roots that Certificate Transparency's own tests have for these leaves."""


def test_the_roots_are_those_of_certificate_transparency() -> None:
    """Given the leaves of Certificate Transparency's tests, when they are hashed, then the roots are the known ones."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    log = log_of(0)
    for number, (content, root) in enumerate(zip(RFC_6962_LEAVES, RFC_6962_ROOTS, strict=True), start=1):
        log.append(bytes.fromhex(content))
        assert log.roots[number].hex() == root


def test_the_domains_tree_agrees() -> None:
    """Given the tree that certificates use, written apart from this one, when both hash a list, the roots are equal."""
    for size in (0, 1, 2, 3, 255, 256, 257, SIZE):
        tree = of_the_domain.tree_of(LOG.entries[:size], range(0, size, 37))
        assert tree.root == LOG.roots[size]
        for index, path in tree.paths.items():
            require_included(LEAVES[index], index, size, path, tree.root)


def test_a_path_proves_its_entry_at_its_index_only() -> None:
    """Given true paths, when leaf, index, size, root or any hash is another, then each is refused."""
    for size, index in ((1, 0), (2, 1), (3, 2), (5, 4), (7, 3), (256, 0), (257, 256), (513, 511), (SIZE, 599)):
        path, root, leaf = Tiles(LOG.read).inclusion_path(index, size), LOG.roots[size], LEAVES[index]
        require_included(leaf, index, size, path, root)
        lies = [
            (leaf_hash(b"other"), index, size, path, root),
            (leaf, index, size, path, LOG.roots[size - 1]),
            (leaf, index, size, [*path, bytes(32)], root),
            (leaf, index, size, [bytes(32), *path], root),
            (leaf, size, size, path, root),
            (leaf, -1, size, path, root),
            *((leaf, other, size, path, root) for other in range(size) if other != index),
            *((leaf, index, size, path[:at] + path[at + 1 :], root) for at in range(len(path))),
            *((leaf, index, size, [*path[:at], bytes(32), *path[at + 1 :]], root) for at in range(len(path))),
        ]
        for lie in lies:
            with pytest.raises(ProofRefused):
                require_included(*lie)


def test_a_true_path_says_which_size_it_is_for() -> None:
    """Given a path, when it is shown for a tree of another height, then it is refused for its length."""
    path = Tiles(LOG.read).inclusion_path(0, 256)
    for size in (128, 512, TREE_SIZE_MAX):
        with pytest.raises(ProofRefused):
            require_included(LEAVES[0], 0, size, path, LOG.roots[256])


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_each_size_is_the_beginning_of_each_later_one(one: int, other: int) -> None:
    """Given any two sizes, when the smaller is proven in the larger, then it is accepted, and no other root is."""
    old, new = sorted((one, other))
    path = Tiles(LOG.read).consistency_path(old, new)
    require_consistent(old, LOG.roots[old], new, LOG.roots[new], path)
    lies = [
        (old, bytes(32), new, LOG.roots[new], path),
        (old, LOG.roots[old], new, LOG.roots[new], [*path, bytes(32)]),
        (new + 1, LOG.roots[old], new, LOG.roots[new], path),
        *((old, LOG.roots[old], new, LOG.roots[new], path[:at] + path[at + 1 :]) for at in range(len(path))),
        *(
            (old, LOG.roots[old], new, LOG.roots[new], [*path[:at], bytes(32), *path[at + 1 :]])
            for at in range(len(path))
        ),
    ]
    if old:
        lies.append((old, LOG.roots[old], new, bytes(32), path))
    if 0 < old < new:
        lies += [
            (old - 1, LOG.roots[old], new, LOG.roots[new], path),
            (old, LOG.roots[old - 1], new, LOG.roots[new], path),
            (old, LOG.roots[old], new, LOG.roots[new - 1], path),
            (old, LOG.roots[old], new, LOG.roots[new], []),
        ]
    for lie in lies:
        with pytest.raises(ProofRefused):
            require_consistent(*lie)


def test_two_roots_of_one_size_are_a_fork() -> None:
    """Given two roots of one size, when one is to continue the other, then the refusal says that the log forked."""
    with pytest.raises(ProofRefused, match="forked"):
        require_consistent(5, LOG.roots[5], 5, LOG.roots[6], [])


def test_a_forked_log_has_no_consistency_path() -> None:
    """Given two logs that share a beginning only, when one is to be the beginning of the other, then it is refused."""
    fork = log_of(0)
    fork.append(*LOG.entries[:300], b"forked", *LOG.entries[301:])
    for old in (301, 302, 511, 512, 599):
        path = Tiles(fork.read).consistency_path(old, SIZE)
        require_consistent(old, fork.roots[old], SIZE, fork.roots[SIZE], path)
        with pytest.raises(ProofRefused, match="continuation"):
            require_consistent(old, LOG.roots[old], SIZE, fork.roots[SIZE], path)
    require_consistent(300, LOG.roots[300], SIZE, fork.roots[SIZE], Tiles(fork.read).consistency_path(300, SIZE))


def test_hashes_and_sizes_have_bounds() -> None:
    """Given a hash of another length, a path without end or a size beyond 63 bits, then each is refused unhashed."""
    for path in ([b"short"], [bytes(33)], [bytes(32)] * (PATH_HASHES_MAX + 1)):
        reason = "no tree needs more" if len(path) > 1 else "32 bytes"
        with pytest.raises(ProofRefused, match=reason):
            require_included(LEAVES[0], 0, 2, path, LOG.roots[2])
        with pytest.raises(ProofRefused, match=reason):
            require_consistent(1, LOG.roots[1], 2, LOG.roots[2], path)
    with pytest.raises(ProofRefused):
        require_included(LEAVES[0], 0, TREE_SIZE_MAX + 1, [], LOG.roots[1])
    with pytest.raises(ProofRefused):
        require_consistent(0, EMPTY_ROOT, TREE_SIZE_MAX + 1, LOG.roots[1], [])


def test_the_largest_tree_is_proven_too() -> None:
    """Given a path in a tree of the largest size, made up hash by hash, when it is verified, then it is accepted."""
    digest, path = LEAVES[0], [bytes((number,)) * 32 for number in range(PATH_HASHES_MAX)]
    for beside in path:
        digest = node_hash(digest, beside)
    require_included(LEAVES[0], 0, TREE_SIZE_MAX, path, digest)
    with pytest.raises(ProofRefused, match="outside"):
        require_included(LEAVES[0], 0, TREE_SIZE_MAX + 1, path, digest)


def test_hashes_cannot_be_cut_elsewhere() -> None:
    """Given two true hashes cut at another place, when the pieces are shown as leaf and path, then they are refused."""
    both, root = LEAVES[0] + LEAVES[1], LOG.roots[2]
    require_included(both[:32], 0, 2, [both[32:]], root)
    for cut in (0, 31, 33, 64):
        with pytest.raises(ProofRefused, match="32 bytes"):
            require_included(both[:cut], 0, 2, [both[cut:]], root)
        with pytest.raises(ProofRefused, match="32 bytes"):
            require_consistent(1, both[:cut], 2, root, [both[cut:]])
