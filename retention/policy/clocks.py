"""When what a policy pack promises is due: pure arithmetic on days (UTC), the same for the plan and for the report.

A maximum ("up to", "for", "within") rounds down, a minimum ("at least") rounds up, so that a promise is never broken
by a day whichever way it points:

    a month or day by calendar     counted from its first day: 2026-01 and 24 months is due on 2028-01-01
    a person's key                 counted from the last day on which its clock moved
    an account that was closed     counted from the day of its termination
    a minimum                      counted from the last day that it covers, and due on the day after it has run

Months clamp to the month's end (Reg. (EEC, Euratom) 1182/71 Art. 3(2)(c)): 31 August and six months is 28 February.
What is due on a day is destroyed by the first plan that is applied on that day or later.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, date, timedelta
from typing import Literal, Protocol

Clock = Literal["calendar", "last_engagement", "last_interaction", "last_transaction", "account_closed", "for_ever"]
Unit = Literal["day", "month"]

MONTHS_PER_YEAR = 12
STEPS_BACK_MAX = 62
"""`last_anchor_due` looks back from the span's plain subtraction; clamping and a month's length explain no more."""


class NeverDue(ValueError):
    """A day was asked for of what is kept for ever."""


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time in months, days or both; a year is twelve months."""

    months: int = 0
    days: int = 0

    def after(self, day: date) -> date:
        """The day that lies this span later; months first, clamped to the month's end."""
        return _add_months(day, self.months) + timedelta(days=self.days)

    def before(self, day: date) -> date:
        """The day that lies this span earlier; months first, clamped to the month's end."""
        return _add_months(day, -self.months) - timedelta(days=self.days)

    def __str__(self) -> str:
        years, months = divmod(self.months, MONTHS_PER_YEAR)
        parts = [(years, "year") if not months and years > 2 else (self.months, "month"), (self.days, "day")]
        said = [f"{number} {word}{'' if number == 1 else 's'}" for number, word in parts if number]
        return " and ".join(said) or "0 days"


class Clocked(Protocol):
    """What has a due day: a rule of a class, or of an account's closure."""

    @property
    def clock(self) -> Clock: ...
    @property
    def keep(self) -> Span | None: ...
    @property
    def unit(self) -> Unit | None: ...
    @property
    def minimum(self) -> bool: ...


def first_day_of(period: str) -> date:
    """The first day of a period as keys name it: `2026-11` or `2026-11-21`."""
    return date.fromisoformat(period if len(period) > len("2026-11") else f"{period}-01")


def last_day_of(period: str) -> date:
    """The last day of a period as keys name it."""
    first = first_day_of(period)
    return first if len(period) > len("2026-11") else _month_end(first)


def due_on(rule: Clocked, anchor: date) -> date:
    """The first day on which what the rule governs is to be destroyed. Raises `NeverDue`.

    `anchor` is the first day of the calendar period, the last day on which the person's clock moved, or the day of
    the account's termination.
    """
    if rule.keep is None:
        raise NeverDue("This rule keeps for ever, so it has no due day. Look at its clock before asking.")
    if not rule.minimum:
        return rule.keep.after(anchor)
    last = _month_end(anchor) if rule.clock == "calendar" and rule.unit == "month" else anchor
    return rule.keep.after(last) + timedelta(days=1)


def last_anchor_due(rule: Clocked, today: date) -> date | None:
    """The latest anchor that is due today or was before, so that everything up to it is; None if there is none.

    Raises `NeverDue`. It is what a plan asks the vault for: all keys whose clock stood still since this day.
    """
    if rule.keep is None:
        raise NeverDue("This rule keeps for ever, so nothing under it is ever due.")
    try:
        day = rule.keep.before(today) + timedelta(days=STEPS_BACK_MAX // 2)
        for _ in range(STEPS_BACK_MAX + STEPS_BACK_MAX // 2):
            if due_on(rule, day) <= today:
                return day
            day -= timedelta(days=1)
    except OverflowError:
        return None
    raise AssertionError("A due day lies further from its anchor than its span explains.")


def _add_months(day: date, months: int) -> date:
    year, month = divmod(day.year * MONTHS_PER_YEAR + day.month - 1 + months, MONTHS_PER_YEAR)
    if not MINYEAR <= year <= MAXYEAR:
        raise OverflowError(f"{months} months from {day} lie outside the calendar.")
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _month_end(day: date) -> date:
    return day.replace(day=monthrange(day.year, day.month)[1])
