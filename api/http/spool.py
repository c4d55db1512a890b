"""Answers that wait for a client: in memory first, then in a sealed temporary file.

Many HTTP clients send the whole body before they read a byte of the answer. A server that waits for them to read
would wait for ever, and one that keeps a million answers in memory would not be bounded. So what the client does not
take yet goes to a temporary file without a name, sealed under a key that exists only in this object (I4): the file
is worthless to anybody else and gone with the process.
"""

from __future__ import annotations

import asyncio
import os
import struct
import tempfile
from collections import deque
from threading import Condition
from typing import IO, Final

from ledger.sealing import KEY_BYTES, open_box, seal_box

MEMORY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Kept in memory for one answer, so that a client that reads as it sends never touches the disk."""

FILE_BYTES_MAX: Final = 4 * 1024 * 1024 * 1024
"""On disk for one answer: twenty million recipients. After that the body is read no faster than the answer."""

WAIT_SECONDS_MAX: Final = 600.0
"""How long a full spool waits for a client that reads nothing."""

_LENGTH: Final = struct.Struct(">I")
_AAD: Final = b"lethe.spool.v1"


class SpoolAbandoned(Exception):
    """Nobody takes the answer any more; the work behind it ends."""


class Spool:
    """A queue of blocks from one thread to the event loop, in order."""

    def __init__(self, *, memory_bytes_max: int = MEMORY_BYTES_MAX, file_bytes_max: int = FILE_BYTES_MAX) -> None:
        self._memory_bytes_max = memory_bytes_max
        self._file_bytes_max = file_bytes_max
        self._memory: deque[bytes] = deque()
        self._memory_bytes = 0
        self._file: IO[bytes] | None = None
        self._key = os.urandom(KEY_BYTES)
        self._written = 0
        self._read = 0
        self._ended = False
        self._changed = Condition()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()

    def put(self, block: bytes) -> None:
        """Add a block; called by the working thread. Raises `SpoolAbandoned` when nobody takes any."""
        with self._changed:
            fits = self._memory_bytes + len(block) <= self._memory_bytes_max or not self._memory
            if self._written == self._read and fits:
                self._memory.append(block)
                self._memory_bytes += len(block)
            else:
                self._spill(block)
        self._tell()

    def end(self) -> None:
        """No more blocks follow."""
        with self._changed:
            self._ended = True
        self._tell()

    async def take(self) -> bytes | None:
        """The next block, None after the last one. Called in the event loop."""
        while True:
            self._arrived.clear()
            with self._changed:
                block = self._next()
                if block is not None:
                    self._changed.notify_all()
                    return block
                if self._ended:
                    return None
            await self._arrived.wait()

    def close(self) -> None:
        """Forget everything that waits, and let the thread behind it end."""
        with self._changed:
            self._ended = True
            self._memory.clear()
            if self._file is not None:
                self._file.close()
                self._file = None
            self._written = self._read = 0
            self._changed.notify_all()

    def _next(self) -> bytes | None:
        if self._memory:
            block = self._memory.popleft()
            self._memory_bytes -= len(block)
            return block
        if self._file is None or self._written == self._read:
            return None
        (length,) = _LENGTH.unpack(os.pread(self._file.fileno(), _LENGTH.size, self._read))
        sealed = os.pread(self._file.fileno(), length, self._read + _LENGTH.size)
        self._read += _LENGTH.size + length
        if self._read == self._written:
            self._file.truncate(0)
            self._read = self._written = 0
        return open_box(self._key, sealed, _AAD)

    def _spill(self, block: bytes) -> None:
        while self._written >= self._file_bytes_max and not self._ended:
            if not self._changed.wait(WAIT_SECONDS_MAX):
                raise SpoolAbandoned("The client takes no answers.")
        if self._ended:
            raise SpoolAbandoned("The client went away.")
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  Closed by `close`.
        sealed = seal_box(self._key, block, _AAD)
        record = _LENGTH.pack(len(sealed)) + sealed
        written = os.pwrite(self._file.fileno(), record, self._written)
        if written != len(record):
            raise SpoolAbandoned("The disk for waiting answers is full.")
        self._written += len(record)

    def _tell(self) -> None:
        self._loop.call_soon_threadsafe(self._arrived.set)
