"""A certificate of destruction on paper: the same words as the signed document, laid out for whoever has to file it.

The JSON is what is signed; it is attached inside the PDF, whole, with its list of keys. The same certificate gives
the same bytes, whenever and wherever it is drawn. fpdf2 draws: pure Python, typed, alive, and nothing but a library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, Final

import orjson
from fpdf import FPDF
from fpdf.enums import TableBordersLayout, XPos, YPos
from fpdf.fonts import FontFace

from ledger.certificate_format import digest_of

INK: Final = (28, 36, 44)
FAINT: Final = (108, 118, 128)
RIVER: Final = (22, 78, 99)
PALE: Final = (236, 243, 246)
LINE: Final = (200, 212, 218)
WHITE: Final = (255, 255, 255)

MARGIN_MM: Final = 20
WIDTH_MM: Final = 210 - 2 * MARGIN_MM
TITLE: Final = "Certificate of destruction"

KEYS_DRAWN_MAX: Final = 40
"""Commitments on paper; the attached document has all of them."""

_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
"""Not those of the machine's language: one certificate gives the same bytes everywhere."""

STAGES: Final = {1: ("STAGE 1", "Unreachable"), 2: ("STAGE 2", "Unrecoverable from the enumerated copies")}


def certificate_pdf(exported: Mapping[str, Any]) -> bytes:
    """The PDF of a certificate as `retention.certificate_store.exported` gives it."""
    paper = _Paper(exported["certificate"])
    paper.add_page()
    _front(paper, exported["certificate"])
    _details(paper, exported)
    content = orjson.dumps(exported, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)
    moment = _midnight(exported["certificate"]["issued_on"])
    paper.embed_file(
        bytes=content,
        basename="certificate.json",
        desc="The signed certificate with its list of keys",
        creation_date=moment,
        modification_date=moment,
    )
    return bytes(paper.output())


