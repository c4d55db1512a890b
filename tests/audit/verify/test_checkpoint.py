"""Checkpoints and cosignatures: three lines of one log, signed by its own key and by enough witnesses (FAULTS 20)."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime

import pytest

from audit.verify.checkpoint import Checkpoint, Cosigned, open_checkpoint, parse_size
from audit.verify.errors import CheckpointRefused, CosignatureRefused, NoteMalformed, SignatureRefused
from audit.verify.merkle import EMPTY_ROOT
from audit.verify.note import COSIGNATURE, Signature, compose_note
from tests.verifiers.folder import cosigned_by, signed_by, verifier_key

ORIGIN = "log.example/one"
ROOT = bytes(range(32))
CHECKPOINT = Checkpoint(ORIGIN, 12, ROOT)
BODY = CHECKPOINT.body()
KEY = verifier_key(ORIGIN)
SECONDS = 1_790_000_000
WITNESSES = [verifier_key(f"witness.example/{number}", COSIGNATURE) for number in range(3)]
ENCODED = b64encode(ROOT).decode()


def note(body: bytes = BODY, name: str = ORIGIN, cosigners: int = 0) -> bytes:
    """A checkpoint's note, signed by the key of a name and cosigned by some of the witnesses."""
    cosigned = [cosigned_by(body, witness.name, SECONDS) for witness in WITNESSES[:cosigners]]
    return compose_note(body, [signed_by(body, name), *cosigned])


def test_a_checkpoint_is_three_lines() -> None:
    """Given a checkpoint, when it is written and read, then it is the same, byte by byte."""
    assert BODY.decode() == f"{ORIGIN}\n12\n{ENCODED}\n"
    assert Checkpoint.parse(BODY) == CHECKPOINT
    assert open_checkpoint(note(), [KEY], origin=ORIGIN).checkpoint == CHECKPOINT


def test_the_example_of_the_specification_is_a_checkpoint() -> None:
    """Given the text that C2SP tlog-checkpoint shows, when it is read, then origin and size are those there."""
    text = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    parsed = Checkpoint.parse(text)
    assert (parsed.origin, parsed.size, parsed.body()) == ("example.com/behind-the-sofa", 20852163, text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        f"{ORIGIN}\n12\n".encode(),
        f"{ORIGIN}\n12\n{ENCODED}".encode(),
        f"{ORIGIN}\n12\n{ENCODED}\nextension\n".encode(),
        f"{ORIGIN}\n12\n{ENCODED}\n\n".encode(),
        f"\n12\n{ENCODED}\n".encode(),
        f"log example\n12\n{ENCODED}\n".encode(),
        f"log+example\n12\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n012\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n00\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n+12\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n-12\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n 12\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n12 \n{ENCODED}\n".encode(),
        f"{ORIGIN}\n1_2\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n0x12\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n١٢\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n{2**63}\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n{'9' * 5000}\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n\n{ENCODED}\n".encode(),
        f"{ORIGIN}\n12\n\n".encode(),
        f"{ORIGIN}\n12\n{ENCODED[:-1]}\n".encode(),
        f"{ORIGIN}\n12\n {ENCODED}\n".encode(),
        f"{ORIGIN}\n12\n{b64encode(ROOT[:31]).decode()}\n".encode(),
        f"{ORIGIN}\n12\n{b64encode(ROOT + ROOT).decode()}\n".encode(),
        f"{ORIGIN}\n0\n{ENCODED}\n".encode(),
        b"\xff" + BODY,
    ],
)
def test_anything_else_is_no_checkpoint(body: bytes) -> None:
    """Given a text that is almost a checkpoint, when it is read, then it is refused, however well it is signed."""
    with pytest.raises(CheckpointRefused):
        Checkpoint.parse(body)
    if body.endswith(b"\n") and not body.startswith(b"\xff"):
        with pytest.raises(CheckpointRefused):
            open_checkpoint(note(body), [KEY])


def test_the_empty_log_has_one_root() -> None:
    """Given size 0, when it comes with the empty tree's root, then it is a checkpoint."""
    assert Checkpoint.parse(Checkpoint(ORIGIN, 0, EMPTY_ROOT).body()).size == 0
    assert parse_size("0") == 0
    assert parse_size(str(2**63 - 1)) == 2**63 - 1


def test_a_checkpoint_of_another_log_is_refused() -> None:
    """Given a good checkpoint of one log, when that of another was asked for, then it is refused."""
    with pytest.raises(CheckpointRefused, match="was asked for"):
        open_checkpoint(note(), [KEY], origin="log.example/two")


def test_a_log_signs_under_its_own_name() -> None:
    """Given a trusted key of another log, when it signs a checkpoint of this one, then that proves nothing."""
    with pytest.raises(CheckpointRefused, match="No key of"):
        open_checkpoint(note(name="log.example/two"), [KEY, verifier_key("log.example/two")])
    both = compose_note(BODY, [signed_by(BODY, "log.example/two"), signed_by(BODY, ORIGIN)])
    opened = open_checkpoint(both, [KEY, verifier_key("log.example/two")])
    assert opened.signers == (KEY,)


