"""Signatures: of one account, of one kind of document, over exactly these bytes; verified without any database."""

from __future__ import annotations

import subprocess
import sys

import pytest
from nacl.bindings import crypto_sign_open

from api.bootstrap import Instance
from ledger.application import Ledger
from ledger.keys.keyring import Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.signing import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    SignatureRefused,
    note_key,
    sign,
    sign_note,
    verify,
    verify_key,
)

MESSAGE = b'{"id":"7"}'
CONTEXT = b"lethe.test.v1"


class FixedKeys:
    """A keyring with a known seed: that of the first test of RFC 8032, section 7.1."""

    def tenant_key(self, retention_class: str, *, generation: int = 1) -> bytes:
        assert (retention_class, generation) in {("signing", 1), ("log", 1), ("log", 2)}
        return bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


def test_the_public_key_is_that_of_rfc_8032() -> None:
    """Given the seed of the RFC's first test, when the public key is asked for, then it is the RFC's."""
    assert verify_key(FixedKeys()).hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"


def test_what_was_signed_verifies(ledger: Ledger) -> None:
    """Given an account's signature, when it is verified with the account's public key, then nothing is raised."""
    signature = sign(ledger.keyring, CONTEXT, MESSAGE)
    public = verify_key(ledger.keyring)
    assert (len(public), len(signature)) == (PUBLIC_KEY_BYTES, SIGNATURE_BYTES)
    verify(public, CONTEXT, MESSAGE, signature)


def test_another_process_signs_with_the_same_key(ledger: Ledger) -> None:
    """Given a second keyring on the same vault, when it signs, then the signature is the same."""
    other = Keyring(ledger.services.vault, ledger.tenant)
    assert sign(other, CONTEXT, MESSAGE) == sign(ledger.keyring, CONTEXT, MESSAGE)
    name = KeyName(TENANT_HOLDER, "signing")
    assert name in ledger.services.vault.find(ledger.tenant, [name]).keys


def test_everything_else_is_refused(instance: Instance, ledger: Ledger) -> None:
    """Given a signature, when message, context, key or any of its bits is another, then it is refused by raising."""
    signature = sign(ledger.keyring, CONTEXT, MESSAGE)
    public = verify_key(ledger.keyring)
    stranger = verify_key(FixedKeys())
    flipped = bytes((signature[0] ^ 1,)) + signature[1:]
    for lie in (
        (public, CONTEXT, MESSAGE + b" ", signature),
        (public, b"lethe.test.v2", MESSAGE, signature),
        (public, CONTEXT + MESSAGE[:1], MESSAGE[1:], signature),
        (stranger, CONTEXT, MESSAGE, signature),
        (public, CONTEXT, MESSAGE, flipped),
        (public, CONTEXT, MESSAGE, signature[:-1] + bytes((signature[-1] ^ 0x80,))),
        (public, CONTEXT, MESSAGE, signature[:-1]),
        (public, CONTEXT, MESSAGE, b""),
        (public[:-1], CONTEXT, MESSAGE, signature),
        (bytes(32), CONTEXT, MESSAGE, signature),
        (bytes(32), CONTEXT, MESSAGE, bytes(64)),
    ):
        with pytest.raises(SignatureRefused):
            verify(*lie)


@pytest.mark.parametrize("context", [b"", b"x" * 65])
def test_a_context_is_named(context: bytes) -> None:
    """Given no context, or one too long for its length byte's limit, when something is signed, then that is a fault."""
    with pytest.raises(ValueError, match="context"):
        sign(FixedKeys(), context, MESSAGE)


# Notes ---------------------------------------------------------------------------------------------------------------


def test_a_note_is_signed_as_it_is(ledger: Ledger) -> None:
    """Given the text of a note, when a log key signs it, then plain Ed25519 verifies it: nothing stands before it."""
    text = b"example.org/log\n7\nAAAA\n"
    signature = sign_note(ledger.keyring, 1, text)
    assert crypto_sign_open(signature + text, note_key(ledger.keyring, 1)) == text
    with pytest.raises(SignatureRefused):
        verify(note_key(ledger.keyring, 1), CONTEXT, text, signature)


def test_log_keys_are_keys_of_their_own(ledger: Ledger) -> None:
    """Given the keys of documents and of notes, and two generations, then no two are the same."""
    keys = {verify_key(ledger.keyring), note_key(ledger.keyring, 1), note_key(ledger.keyring, 2)}
    assert len(keys) == 3
    names = [KeyName(TENANT_HOLDER, "log"), KeyName(TENANT_HOLDER, "log", "", 2)]
    assert set(ledger.services.vault.find(ledger.tenant, names).keys) == set(names)


@pytest.mark.parametrize("text", [b"", b"no newline", b"two\n\nparts\n"])
def test_what_is_no_text_of_a_note_is_not_signed(text: bytes) -> None:
    """Given a text that a verifier would cut in another place, when it is to be signed, then that is a fault."""
    with pytest.raises(ValueError, match="note"):
        sign_note(FixedKeys(), 1, text)


def test_verification_needs_no_database() -> None:
    """Given a fresh interpreter, when signatures and certificates can be checked, then no database driver is loaded."""
    program = (
        "import sys, ledger.signing, ledger.certificate_format\n"
        "print([name for name in sys.modules if name.startswith(('psycopg', 'eventsourcing', 'pydantic'))])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
