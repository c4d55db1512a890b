"""On which line of a TOML file each table and key stands: what `tomllib` does not tell.

No library that is kept well gives positions (tomlkit keeps the text, not the lines), and a lexer of our own would be
a second opinion about quotes and brackets. So `tomllib` itself is the judge: a statement is the fewest whole lines
that it accepts on their own. An unclosed string, array or table is never accepted, so a statement ends just where it
ends. The whole text must have been accepted before.
"""

from __future__ import annotations

import tomllib
from typing import Any

Path = tuple[str | int, ...]
Lines = dict[Path, int]


def lines_of(text: str) -> Lines:
    """The line, counted from 1, of every table header and every key; tables of an array are counted from 0.

    Raises `tomllib.TOMLDecodeError` if the text is no TOML.
    """
    tomllib.loads(text)
    found: Lines = {(): 1}
    table: Path = ()
    for number, statement in _statements(text):
        stripped = statement.lstrip()
        if stripped.startswith("["):
            table = _header(found, stripped, tomllib.loads(statement))
            found.setdefault(table, number)
            if isinstance(table[-1], int):  # The array itself stands where its first table does.
                found.setdefault(table[:-1], number)
        else:
            for path in _keys(tomllib.loads(statement)):
                found.setdefault(table + path, number)
    return found


def line_of(lines: Lines, path: Path) -> int:
    """The line of a key, or of the nearest thing around it that has one."""
    while path not in lines:
        path = path[:-1]
    return lines[path]


def _statements(text: str) -> list[tuple[int, str]]:
    found, held, began = [], "", 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        began = began if held else number
        held += line + "\n"
        try:
            tomllib.loads(held)
        except tomllib.TOMLDecodeError:
            continue
        found.append((began, held))
        held = ""
    return found


def _header(found: Lines, stripped: str, parsed: dict[str, Any]) -> Path:
    """The path of a table header. A table of an array gets the next number; one below it belongs to the last."""
    path: Path = ()
    names = list(_only_names(parsed))
    for depth, name in enumerate(names, start=1):
        path = (*path, name)
        count = _count(found, path)
        if stripped.startswith("[[") and depth == len(names):
            return (*path, count)
        if count:
            path = (*path, count - 1)
    return path


def _only_names(parsed: dict[str, Any]) -> list[str]:
    names = []
    inner: Any = parsed
    while inner:
        inner = inner[0] if isinstance(inner, list) else inner
        if not inner:
            break
        ((name, inner),) = inner.items()
        names.append(name)
    return names


def _count(found: Lines, path: Path) -> int:
    number = 0
    while (*path, number) in found:
        number += 1
    return number


def _keys(parsed: dict[str, Any]) -> list[Path]:
    """The key of one statement, and every key and place inside its value: all stand on the statement's line."""
    found: list[Path] = []
    stack: list[tuple[Path, Any]] = [((), parsed)]
    while stack:
        path, value = stack.pop()
        if path:
            found.append(path)
        if isinstance(value, dict):
            stack += [((*path, name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            stack += [((*path, index), inner) for index, inner in enumerate(value)]
    return found
