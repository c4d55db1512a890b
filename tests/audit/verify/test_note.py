"""Signed notes: only what C2SP signed-note writes is read, and only what a known key signed is believed (FAULTS 20)."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest

from audit.verify.cosignature import cosigned_seconds
from audit.verify.errors import NoteMalformed, SignatureRefused
from audit.verify.note import (
    COSIGNATURE,
    KEY_NAME_BYTES_MAX,
    NOTE_BYTES_MAX,
    SIGNATURES_MAX,
    Note,
    Signature,
    VerifierKey,
    compose_note,
    open_note,
    signature_lines,
    split_note,
)
from tests.verifiers.folder import cosigned_by, signed_by, signing_key, verifier_key

NAME = "log.example/one"
TEXT = b"first line\n\nthird line, \xc3\xa9\n"
KEY = verifier_key(NAME)
LINE = signed_by(TEXT, NAME)
GOOD = compose_note(TEXT, [LINE])

GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()


def test_a_note_of_others_opens() -> None:
    """Given the note in the documentation of Go's note package, when it is opened with the key there, it opens."""
    note = open_note(GO_NOTE, [VerifierKey.parse(GO_KEY)])
    assert note.text.endswith(b"what your problem is.\n")
    assert [signed.key.name for signed in note.signed] == ["PeterNeumann"]
    assert str(VerifierKey.parse(GO_KEY)) == GO_KEY


def test_a_signed_note_opens_and_says_who_signed() -> None:
    """Given a note by a known and an unknown key, when it is opened, then text and signers come out, apart."""
    stranger = signed_by(TEXT, "stranger.example")
    note = open_note(compose_note(TEXT, [stranger, LINE]), [KEY])
    assert (note.text, [signed.key for signed in note.signed], note.unknown) == (TEXT, [KEY], (stranger,))
    assert note.signed[0].seconds is None


def test_an_unknown_line_is_passed_over_whatever_it_signs() -> None:
    """Given lines that share a name or an id with a known key, but not both, when opened, then they are unknown."""
    same_name = Signature(NAME, b"\0\1\2\3", bytes(64))
    same_id = Signature("other.example", KEY.key_id, bytes(64))
    long = Signature("post.quantum", b"\0\0\0\6", bytes(2428))
    note = open_note(compose_note(TEXT, [same_name, LINE, same_id, long]), [KEY])
    assert note.unknown == (same_name, same_id, long)


@pytest.mark.parametrize("count", [16, SIGNATURES_MAX - 1])
def test_many_signatures_are_read(count: int) -> None:
    """Given as many cosigners as a log may have, when a note is opened, then it opens."""
    others = [Signature(f"witness.example/{number}", b"wwww", bytes(2428)) for number in range(count)]
    assert len(open_note(compose_note(TEXT, [*others, LINE]), [KEY]).unknown) == count


def test_a_text_may_hold_what_looks_like_a_signature() -> None:
    """Given a text with an empty line and a line of signature in it, when opened, then the last empty line divides."""
    text = GOOD + b"more\n"
    note = open_note(compose_note(text, [signed_by(text, NAME)]), [KEY])
    assert note.text == text


def test_a_witness_signs_with_a_time() -> None:
    """Given a cosignature, when the note is opened with the witness's key, then its time comes out."""
    cosigned = cosigned_by(TEXT, "witness.example", 1_790_000_000)
    note = open_note(compose_note(TEXT, [cosigned]), [verifier_key("witness.example", COSIGNATURE)])
    assert [signed.seconds for signed in note.signed] == [1_790_000_000]


def changed(position: int) -> bytes:
    """The good note with one byte of its text changed."""
    return GOOD[:position] + bytes((GOOD[position] ^ 1,)) + GOOD[position + 1 :]


@pytest.mark.parametrize("position", [0, 5, len(TEXT) - 4])
def test_a_changed_text_is_refused(position: int) -> None:
    """Given a note of which a letter changed, when it is opened, then the known key's signature refuses it."""
    with pytest.raises(SignatureRefused, match="does not fit"):
        open_note(changed(position), [KEY])


def test_every_flipped_bit_of_a_note_is_refused() -> None:
    """Given a note with any one bit flipped, when it is opened, then it is refused."""
    for position in range(len(GOOD) * 8):
        flipped = bytearray(GOOD)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises((NoteMalformed, SignatureRefused)):
            open_note(bytes(flipped), [KEY])


def test_a_note_that_no_known_key_signed_is_refused() -> None:
    """Given a valid signature of a stranger, of the same name even, when opened, then it is nobody's."""
    impostor = signed_by(TEXT, NAME, word="another key")
    for lines in ([impostor], [signed_by(TEXT, "stranger.example")]):
        with pytest.raises(SignatureRefused, match="None of the keys"):
            open_note(compose_note(TEXT, lines), [KEY])
    with pytest.raises(SignatureRefused, match="None of the keys"):
        open_note(GOOD, [])


