"""From lines of text to CSV records (RFC 4180), one broken record never costing the others.

The standard ``csv`` module swallows the rest of a file after one stray quote. Here a record whose quote
is never closed is given up on **its first line alone**, and reading goes on with the next line. A quoted
cell that *is* closed properly always stays one record, however long: its text may be somebody's free
text, and must never be read as rows of the file. Where that cannot be told within LOOKAHEAD_CHARACTERS
the file is refused from there on (fails closed), naming the line.

Every line is looked at a bounded number of times, whatever the quotes are: lines once seen to lie inside
a quote that is never closed are not searched for its end again.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TextIO

from api.imports.errors import ImportFileError

LINE_CHARACTERS_MAX: Final = 131_072  # who needs it: a file without line ends must not fill the memory
RECORD_CHARACTERS_MAX: Final = 131_072  # the csv module's own default bound of one cell
LOOKAHEAD_CHARACTERS: Final = 8 * 1024 * 1024  # how far an open quote is followed; about 16 MB of memory
CELL_CHARACTERS_MAX: Final = 10_000  # who needs it: a sealed part; nobody's name or note is longer

_TOO_LONG_LINE: Final = f"the line is longer than {LINE_CHARACTERS_MAX} characters"
_UNCLOSED: Final = "a quote is opened on this line and never closed properly"
_BAD_QUOTES: Final = 'text stands after a closing quote; write a quote inside a quoted cell as ""'


@dataclass(frozen=True, slots=True)
class Record:
    """One record: ``fault`` is None for a good one, else a plain sentence and ``cells`` are best effort."""

    line: int
    cells: list[str]
    fault: str | None = None


class _Cut(str):
    """The head of a physical line that was too long; its rest was skipped."""

    __slots__ = ()


def records(text: TextIO, delimiter: str, *, file: str, first: str, first_number: int) -> Iterator[Record]:
    """Yield every record in order; blank lines are passed over.

    ``first`` is the line that was already read to find the delimiter, on line ``first_number`` of the
    file, and ``text`` goes on after it; ``text`` must keep its line ends (``newline=""``). Raises
    :class:`ImportFileError` only where an open quote is not closed within LOOKAHEAD_CHARACTERS.
    """
    lines = _Lines(text, first_number)
    lines.give_back([first], condemned=0)
    quotes = _Quotes(delimiter)
    while (line := lines.take()) is not None:
        number = lines.number
        if isinstance(line, _Cut):
            yield Record(number, [], _TOO_LONG_LINE)
        elif '"' not in line:
            if content := line.rstrip("\r\n"):
                yield _checked(number, content.split(delimiter))
        else:
            yield _quoted_record(line, number, lines, quotes, file)


def _quoted_record(line: str, number: int, lines: _Lines, quotes: _Quotes, file: str) -> Record:
    state = quotes.after(line, inside=False)
    if state == "bad":
        return Record(number, quotes.best_effort(line), _BAD_QUOTES)
    if state == "closed":
        return _checked(number, quotes.cells([line]))
    if lines.condemned:
        return Record(number, quotes.best_effort(line), _UNCLOSED)
    taken, size = [line], len(line)
    while state == "open":
        following = lines.take()
        if following is None:
            lines.give_back(taken[1:], condemned=len(taken) - 1)
            return Record(number, quotes.best_effort(line), _UNCLOSED)
        taken.append(following)
        size += len(following)
        if size > LOOKAHEAD_CHARACTERS or isinstance(following, _Cut):
            raise ImportFileError(
                f"{file}: a quote opened on line {number} is still open on line {lines.number}, too far on to"
                " be read. The rows before it were read; mend that line and import the file again."
            )
        state = quotes.after(following, inside=True)
    if state == "bad":
        lines.give_back(taken[1:], condemned=len(taken) - 2)
        return Record(number, quotes.best_effort(line), _UNCLOSED)
    if size > RECORD_CHARACTERS_MAX:
        fault = f"the record, up to line {lines.number}, is longer than {RECORD_CHARACTERS_MAX} characters"
        return Record(number, [], fault)
    return _checked(number, quotes.cells(taken))


def _checked(line: int, cells: list[str]) -> Record:
    for index, cell in enumerate(cells):
        if len(cell) > CELL_CHARACTERS_MAX:
            return Record(line, cells, f"cell {index + 1} is longer than {CELL_CHARACTERS_MAX} characters")
        if "\0" in cell:
            # Kept out of the reject file too: it would only be refused again.
            clean = [each.replace("\0", "") for each in cells]
            return Record(line, clean, f"cell {index + 1} holds a NUL byte; it was taken out, check the cell")
    return Record(line, cells)


class _Quotes:
    """The quoting state at the end of a line, in one linear look at it."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        escaped = re.escape(delimiter)
        # A cell of a line: quoted and closed, or plain (a quote in its middle is a character like others).
        closed = rf'(?:"[^"]*+(?:""[^"]*+)*"(?!")|(?!")[^{escaped}\r\n]*+)'
        self._closed_cells = re.compile(rf"{closed}(?:{escaped}{closed})*").match
        self._to_closing = re.compile(r'[^"]*+(?:""[^"]*+)*"(?!")').match

    def after(self, line: str, *, inside: bool) -> Literal["open", "closed", "bad"]:
        """The state at the end of ``line``, which begins inside or outside a quoted cell."""
        start = 0
        if inside:
            closing = self._to_closing(line)
            if closing is None:
                return "open"
            start = closing.end()
            if line[start : start + 1] != self._delimiter:
                return "bad" if line[start:].strip("\r\n") else "closed"
            start += 1
        cells = self._closed_cells(line, start)
        end = start if cells is None else cells.end()
        if not line[end:].strip("\r\n"):
            return "closed"
        # What stopped the match is a delimiter before an opening quote, or an opening quote itself.
        end += line[end] == self._delimiter
        if line[end] == '"' and self._to_closing(line, end + 1) is None:
            return "open"
        return "bad"

    def cells(self, lines: list[str]) -> list[str]:
        return next(csv.reader(lines, delimiter=self._delimiter, strict=True))

    def best_effort(self, line: str) -> list[str]:
        """The cells of a broken line, as near as they can be told, for whoever mends it."""
        return next(csv.reader([line.rstrip("\r\n")], delimiter=self._delimiter), [])


class _Lines:
    """Physical lines of bounded length with their numbers, and a way to give some back."""

    def __init__(self, text: TextIO, number: int) -> None:
        self._text = text
        self._given_back: deque[str] = deque()
        self._condemned_ahead = 0
        self.number = number
        self.condemned = False
        """True when the line last taken lies inside a quote that is known never to be closed."""

    def take(self) -> str | None:
        """The next line with its line end, or None at the end of the file."""
        self.condemned = self._condemned_ahead > 0
        if self._given_back:
            self._condemned_ahead -= self.condemned
            self.number += 1
            return self._given_back.popleft()
        line = self._text.readline(LINE_CHARACTERS_MAX)
        if not line:
            return None
        self.number += 1
        if len(line) < LINE_CHARACTERS_MAX or line.endswith(("\n", "\r")):
            return line
        while (rest := self._text.readline(LINE_CHARACTERS_MAX)) and not rest.endswith(("\n", "\r")):
            pass
        return _Cut(line)

    def give_back(self, lines: list[str], *, condemned: int) -> None:
        """Take these again next; the first ``condemned`` of them lie inside a never-closed quote."""
        self._given_back.extend(lines)
        self._condemned_ahead = condemned
        self.number -= len(lines)
