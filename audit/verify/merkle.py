"""Merkle trees of the transparency log, as RFC 6962 section 2.1 defines them (SHA-256), and the proofs over them.

    leaf        SHA-256(0x00 || entry)
    node        SHA-256(0x01 || left || right), split at the largest power of two below the size

A path proves that an entry stands at its index in a tree of a given size and root; a consistency path proves that a
tree is the beginning of a larger one. Both checks follow RFC 9162, sections 2.1.3.2 and 2.1.4.2, and raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from audit.verify.errors import ProofRefused

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
"""The root of a tree with no leaf."""

TREE_SIZE_MAX: Final = 2**63 - 1
"""Verifiers in other languages hold a size in a signed 64-bit integer."""

PATH_HASHES_MAX: Final = 63
"""No tree of an allowed size is higher, so that a longer path is refused before anything is hashed."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def require_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise `ProofRefused` unless this leaf hash stands at `index` (from 0) of the tree of this size and root."""
    if not 0 <= index < size <= TREE_SIZE_MAX:
        raise ProofRefused(f"An entry is said to stand at index {index}, outside of its tree of size {size}.")
    _require_hashes((leaf, root, *path), len(path))
    digest, at, last = leaf, index, size - 1
    for beside in path:
        if not last:
            raise ProofRefused(f"The path of index {index} is longer than its tree of size {size} is high.")
        if at & 1 or at == last:
            digest = node_hash(beside, digest)
            while not at & 1 and at:  # No sibling until here: the right edge of the tree is not full.
                at, last = at >> 1, last >> 1
        else:
            digest = node_hash(digest, beside)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofRefused(f"The path of index {index} is shorter than its tree of size {size} is high.")
    if digest != root:
        raise ProofRefused(f"The path of index {index} does not lead from its entry to the root of size {size}.")


def require_consistent(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """Raise `ProofRefused` unless the old tree is the beginning of the new one."""
    if not 0 <= old_size <= new_size <= TREE_SIZE_MAX:
        raise ProofRefused(f"A tree of size {old_size} cannot be the beginning of one of size {new_size}.")
    _require_hashes((old_root, new_root, *path), len(path))
    if old_size in (0, new_size):
        _require_trivial(old_size, old_root, new_size, new_root, path)
        return
    at, last, steps = old_size - 1, new_size - 1, list(path)
    while at & 1:
        at, last = at >> 1, last >> 1
    if at:  # Else the old tree is perfect, and the new one holds it as it is.
        old = new = _first(steps, old_size, new_size)
    else:
        old = new = old_root
    for beside in steps:
        if not last:
            raise ProofRefused(f"The consistency path from size {old_size} to {new_size} is too long.")
        if at & 1 or at == last:
            old, new = node_hash(beside, old), node_hash(beside, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, beside)
        at, last = at >> 1, last >> 1
    if last or old != old_root or new != new_root:
        raise ProofRefused(f"The tree of size {new_size} is not a continuation of the tree of size {old_size}.")


def _require_trivial(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    if path:
        raise ProofRefused(f"Nothing is to be proven from size {old_size} to {new_size}, and yet there is a path.")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise ProofRefused("The empty tree is said to have a root that is not its own.")
    if old_size == new_size and old_root != new_root:
        raise ProofRefused(f"There are two roots for one size, {old_size}: the log was forked.")


def _first(steps: list[bytes], old_size: int, new_size: int) -> bytes:
    if not steps:
        raise ProofRefused(f"The consistency path from size {old_size} to {new_size} is too short.")
    return steps.pop(0)


def _require_hashes(hashes: Sequence[bytes], length: int) -> None:
    if length > PATH_HASHES_MAX:
        raise ProofRefused(f"A path has {length} hashes; no tree needs more than {PATH_HASHES_MAX}.")
    if any(len(digest) != HASH_BYTES for digest in hashes):
        raise ProofRefused(f"A hash of the proof does not have {HASH_BYTES} bytes.")
