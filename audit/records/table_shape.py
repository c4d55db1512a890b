"""What a table of a record of processing is made of, and how its cells read as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

Cell = str | int | bool | date | datetime | tuple[str, ...] | None
Row = tuple[Cell, ...]

ERASED: Final = "(erased)"
"""Where words were sealed under keys that are destroyed since; the codes beside them remain."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `width` is in characters; `extra` marks what Article 30 does not ask for."""

    title: str
    width: int = 20
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One part of a record. `name` names files and sheets; `empty` is said where there are no rows."""

    name: str
    title: str
    article: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: str
    extra: bool = False


def text_of(cell: Cell, *, between: str = "; ") -> str:
    """A cell as text: days and times in ISO 8601, several values with something between them."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(cell, date):
        return cell.isoformat()
    if isinstance(cell, tuple):
        return between.join(cell)
    return str(cell)


def or_erased(texts: Sequence[str | None], *, erased: bool) -> list[str | None]:
    """Texts as they are; where their keys are destroyed, the first says so and the others are empty."""
    return [ERASED, *([None] * (len(texts) - 1))] if erased else list(texts)
