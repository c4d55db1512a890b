"""Checkpoints, as C2SP tlog-checkpoint writes them: a log says, signed, how long it is and what its root is.

    origin
    size, decimal, without leading zeroes
    base64(root)

A log of ours writes no extension lines, so a checkpoint that has one is none of ours and is refused. A key of a log
signs under the log's own origin: a key of another name proves nothing about this log, whoever trusts it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from audit.verify.errors import CheckpointRefused, CosignatureRefused, NoteMalformed
from audit.verify.merkle import EMPTY_ROOT, HASH_BYTES, TREE_SIZE_MAX
from audit.verify.note import COSIGNATURE, ED25519, Note, VerifierKey, open_note, require_key_name, strict_base64

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log by its origin, how many entries it has, and the root over them (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def body(self) -> bytes:
        """The text that is signed, timestamped and cosigned."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """The checkpoint of a note's text. Raises `CheckpointRefused` for anything else than its three lines."""
        try:
            lines = text.decode().split("\n")
        except UnicodeDecodeError:
            raise CheckpointRefused("A checkpoint is not UTF-8.") from None
        if len(lines) != 4 or lines[3]:
            raise CheckpointRefused("A checkpoint has three lines: origin, size and root. This log writes no others.")
        try:
            require_key_name(lines[0])
            root = strict_base64(lines[2], "The root of a checkpoint")
        except NoteMalformed as malformed:
            raise CheckpointRefused(f"Not a checkpoint: {malformed}") from None
        return cls(lines[0], parse_size(lines[1]), _require_root(root, lines[1]))


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A witness that cosigned, and when it said it did."""

    witness: VerifierKey
    at: datetime


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose signatures were verified: by which keys of the log, and by which witnesses."""

    checkpoint: Checkpoint
    note: Note
    signers: tuple[VerifierKey, ...]
    cosigned: tuple[Cosigned, ...]


def open_checkpoint(
    content: bytes,
    log_keys: Iterable[VerifierKey],
    *,
    witnesses: Sequence[VerifierKey] = (),
    witnesses_needed: int = 0,
    origin: str | None = None,
) -> OpenedCheckpoint:
    """A signed checkpoint, verified: by a key of the log it names, and by as many of `witnesses` as are needed.

    `origin` is the log that the reader asked for. One key under two names is one witness, and one that is the log's own
    is none: whoever has it is the house. Raises `NoteMalformed`, `SignatureRefused`, `CheckpointRefused` or
    `CosignatureRefused`.
    """
    known = require_kind(log_keys, ED25519)
    note = open_note(content, (*known, *require_kind(witnesses, COSIGNATURE)))
    checkpoint = Checkpoint.parse(note.text)
    if origin is not None and checkpoint.origin != origin:
        raise CheckpointRefused(f"The checkpoint is one of {checkpoint.origin}, and that of {origin} was asked for.")
    signers = tuple(
        signed.key for signed in note.signed if signed.seconds is None and signed.key.name == checkpoint.origin
    )
    if not signers:
        raise CheckpointRefused(f"No key of {checkpoint.origin} signed the checkpoint.")
    cosigned = tuple(
        Cosigned(signed.key, _moment(signed.seconds)) for signed in note.signed if signed.seconds is not None
    )
    others = {one.witness.public_key for one in cosigned} - {key.public_key for key in known}
    if len(others) < witnesses_needed:
        raise CosignatureRefused(
            f"{len(others)} of the witnesses trusted here cosigned the checkpoint of size {checkpoint.size}; "
            f"{witnesses_needed} are needed."
        )
    return OpenedCheckpoint(checkpoint, note, signers, cosigned)


def parse_size(text: str) -> int:
    """A number of entries as checkpoints and proofs write it. Raises `CheckpointRefused`."""
    if not _SIZE.fullmatch(text) or int(text) > TREE_SIZE_MAX:
        raise CheckpointRefused("A size is a decimal number without leading zeroes, below 2 to the 63rd.")
    return int(text)


def _require_root(root: bytes, size: str) -> bytes:
    if len(root) != HASH_BYTES:
        raise CheckpointRefused(f"The root of a checkpoint has {len(root)} bytes instead of {HASH_BYTES}.")
    if size == "0" and root != EMPTY_ROOT:
        raise CheckpointRefused("A checkpoint of an empty log has a root that is not the empty tree's.")
    return root


def require_kind(keys: Iterable[VerifierKey], kind: int) -> list[VerifierKey]:
    """These keys, all of one type. Raises `NoteMalformed` for one that is for something else."""
    chosen = list(keys)
    if any(key.kind != kind for key in chosen):
        raise NoteMalformed(f"A key of a log has type {ED25519}, and that of a witness type {COSIGNATURE}.")
    return chosen


def _moment(seconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise CosignatureRefused("A witness cosigned at a time that no calendar has.") from None
