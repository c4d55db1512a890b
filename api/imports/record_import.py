"""Carries the records of a file into one account's ledger, sorted by class and period, and names what was not taken.

A record has no identity by which a second one could be told from the first, so a file is imported once: its digest is
the Idempotency-Key of the import. Within 24 hours the same file goes on where it was interrupted and is otherwise
answered again. A mended reject file is another file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

import orjson

from api.imports.record_files import PlacedRecord
from api.imports.rows import RejectedRow
from domain.records import Record
from ledger.application import Ledger
from ledger.idempotency import IdempotentPart
from ledger.recording import in_chunks

ROUTE = "lethe records import"


class Rejects(Protocol):
    """Where rows go that were not taken."""

    def write(self, row: RejectedRow) -> None:
        """Keep this row, to be mended."""
        ...


@dataclass(slots=True)
class RecordsReport:
    """What came of an import. `repeated` were written by an earlier import of the same file."""

    recorded: int = 0
    repeated: int = 0
    about_nobody: int = 0
    rejected: int = 0

    def as_dict(self) -> dict[str, object]:
        """The report by name, for machines."""
        return {
            "recorded": self.recorded,
            "repeated": self.repeated,
            "about_nobody": self.about_nobody,
            "rejected": self.rejected,
        }


class RecordsImport:
    """One import of one file. `seen` is told how many lines are done."""

    def __init__(
        self,
        ledger: Ledger,
        rejects: Rejects,
        *,
        actor: str,
        key: str,
        seen: Callable[[int], None] = lambda lines: None,
    ) -> None:
        self._ledger = ledger
        self._rejects = rejects
        self._actor = actor
        self._part = IdempotentPart.of(ledger.tenant, ROUTE, key, b"")
        self._seen = seen
        self._waiting: dict[int, PlacedRecord] = {}
        self.report = RecordsReport()

    def take(self, rows: Iterable[PlacedRecord | RejectedRow]) -> RecordsReport:
        """Carry all rows over. What was taken before a failure stays; running it again completes it."""
        for number, chunk in enumerate(in_chunks(self._numbered(rows))):
            part = self._part.numbered(number, orjson.dumps([line for line, _ in chunk]))
            answer = self._ledger.records.record(chunk, actor=self._actor, part=part)
            for line, reason in sorted(answer.rejected):
                self._reject(self._waiting[line].rejected(reason))
            refused = {line for line, _ in answer.rejected}
            if answer.repeated:
                self.report.repeated += answer.recorded
            else:
                self.report.recorded += answer.recorded
                self.report.about_nobody += sum(r.email is None for line, r in chunk if line not in refused)
            for line, _ in chunk:
                del self._waiting[line]
            self._seen(len(chunk))
        return self.report

    def _numbered(self, rows: Iterable[PlacedRecord | RejectedRow]) -> Iterator[tuple[int, Record]]:
        """The records by the line they begin on."""
        for row in rows:
            if isinstance(row, RejectedRow):
                self._reject(row)
                self._seen(1)
            else:
                self._waiting[row.line] = row
                yield row.line, row.record

    def _reject(self, row: RejectedRow) -> None:
        self._rejects.write(row)
        self.report.rejected += 1


def digest_of(path: Path) -> str:
    """What an import of this file is known by: the SHA-256 of its bytes, of which a keyed hash is kept for a day."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
