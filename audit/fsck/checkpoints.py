"""Every checkpoint that was published, and what others signed about it: read by windows of sizes, never believed.

A checkpoint says what it should if its note is signed by the keys that lived then and by nobody else, names the origin
of its series, and has the root that the rows have at its size. A cosignature is checked with the witness's key that
stands beside it, and counts only if the caller trusts that key. A timestamp needs the roots of its authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.fsck.lies import Lie, LogLies, shown
from audit.fsck.signers import Signers
from audit.verify.checkpoint import OpenedCheckpoint, open_checkpoint
from audit.verify.errors import VerificationRefused
from audit.verify.note import COSIGNATURE, VerifierKey, open_note, split_note
from audit.verify.timestamp import open_timestamp

SELECT_CHECKPOINTS = """
SELECT size, root, note FROM lethe.log_checkpoint
WHERE tenant_id = %s AND series = %s AND size BETWEEN %s AND %s ORDER BY size
"""
SELECT_COSIGNATURES = """
SELECT size, witness, line, extract(epoch FROM cosigned_at) FROM lethe.log_cosignature
WHERE tenant_id = %s AND series = %s AND size BETWEEN %s AND %s ORDER BY size, witness
"""
SELECT_TIMESTAMPS = """
SELECT size, authority, token, extract(epoch FROM stamped_at) FROM lethe.log_timestamp
WHERE tenant_id = %s AND series = %s AND size BETWEEN %s AND %s ORDER BY size, authority
"""


BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the caller believes besides the facts: witnesses by key, timestamp authorities by their roots (PEM)."""

    witnesses: tuple[VerifierKey, ...] = ()
    timestamp_roots: bytes | None = None


@dataclass(slots=True)
class Counts:
    """What was checked. Cosignatures by others are those of keys that the caller did not name."""

    checkpoints: int = 0
    cosignatures: int = 0
    cosignatures_by_others: int = 0
    timestamps: int = 0
    timestamps_without_roots: int = 0


Seconds = Decimal | None
"""A time of a row, since 1970: PostgreSQL has times that Python has not."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A row of a checkpoint, and what stands beside it."""

    series: int
    size: int
    root: bytes
    note: bytes
    cosignatures: list[tuple[str, str, Seconds]] = field(default_factory=list)
    timestamps: list[tuple[bytes, Seconds]] = field(default_factory=list)


