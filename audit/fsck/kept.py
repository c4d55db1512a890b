"""What stands outside the database and is held against it: kept heads, kept checkpoints, and one that somebody brings.

A whole log that was replaced by another, signed with the real key, cannot be told from inside. Whoever kept one
checkpoint of the real one can: at its size the rows give another root, or there are not so many rows any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from psycopg import Connection

from audit.fsck.lies import Lie, LogLies
from audit.fsck.signers import Signers
from audit.verify.checkpoint import Checkpoint, open_checkpoint
from audit.verify.errors import CheckpointRefused
from audit.verify.merkle import leaf_hash
from audit.verify.note import VerifierKey, split_note
from ledger.custody.journal import KeptHead
from ledger.custody.kept_checkpoints import KeptCheckpoint

SELECT_ENTRY = "SELECT entry FROM lethe.event WHERE tenant_id = %s AND position = %s"


@dataclass(frozen=True, slots=True)
class Brought:
    """A checkpoint that somebody kept: the signed note, and the keys it is believed under (none: the log's own)."""

    note: bytes
    keys: tuple[VerifierKey, ...] = ()

    def checkpoint(self) -> Checkpoint:
        """What it says, its signature verified where keys were given. Raises `VerificationRefused`."""
        if self.keys:
            return open_checkpoint(self.note, self.keys).checkpoint
        text, _ = split_note(self.note)
        return Checkpoint.parse(text)

    def require_signed(self, signers: Signers) -> None:
        """Raise `VerificationRefused` unless it is signed: where no key was named, by one that the log itself had."""
        origin = self.checkpoint().origin
        if self.keys:
            return
        series = next((number for number, known in signers.origins.items() if known == origin), None)
        if series is None:
            raise CheckpointRefused(
                f"The log never opened the origin {origin} of the checkpoint, so it names no key to believe it by. "
                "Name the key that you trust: --key."
            )
        open_checkpoint(self.note, signers.keys(series))


@dataclass(frozen=True, slots=True)
class Expectation:
    """A root that the rows must have at a size, and in whose words."""

    size: int
    root: bytes
    words: str
    brought: Brought | None = None

    def require(self, root: bytes, signers: Signers) -> None:
        """Raise `LogLies` unless the rows have this root at the size; `VerificationRefused` if nobody signed it."""
        self._require_signed(signers)
        if root != self.root:
            text = f"The log is not the one of {self.words}: events up to {self.size} were rewritten since."
            raise LogLies(Lie(self.size, "kept", text, None, f"root {self.root.hex()}", f"root {root.hex()}"))

    def require_reached(self, end: int, signers: Signers) -> None:
        """Raise `LogLies` if the log ends before the size; `VerificationRefused` if nobody signed it."""
        if self.size > end:
            self._require_signed(signers)
            text = f"The log was cut off: {self.words} covers {self.size} events."
            raise LogLies(Lie(end + 1, "kept", text, None, f"{self.size} events", f"{end} events"))

    def _require_signed(self, signers: Signers) -> None:
        if self.brought is not None:
            self.brought.require_signed(signers)


def expectations(tenant: UUID, kept: KeptCheckpoint | None, brought: Sequence[Brought]) -> list[Expectation]:
    """Everything kept that the rows are held against. Raises `VerificationRefused` for a note that is of another log.

    A checkpoint that a restore gave up, with a reason in the log itself, is expected of nobody.
    """
    found = []
    if kept is not None and not kept.abandoned:
        found.append(Expectation(kept.size, kept.root, "the checkpoint that was kept in custody"))
    for one in brought:
        said = one.checkpoint()
        if f"/log/{tenant.hex}" not in said.origin:
            raise CheckpointRefused(f"The checkpoint is one of {said.origin}, which is not the log of this account.")
        found.append(Expectation(said.size, said.root, "the checkpoint that was brought", one))
    return found


def check_kept_head(connection: Connection[Any], tenant: UUID, kept: KeptHead, leaf: bytes) -> None:
    """Raise `LogLies` unless the row with this leaf hash holds the entry whose digest was kept of its position."""
    row = connection.execute(SELECT_ENTRY, (tenant, kept.position), binary=True).fetchone()
    entry = b"" if row is None else bytes(row[0])
    if sha256(entry).digest() != kept.digest or leaf_hash(entry) != leaf:
        text = "The event is not the one whose digest was kept in custody: the log was rewritten."
        found = f"SHA-256 {sha256(entry).hexdigest()}"
        raise LogLies(Lie(kept.position, "kept", text, None, f"SHA-256 {kept.digest.hex()}", found))
