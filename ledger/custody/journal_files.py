"""One journal in several folders: appended to in all of them, and brought together again after a crash.

An append is acknowledged when every folder has it on disk. So a line cut off by a crash was never acknowledged and is
taken away; a folder that is behind (it crashed first, or came back from a backup) is brought up from the longest; two
that differ before their ends are refused. All functions are called under the folders' lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ledger.custody.journal_lines import FIRST_CHAIN, LINE_BYTES_MAX, end_of
from ledger.custody.private_files import FILE_MODE, require_private, sync_folder, write_all
from ledger.errors import TamperError

PIECE_BYTES = 1024 * 1024


class Tail(NamedTuple):
    """The end of a journal: its size up to the last whole line, and that line with its number and chain."""

    size: int
    number: int
    chain: str
    line: bytes


def reconciled(journals: Sequence[Path]) -> Tail:
    """The common end of all journals, once they are equal. Raises `TamperError` if they tell different stories."""
    for path in journals:
        _create(path)
        require_private(path)
    tails = {path: _tail(path) for path in journals}
    longest = max(tails, key=lambda path: tails[path].size)
    for path, tail in tails.items():
        if tail != tails[longest]:
            _require_prefix(path, tail, longest)
    for path, tail in tails.items():
        if path.stat().st_size != tail.size:
            cut(path, tail.size)
        if tail.size < tails[longest].size:
            _bring_up(path, tail.size, longest, tails[longest].size)
    return tails[longest]


def append(path: Path, content: bytes) -> None:
    """Append durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cut(path: Path, size: int) -> None:
    """Take away, durably, what stands behind `size` bytes."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def whole_lines(path: Path, size: int) -> Iterator[bytes]:
    """The lines of a journal up to `size` bytes; one that is too long comes in parts, which no check lets pass."""
    with path.open("rb") as file:
        while file.tell() < size:
            yield file.readline(LINE_BYTES_MAX)


def last_lines(path: Path, size: int, count: int) -> list[bytes]:
    """The last so many lines of a journal of `size` bytes, read from its end."""
    start = max(0, size - count * LINE_BYTES_MAX)
    with path.open("rb") as file:
        file.seek(start)
        lines = file.read(size - start).splitlines(keepends=True)
    return lines[-count:] if start == 0 else lines[1:][-count:]


def _create(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        return
    sync_folder(path.parent)


def _tail(path: Path) -> Tail:
    size = _end_of_lines(path)
    if size == 0:
        return Tail(0, 0, FIRST_CHAIN, b"")
    with path.open("rb") as file:
        start = max(0, size - LINE_BYTES_MAX)
        file.seek(start)
        read = file.read(size - start)
    line = read[read[:-1].rfind(b"\n") + 1 :]
    return Tail(size, *end_of(line, path), line)


def _end_of_lines(path: Path) -> int:
    """The offset behind the last newline. What follows is what a crash left: part of a line, or zeros."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - PIECE_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _require_prefix(path: Path, tail: Tail, longest: Path) -> None:
    """Its last line, chain and all, must stand at the same place of the longest."""
    if tail.size == 0:
        return
    with longest.open("rb") as file:
        file.seek(tail.size - len(tail.line))
        if file.read(len(tail.line)) != tail.line:
            raise TamperError(
                f"The journals of tombstones tell different stories: {path} and {longest}. One was written to alone, "
                "or changed. Compare them line by line before anything is destroyed or restored."
            )


def _bring_up(path: Path, size: int, longest: Path, end: int) -> None:
    with longest.open("rb") as file:
        file.seek(size)
        while size < end:
            piece = file.read(min(PIECE_BYTES, end - size))
            append(path, piece)
            size += len(piece)
