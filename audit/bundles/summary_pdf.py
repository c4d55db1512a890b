"""The summary of a bundle on paper: the same words as the page, for a file. The same summary gives the same bytes.

fpdf2 draws, as it does certificates; what the built-in faces cannot draw stands as `?` here and whole in the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from audit.bundles.summary import Summary, SummaryEvent

INK: Final = (28, 36, 44)
FAINT: Final = (108, 118, 128)
RIVER: Final = (22, 78, 99)
PALE: Final = (236, 243, 246)
LINE: Final = (200, 212, 218)
WHITE: Final = (255, 255, 255)

MARGIN_MM: Final = 20
WIDTH_MM: Final = 210 - 2 * MARGIN_MM
TITLE: Final = "Evidence bundle"

EVENTS_DRAWN_MAX: Final = 200
"""Who needs it: whoever prints it. The page shows more, and entries.tsv all."""

DETAILS_CHARACTERS_MAX: Final = 600
"""Of one event on paper."""


def summary_pdf(summary: Summary) -> bytes:
    """The PDF."""
    paper = _Paper(summary)
    paper.add_page()
    _front(paper, summary)
    paper.heading("What it shows")
    for sentence in summary.words:
        paper.paragraph(sentence)
    paper.paragraph(
        "Every event here stands in the account's log at the position named, under the signed checkpoint in this "
        "bundle. The log is tamper-evident back to the last checkpoint that somebody else holds."
    )
    if summary.not_shown:
        paper.heading("What it does not show")
        for sentence in summary.not_shown:
            paper.paragraph(f"- {sentence}")
    paper.heading("How to check it")
    paper.paragraph(
        "These pages are for reading. What counts are the other files of the bundle. README.md says how they are "
        "checked with Go, with tlog-scales and with lethe verify, each without a network. Take the log's public key "
        "from somebody else than whoever gave you the bundle."
    )
    _events(paper, summary)
    _rules(paper, summary)
    return bytes(paper.output())


class _Paper(FPDF):
    """A4 with the head and foot of every page."""

    def __init__(self, summary: Summary) -> None:
        super().__init__(format="A4")
        self._summary = summary
        self.set_margins(MARGIN_MM, 16, MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=22)
        self.set_creation_date(summary.made_at)
        self.set_title(f"{TITLE}: {summary.title}")
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
        self.cell(WIDTH_MM / 2, 5, _latin(self._summary.title), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._rule()
        self.ln(4)

    def footer(self) -> None:
        """Which page of how many."""
        self.set_y(-16)
        self._rule()
        self.set_font("Helvetica", "", 8)
        self.set_text_color(*FAINT)
        self.cell(WIDTH_MM / 2, 8, "All times are UTC. Checked are the other files of the bundle.")
        self.cell(WIDTH_MM / 2, 8, f"{self.page_no()} / {{nb}}", align="R")

    def heading(self, text: str) -> None:
        """A section's heading, never alone at the foot of a page."""
        if self.will_page_break(30):
            self.add_page()
        self.ln(5)
        self.set_font("Helvetica", "B", 11)
        self.set_text_color(*RIVER)
        self.cell(0, 7, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def paragraph(self, text: str) -> None:
        """Words over the whole width."""
        self.set_font("Helvetica", "", 9.5)
        self.set_text_color(*INK)
        self.multi_cell(WIDTH_MM, 4.75, _latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1.5)

    def rows(self, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
        """A table."""
        self.set_font("Helvetica", "", 8.5)
        self.set_text_color(*INK)
        self.set_draw_color(*LINE)
        self.set_fill_color(*WHITE)
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=FontFace(emphasis="BOLD", color=FAINT, fill_color=WHITE),
            line_height=4.2,
            padding=(1.1, 1.5, 1.1, 0),
            col_widths=tuple(widths),
            text_align="LEFT",
            width=WIDTH_MM,
        ) as table:
            table.row([_latin(cell) for cell in head])
            for cells in rows:
                table.row([_latin(cell) for cell in cells])
        self.ln(1)

    def _rule(self) -> None:
        self.set_draw_color(*LINE)
        self.set_line_width(0.2)
        self.line(MARGIN_MM, self.get_y(), MARGIN_MM + WIDTH_MM, self.get_y())


def _front(paper: _Paper, summary: Summary) -> None:
    paper.set_fill_color(*RIVER)
    paper.rect(0, 0, 210, 40, style="F")
    paper.set_xy(MARGIN_MM, 11)
    paper.set_font("Helvetica", "", 9)
    paper.set_text_color(*PALE)
    paper.cell(0, 5, f"{TITLE}: {summary.kind_words}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font("Times", "", 24)
    paper.set_text_color(*WHITE)
    paper.cell(0, 14, _latin(summary.title), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_y(47)
    told = ", ".join(f"{count:,} {what}" for _, count, what in summary.figures)
    for label, value in [*summary.facts, ("In it", told)]:
        paper.set_font("Helvetica", "", 9)
        paper.set_text_color(*FAINT)
        paper.cell(30, 5.6, _latin(label))
        paper.set_text_color(*INK)
        paper.multi_cell(WIDTH_MM - 30, 5.6, _latin(value), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _rules(paper: _Paper, summary: Summary) -> None:
    if summary.rules is None:
        return
    paper.heading(f"The rules of the day: {summary.rules['version']}")
    rows = []
    for row in summary.rules["rows"]:
        says = ", ".join(_rule(one) for one in row["says"])
        until = f" to {row['effective_to']}" if row["effective_to"] else ""
        rows.append((says, f"from {row['effective_from']}{until}", row["source"]))
    paper.rows(("rule", "in force", "source"), rows, (66, 34, 70))


def _events(paper: _Paper, summary: Summary) -> None:
    paper.heading("Events")
    shown = summary.events[:EVENTS_DRAWN_MAX]
    if len(shown) < summary.entries:
        paper.paragraph(f"The first {len(shown)} of {summary.entries:,}. All of them are in entries.tsv.")
    rows = [(f"{event.position:,}", event.recorded, _name(summary, event), _details(event)) for event in shown]
    paper.rows(("position", "recorded", "what", "details"), rows, (18, 32, 36, 84))


def _rule(said: object) -> str:
    if isinstance(said, list):
        return " ".join(map(str, said))
    return "no end" if said is None else str(said)


def _name(summary: Summary, event: SummaryEvent) -> str:
    mark = summary.marks.get(event.position)
    return f"{event.name} ({mark})" if mark else event.name


def _details(event: SummaryEvent) -> str:
    said = [f"{name.replace('_', ' ')}: {value}" for name, value in event.plain.items()]
    for name, state, values in event.parts:
        told = "; ".join(f"{key}: {value}" for key, value in values.items())
        said.append(f"{name} ({state})" + (f": {told}" if told else ""))
    text = ". ".join(said)
    return text if len(text) <= DETAILS_CHARACTERS_MAX else f"{text[:DETAILS_CHARACTERS_MAX]} [...]"


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