class _Paper(FPDF):
    """A4 with the head and foot of every page."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(format="A4")
        self._said = said
        self.set_margins(MARGIN_MM, 16, MARGIN_MM)
        self.set_auto_page_break(auto=True, margin=22)
        self.set_creation_date(_midnight(said["issued_on"]))
        self.set_title(f"{TITLE} {said['id']}")
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
        self.cell(WIDTH_MM / 2, 5, self._said["id"], align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._rule(LINE)
        self.ln(4)

    def footer(self) -> None:
        """Which page of how many, and what the days mean."""
        self.set_y(-16)
        self._rule(LINE)
        self.set_font("Helvetica", "", 8)
        self.set_text_color(*FAINT)
        self.cell(WIDTH_MM / 2, 8, "All days are UTC. The signed document is attached to this file.")
        self.cell(WIDTH_MM / 2, 8, f"{self.page_no()} / {{nb}}", align="R")

    def heading(self, text: str) -> None:
        """A section's heading, never alone at the foot of a page."""
        if self.will_page_break(30):
            self.add_page()
        self.ln(5)
        self.set_font("Helvetica", "B", 11)
        self.set_text_color(*RIVER)
        self.cell(0, 7, text, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1)

    def paragraph(self, text: str, size: float = 9.5) -> None:
        """Words over the whole width."""
        self.set_font("Helvetica", "", size)
        self.set_text_color(*INK)
        self.multi_cell(WIDTH_MM, size / 2, _latin(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(1.5)

    def rows(self, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], mono: int = -1) -> None:
        """A table; the column `mono` is set in a face where characters can be compared."""
        self.set_font("Helvetica", "", 8.5)
        self.set_text_color(*INK)
        self.set_draw_color(*LINE)
        self.set_fill_color(*WHITE)
        style = FontFace(emphasis="BOLD", color=FAINT, fill_color=WHITE)
        with self.table(
            borders_layout=TableBordersLayout.HORIZONTAL_LINES,
            headings_style=style,
            line_height=4.2,
            padding=(1.1, 1.5, 1.1, 0),
            col_widths=tuple(widths),
            text_align="LEFT",
            width=WIDTH_MM,
        ) as table:
            table.row([_latin(cell) for cell in head])
            for cells in rows:
                row = table.row()
                for number, cell in enumerate(cells):
                    face = FontFace(family="Courier", size_pt=7.5) if number == mono else None
                    row.cell(_latin(cell), style=face)
        self.ln(1)

    def _rule(self, color: tuple[int, int, int]) -> None:
        self.set_draw_color(*color)
        self.set_line_width(0.2)
        self.line(MARGIN_MM, self.get_y(), MARGIN_MM + WIDTH_MM, self.get_y())


def _front(paper: _Paper, said: Mapping[str, Any]) -> None:
    """The title, the stage, and what somebody reads who reads no further."""
    paper.set_fill_color(*RIVER)
    paper.rect(0, 0, 210, 40, style="F")
    paper.set_xy(MARGIN_MM, 11)
    paper.set_font("Helvetica", "", 9)
    paper.set_text_color(*PALE)
    paper.cell(0, 5, "L E T H E", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_font("Times", "", 26)
    paper.set_text_color(*WHITE)
    paper.cell(0, 14, TITLE, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_y(47)
    _stage(paper, said)
    _facts(paper, said)
    paper.ln(3)
    for sentence in said["statements"]:
        paper.paragraph(sentence, 10)


def _stage(paper: _Paper, said: Mapping[str, Any]) -> None:
    number, name = STAGES[said["stage"]]
    since = said["unrecoverable_from"] or said["unreachable_from"]
    paper.set_fill_color(*PALE)
    top = paper.get_y()
    paper.rect(MARGIN_MM, top, WIDTH_MM, 18, style="F")
    paper.set_fill_color(*RIVER)
    paper.rect(MARGIN_MM, top, 1.6, 18, style="F")
    paper.set_xy(MARGIN_MM + 6, top + 2.5)
    paper.set_font("Helvetica", "B", 8)
    paper.set_text_color(*RIVER)
    paper.cell(0, 5, number, new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_x(MARGIN_MM + 6)
    paper.set_font("Times", "", 17)
    paper.set_text_color(*INK)
    paper.cell(0, 8, f"{name} from {_day(since)}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    paper.set_y(top + 22)


def _facts(paper: _Paper, said: Mapping[str, Any]) -> None:
    """Label and value, two pairs to a line where they fit."""
    about = said["about"]
    facts = [
        ("Certificate", said["id"]),
        ("Account", said["account"]),
        ("Issued", f"{_day(said['issued_on'])}, revision {said['revision']}"),
        ("Unreachable from", _day(said["unreachable_from"])),
        ("Unrecoverable from", _unrecoverable(said)),
        ("Why", about.get("ground") or "its time under the policy was over"),
        *([("Asked for", _day(about["asked_on"]))] if "asked_on" in about else []),
        ("Policy", f"{about['pack']}, version {about['pack_version']}, {_clauses(about['clauses'])}"),
    ]
    for label, value in facts:
        paper.set_font("Helvetica", "", 9)
        paper.set_text_color(*FAINT)
        paper.cell(40, 5.6, label)
        paper.set_text_color(*INK)
        paper.multi_cell(WIDTH_MM - 40, 5.6, _latin(value), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _details(paper: _Paper, exported: Mapping[str, Any]) -> None:
    said = exported["certificate"]
    _destroyed(paper, said, exported["destroyed_keys"])
    if said["kept"]:
        paper.heading("What was kept, and why")
        kept = [(row["class"], row["limb"] or "-", row["why"]) for row in said["kept"]]
        paper.rows(("class", "limb", "why"), kept, (24, 40, 106))
    paper.heading("Copies of the epoch keys that wrapped them")
    if said["stage"] == 1:
        copies = [(row["place"], row["method"], _short(row["by"])) for row in said["copies"]]
        paper.rows(("copy", "method", "at the latest"), copies, (92, 54, 24))
    else:
        copies = [(row["place"], row["method"], _short(row["gone_from"])) for row in said["copies"]]
        paper.rows(("copy", "method", "gone from"), copies, (92, 54, 24))
    paper.heading("Where it had been, and what became of it")
    held = [(row["artefact"], row["held"], row["state"]) for row in said["inventory"]]
    paper.rows(("artefact", "what it held", "state"), held, (46, 48, 76))
    if said.get("exports"):
        paper.heading("Exports about this person, which are out of reach")
        left = [
            (row["month"], row["kind"], "parts opened" if row["opened"] else "nothing opened", str(row["count"]))
            for row in said["exports"]
        ]
        paper.rows(("month", "kind", "what it shows", "how many"), left, (30, 60, 52, 28))
    paper.heading("Acknowledged")
    told = [(row["where"], row["what"], _short(row["on"])) for row in said["acknowledgements"]]
    paper.rows(("where", "what", "on"), told, (40, 106, 24))
    paper.heading("What was still open for a while")
    windows = [(row["what"], row["why"], _short(row["until"])) for row in said["windows"]]
    paper.rows(("what", "why", "until"), windows, (56, 90, 24))
    paper.heading("What could still be guessed")
    for sentence in said["still_possible"]:
        paper.paragraph(sentence, 9)
    _checking(paper, exported)


def _destroyed(paper: _Paper, said: Mapping[str, Any], keys: Mapping[str, Any] | None) -> None:
    paper.heading("What was destroyed")
    about = said["about"]
    if about["kind"] == "plan":
        items = [(i["item"], f"clause {i['clause']}", _short(i["due_on"]), str(i["keys"])) for i in about["items"]]
        paper.rows(("item", "under", "due", "keys"), items, (84, 40, 28, 18))
    else:
        paper.paragraph("Every key of the classes " + ", ".join(said["keys"]["classes"]) + ".", 9)
    if keys is None:
        return
    shown = keys["keys"][:KEYS_DRAWN_MAX]
    crowd = f" They are of {keys['erasures']} erasures of that day; none of them says whose it was."
    paper.paragraph(
        f"{len(keys['keys'])} keys by the commitment that was published when they were made."
        + (crowd if keys["erasures"] else "")
        + (
            f" The first {len(shown)} are shown; the attached document has all."
            if len(shown) < len(keys["keys"])
            else ""
        ),
        9,
    )
    lines = [(key["commitment"], key["class"], _short(key["made_on"])) for key in shown]
    paper.rows(("commitment", "class", "made on"), lines, (112, 34, 24), mono=0)


def _checking(paper: _Paper, exported: Mapping[str, Any]) -> None:
    paper.heading("How to check this certificate")
    paper.paragraph(
        "Take certificate.json out of this file and check it with the account's public key, on any machine and without "
        "a network: lethe certificate verify certificate.json --public-key KEY. The log holds the digest.",
        9,
    )
    lines = (
        ("public key", exported["public_key"]),
        ("signature", exported["signature"]),
        ("digest", digest_of(exported["certificate"])),
    )
    paper.rows(("Ed25519", "hex"), lines, (24, 146), mono=1)


def _unrecoverable(said: Mapping[str, Any]) -> str:
    if said["unrecoverable_from"]:
        return _day(said["unrecoverable_from"])
    return f"not yet: {_day(said['horizon'])} at the latest"


def _clauses(clauses: Sequence[str]) -> str:
    if not clauses:
        return "no clause named"
    return ("clause " if len(clauses) == 1 else "clauses ") + ", ".join(clauses)


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _short(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {_MONTHS[day.month - 1][:3]} {day.year}"


def _midnight(text: str) -> datetime:
    return datetime.combine(date.fromisoformat(text), time(), UTC)


def _latin(text: str) -> str:
    """What the built-in faces can draw; anything else, such as a folder's name in another script, as `?`."""
    return text.encode("latin-1", "replace").decode("latin-1")
