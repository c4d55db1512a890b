"""A CSV file as a header and its rows: what the plain and the Mailchimp reader have in common.

Finds the delimiter, takes the header, gives each record its cells in the header's order, and turns
records of the wrong shape into :class:`RejectedRow`. A file that we wrote ourselves (it has the
``lethe_reason`` column, see ``rejects.py``) is read back here: the column is dropped, the apostrophes
before formulas are taken off, and a row that still holds MISSING_CELL is refused again, so that a row
which came short is never taken with its cells one column off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TextIO

from api.imports.columns import COLUMNS_MAX, NAME_CHARACTERS_MAX, REASON_COLUMN, folded
from api.imports.errors import ImportFileError
from api.imports.records import LINE_CHARACTERS_MAX, Record, records
from api.imports.rows import RejectedRow
from api.imports.sources import TextSource
from audit.formulas import unneutralised

DELIMITERS: Final = (",", ";", "\t")
LEADING_LINES_MAX: Final = 100  # blank ones, before the column names
MISSING_CELL: Final = "?missing?"
"""Stands in a reject file where a row had no cell; replace it by the right value or by nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One good row: as many cells as the header has names."""

    line: int
    cells: list[str]


class Table:
    """The header of a file and its rows, once through. Made by :func:`open_table`."""

    def __init__(self, source: TextSource, text: TextIO) -> None:
        self.file = source.name
        number, line = _first_line(text, source.name)
        unquoted = "".join(line.split('"')[::2])
        delimiter = max(DELIMITERS, key=unquoted.count)
        self._records = records(text, delimiter, file=source.name, first=line, first_number=number)
        header = next(self._records, None)
        if header is None or header.fault is not None:
            fault = "it has no column names" if header is None else f"its column names: {header.fault}"
            raise ImportFileError(f"{source.name} cannot be read: {fault}.")
        if len(header.cells) > COLUMNS_MAX or any(len(name) > NAME_CHARACTERS_MAX for name in header.cells):
            raise ImportFileError(
                f"{source.name} has more than {COLUMNS_MAX} columns or one with a name over"
                f" {NAME_CHARACTERS_MAX} characters; is its first line the column names?"
            )
        names = [folded(name) for name in header.cells]
        reason = folded(REASON_COLUMN)
        self._reason_index = names.index(reason) if reason in names else None
        self.header = self._cells(header)

    def rows(self) -> Iterator[Row | RejectedRow]:
        """Yield each row in order; rows of empty cells are passed over."""
        for record in self._records:
            if record.fault is None and not any(record.cells):
                continue
            cells = self._cells(record)
            fault = record.fault or self._fault_of_shape(cells)
            if fault is None:
                yield Row(record.line, cells[: len(self.header)])
            else:
                yield self.rejected(record.line, fault, cells)

    def rejected(self, line: int, reason: str, cells: list[str]) -> RejectedRow:
        """Say why the row at ``line`` is not taken; ``reason`` must not repeat a cell."""
        return RejectedRow(line, self.file, reason, cells, self.header)

    def _cells(self, record: Record) -> list[str]:
        if self._reason_index is None:
            return record.cells
        return [unneutralised(cell) for cell in self._without_reason(record.cells)]

    def _without_reason(self, cells: list[str]) -> list[str]:
        index = self._reason_index
        return cells if index is None else cells[:index] + cells[index + 1 :]

    def _fault_of_shape(self, cells: list[str]) -> str | None:
        expected = len(self.header)
        if len(cells) < expected:
            return f"the row has {len(cells)} cells, the header has {expected}: some are missing"
        if any(cells[expected:]):
            return f"the row has {len(cells)} cells, the header has {expected}: is a cell with a comma unquoted?"
        if self._reason_index is not None and MISSING_CELL in cells:
            return f"a cell was missing from this row: put the cells in place and clear {MISSING_CELL}"
        return None


@contextmanager
def open_table(source: TextSource) -> Iterator[Table]:
    """Open ``source`` and read its header. Raises :class:`ImportFileError`."""
    with source.open() as text:
        yield Table(source, text)


def _first_line(text: TextIO, file: str) -> tuple[int, str]:
    """The line on which the header begins: its number and its text."""
    for number in range(1, LEADING_LINES_MAX + 1):
        line = text.readline(LINE_CHARACTERS_MAX)
        if not line:
            break
        if "\0" in line or len(line) == LINE_CHARACTERS_MAX:
            raise ImportFileError(f"{file} is not a CSV file; save it as 'CSV UTF-8' and import that.")
        if line[:4].casefold() == "sep=":  # a spreadsheet's own hint; the header follows
            continue
        if line.strip():
            return number, line
    raise ImportFileError(f"{file} is empty: it needs a line of column names and a row for each contact.")
