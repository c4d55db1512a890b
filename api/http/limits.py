"""Limits of the ways in: how much, how fast, how often. Every one of them fails closed.

Buckets and budgets live in the process and are bounded; behind several processes each counts for itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from api.http.problems import MALFORMED, RATE_LIMIT, TIMEOUT, TOO_LARGE, RequestRefused

ROWS_MAX: Final = 10_000
"""Rows of one JSON array: what a client may hold back for one answer. More rows go as NDJSON."""

BODY_SECONDS_MAX: Final = 60.0
"""A JSON body has this long to arrive: a phone on a train needs less, a slow-loris more."""

STALL_SECONDS_MAX: Final = 30.0
"""The longest silence inside an NDJSON body."""

BUCKETS_MAX: Final = 10_000
"""Keys whose use is counted at a time."""

BODY_CUT: Final = "lethe_body_cut"
"""Set in the scope's state by our server when a client closes its side in the middle of a body."""

DELIVERED: Final = "delivered"
"""What BODY_CUT becomes once the last bytes before the cut were handed on."""

Monotonic = Callable[[], float]


class BodyCut(Exception):
    """The client went away, or closed its side, before the body was complete."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class TokenBuckets:
    """A token bucket per key: `per_minute` tokens at first, refilled evenly. `clock` is monotonic, in seconds."""

    def __init__(self, per_minute: int, *, buckets_max: int = BUCKETS_MAX, clock: Monotonic = time.monotonic) -> None:
        self._capacity = float(per_minute)
        self._per_second = per_minute / 60.0
        self._buckets_max = buckets_max
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def take(self, key: Hashable) -> float:
        """Take one token; returns 0.0, or the seconds until there is one. A full table refuses new keys."""
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._buckets_max and not self._drop_a_full_one(now):
                return 1.0
            bucket = self._buckets[key] = _Bucket(self._capacity, now)
        else:
            self._buckets.move_to_end(key)
            bucket.tokens = min(self._capacity, bucket.tokens + (now - bucket.at) * self._per_second)
            bucket.at = now
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return 0.0
        return (1.0 - bucket.tokens) / self._per_second

    def _drop_a_full_one(self, now: float) -> bool:
        """Forget the bucket that was used longest ago, if time has refilled it; dropping it then changes nothing."""
        key, bucket = next(iter(self._buckets.items()))
        if bucket.tokens + (now - bucket.at) * self._per_second < self._capacity:
            return False
        del self._buckets[key]
        return True


def require_rate(buckets: TokenBuckets, key: Hashable) -> None:
    """Take a token or raise the problem that says how long to wait."""
    wait_seconds = buckets.take(key)
    if wait_seconds:
        raise RequestRefused(
            RATE_LIMIT,
            "This API key sent more requests than it may. Wait as long as Retry-After says, then send again.",
            headers={"Retry-After": str(max(1, round(wait_seconds + 0.5)))},
        )


async def read_body(request: Request, bytes_max: int) -> bytes:
    """The whole body, read as it comes. Raises the problem for one that is too large, too slow or cut off."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > bytes_max:
        raise too_large(bytes_max)
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await _read(request, bytes_max)
    except TimeoutError:
        raise RequestRefused(
            TIMEOUT, f"The body did not arrive within {BODY_SECONDS_MAX:.0f} seconds. Nothing was done; send it again."
        ) from None
    except BodyCut:
        raise RequestRefused(MALFORMED, "The body ended early. Nothing was done; send it again.") from None


async def _read(request: Request, bytes_max: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        piece, more = await next_piece(request)
        size += len(piece)
        if size > bytes_max:
            raise too_large(bytes_max)
        if not more:
            return piece if not pieces else b"".join([*pieces, piece])
        pieces.append(piece)


async def next_piece(request: Request) -> tuple[bytes, bool]:
    """The next bytes of the body and whether more follow. Raises `BodyCut` where it ends early."""
    state = request.scope.setdefault("state", {})
    if state.get(BODY_CUT) == DELIVERED:
        raise BodyCut
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise BodyCut
    piece = bytes(message.get("body", b""))
    more = bool(message.get("more_body", False))
    if more or not state.get(BODY_CUT):
        return piece, more
    state[BODY_CUT] = DELIVERED
    if not piece:
        raise BodyCut
    return piece, True


def too_large(bytes_max: int) -> RequestRefused:
    """The problem for a body of too many bytes."""
    return RequestRefused(TOO_LARGE, f"The body is larger than {bytes_max} bytes. Split it, or send NDJSON.")


def too_many_rows() -> RequestRefused:
    """The problem for an array of too many rows."""
    return RequestRefused(
        TOO_LARGE,
        f"The array holds more than {ROWS_MAX} rows. Split it, or send the rows as application/x-ndjson where the "
        "documentation says so. Nothing was done.",
    )
