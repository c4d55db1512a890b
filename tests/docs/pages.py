"""Reads the documentation as tests need it: pages, their tables, their code blocks, their links and sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#+) (.+)$")
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Table:
    """One table: the heading it stands under, its column names, and its rows as cells of raw markdown."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def pages() -> list[Path]:
    """Every page that users read."""
    return [README, ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def reference(name: str) -> str:
    """The text of a reference page."""
    return (DOCS / "reference" / f"{name}.md").read_text()


def without_code(text: str) -> str:
    """The text without its code blocks."""
    return _FENCE.sub("", text)


def code_blocks(text: str, language: str | None = None) -> list[str]:
    """The code blocks of a text, of one language if given."""
    return [dedent(body) for _, tag, body in _FENCE.findall(text) if language is None or tag == language]


def tables(text: str) -> Iterator[Table]:
    """The tables of a text, in order."""
    heading, lines = "", []
    for line in [*without_code(text).splitlines(), ""]:
        found = _HEADING.match(line)
        if found:
            heading = found[2]
        if line.startswith("|"):
            lines.append(_cells(line))
        elif lines:
            yield Table(heading, tuple(lines[0]), tuple(tuple(cells) for cells in lines[2:]))
            lines = []


def table(text: str, heading: str) -> Table:
    """The first table under a heading."""
    return next(found for found in tables(text) if found.heading == heading)


def named(cell: str) -> list[str]:
    """What stands in backticks in a cell, in order."""
    return _CODE.findall(cell)


def name(cell: str) -> str:
    """The one name in backticks that a cell begins with."""
    return named(cell)[0]


def links(text: str) -> list[str]:
    """The targets of all links of a text."""
    return _LINK.findall(without_code(text))


def anchors(text: str) -> set[str]:
    """The anchors that a page's headings give, as the usual renderers make them."""
    found = set()
    for line in without_code(text).splitlines():
        heading = _HEADING.match(line)
        if heading:
            words = re.sub(r"[^\w\- ]", "", heading[2].lower())
            found.add(words.replace(" ", "-"))
    return found


def sentences(text: str) -> Iterator[str]:
    """The sentences of a text, without its code; a table's cell and a list's item each count as one or more."""
    for block in re.split(r"\n\s*\n|\n(?=[-*|#] ?)", without_code(text)):
        for cell in block.split("|"):
            yield from (part for part in re.split(r"(?<=[.!?])\s+", " ".join(cell.split())) if part)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
