"""Opens a file for reading as text, after a first pass that proves that it can be read to its end.

Why two passes: an export in Windows-1252 may hold its first accent on line 90,000. Told there, half a
list would be in the ledger with broken names to come; told before the first row, nothing has happened.
The first pass also checks a zip member's length and CRC. It runs at disk speed in bounded memory.

Read: UTF-8 with or without BOM, UTF-16 with BOM. Anything else is refused with what to do about it.
"""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TextIO, cast
from zipfile import BadZipFile

from api.imports.errors import ImportFileError

FILE_BYTES_MAX: Final = 4 * 1024**3  # who needs it: a worker's time; split larger files
CHUNK_BYTES: Final = 1 << 18

Source = Path | BinaryIO
"""A path, or an open binary file that can be rewound (it is left open, and read from its start)."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """A file whose bytes were all decoded once. ``encoding`` is a codec name, ``size_bytes`` unpacked."""

    name: str
    encoding: str
    size_bytes: int
    open_bytes: Callable[[], io.BufferedIOBase]

    @contextmanager
    def open(self) -> Iterator[TextIO]:
        """Yield the text from its start, line ends untranslated (the CSV reader needs them)."""
        binary = self.open_bytes()
        text = io.TextIOWrapper(cast(BinaryIO, binary), encoding=self.encoding, newline="")
        try:
            yield text
        finally:
            text.close()


def text_source(source: Source, name: str | None = None) -> TextSource:
    """Check ``source`` to its end and describe it. Raises :class:`ImportFileError`."""
    if isinstance(source, Path):
        path = source
        return checked(name or path.name, lambda: path.open("rb"))
    stream = source
    if not stream.seekable():
        raise ImportFileError("The input cannot be rewound; save it to a file first and import that.")
    return checked(name or "upload.csv", lambda: _rewound(stream))


def checked(name: str, open_bytes: Callable[[], io.BufferedIOBase]) -> TextSource:
    """Run the first pass over what ``open_bytes`` opens. Raises :class:`ImportFileError`."""
    try:
        with open_bytes() as binary:
            encoding = _encoding(name, binary.read(4))
        with open_bytes() as binary:
            size_bytes = _decoded_size_bytes(name, binary, encoding)
    except (BadZipFile, zlib.error, EOFError) as error:
        raise ImportFileError(f"{name} is damaged or cut short inside its zip; export it again.") from error
    except OSError as error:
        raise ImportFileError(f"{name} cannot be read: {error.strerror or 'input/output error'}.") from error
    return TextSource(name, encoding, size_bytes, open_bytes)


def _encoding(name: str, head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise ImportFileError(f"{name} is UTF-32; save it as 'CSV UTF-8' and import that.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig"


def _decoded_size_bytes(name: str, binary: io.BufferedIOBase, encoding: str) -> int:
    decoder = codecs.getincrementaldecoder(encoding)()
    size_bytes, lines, broken = 0, 1, False
    while not broken:
        chunk = binary.read(CHUNK_BYTES)
        size_bytes += len(chunk)
        if size_bytes > FILE_BYTES_MAX:
            raise ImportFileError(f"{name} is larger than {FILE_BYTES_MAX} bytes; import it in parts.")
        try:
            lines += decoder.decode(chunk, final=not chunk).count("\n")
        except UnicodeDecodeError as error:
            lines += error.object[: error.start].count(b"\n")
            broken = True
        if not chunk and not broken:
            return size_bytes
    # Raised out here, since the codec's error carries the bytes that it stumbled over.
    if encoding == "utf-16":
        raise ImportFileError(f"{name} begins as UTF-16 but is damaged; save it as 'CSV UTF-8' and import that.")
    raise ImportFileError(
        f"{name} is not UTF-8: line {lines} looks like Windows-1252 or Latin-1, or is cut short;"
        " save it again as 'CSV UTF-8' and import that."
    )


class _LeftOpen(io.BufferedIOBase):
    """Lends out a caller's stream: closing the loan does not close what was lent."""

    def __init__(self, lent: BinaryIO) -> None:
        self._lent = lent

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._lent.read(-1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._lent.read(size)


def _rewound(stream: BinaryIO) -> io.BufferedIOBase:
    stream.seek(0)
    return _LeftOpen(stream)
