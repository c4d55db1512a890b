"""Sealing: personal data needs two keys to open, the person's and the period's (DESIGN section 5).

    K            BLAKE2b-256(key=S, P, person="lethe.scp.v1")                      per subject, class and period
    event key    BLAKE2b-256(key=K, salt=event id, nonce, person="lethe.evt.v2")    per sealed part of one event
    both keys    BLAKE2b-512(key=event key, nonce || AAD, person="lethe.com.v2")    K_enc || K_com
    envelope     version | algorithm | kid length | kid | K_com | nonce | AES-256-GCM(K_enc, padded plaintext, AAD)

Every part has a key of its own, so nonces cannot repeat under one key. GCM does not commit to its key, so K_com is
checked first, in constant time. Both K_enc and K_com come from the event key, so whoever is shown that key alone can
check the commitment and open this one part, and nothing else of the person (docs/adr/0027). Version 1 made them from
K directly: it still opens, and its parts cannot be disclosed singly. Plaintext is padded to a bucket, never
compressed: lengths say little.
"""

from __future__ import annotations

import hmac
import os
from bisect import bisect_left
from dataclasses import dataclass
from hashlib import blake2b

from nacl._sodium import ffi, lib
from nacl.bindings import sodium_init

from ledger.errors import NotDisclosable, SettingsRefused, TamperError

ENVELOPE_VERSION = 2
UNDISCLOSED_VERSION = 1
"""Envelopes whose commitment only K itself can check."""

ALGORITHM_AES_256_GCM = 1
KEY_BYTES = 32
NONCE_BYTES = 12
COMMITMENT_BYTES = 32
TAG_BYTES = 16
SCOPE_PERSON = b"lethe.scp.v1"
EVENT_PERSON = b"lethe.evt.v2"
COMMITTING_PERSON = b"lethe.com.v2"
UNDISCLOSED_PERSON = b"lethe.evt.v1"

PADDING_BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096)
PADDING_STEP = 4096


def require_aes_hardware() -> None:
    """Refuse to start where AES-256-GCM has no hardware; both policies promise AES-256."""
    sodium_init()
    if lib.crypto_aead_aes256gcm_is_available() != 1:
        raise SettingsRefused(
            "This processor has no AES instructions, and Lethe seals with AES-256-GCM only. Use another machine."
        )


def scope_key(subject_key: bytes, period_key: bytes) -> bytes:
    """K, from the person's key and the period's: without both of them nothing opens."""
    return blake2b(period_key, key=subject_key, digest_size=KEY_BYTES, person=SCOPE_PERSON).digest()


def length_prefixed(*fields: bytes) -> bytes:
    """Fields behind their lengths, so that no two lists of fields give the same bytes."""
    return b"".join([len(field).to_bytes(2, "big") + field for field in fields])


@dataclass(frozen=True, slots=True)
class SealedPlace:
    """Where a sealed part stands. All of it is authenticated, so an envelope opens nowhere else.

    `binding` is the kid, or the link generation for parts of message streams.
    """

    tenant: bytes
    stream: bytes
    event: bytes
    part: str
    topic: str
    retention_class: str
    period: str
    binding: bytes

    def aad(self) -> bytes:
        """The associated data: every field, length-prefixed."""
        return length_prefixed(
            self.tenant,
            self.stream,
            self.event,
            self.part.encode(),
            self.topic.encode(),
            self.retention_class.encode(),
            self.period.encode(),
            self.binding,
        )


