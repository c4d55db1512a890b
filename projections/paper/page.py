"""The paper itself: A4 with a head, a foot, and the few things that we put between them.

The same calls give the same bytes, whenever and wherever: the time of making is handed in, and the faces are those
that every reader of PDF has. Every text goes through `drawable` here, so that no caller can forget it.
fpdf2 draws: pure Python, typed, alive, and nothing but a library. No other module of ours knows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, TableBordersLayout, VAlign, XPos, YPos
from fpdf.fonts import FontFace
from fpdf.util import Padding

from projections.paper.letters import ENCODING, drawable

Color = tuple[int, int, int]

INK: Final[Color] = (28, 36, 44)
FAINT: Final[Color] = (92, 102, 112)
RIVER: Final[Color] = (22, 78, 99)
PALE: Final[Color] = (236, 243, 246)
SAND: Final[Color] = (241, 238, 228)
LINE: Final[Color] = (200, 212, 218)
WHITE: Final[Color] = (255, 255, 255)

MARGIN_MM: Final = 20
MARGIN_ACROSS_MM: Final = 16
BAND_MM: Final = 36
"""The coloured band of the first page, which has the title."""

FACT_LINE_MM: Final = 5
ROW_LINE_MM: Final = 4
CELL_PADDING: Final = Padding(top=1, right=1.4, bottom=1, left=1.4)
COLUMN_WIDENED_MM_MAX: Final = 36
"""A column is made at least as wide as its longest word, so that no date is torn; longer words are."""

ROW_PAGE_SHARE_MAX: Final = 0.25
"""Of a page's height. A row with more lines is drawn as several, one below the other: none could be too high."""


