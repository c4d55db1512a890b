"""Signatures: Ed25519, one key per account, for what leaves the house and must be believed without it.

Certificates of destruction and plans of retention are signed here. The seed is a key of the vault like any other, of
the tenant itself (class `signing`), so it is wrapped, renewed and backed up with the rest. Verification needs the
32 bytes of the public key and nothing else: no database, no vault, no clock. It raises and never returns a bool.

What is signed begins with a context, so that a signature over one kind of document is none over another:

    "lethe.sig.v1" | length of context (1 byte) | context | message

Signed notes (C2SP signed-note: checkpoints of the transparency log, manifests of bundles) are the exception: verifiers
that are not ours check them, so the signature is over the note's text and nothing before it. That is safe because
they have keys of their own (class `log`), which sign notes only, and the first line of a note says what it is.
"""

from __future__ import annotations

from typing import Final, Protocol

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from ledger.errors import LedgerError

ALGORITHM: Final = "Ed25519"
SIGNING: Final = "signing"
"""The class of the tenant's key that the seed stands under in the vault."""

LOG: Final = "log"
"""The class of the tenant's keys that sign notes; each has a generation."""

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = crypto_sign_BYTES
CONTEXT_BYTES_MAX: Final = 64
DOMAIN: Final = b"lethe.sig.v1"


class SignatureRefused(LedgerError):
    """A signature is not that of this key over these bytes in this context."""


class TenantKeys(Protocol):
    """What signing needs of a keyring: the tenant's own keys, made durably where they do not exist."""

    def tenant_key(self, retention_class: str, *, generation: int = 1) -> bytes: ...


def sign(keys: TenantKeys, context: bytes, message: bytes) -> bytes:
    """The 64 bytes of the account's signature over a message. `context` says what kind of document it is."""
    _, secret = crypto_sign_seed_keypair(keys.tenant_key(SIGNING))
    return crypto_sign(_framed(context, message), secret)[:SIGNATURE_BYTES]


def verify_key(keys: TenantKeys) -> bytes:
    """The 32 bytes of the account's public key."""
    public, _ = crypto_sign_seed_keypair(keys.tenant_key(SIGNING))
    return public


def sign_note(keys: TenantKeys, generation: int, text: bytes) -> bytes:
    """The 64 bytes of a log key's signature over the text of a note, as C2SP signed-note asks for it."""
    if not text.endswith(b"\n") or b"\n\n" in text:
        raise ValueError("The text of a note ends with a newline and has no empty line.")
    _, secret = crypto_sign_seed_keypair(keys.tenant_key(LOG, generation=generation))
    return crypto_sign(text, secret)[:SIGNATURE_BYTES]


def note_key(keys: TenantKeys, generation: int) -> bytes:
    """The 32 bytes of a log key's public key."""
    public, _ = crypto_sign_seed_keypair(keys.tenant_key(LOG, generation=generation))
    return public


def verify(public_key: bytes, context: bytes, message: bytes, signature: bytes) -> None:
    """Raise `SignatureRefused` unless this is the signature of this key over this message in this context."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise SignatureRefused("A public key has 32 bytes and a signature 64. Take them from the certificate whole.")
    try:
        crypto_sign_open(signature + _framed(context, message), public_key)
    except BadSignatureError:
        raise SignatureRefused(
            "The signature does not fit: the document was changed, or another key signed it. Do not rely on it."
        ) from None


def _framed(context: bytes, message: bytes) -> bytes:
    if not 0 < len(context) <= CONTEXT_BYTES_MAX:
        raise ValueError(f"A context has 1 to {CONTEXT_BYTES_MAX} bytes.")
    return DOMAIN + bytes((len(context),)) + context + message
