"""A record of processing on paper: each activity as a sheet of its own words, then what the ledger observed.

For whoever has to show it to an authority (GDPR Art. 30(4)). The same record gives the same bytes, whenever and
wherever it is drawn. The built-in faces draw Latin letters only; the JSON-LD form is attached inside, whole.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import UTC, date
from typing import Final

import orjson
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from audit.records.as_csv import EXTRA, title_of
from audit.records.as_jsonld import record_jsonld
from audit.records.model import RecordsOfProcessing
from audit.records.tables import MEANINGS, Cell, Table, tables_of, text_of

INK: Final = (28, 36, 44)
FAINT: Final = (92, 102, 112)
RIVER: Final = (22, 78, 99)
PALE: Final = (236, 243, 246)
SAND: Final = (241, 238, 228)
LINE: Final = (200, 212, 218)
WHITE: Final = (255, 255, 255)

MARGIN_MM: Final = 16
WIDTH_MM: Final = 297 - 2 * MARGIN_MM
LABEL_MM: Final = 62
TITLE: Final = "Records of processing activities"

AS_CARDS: Final = frozenset({"activities", "processing-for-others"})
"""Tables too wide for paper: each row becomes a list of labels and values."""

AS_FACTS: Final = frozenset({"about"})

TOLD_ELSEWHERE: Final = frozenset({"purposes", "recipients"})
"""Tables that say row by row what the activities' own sheets and the list of all recipients say; to read, once does."""

CELL_CHARACTERS_MAX: Final = 1_500
"""Who needs it: a row of a table must fit on a page; what is cut stands whole in the attached document."""

ATTACHED: Final = "records-of-processing.jsonld"


def record_pdf(record: RecordsOfProcessing) -> bytes:
    """The PDF of a record, with its JSON-LD form attached."""
    paper = _Paper(record)
    paper.add_page()
    tables = {table.name: table for table in tables_of(record)}
    _front(paper, record, tables["about"])
    for table in tables.values():
        if table.name in AS_CARDS:
            _cards(paper, table)
        elif table.name not in AS_FACTS | TOLD_ELSEWHERE:
            _table(paper, table)
    made_at = record.made_at.astimezone(UTC)
    paper.embed_file(
        bytes=orjson.dumps(record_jsonld(record), option=orjson.OPT_INDENT_2),
        basename=ATTACHED,
        desc="The record for machines (JSON-LD, Data Privacy Vocabulary)",
        creation_date=made_at,
        modification_date=made_at,
    )
    return bytes(paper.output())


