"""Proofs of single entries: one text, these bytes at this index of this log, or a refusal (FAULTS 20)."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace

import pytest

from audit.verify.errors import (
    CheckpointRefused,
    CosignatureRefused,
    NoteMalformed,
    ProofRefused,
    SignatureRefused,
    VerificationRefused,
)
from audit.verify.note import COSIGNATURE, compose_note, split_note
from audit.verify.tiles import Tiles
from audit.verify.tlog_proof import EXTRA_BYTES_MAX, PROOF_BYTES_MAX, TlogProof
from tests.verifiers.folder import cosigned_by, log_of, verifier_key

LOG = log_of(300)
INDEX = 123
PROOF = TlogProof(INDEX, tuple(Tiles(LOG.read).inclusion_path(INDEX, LOG.size)), LOG.checkpoint(LOG.size))
GOOD = PROOF.format()


def test_a_proof_survives_its_text_form_and_verifies() -> None:
    """Given a proof, when it is written and read, then it is the same, and proves the entry at its index."""
    assert TlogProof.parse(GOOD) == PROOF
    assert TlogProof.parse(GOOD).format() == GOOD
    opened = PROOF.require_logged(LOG.entries[INDEX], [LOG.key], origin=LOG.origin)
    assert opened.checkpoint.size == LOG.size


def test_the_text_is_that_of_the_specification() -> None:
    """Given a proof, when its lines are read, then they are header, index, one hash a line, and the checkpoint."""
    lines = GOOD.split(b"\n")
    assert lines[:2] == [b"c2sp.org/tlog-proof@v1", b"index 123"]
    assert lines[2 : 2 + len(PROOF.path)] == [b64encode(digest) for digest in PROOF.path]
    assert GOOD.endswith(b"\n\n" + PROOF.checkpoint)


def test_a_log_of_one_entry_needs_no_path() -> None:
    """Given the only entry of a log, when it is proven, then the proof has no hash and verifies."""
    only = log_of(1)
    proof = TlogProof.parse(TlogProof(0, (), only.checkpoint(1)).format())
    proof.require_logged(only.entries[0], [only.key])


def test_extra_data_is_carried_and_vouched_for_by_nothing() -> None:
    """Given a proof with extra data, when it is read, then the data come out; the proof is as good without them."""
    with_extra = replace(PROOF, extra=b"about it")
    read = TlogProof.parse(with_extra.format())
    assert read.extra == b"about it"
    read.require_logged(LOG.entries[INDEX], [LOG.key])
    assert TlogProof.parse(replace(PROOF, extra=b"").format()).extra == b""


def test_another_entry_or_index_is_refused() -> None:
    """Given a good proof, when entry, index or a hash is another, then it is refused."""
    wrong = [
        (PROOF, LOG.entries[INDEX] + b" "),
        (PROOF, LOG.entries[INDEX + 1]),
        (replace(PROOF, index=INDEX + 1), LOG.entries[INDEX]),
        (replace(PROOF, index=LOG.size), LOG.entries[INDEX]),
        (replace(PROOF, path=PROOF.path[:-1]), LOG.entries[INDEX]),
        (replace(PROOF, path=(*PROOF.path, bytes(32))), LOG.entries[INDEX]),
        (replace(PROOF, path=PROOF.path[::-1]), LOG.entries[INDEX]),
        (replace(PROOF, checkpoint=LOG.checkpoint(299)), LOG.entries[INDEX]),
    ]
    for proof, entry in wrong:
        with pytest.raises(ProofRefused):
            proof.require_logged(entry, [LOG.key])


def test_the_checkpoint_in_a_proof_is_verified() -> None:
    """Given a proof, when key, origin or number of witnesses is not what is trusted, then it is refused."""
    entry = LOG.entries[INDEX]
    with pytest.raises(SignatureRefused):
        PROOF.require_logged(entry, [verifier_key(LOG.origin, word="stranger")])
    with pytest.raises(CheckpointRefused):
        PROOF.require_logged(entry, [LOG.key], origin="log.example/other")
    witness = verifier_key("witness.example", COSIGNATURE)
    with pytest.raises(CosignatureRefused):
        PROOF.require_logged(entry, [LOG.key], witnesses=[witness], witnesses_needed=1)
    body, lines = split_note(PROOF.checkpoint)
    cosigned = compose_note(body, [*lines, cosigned_by(body, witness.name, 7)])
    replace(PROOF, checkpoint=cosigned).require_logged(entry, [LOG.key], witnesses=[witness], witnesses_needed=1)


def test_every_changed_byte_of_a_proof_is_refused() -> None:
    """Given a proof with any one byte changed, when it is read and verified, then it is refused."""
    for position in range(len(GOOD)):
        changed = GOOD[:position] + bytes((GOOD[position] ^ 1,)) + GOOD[position + 1 :]
        with pytest.raises(VerificationRefused):
            TlogProof.parse(changed).require_logged(LOG.entries[INDEX], [LOG.key])


HASH = b64encode(bytes(32))


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\n\n",
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"index 123", b"index 0123"),
        GOOD.replace(b"index 123", b"index -1"),
        GOOD.replace(b"index 123", b"index  123"),
        GOOD.replace(b"index 123", b"Index 123"),
        GOOD.replace(b"index 123\n", b""),
        GOOD.replace(b"index 123", b"index 123\nextra AA=="),
        GOOD.replace(b"index 123", b"extra AA==\nextra AA==\nindex 123"),
        GOOD.replace(b"index 123", b"extra AB==\nindex 123"),
        GOOD.replace(b"index 123", b"extra " + b64encode(bytes(EXTRA_BYTES_MAX + 1)) + b"\nindex 123"),
        GOOD.replace(b"index 123", b"index 123\n" + b64encode(bytes(31))),
        GOOD.replace(b"index 123", b"index 123\n" + HASH + b" "),
        GOOD.replace(b"index 123", b"index 123" + (b"\n" + HASH) * 64),
        GOOD.replace(b"index 123", "index 123\n\u00e9".encode()),
        GOOD.split(b"\n\n", maxsplit=1)[0],
    ],
)
def test_malformed_proofs_are_refused(malformed: bytes) -> None:
    """Given a text that is almost a proof, when it is read, then it is refused."""
    with pytest.raises(ProofRefused):
        TlogProof.parse(malformed)


def test_a_proof_without_end_is_not_read() -> None:
    """Given more bytes than any proof has, when they are read, then they are refused for their number."""
    with pytest.raises(ProofRefused, match="at most"):
        TlogProof.parse(GOOD + bytes(PROOF_BYTES_MAX))


def test_what_stands_behind_the_checkpoint_is_refused() -> None:
    """Given a proof with something after its checkpoint, when it is verified, then it is refused."""
    for behind in (b"more\n", b"\n", b"\n\xff"):
        with pytest.raises((NoteMalformed, SignatureRefused)):
            TlogProof.parse(GOOD + behind).require_logged(LOG.entries[INDEX], [LOG.key])
