"""Sealed bytes open at their place, under their keys, unchanged, or not at all (FAULTS 12, 15, 16, 17; I6)."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import blake2b, sha256
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_aes256gcm_decrypt, crypto_aead_aes256gcm_encrypt

from domain.facts import Fact
from domain.ids import month_of
from domain.personal import Erased, Identity, Personal
from domain.subject import ContactAdded
from ledger import sealing
from ledger.application import Ledger
from ledger.entry import canonical, pack_sealed, unpack_sealed
from ledger.errors import KeyMissing, NotDisclosable, SettingsRefused, TamperError
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.mapper import LedgerEvent
from ledger.sealing import (
    COMMITMENT_BYTES,
    COMMITTING_PERSON,
    EVENT_PERSON,
    NONCE_BYTES,
    PADDING_BUCKETS,
    SealedPlace,
    aead_open,
    aead_seal,
    disclosed_key,
    envelope_kid,
    open_box,
    open_envelope,
    pad,
    scope_key,
    seal,
    seal_box,
    unpad,
)
from retention.erasure.erasing import finish_erasures
from tests.acts import add, person

SCOPE = bytes(range(32))
KID = bytes(range(16, 32))
PLACE = SealedPlace(b"t" * 16, b"s" * 16, b"e" * 16, "identity", "contact.added.v1", "identity", "2026-11", KID)
HEADER = 3 + len(KID)


def event_key(scope: bytes, nonce: bytes, place: SealedPlace = PLACE) -> bytes:
    """The key of one part, written a second time."""
    return blake2b(nonce, key=scope, salt=place.event, digest_size=32, person=EVENT_PERSON).digest()


def both_keys(scope: bytes, nonce: bytes, place: SealedPlace = PLACE) -> bytes:
    """K_enc and K_com, 32 bytes each."""
    return blake2b(nonce + place.aad(), key=event_key(scope, nonce, place), person=COMMITTING_PERSON).digest()


def test_what_was_sealed_opens_at_its_place() -> None:
    """Given an envelope, when it is opened where it stands, then the plaintext comes back and the kid is named."""
    envelope = seal(SCOPE, b"plain", PLACE, KID)
    assert open_envelope(SCOPE, envelope, PLACE) == b"plain"
    assert envelope_kid(envelope) == KID
    assert b"plain" not in envelope


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
    ],
)
def test_an_envelope_opens_nowhere_else(elsewhere: SealedPlace) -> None:
    """Given an envelope, when any one field of its place differs, then it is a TamperError."""
    with pytest.raises(TamperError):
        open_envelope(SCOPE, seal(SCOPE, b"plain", PLACE, KID), elsewhere)


def test_an_envelope_opens_under_no_other_key() -> None:
    """Neither another person's key nor another period's gives K."""
    envelope = seal(scope_key(b"S" * 32, b"P" * 32), b"plain", PLACE, KID)
    for scope in (scope_key(b"s" * 32, b"P" * 32), scope_key(b"S" * 32, b"p" * 32), scope_key(b"P" * 32, b"S" * 32)):
        with pytest.raises(TamperError):
            open_envelope(scope, envelope, PLACE)


def test_any_flipped_bit_is_found() -> None:
    """Given an envelope, when any single bit of it is flipped, then opening raises TamperError."""
    envelope = seal(SCOPE, b"plain", PLACE, KID)
    for position in range(len(envelope) * 8):
        if HEADER * 8 > position >= 3 * 8:
            continue  # The kid is bound by the place, as the next test shows.
        flipped = bytearray(envelope)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(TamperError):
            open_envelope(SCOPE, bytes(flipped), PLACE)


def test_a_flipped_kid_is_bound_by_the_place() -> None:
    """Given another kid in the envelope, when it is opened as that one's, then the place does not fit."""
    envelope = seal(SCOPE, b"plain", PLACE, KID)
    other = bytes(16)
    renamed = envelope[:3] + other + envelope[HEADER:]
    with pytest.raises(TamperError):
        open_envelope(SCOPE, renamed, replace(PLACE, binding=other))


