"""The file a backup is written to: encrypted under a key that dies at the horizon with everything else (DESIGN 6).

    LETHEBK1 | length of header | header, canonical JSON | frames
    frame     length (4) | last (1) | AES-256-GCM of up to 256 KiB

The header names the epoch and holds the file's own random key, sealed under a key derived from that epoch's. Each
frame is bound to the header, to its number and to whether it is the last, so that a file cut short, changed, or put
together from two is refused. When the epoch key is destroyed, no copy of the file can be read any more.

What the frames carry is a run of items: kind (1), length (4), bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from typing import Any, BinaryIO, Final

import orjson

from ledger.custody.provider import EpochKeyProvider
from ledger.entry import canonical
from ledger.errors import KeyMissing, LedgerError, TamperError
from ledger.sealing import KEY_BYTES, TAG_BYTES, aead_open, aead_seal, open_box, seal_box

MAGIC: Final = b"LETHEBK1"
FORMAT_VERSION: Final = 1
FRAME_BYTES: Final = 1 << 18
HEADER_BYTES_MAX: Final = 1 << 16
ITEM_BYTES_MAX: Final = 1 << 30
"""A part of a COPY stream as the driver hands it over; far above what it does."""

PART, DATA, END, SUMMARY = 1, 2, 3, 4

_LENGTH = struct.Struct(">I")
_ITEM = struct.Struct(">BI")
_FRAME = struct.Struct(">IB")


class BackupRefused(LedgerError):
    """A backup that cannot be used: cut short, changed, of another format, or past its horizon."""


@dataclass(frozen=True, slots=True)
class BackupHeader:
    """What can be read of a backup without any key. `created_at` is by the clock of the ledger that made it."""

    backup_id: str
    created_at: datetime
    epoch: int


class BackupWriter:
    """Writes one backup to an open file, item by item."""

    def __init__(self, out: BinaryIO, provider: EpochKeyProvider, backup_id: str, created_at: datetime) -> None:
        self._out = out
        epoch = provider.current()
        self._key = os.urandom(KEY_BYTES)
        head = {"v": FORMAT_VERSION, "backup_id": backup_id, "created_at": created_at.isoformat(), "epoch": epoch}
        wrapped = seal_box(_wrapping_key(provider.key(epoch)), self._key, canonical(head))
        header = canonical(head | {"key": wrapped.hex()})
        self._bound_to = sha256(header).digest()
        self._frames = 0
        self._held = bytearray()
        out.write(MAGIC + _LENGTH.pack(len(header)) + header)

    def item(self, kind: int, payload: bytes | bytearray | memoryview) -> None:
        """Add one item."""
        self._held += _ITEM.pack(kind, len(payload))
        self._held += payload
        while len(self._held) > FRAME_BYTES:
            self._frame(bytes(self._held[:FRAME_BYTES]), last=False)
            del self._held[:FRAME_BYTES]

    def close(self) -> None:
        """Write the last frame; without it the file is refused."""
        self._frame(bytes(self._held), last=True)
        self._held.clear()
        self._out.flush()

    def _frame(self, plaintext: bytes, *, last: bool) -> None:
        aad, nonce = _frame_place(self._bound_to, self._frames, last)
        sealed = aead_seal(self._key, plaintext, aad, nonce)
        self._out.write(_FRAME.pack(len(sealed), last) + sealed)
        self._frames += 1


class BackupReader:
    """Reads one backup from an open file, in bounded memory. Raises `BackupRefused`."""

    def __init__(self, source: BinaryIO, provider: EpochKeyProvider) -> None:
        self._source = source
        if source.read(len(MAGIC)) != MAGIC:
            raise BackupRefused("This file is not a backup of Lethe.")
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > HEADER_BYTES_MAX:
            raise BackupRefused(_CHANGED)
        raw = self._exactly(length)
        self._bound_to = sha256(raw).digest()
        held = _parsed(raw)
        self.header = _header(held)
        self._key = self._opened_key(held, provider)

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Every item, in order. What was yielded is genuine; that nothing is missing is known at the end."""
        held = bytearray()
        for plaintext in self._frames():
            held += plaintext
            start = 0
            while len(held) - start >= _ITEM.size:
                kind, length = _ITEM.unpack_from(held, start)
                if length > ITEM_BYTES_MAX:
                    raise BackupRefused(_CHANGED)
                end = start + _ITEM.size + length
                if len(held) < end:
                    break
                yield kind, bytes(held[start + _ITEM.size : end])
                start = end
            del held[:start]
        if held:
            raise BackupRefused(_CUT)

    def _frames(self) -> Iterator[bytes]:
        number = 0
        while True:
            length, last = _FRAME.unpack(self._exactly(_FRAME.size))
            if length > FRAME_BYTES + TAG_BYTES:
                raise BackupRefused(_CHANGED)
            aad, nonce = _frame_place(self._bound_to, number, bool(last))
            try:
                yield aead_open(self._key, self._exactly(length), aad, nonce)
            except TamperError:
                raise BackupRefused(_CHANGED) from None
            number += 1
            if last:
                if self._source.read(1):
                    raise BackupRefused(_CHANGED)
                return

    def _opened_key(self, held: dict[str, Any], provider: EpochKeyProvider) -> bytes:
        try:
            epoch_key = provider.key(self.header.epoch)
        except KeyMissing:
            raise BackupRefused(
                f"This backup is past its horizon: epoch key {self.header.epoch}, under which it was encrypted, is not "
                "held by any custody copy any more. Nothing can open it; use a younger backup."
            ) from None
        try:
            wrapped = bytes.fromhex(held.pop("key"))
            return open_box(_wrapping_key(epoch_key), wrapped, canonical(held))
        except (KeyError, TypeError, ValueError, TamperError):
            raise BackupRefused(_CHANGED) from None

    def _exactly(self, length: int) -> bytes:
        found = self._source.read(length)
        if len(found) != length:
            raise BackupRefused(_CUT)
        return found


_CUT = "This backup is cut short. Fetch it again, or use another one; nothing was restored from it."
_CHANGED = "This backup was changed, or is damaged. Use another one; nothing was restored from it."


def _wrapping_key(epoch_key: bytes) -> bytes:
    return blake2b(b"", key=epoch_key, digest_size=KEY_BYTES, person=b"lethe.bak.v1").digest()


def _frame_place(bound_to: bytes, number: int, last: bool) -> tuple[bytes, bytes]:
    """Associated data and nonce of a frame: the key is the file's own, so its number never repeats."""
    counter = number.to_bytes(12, "big")
    return bound_to + counter + bytes((last,)), counter


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        held = orjson.loads(raw)
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise BackupRefused(_CHANGED)
    if held.get("v") != FORMAT_VERSION:
        raise BackupRefused("This backup is of another format. Restore it with the version of Lethe that made it.")
    return held


def _header(held: dict[str, Any]) -> BackupHeader:
    try:
        created_at = datetime.fromisoformat(held["created_at"])
        return BackupHeader(str(held["backup_id"]), created_at, int(held["epoch"]))
    except (KeyError, TypeError, ValueError):
        raise BackupRefused(_CHANGED) from None
