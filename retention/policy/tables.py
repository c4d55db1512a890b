"""The tables of a policy pack's TOML file: their keys and the shape of each value, before anything is made of them.

Keys that are not listed are mistakes, and so are values of another type: a pack is a promise, and what is guessed is
not promised. What the tables must mean together is checked by `retention/policy/reading.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from domain.register import KINDS
from retention.policy.clocks import MONTHS_PER_YEAR, Clock, Span
from retention.policy.controls import Kind

YEARS_MAX: Final = 100


class Table(BaseModel):
    """Any table: no key that is not listed, no value of another type, and no value repeated in a message."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


Text = Annotated[str, Field(min_length=1, max_length=2000)]
Days = Annotated[int, Field(ge=1, le=366 * YEARS_MAX)]


class HeadTable(Table):
    """[pack]: what the policy is and what it promises as a whole."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    version: Annotated[int, Field(ge=1, le=9999)]
    title: Text
    document: Text
    effective_from: Any
    notice_days: Annotated[int, Field(ge=0, le=366)]
    minimum_age: Annotated[int, Field(ge=0, le=120)]
    horizon_days: Annotated[int, Field(ge=1, le=3660)] | None = None


class KeepingTable(Table):
    """How something is kept, and by which control."""

    kind: Kind
    control: str | None = None


class ClauseTable(KeepingTable):
    """[[clause]]: one clause of the policy by its number."""

    number: Annotated[str, Field(min_length=1, max_length=60)]
    title: Text
    classes: list[str] = []
    also: list[KeepingTable] = []
    answers: Text | None = None
    note: Text | None = None


class SpannedTable(Table):
    """Any table that says how long."""

    keep_years: Annotated[int, Field(ge=1, le=YEARS_MAX)] | None = None
    keep_months: Annotated[int, Field(ge=1, le=MONTHS_PER_YEAR * YEARS_MAX)] | None = None
    keep_days: Days | None = None

    def spans(self) -> list[Span]:
        """Every length of time given; there should be one, or none where the clock needs none."""
        given = [
            self.keep_years and Span(months=self.keep_years * MONTHS_PER_YEAR),
            self.keep_months and Span(months=self.keep_months),
            self.keep_days and Span(days=self.keep_days),
        ]
        return [span for span in given if span]


class RetentionTable(SpannedTable):
    """[[retention]]: the clock and time of one class."""

    retention_class: Annotated[str, Field(alias="class")]
    clause: str
    clock: Clock
    minimum: bool = False
    aggregate_first: bool = False


class ClosureTable(SpannedTable):
    """[[closure]]: how long one class outlives the account, or persons of one category in the operator's own."""

    retention_class: Annotated[str, Field(alias="class")]
    clause: str
    category: str | None = None


Result = Literal["destroyed", "kept", "nothing-held"]


class OutcomeTable(Table):
    """[[outcome]]: what becomes of one class for each cause."""

    retention_class: Annotated[str, Field(alias="class")]
    erasure: Result
    deleted_by_controller: Result
    account_closure: Result
    limbs: list[str] = []
    why: Text | None = None


T = TypeVar("T", bound=Table)
Row = tuple[int, T]
"""A table of an array, with its number there."""

ARRAYS: Final[Mapping[str, type[Table]]] = {
    "clause": ClauseTable,
    "retention": RetentionTable,
    "closure": ClosureTable,
    "outcome": OutcomeTable,
}


def shape_said(table: type[Table], wrong: Any) -> str:
    """What a shape mistake is and what to do, by pydantic's kind of error."""
    key = str(wrong["loc"][-1]) if wrong["loc"] else ""
    if wrong["type"] == "missing":
        return f"{key} is missing here. Add it."
    if wrong["type"] == "extra_forbidden":
        keys = [field.alias or name for name, field in _innermost(table, wrong["loc"]).model_fields.items()]
        return f"There is no key {key} here. The keys are: {', '.join(sorted(keys))}."
    return f"{key}: {wrong['msg'][:1].lower()}{wrong['msg'][1:]}."


def _innermost(table: type[Table], place: tuple[Any, ...]) -> type[Table]:
    return KeepingTable if "also" in place[:-1] else table


def arrays_named() -> str:
    """The headers of the arrays, for an error."""
    return ", ".join(f"[[{name}]]" for name in (*ARRAYS, *KINDS))