class _Paper(FPDF):
    """A4 across, with the head and foot of every page."""

    def __init__(self, record: RecordsOfProcessing) -> None:
        super().__init__(orientation="landscape", format="A4")
        self._line = f"{record.account_name or record.tenant}, as of {record.as_of.on.isoformat()}"
        self.set_margins(MARGIN_MM, 16, MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=20)
        self.set_creation_date(record.made_at.astimezone(UTC))
        self.set_title(drawable(f"{TITLE}, {self._line}"))
        self.set_author("Lethe")
        self.set_producer("Lethe")
        self.set_creator("Lethe")
        self.set_lang("en")

    def header(self) -> None:
        """A quiet line on every page but the first, which has the title."""
        if self.page_no() == 1:
            return
        self.set_font("Helvetica", "", 8)
        self.set_text_color(*FAINT)
        self.cell(WIDTH_MM / 2, 5, TITLE)
        self.cell(WIDTH_MM / 2, 5, drawable(self._line), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._rule()
        self.ln(3)

    def footer(self) -> None:
        """Which page of how many, and what the marks mean."""
        self.set_y(-15)
        self._rule()
        self.set_font("Helvetica", "", 8)
        self.set_text_color(*FAINT)
        said = (
            "Days are UTC. (extra): not asked for by Article 30. A letter that this face lacks is a question mark; "
            "the attached record for machines has it."
        )
        self.cell(WIDTH_MM * 0.8, 8, said)
        self.cell(WIDTH_MM * 0.2, 8, f"{self.page_no()} / {{nb}}", align="R")

    def heading(self, table: Table) -> None:
        """A part's title with the point of Article 30 that it answers, never alone at the foot of a page."""
        if self.will_page_break(32):
            self.add_page()
        self.ln(4)
        self.set_font("Helvetica", "B", 12)
        self.set_text_color(*RIVER)
        title = table.title + (EXTRA if table.extra else "")
        self.cell(self.get_string_width(title) + 4, 7, title)
        self.set_font("Helvetica", "", 8.5)
        self.set_text_color(*FAINT)
        self.cell(0, 7.5, table.article, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def words(self, text: str, *, width: float = WIDTH_MM, size: float = 9) -> None:
        """Words that wrap, at the place where the pen is."""
        self.set_font("Helvetica", "", size)
        self.set_text_color(*INK)
        self.multi_cell(width, size / 2, drawable(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _rule(self) -> None:
        self.set_draw_color(*LINE)
        self.set_line_width(0.2)
        self.line(MARGIN_MM, self.get_y(), MARGIN_MM + WIDTH_MM, self.get_y())


def _front(paper: _Paper, record: RecordsOfProcessing, about: Table) -> None:
    paper.set_fill_color(*RIVER)
    paper.rect(0, 0, 297, 34, style="F")
    paper.set_xy(MARGIN_MM, 8)
    paper.set_font("Helvetica", "", 9)
    paper.set_text_color(*PALE)
    paper.cell(0, 5, "L E T H E", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font("Times", "", 24)
    paper.set_text_color(*WHITE)
    paper.cell(0, 13, TITLE, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_y(40)
    paper.words(f"As of {_long(record.as_of.on)}, {MEANINGS[record.as_of.meaning]}.", size=11)
    paper.ln(2)
    for label, value in about.rows:
        _fact(paper, text_of(label), value, extra=False)


def _cards(paper: _Paper, table: Table) -> None:
    paper.heading(table)
    if not table.rows:
        paper.words(table.empty)
    for row in table.rows:
        if paper.will_page_break(40):
            paper.add_page()
        name = table.columns[1]
        assert name.title == "Activity"
        paper.set_fill_color(*PALE)
        paper.set_font("Helvetica", "B", 10)
        paper.set_text_color(*INK)
        paper.cell(
            WIDTH_MM, 6.5, _fitted(paper, drawable(text_of(row[1]))), fill=True, new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )
        paper.ln(0.8)
        for column, cell in zip(table.columns, row, strict=True):
            if column is not name and text_of(cell):
                _fact(paper, title_of(table, column), cell, extra=column.extra)
        paper.ln(3)


def _fact(paper: _Paper, label: str, value: Cell, *, extra: bool) -> None:
    if paper.will_page_break(6):
        paper.add_page()
    paper.set_font("Helvetica", "I" if extra else "", 9)
    paper.set_text_color(*FAINT)
    paper.cell(LABEL_MM, 4.8, label)
    paper.set_font("Helvetica", "", 9)
    paper.set_text_color(*INK)
    text = drawable(text_of(value, between="\n")) or "-"
    paper.multi_cell(WIDTH_MM - LABEL_MM, 4.8, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _table(paper: _Paper, table: Table) -> None:
    paper.heading(table)
    if not table.rows:
        paper.words(table.empty)
        return
    paper.set_font("Helvetica", "", 8)
    paper.set_text_color(*INK)
    paper.set_draw_color(*LINE)
    paper.set_fill_color(*WHITE)
    head = FontFace(emphasis="BOLD", color=INK, fill_color=SAND if table.extra else PALE)
    with paper.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=head,
        line_height=4,
        padding=(1, 1.4, 1, 1.4),
        col_widths=tuple(column.width for column in table.columns),
        text_align="LEFT",
        width=WIDTH_MM,
    ) as drawn:
        drawn.row([column.title if table.extra else title_of(table, column) for column in table.columns])
        for row in table.rows:
            drawn.row([_short(text_of(cell, between="\n")) for cell in row])


def drawable(text: str) -> str:
    """What the built-in faces can draw: letters with marks that they lack lose the mark, anything else becomes `?`."""
    return "".join(_drawable(character) for character in text)


_SPELT: Final[dict[str, str]] = {
    **dict(zip("ŁłĐđıŒœ€–—“”„•", ("L", "l", "D", "d", "i", "OE", "oe", "EUR", *'--"""-'), strict=True)),
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
}
"""Letters and signs that no decomposition leads to something the built-in faces have."""


def _drawable(character: str) -> str:
    if character in _SPELT:
        return _SPELT[character]
    if character != "\n" and unicodedata.category(character)[0] == "C":
        return ""
    if _is_latin(character):
        return character
    plain = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return "".join(c if _is_latin(c) else "?" for c in plain) or "?"


def _is_latin(character: str) -> bool:
    return ord(character) < 256


def _short(text: str) -> str:
    said = drawable(text)
    return said if len(said) <= CELL_CHARACTERS_MAX else f"{said[:CELL_CHARACTERS_MAX]} ... (cut; see {ATTACHED})"


def _fitted(paper: _Paper, text: str) -> str:
    while text and paper.get_string_width(text) > WIDTH_MM - 4:
        text = text[:-5]
    return text


_MONTHS: Final[Sequence[str]] = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
"""Not those of the machine's language: one record gives the same bytes everywhere."""


def _long(day: date) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
