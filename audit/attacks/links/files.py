"""What stands in files: custody's journal and kept checkpoints, exported logs, and whatever else somebody left there.

A line of a text is one piece, and so is each account's item of a JSON line: more of it would tie strangers together.
Tiles and bundles of entries of an exported log are left out: they are the rows of the log again, byte for byte
(`lethe fsck`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from audit.attacks.links.graph import Value
from audit.attacks.links.values import value_of, values_in

FILE_BYTES_MAX: Final = 64 << 20
"""Who needs it: the attacker's memory. A larger file is an error, and not something to pass over."""

TILES: Final = "tile"


class FileTooLarge(Exception):
    """A file is larger than this program reads."""


def pieces_of(folders: Iterable[Path]) -> Iterator[tuple[str, set[Value]]]:
    """Every piece of every file below these folders, with what it shows, its file's name included."""
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            if TILES in path.relative_to(folder).parts:
                continue
            if path.stat().st_size > FILE_BYTES_MAX:
                raise FileTooLarge(f"{path.name} has more than {FILE_BYTES_MAX:,} bytes.")
            name = set(value_of(path.name))
            for number, piece in enumerate(_pieces(path.read_bytes())):
                yield f"{path} ({number})", name | set(values_in(piece))


def _pieces(content: bytes) -> Iterator[Any]:
    for line in content.splitlines():
        try:
            held = orjson.loads(line)
        except ValueError:
            yield line.decode(errors="replace")
            continue
        if isinstance(held, dict) and all(isinstance(item, dict | list) for item in held.values()):
            yield from held.values()
        else:
            yield held
