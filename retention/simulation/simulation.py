"""The simulation: a small ledger lives for some years under a pack, and every datum tells when it became unreachable.

A lawyer reads its table as the pack's promise, and tests read it as a test of the pack and of the program. Nothing in
it is computed from the rules but the column "due": on every simulated day the worker's own chores run, and afterwards
each datum is opened as somebody would open it who knows whose it was and holds every key that is still alive. The day
on which that fails for the first time is the day in the table.

Days are those on which something is due, those beside them, and one in every thirty. Nothing becomes unreachable
without a chore, so a day that is left out cannot hide an early end: it would show on the next one that is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from ledger.application import Ledger
from retention.policy.pack import Pack
from retention.simulation.data import Clock, Datum, Tick
from retention.simulation.life import BEGINS, YEARS_MAX, Scene

__all__ = ["YEARS_DEFAULT", "YEARS_MAX", "Clock", "Datum", "Simulation", "Tick", "simulate"]

YEARS_DEFAULT: Final = 8


@dataclass(frozen=True, slots=True)
class Simulation:
    """What became of every datum, by clause, and the days that were looked at."""

    pack: Pack
    begun: date
    ended: date
    days: int
    data: tuple[Datum, ...]

    @property
    def broken(self) -> tuple[Datum, ...]:
        """What did not end on its day."""
        return tuple(datum for datum in self.data if not datum.as_promised(self.ended))


Progress = Callable[[int, int], None]


def simulate(
    pack: Pack,
    *,
    years: int,
    clock: Clock,
    ledger_of: Callable[[UUID], Ledger],
    tick: Tick,
    progress: Progress | None = None,
) -> Simulation:
    """Let a ledger live for so many years under a pack; it must be empty, and belongs to the simulation."""
    scene = Scene(pack, clock, ledger_of, tick)
    last = _years_after(BEGINS, years)
    days = 0
    while (day := scene.next_day()) is not None and day <= last:
        scene.live(day)
        days += 1
        if progress is not None:
            progress((day - BEGINS).days, (last - BEGINS).days)
    data = sorted(scene.data, key=lambda datum: (datum.clause, datum.retention_class, datum.anchor))
    return Simulation(pack, BEGINS, last, days, tuple(data))


def _years_after(day: date, years: int) -> date:
    return day.replace(year=day.year + years)
