"""A lean load generator: keep-alive clients that send one request after the other and time each answer.

It speaks just enough HTTP/1.1 to find where an answer ends, so that the two cores belong to the server. Reads one
JSON object from standard input (port, path, headers, bodies, clients, seconds) and writes one to standard output
(requests, seconds, failed, p50_ms, p99_ms).
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

import uvloop

HOST = "127.0.0.1"
WARM_UP_SHARE = 0.2
ANSWER_SECONDS_MAX = 10.0
"""After the time is up: a server that leaves an answer out for longer has failed."""


@dataclass(slots=True)
class Counted:
    """What all clients saw after the warm-up: the seconds of each good answer, and the number of others."""

    latencies: list[float] = field(default_factory=list)
    failed: int = 0


class Client(asyncio.Protocol):
    """One connection, always with one request under way."""

    def __init__(self, requests: list[bytes], offset: int, count_from: float, until: float, counted: Counted) -> None:
        self._requests = requests
        self._next = offset
        self._count_from = count_from
        self._until = until
        self._counted = counted
        self._buffer = b""
        self._sent = 0.0
        self._transport: asyncio.WriteTransport | None = None
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class is no subclass of it
        self._send()

    def data_received(self, data: bytes) -> None:
        """Count a finished answer and send the next request."""
        self._buffer += data
        if not answer_is_whole(self._buffer):
            return
        now = perf_counter()
        if self._sent >= self._count_from:
            if self._buffer.startswith(b"HTTP/1.1 200"):
                self._counted.latencies.append(now - self._sent)
            else:
                self._counted.failed += 1
        self._buffer = b""
        if now < self._until:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """A connection that ends before its time is a failure."""
        if perf_counter() < self._until:
            self._counted.failed += 1
        if not self.finished.done():
            self.finished.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1


def answer_is_whole(buffer: bytes) -> bool:
    """Whether an answer with a Content-Length has arrived in full."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return False
    head = buffer[:head_end].lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise ValueError("The server answered without a Content-Length; this generator does not read chunks.")
    line_end = head.find(b"\r\n", at)
    length = int(head[at + 15 : line_end if line_end > 0 else None])
    return len(buffer) >= head_end + 4 + length


async def load(order: dict[str, Any]) -> dict[str, float]:
    """Run all clients for the time ordered."""
    requests = [request_bytes(order["path"], order["headers"], body) for body in order["bodies"]]
    counted = Counted()
    start = perf_counter()
    count_from = start + order["seconds"] * WARM_UP_SHARE
    until = count_from + order["seconds"]
    loop = asyncio.get_running_loop()
    clients = []
    for number in range(order["clients"]):
        offset = number * len(requests) // order["clients"]
        made = Client(requests, offset, count_from, until, counted)
        await loop.create_connection(lambda made=made: made, HOST, order["port"])  # type: ignore[misc]  # mypy cannot type a default in a lambda
        clients.append(made)
    async with asyncio.timeout(until - perf_counter() + ANSWER_SECONDS_MAX):
        await asyncio.gather(*(client.finished for client in clients))
    elapsed = perf_counter() - count_from
    latencies = sorted(counted.latencies)
    return {
        "requests": len(latencies),
        "seconds": elapsed,
        "failed": counted.failed,
        "p50_ms": percentile(latencies, 0.50) * 1000,
        "p99_ms": percentile(latencies, 0.99) * 1000,
    }


def percentile(ordered: list[float], share: float) -> float:
    """The value below which this share of an ordered list lies; not-a-number of an empty one."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def request_bytes(path: str, headers: dict[str, str], body: str) -> bytes:
    """A POST as it goes over the wire."""
    content = body.encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def main() -> None:
    """Load what standard input orders."""
    uvloop.install()
    print(json.dumps(asyncio.run(load(json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
