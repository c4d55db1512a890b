"""The values inside cells: dates, times, countries and lists of tags as files write them.

Every function takes a trimmed cell and raises :class:`UnreadableCell` whose text names the column and
the form that is wanted, and never the contents.
"""

from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime
from typing import Final

TAGS_MAX: Final = 200  # who needs it: one contact's sealed part stays small

_is_country = re.compile(r"[A-Za-z]{2}\Z").match
_is_date = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z").match
_is_time = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9:.,]+ ?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?\Z").match


class UnreadableCell(ValueError):
    """One cell cannot be read; the message is the reason for the reject file."""


def country(cell: str) -> str | None:
    """An ISO 3166-1 alpha-2 code in upper case, by its shape, or None for an empty cell."""
    if cell and not _is_country(cell):
        raise UnreadableCell("country: write two letters (ISO 3166), such as DE")
    return cell.upper() or None


def iso_date(cell: str, column: str) -> date | None:
    """A calendar date ``YYYY-MM-DD``, or None for an empty cell."""
    if not cell:
        return None
    try:
        if _is_date(cell):
            return date.fromisoformat(cell)
    except ValueError:
        pass
    raise UnreadableCell(f"{column}: write a date as YYYY-MM-DD")


def utc_time(cell: str, column: str) -> datetime | None:
    """An aware UTC time from ISO 8601 (a space or a T); **without an offset it is UTC**. None if empty."""
    if not cell:
        return None
    try:
        if _is_time(cell):
            time = datetime.fromisoformat(cell.replace(" +", "+").replace(" Z", "Z"))
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UnreadableCell(f"{column}: write a time as YYYY-MM-DD HH:MM:SS in UTC, or with an offset")


def tag_list(cell: str) -> tuple[str, ...]:
    """Distinct tags in order: a quoted list (``"A","B, C"``) or words between commas or semicolons."""
    if not cell:
        return ()
    if '"' in cell:
        try:
            parts = next(csv.reader([cell], skipinitialspace=True, strict=True))
        except csv.Error:
            raise UnreadableCell('tags: write them as "one","two"') from None
    else:
        parts = re.split(r"[,;]", cell)
    tags = tuple(dict.fromkeys(tag for part in parts if (tag := part.strip())))
    if len(tags) > TAGS_MAX:
        raise UnreadableCell(f"tags: more than {TAGS_MAX}")
    return tags
