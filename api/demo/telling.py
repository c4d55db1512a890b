"""How the demo speaks: numbered chapters in plain words, progress bars where a terminal shows them.

With `--json` all of it goes to standard error, and standard output keeps the one object at the end.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.text import Text

from api.cli.output import Bar, Output, cell

INDENT: Final = "   "
COLUMNS_MAX: Final = 110  # longer lines are hard to read


class Teller:
    """Tells the story to a person."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._chapter = 0

    @property
    def _console(self) -> Console:
        return self._output.notes if self._output.as_json else self._output.console

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._chapter += 1
        self._console.print(Text(f"\n{self._chapter}. {title}", style="bold"))

    def say(self, sentence: str) -> None:
        """One sentence, or a few."""
        self._lines(sentence, INDENT, INDENT)

    def figures(self, rows: Sequence[tuple[str, int, str]]) -> None:
        """Numbers in a column, each with what it counts and, where it helps, why."""
        width = max((len(cell(number)) for _, number, _ in rows), default=0)
        for name, number, why in rows:
            figure = f"{INDENT}{cell(number):>{width + 2}}  "
            self._lines(f"{name}: {why}" if why else name, figure, " " * len(figure))

    def verdict(self, good: bool, sentence: str) -> None:
        """What came of a trial: a tick or a cross, and a sentence."""
        mark = "\N{CHECK MARK} " if good else "\N{MULTIPLICATION X} "
        self._lines(sentence, INDENT + mark, INDENT + "  ", style="green" if good else "bold red")

    def copied(self, line: str) -> None:
        """A line to be copied: never broken."""
        self._console.print(Text(f"{INDENT}{INDENT}{line}"), soft_wrap=True)

    def _lines(self, sentence: str, first: str, rest: str, *, style: str = "") -> None:
        """A sentence in as many lines as the terminal needs, all behind their indent."""
        width = min(self._console.width, COLUMNS_MAX)
        for line in textwrap.wrap(
            sentence, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
        ):
            self._console.print(Text(line, style=style))

    @contextmanager
    def progress(self, sentence: str, total: int | None = None) -> Iterator[Bar]:
        """A progress bar while something is done."""
        with self._output.progress(f"   {sentence}", total) as bar:
            yield bar
