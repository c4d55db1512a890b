"""What a simulation looks at: one datum for each thing that a policy speaks about, and the time it lives in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from ledger.application import Ledger

Tick = Callable[[Sequence[Ledger]], None]
"""Everything that a worker does for these accounts on one day."""


class Clock(Protocol):
    """A clock that can be set; `ledger.clock` of the simulated accounts."""

    def __call__(self) -> datetime: ...
    def set(self, moment: datetime) -> None: ...


@dataclass(slots=True)
class Datum:
    """One thing that a policy speaks about, and how to see whether it can still be reached."""

    clause: str
    retention_class: str
    what: str
    promised: str
    anchor: date
    due: date | None
    reachable: Callable[[], bool]
    gone_on: date | None = None

    def as_promised(self, last_day: date) -> bool:
        """Whether it ended on its day; for ever, and what is due after the simulation, must still be there."""
        if self.due is None or self.due > last_day:
            return self.gone_on is None
        return self.gone_on == self.due
