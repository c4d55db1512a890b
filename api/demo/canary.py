"""Looks for one made-up person in every file of the databases, and shows that the search would find them.

The search is `audit/attacks/clear_text.py`. Its control plants the person in the clear in two places, a scratch file
and a scratch table, sees both found, takes them away and sees them gone. The table is unlogged and rewritten, so that
its file holds the text while the write-ahead log never does: the control leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from audit.attacks.clear_text import Hit, search_clear_text
from ledger.embedded import EmbeddedPostgres

SCRATCH_FILE: Final = "control-of-the-search.txt"
PLANT: Final = (
    "CREATE UNLOGGED TABLE lethe_control (planted text)",
    "INSERT INTO lethe_control VALUES (%s)",
    "VACUUM FULL lethe_control",
)
UPROOT: Final = ("DROP TABLE IF EXISTS lethe_control",)
CHECKPOINT: Final = "CHECKPOINT"


@dataclass(frozen=True, slots=True)
class Looked:
    """What a search went through, and where it found something."""

    files: int
    size_bytes: int
    hits: Sequence[Hit]


@dataclass(frozen=True, slots=True)
class Control:
    """Whether the planted text was found in each place, and how much of it was left afterwards."""

    in_file: int
    in_table: int
    left: int

    @property
    def works(self) -> bool:
        """Whether the search can be believed."""
        return self.in_file > 0 and self.in_table > 0 and self.left == 0


def look(server: EmbeddedPostgres, folder: Path, needles: Sequence[str]) -> Looked:
    """Search every file below a folder, after the server has written out what it holds in memory."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(CHECKPOINT)
    files = list(_files(folder))
    return Looked(len(files), sum(_size(file) for file in files), search_clear_text([folder], needles))


def control(server: EmbeddedPostgres, folder: Path, needle: str) -> Control:
    """Plant a needle in the clear, find it, and take it away again."""
    scratch = folder / SCRATCH_FILE
    with psycopg.connect(server.url(), autocommit=True) as connection:
        try:
            scratch.write_text(f"{needle}\n", encoding="utf-8")
            create, insert, rewrite = PLANT
            connection.execute(create)
            connection.execute(insert, (needle,))
            connection.execute(rewrite)
            hits = look(server, folder, [needle]).hits
        finally:
            scratch.unlink(missing_ok=True)
            for statement in UPROOT:
                connection.execute(statement)
    in_file = sum(hit.path == scratch for hit in hits)
    left = len(look(server, folder, [needle]).hits)
    return Control(in_file, len(hits) - in_file, left)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
