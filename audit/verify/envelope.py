"""Opening one sealed part with the key that a bundle discloses for it (docs/adr/0027), without anything of Lethe's.

    envelope     version 2 | algorithm 1 | kid length (0 or 16) | kid | K_com (32) | nonce (12) | ciphertext and tag
    place        tenant, stream, event id, part, topic, class, period, kid or link generation, each behind its length
    both keys    BLAKE2b-512(key = event key, nonce || place, person = "lethe.com.v2")  ->  K_enc (32) || K_com (32)
    plaintext    AES-256-GCM(K_enc, nonce, ciphertext, place), without its padding (ISO/IEC 7816-4)

The commitment K_com is compared first, and in constant time: GCM does not commit to its key, so one ciphertext can be
made that opens under two keys to two texts. Only one of them can have been committed to. This is written a second
time, from the format and not from `ledger/sealing.py`, so that a mistake there does not vouch for itself.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

from nacl.bindings import crypto_aead_aes256gcm_decrypt
from nacl.exceptions import CryptoError, UnavailableError

from audit.verify.errors import CheckUnavailable, EnvelopeRefused

VERSION: Final = 2
ALGORITHM_AES_256_GCM: Final = 1
EVENT_KEY_BYTES: Final = 32
KID_BYTES: Final = 16
COMMITMENT_BYTES: Final = 32
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
COMMITTING_PERSON: Final = b"lethe.com.v2"


@dataclass(frozen=True, slots=True)
class SealedAt:
    """Where a sealed part stands. The ids are raw bytes; `binding` is the kid, or a link's generation, or empty."""

    tenant: bytes
    stream: bytes
    event: bytes
    part: str
    topic: str
    retention_class: str
    period: str
    binding: bytes

    def authenticated(self) -> bytes:
        """The associated data of the encryption: every field behind its length, so that no two places are alike."""
        texts = (self.part, self.topic, self.retention_class, self.period)
        fields = (self.tenant, self.stream, self.event, *(text.encode() for text in texts), self.binding)
        if any(len(one) > 0xFFFF for one in fields):
            raise EnvelopeRefused("A field of the place where a sealed part stands is too long to be one.")
        return b"".join(len(one).to_bytes(2, "big") + one for one in fields)


def sealed_digest(envelope: bytes) -> str:
    """What an entry holds of a sealed part: the SHA-256 of its envelope, in hexadecimal digits."""
    return sha256(envelope).hexdigest()


def envelope_kid(envelope: bytes) -> bytes:
    """The kid that an envelope names, or nothing where it names none. Raises `EnvelopeRefused`."""
    return _pieces(envelope)[0]


def open_disclosed(envelope: bytes, event_key: bytes, place: SealedAt) -> bytes:
    """The plaintext of a sealed part, with the key disclosed for it. Raises `EnvelopeRefused`, or `CheckUnavailable`.

    A kid that stands in the envelope is the one its place is bound to.
    """
    kid, commitment, nonce, ciphertext = _pieces(envelope)
    if len(event_key) != EVENT_KEY_BYTES:
        raise EnvelopeRefused(f"A disclosed key has {len(event_key)} bytes instead of {EVENT_KEY_BYTES}.")
    if kid and kid != place.binding:
        raise EnvelopeRefused("A sealed part names another person's key than the place it is said to stand at.")
    authenticated = place.authenticated()
    both = blake2b(nonce + authenticated, key=event_key, person=COMMITTING_PERSON).digest()
    if not hmac.compare_digest(commitment, both[EVENT_KEY_BYTES:]):
        raise EnvelopeRefused("A sealed part was not sealed with the key disclosed for it, or stands elsewhere.")
    return _without_padding(_decrypted(both[:EVENT_KEY_BYTES], nonce, ciphertext, authenticated))


def _pieces(envelope: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    if len(envelope) < 3 or envelope[0] != VERSION or envelope[1] != ALGORITHM_AES_256_GCM:
        raise EnvelopeRefused("A sealed part is of a version or algorithm for which no single key can be disclosed.")
    if envelope[2] not in (0, KID_BYTES):
        raise EnvelopeRefused("A sealed part names a key in a way that there is not.")
    commitment_at = 3 + envelope[2]
    nonce_at = commitment_at + COMMITMENT_BYTES
    ciphertext_at = nonce_at + NONCE_BYTES
    if len(envelope) < ciphertext_at + TAG_BYTES:
        raise EnvelopeRefused("A sealed part is cut short.")
    return (
        envelope[3:commitment_at],
        envelope[commitment_at:nonce_at],
        envelope[nonce_at:ciphertext_at],
        envelope[ciphertext_at:],
    )


def _decrypted(key: bytes, nonce: bytes, ciphertext: bytes, authenticated: bytes) -> bytes:
    try:
        return crypto_aead_aes256gcm_decrypt(ciphertext, authenticated, nonce, key)
    except UnavailableError:
        raise CheckUnavailable("This machine has no AES instructions, so no sealed part can be opened on it.") from None
    except CryptoError:
        raise EnvelopeRefused("A sealed part was changed after it was sealed.") from None


def _without_padding(padded: bytes) -> bytes:
    plaintext, mark, rest = padded.rpartition(b"\x80")
    if not mark or rest.strip(b"\0"):
        raise EnvelopeRefused("A sealed part opened to something that is not padded as sealed parts are.")
    return plaintext
