"""Writes the rows that were not taken into CSV files that can be mended and imported again.

One file for each source file, since headers differ: ``list.csv`` gives ``list.rejected.csv``, with the
source's columns as they were and a last column ``lethe_reason``, which the readers pass over. The first
word of the name stays, so that a Mailchimp reject file is known for what it is.

Cells that a spreadsheet would run get a leading apostrophe, which reading takes off again
(``audit/formulas.py``). A row that came short is filled up with ``?missing?`` and refused until that is
cleared; surplus cells stand after the reason and have it refused until they are put in place.

Rejected lines of NDJSON stay NDJSON (`LineRejectsWriter`), with the reason as a member of their object.

The files hold personal data in the clear: mode 0600, never over an existing file. Delete them when done.
"""

from __future__ import annotations

import csv
import os
import re
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

import orjson

from api.imports.columns import REASON_COLUMN
from api.imports.errors import ImportFileError
from api.imports.rows import RejectedRow
from api.imports.tables import MISSING_CELL
from audit.formulas import neutralised

if TYPE_CHECKING:
    from _csv import Writer

SOURCE_FILES_MAX: Final = 100  # who needs it: open file descriptors; a zip has no more members either
NAME_TRIES_MAX: Final = 1_000
UNREADABLE_MEMBER: Final = "unreadable"


class _RejectFiles:
    """Opens a reject file in ``folder`` when the first row of a source file comes; a context manager.

    ``paths`` says, by source file, where its rejects are; ``count`` how many there are in all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open_files = ExitStack()
        self.paths: dict[str, Path] = {}
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_files.close()

    def _file_for(self, source_file: str, ending: str) -> TextIO:
        if len(self.paths) == SOURCE_FILES_MAX:
            raise ImportFileError(f"More than {SOURCE_FILES_MAX} files have rejected rows; import fewer at once.")
        path, text = created_file(self._folder, source_file, ending)
        self.paths[source_file] = path
        return self._open_files.enter_context(text)


class RejectsWriter(_RejectFiles):
    """Rejected rows of tables, as CSV."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._writers: dict[str, Writer] = {}

    def write(self, row: RejectedRow) -> None:
        """Add ``row``. Raises :class:`ImportFileError` where the file cannot be made, or is one too many."""
        writer = self._writers.get(row.file) or self._begin(row)
        self.count += 1
        width = len(row.header)
        cells = row.cells[:width] + [MISSING_CELL] * (width - len(row.cells))
        surplus = row.cells[width:]
        writer.writerow([*map(neutralised, cells), f"line {row.line}: {row.reason}", *map(neutralised, surplus)])

    def _begin(self, row: RejectedRow) -> Writer:
        # Everything quoted: a comma in a cell starts no new cell, whatever delimiter the spreadsheet expects.
        writer = csv.writer(self._file_for(row.file, ".csv"), quoting=csv.QUOTE_ALL)
        writer.writerow([*map(neutralised, row.header), REASON_COLUMN])
        self._writers[row.file] = writer
        return writer


class LineRejectsWriter(_RejectFiles):
    """Rejected lines of NDJSON files: an object as it was, with `lethe_reason` before all else.

    A line that is no object stands as text in `UNREADABLE_MEMBER`, and is refused until it is put in order.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._texts: dict[str, TextIO] = {}

    def write(self, row: RejectedRow) -> None:
        """Add ``row``, whose one cell is its line. Raises :class:`ImportFileError` as `RejectsWriter.write`."""
        text = self._texts.get(row.file)
        if text is None:
            text = self._texts[row.file] = self._file_for(row.file, ".ndjson")
        self.count += 1
        held = object_of("".join(row.cells))
        members = {UNREADABLE_MEMBER: "".join(row.cells)} if held is None else held
        members.pop(REASON_COLUMN, None)
        reason = {REASON_COLUMN: f"line {row.line}: {row.reason}"}
        text.write(orjson.dumps(reason | members).decode() + "\n")


def object_of(line: str) -> dict[str, Any] | None:
    """The JSON object on a line, None where there is none."""
    try:
        held = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return held if isinstance(held, dict) else None


def created_file(folder: Path, source_file: str, ending: str) -> tuple[Path, TextIO]:
    """A new private file for the rejects of ``source_file``. Raises :class:`ImportFileError`."""
    stem = re.sub(r"(?:\.rejected(?:-[0-9]+)?)?(?:\.csv|\.ndjson)?\Z", "", PurePosixPath(source_file).name, count=1)
    stem = re.sub(r"[^\w.-]", "_", stem).lstrip(".")[:150] or "rows"
    for number in range(1, NAME_TRIES_MAX + 1):
        path = folder / (f"{stem}.rejected{ending}" if number == 1 else f"{stem}.rejected-{number}{ending}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            raise ImportFileError(f"{path.name} cannot be written: {error.strerror}.") from error
        encoding = "utf-8-sig" if ending == ".csv" else "utf-8"
        return path, os.fdopen(descriptor, "w", encoding=encoding, newline="")
    raise ImportFileError(f"There are {NAME_TRIES_MAX} reject files of this name; delete those that are done.")
