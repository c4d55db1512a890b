"""A record of processing as CSV: one file for each table, or all of them in one zip.

For people with a spreadsheet: UTF-8 with a byte order mark, without which Excel takes the code page of its machine;
comma, CRLF, quotes where needed (RFC 4180). A cell that a spreadsheet would run gets a leading apostrophe.
"""

from __future__ import annotations

import csv
import io
import zipfile
from typing import Final

from audit.formulas import neutralised
from audit.records.model import RecordsOfProcessing
from audit.records.table_shape import Cell, Column, Table, text_of
from audit.records.tables import tables_of

BYTE_ORDER_MARK: Final = "\ufeff"
EXTRA: Final = " (extra)"

ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can say: one record gives the same bytes whenever it is packed."""


class UnknownTable(LookupError):
    """A record has no table of this name."""


def table_csv(table: Table) -> bytes:
    """One table as CSV, the first line its column titles."""
    text = io.StringIO(newline="")
    text.write(BYTE_ORDER_MARK)
    writer = csv.writer(text)
    writer.writerow([title_of(table, column) for column in table.columns])
    writer.writerows([_cell(cell) for cell in row] for row in table.rows)
    return text.getvalue().encode()


def record_csv(record: RecordsOfProcessing, name: str) -> bytes:
    """The table of this name. Raises `UnknownTable`."""
    tables = {table.name: table for table in tables_of(record)}
    if name not in tables:
        raise UnknownTable(f"A record of processing has no such table. There are: {', '.join(tables)}.")
    return table_csv(tables[name])


def record_zip(record: RecordsOfProcessing) -> bytes:
    """Every table in one zip, numbered in the order of the record. The same record gives the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, table in enumerate(tables_of(record), 1):
            member = zipfile.ZipInfo(f"{number:02}-{table.name}.csv", ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o600 << 16
            archive.writestr(member, table_csv(table))
    return packed.getvalue()


def title_of(table: Table, column: Column) -> str:
    """A column's title, marked where Article 30 does not ask for it."""
    return column.title + (EXTRA if column.extra or table.extra else "")


def _cell(cell: Cell) -> str | int:
    if isinstance(cell, int) and not isinstance(cell, bool):
        return cell
    return neutralised(text_of(cell))
