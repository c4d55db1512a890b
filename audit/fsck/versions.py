"""Whether each stream's versions run 1, 2, 3 … in the order of the log, in memory that does not grow with it.

The database's own index would tell duplicates, if it were believed; a superuser can drop or damage it. So every
(stream, version, position) is written, in the order of the log, into one of `PARTITIONS` files by the stream's hash.
Afterwards each file is read alone and holds few streams. Where it still holds too many, the records of those that come
too late for a place in memory are written into smaller files, by further bits of the hash, and these are read in turn:
so each record is read a few times, however long the log is, also where all of it is one stream. The files have no name:
they are gone when they are closed, also after kill -9. They hold pseudonymous ids and numbers, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Final, Self
from uuid import UUID

from audit.fsck.lies import Lie

PARTITIONS: Final = 64
"""Who needs it: systems that let a process open no more than 256 files."""

SMALLER_PARTITIONS: Final = 16
"""Into so many files one is split that has too many streams: three levels of them hold ten thousand million."""

STREAMS_PER_PASS: Final = 50_000
"""Streams whose versions are held at once: some eight megabytes."""

RECORD: Final = struct.Struct(">16sqi")
SPILL_BYTES: Final = 32 * 1024
READ_RECORDS: Final = 8 * 1024

pack = RECORD.pack
"""(stream, position, version) -> what `Versions.buckets` take."""


class Versions:
    """The versions of all streams. The hot loop adds records to `buckets` itself, by `hash(stream) % PARTITIONS`."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: list[IO[bytes]] = []
        self.buckets = [bytearray() for _ in range(PARTITIONS)]

    def __enter__(self) -> Self:
        for _ in range(PARTITIONS):
            self._files.append(self._stack.enter_context(TemporaryFile(buffering=0)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def spill(self) -> None:
        """Write down the buckets that are full. Called once a window, so that none grows far beyond."""
        for number, bucket in enumerate(self.buckets):
            if len(bucket) >= SPILL_BYTES:
                self._write(number)

    def first_lie(self) -> Lie | None:
        """The wrong version with the smallest position, None if every stream runs 1, 2, 3 … in order of the log."""
        first = None
        for number, file in enumerate(self._files):
            self._write(number)
            first = _earlier(first, _first_lie_among(file, PARTITIONS))
        return first

    def _write(self, number: int) -> None:
        _append(self._files[number], self.buckets[number])
        self.buckets[number] = bytearray()


def _first_lie_among(file: IO[bytes], share: int) -> Lie | None:
    """The first lie in a file, which has one of `share` shares of all streams."""
    last: dict[bytes, int] = {}
    with ExitStack() as stack:
        smaller: list[IO[bytes]] = []
        buckets = [bytearray() for _ in range(SMALLER_PARTITIONS)]
        first = None
        for stream, position, version in _records(file):
            before = last.get(stream)
            if before is None:
                if len(last) >= STREAMS_PER_PASS:
                    smaller = smaller or [stack.enter_context(TemporaryFile(buffering=0)) for _ in buckets]
                    number = hash(stream) // share % SMALLER_PARTITIONS
                    buckets[number] += pack(stream, position, version)
                    if len(buckets[number]) >= SPILL_BYTES:
                        _append(smaller[number], buckets[number])
                        buckets[number] = bytearray()
                    continue
                before = 0
            if version != before + 1:
                first = _lie(UUID(bytes=stream), position, before, version)
                break  # What was set aside before it may still be earlier.
            last[stream] = version
        last.clear()
        for number, one in enumerate(smaller):
            _append(one, buckets[number])
            buckets[number] = bytearray()
            first = _earlier(first, _first_lie_among(one, share * SMALLER_PARTITIONS))
        return first


def _earlier(one: Lie | None, other: Lie | None) -> Lie | None:
    return min((lie for lie in (one, other) if lie is not None), key=lambda lie: lie.position, default=None)


def _append(file: IO[bytes], content: bytes | bytearray) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def _lie(stream: UUID, position: int, before: int, version: int) -> Lie:
    text = "A stream's versions run 1, 2, 3 … in the order of the log, each once."
    if version <= before:
        text = f"Version {version} of a stream stands behind its version {before}."
    return Lie(position, "versions", text, stream, f"version {before + 1}", f"version {version}")


def _records(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    file.seek(0)
    while piece := file.read(RECORD.size * READ_RECORDS):
        yield from RECORD.iter_unpack(piece)
