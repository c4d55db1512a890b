"""Disclosed keys: what the ledger sealed opens here with its own event key and at its own place only (FAULTS 15, 16).

The sealing side is the ledger's; the opening side is the auditor's, which shares no code with it.
"""

from __future__ import annotations

import os
from dataclasses import astuple, replace
from hashlib import blake2b, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_aes256gcm_decrypt, crypto_aead_aes256gcm_encrypt
from nacl.exceptions import UnavailableError

from audit.verify import envelope as module
from audit.verify.envelope import SealedAt, envelope_kid, open_disclosed, sealed_digest
from audit.verify.errors import CheckUnavailable, EnvelopeRefused
from ledger.sealing import (
    ALGORITHM_AES_256_GCM,
    COMMITMENT_BYTES,
    COMMITTING_PERSON,
    ENVELOPE_VERSION,
    EVENT_PERSON,
    NONCE_BYTES,
    SealedPlace,
    disclosed_key,
    pad,
    seal,
)
from tests.ledger.test_sealing import two_key_ciphertext

SCOPE = bytes(range(32))
KID = bytes(range(16, 32))
PLACE = SealedAt(b"t" * 16, b"s" * 16, b"e" * 16, "identity", "contact.added.v1", "identity", "2026-11", KID)


def of_the_ledger(place: SealedAt) -> SealedPlace:
    """The same place, as the ledger names it."""
    return SealedPlace(*astuple(place))


def sealed(plaintext: bytes, place: SealedAt = PLACE, kid: bytes = KID) -> tuple[bytes, bytes]:
    """An envelope, and the key that a bundle would disclose for it."""
    envelope = seal(SCOPE, plaintext, of_the_ledger(place), kid)
    return envelope, disclosed_key(SCOPE, envelope, of_the_ledger(place))


@given(st.binary(max_size=9000))
def test_what_the_ledger_sealed_opens_with_the_key_it_discloses(plaintext: bytes) -> None:
    """Given any part that the ledger sealed, when its event key is disclosed, then it opens here to the same bytes."""
    envelope, key = sealed(plaintext)
    assert open_disclosed(envelope, key, PLACE) == plaintext
    assert envelope_kid(envelope) == KID
    assert sealed_digest(envelope) == sha256(envelope).hexdigest()


def test_parts_of_message_streams_name_no_kid() -> None:
    """Given a part bound to a link's generation, when it is disclosed, then it opens without a kid in it."""
    place = replace(PLACE, binding=b"\0\0\0\1")
    envelope, key = sealed(b"opened", place, b"")
    assert envelope_kid(envelope) == b""
    assert open_disclosed(envelope, key, place) == b"opened"
    with pytest.raises(EnvelopeRefused):
        open_disclosed(envelope, key, replace(place, binding=b"\0\0\0\2"))


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, tenant=b"u" * 16),
        replace(PLACE, stream=b"r" * 16),
        replace(PLACE, event=b"f" * 16),
        replace(PLACE, part="consent"),
        replace(PLACE, topic="contact.corrected.v1"),
        replace(PLACE, retention_class="consent"),
        replace(PLACE, period="2026-12"),
        replace(PLACE, binding=bytes(16)),
        replace(PLACE, part="identit", topic="ycontact.added.v1"),
        replace(PLACE, topic="x" * 70_000),
    ],
)
def test_a_part_opens_nowhere_else(elsewhere: SealedAt) -> None:
    """Given a part and its key, when any field of the place is another, then it is refused."""
    envelope, key = sealed(b"plain")
    with pytest.raises(EnvelopeRefused):
        open_disclosed(envelope, key, elsewhere)


def test_one_key_opens_one_part() -> None:
    """Given two parts of one person and month, when the key of one is disclosed, then the other stays shut."""
    (one, key), (two, _) = sealed(b"shown"), sealed(b"hidden")
    assert open_disclosed(one, key, PLACE) == b"shown"
    for wrong in (key[:31], key + b"\0", b"", bytes(32), SCOPE):
        with pytest.raises(EnvelopeRefused):
            open_disclosed(one, wrong, PLACE)
    with pytest.raises(EnvelopeRefused, match="not sealed with the key"):
        open_disclosed(two, key, PLACE)


def test_every_flipped_bit_is_refused() -> None:
    """Given an envelope with any one bit flipped, its kid included, when it is opened, then it is refused."""
    envelope, key = sealed(b"plain")
    for position in range(len(envelope) * 8):
        flipped = bytearray(envelope)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(EnvelopeRefused):
            open_disclosed(bytes(flipped), key, PLACE)


