"""Overlap: reading the next chunk while the last one is written, without trusting a stale read.

What was read behind position P still holds under the lock if every event after P was written by this very request
and about other streams. Anything else is read again under the lock (invariant I1).
"""

from __future__ import annotations

from collections import deque

CHUNKS_REMEMBERED = 4


class OwnWrites:
    """The latest chunks that one request has committed: all that can lie between a preparation and its lock."""

    def __init__(self) -> None:
        self._written: deque[tuple[int, int, frozenset[bytes]]] = deque(maxlen=CHUNKS_REMEMBERED)

    def add(self, first: int, last: int, streams: frozenset[bytes]) -> None:
        """A chunk took the positions `first` to `last` and wrote, at most, to these streams."""
        self._written.append((first, last, streams))

    def alone_since(self, seen_position: int, head_position: int, streams: frozenset[bytes]) -> bool:
        """Whether all events after `seen_position` are this request's own, and none of them in `streams`."""
        position = head_position
        for first, last, written in reversed(self._written):
            if position == seen_position:
                return True
            if last != position or not written.isdisjoint(streams):
                return False
            position = first - 1
        return position == seen_position
