"""Days as people write them, in English whatever the machine speaks: one document gives the same bytes everywhere."""

from __future__ import annotations

from datetime import date
from typing import Final

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def long_day(day: date) -> str:
    """`21 November 2026`."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def short_day(day: date) -> str:
    """`21 Nov 2026`, for columns."""
    return f"{day.day} {_MONTHS[day.month - 1][:3]} {day.year}"
