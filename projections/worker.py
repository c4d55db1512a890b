"""The worker: takes the asynchronous projections of every tenant further, and does the chores it is given.

Any number of workers may run: a batch holds the tracking row of its tenant and projection, and the others pass by.
What the worker looks after besides (erasures, the daily retention) belongs to rooms above this one and is plugged in
as chores by `api/bootstrap.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event
from uuid import UUID

import psycopg
import structlog

from ledger.application import Ledger, tenants
from ledger.connections import Pool
from ledger.errors import LedgerError, Unavailable
from projections.batches import AsyncProjection, Moved, take_batch
from projections.campaign_view import CampaignView
from projections.change_feed import ChangeFeed
from projections.errors import ProjectionError
from projections.observed import ObservedProcessing
from projections.tracking import start, take, tenants_behind

ASYNC_PROJECTIONS: tuple[AsyncProjection, ...] = (CampaignView(), ChangeFeed(), ObservedProcessing())

BATCHES_PER_TURN = 10
"""Batches of one tenant and projection before the others have their turn."""

IDLE_FACTOR = 5
BACK_OFF_SECONDS_MAX = 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done for every tenant now and then, at the earliest `every_seconds` after the last time."""

    name: str
    run: Callable[[Ledger], object]
    every_seconds: float


@dataclass(frozen=True, slots=True)
class WorkDone:
    """What a turn did: positions taken in over all tenants and projections, events parked, turns that failed."""

    events: int = 0
    parked: int = 0
    failed: int = 0

    def __add__(self, other: WorkDone) -> WorkDone:
        return WorkDone(self.events + other.events, self.parked + other.parked, self.failed + other.failed)


class Worker:
    """One worker process. `ledger_of` gives the ledger of a tenant."""

    def __init__(
        self,
        writer: Pool,
        ledger_of: Callable[[UUID], Ledger],
        *,
        chores: Sequence[Chore] = (),
        poll_seconds: float = 0.2,
        projections: Sequence[AsyncProjection] = ASYNC_PROJECTIONS,
    ) -> None:
        self._writer = writer
        self._ledger_of = ledger_of
        self._chores = chores
        self._poll_seconds = poll_seconds
        self._projections = projections
        self._chores_done: dict[str, float] = {}

    def run(self, stop: Event) -> None:
        """Work until `stop` is set. Polls less often when there is nothing to do or the database does not answer."""
        pause = self._poll_seconds
        while not stop.is_set():
            try:
                done = self.run_once()
                longest = self._poll_seconds * IDLE_FACTOR
                pause = self._poll_seconds if done.events else min(pause * 2, longest)
            except Unavailable:
                pause = min(pause * 2, BACK_OFF_SECONDS_MAX)
                _log.warning("database does not answer", next_try_seconds=round(pause, 1))
            stop.wait(pause)

    def run_once(self) -> WorkDone:
        """One turn over all tenants. Raises `Unavailable`; what else fails for one tenant is logged and tried again."""
        done = WorkDone()
        with self._writer.connection() as connection:
            behind = tenants_behind(connection, [projection.name for projection in self._projections])
        for tenant in behind:
            done += self._turn(tenant)
        return done + self._do_chores()

    def _turn(self, tenant: UUID) -> WorkDone:
        ledger = self._ledger_of(tenant)
        done = WorkDone()
        for projection in self._projections:
            try:
                for _ in range(BATCHES_PER_TURN):
                    moved = take_next(ledger, projection)
                    if moved is None or not moved.events:
                        break
                    done += WorkDone(moved.events, moved.parked)
            except Unavailable:
                raise
            except (LedgerError, ProjectionError, psycopg.Error) as error:
                done += WorkDone(failed=1)
                _log_failure("projection failed", error, tenant, projection.name)
        return done

    def _do_chores(self) -> WorkDone:
        """Chores that are due, each for every tenant."""
        now = time.monotonic()
        due = [c for c in self._chores if now >= self._chores_done.get(c.name, 0.0) + c.every_seconds]
        if not due:
            return WorkDone()
        failed = 0
        everybody = tenants(self._writer)
        for chore in due:
            self._chores_done[chore.name] = now
            for tenant in everybody:
                try:
                    chore.run(self._ledger_of(tenant))
                except Unavailable:
                    raise
                except Exception as error:  # noqa: BLE001  The edge of the process: one tenant must not stop the others.
                    failed += 1
                    _log_failure("chore failed", error, tenant, chore.name)
        return WorkDone(failed=failed)


def take_next(ledger: Ledger, projection: AsyncProjection, *, wait: bool = False) -> Moved | None:
    """One batch of one projection in a transaction of its own; None if another worker is at it."""
    writer, tenant = ledger.services.writer, ledger.tenant
    with writer.transaction() as connection:
        tracked = take(connection, tenant, projection.name, wait=wait)
        if tracked is not None:
            return take_batch(connection, ledger, projection, tracked)
    with writer.transaction() as connection:
        begun = start(connection, tenant, projection.name)
    return take_next(ledger, projection, wait=wait) if begun else None


def catch_up(ledger: Ledger, projections: Sequence[AsyncProjection] = ASYNC_PROJECTIONS) -> WorkDone:
    """Take in everything that one tenant's log holds now, waiting for other workers where they are at it."""
    done = WorkDone()
    for projection in projections:
        while (moved := take_next(ledger, projection, wait=True)) is not None and moved.events:
            done += WorkDone(moved.events, moved.parked)
    return done


def _log_failure(what: str, error: Exception, tenant: UUID, name: str) -> None:
    """Our own errors carry no personal value and say what to do; of any other only the kind is logged."""
    text = str(error) if isinstance(error, LedgerError | ProjectionError) else type(error).__name__
    _log.error(what, name=name, tenant=str(tenant), error=text)