def pad(plaintext: bytes) -> bytes:
    """ISO/IEC 7816-4 padding up to the next bucket (64 bytes to 4 KiB, then steps of 4 KiB)."""
    needed = len(plaintext) + 1
    if needed <= PADDING_STEP:
        bucket = PADDING_BUCKETS[bisect_left(PADDING_BUCKETS, needed)]
    else:
        bucket = -(-needed // PADDING_STEP) * PADDING_STEP
    return (plaintext + b"\x80").ljust(bucket, b"\0")


def unpad(padded: bytes) -> bytes:
    """The plaintext inside a padded block. Raises `TamperError` if there is no padding."""
    plaintext, mark, rest = padded.rpartition(b"\x80")
    if not mark or rest.strip(b"\0"):
        raise TamperError("A sealed part has no valid padding.")
    return plaintext


def seal(scope: bytes, plaintext: bytes, place: SealedPlace, kid: bytes = b"") -> bytes:
    """The envelope of `plaintext` under K `scope`, for this place only. `kid` is 0 or 16 bytes."""
    return seal_with_aad(scope, plaintext, place.aad(), place.event, kid)


def seal_with_aad(scope: bytes, plaintext: bytes, aad: bytes, event: bytes, kid: bytes = b"") -> bytes:
    """As `seal`, for callers that build the associated data in bulk."""
    nonce = os.urandom(NONCE_BYTES)
    keys = _both_keys(_event_key(scope, nonce, event), nonce, aad)
    ciphertext = aead_seal(keys[:KEY_BYTES], pad(plaintext), aad, nonce)
    header = _HEADER_WITH_KID if kid else _HEADER
    return b"".join((header, kid, keys[KEY_BYTES:], nonce, ciphertext))


def envelope_kid(envelope: bytes) -> bytes:
    """The kid an envelope names, or b'' where it names none. Raises `TamperError` for a malformed envelope."""
    _require_known(envelope)
    return envelope[3 : 3 + envelope[2]]


def open_envelope(scope: bytes, envelope: bytes, place: SealedPlace) -> bytes:
    """The plaintext of an envelope at its place. Raises `TamperError` if anything does not fit."""
    commitment, nonce, ciphertext = _pieces(envelope)
    aad = place.aad()
    if envelope[0] == UNDISCLOSED_VERSION:
        keys = blake2b(nonce + aad, key=scope, salt=place.event, person=UNDISCLOSED_PERSON).digest()
    else:
        keys = _both_keys(_event_key(scope, nonce, place.event), nonce, aad)
    if not hmac.compare_digest(commitment, keys[KEY_BYTES:]):
        raise TamperError("A sealed part does not belong to the place or the key it is opened with.")
    return unpad(aead_open(keys[:KEY_BYTES], ciphertext, aad, nonce))


def disclosed_key(scope: bytes, envelope: bytes, place: SealedPlace) -> bytes:
    """The event key of one sealed part, after it was seen to open: 32 bytes that open this part and nothing else.

    Raises `TamperError` if the envelope does not open, `NotDisclosable` for envelopes of version 1.
    """
    open_envelope(scope, envelope, place)
    if envelope[0] == UNDISCLOSED_VERSION:
        raise NotDisclosable("This part was sealed before single parts could be disclosed. Show the opened text alone.")
    return _event_key(scope, _pieces(envelope)[1], place.event)


def aead_open(key: bytes, ciphertext: bytes, aad: bytes, nonce: bytes) -> bytes:
    """AES-256-GCM. Raises `TamperError` when the tag does not verify.

    Both functions call libsodium as PyNaCl loads it, without the argument checks of its bindings, which cost four
    times the encryption itself; a test holds them against those bindings.
    """
    length = len(ciphertext) - TAG_BYTES
    if length < 0 or len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise TamperError(_CHANGED)
    plaintext = _buffer(_BYTES, length or 1)
    if _decrypt(plaintext, _NULL, _NULL, ciphertext, length + TAG_BYTES, aad, len(aad), nonce, key) != 0:
        raise TamperError(_CHANGED)
    return bytes(_bytes_of(plaintext, length)[:])


def aead_seal(key: bytes, plaintext: bytes, aad: bytes, nonce: bytes) -> bytes:
    """AES-256-GCM; the caller answers for the nonce being unique under this key."""
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError("AES-256-GCM takes a key of 32 bytes and a nonce of 12.")
    length = len(plaintext) + TAG_BYTES
    ciphertext = _buffer(_BYTES, length)
    _encrypt(ciphertext, _NULL, plaintext, len(plaintext), aad, len(aad), _NULL, nonce, key)
    return bytes(_bytes_of(ciphertext, length)[:])


def seal_box(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Nonce and ciphertext under a key derived for this box alone, for rows that are rewritten often.

    A fresh 16-byte salt derives the key, so any number of boxes may be sealed under one key.
    """
    salt = os.urandom(16)
    box_key = blake2b(aad, key=key, salt=salt, digest_size=KEY_BYTES, person=b"lethe.box.v1").digest()
    return salt + aead_seal(box_key, plaintext, aad, _ZERO_NONCE)


def open_box(key: bytes, box: bytes, aad: bytes) -> bytes:
    """What `seal_box` sealed. Raises `TamperError`."""
    salt = box[:16]
    box_key = blake2b(aad, key=key, salt=salt, digest_size=KEY_BYTES, person=b"lethe.box.v1").digest()
    return aead_open(box_key, box[16:], aad, _ZERO_NONCE)


_ZERO_NONCE = bytes(NONCE_BYTES)
_CHANGED = "Sealed bytes were changed, or do not belong where they stand."
_HEADER = bytes((ENVELOPE_VERSION, ALGORITHM_AES_256_GCM, 0))
_HEADER_WITH_KID = bytes((ENVELOPE_VERSION, ALGORITHM_AES_256_GCM, 16))
_NULL, _buffer, _bytes_of, _BYTES = ffi.NULL, ffi.new, ffi.buffer, ffi.typeof("unsigned char[]")
_encrypt, _decrypt = lib.crypto_aead_aes256gcm_encrypt, lib.crypto_aead_aes256gcm_decrypt


def _event_key(scope: bytes, nonce: bytes, event: bytes) -> bytes:
    return blake2b(nonce, key=scope, salt=event, digest_size=KEY_BYTES, person=EVENT_PERSON).digest()


def _both_keys(event_key: bytes, nonce: bytes, aad: bytes) -> bytes:
    return blake2b(nonce + aad, key=event_key, person=COMMITTING_PERSON).digest()


def _pieces(envelope: bytes) -> tuple[bytes, bytes, bytes]:
    """Commitment, nonce and ciphertext. Raises `TamperError` for a malformed envelope."""
    _require_known(envelope)
    start = 3 + envelope[2]
    end = start + COMMITMENT_BYTES
    return envelope[start:end], envelope[end : end + NONCE_BYTES], envelope[end + NONCE_BYTES :]


def _require_known(envelope: bytes) -> None:
    if len(envelope) < 3 + COMMITMENT_BYTES + NONCE_BYTES + TAG_BYTES:
        raise TamperError("A sealed part is cut short.")
    if (
        envelope[0] not in (ENVELOPE_VERSION, UNDISCLOSED_VERSION)
        or envelope[1] != ALGORITHM_AES_256_GCM
        or envelope[2] not in (0, 16)
    ):
        raise TamperError("A sealed part has an unknown envelope version or algorithm.")
