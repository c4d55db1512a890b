"""Permission checks, many at a time: group commit for reads.

Each check alone costs three statements and a thread. Checks of one account that come while another batch is being
answered wait for the next one, and share its statements and its thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from uuid import UUID

from api.http.problems import UNAVAILABLE, RequestRefused
from domain.address import canonical_address
from domain.permission import Decision
from domain.scope import checked_purpose
from ledger.application import Ledger

BATCH_MAX: Final = 256
"""Checks per batch: larger ones make the first wait for the last without saving statements."""

WAITING_MAX: Final = 10_000
"""Checks that wait in one account: two seconds of them; more are turned away at once."""

THREADS: Final = 4
"""Accounts answered at the same time."""

Asked = tuple[str, str, str]


class _Line:
    """The checks of one account that wait."""

    __slots__ = ("task", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Asked, asyncio.Future[Decision]]] = deque()
        self.task: asyncio.Task[None] | None = None


class CheckDesk:
    """Answers `may this be sent?` for single addresses. Lives in one event loop."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="lethe-check")
        self._lines: dict[UUID, _Line] = {}

    async def check(self, ledger: Ledger, email: str, purpose: str, channel: str) -> Decision:
        """One decision. Raises `InvalidAddress`, `InvalidScope`, or the problem when too many wait."""
        canonical_address(email)
        checked_purpose(purpose)
        line = self._lines.get(ledger.tenant)
        if line is None:
            line = self._lines[ledger.tenant] = _Line()
        if len(line.waiting) >= WAITING_MAX:
            raise RequestRefused(UNAVAILABLE, "Too many checks are waiting. Send it again after Retry-After.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Decision] = loop.create_future()
        line.waiting.append(((email, purpose, channel), future))
        if line.task is None:
            line.task = loop.create_task(self._answer(ledger, line))
        return await future

    def close(self) -> None:
        """Stop the threads."""
        self._executor.shutdown(wait=True)

    async def _answer(self, ledger: Ledger, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        try:
            while line.waiting:
                batch = [line.waiting.popleft() for _ in range(min(len(line.waiting), BATCH_MAX))]
                try:
                    asked = [one for one, _ in batch]
                    decisions = await loop.run_in_executor(self._executor, ledger.check, asked)
                except Exception as error:  # noqa: BLE001  Handed to every request of the batch, which answers it.
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), decision in zip(batch, decisions, strict=True):
                        if not future.done():
                            future.set_result(decision)
        finally:
            line.task = None
            if not line.waiting:
                self._lines.pop(ledger.tenant, None)
