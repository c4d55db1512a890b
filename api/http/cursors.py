"""Cursors: where to go on, opaque to the client, so that what is behind them may change. No totals, no offsets."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

from api.http.problems import INVALID, RequestRefused

_VERSION: Final = b"\x01"


def cursor_of(position: int) -> str:
    """The cursor that goes on after a position."""
    return urlsafe_b64encode(_VERSION + position.to_bytes(8, "big")).decode().rstrip("=")


def position_of(cursor: str) -> int:
    """The position that a cursor goes on after. Raises the problem for anything that is no cursor of ours."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
    except ValueError:
        raw = b""
    position = int.from_bytes(raw[1:], "big")
    # The decoder passes over what is no base64, so the cursor is compared with what it should have been.
    if len(raw) != 9 or position >= 1 << 63 or cursor != cursor_of(position):
        raise RequestRefused(INVALID, "No cursor of this API. Use what an answer gave as `next`, unchanged.")
    return position
