"""Where the members of a bundle wait until all of them are known: a temporary file, sealed under a key of its own.

A manifest names the digest of every member, and it is recorded before the first byte leaves the house. So the members
are made first and copied then. What was opened must not stand in the clear on a disk (invariant I4): the file has no
name, and the key that opens it exists in this object only.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Final, Self

from ledger.sealing import KEY_BYTES, open_box, seal_box

BLOCK_BYTES: Final = 1 << 18
_LENGTH: Final = struct.Struct(">I")
_AAD: Final = b"lethe.bundle.scratch.v1"


@dataclass(slots=True)
class Stored:
    """One member: how many bytes, and their SHA-256 (hex). Calling it gives its bytes again, piece by piece."""

    scratch: Scratch
    size: int
    sha256: str
    blocks: list[int]

    def __call__(self) -> Iterator[bytes]:
        return (self.scratch.block(at) for at in self.blocks)


@dataclass(slots=True)
class Growing:
    """A member that is being written."""

    scratch: Scratch
    _rest: bytearray = field(default_factory=bytearray)
    _blocks: list[int] = field(default_factory=list)
    _size: int = 0
    _digest: object = None

    def __post_init__(self) -> None:
        self._digest = sha256()

    def write(self, content: bytes) -> None:
        """Add bytes."""
        self._digest.update(content)  # type: ignore[attr-defined]  # hashlib names no class for its objects.
        self._size += len(content)
        self._rest += content
        while len(self._rest) >= BLOCK_BYTES:
            self._blocks.append(self.scratch.append(bytes(self._rest[:BLOCK_BYTES])))
            del self._rest[:BLOCK_BYTES]

    def done(self) -> Stored:
        """The member, whole."""
        if self._rest:
            self._blocks.append(self.scratch.append(bytes(self._rest)))
            self._rest.clear()
        return Stored(self.scratch, self._size, self._digest.hexdigest(), self._blocks)  # type: ignore[attr-defined]


class Scratch:
    """The file behind all members of one bundle. A context manager: nothing is left of it afterwards."""

    def __init__(self) -> None:
        self._key = os.urandom(KEY_BYTES)
        self._end = 0
        self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115  Closed by `__exit__`.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def growing(self) -> Growing:
        """A new member, to be written bit by bit."""
        return Growing(self)

    def stored(self, content: bytes) -> Stored:
        """A member that is known whole."""
        member = self.growing()
        member.write(content)
        return member.done()

    def append(self, block: bytes) -> int:
        """Seal and write a block; returns where it stands."""
        sealed = seal_box(self._key, block, _AAD)
        at = self._end
        self._file.seek(at)
        self._file.write(_LENGTH.pack(len(sealed)) + sealed)
        self._end = self._file.tell()
        return at

    def block(self, at: int) -> bytes:
        """A block again."""
        self._file.seek(at)
        (length,) = _LENGTH.unpack(self._file.read(_LENGTH.size))
        return open_box(self._key, self._file.read(length), _AAD)
