"""A dictionary attack on an evidence bundle (FAULTS 21): is one of these addresses behind anything that stands in it?

Whoever has a bundle that was made without opening anything has its plain fields, ids, hashes, proofs and names, and a
list of addresses to try. Each address is looked for as it is, in several spellings and encodings, and as every hash
that careless programs make of one: plain, truncated, as a UUID of any version, and keyed with what is public in the
bundle itself. A find names the file and the way. Nothing found does not show that there is no way; it shows that none
of these is one.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from audit.attacks.links.tried import digests_of
from audit.attacks.links.values import BYTES_MIN
from domain.address import canonical_address

ID_BYTES: Final = 16
PUBLIC_KEYS_TRIED_MAX: Final = 8
"""Public ids that hashes are keyed with: the account's and the first few others. More of them multiply the work."""

_HEX: Final = re.compile(rb"[0-9a-fA-F]{16,}")
_UUID: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{11,}={0,2}")
_READ_AS_THEY_ARE: Final = ("summary.pdf",)


@dataclass(frozen=True, slots=True)
class Guess:
    """An address that was recognised: in which file of the bundle, and how."""

    address: str
    file: str
    how: str


def recognised(bundle: Path, addresses: Iterable[str]) -> list[Guess]:
    """Every one of these addresses that something in the bundle gives away, once for each file and way."""
    with ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    values = _values(contents)
    public = [held for held in values if len(held) == ID_BYTES][:PUBLIC_KEYS_TRIED_MAX]
    by_head: dict[bytes, list[bytes]] = defaultdict(list)
    by_tail: dict[bytes, list[bytes]] = defaultdict(list)
    for held in values:
        by_head[held[:BYTES_MIN]].append(held)
        if len(held) == ID_BYTES:
            by_tail[held[-7:]].append(held)
    found = dict[Guess, None]()
    for address in addresses:
        for guess in (*_written(address, contents), *_hashed(address, public, values, by_head, by_tail)):
            found[guess] = None
    return list(found)


def _values(contents: dict[str, bytes]) -> dict[bytes, str]:
    """Every value of eight bytes or more that any file holds in hex or base64, and the first file that holds it."""
    values: dict[bytes, str] = {}
    for name, content in contents.items():
        text = content if not name.endswith(_READ_AS_THEY_ARE) else b""
        for found in _HEX.finditer(text + b"\n" + name.encode()):
            digits = found[0][: len(found[0]) // 2 * 2]
            values.setdefault(bytes.fromhex(digits.decode()), name)
        for found in _UUID.finditer(text):
            values.setdefault(bytes.fromhex(found[0].replace(b"-", b"").decode()), name)
        for found in _BASE64.finditer(text):
            held = _decoded(found[0])
            if len(held) >= BYTES_MIN:
                values.setdefault(held, name)
        if name.startswith("log/tile/"):
            for at in range(0, len(content), 32):
                values.setdefault(content[at : at + 32], name)
    return values


def _decoded(text: bytes) -> bytes:
    try:
        return b64decode(
            text.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
        )
    except Base64Error:
        return b""


def _written(address: str, contents: dict[str, bytes]) -> Iterator[Guess]:
    """The address itself, in the ways in which texts are written down."""
    for spelling in dict.fromkeys((address, address.lower(), canonical_address(address))):
        raw = spelling.encode()
        ways = {
            "as it is": raw,
            "in hex": raw.hex().encode(),
            "in UTF-16": spelling.encode("utf-16-le"),
            "backwards": raw[::-1],
            **{f"in base64, {at} on": b64encode(bytes(at) + raw)[4 if at else 0 : -4] for at in range(3)},
            "in base64 for URLs": urlsafe_b64encode(raw)[:-4],
        }
        for name, content in contents.items():
            for how, needle in ways.items():
                if needle in content or needle in name.encode():
                    yield Guess(address, name, how)


def _hashed(
    address: str,
    public: list[bytes],
    values: dict[bytes, str],
    by_head: dict[bytes, list[bytes]],
    by_tail: dict[bytes, list[bytes]],
) -> Iterator[Guess]:
    """The address as a hash, whole or cut off, or inside an id."""
    for digest, how in digests_of(address, canonical_address(address), public):
        for held in by_head.get(digest[:BYTES_MIN], ()):
            if held[: len(digest)] == digest[: len(held)]:
                yield Guess(address, values[held], how)
        for held in (*by_tail.get(digest[9:16], ()), *by_tail.get(digest[3:10], ())):
            yield Guess(address, values[held], f"{how}, as an id")
