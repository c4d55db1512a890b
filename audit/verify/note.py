"""Signed notes, as C2SP signed-note writes them: a text, a blank line, and lines of signatures.

    text, ending in a newline
    <empty line>
    — key name base64(key id, 4 bytes || signature)

A key is known by its name and id together; the id is the beginning of SHA-256(name || LF || type || public key). Lines
of unknown keys are passed over. A signature of a known key that does not fit refuses the whole note, and so does a
second one by the same key. Two types are known: Ed25519 over the text (logs), and the Ed25519 cosignature with a
time (witnesses, see `cosignature`).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from nacl.bindings import crypto_sign_BYTES, crypto_sign_open, crypto_sign_PUBLICKEYBYTES
from nacl.exceptions import BadSignatureError

from audit.verify.cosignature import TIME_BYTES, cosigned_message, cosigned_seconds
from audit.verify.errors import NoteMalformed, SignatureRefused

ED25519: Final = 1
"""The type of a key that signs the text as it is: a log's."""

COSIGNATURE: Final = 4
"""The type of a key that signs the text with a time before it: a witness's."""

KEY_ID_BYTES: Final = 4
KEY_BYTES: Final = crypto_sign_PUBLICKEYBYTES
SIGNATURE_BYTES: Final = crypto_sign_BYTES

NOTE_BYTES_MAX: Final = 256 * 1024
"""Room for the signatures below, were all of them post-quantum ones (near 5 kB); nobody reads more than this."""

SIGNATURES_MAX: Final = 64
"""A log's living keys and its witnesses. The spec asks readers to take 16 at least."""

