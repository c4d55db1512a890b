"""The budgets of the design, and what a measurement is compared with.

Every budget is a ratio to a contender that ran in the same minutes on the same server, or a bound that a person
would feel (milliseconds, megabytes). Absolute rates are printed beside them and are never what is judged: the same
code is twice as fast on another machine, and so is the contender.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Sense = Literal["at_least", "at_most"]


@dataclass(frozen=True, slots=True)
class Budget:
    """One promise of the design: the compared value is to be `at_least` or `at_most` the bound."""

    name: str
    sense: Sense
    bound: float
    promise: str
    soak: bool = False

    def holds(self, value: float) -> bool:
        """Whether a measured value keeps the promise."""
        return value >= self.bound if self.sense == "at_least" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table: a figure, its unit, and for a budget the value that is judged.

    `ratio` is to the contender named in `what`; where a budget is a bound on the figure itself there is none.
    `rounds` are the figures that `value` is the median of.
    """

    name: str
    what: str
    value: float
    unit: str
    budget: str | None = None
    ratio: float | None = None
    rounds: tuple[float, ...] = ()

    @property
    def judged(self) -> float:
        """What is compared with the budget."""
        return self.value if self.ratio is None else self.ratio


BUDGETS: Final[tuple[Budget, ...]] = (
    Budget("authorise_vs_stock_save", "at_least", 3.0, "bulk authorisation, against stock batched save"),
    Budget("authorise_vs_raw_copy", "at_least", 0.25, "bulk authorisation, against raw binary COPY"),
    Budget("engagement_vs_stock_save", "at_least", 1.5, "bulk sealed engagement, against stock batched save"),
    Budget("single_commands_vs_raw_commits", "at_least", 1.0, "single commands of 64 clients, against raw commits"),
    Budget("permission_check_vs_no_op", "at_least", 0.5, "a permission check over HTTP, against a no-op endpoint"),
    Budget("permission_check_p99_ms", "at_most", 25.0, "a permission check over HTTP, 99th percentile"),
    Budget("projections_vs_stock_runner", "at_least", 20.0, "asynchronous projections, against the stock runner"),
    Budget("rebuild_events_per_second", "at_least", 50_000.0, "rebuild of a projection"),
    Budget("erase_person_large_vs_small", "at_most", 2.0, "time until a person of many events is unreachable"),
    Budget("destroy_month_large_vs_small", "at_most", 2.0, "time until a month of many events is unreachable"),
    Budget("proof_p99_ms", "at_most", 5.0, "a proof over HTTP from a long log, 99th percentile"),
    Budget("fsck_events_per_second", "at_least", 100_000.0, "check of a whole log, in one process"),
    Budget("fsck_memory_large_vs_small", "at_most", 1.1, "memory of that process on a long log, against a short one"),
    Budget("growth_large_vs_small", "at_least", 0.8, "bulk authorisation on a long log", soak=True),
    Budget("authorise_beside_publishing", "at_least", 0.9, "bulk authorisation beside publishing, against alone"),
    Budget("publishing_lag_seconds", "at_most", 2.0, "from the last commit until it is published, at full speed"),
    Budget("memory_peak_mb", "at_most", 300.0, "memory of a process that authorises a stream"),
    Budget("roll_memory_peak_mb", "at_most", 300.0, "memory of a process that rolls the epoch"),
)
"""In the order of DESIGN section 12. The two times-to-unreachable are "the same" within this machine's noise: 2."""

BY_NAME: Final = {budget.name: budget for budget in BUDGETS}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget with what was measured for it; no value where its part failed, and then it does not hold."""

    budget: Budget
    value: float | None

    @property
    def holds(self) -> bool:
        """Whether it was measured and keeps the promise."""
        return self.value is not None and self.budget.holds(self.value)


def verdicts(lines: Iterable[Line], failed: Iterable[str]) -> list[Verdict]:
    """One verdict per budget that was measured or should have been, in the design's order."""
    judged = {line.budget: line.judged for line in lines if line.budget is not None}
    missing = set(failed)
    return [Verdict(b, judged.get(b.name)) for b in BUDGETS if b.name in judged or b.name in missing]
