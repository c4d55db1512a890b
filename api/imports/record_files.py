"""Reads records (support, billing, usage, logs) from a CSV file or from NDJSON in the shape of `POST /v1/records`.

In a CSV the columns `class`, `kind`, `email` and `occurred_at` mean what they say, and every other column that is not
empty becomes a field of the sealed content under its name. Which of the two a file is, its first character tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from api.imports.cells import UnreadableCell, utc_time
from api.imports.columns import EMAIL, REASON_COLUMN, described, field_columns, folded, unique_names
from api.imports.errors import ImportFileError
from api.imports.records import LINE_CHARACTERS_MAX
from api.imports.rejects import UNREADABLE_MEMBER, object_of
from api.imports.rows import RejectedRow
from api.imports.sources import Source, TextSource, text_source
from api.imports.tables import Table, open_table
from domain.records import RECORD_CLASSES, Record, RecordRefused, require_shape

RECORD_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "class": frozenset({"class", "record class", "retention class"}),
    "kind": frozenset({"kind"}),
    "email": EMAIL,
    "occurred_at": frozenset({"occurred at", "time", "timestamp", "date", "datetime"}),
}
MEMBERS: Final = ("class", "kind", "email", "occurred_at", "content")


@dataclass(frozen=True, slots=True, repr=False)
class PlacedRecord:
    """One record with the line it stands on and what that was read from, for the reject file."""

    line: int
    file: str
    record: Record
    cells: list[str]
    header: list[str]

    def __repr__(self) -> str:
        return f"<PlacedRecord line {self.line}>"

    def rejected(self, reason: str) -> RejectedRow:
        """This row as one that was not taken."""
        return RejectedRow(self.line, self.file, reason, self.cells, self.header)


RecordRows = Iterator[PlacedRecord | RejectedRow]


def read_records(source: Source, *, retention_class: str | None = None) -> tuple[RecordRows, bool]:
    """The records of a file, and whether it is NDJSON. `retention_class` is that of rows that name none.

    Raises `ImportFileError` at the call for a file that cannot be read at all.
    """
    text = text_source(source)
    if _begins_with_brace(text):
        return _from_lines(text, retention_class), True
    with open_table(text) as table:
        if retention_class is None and "class" not in field_columns(table.header, RECORD_FIELDS):
            raise ImportFileError(
                f"{text.name} has no column 'class': {described(table.header)}. Name one, or give --class."
            )
    return _from_table(text, retention_class), False


def _begins_with_brace(text: TextSource) -> bool:
    with text.open() as opened:
        while piece := opened.read(4096):
            if piece.strip():
                return piece.lstrip().startswith("{")
    return False


# CSV ------------------------------------------------------------------------------------------------------------------


def _from_table(text: TextSource, retention_class: str | None) -> RecordRows:
    with open_table(text) as table:
        columns = field_columns(table.header, RECORD_FIELDS)
        names = unique_names(table.header)
        content = [(name, index) for index, name in enumerate(names) if index not in columns.values()]
        for row in table.rows():
            if isinstance(row, RejectedRow):
                yield row
                continue
            cells = {field: row.cells[index].strip() for field, index in columns.items()}
            held = {name: row.cells[index] for name, index in content if row.cells[index]}
            try:
                record = _checked(cells, retention_class, utc_time(cells.get("occurred_at", ""), "occurred_at"), held)
            except (UnreadableCell, RecordRefused) as error:
                yield table.rejected(row.line, str(error), row.cells)
            else:
                yield _placed(table, row.line, record, row.cells)


def _placed(table: Table, line: int, record: Record, cells: list[str]) -> PlacedRecord:
    return PlacedRecord(line, table.file, record, cells, table.header)


# NDJSON ---------------------------------------------------------------------------------------------------------------


def _from_lines(text: TextSource, retention_class: str | None) -> RecordRows:
    with ExitStack() as stack:
        opened = stack.enter_context(text.open())
        for number, line in _numbered(opened, text.name):
            try:
                record = _record_of(line, retention_class)
            except (UnreadableCell, RecordRefused) as error:
                yield RejectedRow(number, text.name, str(error), [line], [])
            else:
                yield PlacedRecord(number, text.name, record, [line], [])


def _numbered(opened: TextIO, name: str) -> Iterator[tuple[int, str]]:
    number = 0
    while line := opened.readline(LINE_CHARACTERS_MAX):
        number += 1
        if len(line) == LINE_CHARACTERS_MAX and not line.endswith("\n"):
            raise ImportFileError(f"{name}: line {number} has more than {LINE_CHARACTERS_MAX} characters.")
        if line.strip():
            yield number, line.strip()


def _record_of(line: str, retention_class: str | None) -> Record:
    held = object_of(line)
    if held is None:
        raise UnreadableCell("the line is no JSON object")
    if UNREADABLE_MEMBER in held:
        raise UnreadableCell(f"the line was no JSON object: write the record in place of {UNREADABLE_MEMBER}")
    unknown = held.keys() - {*MEMBERS, REASON_COLUMN}
    if unknown:
        raise UnreadableCell(f"the members of a record are {', '.join(MEMBERS)}")
    for name in MEMBERS[:4]:
        if not isinstance(held.get(name), str | None):
            raise UnreadableCell(f"{name}: write text")
    content = held.get("content")
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise UnreadableCell("content: write an object whose values are text")
    return _checked(held, retention_class, _moment(held.get("occurred_at")), content)


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
        if moment is None or moment.tzinfo is not None:
            return moment and moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UnreadableCell("occurred_at: write a time with its offset, such as 2026-11-21T20:15:00Z")


def _checked(
    held: Mapping[str, Any], retention_class: str | None, occurred_at: datetime | None, content: Mapping[str, str]
) -> Record:
    """Raises `UnreadableCell` and `RecordRefused`."""
    named = folded(held.get("class") or retention_class or "").replace(" ", "_")
    if named not in RECORD_CLASSES:
        raise UnreadableCell(f"class: write one of {', '.join(RECORD_CLASSES)}")
    kind, email = (held.get(name) or None for name in ("kind", "email"))
    record = Record(named, content, kind, email, occurred_at)
    require_shape(record)
    return record