KEY_NAME_BYTES_MAX: Final = 255
"""A key's name is an origin: a host and a path. Cosigners of other types cannot take longer ones."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key that is trusted under a name. Its text form is `name+id in hex+base64(type || public key)`."""

    name: str
    kind: int
    public_key: bytes

    def __post_init__(self) -> None:
        require_key_name(self.name)
        if self.kind not in (ED25519, COSIGNATURE):
            raise NoteMalformed(f"A verifier key has type {self.kind}; known here are {ED25519} and {COSIGNATURE}.")
        if len(self.public_key) != KEY_BYTES:
            raise NoteMalformed(f"An Ed25519 public key has {KEY_BYTES} bytes, not {len(self.public_key)}.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key of a text form, which may end in a newline. Raises `NoteMalformed`."""
        pieces = text.removesuffix("\n").split("+", 2)
        if len(pieces) != 3 or not _KEY_ID.fullmatch(pieces[1]):
            raise NoteMalformed("A verifier key is written as name+8 hex digits+base64, on one line.")
        encoded = strict_base64(pieces[2], "A verifier key")
        if not encoded:
            raise NoteMalformed("A verifier key has no type and no key in it.")
        key = cls(pieces[0], encoded[0], encoded[1:])
        if key.key_id.hex() != pieces[1]:
            raise NoteMalformed(f"The verifier key of {key.name} does not have the id that is written in it.")
        return key

    @property
    def key_id(self) -> bytes:
        """The 4 bytes by which signature lines name this key."""
        return sha256(self.name.encode() + b"\n" + bytes((self.kind,)) + self.public_key).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        encoded = b64encode(bytes((self.kind,)) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def require_signature(self, text: bytes, signature: bytes) -> None:
        """Raise `SignatureRefused` unless this key made this signature over a note's text."""
        if self.kind == COSIGNATURE:
            text, signature = cosigned_message(text, signature[:TIME_BYTES]), signature[TIME_BYTES:]
        require_signature(self.name, self.public_key, text, signature)


def require_signature(name: str, public_key: bytes, text: bytes, signature: bytes) -> None:
    """Raise `SignatureRefused` unless this Ed25519 key made this signature over these bytes; `name` is for the text."""
    if len(signature) != SIGNATURE_BYTES or len(public_key) != KEY_BYTES:
        raise SignatureRefused(f"The signature of {name} or its key does not have the length of its type.")
    try:
        crypto_sign_open(signature + text, public_key)
    except BadSignatureError:
        raise SignatureRefused(
            f"The signature of {name} does not fit: the text was changed, or another key signed it."
        ) from None


@dataclass(frozen=True, slots=True)
class Signature:
    """One line of signature: the name and id of its key, and the bytes behind them."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> bytes:
        """The line as it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.signature).decode()}\n".encode()


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was verified, and the key that made it. `seconds` is the time in a cosignature, else None."""

    key: VerifierKey
    signature: Signature
    seconds: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """An opened note: its text with the final newline, who is known to have signed it, and the lines of others."""

    text: bytes
    signed: tuple[Signed, ...]
    unknown: tuple[Signature, ...]


def open_note(content: bytes, keys: Iterable[VerifierKey]) -> Note:
    """The note, verified: at least one of `keys` signed it. Raises `NoteMalformed` or `SignatureRefused`."""
    text, lines = split_note(content)
    known = _by_name_and_id(keys)
    signed: dict[tuple[str, bytes], Signed] = {}
    unknown: list[Signature] = []
    for line in lines:
        key = known.get((line.name, line.key_id))
        if key is None:
            unknown.append(line)
            continue
        if (line.name, line.key_id) in signed:
            raise SignatureRefused(f"One key of {line.name} signed the note twice.")
        key.require_signature(text, line.signature)
        seconds = cosigned_seconds(line.signature[:TIME_BYTES]) if key.kind == COSIGNATURE else None
        signed[line.name, line.key_id] = Signed(key, line, seconds)
    if not signed:
        raise SignatureRefused("None of the keys that are trusted here signed the note.")
    return Note(text, tuple(signed.values()), tuple(unknown))


def split_note(content: bytes) -> tuple[bytes, list[Signature]]:
    """The text of a note and its lines of signature, none of them verified. Raises `NoteMalformed`."""
    if len(content) > NOTE_BYTES_MAX:
        raise NoteMalformed(f"A note has {len(content)} bytes; at most {NOTE_BYTES_MAX} are read.")
    try:
        content.decode()
    except UnicodeDecodeError:
        raise NoteMalformed("A note is not UTF-8.") from None
    if _CONTROL.search(content):
        raise NoteMalformed("A note has control characters in it; the only one allowed is the newline (LF).")
    text, gap, signatures = content.rpartition(b"\n\n")
    if not gap or not signatures.endswith(b"\n"):
        raise NoteMalformed("A note is a text, an empty line, and lines of signature that each end in a newline.")
    return text + b"\n", signature_lines(signatures)


def compose_note(text: bytes, signatures: Iterable[Signature]) -> bytes:
    """The note of a text, which ends in a newline, and signatures over it."""
    return text + b"\n" + b"".join(signature.line() for signature in signatures)


def signature_lines(content: bytes) -> list[Signature]:
    """Lines of signature, as they end a note and as a witness answers with. Raises `NoteMalformed`."""
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise NoteMalformed("Lines of signature are not UTF-8.") from None
    if not content.endswith(b"\n") or len(lines) > SIGNATURES_MAX:
        raise NoteMalformed(f"A note has at most {SIGNATURES_MAX} lines of signature, each with a newline.")
    return [_signature(line) for line in lines]


def require_key_name(name: str) -> None:
    """Raise `NoteMalformed` for what is no key's name: empty, with a space or a plus in it, or too long."""
    if not name or _NO_NAME.search(name):
        raise NoteMalformed("A key's name is not empty and has no space, plus or control character in it.")
    if len(name.encode(errors="replace")) > KEY_NAME_BYTES_MAX:
        raise NoteMalformed(f"A key's name is longer than {KEY_NAME_BYTES_MAX} bytes.")


def strict_base64(text: str, what: str) -> bytes:
    """The bytes of a base64 text, of which there is one spelling only. Raises `NoteMalformed`."""
    try:
        decoded = b64decode(text.encode("ascii"), validate=True)
    except (Base64Error, UnicodeEncodeError):
        raise NoteMalformed(f"{what} is not base64.") from None
    if b64encode(decoded).decode() != text:
        raise NoteMalformed(f"{what} is not spelt as base64 spells it.")
    return decoded


_DASH: Final = "— "
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_NO_NAME: Final = re.compile(r"[\s\x00-\x1f+]")
_CONTROL: Final = re.compile(rb"[\x00-\x09\x0b-\x1f]")


def _by_name_and_id(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise NoteMalformed(f"Two trusted keys of {key.name} share one id; no note can say which of them signed.")
    return known


def _signature(line: str) -> Signature:
    if not line.startswith(_DASH):
        raise NoteMalformed("A line of signature begins with an em dash and a space.")
    name, gap, encoded = line.removeprefix(_DASH).partition(" ")
    require_key_name(name)
    decoded = strict_base64(encoded, "A signature")
    if not gap or len(decoded) <= KEY_ID_BYTES:
        raise NoteMalformed("A line of signature has a key's name and, behind a space, its id and signature.")
    return Signature(name, decoded[:KEY_ID_BYTES], decoded[KEY_ID_BYTES:])
