"""RFC 3161 timestamps: of these bytes, from an authority that is trusted here, at a time it vouches for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.request import Request, urlopen

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.oid import ExtendedKeyUsageOID
from rfc3161_client import Accuracy, HashAlgorithm, TimestampRequestBuilder

from audit.verify import timestamp
from audit.verify.errors import TimestampRefused
from audit.verify.timestamp import TOKEN_BYTES_MAX, open_timestamp, timestamp_request
from tests.timestamp_authority import QUERY_TYPE, TimestampAuthority

TEXT = b"log.example/tests\n7\nroot\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimestampAuthority:
    return TimestampAuthority(tmp_path_factory.mktemp("authority"))


def test_a_timestamp_says_when_by_whom_and_how_exactly(authority: TimestampAuthority) -> None:
    """Given an authority's answer, when it is opened, then its time, accuracy and name come out of it."""
    request = timestamp_request(TEXT)
    stamped = open_timestamp(authority.answer(request.content), TEXT, authority.roots_pem, nonce=request.nonce)
    assert abs(stamped.at - datetime.now(UTC)) < timedelta(hours=1)
    assert stamped.accuracy == timedelta(seconds=1.5)
    assert stamped.authority == "CN=Test timestamps"
    assert stamped.serial_number > 0


def test_an_authority_need_not_say_how_exact_it_is(tmp_path: Path) -> None:
    """Given an answer without accuracy, when it is opened, then it says None instead of a number."""
    vague = TimestampAuthority(tmp_path, accuracy="")
    answer = vague.answer(timestamp_request(TEXT).content)
    assert open_timestamp(answer, TEXT, vague.roots_pem).accuracy is None


def test_the_order_of_certificates_in_an_answer_is_no_matter(tmp_path: Path) -> None:
    """Given answers with a chain, which OpenSSL does not sort as DER does, when they are opened, then they verify."""
    for number in range(4):  # Which certificate comes first is a matter of chance: the keys are new each time.
        chained = TimestampAuthority(tmp_path / str(number), chain=True)
        answer = chained.answer(timestamp_request(TEXT).content)
        assert open_timestamp(answer, TEXT, chained.roots_pem).authority == "CN=Test timestamps"


def test_an_authority_can_be_asked_over_http(authority: TimestampAuthority) -> None:
    """Given the authority on the wire, when it is asked as authorities are, then its answer verifies."""
    request = timestamp_request(TEXT)
    with authority.serving() as url:
        posted = Request(url, request.content, {"Content-Type": QUERY_TYPE})  # noqa: S310
        with urlopen(posted, timeout=60) as reply:  # noqa: S310
            answer = reply.read()
    assert authority.asked[-1] == request.content
    open_timestamp(answer, TEXT, authority.roots_pem, nonce=request.nonce)


def test_other_bytes_another_nonce_and_other_roots_are_refused(authority: TimestampAuthority, tmp_path: Path) -> None:
    """Given a good answer, when text, nonce or trusted root is another, then it is refused with the reason."""
    request = timestamp_request(TEXT)
    answer = authority.answer(request.content)
    stranger = TimestampAuthority(tmp_path)
    with pytest.raises(TimestampRefused, match="Mismatch between messages"):
        open_timestamp(answer, TEXT + b" ", authority.roots_pem)
    with pytest.raises(TimestampRefused, match="Nonce"):
        open_timestamp(answer, TEXT, authority.roots_pem, nonce=request.nonce + 1)
    with pytest.raises(TimestampRefused, match="certificates"):
        open_timestamp(answer, TEXT, stranger.roots_pem)
    for nothing in (b"", b"no certificate", authority.roots_pem[:200]):
        with pytest.raises(TimestampRefused, match="roots"):
            open_timestamp(answer, TEXT, nothing)