@pytest.mark.parametrize("cut", [0, 1, 2, 18, 40, 60, 70, -1])
def test_a_cut_envelope_is_found(cut: int) -> None:
    """Given an envelope cut short anywhere, when it is opened, then it is a TamperError and no other error."""
    envelope = seal(SCOPE, b"plain", PLACE, KID)[:cut]
    with pytest.raises(TamperError):
        open_envelope(SCOPE, envelope, PLACE)
    if len(envelope) < 3 + COMMITMENT_BYTES + NONCE_BYTES + 16:
        with pytest.raises(TamperError):
            envelope_kid(envelope)


# A ciphertext that opens under two keys (FAULTS 16) ------------------------------------------------------------------


def ghash_multiply(x: int, y: int) -> int:
    """Multiplication in GCM's field (NIST SP 800-38D, 6.3)."""
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return product


def power(x: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = ghash_multiply(result, x)
        x = ghash_multiply(x, x)
        exponent >>= 1
    return result


def polynomial(key: bytes, nonce: bytes, aad: bytes, blocks: list[int], length: int) -> tuple[int, int]:
    """GHASH of AAD, ciphertext blocks and their lengths, and the hash key H it was computed with."""
    h = hash_key(key, nonce)
    padded = aad + bytes(-len(aad) % 16)
    parts = [int.from_bytes(padded[i : i + 16], "big") for i in range(0, len(padded), 16)]
    total = 0
    for part in (*parts, *blocks, len(aad) * 8 << 64 | length * 8):
        total = ghash_multiply(total ^ part, h)
    return total, h


def hash_key(key: bytes, nonce: bytes) -> int:
    """H = AES(key, 0), found without AES itself, from the tags of two associated data."""
    one = int.from_bytes(crypto_aead_aes256gcm_encrypt(b"", bytes(15) + b"\x01", nonce, key), "big")
    # A tag is E(J0) + AAD*H^2 + lengths*H, so the tags of two one-block AADs differ by (AAD1 + AAD2)*H^2.
    two = int.from_bytes(crypto_aead_aes256gcm_encrypt(b"", bytes(15) + b"\x02", nonce, key), "big")
    squared = ghash_multiply(one ^ two, inverse(1 ^ 2))
    return power(squared, 1 << 127)  # The square root in GF(2^128).


def inverse(x: int) -> int:
    return power(x, (1 << 128) - 2)


def two_key_ciphertext(first: bytes, second: bytes, nonce: bytes, aad: bytes) -> bytes:
    """A ciphertext of two blocks that AES-256-GCM opens under both keys (Grubbs, Lu, Ristenpart 2017)."""
    length = 32
    masks = [int.from_bytes(crypto_aead_aes256gcm_encrypt(b"", None, nonce, key), "big") for key in (first, second)]
    fixed = int.from_bytes(os.urandom(16), "big")
    totals, hs = [], []
    for key in (first, second):
        total, h = polynomial(key, nonce, aad, [fixed, 0], length)
        totals.append(total)
        hs.append(h)
    # Both tags are linear in the last block: tag = mask + total + block * h^2. Choose the block that makes them equal.
    difference = masks[0] ^ masks[1] ^ totals[0] ^ totals[1]
    squares = ghash_multiply(hs[0], hs[0]) ^ ghash_multiply(hs[1], hs[1])
    block = ghash_multiply(difference, inverse(squares))
    tag = masks[0] ^ totals[0] ^ ghash_multiply(block, ghash_multiply(hs[0], hs[0]))
    return fixed.to_bytes(16, "big") + block.to_bytes(16, "big") + tag.to_bytes(16, "big")


def test_a_ciphertext_that_opens_under_two_keys_is_refused() -> None:
    """Given one ciphertext that AES-GCM itself opens under both keys, when it stands in envelopes, then K_com refuses.

    The control first shows that GCM alone accepts it; the envelope of one key never opens with the other.
    """
    nonce, aad = os.urandom(NONCE_BYTES), PLACE.aad()
    scopes = (SCOPE, bytes(32))
    derived = [both_keys(scope, nonce) for scope in scopes]
    ciphertext = two_key_ciphertext(derived[0][:32], derived[1][:32], nonce, aad)
    opened = [crypto_aead_aes256gcm_decrypt(ciphertext, aad, nonce, keys[:32]) for keys in derived]
    assert opened[0] != opened[1], "The control failed: GCM did not open it under both keys."
    header = bytes((2, 1, len(KID))) + KID
    for number, keys in enumerate(derived):
        envelope = header + keys[32:] + nonce + ciphertext
        with pytest.raises(TamperError, match="does not belong"):
            open_envelope(scopes[1 - number], envelope, PLACE)


def test_a_forged_commitment_is_refused() -> None:
    """Given an envelope of one key, when the commitment of another takes its place, then neither opens it."""
    envelope = seal(SCOPE, b"plain", PLACE, KID)
    nonce = envelope[HEADER + COMMITMENT_BYTES : HEADER + COMMITMENT_BYTES + NONCE_BYTES]
    other = bytes(32)
    forged = both_keys(other, nonce)[32:]
    swapped = envelope[:HEADER] + forged + envelope[HEADER + COMMITMENT_BYTES :]
    for scope in (SCOPE, other):
        with pytest.raises(TamperError):
            open_envelope(scope, swapped, PLACE)


# Disclosing one part -------------------------------------------------------------------------------------------------


def test_the_event_key_opens_its_part_and_no_other() -> None:
    """Given a disclosed event key, when a stranger derives both keys from it, then only this part opens."""
    envelope, beside = seal(SCOPE, b"shown", PLACE, KID), seal(SCOPE, b"hidden", PLACE, KID)
    key = disclosed_key(SCOPE, envelope, PLACE)
    found = []
    for sealed in (envelope, beside):
        nonce = sealed[HEADER + COMMITMENT_BYTES : HEADER + COMMITMENT_BYTES + NONCE_BYTES]
        keys = blake2b(nonce + PLACE.aad(), key=key, person=COMMITTING_PERSON).digest()
        found.append(keys[32:] == sealed[HEADER : HEADER + COMMITMENT_BYTES])
        if found[-1]:
            assert unpad(aead_open(keys[:32], sealed[HEADER + 44 :], PLACE.aad(), nonce)) == b"shown"
    assert found == [True, False]


def test_nothing_is_disclosed_of_a_part_that_does_not_open() -> None:
    """Given a wrong key or place, when the event key is asked for, then it is a TamperError."""
    envelope = seal(SCOPE, b"plain", PLACE, KID)
    for scope, place in ((bytes(32), PLACE), (SCOPE, replace(PLACE, part="consent"))):
        with pytest.raises(TamperError):
            disclosed_key(scope, envelope, place)


def test_an_envelope_of_the_first_version_opens_and_is_not_disclosed() -> None:
    """Given an envelope as version 1 made it, when it is opened, it opens; its key alone would prove nothing."""
    nonce, aad = os.urandom(NONCE_BYTES), PLACE.aad()
    keys = blake2b(nonce + aad, key=SCOPE, salt=PLACE.event, person=b"lethe.evt.v1").digest()
    envelope = bytes((1, 1, 16)) + KID + keys[32:] + nonce + aead_seal(keys[:32], pad(b"old"), aad, nonce)
    assert open_envelope(SCOPE, envelope, PLACE) == b"old"
    with pytest.raises(NotDisclosable, match="sealed before"):
        disclosed_key(SCOPE, envelope, PLACE)


# Padding, boxes, and the cipher itself -------------------------------------------------------------------------------


@given(st.binary(max_size=9000))
def test_padding_comes_off_and_lengths_say_only_the_bucket(plaintext: bytes) -> None:
    """Given any plaintext, when it is padded, then it comes back, and its length is one of few."""
    padded = pad(plaintext)
    assert unpad(padded) == plaintext
    assert len(padded) in PADDING_BUCKETS or len(padded) % 4096 == 0
    assert len(padded) > len(plaintext)


def test_values_of_one_bucket_have_envelopes_of_one_length() -> None:
    """Given short values of many lengths, when they are sealed, then their envelopes cannot be told apart by length."""
    assert len({len(seal(SCOPE, b"x" * size, PLACE, KID)) for size in range(64)}) == 1
    assert len(seal(SCOPE, b"x" * 64, PLACE, KID)) > len(seal(SCOPE, b"x" * 63, PLACE, KID))


@pytest.mark.parametrize("padded", [b"", bytes(64), b"x" * 64, b"\x80" + b"x" * 63])
def test_a_block_without_padding_is_found(padded: bytes) -> None:
    """Given bytes that no sealing made, when their padding is taken off, then it is a TamperError."""
    with pytest.raises(TamperError):
        unpad(padded)


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_the_direct_calls_agree_with_pynacls_bindings(plaintext: bytes, aad: bytes) -> None:
    """Given any input, when it is sealed by our direct calls and by PyNaCl's bindings, then the bytes are the same."""
    key, nonce = b"k" * 32, b"n" * 12
    ciphertext = aead_seal(key, plaintext, aad, nonce)
    assert ciphertext == crypto_aead_aes256gcm_encrypt(plaintext, aad, nonce, key)
    assert aead_open(key, ciphertext, aad, nonce) == plaintext
    with pytest.raises(TamperError):
        aead_open(key, ciphertext, aad + b".", nonce)


@pytest.mark.parametrize(("key", "nonce"), [(b"k" * 31, b"n" * 12), (b"k" * 32, b"n" * 11), (b"", b"n" * 12)])
def test_wrong_key_and_nonce_lengths_never_reach_the_cipher(key: bytes, nonce: bytes) -> None:
    """The direct calls take pointers: a short key or nonce is refused before."""
    with pytest.raises(ValueError, match="32 bytes"):
        aead_seal(key, b"", b"", nonce)
    with pytest.raises(TamperError):
        aead_open(key, bytes(16), b"", nonce)


def test_boxes_are_bound_to_their_place_and_never_alike() -> None:
    """Given a box, when its associated data, key or bytes differ, then it does not open; none is made twice."""
    box = seal_box(SCOPE, b"row", b"place")
    assert open_box(SCOPE, box, b"place") == b"row"
    assert box != seal_box(SCOPE, b"row", b"place")
    wrong = ((bytes(32), box, b"place"), (SCOPE, box, b"else"), (SCOPE, box[:-1], b"place"), (SCOPE, b"", b"place"))
    for key, sealed, aad in wrong:
        with pytest.raises(TamperError):
            open_box(key, sealed, aad)


def test_every_event_has_a_key_of_its_own() -> None:
    """Given one K, when two events are sealed with the same nonce, then neither key nor commitment is the same."""
    place = replace(PLACE, event=b"f" * 16)
    assert both_keys(SCOPE, b"n" * 12)[:32] != both_keys(SCOPE, b"n" * 12, place)[:32]
    assert both_keys(SCOPE, b"n" * 12)[32:] != both_keys(SCOPE, b"n" * 12, place)[32:]


def test_hardware_aes_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a processor without AES, when the program starts, then it refuses and says why."""
    sealing.require_aes_hardware()
    monkeypatch.setattr(sealing, "lib", SimpleNamespace(crypto_aead_aes256gcm_is_available=lambda: 0))
    with pytest.raises(SettingsRefused, match="AES"):
        sealing.require_aes_hardware()


# In the ledger: swaps between events, subjects, versions and tenants -------------------------------------------------


def two_people(ledger: Ledger) -> tuple[LedgerEvent, LedgerEvent]:
    add(ledger, ["one@example.com"], first_name="One")
    add(ledger, ["two@example.com"], first_name="Two")
    found = [event for event in ledger.log.select_log(1, 10) if event.topic == ContactAdded.TOPIC]
    return found[0], found[1]


def forged(event: LedgerEvent, sealed: bytes | None, **changed: Any) -> LedgerEvent:
    """The event with other sealed bytes, its entry vouching for them, as somebody with the whole database could."""
    entry = orjson.loads(event.state)
    parts = unpack_sealed(sealed)
    entry["sealed"] = {name: sha256(part).hexdigest() for name, part in parts.items()}
    entry |= changed
    return replace(event, state=canonical(entry), sealed=sealed)


@pytest.mark.store
def test_envelopes_swapped_between_people_are_found_even_with_their_digests(ledger: Ledger) -> None:
    """Given two people's events, when one's envelope is put into the other's, then TamperError with any digests."""
    one, two = two_people(ledger)
    for event in (replace(one, sealed=two.sealed), forged(one, two.sealed)):
        with pytest.raises(TamperError):
            ledger.sealing.open(event)


@pytest.mark.store
def test_envelopes_swapped_between_fields_versions_and_tenants_are_found(ledger: Ledger, instance: Any) -> None:
    """Given an event, when its envelope stands under another class, version or tenant, it is found."""
    one, _ = two_people(ledger)
    envelope = unpack_sealed(one.sealed)["identity"]
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    assert isinstance(one.originator_id, UUID)
    for event, reader in (
        (forged(one, pack_sealed({"consent": envelope})), ledger),
        (replace(one, originator_version=2), ledger),
        (forged(replace(one, originator_version=2), one.sealed, version=2), None),
        (replace(one, originator_id=uuid4()), ledger),
        (replace(one, topic="contact.corrected.v1"), ledger),
        (one, other),
        (forged(one, one.sealed, tenant=other.tenant.hex), other),
        (replace(one, sealed=None), ledger),
        (replace(one, state=one.state[:-1]), ledger),
        (replace(one, state=b"[]"), ledger),
    ):
        if reader is None:
            assert isinstance(ledger.sealing.open(event), ContactAdded)  # The version is bound by the log, not the AAD.
            continue
        with pytest.raises((TamperError, KeyMissing)):
            reader.sealing.open(event)


@pytest.mark.store
def test_no_flipped_bit_is_ever_reported_as_erased(ledger: Ledger) -> None:
    """Given an erased person's event, when any bit of its sealed bytes flips, then TamperError, and never Erased."""
    one, _ = two_people(ledger)
    ledger.erasures.intend(["one@example.com"], reason="asked", actor="cli")
    finish_erasures(ledger)
    assert isinstance(email_of(ledger.sealing.open(one)), Erased)
    assert one.sealed is not None
    for position in range(0, len(one.sealed) * 8, 7):
        flipped = bytearray(one.sealed)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(TamperError):
            ledger.sealing.open(replace(one, sealed=bytes(flipped)))


@pytest.mark.store
def test_an_event_about_two_people_stays_readable_for_the_other(ledger: Ledger) -> None:
    """Given two people in one transaction, when one is erased, then the other's open as before (FAULTS 12)."""
    one, two = two_people(ledger)
    ledger.erasures.intend(["one@example.com"], reason="asked", actor="cli")
    finish_erasures(ledger)
    assert isinstance(email_of(ledger.sealing.open(one)), Erased)
    assert email_of(ledger.sealing.open(two)) == Personal("two@example.com")


@pytest.mark.store
def test_without_the_person_a_messages_parts_stay_unopened(ledger: Ledger) -> None:
    """The envelopes of messages name no kid: who does not know the person cannot even try."""
    envelope = seal(SCOPE, b"{}", replace(PLACE, binding=b"\0\1"))
    assert envelope_kid(envelope) == b""
    assert ledger.sealing.open(two_people(ledger)[0], personal=False).TOPIC == ContactAdded.TOPIC


@pytest.mark.store
def test_both_keys_are_needed(ledger: Ledger) -> None:
    """Given a living person, when the month's key is destroyed, then their part of that month is erased too."""
    one, _ = two_people(ledger)
    row = person(ledger, "one@example.com")
    month = month_of(ledger.clock())
    assert email_of(ledger.sealing.open(one)) == Personal("one@example.com")
    ledger.services.vault.destroy_period(ledger.tenant, Identity.name, month, when=ledger.clock(), cause="time")
    ledger.keyring.forget_all()
    assert email_of(ledger.sealing.open(one)).why == "time"
    assert KeyName(row.person.kid, Identity.name) in ledger.keyring.find([KeyName(row.person.kid, Identity.name)]).keys
    assert ledger.keyring.find([KeyName(TENANT_HOLDER, Identity.name, month)]).keys == {}


def email_of(fact: Fact) -> Any:
    assert isinstance(fact, ContactAdded)
    return fact.email
