"""Walks through a page of documentation: writes the files it shows, types its commands, compares what is answered.

A page shows a file in a block that follows "Write `NAME`", and commands in `console` blocks, a line with `$` each,
with their answers below. Ids, keys, tokens and times differ between two runs, and so do positions, because rows stand
in order of random ids. So both sides are compared as bags of words, with all of these masked.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

MASKS = (
    (re.compile(r"\ufeff"), ""),
    (re.compile(r"lethe_[\w-]{8,}…?"), "KEY"),
    (re.compile(r"[\w-]{90,}|\b[\w-]{8,}…"), "TOKEN"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{16,32}\b"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)"), "TIME"),
    (re.compile(r"\b2\d{3}-\d\d-\d\d\b"), "DAY"),
    (re.compile(r"\b127\.0\.0\.1:\d+\b"), "HOST"),
)
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"\b[Ww]rite\s+(?:a\s+file\s+)?`([\w.-]+)`")
_NUMBER = re.compile(r"(?<![\w.-])\d+(?![\w.-])")
FILE_LANGUAGES = frozenset({"csv", "text", "json"})


@dataclass(frozen=True)
class Command:
    """One command as it is typed, and the answer the page shows."""

    typed: str
    answer: str

    def words(self, variables: dict[str, str]) -> list[str]:
        """The command's words, with shell variables put in."""
        return [re.sub(r"\$(\w+)", lambda found: variables[found[1]], word) for word in shlex.split(self.typed)]


@dataclass(frozen=True)
class File:
    """A file that the page shows, under the name it gives it."""

    name: str
    content: str


def steps(page: str) -> Iterator[Command | File]:
    """What a reader does with a page, in order."""
    end = 0
    for found in _BLOCK.finditer(page):
        before, language, body = page[end : found.start()], found[2], dedent(found[3])
        end = found.end()
        if language in FILE_LANGUAGES:
            yield File(_NAMED.findall(before)[-1], body)
        elif language == "console":
            yield from _commands(body)


def _commands(body: str) -> Iterator[Command]:
    typed, answer = "", ""
    for line in body.splitlines(keepends=True):
        if line.startswith("$ "):
            if typed:
                yield Command(typed, answer)
            typed, answer = line[2:].strip(), ""
        else:
            answer += line
    if typed:
        yield Command(typed, answer)


def masked(text: str) -> list[str]:
    """A text's words in alphabetical order, with what differs between two runs masked."""
    text = " ".join(text.split())
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    if re.search(r"\bposition\b", text):
        text = _NUMBER.sub("N", text)
    return sorted(text.split())


def walk(
    page: str, folder: Path, run: Callable[[list[str]], str], variables: dict[str, str]
) -> Iterator[tuple[Command, str]]:
    """Do every step in `folder`; yields each command with what it answered."""
    for step in steps(page):
        if isinstance(step, File):
            content = re.sub("|".join(variables) or "$^", lambda found: variables[found[0]], step.content)
            (folder / step.name).write_text(content)
            continue
        words = step.words(variables)
        yield step, (folder / words[1]).read_text() if words[0] == "cat" else run(words)
