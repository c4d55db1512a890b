"""Reads who a campaign is to be sent to, and writes what was answered for each.

In: one address a line, a CSV with an e-mail column (and `occurrence`), or NDJSON objects `{"email", "occurrence"?}`.
Out: CSV or NDJSON, in files of mode 0600 that are never written over. Both are streamed, a line at a time.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import orjson

from api.imports.columns import EMAIL, folded
from api.imports.errors import ImportFileError
from audit.formulas import neutralised
from ledger.authorise_layout import Answer, Recipient

LINE_CHARACTERS_MAX: Final = 4096  # who needs it: a line is one address, or a row with one
OUT_COLUMNS: Final = ("email", "result", "rule", "message_id", "expires_at", "repeated", "line", "reason")
Form = Literal["csv", "ndjson"]


@dataclass(slots=True)
class Rejected:
    """Lines that are no recipient at all: line number and reason."""

    lines: list[tuple[int, str]] = field(default_factory=list)


def read_recipients(text: TextIO, rejected: Rejected) -> Iterator[Recipient]:
    """The recipients of a file in any of the three forms; `index` is the line. Raises `ImportFileError`."""
    lines = _numbered(text)
    first = next(lines, None)
    if first is None:
        return iter(())
    number, line = first
    lines = chain([first], lines)
    if line.lstrip().startswith("{"):
        return _from_objects(lines, rejected)
    if "@" not in line:
        return _from_table(number, lines, rejected)
    return (Recipient(at, address.strip()) for at, address in lines)


def _numbered(text: TextIO) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers from 1."""
    number = 0
    while True:
        try:
            line = text.readline(LINE_CHARACTERS_MAX)
        except UnicodeDecodeError:
            raise ImportFileError(f"After line {number} the recipients are not UTF-8; save them as UTF-8.") from None
        if not line:
            return
        number += 1
        if len(line) == LINE_CHARACTERS_MAX and not line.endswith("\n"):
            raise ImportFileError(f"Line {number} has more than {LINE_CHARACTERS_MAX} characters; is this the file?")
        if line.strip():
            yield number, line.lstrip("\ufeff").rstrip("\r\n")


def _from_objects(lines: Iterator[tuple[int, str]], rejected: Rejected) -> Iterator[Recipient]:
    for number, line in lines:
        try:
            held = orjson.loads(line)
        except orjson.JSONDecodeError:
            rejected.lines.append((number, "not a JSON object on one line"))
            continue
        email = held.get("email") if isinstance(held, dict) else None
        occurrence = held.get("occurrence") if isinstance(held, dict) else None
        if isinstance(email, str) and (occurrence is None or isinstance(occurrence, str)):
            yield Recipient(number, email, occurrence)
        else:
            rejected.lines.append((number, 'write {"email": "…"}, and "occurrence" as text'))


def _from_table(number: int, lines: Iterator[tuple[int, str]], rejected: Rejected) -> Iterator[Recipient]:
    _, header = next(lines)
    delimiter = max((",", ";", "\t"), key=header.count)
    names = [folded(name) for name in next(csv.reader([header], delimiter=delimiter))]
    email = next((index for index, name in enumerate(names) if name in EMAIL), None)
    occurrence = names.index("occurrence") if "occurrence" in names else None
    if email is None:
        raise ImportFileError(f"Line {number} names no e-mail column. Call one 'email', or give one address a line.")
    return _rows(lines, delimiter, email, occurrence, rejected)


def _rows(
    lines: Iterator[tuple[int, str]], delimiter: str, email: int, occurrence: int | None, rejected: Rejected
) -> Iterator[Recipient]:
    for number, line in lines:
        cells = next(csv.reader([line], delimiter=delimiter))
        if len(cells) <= max(email, occurrence or 0):
            rejected.lines.append((number, "the row is shorter than the first line"))
            continue
        which = (cells[occurrence].strip() or None) if occurrence is not None else None
        yield Recipient(number, cells[email].strip(), which)


class ResultsWriter:
    """Writes answers as they come, and counts them. `text` is None where only the counts are wanted."""

    def __init__(self, text: TextIO | None, form: Form) -> None:
        self._text = text
        self._form = form
        self._table = csv.writer(text, lineterminator="\n") if text is not None and form == "csv" else None
        if self._table is not None:
            self._table.writerow(OUT_COLUMNS)
        self.allowed = 0
        self.repeated = 0
        self.refused: Counter[str] = Counter()
        self.rejected = 0

    def write(self, answer: Answer) -> None:
        """One chunk of answers."""
        for recipient, token, expires_at, repeated in answer.allowed:
            self.allowed += 1
            self.repeated += repeated
            self._row(
                email=recipient.email, result="allowed", message_id=token, expires_at=expires_at, repeated=repeated
            )
        for recipient, rule in answer.refused:
            self.refused[rule] += 1
            self._row(email=recipient.email, result="refused", rule=rule)
        self.write_rejected(answer.rejected)

    def write_rejected(self, rejected: list[tuple[int, str]]) -> None:
        """Lines that were not taken; their text is not repeated."""
        for line, reason in rejected:
            self.rejected += 1
            self._row(result="rejected", line=line, reason=reason)

    def _row(self, **values: Any) -> None:
        if self._table is not None:
            self._table.writerow([_cell(values.get(column)) for column in OUT_COLUMNS])
        elif self._text is not None:
            self._text.write(orjson.dumps(values).decode() + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return neutralised(value) if isinstance(value, str) else str(value).lower()


def form_of(path: Path | None, form: Form | None) -> Form:
    """The form asked for, or the one that the file's name says."""
    if form is not None:
        return form
    return "csv" if path is not None and path.suffix.casefold() == ".csv" else "ndjson"
