"""Proofs of single entries, as C2SP tlog-proof writes them: one text that needs nothing but an entry and keys.

c2sp.org/tlog-proof@v1
extra BASE64                     optional; vouched for by nothing
index N                          from 0; an event's position less one
BASE64 ...                       the path, one hash a line, from the leaf's sibling up
<empty line>
the signed checkpoint, with its cosignatures, as it is
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from audit.verify.checkpoint import OpenedCheckpoint, open_checkpoint, parse_size
from audit.verify.errors import CheckpointRefused, NoteMalformed, ProofRefused
from audit.verify.merkle import HASH_BYTES, PATH_HASHES_MAX, leaf_hash, require_included
from audit.verify.note import NOTE_BYTES_MAX, VerifierKey, strict_base64

HEADER: Final = "c2sp.org/tlog-proof@v1"
EXTRA_BYTES_MAX: Final = 64 * 1024
"""We write no extra data; a reader of other logs' proofs needs a bound."""

PROOF_BYTES_MAX: Final = NOTE_BYTES_MAX + 2 * EXTRA_BYTES_MAX


@dataclass(frozen=True, slots=True)
class TlogProof:
    """Where an entry stands, its path, and the signed checkpoint over both. Nothing is verified by reading it."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def format(self) -> bytes:
        """The proof as a file with the extension `.tlog-proof` has it."""
        extra = [] if self.extra is None else [f"extra {b64encode(self.extra).decode()}"]
        lines = [HEADER, *extra, f"index {self.index}", *(b64encode(digest).decode() for digest in self.path)]
        return "\n".join(lines).encode() + b"\n\n" + self.checkpoint

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """The proof in a text. Raises `ProofRefused` for anything that is not spelt as the specification spells it."""
        if len(content) > PROOF_BYTES_MAX:
            raise ProofRefused(f"A proof has {len(content)} bytes; at most {PROOF_BYTES_MAX} are read.")
        head, gap, checkpoint = content.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise ProofRefused("A proof has other letters than ASCII before its checkpoint.") from None
        if not gap or lines.pop(0) != HEADER:
            raise ProofRefused(f"A proof begins with {HEADER} and ends with an empty line and a checkpoint.")
        try:
            extra = _extra(lines)
            return cls(_index(lines), tuple(_hash(line) for line in lines), checkpoint, extra)
        except (NoteMalformed, CheckpointRefused) as malformed:
            raise ProofRefused(f"A proof is malformed: {malformed}") from None

    def require_logged(
        self,
        entry: bytes,
        log_keys: Iterable[VerifierKey],
        *,
        witnesses: Sequence[VerifierKey] = (),
        witnesses_needed: int = 0,
        origin: str | None = None,
    ) -> OpenedCheckpoint:
        """Verify that the log has exactly these bytes at `index`; returns the checkpoint that says so."""
        opened = open_checkpoint(
            self.checkpoint, log_keys, witnesses=witnesses, witnesses_needed=witnesses_needed, origin=origin
        )
        signed = opened.checkpoint
        require_included(leaf_hash(entry), self.index, signed.size, self.path, signed.root)
        return opened


def _extra(lines: list[str]) -> bytes | None:
    if not lines or not lines[0].startswith("extra "):
        return None
    extra = strict_base64(lines.pop(0).removeprefix("extra "), "The extra data of a proof")
    if len(extra) > EXTRA_BYTES_MAX:
        raise ProofRefused(f"A proof has {len(extra)} bytes of extra data; at most {EXTRA_BYTES_MAX} are read.")
    return extra


def _index(lines: list[str]) -> int:
    if not lines or not lines[0].startswith("index "):
        raise ProofRefused("A proof does not say at which index its entry stands.")
    index = parse_size(lines.pop(0).removeprefix("index "))
    if len(lines) > PATH_HASHES_MAX:
        raise ProofRefused(f"A proof has a path of {len(lines)} hashes; no tree needs more than {PATH_HASHES_MAX}.")
    return index


def _hash(line: str) -> bytes:
    digest = strict_base64(line, "A hash of a proof")
    if len(digest) != HASH_BYTES:
        raise ProofRefused(f"A hash of a proof has {len(digest)} bytes instead of {HASH_BYTES}.")
    return digest
