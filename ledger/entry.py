"""Entries: the public bytes of an event, canonical JSON (RFC 8785) of everything that is not personal.

Keys are ASCII and there are no floats, so orjson with sorted keys gives the canonical bytes (property-tested
against rfc8785). Ids are 32 lower-case hex digits; times are UTC with six decimals and a Z. Sealed parts stand
in the entry as SHA-256 digests only, and in a separate column as envelopes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import orjson

from ledger.errors import TamperError

ENTRY_VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 65_535
"""Entry bundles of the transparency log put each entry behind a 16-bit length."""


TIMES_REMEMBERED: Final = 1024
"""All that one transaction writes shares a few times, and writing one down costs as much as hashing an entry."""


class EntryTooLong(ValueError):
    """The plain part of an event does not fit into an entry."""


@lru_cache(maxsize=TIMES_REMEMBERED)
def entry_time(moment: datetime) -> str:
    """A UTC time as it stands in entries, always 27 characters: `2026-11-21T20:15:00.000000Z`."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return f"{moment.isoformat(timespec='microseconds')[:26]}Z"


def parse_entry_time(text: str) -> datetime:
    """The datetime of an entry's time."""
    return datetime.fromisoformat(text)


def canonical(value: Mapping[str, Any]) -> bytes:
    """RFC 8785 bytes of a mapping with ASCII keys and without floats."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def pack_sealed(parts: Mapping[str, bytes]) -> bytes | None:
    """Envelopes behind their names and lengths, in order of name; None where there are none."""
    if not parts:
        return None
    return b"".join(part_header(name) + struct.pack(">I", len(parts[name])) + parts[name] for name in sorted(parts))


def part_header(name: str) -> bytes:
    """How a part begins in a sealed column; the length of its envelope follows in four bytes, and the envelope."""
    return struct.pack(">B", len(name)) + name.encode()


def unpack_sealed(sealed: bytes | None) -> dict[str, bytes]:
    """The envelopes of a sealed column by part name. Raises `TamperError` for bytes that do not add up."""
    parts: dict[str, bytes] = {}
    rest, at = sealed or b"", 0
    while at < len(rest):
        name_end = at + 1 + rest[at]
        begin = name_end + 4
        end = begin + int.from_bytes(rest[name_end:begin], "big")
        if len(rest) < end:
            raise TamperError("The sealed parts of an event are cut short.")
        name = rest[at + 1 : name_end].decode("ascii", "replace")
        if name in parts:
            raise TamperError("The sealed parts of an event do not stand each once.")
        parts[name] = rest[begin:end]
        at = end
    return parts


def check_digests(entry: Mapping[str, Any], parts: Mapping[str, bytes]) -> None:
    """Raise `TamperError` unless the envelopes are exactly those the entry vouches for."""
    expected = entry.get("sealed", {})
    if {name: sha256(envelope).hexdigest() for name, envelope in parts.items()} != expected:
        raise TamperError("The sealed parts of an event are not those its entry was written with.")


def around(entry: Mapping[str, Any], *blanks: str) -> list[bytes]:
    """The canonical bytes of an entry around fields that hold an empty text, to be filled in for one event at a time.

    The fields are named in the order in which they stand. A quotation mark inside a value is always escaped, so a name
    between two of them is never part of one.
    """
    rest, pieces = canonical(entry), []
    for name in blanks:
        before, blank, rest = rest.partition(f'"{name}":""'.encode())
        if not blank:
            raise ValueError(f"An entry has no empty {name} behind the blanks before it.")
        pieces.append(before + blank[:-1])
        rest = b'"' + rest
    return [*pieces, rest]


def new_event_ids(stamp_ms: int, count: int) -> list[bytes]:
    """UUIDv7 event ids as 32 hexadecimal digits, 72 bits of each random."""
    stamp = f"{stamp_ms:012x}7".encode()
    random = os.urandom(9 * count).hex().encode()
    return [stamp + random[at : at + 3] + b"8" + random[at + 3 : at + 18] for at in range(0, 18 * count, 18)]


def hex_id(value: UUID | bytes) -> str:
    """An id as it stands in entries: 32 lower-case hex digits."""
    return value.hex if isinstance(value, UUID) else value.hex()