@pytest.mark.parametrize("days", [(-20, -10), (10, 20)])
def test_an_authority_out_of_its_time_is_refused(tmp_path: Path, days: tuple[int, int]) -> None:
    """Given a certificate that is over, or has not begun, when it stamps, then that is refused."""
    late = TimestampAuthority(tmp_path, valid=(timedelta(days=days[0]), timedelta(days=days[1])))
    answer = late.answer(timestamp_request(TEXT).content)
    with pytest.raises(TimestampRefused, match="certificate"):
        open_timestamp(answer, TEXT, late.roots_pem)


def test_a_certificate_for_another_purpose_is_refused(authority: TimestampAuthority) -> None:
    """Given an answer whose certificate is of the same key, root and number, but signs code, then it is refused."""
    answer = authority.answer(timestamp_request(TEXT).content)
    own = load_pem_x509_certificate((authority.folder / "authority.pem").read_bytes()).public_bytes(Encoding.DER)
    assert own in answer
    other = b""
    while len(other) != len(own):  # The length of a signature varies by a byte or two.
        other = authority.certificate(ExtendedKeyUsageOID.CODE_SIGNING).public_bytes(Encoding.DER)
    with pytest.raises(TimestampRefused, match="purpose"):
        open_timestamp(answer.replace(own, other), TEXT, authority.roots_pem)


def test_another_digest_than_sha_256_is_refused(authority: TimestampAuthority) -> None:
    """Given a token over the SHA-512 of the same bytes, when it is opened, then it is refused."""
    request = TimestampRequestBuilder().data(TEXT).hash_algorithm(HashAlgorithm.SHA512).build()
    with pytest.raises(TimestampRefused, match="another digest"):
        open_timestamp(authority.answer(request.as_bytes()), TEXT, authority.roots_pem)


def test_what_is_no_granted_answer_is_refused(authority: TimestampAuthority) -> None:
    """Given a refusal of the authority, cut or lengthened or foreign bytes, when opened, then they are refused."""
    answer = authority.answer(timestamp_request(TEXT).content)
    rejected = authority.answer(b"no request")
    for bad in (rejected, b"", answer[:-1], answer[: len(answer) // 2], answer + b"\0", b"\x30\x84" + b"\xff" * 8):
        with pytest.raises(TimestampRefused):
            open_timestamp(bad, TEXT, authority.roots_pem)
    with pytest.raises(TimestampRefused, match="at most"):
        open_timestamp(bytes(TOKEN_BYTES_MAX + 1), TEXT, authority.roots_pem)


def test_a_flipped_bit_is_refused_or_changes_nothing_that_is_said(authority: TimestampAuthority) -> None:
    """Given an answer with any one bit flipped, when it is opened, then it is refused, or says exactly the same.

    A few bits stand outside of what is signed: versions and the name of the signature's algorithm.
    """
    answer = authority.answer(timestamp_request(TEXT).content)
    said = open_timestamp(answer, TEXT, authority.roots_pem)
    refused = 0
    for position in range(len(answer) * 8):
        flipped = bytearray(answer)
        flipped[position // 8] ^= 1 << position % 8
        try:
            assert open_timestamp(bytes(flipped), TEXT, authority.roots_pem) == said
        except TimestampRefused:
            refused += 1
    assert refused > len(answer) * 8 * 9 // 10


def test_an_authority_that_is_exact_to_ages_is_refused(
    authority: TimestampAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an accuracy longer than any calendar, as only a forger signs it, then it is refused and nothing breaks."""
    answer, ages = authority.answer(timestamp_request(TEXT).content), SimpleNamespace(seconds=2**62, millis=0, micros=0)
    read = timestamp._accuracy
    monkeypatch.setattr(timestamp, "_accuracy", lambda _: read(cast(Accuracy, ages)))
    with pytest.raises(TimestampRefused, match="malformed"):
        open_timestamp(answer, TEXT, authority.roots_pem)


def test_a_broken_authority_says_so(authority: TimestampAuthority) -> None:
    """Given an authority that is down, when it is asked, then it answers 503; the control for whoever asks it."""
    authority.down = True
    with authority.serving() as url, pytest.raises(OSError, match="503"):
        urlopen(Request(url, b"", {"Content-Type": QUERY_TYPE}), timeout=60)  # noqa: S310
    authority.down = False
