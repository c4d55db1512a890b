"""Asking one witness to cosign a checkpoint, as C2SP tlog-witness says (`add-checkpoint`).

    old SIZE                     what the witness cosigned last
    base64(hash)                 the consistency proof from there, a hash a line
    <empty line>
    the signed checkpoint

A witness that holds another size says which (409), and is shown the proof from there. It is never shown anything but
a checkpoint that was published: if it holds more than that, or another root of the same size, then two histories of
this log have been told, and somebody must look. What it answers is believed only as a signature of its key.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from audit.log.calls import Answer, Post
from audit.log.errors import WitnessHoldsMore, WitnessRefused
from audit.log.store import Cosignature, PublishedCheckpoint
from audit.log.witness_policy import Witness
from audit.verify.cosignature import TIME_BYTES, cosigned_seconds
from audit.verify.errors import VerificationRefused
from audit.verify.note import signature_lines, split_note

ADD_CHECKPOINT: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
ANSWER_BYTES_MAX: Final = 64 * 1024
"""Who needs it: a witness that answers with signatures of several keys, some of them post-quantum ones."""

TRIES_MAX: Final = 3
"""Who needs it: another worker may have shown the witness another checkpoint between two tries of ours."""

APART_MAX: Final = timedelta(minutes=10)
"""How far a witness's clock may be from ours: no cosignature is of the future, or older than its checkpoint."""

ConsistencyProof = Callable[[int], Sequence[bytes]]
"""The proof from an older size of this log to the checkpoint's."""

_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class _Told:
    """A witness said which size it cosigned last."""

    size: int


def cosign(
    post: Post,
    witness: Witness,
    checkpoint: PublishedCheckpoint,
    known_size: int,
    proof_from: ConsistencyProof,
    now: datetime,
) -> Cosignature:
    """The witness's cosignature of a checkpoint, verified.

    `known_size` is what it is known to have cosigned last, 0 if nothing. Raises `NoAnswer`, `WitnessRefused`, and
    `WitnessHoldsMore` where what it holds cannot be continued by this checkpoint.
    """
    size = known_size
    for _ in range(TRIES_MAX):
        body = request_body(checkpoint, size, proof_from(size) if 0 < size < checkpoint.size else ())
        answer = post(witness.url + ADD_CHECKPOINT, "text/plain; charset=utf-8", body, ANSWER_BYTES_MAX)
        if answer.status == 200:
            return _cosignature(witness, checkpoint, answer, now)
        told = _told(witness, checkpoint, size, answer)
        size = told.size
    raise WitnessRefused(f"{witness.key.name} said {TRIES_MAX} times that it holds another size. It is asked again.")


def request_body(checkpoint: PublishedCheckpoint, old_size: int, proof: Sequence[bytes]) -> bytes:
    """What is sent to `add-checkpoint`."""
    lines = [f"old {old_size}", *(b64encode(digest).decode() for digest in proof), "", checkpoint.note]
    return "\n".join(lines).encode()


def _told(witness: Witness, checkpoint: PublishedCheckpoint, shown: int, answer: Answer) -> _Told:
    """The size that the witness holds. Raises for every other answer than that."""
    name = witness.key.name
    if answer.status != 409:
        raise WitnessRefused(f"{name} answered {answer.status}. {_MEANINGS.get(answer.status, _UNKNOWN)}")
    said = _SIZE.fullmatch(answer.body) if answer.media_type == SIZE_TYPE else None
    held = int(said[1]) if said else None
    if shown == checkpoint.size and held in (None, shown):
        raise WitnessHoldsMore(f"{name} holds another root of size {shown}: two histories of this log have been told.")
    if held is None or held == shown:
        raise WitnessRefused(f"{name} answered 409 without the size that it holds.")
    if held > checkpoint.size:
        raise WitnessHoldsMore(
            f"{name} cosigned size {held}, which is beyond {checkpoint.size}, the last that was published here."
        )
    return _Told(held)


def _cosignature(witness: Witness, checkpoint: PublishedCheckpoint, answer: Answer, now: datetime) -> Cosignature:
    """The line of the answer that is this witness's, verified; lines of other keys are passed over."""
    key = witness.key
    try:
        text, _ = split_note(checkpoint.note.encode())
        ours = [s for s in signature_lines(answer.body) if (s.name, s.key_id) == (key.name, key.key_id)]
        for signature in ours:
            key.require_signature(text, signature.signature)
    except VerificationRefused as refused:
        raise WitnessRefused(f"{key.name} answered with what is no cosignature: {refused}") from None
    if len(ours) != 1:
        raise WitnessRefused(f"{key.name} did not answer with one cosignature of the key that is configured for it.")
    seconds = cosigned_seconds(ours[0].signature[:TIME_BYTES])
    first, last = min(checkpoint.published_at, now) - APART_MAX, now + APART_MAX
    if not max(1.0, first.timestamp()) <= seconds <= last.timestamp():
        raise WitnessRefused(f"{key.name} cosigned at a time that is not near. One of the two clocks is wrong.")
    line = ours[0].line().decode().removesuffix("\n")
    return Cosignature(str(key), line, datetime.fromtimestamp(seconds, UTC))


_UNKNOWN: Final = "Ask whoever runs it."
_MEANINGS: Final = {
    400: "It does not take the request as it is written.",
    403: "It does not know the key that signs this log: tell it the keys that lethe log keys shows.",
    404: "It does not know the origin of this log: tell it the origin that lethe log status shows.",
    422: "It does not accept the proof that this log continues what it cosigned. Run lethe fsck.",
    429: "It is asked too often.",
}
