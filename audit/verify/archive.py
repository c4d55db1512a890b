"""The container of evidence bundles: a zip file of which there is one spelling only, so that no byte of it is free.

Any program that knows zip files opens it. This reader asks for more: from the names, sizes and checksums that the file
lists it writes the container again, and whatever differs from that by one byte is refused. So nothing can be hidden
between members or behind them, and no comment, extra field, second directory, encryption, link or strange name gets in.

    members      in ascending order of name, stored as they are, without a gap, each behind its header
    headers      flags 0, method 0 (stored), 1980-01-01 00:00, mode 0644; zip64 fields only where a number needs them
    end          the central directory, and the end records without a comment

Members are stored and not compressed (docs/adr/0032): deflate can write one text in many ways, so a byte changed inside
a compressed member could go unnoticed. It also leaves nothing to inflate: a bundle is as large as it looks.
`write_archive` and `open_archive` share the functions that lay out headers; neither holds a member in memory.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final, Protocol
from zlib import crc32

from audit.verify.errors import ArchiveRefused

MEMBERS_MAX: Final = 1 << 20
"""Who needs it: the bundle of a whole log of 250 million events, one tile for 256 of them."""

NAME_BYTES_MAX: Final = 200
"""No name of a bundle is longer than a proof's or a tile's, which is a matter of digits."""

PIECE_BYTES: Final = 1 << 20
FILE_MODE: Final = 0o600
"""A bundle may show what was sealed."""

Content = bytes | Path | Iterator[bytes] | Callable[[], Iterator[bytes]]
"""A member's bytes; a file that holds them; or pieces of them, which are spooled to a temporary file first.

A function gives its pieces twice, to be measured and to be copied: what must not stand in a plain file is never there.
"""


class Sink(Protocol):
    """Where an archive is written to, in order and without going back."""

    def write(self, content: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: how many bytes, their CRC-32, and where its header and its content begin."""

    name: str
    size: int
    crc: int
    header: int
    start: int


