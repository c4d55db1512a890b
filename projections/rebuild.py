"""Rebuilding any projection of a tenant from the log, while the old one serves.

The asynchronous ones (`campaign_view`, `change_feed`, `observed`) fill the next generation from position 0 in short
transactions, catch up with the serving one, and change places with it in one transaction; the inline ones are one unit
named `standing` (see `rebuild_inline`). Everything is safe to kill and to run again: what was left half-built is
cleared first. Whoever was erased stays erased, because their keys are gone and the fold of an erasure is nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.application import Ledger
from ledger.connections import Pool
from projections.alone import alone
from projections.batches import AsyncProjection, take_batch
from projections.errors import RebuildRunning, UnknownProjection
from projections.holds import HOLDS, rebuild_holds
from projections.log import end_of_log
from projections.rebuild_inline import READERS_GRACE_SECONDS, ROWS_PER_DELETE, InlineRebuild, Progress
from projections.tracking import Tracked, all_tracked, start, take, take_generation
from projections.worker import ASYNC_PROJECTIONS

STANDING = "standing"
REBUILDABLE = (STANDING, HOLDS, *(projection.name for projection in ASYNC_PROJECTIONS))

LAST_STRETCH_EVENTS = 10_000

START_NEXT = """
INSERT INTO lethe.tracking (tenant_id, projection, generation, position, live) VALUES (%s, %s, %s, 0, false)
"""
SET_LIVE = "UPDATE lethe.tracking SET live = %s WHERE tenant_id = %s AND projection = %s AND generation = %s"
DELETE_TRACKING = "DELETE FROM lethe.tracking WHERE tenant_id = %s AND projection = %s AND generation = %s AND NOT live"
DELETE_PARKED = "DELETE FROM lethe.parked_event WHERE tenant_id = %s AND projection = %s AND generation = %s"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A finished rebuild: which projection, and the position at which the new one took over."""

    projection: str
    position: int


def rebuild(
    ledger: Ledger,
    rebuilder: Pool,
    name: str,
    progress: Progress | None = None,
    *,
    grace_seconds: float = READERS_GRACE_SECONDS,
) -> Rebuilt:
    """Build a projection of one tenant again. `progress` is called with positions done and positions in all.

    Raises `UnknownProjection`, `RebuildRunning` if another process is at it, and `RebuildRefused`.
    """
    with _alone(rebuilder, ledger.tenant, name):
        if name == STANDING:
            inline = InlineRebuild(ledger, rebuilder, grace_seconds=grace_seconds)
            return Rebuilt(name, inline.run(progress))
        if name == HOLDS:
            return Rebuilt(name, rebuild_holds(ledger, rebuilder, progress))
        return Rebuilt(name, _AsyncRebuild(ledger, rebuilder, _projection(name)).run(progress))


def clear_leftovers(ledger: Ledger, pool: Pool) -> None:
    """Delete the rows of generations that do not serve, unless a rebuild is running. Wanted after one was killed."""
    for name in (n for n in REBUILDABLE if n != HOLDS):  # Those are written in one transaction.
        try:
            with _alone(pool, ledger.tenant, name):
                if name == STANDING:
                    InlineRebuild(ledger, pool).clear_leftovers()
                else:
                    _AsyncRebuild(ledger, pool, _projection(name)).clear_leftovers()
        except RebuildRunning:
            continue


class _AsyncRebuild:
    """One rebuild of one asynchronous projection of one tenant."""

    def __init__(self, ledger: Ledger, pool: Pool, projection: AsyncProjection) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._pool = pool
        self._projection = projection

    def run(self, progress: Progress | None) -> int:
        self.clear_leftovers()
        generation = self._start()
        end = self._end()
        position = 0
        while position < end:
            position = self._take_next(generation)
            if progress is not None:
                progress(min(position, end), end)
            if position >= end and self._end() - position > LAST_STRETCH_EVENTS:
                end = self._end()
        position = self._change_places(generation)
        self.clear_leftovers()
        return position

    def clear_leftovers(self) -> None:
        """Delete every generation that does not serve, its rows first and its tracking last."""
        with self._pool.transaction() as connection:
            stale = [t for t, live in all_tracked(connection, self._tenant) if self._is_stale(t, live)]
        for tracked in stale:
            deleted = 1
            while deleted:
                with self._pool.transaction() as connection:
                    generation = tracked.generation
                    deleted = self._projection.clear(connection, self._tenant, generation, ROWS_PER_DELETE)
            with self._pool.transaction() as connection:
                names = (self._tenant, self._projection.name, tracked.generation)
                connection.execute(DELETE_PARKED, names)
                connection.execute(DELETE_TRACKING, names)

    def _is_stale(self, tracked: Tracked, live: bool) -> bool:
        return tracked.projection == self._projection.name and not live

    def _start(self) -> int:
        with self._pool.transaction() as connection:
            start(connection, self._tenant, self._projection.name)
        with self._pool.transaction() as connection:
            serving = take(connection, self._tenant, self._projection.name, wait=True)
            if serving is None:
                raise UnknownProjection("There is no account with this id here, so there is nothing to rebuild.")
            generation = serving.generation + 1
            connection.execute(START_NEXT, (self._tenant, self._projection.name, generation))
        return generation

    def _take_next(self, generation: int) -> int:
        with self._pool.transaction() as connection:
            return self._batch(connection, generation)

    def _batch(self, connection: Connection[Any], generation: int) -> int:
        tracked = take_generation(connection, self._tenant, self._projection.name, generation)
        assert tracked is not None, "Only a rebuild that runs alone deletes a generation."
        return take_batch(connection, self._ledger, self._projection, tracked).position

    def _change_places(self, generation: int) -> int:
        """Catch up with the serving generation and take its place, in one transaction that holds both."""
        with self._pool.transaction() as connection:
            serving = take(connection, self._tenant, self._projection.name, wait=True)
            assert serving is not None
            position = self._batch(connection, generation)
            while position < serving.position:
                position = self._batch(connection, generation)
            for number, live in ((serving.generation, False), (generation, True)):
                connection.execute(SET_LIVE, (live, self._tenant, self._projection.name, number))
        return position

    def _end(self) -> int:
        with self._pool.transaction() as connection:
            return end_of_log(connection, self._tenant)


@contextmanager
def _alone(pool: Pool, tenant: UUID, name: str) -> Iterator[None]:
    """Hold the right to rebuild one projection of one tenant; the database lets go of it if this process dies."""
    if name not in REBUILDABLE:
        raise UnknownProjection(f"Projections that can be rebuilt are {', '.join(REBUILDABLE)}.")
    with alone(pool, f"rebuild {name} {tenant}") as ours:
        if not ours:
            raise RebuildRunning(f"Another process rebuilds {name} of this account. Wait for it to end.")
        yield


def _projection(name: str) -> AsyncProjection:
    return next(projection for projection in ASYNC_PROJECTIONS if projection.name == name)
