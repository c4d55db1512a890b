"""What commands print: answers on standard output, everything else on standard error.

With `--json` standard output holds JSON only, one object or one object a line. Without it, tables and sentences for
a person. Text that came from outside is shown with its control characters replaced, so that a contact's name cannot
steer a terminal.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS: Final = 120  # the width of tables when no terminal tells its own

_controls = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Output:
    """Where one command prints. `as_json` is its `--json`."""

    as_json: bool

    @property
    def console(self) -> Console:
        """Standard output, for people."""
        return _console(stderr=False)

    @property
    def notes(self) -> Console:
        """Standard error: progress, hints, and what went wrong."""
        return _console(stderr=True)

    def answer(self, value: Mapping[str, Any], *sentences: str) -> None:
        """The command's one answer: an object, or sentences for a person."""
        if self.as_json:
            self.line(value)
        else:
            for sentence in sentences:
                self.say(sentence)

    def line(self, value: Mapping[str, Any]) -> None:
        """One JSON object on a line of its own."""
        typer.echo(orjson.dumps(value, default=_json).decode())

    def say(self, sentence: str) -> None:
        """A sentence for a person; nothing with `--json`."""
        if not self.as_json:
            self.console.print(sentence)

    def note(self, sentence: str) -> None:
        """A sentence on standard error, also with `--json`."""
        self.notes.print(sentence)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
        """A table for a person; columns whose name ends in `#` hold numbers."""
        if self.as_json:
            return
        table = Table(
            title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
        )
        for index, name in enumerate(columns):
            whole = any(isinstance(row[index], UUID) for row in rows)  # An id that is broken cannot be copied.
            justify: Literal["left", "right"] = "right" if name.endswith("#") else "left"
            table.add_column(name.rstrip("#"), justify=justify, overflow="fold", no_wrap=whole)
        for row in rows:
            table.add_row(*[cell(value) for value in row])
        self.console.print(table)

    @contextmanager
    def progress(self, sentence: str, total: int | None = None) -> Iterator[Bar]:
        """A progress bar on standard error while the block runs; nothing where that is no terminal."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), _Done(), TimeElapsedColumn())
        with Progress(*columns, console=self.notes, disable=not sys.stderr.isatty(), transient=True) as progress:
            yield Bar(progress, sentence, total)


class _Done(ProgressColumn):
    """How far it is, and of how much where that is known."""

    def render(self, task: Task) -> Text:
        done = int(task.completed)
        if task.total is not None:
            return Text(f"{done:,} of {max(int(task.total), done):,}")
        return Text(f"{done:,}" if done else "")


class Bar:
    """One progress bar. `advance` counts on; `to` says how far it is, and of how much."""

    def __init__(self, progress: Progress, sentence: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(sentence, total=total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._progress.advance(self._task, count)

    def to(self, done: int, total: int | None = None) -> None:
        """So many of so many are done."""
        self._progress.update(self._task, completed=done, total=total)


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return shown(str(value))


def shown(text: str) -> str:
    """Text from outside, with its control characters replaced by a visible sign."""
    return _controls.sub("\N{REPLACEMENT CHARACTER}", text)


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """`1 contact`, `2,000 contacts`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_COLUMNS
    return Console(
        stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=not stream.isatty(), width=width
    )


def _json(value: object) -> object:
    """What orjson does not know. A personal value is never written by accident: it raises `TypeError`."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here.")