class Checkpoints:
    """The checkpoints of one tenant. `counts` says how many were checked."""

    def __init__(self, connection: Connection[Any], tenant: UUID, trust: Trust) -> None:
        self.counts = Counts()
        self._connection = connection
        self._tenant = tenant
        self._trust = trust
        self._before: dict[int, int] = {}

    def read(self, series: int, first: int, last: int) -> list[Stored]:
        """The checkpoints of a series with sizes from `first` to `last`. Raises `LogLies` for what attests to none."""
        wanted = (self._tenant, series, first, last)
        found: dict[int, Stored] = {}
        for size, root, note in self._connection.execute(SELECT_CHECKPOINTS, wanted, binary=True):
            if size in found:
                text = "Two checkpoints of one size stand in one series: one of the two is a lie."
                raise LogLies(Lie(size, "checkpoint", text))
            if root is None or note is None:
                raise LogLies(Lie(size, "checkpoint", "The row of a checkpoint has no root or no note."))
            found[size] = Stored(series, size, bytes(root), bytes(note))
        for size, witness, line, at in self._connection.execute(SELECT_COSIGNATURES, wanted, binary=True):
            self._of(found, size, "cosigned").cosignatures.append((witness, line, at))
        for size, _, token, at in self._connection.execute(SELECT_TIMESTAMPS, wanted, binary=True):
            self._of(found, size, "timestamped").timestamps.append((bytes(token or b""), at))
        return list(found.values())

    def check(self, stored: Stored, root: bytes, origin: str, signers: Signers) -> None:
        """Raise `LogLies` unless a checkpoint is what the rows, with this root at its size, let it be."""
        opened = self._opened(stored, origin, signers)
        said = opened.checkpoint
        if said.size != stored.size or said.root != stored.root:
            text = "The row of a checkpoint does not have the size and root that its note was signed for."
            raise LogLies(
                _about(stored, "checkpoint", text, _pair(said.size, said.root), _pair(stored.size, stored.root))
            )
        if said.root != root:
            before = self._before.get(stored.series, 0)
            text = f"An event of {before + 1} to {stored.size} is not the one that was signed."
            raise LogLies(_about(stored, "root", text, f"root {said.root.hex()}", f"root {root.hex()}"))
        for witness, line, at in stored.cosignatures:
            self._check_cosignature(stored, opened, witness, line, at)
        for token, at in stored.timestamps:
            self._check_timestamp(stored, opened, token, at)
        self.counts.checkpoints += 1
        self._before[stored.series] = stored.size

    def _opened(self, stored: Stored, origin: str, signers: Signers) -> OpenedCheckpoint:
        try:
            opened = self._open(stored, origin, signers)
        except VerificationRefused as refused:
            text = f"A checkpoint is not signed as it should be. {refused}"
            raise LogLies(_about(stored, "signature", text)) from None
        if opened.note.unknown:
            raise LogLies(_about(stored, "signature", "A checkpoint has a signature of a key that the log never had."))
        signers.require_signed(stored.series, stored.size, set(opened.signers))
        return opened

    def _open(self, stored: Stored, origin: str, signers: Signers) -> OpenedCheckpoint:
        """The note, opened with those keys of the log that it names; all are read again if it names another, which may
        have been opened meanwhile."""
        _, lines = split_note(stored.note)
        keys = signers.named(stored.series, lines)
        if len(keys) < len(lines):
            signers.read()
            keys = signers.named(stored.series, lines)
        return open_checkpoint(stored.note, keys, origin=origin)

    def _of(self, found: Mapping[int, Stored], size: int, what: str) -> Stored:
        if size not in found:
            raise LogLies(Lie(size, "checkpoint", f"A checkpoint of size {size} was {what} and is not there any more."))
        return found[size]

    def _check_cosignature(
        self, stored: Stored, opened: OpenedCheckpoint, witness: str | None, line: str | None, at: Seconds
    ) -> None:
        try:
            key = VerifierKey.parse(witness or "")
            if key.kind != COSIGNATURE:
                raise LogLies(_about(stored, "cosignature", "A cosignature stands beside a key that is no witness's."))
            note = open_note(opened.note.text + b"\n" + (line or "").encode() + b"\n", [key])
        except VerificationRefused as refused:
            raise LogLies(_about(stored, "cosignature", f"A cosignature does not hold. {refused}")) from None
        seconds = note.signed[0].seconds
        if note.unknown or seconds is None or at is None or at // 1 != seconds:
            text = "A cosignature was not made at the time that stands beside it, or not alone."
            raise LogLies(_about(stored, "cosignature", text))
        if key in self._trust.witnesses:
            self.counts.cosignatures += 1
        else:
            self.counts.cosignatures_by_others += 1

    def _check_timestamp(self, stored: Stored, opened: OpenedCheckpoint, token: bytes, at: Seconds) -> None:
        if self._trust.timestamp_roots is None:
            self.counts.timestamps_without_roots += 1
            return
        try:
            stamped = open_timestamp(token, opened.note.text, self._trust.timestamp_roots)
        except VerificationRefused as refused:
            raise LogLies(_about(stored, "timestamp", f"A timestamp does not hold. {refused}")) from None
        if at is None or at * 1_000_000 != (stamped.at - BEGINNING) // MICROSECOND:
            text = "A timestamp was not made at the time that stands beside it."
            raise LogLies(_about(stored, "timestamp", text, stamped.at.isoformat(), f"{at} seconds since 1970"))
        self.counts.timestamps += 1


def _about(stored: Stored, rule: str, text: str, expected: str | None = None, found: str | None = None) -> Lie:
    return Lie(stored.size, rule, text, None, expected, found)


def _pair(size: int, root: bytes) -> str:
    return f"size {size}, root {shown(root.hex())}"