def test_cut_and_foreign_envelopes_are_refused() -> None:
    """Given an envelope cut anywhere, lengthened, or of the first version, when it is opened, then it is refused."""
    envelope, key = sealed(b"plain")
    for end in range(len(envelope)):
        with pytest.raises(EnvelopeRefused):
            open_disclosed(envelope[:end], key, PLACE)
    with pytest.raises(EnvelopeRefused):
        open_disclosed(envelope + b"\0", key, PLACE)
    with pytest.raises(EnvelopeRefused, match="no single key can be disclosed"):
        open_disclosed(b"\1" + envelope[1:], key, PLACE)


def test_a_ciphertext_that_opens_under_two_keys_opens_for_one_disclosed_key_only() -> None:
    """Given one ciphertext that GCM opens under two event keys, when either is disclosed, then one is refused.

    A house that prepared such a ciphertext could otherwise show one auditor one text and another auditor another.
    """
    nonce, authenticated = os.urandom(NONCE_BYTES), PLACE.authenticated()
    keys = [
        blake2b(nonce, key=scope, salt=PLACE.event, digest_size=32, person=EVENT_PERSON).digest()
        for scope in (SCOPE, bytes(32))
    ]
    both = [blake2b(nonce + authenticated, key=key, person=COMMITTING_PERSON).digest() for key in keys]
    ciphertext = two_key_ciphertext(both[0][:32], both[1][:32], nonce, authenticated)
    texts = [crypto_aead_aes256gcm_decrypt(ciphertext, authenticated, nonce, pair[:32]) for pair in both]
    assert texts[0] != texts[1], "The control failed: GCM did not open it under both keys."
    header = bytes((ENVELOPE_VERSION, ALGORITHM_AES_256_GCM, len(KID))) + KID
    for committed in (0, 1):
        envelope = header + both[committed][32:] + nonce + ciphertext
        with pytest.raises(EnvelopeRefused, match="not sealed with the key"):
            open_disclosed(envelope, keys[1 - committed], PLACE)


def test_a_house_cannot_commit_to_one_key_and_disclose_another() -> None:
    """Given an envelope whose commitment was exchanged for that of another key, when opened with it, it is refused."""
    envelope, _ = sealed(b"plain")
    commitment_at, nonce_at = 3 + len(KID), 3 + len(KID) + COMMITMENT_BYTES
    nonce, other = envelope[nonce_at : nonce_at + NONCE_BYTES], bytes(32)
    forged = blake2b(nonce + PLACE.authenticated(), key=other, person=COMMITTING_PERSON).digest()[32:]
    with pytest.raises(EnvelopeRefused, match="changed after"):
        open_disclosed(envelope[:commitment_at] + forged + envelope[nonce_at:], other, PLACE)


def test_what_is_not_padded_is_refused() -> None:
    """Given a plaintext sealed without padding, when it is opened, then it is refused, and padded it is not."""
    nonce, key, authenticated = bytes(NONCE_BYTES), bytes(range(32)), PLACE.authenticated()
    both = blake2b(nonce + authenticated, key=key, person=COMMITTING_PERSON).digest()
    head = bytes((ENVELOPE_VERSION, ALGORITHM_AES_256_GCM, len(KID))) + KID + both[32:] + nonce
    for plaintext in (b"", b"no padding", b"\x80padding in front"):
        ciphertext = crypto_aead_aes256gcm_encrypt(plaintext, authenticated, nonce, both[:32])
        with pytest.raises(EnvelopeRefused, match="padded"):
            open_disclosed(head + ciphertext, key, PLACE)
    ciphertext = crypto_aead_aes256gcm_encrypt(pad(b"padded"), authenticated, nonce, both[:32])
    assert open_disclosed(head + ciphertext, key, PLACE) == b"padded"


def test_the_commitment_is_compared_before_anything_is_decrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a wrong key, when a part is opened, then the cipher is never reached."""
    envelope, _ = sealed(b"plain")

    def reached(*_: object) -> bytes:
        raise AssertionError("the cipher was reached")

    monkeypatch.setattr(module, "crypto_aead_aes256gcm_decrypt", reached)
    with pytest.raises(EnvelopeRefused):
        open_disclosed(envelope, bytes(32), PLACE)


def test_a_machine_without_aes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a processor without AES, when a part is opened, then it is told apart from a lie, and not believed."""

    def unavailable(*_: object) -> bytes:
        raise UnavailableError("no AES")

    envelope, key = sealed(b"plain")
    monkeypatch.setattr(module, "crypto_aead_aes256gcm_decrypt", unavailable)
    with pytest.raises(CheckUnavailable, match="AES"):
        open_disclosed(envelope, key, PLACE)
