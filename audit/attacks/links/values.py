"""What a column shows: every value in it that is fine enough to point at something.

Ids, hashes and other bytes, moments to the microsecond, positions, and texts; also ids, moments and addresses in the
middle of a longer text. Values that only say a day, and the words of the program itself, point at a crowd and are none.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from audit.attacks.links.graph import Value
from audit.bundles.model import EXPORT_KINDS, VIEWED
from audit.consents.acts import EXPORT_KINDS as CONSENT_KINDS
from audit.trail.export import LOOKED_AT
from domain.category import CATEGORIES
from domain.facts import TOPICS
from domain.ids import micros
from domain.personal import RETENTION_CLASSES
from domain.subject import ACCOUNT_CLOSURE, ERASURE_REASONS
from ledger.entry import parse_entry_time

BYTES_MIN: Final = 8
TEXT_MIN: Final = 12
ID_BYTES: Final = 16
UUID_OF_TIME: Final = 7

_WORDS_OF_THE_PROGRAM = frozenset(
    {
        *TOPICS,
        *RETENTION_CLASSES,
        *ERASURE_REASONS,
        ACCOUNT_CLOSURE,
        *CATEGORIES,
        *EXPORT_KINDS.values(),
        *CONSENT_KINDS.values(),
        *VIEWED.values(),
        LOOKED_AT,
    }
)
_POSITIONS = ("position", "size")
"""Names of numbers that say where something stands in the log; the size of a log is where its last event stands."""

_INSIDE = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}"
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
)
"""Ids, hashes and moments in a longer text."""

_ADDRESS = re.compile(r"[^\s\"'<>,;=:]+@[^\s\"'<>,;=:]+")

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{22,}={0,2}")
"""The base64 of sixteen bytes or more, where it has letters of both cases. Words and hex digits have one only."""

_ONLY_A_DAY = re.compile(r"[a-z ]*\d{4}-\d{2}-\d{2}")
"""Such as the name of a day's erasures on a tombstone: who knows the day knows as much as the log says of it."""


def values_of(row: Mapping[str, Any], database: str) -> Iterator[Value]:
    """Every value of a row, with the transaction that wrote it."""
    for name, held in row.items():
        if name == "xmin":
            yield f"{database} transaction", held
        elif name not in ("tenant_id", "topic"):
            yield from values_in({name: held})


def values_in(held: Any) -> Iterator[Value]:
    """Every value inside a column or a JSON structure that is fine enough to point at something."""
    if isinstance(held, Mapping):
        for name, inner in held.items():
            if name in _POSITIONS and type(inner) is int:
                yield "position", inner
            yield from values_in(inner)
    elif isinstance(held, list | tuple | set):
        for inner in held:
            yield from values_in(inner)
    else:
        yield from value_of(held)


def value_of(held: Any) -> Iterator[Value]:
    """What one column or text shows."""
    if isinstance(held, UUID):
        yield "bytes", held.bytes
    elif isinstance(held, bytes | bytearray | memoryview):
        yield from _bytes_value(bytes(held))
        with suppress(UnicodeDecodeError):
            yield from _inside(bytes(held).decode())
    elif isinstance(held, datetime):
        if (held.hour, held.minute, held.second, held.microsecond) != (0, 0, 0, 0):
            yield "moment", micros(held)
    elif isinstance(held, str):
        yield from _text_value(held)
        yield from _inside(held)


def moments_of(value: Any) -> Iterator[int]:
    """Every moment in a value, in microseconds since 1970."""
    if isinstance(value, UUID) and value.version == UUID_OF_TIME:
        yield (value.int >> 80) * 1000
    for kind, held in values_in(value):
        if kind == "moment":
            yield held


def texts_of(held: Any) -> Iterator[str]:
    """Every text inside a column or a JSON structure."""
    if isinstance(held, str):
        yield held
    elif isinstance(held, Mapping):
        for inner in held.values():
            yield from texts_of(inner)
    elif isinstance(held, list | tuple):
        for inner in held:
            yield from texts_of(inner)


def _text_value(text: str) -> Iterator[Value]:
    if "|" in text:  # What a tombstone tells of a key.
        for part in text.split("|"):
            yield from _text_value(part)
    for read in (bytes.fromhex, lambda t: UUID(t).bytes):
        try:
            found = read(text)
        except ValueError:
            continue
        if len(found) >= BYTES_MIN:
            yield from _bytes_value(found)
            return
    try:
        if len(text) == 27 and text.endswith("Z"):
            yield from value_of(parse_entry_time(text))
            return
    except ValueError:
        pass
    if len(text) >= TEXT_MIN and text not in _WORDS_OF_THE_PROGRAM and not _ONLY_A_DAY.fullmatch(text):
        yield "text", text


def _bytes_value(held: bytes) -> Iterator[Value]:
    if len(held) >= BYTES_MIN:
        yield "bytes", held
        if len(held) > ID_BYTES and len(held) % ID_BYTES == 0:  # Ids written one behind the other.
            yield from (("bytes", held[at : at + ID_BYTES]) for at in range(0, len(held), ID_BYTES))


def _inside(text: str) -> Iterator[Value]:
    """What stands in the middle of a text: each piece as if it stood alone, and what is written in base64."""
    addresses = _ADDRESS.findall(text) if "@" in text else ()
    for piece in (*_INSIDE.findall(text), *addresses):
        if piece != text:
            yield from _text_value(piece)
    for piece in _BASE64.findall(text):
        if piece.lower() != piece != piece.upper():
            yield from _bytes_value(_decoded(piece))


def _decoded(text: str) -> bytes:
    bare = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except ValueError:
        return b""
