"""Register entries as files and as answers: the tables of a TOML or JSON file, and an entry in the same plain values.

A file has the tables that a policy pack has: `[[party]]`, `[[safeguard]]`, `[[recipient]]`, `[[activity]]`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from domain.register import KINDS, Entry, RegisterFact, RegisterRefused
from domain.register_shape import statement, values_of

FILE_CHARACTERS_MAX: Final = 1 << 20
"""Who needs it: somebody who names the wrong file; the registers of a large account have some 50 KB."""

ENTRIES_MAX: Final = 500
"""Entries in one file: they are recorded in one transaction, while other commands of the account wait."""


def statements_in(text: str) -> list[RegisterFact]:
    """The statements of a file, in the order in which they can be declared. Raises `RegisterRefused`."""
    if len(text) > FILE_CHARACTERS_MAX:
        raise RegisterRefused("too_long", f"A file has at most {FILE_CHARACTERS_MAX:,} characters. Is this the one?")
    return statements_of(_tables(text))


def statements_of(tables: Mapping[str, Any]) -> list[RegisterFact]:
    """The statements of tables by kind. Raises `RegisterRefused`, which names kind, number and field."""
    unknown = sorted(set(tables) - set(KINDS))
    if unknown:
        raise RegisterRefused("unknown_kind", f"The tables of a register are {', '.join(KINDS)}.")
    found = []
    for kind in KINDS:
        rows = tables.get(kind) or []
        if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
            raise RegisterRefused("no_list", f"{kind} is a list of tables.")
        for number, row in enumerate(rows, 1):
            try:
                found.append(statement(kind, row))
            except RegisterRefused as refused:
                raise RegisterRefused(refused.reason, f"{kind} {number}: {refused}") from None
    if not found:
        raise RegisterRefused("nothing_stated", f"There is no entry. Write tables such as [[{KINDS[-1]}]].")
    if len(found) > ENTRIES_MAX:
        raise RegisterRefused("too_many", f"At most {ENTRIES_MAX} entries at once; split the file.")
    return found


def entry_row(entry: Entry) -> dict[str, Any]:
    """An entry with its values and its dates, for machines."""
    return {
        "kind": entry.kind,
        "key": entry.key,
        "in_force": entry.in_force,
        "declared_at": entry.declared_at,
        "changed_at": entry.changed_at,
        "retired_at": entry.retired_at,
        "ending": entry.ending,
        "source": entry.stated.source,
        "entry": values_of(entry.stated),
    }


def entries_said(entries: Iterable[Entry]) -> dict[str, list[dict[str, Any]]]:
    """Entries as tables by kind: what `statements_of` takes."""
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry.kind, []).append(values_of(entry.stated))
    return found


def _tables(text: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (orjson.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        place = getattr(error, "lineno", None)
        where = f" Look at line {place}." if place else ""
        raise RegisterRefused("unreadable_file", f"The file is neither TOML nor JSON.{where}") from None
    assert isinstance(found, dict)
    return found
