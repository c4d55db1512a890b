"""A certificate of destruction as a document: what is signed, what stands beside it, and how it is checked offline.

    { "certificate": {…},            what is said; its canonical bytes (RFC 8785) are signed
      "signature":   "…",            Ed25519 over them, hex
      "public_key":  "…",            the key that the signer says is theirs; compare it with the one you know
      "destroyed_keys": {…} | null } the list that the certificate names by its digest

Checking needs these bytes and the account's public key: no database, no vault, no network. It raises at the first lie
and never returns a bool. A list holds the keys of several erasures of one day in order of their commitments, so that
none of them is anybody's; each comes with its path to the root that was published on the day it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from domain.merkle import PathRefused, require_included
from ledger.entry import canonical
from ledger.errors import LedgerError
from ledger.signing import SignatureRefused, verify

FORMAT: Final = "lethe-certificate-of-destruction"
FORMAT_VERSION: Final = 1
CONTEXT: Final = b"lethe.certificate.v1"
BYTES_MAX: Final = 64 << 20
"""Who needs it: whoever checks a file that somebody sent; a list of 256 persons' keys has some two megabytes."""


class CertificateRefused(LedgerError):
    """A document is no certificate of this account, or it contradicts itself."""


def digest_of(document: Mapping[str, Any]) -> str:
    """The SHA-256 of a document's canonical bytes, hex: what the log holds of a certificate, and it of its list."""
    return sha256(canonical(document)).hexdigest()


def checked_certificate(content: bytes, public_key: bytes) -> dict[str, Any]:
    """The certificate in these bytes, if its signature, its list and every path of the list hold.

    Raises `CertificateRefused` for what is no certificate or contradicts itself, `SignatureRefused` where it was
    changed or another key signed it.
    """
    held = _parsed(content)
    document, signature = held.get("certificate"), held.get("signature")
    if not isinstance(document, dict) or not isinstance(signature, str):
        raise CertificateRefused("This is no certificate of destruction: it has no `certificate` and `signature`.")
    if (document.get("format"), document.get("version")) != (FORMAT, FORMAT_VERSION):
        raise CertificateRefused(f"This is no certificate of destruction of version {FORMAT_VERSION}.")
    verify(public_key, CONTEXT, canonical(document), _hex(signature))
    if document["signer"]["public_key"] != public_key.hex():
        raise CertificateRefused("The certificate names another key than the one that signed it.")
    _check_list(document.get("keys", {}).get("list"), held.get("destroyed_keys"))
    return document


def _check_list(named: Mapping[str, Any] | None, keys: Mapping[str, Any] | None) -> None:
    """Raise unless the list is the one named, and each key of it was published as it says."""
    if named is None:
        if keys is not None:
            raise CertificateRefused("A list of keys stands beside a certificate that names none.")
        return
    if keys is None:
        raise CertificateRefused("The certificate names a list of keys, and it is not here. Export it whole.")
    if digest_of(keys) != named["digest"]:
        raise CertificateRefused("The list of keys is not the one that the certificate names, or it was changed.")
    for key in keys["keys"]:
        _check_published(key, keys["published"])


def _check_published(key: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    """Raise unless the key's path leads to the root of its day. A key that was never published says so."""
    if key["index"] is None:
        return
    day = published.get(key["made_on"])
    if day is None:
        raise CertificateRefused("A key of the list is said to be published on a day of which nothing is said.")
    path = [_hex(step) for step in key["path"]]
    try:
        require_included(_hex(key["commitment"]), key["index"], day["count"], path, _hex(day["root"]))
    except PathRefused as error:
        raise CertificateRefused(f"A key of the list was not published as it says. {error}") from None


def _parsed(content: bytes) -> dict[str, Any]:
    if len(content) > BYTES_MAX:
        raise CertificateRefused(f"A certificate has at most {BYTES_MAX:,} bytes. Is this the file?")
    try:
        held = orjson.loads(content)
    except ValueError:
        held = None
    if not isinstance(held, dict):
        raise CertificateRefused("This is no certificate of destruction: it is not a JSON object.")
    return held


def _hex(text: Any) -> bytes:
    try:
        return bytes.fromhex(text)
    except (TypeError, ValueError):
        raise SignatureRefused("A signature, key or hash of the certificate is not written in hex digits.") from None
