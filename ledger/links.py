"""Links: how a message's stream id is computed from a person, and the opaque token it is known by outside.

    K_link      two-key rule on the person's link key and the month's link key
    message id  UUIDv7 layout: the campaign's time, then 74 bits of BLAKE2b(key = K_link, campaign id)
    handle      BLAKE2b(key = the person's identity key): random, the same for all generations of the link key
    token       version | month | nonce | AES-256-GCM of handle, campaign and occurrence under the month's link key,
                the nonce another part of the message id's keyed hash, so that repeats are equal

Destroy the person's or the month's link key and nothing connects a person to a message (invariant I11). A person's
link key has generations; a token names its person by handle all the same, so that who objects through an old mail is
heard for as long as they are known. The kid of a person's records comes from the identity key too: once that is gone,
records that the law keeps lead to nobody's stream.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

from ledger.errors import InvalidToken, TamperError
from ledger.sealing import KEY_BYTES, NONCE_BYTES, aead_open, aead_seal, scope_key

TOKEN_VERSION = 1
HANDLE_BYTES = 16
KID_BYTES = 16
OCCURRENCE_BYTES = 8
TAG_BYTES = 16
TOKEN_BYTES = 3 + NONCE_BYTES + HANDLE_BYTES + 16 + OCCURRENCE_BYTES + TAG_BYTES
TOKEN_CHARACTERS = -(-TOKEN_BYTES * 4 // 3)
NO_OCCURRENCE = bytes(OCCURRENCE_BYTES)


def handle_of(identity_key: bytes) -> bytes:
    """The person's handle: what a token names them by."""
    return blake2b(b"", key=identity_key, digest_size=HANDLE_BYTES, person=b"lethe.handle.v1").digest()


def records_kid_of(identity_key: bytes) -> bytes:
    """The kid that the person's records are sealed under: support, billing, usage, access and error logs."""
    return blake2b(b"", key=identity_key, digest_size=KID_BYTES, person=b"lethe.reckid.v1").digest()


def handle_tag(tag_key: bytes, handle: bytes) -> bytes:
    """What `standing` is looked up by when a token comes back; keyed under the epoch."""
    return blake2b(handle, key=tag_key, digest_size=16, person=b"lethe.htag.v1").digest()


def message_link(link_scope: bytes, campaign_id: bytes) -> tuple[bytes, bytes]:
    """The 16 bytes of a message's stream id, and the nonce of its token: two parts of one keyed hash.

    Both come from K_link and the bytes of the campaign's UUIDv7; neither tells anything about the other.
    """
    digest = blake2b(campaign_id, key=link_scope, digest_size=_LINK_BYTES).digest()
    random = (_VERSION_7[digest[0]], digest[1:2], _VARIANT[digest[2]], digest[3:10])
    return b"".join((campaign_id[:6], *random)), digest[10:]


def message_id(link_scope: bytes, campaign_id: bytes) -> bytes:
    """The 16 bytes of a message's stream id."""
    return message_link(link_scope, campaign_id)[0]


def occurrence_tag(link_scope: bytes, occurrence: str | None) -> bytes:
    """The keyed hash that tells repeated messages of an ongoing campaign apart; zeros where there is none."""
    if occurrence is None:
        return NO_OCCURRENCE
    return blake2b(occurrence.encode(), key=link_scope, digest_size=OCCURRENCE_BYTES, person=b"lethe.occ.v1").digest()


def recorded_occurrence(link_scope: bytes, tag: bytes) -> bytes:
    """What the log keeps of an occurrence: a hash of its tag under K_link.

    The tag itself travels in the token. If it stood in the log as well, a token kept by a sender would lead to the
    message of an erased person (I11).
    """
    if tag == NO_OCCURRENCE:
        return NO_OCCURRENCE
    return blake2b(tag, key=link_scope, digest_size=OCCURRENCE_BYTES, person=b"lethe.oce.v1").digest()


def provider_event_tag(link_scope: bytes, provider_event: str) -> str:
    """A keyed hash of a provider's event id, for dropping repeats without keeping the id."""
    return blake2b(provider_event.encode(), key=link_scope, digest_size=12, person=b"lethe.pev.v1").hexdigest()


