"""A record of processing as a workbook: a sheet for each table, with a frozen head, real dates and real numbers.

Every text is written as a string cell, so that nothing in it can run: there is no formula, no link and no macro in
the file. XlsxWriter keeps the rows in memory; its mode for endless sheets would write them to temporary files in the
clear, and names of persons stand among them. A record has as many rows as its registers, which are bounded.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from xlsxwriter import Workbook
from xlsxwriter.worksheet import Worksheet

from audit.records.as_csv import title_of
from audit.records.model import RecordsOfProcessing
from audit.records.table_shape import Cell, Table, text_of
from audit.records.tables import tables_of

CELL_CHARACTERS_MAX: Final = 32_000
"""Who needs it: a cell of a spreadsheet holds 32,767 characters; longer ones are cut and say so."""

SHEET_NAME_CHARACTERS_MAX: Final = 31
FIRST_DAY: Final = date(1900, 3, 1)
"""From here on all spreadsheets agree on days (one of them knows a 29 February 1900); earlier ones stand as text."""

LINE_POINTS: Final = 13.0
ROW_POINTS_MAX: Final = 400.0
"""Spreadsheets take a little more; a longer text is read in its own cell."""

OPTIONS: Final[dict[str, Any]] = {
    "in_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
    "nan_inf_to_errors": False,
    "default_date_format": "yyyy-mm-dd",
}
INK: Final = "#1C242C"
RIVER: Final = "#164E63"
PALE: Final = "#ECF3F6"
EXTRA_FILL: Final = "#F1EEE4"


def record_xlsx(record: RecordsOfProcessing) -> bytes:
    """The workbook. The same record gives the same bytes."""
    content = io.BytesIO()
    with Workbook(content, OPTIONS) as book:
        book.set_properties(
            {
                "title": f"Records of processing activities as of {record.as_of.on}",
                "author": "Lethe",
                "created": _naive(record.made_at),
            }
        )
        styles = _Styles(book)
        for table in tables_of(record):
            _sheet(book.add_worksheet(_sheet_name(table)), table, styles)
    return content.getvalue()


class _Styles:
    """The looks of cells, which a workbook wants to know before they are used."""

    def __init__(self, book: Workbook) -> None:
        base = {"font_name": "Arial", "font_size": 10, "font_color": INK, "valign": "top"}
        self.text = book.add_format({**base, "text_wrap": True})
        self.number = book.add_format({**base, "num_format": "0"})
        self.day = book.add_format({**base, "num_format": "yyyy-mm-dd", "align": "left"})
        self.moment = book.add_format({**base, "num_format": "yyyy-mm-dd hh:mm:ss", "align": "left"})
        head = {**base, "bold": True, "text_wrap": True, "bottom": 1, "bottom_color": RIVER}
        self.head = book.add_format({**head, "bg_color": PALE})
        self.extra = book.add_format({**head, "bg_color": EXTRA_FILL})
        self.nothing = book.add_format({**base, "italic": True})


def _sheet(sheet: Worksheet, table: Table, styles: _Styles) -> None:
    for number, column in enumerate(table.columns):
        sheet.set_column(number, number, column.width)
        look = styles.extra if column.extra or table.extra else styles.head
        sheet.write_string(0, number, title_of(table, column), look)
    sheet.set_row(0, _height([title_of(table, column) for column in table.columns], table))
    for number, row in enumerate(table.rows, 1):
        sheet.set_row(number, _height([fitting(text_of(cell, between="\n")) for cell in row], table))
        for at, cell in enumerate(row):
            _write(sheet, number, at, cell, styles)
    if not table.rows and table.empty:
        sheet.write_string(1, 0, table.empty, styles.nothing)
    sheet.freeze_panes(1, 0)
    if table.rows:
        sheet.autofilter(0, 0, len(table.rows), len(table.columns) - 1)
    if table.extra:
        sheet.set_tab_color(EXTRA_FILL)
    sheet.set_landscape()
    sheet.set_paper(9)
    sheet.fit_to_pages(1, 0)
    sheet.repeat_rows(0)
    sheet.set_header(f"&L{table.title.replace('&', '&&')}&R{table.article.replace('&', '&&')}")
    sheet.set_footer("&L&A&R&P / &N")


def _height(texts: Sequence[str], table: Table) -> float:
    """How high a row must be to show its texts, in points: no program is asked to find out when it opens the file."""
    lines = max(
        sum(1 + len(line) // column.width for line in text.split("\n"))
        for text, column in zip(texts, table.columns, strict=True)
    )
    return min(LINE_POINTS * lines + 3, ROW_POINTS_MAX)


def _write(sheet: Worksheet, row: int, at: int, cell: Cell, styles: _Styles) -> None:
    if cell is None or cell == ():
        sheet.write_blank(row, at, None, styles.text)
    elif isinstance(cell, int) and not isinstance(cell, bool):
        sheet.write_number(row, at, cell, styles.number)
    elif isinstance(cell, datetime):
        sheet.write_datetime(row, at, _naive(cell), styles.moment)
    elif isinstance(cell, date) and cell >= FIRST_DAY:
        sheet.write_datetime(row, at, cell, styles.day)
    else:
        sheet.write_string(row, at, fitting(text_of(cell, between="\n")), styles.text)


def fitting(text: str) -> str:
    """A text that a cell can hold."""
    left = len(text) - CELL_CHARACTERS_MAX
    return (
        text
        if left <= 0
        else f"{text[:CELL_CHARACTERS_MAX]} … ({left} more characters; the sheets by activity have them all)"
    )


def _naive(moment: datetime) -> datetime:
    """A time in UTC without saying so: a spreadsheet knows no offsets. Its title says UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _sheet_name(table: Table) -> str:
    return table.name[:SHEET_NAME_CHARACTERS_MAX]
