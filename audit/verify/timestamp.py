"""RFC 3161 timestamps: an authority outside the house says, signed, that a checkpoint existed at a time.

The token is over the SHA-256 of the checkpoint's text (the note body, without signatures), and is kept as the whole
answer of the authority (`.tsr`), as OpenSSL reads it too. Which authorities are trusted is the reader's choice: their
root certificates come as PEM. A certificate has to be valid at the time stamped, not today, so that a token can be
checked years later; whether it was withdrawn meanwhile cannot be seen offline, and is not claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography.x509 import Certificate, load_der_x509_certificate, load_pem_x509_certificates
from rfc3161_client import (
    Accuracy,
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from audit.verify.errors import TimestampRefused

TOKEN_BYTES_MAX: Final = 64 * 1024
"""A token carries a chain of certificates: a few kilobytes each."""

SHA256_OID: Final = "2.16.840.1.101.3.4.2.1"


@dataclass(frozen=True, slots=True)
class Stamped:
    """What an authority said: the time (UTC), how exact it claims to be (None: it does not say), and by whom."""

    at: datetime
    accuracy: timedelta | None
    authority: str
    serial_number: int


@dataclass(frozen=True, slots=True)
class TimestampRequest:
    """What is sent to an authority, and the number its answer has to repeat."""

    content: bytes
    nonce: int


def timestamp_request(text: bytes) -> TimestampRequest:
    """The request for a token over the SHA-256 of these bytes, with the authority's certificates in the answer."""
    request = (
        TimestampRequestBuilder()
        .data(text)
        .hash_algorithm(HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )
    assert request.nonce is not None
    return TimestampRequest(request.as_bytes(), request.nonce)


def open_timestamp(token: bytes, text: bytes, roots_pem: bytes, *, nonce: int | None = None) -> Stamped:
    """What an authority under one of these roots said about these bytes. Raises `TimestampRefused`.

    `nonce` is that of the request, for whoever made it.
    """
    answer = _decoded(token)
    try:
        if answer.tst_info.message_imprint.hash_algorithm.dotted_string != SHA256_OID:
            raise TimestampRefused("A timestamp is over another digest than SHA-256.")
        builder = VerifierBuilder(roots=_roots(roots_pem), nonce=nonce)
        builder.build().verify(answer, sha256(text).digest())
        return _stamped(answer)
    except VerificationError as refused:
        raise TimestampRefused(f"A timestamp does not verify: {refused}") from None
    except (ValueError, OverflowError) as malformed:
        raise TimestampRefused(f"A timestamp is malformed: {malformed}") from None


def _decoded(token: bytes) -> TimeStampResponse:
    if len(token) > TOKEN_BYTES_MAX:
        raise TimestampRefused(f"A timestamp has {len(token)} bytes; at most {TOKEN_BYTES_MAX} are read.")
    try:
        return decode_timestamp_response(certificates_in_order(token))
    except ValueError as malformed:
        raise TimestampRefused(f"Not a granted answer of a timestamp authority: {malformed}") from None


def _roots(pem: bytes) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        raise TimestampRefused("The trusted roots of timestamp authorities are not certificates in PEM.") from None


def _stamped(answer: TimeStampResponse) -> Stamped:
    info, signed = answer.tst_info, answer.signed_data
    (signer,) = signed.signer_infos
    subjects = [
        certificate.subject.rfc4514_string()
        for certificate in map(load_der_x509_certificate, signed.certificates)
        if (certificate.issuer, certificate.serial_number) == (signer.issuer, signer.serial_number)
    ]
    return Stamped(info.gen_time, _accuracy(info.accuracy), subjects[0], info.serial_number)


def _accuracy(accuracy: Accuracy | None) -> timedelta | None:
    if accuracy is None:
        return None
    return timedelta(
        seconds=accuracy.seconds or 0, milliseconds=accuracy.millis or 0, microseconds=accuracy.micros or 0
    )


def certificates_in_order(token: bytes) -> bytes:
    """The token with its certificates sorted as DER sorts a set, which authorities built on OpenSSL leave undone.

    RFC 5652 signs the certificates by none of its signatures and does not ask for an order; the decoder does. Bytes
    that are no token come back as they are, for the decoder to refuse.
    """
    try:
        start, end = _certificates(token)
        elements, at = list[bytes](), start
        while at < end:
            _, _, after = _element(token, at)
            elements.append(token[at:after])
            at = after
        return token[:start] + b"".join(sorted(elements)) + token[end:]
    except (IndexError, ValueError):
        return token


_SEQUENCE: Final = 0x30
_FIRST_CONTEXT: Final = 0xA0


def _certificates(token: bytes) -> tuple[int, int]:
    """Where the certificates stand: answer > token > content > SignedData > [0], between the other fields."""
    _, inside, _ = _element(token, 0, _SEQUENCE)
    _, _, at = _element(token, inside, _SEQUENCE)  # The status.
    _, at, _ = _element(token, at, _SEQUENCE)  # The token,
    _, _, at = _element(token, at)  # of which the type is passed over,
    _, at, _ = _element(token, at, _FIRST_CONTEXT)
    _, at, _ = _element(token, at, _SEQUENCE)
    for _ in ("version", "digest algorithms", "what was signed"):
        _, _, at = _element(token, at)
    _, start, end = _element(token, at, _FIRST_CONTEXT)
    return start, end


def _element(content: bytes, at: int, tag: int | None = None) -> tuple[int, int, int]:
    """Tag, start and end of the DER element at an offset. Raises `IndexError` or `ValueError`."""
    if tag not in (None, content[at]):
        raise ValueError("Another element than a token has there.")
    length, start = content[at + 1], at + 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(content[at + 2 : start], "big")
    if start + length > len(content):
        raise ValueError("An element is cut short.")
    return content[at], start, start + length