class Paper(FPDF):
    """A4, upright or across. `title` and `line` stand at the head of every page but the first, `foot` on each."""

    def __init__(self, title: str, line: str, foot: str, made_at: datetime, *, across: bool = False) -> None:
        super().__init__(orientation="landscape" if across else "portrait", format="A4")
        self.core_fonts_encoding = ENCODING
        self._title, self._beside, self._foot = drawable(title), drawable(line), drawable(foot)
        margin = MARGIN_ACROSS_MM if across else MARGIN_MM
        self.set_margins(margin, 16, margin)
        self.set_auto_page_break(auto=True, margin=20)
        self.set_creation_date(made_at.astimezone(UTC))
        self.set_title(f"{self._title}: {self._beside}")
        self.set_author("Lethe")
        self.set_producer("Lethe")
        self.set_creator("Lethe")
        self.set_lang("en")

    # Every page -------------------------------------------------------------------------------------------------------

    def header(self) -> None:
        """A quiet line on every page but the first, which has the band."""
        if self.page_no() == 1:
            return
        self._face(8, FAINT)
        named = self.get_string_width(self._title) + 6
        self.cell(named, 5, self._title)
        self.cell(0, 5, self._fitted(self._beside, self.epw - named), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._rule()
        self.ln(3)

    def footer(self) -> None:
        """What the caller says of every page, and which page of how many."""
        self.set_y(-15)
        self._rule()
        self._face(8, FAINT)
        self.cell(self.epw - 20, 8, self._foot)
        self.cell(20, 8, f"{self.page_no()} / {{nb}}", align="R")

    # What stands between ----------------------------------------------------------------------------------------------

    def band(self, over: str, title: str) -> None:
        """The head of the first page."""
        self.set_fill_color(*RIVER)
        self.rect(0, 0, self.w, BAND_MM, style="F")
        self.set_y(9)
        self._face(9, PALE)
        self.cell(0, 5, drawable(over), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._face(25, WHITE, family="Times")
        self.cell(0, 14, self._fitted(drawable(title), self.epw), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_y(BAND_MM + 7)

    def mark(self, over: str, text: str) -> None:
        """The one thing that whoever reads no further should have read."""
        left, top, height = self.l_margin, self.get_y(), 18
        for color, width in ((PALE, self.epw), (RIVER, 1.6)):
            self.set_fill_color(*color)
            self.rect(left, top, width, height, style="F")
        for y, size, color, style, family, words in (
            (top + 2.5, 8, RIVER, "B", "Helvetica", over),
            (top + 8, 16, INK, "", "Times", text),
        ):
            self.set_xy(left + 6, y)
            self._face(size, color, style, family)
            self.cell(0, 7, self._fitted(drawable(words), self.epw - 8))
        self.set_xy(left, top + height + 4)

    def heading(self, text: str, beside: str = "") -> None:
        """A section's heading, never alone at the foot of a page. `beside` is said after it, quietly."""
        self._keep_together(32)
        self.ln(4)
        self._face(11.5, RIVER, "B")
        said = drawable(text)
        self.cell(self.get_string_width(said) + 4, 7, said)
        self._face(8.5, FAINT)
        self.cell(0, 7.5, drawable(beside), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def bar(self, text: str) -> None:
        """The name of one thing among several of a section, never alone at the foot of a page."""
        self._keep_together(40)
        self._face(10, INK, "B")
        self.set_fill_color(*PALE)
        self.multi_cell(0, 6.5, drawable(text), align="L", fill=True, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(0.8)

    def paragraph(self, text: str, size: float = 9.5) -> None:
        """Words over the whole width."""
        self._face(size, INK)
        self.multi_cell(0, size / 2, drawable(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1.5)

    def fact(self, label: str, value: str, label_mm: float, *, aside: bool = False) -> None:
        """A label with its value beside it. `aside` is a label in italics."""
        self._keep_together(FACT_LINE_MM)
        self._face(9, FAINT, "I" if aside else "")
        self.cell(label_mm, FACT_LINE_MM, self._fitted(drawable(label), label_mm))
        self._face(9, INK)
        said = drawable(value) or "-"
        self.multi_cell(0, FACT_LINE_MM, said, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def rows(
        self,
        head: Sequence[str],
        rows: Sequence[Sequence[str]],
        widths: Sequence[float],
        *,
        fill: Color = PALE,
        mono: int = -1,
    ) -> None:
        """A table; `widths` say how the columns share the page. The column `mono` is in a face to compare digits in."""
        self._face(8, INK)
        self.set_draw_color(*LINE)
        self.set_fill_color(*WHITE)
        faces = [FontFace(family="Courier", size_pt=7.5) if number == mono else None for number in range(len(head))]
        texts = [[drawable(cell) for cell in cells] for cells in (head, *rows)]
        columns = self._widths(texts, widths)
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(emphasis="BOLD", color=INK, fill_color=fill),
            line_height=ROW_LINE_MM,
            padding=CELL_PADDING,
            col_widths=tuple(columns),
            text_align="LEFT",
            v_align=VAlign.T,
            width=self.epw,
        ) as table:
            table.row(texts[0])
            for cells in texts[1:]:
                for part in self._parts(cells, columns, faces):
                    row = table.row()
                    for cell, face in zip(part, faces, strict=True):
                        row.cell(cell, style=face)
        self.ln(1)

    def attach(self, name: str, content: bytes, said: str, made_at: datetime) -> None:
        """A file inside the file, for machines."""
        moment = made_at.astimezone(UTC)
        self.embed_file(bytes=content, basename=name, desc=said, creation_date=moment, modification_date=moment)

    def drawn(self) -> bytes:
        """The whole file."""
        return bytes(self.output())

    # How --------------------------------------------------------------------------------------------------------------

    def _face(self, size: float, color: Color, style: str = "", family: str = "Helvetica") -> None:
        self.set_font(family, style, size)
        self.set_text_color(*color)

    def _rule(self) -> None:
        self.set_draw_color(*LINE)
        self.set_line_width(0.2)
        self.line(self.l_margin, self.get_y(), self.l_margin + self.epw, self.get_y())

    def _keep_together(self, height_mm: float) -> None:
        if self.will_page_break(height_mm):
            self.add_page()

    def _fitted(self, text: str, width_mm: float) -> str:
        """One line of a text, in the face of the moment; what is cut says so."""
        line = " ".join(text.split())
        if self.get_string_width(line) <= width_mm - 2 * self.c_margin:
            return line
        while line and self.get_string_width(f"{line} ...") > width_mm - 2 * self.c_margin:
            line = line[:-1]
        return f"{line.rstrip()} ..."

    def _widths(self, texts: Sequence[Sequence[str]], asked: Sequence[float]) -> list[float]:
        """Columns that share the page as asked, but none narrower than its longest word (within reason)."""
        padding = CELL_PADDING.left + CELL_PADDING.right + 1
        with self.use_font_face(FontFace(emphasis="BOLD")):
            least = [
                min(
                    COLUMN_WIDENED_MM_MAX,
                    padding + max((self.get_string_width(word) for cell in column for word in cell.split()), default=0),
                )
                for column in zip(*texts, strict=True)
            ]
        wanted = [self.epw * share / sum(asked) for share in asked]
        spare = [max(0.0, width - floor) for width, floor in zip(wanted, least, strict=True)]
        missing = sum(max(0.0, floor - width) for width, floor in zip(wanted, least, strict=True))
        taken = min(1.0, missing / sum(spare)) if sum(spare) else 0.0
        given = [max(width, floor) - taken * over for width, floor, over in zip(wanted, least, spare, strict=True)]
        return [self.epw * width / sum(given) for width in given]

    def _parts(
        self, cells: Sequence[str], columns: Sequence[float], faces: Sequence[FontFace | None]
    ) -> Iterator[Sequence[str]]:
        """A row that fits on a page as it is; a higher one as several, with its lines broken as they will be drawn."""
        lines_max = int(self.eph * ROW_PAGE_SHARE_MAX / ROW_LINE_MM)
        broken = [self._lines(*cell) for cell in zip(cells, columns, faces, strict=True)]
        highest = max(map(len, broken))
        if highest <= lines_max:
            yield cells
            return
        for first in range(0, highest, lines_max):
            yield ["\n".join(lines[first : first + lines_max]) for lines in broken]

    def _lines(self, text: str, width_mm: float, face: FontFace | None) -> list[str]:
        with self.use_font_face(face or FontFace()):
            lines: list[str] = self.multi_cell(  # type: ignore[assignment]
                width_mm,
                ROW_LINE_MM,
                text,
                align="L",
                padding=CELL_PADDING,
                dry_run=True,
                output=MethodReturnValue.LINES,
            )
        return lines