def test_one_bad_signature_of_a_known_key_refuses_the_whole_note() -> None:
    """Given two known keys, when one signature is good and the other is not, then nothing is believed."""
    second = verifier_key("log.example/two")
    bad = Signature(second.name, second.key_id, signed_by(b"another text\n", second.name).signature)
    short = Signature(second.name, second.key_id, bytes(63))
    for line in (bad, short):
        with pytest.raises(SignatureRefused, match=r"log\.example/two"):
            open_note(compose_note(TEXT, [LINE, line]), [KEY, second])


def test_one_key_signs_once() -> None:
    """Given the same line twice, when the note is opened, then it is refused."""
    with pytest.raises(SignatureRefused, match="twice"):
        open_note(compose_note(TEXT, [LINE, LINE]), [KEY])


def test_a_log_signature_is_no_cosignature_and_the_reverse() -> None:
    """Given one Ed25519 key in both roles, when a signature of one is shown as the other, then it is refused."""
    as_witness = verifier_key(NAME, COSIGNATURE)
    with pytest.raises(SignatureRefused):
        open_note(compose_note(TEXT, [Signature(NAME, as_witness.key_id, bytes(8) + LINE.signature)]), [as_witness])
    cosigned = cosigned_by(TEXT, NAME, 7)
    with pytest.raises(SignatureRefused):
        open_note(compose_note(TEXT, [Signature(NAME, KEY.key_id, cosigned.signature[8:])]), [KEY])


def test_the_time_of_a_cosignature_is_signed() -> None:
    """Given a cosignature, when its time is another, or none at all, then it is refused."""
    witness = verifier_key("witness.example", COSIGNATURE)
    cosigned = cosigned_by(TEXT, witness.name, 1_790_000_000)
    for time in ((1_790_000_001).to_bytes(8, "big"), b"\xff" * 8, b""):
        forged = Signature(witness.name, witness.key_id, time + cosigned.signature[8:])
        with pytest.raises(SignatureRefused):
            open_note(compose_note(TEXT, [forged]), [witness])


SIGNATURE_LINE = LINE.line().decode()
ENCODED = SIGNATURE_LINE.split(" ")[2].rstrip("\n")


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"\n",
        TEXT,
        TEXT + b"\n",
        LINE.line(),
        GOOD.removesuffix(b"\n"),
        GOOD + b"\n",
        GOOD + b"no signature\n",
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"\n", b"\r"),
        GOOD.replace(b"first", b"fir\tst"),
        GOOD.replace(b"first", b"fir\0st"),
        GOOD.replace(b"first", b"fir\x1bst"),
        GOOD.replace(b"first", b"fir\xffst"),
        GOOD.replace(b"first", b"fir\xed\xa0\x80st"),
        b"\xef\xbb\xbf"[:2] + GOOD,
        GOOD.replace("— ".encode(), b"- "),
        GOOD.replace("— ".encode(), "—".encode()),
        GOOD.replace("— ".encode(), " — ".encode()),
        GOOD.replace("— ".encode(), "—  ".encode()),
        GOOD.replace(NAME.encode(), b""),
        GOOD.replace(NAME.encode(), b"log+one"),
        GOOD.replace(NAME.encode(), "log\u00a0one".encode()),
        GOOD.replace(NAME.encode(), "log\u2028one".encode()),
        GOOD.replace(NAME.encode(), b"n" * (KEY_NAME_BYTES_MAX + 1)),
        TEXT + f"\n— {NAME}\n".encode(),
        TEXT + f"\n— {NAME} \n".encode(),
        TEXT + f"\n— {NAME} {b64encode(KEY.key_id).decode()}\n".encode(),
        TEXT + f"\n— {NAME} {ENCODED} \n".encode(),
        TEXT + f"\n— {NAME} {ENCODED}=\n".encode(),
        TEXT + f"\n— {NAME} {ENCODED[:-1]}\n".encode(),
        TEXT + f"\n— {NAME} {ENCODED.replace('/', '_').replace('+', '-')}!\n".encode(),
        TEXT + f"\n— {NAME} {ENCODED[:20]} {ENCODED[20:]}\n".encode(),
        compose_note(TEXT, [LINE] * (SIGNATURES_MAX + 1)),
        b"x" * NOTE_BYTES_MAX + GOOD,
    ],
)
def test_malformed_notes_are_refused(malformed: bytes) -> None:
    """Given bytes that are almost a note, when they are opened, then they are refused as malformed."""
    with pytest.raises(NoteMalformed):
        open_note(malformed, [KEY])


@pytest.mark.parametrize("letter", [letter for letter in range(0x20) if letter != 0x0A])
def test_no_control_character_but_the_newline(letter: int) -> None:
    """Given a text with a control character that is signed as it should be, when it is opened, then it is refused."""
    text = b"first" + bytes((letter,)) + b"line\n"
    with pytest.raises(NoteMalformed, match="control"):
        open_note(compose_note(text, [signed_by(text, NAME)]), [KEY])


