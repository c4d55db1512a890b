"""Group commit: single commands of many threads share one transaction, and so one lock and one flush to disk.

The first thread to come leads: it carries out everything that waits, its own act included, and hands the lead to
one of the others when new acts have come in meanwhile. An act that is refused fails alone; a database error, or a
value that cannot be written, makes the members of a group run one by one, so that one bad act cannot take the others
with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from time import sleep
from typing import Generic, TypeVar

import psycopg

A = TypeVar("A")
R = TypeVar("R")

GROUP_SIZE_MAX = 256
GATHER_SECONDS = 0.0004
"""How long a leader waits for company, and only if the group before had some."""


class _Ticket(Generic[A, R]):
    """One waiting act. `turn` is released when it has a result, or when its thread must lead."""

    __slots__ = ("act", "error", "result", "settled", "turn")

    def __init__(self, act: A) -> None:
        self.act = act
        self.turn = Lock()
        self.turn.acquire()
        self.settled = False
        self.result: R | None = None
        self.error: BaseException | None = None


class GroupCommitter(Generic[A, R]):
    """Runs `carry_out(acts)` for groups of acts; results come back in order of the acts given."""

    def __init__(
        self, carry_out: Callable[[Sequence[A]], Sequence[R]], *, group_size_max: int = GROUP_SIZE_MAX
    ) -> None:
        self._carry_out = carry_out
        self._group_size_max = group_size_max
        self._lock = Lock()
        self._waiting: deque[_Ticket[A, R]] = deque()
        self._led = False
        self._last_group = 1

    def submit(self, act: A) -> R:
        """Carry out one act, in a group if others wait; returns once it is durable."""
        ticket: _Ticket[A, R] = _Ticket(act)
        with self._lock:
            self._waiting.append(ticket)
            leads = not self._led
            self._led = True
        if not leads:
            ticket.turn.acquire()
        if not ticket.settled:
            self._lead()
        if ticket.error is not None:
            raise ticket.error
        return ticket.result  # type: ignore[return-value]

    def _lead(self) -> None:
        """Carry out one group, which holds this thread's own ticket, and pass the lead on."""
        if 1 < self._last_group != len(self._waiting):
            # The threads of the last group are on their way back; without them every other group would be one act.
            sleep(GATHER_SECONDS)
        with self._lock:
            size = min(len(self._waiting), self._group_size_max)
            group = [self._waiting.popleft() for _ in range(size)]
            self._last_group = size
        try:
            self._settle(group)
        finally:
            with self._lock:
                successor = self._waiting[0] if self._waiting else None
                self._led = successor is not None
            for ticket in group:
                ticket.settled = True
                ticket.turn.release()
            if successor is not None:
                successor.turn.release()

    def _settle(self, group: Sequence[_Ticket[A, R]]) -> None:
        try:
            for ticket, result in zip(group, self._carry_out([t.act for t in group]), strict=True):
                ticket.result = result
        except (psycopg.Error, ValueError) as error:  # Nothing was committed: `Unavailable` is another matter.
            self._settle_singly(group, error)
        except BaseException as error:
            for ticket in group:
                ticket.error = error
            if not isinstance(error, Exception):
                raise

    def _settle_singly(self, group: Sequence[_Ticket[A, R]], error: psycopg.Error | ValueError) -> None:
        if len(group) == 1:
            group[0].error = error
            return
        for ticket in group:
            try:
                ticket.result = self._carry_out([ticket.act])[0]
            except Exception as own:  # noqa: BLE001  Each member gets the error of its own act and no other's.
                ticket.error = own
