"""Writes the rows that were not taken into CSV files that can be mended and imported again.

One file for each source file, since headers differ: ``list.csv`` gives ``list.rejected.csv``, with the
source's columns as they were and a last column ``lethe_reason``, which the readers pass over. The first
word of the name stays, so that a Mailchimp reject file is known for what it is.

Cells that a spreadsheet would run get a leading apostrophe, which reading takes off again
(``formulas.py``). A row that came short is filled up with ``?missing?`` and refused until that is
cleared; surplus cells stand after the reason and have it refused until they are put in place.

The files hold personal data in the clear: mode 0600, never over an existing file. Delete them when done.
"""

from __future__ import annotations

import csv
import os
import re
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TextIO

from api.imports.columns import REASON_COLUMN
from api.imports.errors import ImportFileError
from api.imports.formulas import neutralised
from api.imports.rows import RejectedRow
from api.imports.tables import MISSING_CELL

if TYPE_CHECKING:
    from _csv import Writer

SOURCE_FILES_MAX: Final = 100  # who needs it: open file descriptors; a zip has no more members either
NAME_TRIES_MAX: Final = 1_000


class RejectsWriter:
    """Opens a reject file in ``folder`` when the first row of a source file comes; a context manager.

    ``paths`` says, by source file, where its rejects are; ``count`` how many there are in all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, Writer] = {}
        self._open_files = ExitStack()
        self.paths: dict[str, Path] = {}
        self.count = 0

    def write(self, row: RejectedRow) -> None:
        """Add ``row``. Raises :class:`ImportFileError` where the file cannot be made, or is one too many."""
        writer = self._writers.get(row.file) or self._begin(row)
        self.count += 1
        width = len(row.header)
        cells = row.cells[:width] + [MISSING_CELL] * (width - len(row.cells))
        surplus = row.cells[width:]
        writer.writerow([*map(neutralised, cells), f"line {row.line}: {row.reason}", *map(neutralised, surplus)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_files.close()

    def _begin(self, row: RejectedRow) -> Writer:
        if len(self._writers) == SOURCE_FILES_MAX:
            raise ImportFileError(f"More than {SOURCE_FILES_MAX} files have rejected rows; import fewer at once.")
        path, text = self._created(row.file)
        self._open_files.enter_context(text)
        # Everything quoted: a comma in a cell starts no new cell, whatever delimiter the spreadsheet expects.
        writer = csv.writer(text, quoting=csv.QUOTE_ALL)
        writer.writerow([*map(neutralised, row.header), REASON_COLUMN])
        self._writers[row.file] = writer
        self.paths[row.file] = path
        return writer

    def _created(self, source_file: str) -> tuple[Path, TextIO]:
        stem = re.sub(r"(?:\.rejected(?:-[0-9]+)?)?(?:\.csv)?\Z", "", PurePosixPath(source_file).name, count=1)
        stem = re.sub(r"[^\w.-]", "_", stem).lstrip(".")[:150] or "rows"
        for number in range(1, NAME_TRIES_MAX + 1):
            path = self._folder / (f"{stem}.rejected.csv" if number == 1 else f"{stem}.rejected-{number}.csv")
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            except OSError as error:
                raise ImportFileError(f"{path.name} cannot be written: {error.strerror}.") from error
            return path, os.fdopen(descriptor, "w", encoding="utf-8-sig", newline="")
        raise ImportFileError(f"There are {NAME_TRIES_MAX} reject files of this name; delete those that are done.")