def test_no_part_of_a_text_can_hide_in_its_signature() -> None:
    """Given a true signature with the beginning of its text behind it, when the rest is shown as the text, refused."""
    hidden, shown = b"I do not say that\n", b"this is so\n"
    long = Signature(NAME, KEY.key_id, signed_by(hidden + shown, NAME).signature + hidden)
    with pytest.raises(SignatureRefused, match="length"):
        open_note(compose_note(shown, [long]), [KEY])


def test_a_time_beyond_63_bits_is_refused() -> None:
    """Given a cosignature that is true but for a time that no verifier holds, when it is opened, then it is refused."""
    witness, time = verifier_key("witness.example", COSIGNATURE), (2**63).to_bytes(8, "big")
    signature = signing_key(witness.name).sign(b"cosignature/v1\ntime %d\n" % 2**63 + TEXT).signature
    with pytest.raises(SignatureRefused, match="time"):
        open_note(compose_note(TEXT, [Signature(witness.name, witness.key_id, time + signature)]), [witness])
    for wrong in (b"", bytes(7), bytes(9)):
        with pytest.raises(SignatureRefused, match="time"):
            cosigned_seconds(wrong)


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 255])
def test_keys_of_other_types_are_refused(kind: int) -> None:
    """Given a key of a type that is not known here, however well it is written, when it is read, then it is refused."""
    encoded = bytes((kind,)) + KEY.public_key
    key_id = sha256(NAME.encode() + b"\n" + encoded).hexdigest()[:8]
    with pytest.raises(NoteMalformed, match="type"):
        VerifierKey.parse(f"{NAME}+{key_id}+{b64encode(encoded).decode()}")


def test_base64_has_one_spelling() -> None:
    """Given a signature whose last letter has other unused bits, when opened, then it is refused as malformed."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    encoded = b64encode(bytes(68)).decode()  # The last letter of 68 bytes has two bits that say nothing.
    respelt = encoded[:-2] + letters[letters.index(encoded[-2]) + 1] + "="
    with pytest.raises(NoteMalformed, match="spelt"):
        open_note(TEXT + f"\n— {NAME} {respelt}\n".encode(), [KEY])


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        NAME,
        f"{NAME}+{KEY.key_id.hex()}",
        f"{NAME}+{KEY.key_id.hex()}+",
        f"{NAME}+{KEY.key_id.hex()}+AQ==",
        str(KEY) + "=",
        str(KEY) + " ",
        " " + str(KEY),
        str(KEY) + "\n\n",
        str(KEY).replace(KEY.key_id.hex(), KEY.key_id.hex().upper() if KEY.key_id.hex().islower() else "zzzzzzzz"),
        str(KEY).replace(KEY.key_id.hex(), "00000000"),
        str(KEY).replace(NAME, "log.example/two"),
        str(KEY).replace(NAME, ""),
        str(KEY).replace(NAME, "log example"),
        f"{NAME}+{KEY.key_id.hex()}+{b64encode(bytes((2,)) + KEY.public_key).decode()}",
        f"{NAME}+{KEY.key_id.hex()}+{b64encode(bytes((1,)) + KEY.public_key[:31]).decode()}",
        f"{NAME}+{KEY.key_id.hex()}+{b64encode(bytes((1,)) + KEY.public_key + bytes(1)).decode()}",
    ],
)
def test_malformed_keys_are_refused(malformed: str) -> None:
    """Given a text that is almost a verifier key, when it is read, then it is refused."""
    with pytest.raises(NoteMalformed):
        VerifierKey.parse(malformed)


def test_a_key_survives_its_text_form() -> None:
    """Given keys of both types, when they are written and read, then they are the same; one newline is allowed."""
    for kind in (1, COSIGNATURE):
        key = verifier_key(NAME, kind)
        assert VerifierKey.parse(str(key)) == VerifierKey.parse(f"{key}\n") == key


def test_keys_that_cannot_be_told_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two trusted keys of one name and id, when a note is opened with them, then that is refused."""
    monkeypatch.setattr(VerifierKey, "key_id", b"same")
    with pytest.raises(NoteMalformed, match="share one id"):
        open_note(GOOD, [KEY, verifier_key(NAME, word="another")])


def test_splitting_a_note_believes_nothing() -> None:
    """Given a note of a stranger, when it is split, then text and lines come back, and lines alone can be read too."""
    text, lines = split_note(GOOD)
    assert (text, lines) == (TEXT, [LINE])
    assert signature_lines(LINE.line() * 2) == [LINE, LINE]
    assert open_note(compose_note(text, lines), [KEY]) == Note(TEXT, open_note(GOOD, [KEY]).signed, ())
    for bad in (b"", b"\n", LINE.line()[:-1], LINE.line() + b"\n", b"\xff\n"):
        with pytest.raises(NoteMalformed):
            signature_lines(bad)
