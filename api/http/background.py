"""What a server does beside its answers: it finishes erasures, and watches the gate of restored databases.

Erasures are finished in the background as soon as they are answered, besides by the worker.

The saga can be killed anywhere and run again (`retention/erasure/erasing.py`), so whatever stops it here only makes the
worker do it. One run per account at a time; a request that comes in while one runs makes it run once more.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog
from anyio import CapacityLimiter, to_thread

from api.bootstrap import Instance
from ledger.backup.gate import WATCH_EVERY_SECONDS
from ledger.errors import GateShut
from retention.erasure.erasing import finish_erasures

log = structlog.get_logger("lethe.http")


async def watch_gate(instance: Instance) -> None:
    """Look at the gate for as long as the server runs; once it is shut every request is answered with that."""
    limiter = CapacityLimiter(1)
    while True:
        await asyncio.sleep(WATCH_EVERY_SECONDS)
        try:
            await to_thread.run_sync(instance.watch.look, limiter=limiter)
        except GateShut as shut:
            log.critical("gate_shut", error=str(shut))
        except Exception as error:  # noqa: BLE001  The edge of a task: it looks again in half a minute.
            log.warning("gate_not_seen", error=type(error).__name__)


class ErasureRunner:
    """Runs `finish_erasures` for accounts that asked for it."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._limiter = CapacityLimiter(2)
        self._wanted: set[UUID] = set()
        self._running: dict[UUID, asyncio.Task[None]] = {}

    def wake(self, tenant: UUID) -> None:
        """Finish the erasures of this account soon."""
        self._wanted.add(tenant)
        if tenant not in self._running:
            self._running[tenant] = asyncio.get_running_loop().create_task(self._run(tenant))

    async def drain(self) -> None:
        """Wait for the runs under way; called when the server stops."""
        while self._running:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, tenant: UUID) -> None:
        try:
            while tenant in self._wanted:
                self._wanted.discard(tenant)
                await to_thread.run_sync(finish_erasures, self._instance.ledger(tenant), limiter=self._limiter)
        except Exception as error:  # noqa: BLE001  The edge of a task: the worker runs the saga again and reports it.
            log.warning("erasure_left_to_worker", error=type(error).__name__)
        finally:
            del self._running[tenant]