class Archive:
    """An archive whose container was checked. Contents are read a piece at a time, and checked against their CRC."""

    def __init__(self, file: BinaryIO, size: int, members: Mapping[str, Member]) -> None:
        self._file = file
        self.size = size
        self.members = members

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a member in pieces of at most `PIECE_BYTES`. Raises `ArchiveRefused`, at its end too."""
        member = self._member(name)
        at, rest, crc = member.start, member.size, 0
        while rest:
            self._file.seek(at)
            piece = self._file.read(min(PIECE_BYTES, rest))
            if not piece:
                raise ArchiveRefused(f"{name} ends before its last byte: the file was cut while it was read.", name)
            crc = crc32(piece, crc)
            at, rest = at + len(piece), rest - len(piece)
            yield piece
        if crc != member.crc:
            raise ArchiveRefused(f"{name} is not what its checksum (CRC-32) says: a byte of it was changed.", name)

    def read(self, name: str, limit: int) -> bytes:
        """The whole content of a member of at most `limit` bytes. Raises `ArchiveRefused`."""
        if self._member(name).size > limit:
            raise ArchiveRefused(f"{name} has {self._member(name).size:,} bytes; at most {limit:,} are read.", name)
        return b"".join(self.pieces(name))

    def lines(self, name: str, limit: int) -> Iterator[bytes]:
        """The lines of a member, without their newlines; each has at most `limit` bytes. Raises `ArchiveRefused`."""
        rest = b""
        for piece in self.pieces(name):
            lines = (rest + piece).split(b"\n")
            if max(map(len, lines)) > limit:
                raise ArchiveRefused(f"{name} has a line of more than {limit:,} bytes.", name)
            rest = lines.pop()
            yield from lines
        if rest:
            raise ArchiveRefused(f"{name} does not end with a newline: its last line was cut.", name)

    def _member(self, name: str) -> Member:
        if name not in self.members:
            raise ArchiveRefused(f"{name} is missing from the bundle.", name)
        return self.members[name]


@contextmanager
def open_archive(source: Path | BinaryIO) -> Iterator[Archive]:
    """The archive in a file, after every byte that is no content was compared. Raises `ArchiveRefused`."""
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        size = file.seek(0, os.SEEK_END)
        count, start, length = _directory_place(file, size)
        members: dict[str, Member] = {}
        folded: set[str] = set()
        expected = 0
        for member, central in _directory(file, start, length, count):
            local, as_written = _headers(member.name, member.size, member.crc, expected)
            if member.header != expected or central != as_written:
                raise ArchiveRefused(_OTHERWISE.format("its entry in the directory", member.name), member.name)
            if members and member.name <= next(reversed(members)):
                raise ArchiveRefused(f"{member.name} stands twice, or not in the order of names.", member.name)
            if member.name.lower() in folded:
                raise ArchiveRefused(f"Two names differ only in capital letters: {member.name}.", member.name)
            if expected + len(local) + member.size > start or _at(file, expected, len(local)) != local:
                raise ArchiveRefused(_OTHERWISE.format("the header", member.name), member.name)
            members[member.name] = Member(member.name, member.size, member.crc, expected, expected + len(local))
            folded.add(member.name.lower())
            expected += len(local) + member.size
        if expected != start:
            raise ArchiveRefused("There are bytes between the last member and the directory that belong to nothing.")
        yield Archive(file, size, members)


def write_archive(target: Path | Sink, members: Iterable[tuple[str, Content]]) -> int:
    """Write an archive, and return how many bytes it has. Members are put in order of name here.

    A `Path` is created with mode 0600, and must not exist. Nothing is held in memory but the names.
    """
    if isinstance(target, Path):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            return write_archive(file, members)
    position, directory, last = 0, [], ""
    for name, content in sorted(members, key=lambda member: member[0]):
        if not _NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX or name == last:
            raise ValueError(f"No member of a bundle is called {name!r}, or two are.")
        with _opened(content) as (file, size, crc):
            local, central = _headers(name, size, crc, position)
            target.write(local)
            _copy(file, size, crc, target)
        position, last = position + len(local) + size, name
        directory.append(central)
    for central in directory:
        target.write(central)
    length = sum(map(len, directory))
    end = _end(len(directory), position, length)
    target.write(end)
    return position + length + len(end)


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
"""No segment begins with a dot, so none is `.` or `..`; no path is absolute, and none ends as a folder does."""

_OTHERWISE: Final = "The zip file is not as a bundle writes it: {} of {} differs, or a byte before it."
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END_64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR_64: Final = struct.Struct("<4sIQI")
_ZIP64: Final = 1
_VERSION: Final = 20
_VERSION_64: Final = 45
_UNIX: Final = 3 << 8
_MODE: Final = 0o100644 << 16
_DAY: Final = 0x21  # 1980-01-01, the first day that a zip file knows
_FULL_16: Final = 0xFFFF
_FULL_32: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Zip64From:
    """From which number on a field is written in its zip64 form: what does not fit, and the marker itself."""

    size: int = _FULL_32
    count: int = _FULL_16


FORM: Final = Zip64From()


def _headers(name: str, size: int, crc: int, header: int) -> tuple[bytes, bytes]:
    """The two headers of a member: before its content, and in the directory."""
    long, far = size >= FORM.size, header >= FORM.size
    version, said = (_VERSION_64, _FULL_32) if long else (_VERSION, size)
    encoded = name.encode("ascii")
    extra = struct.pack("<2H2Q", _ZIP64, 16, size, size) if long else b""
    local = _LOCAL.pack(b"PK\3\4", version, 0, 0, 0, _DAY, crc, said, said, len(encoded), len(extra)) + encoded + extra
    wide = [*((size, size) if long else ()), *((header,) if far else ())]
    extra = struct.pack(f"<2H{len(wide)}Q", _ZIP64, 8 * len(wide), *wide) if wide else b""
    version = _VERSION_64 if wide else _VERSION
    central = _CENTRAL.pack(
        b"PK\1\2",
        *(_UNIX | version, version, 0, 0, 0, _DAY, crc, said, said, len(encoded), len(extra)),
        *(0, 0, 0, _MODE, _FULL_32 if far else header),
    )
    return local, central + encoded + extra


def _end(count: int, start: int, length: int) -> bytes:
    """What stands behind the directory: its zip64 record and locator where a number needs them, and its end."""
    many, wide = count >= FORM.count, max(start, length) >= FORM.size
    if not many and not wide:
        return _END.pack(b"PK\5\6", 0, 0, count, count, length, start, 0)
    said_count = _FULL_16 if many else count
    said_length = _FULL_32 if length >= FORM.size else length
    said_start = _FULL_32 if start >= FORM.size else start
    return b"".join(
        (
            _END_64.pack(
                b"PK\6\6",
                *(_END_64.size - 12, _UNIX | _VERSION_64, _VERSION_64, 0, 0, count, count, length, start),
            ),
            _LOCATOR_64.pack(b"PK\6\7", 0, start + length, 1),
            _END.pack(b"PK\5\6", 0, 0, said_count, said_count, said_length, said_start, 0),
        )
    )


def _directory_place(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """How many members the directory lists, where it begins, and how many bytes it has."""
    last = _at(file, size - _END.size, _END.size) if size >= _END.size else b""
    if not last.startswith(b"PK\5\6"):
        raise ArchiveRefused("This is no bundle: the file does not end as a zip file without a comment ends.")
    _, _, _, _, count, length, start, _ = _END.unpack(last)
    records = _END_64.size + _LOCATOR_64.size + _END.size
    if (count == _FULL_16 or _FULL_32 in (start, length)) and size >= records:
        record = _at(file, size - records, _END_64.size)
        _, _, _, _, _, _, _, count, length, start = _END_64.unpack(record)
    # Numbers beyond the file's own size would not even fit the records that are laid out next.
    end = _end(count, start, length) if max(start, length) <= size else b""
    if not end or start + length + len(end) != size or _at(file, size - len(end), len(end)) != end:
        raise ArchiveRefused("The end of the zip file is not as a bundle writes it, or bytes were put in or cut off.")
    if count > MEMBERS_MAX:
        raise ArchiveRefused(f"The bundle lists {count:,} files; at most {MEMBERS_MAX:,} are read.")
    return count, start, length


def _directory(file: BinaryIO, start: int, length: int, count: int) -> Iterator[tuple[Member, bytes]]:
    """What the directory says of each member, and its entry as it stands there."""
    at, end = start, start + length
    for _ in range(count):
        fixed = _at(file, at, _CENTRAL.size) if at + _CENTRAL.size <= end else b""
        if not fixed.startswith(b"PK\1\2"):
            raise ArchiveRefused("The directory of the zip file lists fewer files than its end says.")
        _, _, _, _, _, _, _, crc, _, size, name_bytes, extra_bytes, _, _, _, _, header = _CENTRAL.unpack(fixed)
        variable = _at(file, at + _CENTRAL.size, name_bytes + extra_bytes)
        name, extra = variable[:name_bytes].decode("ascii", "replace"), variable[name_bytes:]
        if not _NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX:
            raise ArchiveRefused("The bundle has a file with a name that no file of a bundle has.")
        wide = list(struct.unpack(f"<{len(extra) // 8}Q", extra[4:])) if len(extra) in (12, 20, 28) else []
        size = wide.pop(0) if size == _FULL_32 and wide else size
        header = wide.pop() if header == _FULL_32 and wide else header
        yield Member(name, size, crc, header, 0), fixed + variable
        at += _CENTRAL.size + len(variable)
    if at != end:
        raise ArchiveRefused("The directory of the zip file is longer than the files that it lists.")


def _at(file: BinaryIO, position: int, length: int) -> bytes:
    file.seek(position)
    return file.read(length)


class _Readable(Protocol):
    def read(self, limit: int, /) -> bytes: ...

    def seek(self, position: int, /) -> object: ...


@dataclass(slots=True)
class _GivenTwice:
    """Pieces that a function gives, read as a file is, from the beginning only."""

    give: Callable[[], Iterator[bytes]]
    _pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))

    def read(self, _: int, /) -> bytes:
        return next((piece for piece in self._pieces if piece), b"")

    def seek(self, _: int, /) -> None:
        self._pieces = self.give()


@contextmanager
def _opened(content: Content) -> Iterator[tuple[_Readable, int, int]]:
    """A content as a file at its beginning, with its size and CRC-32."""
    if callable(content):
        given = _GivenTwice(content)
        given.seek(0)
        yield given, *_measured(given)
        return
    if isinstance(content, Path):
        with content.open("rb") as file:
            yield file, *_measured(file)
        return
    with BytesIO(content) if isinstance(content, bytes) else TemporaryFile() as spooled:
        for piece in () if isinstance(content, bytes) else content:
            spooled.write(piece)
        spooled.seek(0)
        yield spooled, *_measured(spooled)


def _measured(file: _Readable) -> tuple[int, int]:
    size, crc = 0, 0
    while piece := file.read(PIECE_BYTES):
        size, crc = size + len(piece), crc32(piece, crc)
    file.seek(0)
    return size, crc


def _copy(file: _Readable, size: int, crc: int, target: Sink) -> None:
    """Copy what was measured. Raises `OSError` if the file was changed since."""
    copied, seen = 0, 0
    while piece := file.read(PIECE_BYTES):
        copied, seen = copied + len(piece), crc32(piece, seen)
        target.write(piece)
    if (copied, seen) != (size, crc):
        raise OSError("A file changed while it was put into a bundle. Make the bundle again.")
