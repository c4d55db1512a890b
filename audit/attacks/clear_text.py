"""A search for personal values and keys in the clear, through every file of a database (I4, FAULTS 1, 6 and 6b).

Each needle is looked for as it could have ended up on disk: raw UTF-8, UTF-16 in both byte orders, hexadecimal in
both cases (what `bytea` looks like in a log), and base64 at its three offsets in both alphabets. Files are read in
blocks that overlap by the longest pattern, so memory does not grow with them. The search proves presence, never
absence: compressed or encrypted copies are not found, which is why every use of it plants a canary first.
"""

from __future__ import annotations

import os
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 4 * 1024 * 1024
NEEDLE_BYTES_MIN = 6
"""Base64 of fewer bytes has a fixed middle of fewer than four characters, which is found everywhere."""
HITS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a needle was found: its number among those given, never the needle itself."""

    path: Path
    offset: int
    needle: int
    encoding: str


def search_clear_text(paths: Iterable[Path], needles: Sequence[str | bytes]) -> list[Hit]:
    """Every place below `paths` (files or folders) where a needle stands in one of its encodings.

    A needle is a text, or the bytes of a key.

    Files that vanish while the search runs, as a living database's do, are passed over. Raises `ValueError` for a
    needle shorter than `NEEDLE_BYTES_MIN`, and `PermissionError` for a file that cannot be read.
    """
    patterns = _patterns(needles)
    if not patterns:
        return []
    hits: list[Hit] = []
    for path in _files(paths):
        for offset, found in _matches(path, list(patterns)):
            needle, encoding = patterns[found]
            hits.append(Hit(path, offset, needle, encoding))
            if len(hits) >= HITS_MAX:
                return hits
    return hits


def encodings(needle: str | bytes) -> Iterator[tuple[str, bytes]]:
    """Every form that is searched for, with its name. Parts of a form that depend on neighbours are cut off."""
    raw = _bytes(needle)
    text = needle if isinstance(needle, str) else needle.hex()
    yield "raw", raw
    yield "hex", raw.hex().encode()
    yield "HEX", raw.hex().upper().encode()
    yield "utf-16-le", text.encode("utf-16-le")
    yield "utf-16-be", text.encode("utf-16-be")
    for shift in range(3):
        # Of 3-byte groups that hold a stranger's bytes only the characters made of ours alone are kept.
        first, last = -(-shift * 8 // 6), (shift + len(raw)) * 8 // 6
        yield f"base64+{shift}", b64encode(bytes(shift) + raw)[first:last]
        yield f"base64url+{shift}", urlsafe_b64encode(bytes(shift) + raw)[first:last]


def _bytes(needle: str | bytes) -> bytes:
    return needle.encode() if isinstance(needle, str) else needle


def _patterns(needles: Sequence[str | bytes]) -> dict[bytes, tuple[int, str]]:
    patterns: dict[bytes, tuple[int, str]] = {}
    for number, needle in enumerate(needles):
        if len(_bytes(needle)) < NEEDLE_BYTES_MIN:
            raise ValueError(f"Search for values of {NEEDLE_BYTES_MIN} bytes or more; shorter ones stand everywhere.")
        for encoding, pattern in encodings(needle):
            patterns.setdefault(pattern, (number, encoding))
    return patterns


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
            continue
        for folder, _, names in os.walk(path, onerror=_refuse):
            yield from (found for name in sorted(names) if (found := Path(folder, name)).is_file())


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _matches(path: Path, patterns: Sequence[bytes]) -> Iterator[tuple[int, bytes]]:
    """Offsets and matched bytes; what begins in the overlap of two blocks is reported with the second."""
    overlap = max(map(len, patterns)) - 1
    try:
        with path.open("rb") as source:
            start, held = 0, b""
            while block := source.read(BLOCK_BYTES):
                held += block
                limit = max(len(held) - overlap, 0)
                for offset, found in _in_block(held, patterns, limit):
                    yield start + offset, found
                start, held = start + limit, held[limit:]
            for offset, found in _in_block(held, patterns, len(held)):
                yield start + offset, found
    except FileNotFoundError:
        return


def _in_block(block: bytes, patterns: Sequence[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Matches that begin before `limit`, in order; of those that overlap the first, and of those the longest.

    Looking for one pattern after the other is ten times faster than one expression of all of them.
    """
    found: list[tuple[int, int, bytes]] = []
    for pattern in patterns:
        offset = block.find(pattern)
        while -1 < offset < limit:
            found.append((offset, -len(pattern), pattern))
            offset = block.find(pattern, offset + len(pattern))
    end = 0
    for offset, _, pattern in sorted(found):
        if offset >= end:
            end = offset + len(pattern)
            yield offset, pattern
