"""Legal rows as they are written in the `.toml` files, checked one by one and against each other.

A file holds tables named `row`. Each says from which day to which last day it is in force (`effective_to` may
be absent), where it is written (`source`), and a note. For one key, such as a country, two rows of a file
never overlap. Every mistake is reported as a `LawError` that names the file and the row, counted from 1.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

Country = Annotated[str, Field(pattern=r"^([A-Z]{2}|\*)$")]
RegimeName = Annotated[str, Field(pattern=r"^[a-z][a-z-]*$")]
DeclaredBasis = Literal["soft-opt-in", "implied-purchase", "implied-inquiry"]
Duty = Literal["honour", "mechanism_works"]
Unit = Literal["day", "business_day"]

_STRICT = ConfigDict(extra="forbid", strict=True)


class LawError(ValueError):
    """The rows of the law are wrong, or do not say what was asked of them."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Row:
    """What every row has. `file` and `number` say where it is written."""

    FILE: ClassVar[str]

    file: str
    number: int
    effective_from: date
    effective_to: date | None = None
    source: Annotated[str, Field(min_length=8)]
    note: str

    def in_force(self, day: date) -> bool:
        """Whether the row governs this day; the last day is still governed."""
        return self.effective_from <= day and (self.effective_to is None or day <= self.effective_to)

    def governs(self) -> tuple[tuple[str, ...], ...]:
        """What the row speaks about; in one file, one key has one row a day."""
        raise NotImplementedError

    def says(self) -> tuple[Any, ...]:
        """What the row decides: its version is made of this, so notes and citations can be mended freely."""
        raise NotImplementedError

    def written(self) -> dict[str, Any]:
        """The whole row as a receipt shows it: what it decides, its days (YYYY-MM-DD), its source and its note."""
        return {
            "says": [self.file, *self.says()],
            "effective_from": self.effective_from.isoformat(),
            "effective_to": self.effective_to.isoformat() if self.effective_to is not None else None,
            "source": self.source,
            "note": self.note,
        }

    def __str__(self) -> str:
        return f"{self.file}, row {self.number}"


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RegimeRow(Row):
    """Whether a regime asks for a permission before direct marketing."""

    FILE: ClassVar[str] = "regimes.toml"

    regime: RegimeName
    marketing: Literal["opt-in", "opt-out"]

    def governs(self) -> tuple[tuple[str, ...], ...]:
        return ((self.regime,),)

    def says(self) -> tuple[Any, ...]:
        return (self.regime, self.marketing)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CountryRow(Row):
    """The regime that governs senders and recipients in some countries."""

    FILE: ClassVar[str] = "countries.toml"

    countries: Annotated[list[Country], Field(min_length=1)]
    regime: RegimeName

    def governs(self) -> tuple[tuple[str, ...], ...]:
        return tuple((country,) for country in self.countries)

    def says(self) -> tuple[Any, ...]:
        return (self.countries, self.regime)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class PermissionRow(Row):
    """A permission without express consent that an opt-in regime accepts, for `valid_months` or for good."""

    FILE: ClassVar[str] = "permission.toml"

    regime: RegimeName
    basis: DeclaredBasis
    valid_months: Annotated[int, Field(ge=1, le=1200)] | None = None

    def governs(self) -> tuple[tuple[str, ...], ...]:
        return ((self.regime, self.basis),)

    def says(self) -> tuple[Any, ...]:
        return (self.regime, self.basis, self.valid_months)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class AgeRow(Row):
    """The age of digital consent in some countries, in years."""

    FILE: ClassVar[str] = "age_of_consent.toml"

    countries: Annotated[list[Country], Field(min_length=1)]
    age: Annotated[int, Field(ge=0, le=30)]

    def governs(self) -> tuple[tuple[str, ...], ...]:
        return tuple((country,) for country in self.countries)

    def says(self) -> tuple[Any, ...]:
        return (self.countries, self.age)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class OptOutRow(Row):
    """An outer limit of opting out. Kept for reference."""

    FILE: ClassVar[str] = "opt_out.toml"

    regime: RegimeName
    duty: Duty
    limit: Annotated[int, Field(ge=0, le=3660)]
    unit: Unit

    def governs(self) -> tuple[tuple[str, ...], ...]:
        return ((self.regime, self.duty),)

    def says(self) -> tuple[Any, ...]:
        return (self.regime, self.duty, self.limit, self.unit)


R = TypeVar("R", bound=Row)

ROW_CLASSES: tuple[type[Row], ...] = (RegimeRow, CountryRow, PermissionRow, AgeRow, OptOutRow)


def read_rows(row_class: type[R], text: str) -> tuple[R, ...]:
    """The rows of one file's text. Raises `LawError` for the first mistake, by file and row."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LawError(f"{row_class.FILE}: this is not TOML: {error}") from None
    if set(tables) != {"row"} or not isinstance(tables["row"], list):
        raise LawError(f"{row_class.FILE}: write every row as a table named [[row]], and nothing else.")
    rows = tuple(_row(row_class, number, table) for number, table in enumerate(tables["row"], start=1))
    _refuse_overlaps(rows)
    return rows


def change_days(rows: Sequence[Row]) -> Iterator[date]:
    """Each day on which a row comes into force, or is out of force for the first time."""
    for row in rows:
        yield row.effective_from
        if row.effective_to is not None:
            yield row.effective_to + timedelta(days=1)


def _row(row_class: type[R], number: int, table: Mapping[str, Any]) -> R:
    place = f"{row_class.FILE}, row {number}"
    try:
        row = row_class(**{**table, "file": row_class.FILE, "number": number})
    except ValidationError as error:
        first = error.errors()[0]
        raise LawError(f"{place}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    if row.effective_to is not None and row.effective_to < row.effective_from:
        raise LawError(f"{place}: effective_to lies before effective_from.")
    return row


def _refuse_overlaps(rows: Sequence[Row]) -> None:
    by_key: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        for key in row.governs():
            by_key.setdefault(key, []).append(row)
    for key, same in by_key.items():
        for earlier, later in pairwise(sorted(same, key=lambda row: row.effective_from)):
            if earlier.effective_to is None or later.effective_from <= earlier.effective_to:
                raise LawError(
                    f"{later}: {' '.join(key)} is already governed from {later.effective_from} on by row "
                    f"{earlier.number}. End that row the day before."
                )
