"""NDJSON in: lines of a body of any length, handed to a working thread as they come, with back-pressure both ways.

The event loop reads pieces of the body into a short queue; the thread takes lines out of it and waits where there
are none. A slow thread stops the reading, and so the sender. A body that ends early gives its whole lines, and then
says so: what stands after the last line end is not taken for a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from starlette.requests import Request

from api.http.limits import STALL_SECONDS_MAX, BodyCut, next_piece

LINE_BYTES_MAX: Final = 64 * 1024
PIECES_WAITING_MAX: Final = 8
"""Pieces (of at most 64 KiB each, as the server reads them) between the loop and the thread."""

TOO_LONG: Final = f"the line is longer than {LINE_BYTES_MAX} bytes"
CUT: Final = "the body ended in the middle of this line"


class LineFeed:
    """The lines of one NDJSON body."""

    def __init__(self, request: Request) -> None:
        self._request = request
        streams = anyio.create_memory_object_stream[bytes](PIECES_WAITING_MAX)
        self._sending: MemoryObjectSendStream[bytes] = streams[0]
        self._receiving: MemoryObjectReceiveStream[bytes] = streams[1]
        self._loop = asyncio.get_running_loop()
        self.ended_early = False

    async def pump(self) -> None:
        """Read the body until it ends, is cut, or falls silent. Runs in the event loop."""
        with self._sending:
            more = True
            while more:
                try:
                    async with asyncio.timeout(STALL_SECONDS_MAX):
                        piece, more = await next_piece(self._request)
                except (BodyCut, TimeoutError):
                    self.ended_early = True
                    return
                if piece:
                    await self._sending.send(piece)

    def lines(self) -> Iterator[tuple[int, bytes | str]]:
        """Each line with its number from 0: its bytes, or why it is rejected. Blank lines are counted and skipped.

        Runs in a thread, any one at a time, and waits there.
        """
        number, rest, skipping = 0, b"", False
        while (piece := self._next()) is not None:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                if skipping or len(line) > LINE_BYTES_MAX:
                    skipping = False
                    yield number, TOO_LONG
                elif line and not line.isspace():
                    yield number, line
                number += 1
            if len(rest) > LINE_BYTES_MAX:
                rest, skipping = b"", True
        if skipping:
            yield number, TOO_LONG
        elif rest and not rest.isspace():
            yield number, CUT if self.ended_early else rest

    def close(self) -> None:
        """Let go of both ends, once nobody reads or writes any more."""
        self._sending.close()
        self._receiving.close()

    def _next(self) -> bytes | None:
        try:
            return asyncio.run_coroutine_threadsafe(self._receiving.receive(), self._loop).result()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return None


async def beside(feed: LineFeed, work: Callable[[], None], threads: CapacityLimiter) -> Exception | None:
    """Read the body and run `work` in a thread, side by side; returns what stopped the work, if anything did.

    The exception is returned and not raised, because a task group would wrap it.
    """
    failure: Exception | None = None

    async def working() -> None:
        nonlocal failure
        try:
            await to_thread.run_sync(work, limiter=threads)
        except Exception as error:  # noqa: BLE001  Handed to the caller, which answers it.
            failure = error
        group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(feed.pump)
            group.start_soon(working)
    finally:
        feed.close()
    return failure