def test_a_foreign_key_is_refused() -> None:
    """Given a checkpoint that a stranger signed in the log's name, when it is opened, then it is refused."""
    forged = compose_note(BODY, [signed_by(BODY, ORIGIN, word="stranger")])
    with pytest.raises(SignatureRefused):
        open_checkpoint(forged, [KEY])


def test_two_living_keys_of_one_log_both_sign() -> None:
    """Given a rotation, when both keys sign, then whoever trusts either can check, and both are named to both."""
    second = verifier_key(ORIGIN, word="second key")
    rotated = compose_note(BODY, [signed_by(BODY, ORIGIN), signed_by(BODY, ORIGIN, word="second key")])
    assert open_checkpoint(rotated, [KEY]).signers == (KEY,)
    assert open_checkpoint(rotated, [second]).signers == (second,)
    assert set(open_checkpoint(rotated, [KEY, second]).signers) == {KEY, second}


def test_as_many_witnesses_as_are_needed() -> None:
    """Given cosignatures, when they are counted, then too few are refused, and enough are told with their times."""
    opened = open_checkpoint(note(cosigners=2), [KEY], witnesses=WITNESSES, witnesses_needed=2)
    assert opened.cosigned == tuple(Cosigned(key, datetime.fromtimestamp(SECONDS, UTC)) for key in WITNESSES[:2])
    with pytest.raises(CosignatureRefused, match="3 are needed"):
        open_checkpoint(note(cosigners=2), [KEY], witnesses=WITNESSES, witnesses_needed=3)
    with pytest.raises(CosignatureRefused, match="0 of the witnesses"):
        open_checkpoint(note(cosigners=2), [KEY], witnesses=WITNESSES[2:], witnesses_needed=1)


def test_one_key_under_two_names_is_one_witness() -> None:
    """Given a witness's key trusted under two names, when both cosign, then they count as one."""
    alias = verifier_key("alias.example", COSIGNATURE, word=WITNESSES[0].name)
    cosigned = cosigned_by(BODY, WITNESSES[0].name, SECONDS)
    lines = [signed_by(BODY, ORIGIN), cosigned, Signature(alias.name, alias.key_id, cosigned.signature)]
    with pytest.raises(CosignatureRefused):
        open_checkpoint(compose_note(BODY, lines), [KEY], witnesses=[WITNESSES[0], alias], witnesses_needed=2)


def test_the_log_is_no_witness_of_itself() -> None:
    """Given a witness that has the key of the log itself, when it cosigned, then it does not count as one."""
    own = verifier_key("witness.example/own", COSIGNATURE, word=ORIGIN)
    assert own.public_key == KEY.public_key
    lines = [signed_by(BODY, ORIGIN), cosigned_by(BODY, own.name, SECONDS, word=ORIGIN)]
    with pytest.raises(CosignatureRefused, match="0 of the witnesses"):
        open_checkpoint(compose_note(BODY, lines), [KEY], witnesses=[own, *WITNESSES], witnesses_needed=1)


def test_a_bad_cosignature_refuses_the_checkpoint() -> None:
    """Given one cosignature over another checkpoint, when opened by somebody who knows the witness, it is refused."""
    other = cosigned_by(Checkpoint(ORIGIN, 13, ROOT).body(), WITNESSES[0].name, SECONDS)
    with pytest.raises(SignatureRefused, match=r"witness\.example/0"):
        open_checkpoint(compose_note(BODY, [signed_by(BODY, ORIGIN), other]), [KEY], witnesses=WITNESSES)


def test_witnesses_alone_are_not_the_log() -> None:
    """Given a checkpoint that witnesses cosigned and the log never signed, when it is opened, then it is refused."""
    cosigned = compose_note(BODY, [cosigned_by(BODY, witness.name, SECONDS) for witness in WITNESSES])
    with pytest.raises(CheckpointRefused, match="No key of"):
        open_checkpoint(cosigned, [KEY], witnesses=WITNESSES, witnesses_needed=3)


def test_keys_are_used_for_what_they_are_for() -> None:
    """Given a witness's key as the log's, or the reverse, when a checkpoint is opened, then that is refused."""
    with pytest.raises(NoteMalformed, match="type"):
        open_checkpoint(note(), [*WITNESSES, KEY])
    with pytest.raises(NoteMalformed, match="type"):
        open_checkpoint(note(), [KEY], witnesses=[KEY])


def test_a_time_that_no_calendar_has_is_refused() -> None:
    """Given a witness that cosigned in the year of no calendar, when opened, then it is refused and nothing breaks."""
    late = compose_note(BODY, [signed_by(BODY, ORIGIN), cosigned_by(BODY, WITNESSES[0].name, 2**63 - 1)])
    with pytest.raises(CosignatureRefused, match="calendar"):
        open_checkpoint(late, [KEY], witnesses=WITNESSES)
