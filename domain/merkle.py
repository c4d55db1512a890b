"""Merkle trees over lists of bytes, as RFC 6962 section 2.1 defines them (SHA-256).

    leaf        SHA-256(0x00 || bytes)
    node        SHA-256(0x01 || left || right), split at the largest power of two below the size

A root is computed over a stream of leaves in memory that grows with the logarithm of their number, and the paths of a
few chosen leaves in the same single pass. Used for the commitments of keys that a day made, and for lists on
certificates; verifying a path needs no more than this module.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


class PathRefused(ValueError):
    """A path does not lead from this leaf to this root."""


def leaf_hash(content: bytes) -> bytes:
    """The hash of one leaf."""
    return sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over the contents of all leaves, in their order."""
    return tree_of(leaves).root


@dataclass(frozen=True, slots=True)
class Tree:
    """What one pass over the leaves gives: how many, their root, and the paths that were asked for, by index."""

    size: int
    root: bytes
    paths: dict[int, list[bytes]]


@dataclass(slots=True)
class _Subtree:
    """A perfect subtree, and the paths so far of the chosen leaves in it."""

    height: int
    digest: bytes
    paths: dict[int, list[bytes]] = field(default_factory=dict)


def tree_of(leaves: Iterable[bytes], wanted: Collection[int] = ()) -> Tree:
    """Size, root, and the audit paths of the leaves at the indexes `wanted`, from the leaf up."""
    chosen, stack, size = frozenset(wanted), list[_Subtree](), 0
    for index, content in enumerate(leaves):
        tree = _Subtree(0, leaf_hash(content), {index: []} if index in chosen else {})
        while stack and stack[-1].height == tree.height:
            tree = _joined(stack.pop(), tree)
        stack.append(tree)
        size = index + 1
    if not stack:
        return Tree(0, EMPTY_ROOT, {})
    tree = stack.pop()
    while stack:
        tree = _joined(stack.pop(), tree)
    return Tree(size, tree.digest, tree.paths)


def require_included(content: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise `PathRefused` unless the leaf stands at `index` of the tree of this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        raise PathRefused("The leaf is said to stand outside of its tree.")
    digest, at, last, steps = leaf_hash(content), index, size - 1, list(path)
    while last:
        if at % 2 or at < last:
            if not steps:
                raise PathRefused("The path is shorter than the tree is high.")
            beside = steps.pop(0)
            digest = node_hash(beside, digest) if at % 2 else node_hash(digest, beside)
        at, last = at // 2, last // 2
    if steps or digest != root:
        raise PathRefused("The path does not lead from the leaf to the root.")


def _joined(left: _Subtree, right: _Subtree) -> _Subtree:
    for path in left.paths.values():
        path.append(right.digest)
    for path in right.paths.values():
        path.append(left.digest)
    return _Subtree(max(left.height, right.height) + 1, node_hash(left.digest, right.digest), left.paths | right.paths)