@dataclass(slots=True)
class MessageToken:
    """What a token says: whose message (by handle), of which campaign, in which link month."""

    handle: bytes
    campaign: bytes
    month: str
    occurrence: bytes


class TokenSealer:
    """Makes the tokens of one link month."""

    def __init__(self, month: str, link_period_key: bytes) -> None:
        self._header = bytes((TOKEN_VERSION,)) + month_number(month)
        self._key = _token_key(link_period_key)

    def seal(self, handle: bytes, campaign: bytes, nonce: bytes, occurrence: bytes = NO_OCCURRENCE) -> str:
        """The token of one message: 95 characters, the same each time. `nonce` is that of `message_link`."""
        if occurrence != NO_OCCURRENCE:
            nonce = bytes(a ^ b for a, b in zip(nonce, occurrence, strict=False)) + nonce[OCCURRENCE_BYTES:]
        sealed = aead_seal(self._key, handle + campaign + occurrence, self._header, nonce)
        return b2a_base64(self._header + nonce + sealed, newline=False).translate(_URL_SAFE)[:TOKEN_CHARACTERS].decode()


def parse_token(token: str) -> tuple[str, bytes]:
    """The link month a token says it is of, and its bytes. Raises `InvalidToken`."""
    try:
        raw = a2b_base64(token.encode("ascii").translate(_FROM_URL_SAFE) + _PADDING[-len(token) % 4])
    except ValueError:
        raise InvalidToken(_INVALID) from None
    if len(raw) != TOKEN_BYTES or raw[0] != TOKEN_VERSION:
        raise InvalidToken(_INVALID)
    return _month_name(int.from_bytes(raw[1:3], "big")), raw


class TokenOpener:
    """Opens the tokens of one link month."""

    def __init__(self, month: str, link_period_key: bytes) -> None:
        self.month = month
        self.month_number = month_number(month)
        self.link_period_key = link_period_key
        self._key = _token_key(link_period_key)

    def open(self, raw: bytes) -> MessageToken:
        """What a parsed token says. Raises `InvalidToken` for anything that was not made by us."""
        try:
            plaintext = aead_open(self._key, raw[_SEALED_AT:], raw[:3], raw[3:_SEALED_AT])
        except TamperError:
            raise InvalidToken(_INVALID) from None
        campaign_end = HANDLE_BYTES + 16
        return MessageToken(
            plaintext[:HANDLE_BYTES], plaintext[HANDLE_BYTES:campaign_end], self.month, plaintext[campaign_end:]
        )


def open_token(token: str, link_period_key: bytes) -> MessageToken:
    """What one token says, under the link key of its month. Raises `InvalidToken`."""
    month, raw = parse_token(token)
    return TokenOpener(month, link_period_key).open(raw)


def month_number(month: str) -> bytes:
    """A link month as two bytes, which sort as the months do."""
    return (int(month[:4]) * 12 + int(month[5:]) - 1).to_bytes(2, "big")


def link_scope(link_key: bytes, link_period_key: bytes) -> bytes:
    """K_link of a person in a month."""
    return scope_key(link_key, link_period_key)


_VERSION_7 = tuple(bytes((0x70 | byte & 0x0F,)) for byte in range(256))
_VARIANT = tuple(bytes((0x80 | byte & 0x3F,)) for byte in range(256))
"""What stands in place of the bytes of a UUIDv7 that hold its version and its variant."""

_LINK_BYTES = 10 + NONCE_BYTES
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_PADDING = (b"", b"=", b"==", b"===")
_SEALED_AT = 3 + NONCE_BYTES
_INVALID = "This message_id was not given out by this account, or it was changed on the way."


def _token_key(link_period_key: bytes) -> bytes:
    return blake2b(b"", key=link_period_key, digest_size=KEY_BYTES, person=b"lethe.token.v1").digest()


@lru_cache(maxsize=1024)
def _month_name(number: int) -> str:
    return f"{number // 12:04d}-{number % 12 + 1:02d}"
