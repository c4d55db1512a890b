"""The certificate on paper: the same bytes each time, the same words, and the signed document inside."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from retention.certificates.pdf import certificate_pdf
from tests.pdfs import pages, streams, words

LIST = {
    "id": "22222222-2222-4222-8222-222222222222",
    "day": "2026-11-21",
    "erasures": 3,
    "keys": [
        {"class": "identity", "made_on": "2026-03-02", "commitment": f"{number:064x}", "index": None, "path": []}
        for number in range(60)
    ],
    "published": {},
}


def document(stage: int = 1, **changes: Any) -> dict[str, Any]:
    """An exported certificate, as far as drawing goes."""
    said = {
        "id": "11111111-1111-4111-8111-111111111111",
        "account": "33333333-3333-4333-8333-333333333333",
        "stage": stage,
        "revision": 2,
        "issued_on": "2026-11-22",
        "unreachable_from": "2026-11-21",
        "unrecoverable_from": "2026-12-19" if stage == 2 else None,
        "horizon": "2026-12-19",
        "statements": ["Unreachable from 2026-11-21: said once.", "Then something else.", "And signed."],
        "about": {
            "kind": "erasure",
            "ground": "the person asked for it (GDPR Art. 17(1))",
            "asked_on": "2026-11-20",
            "pack": "mailkai",
            "pack_version": 1,
            "clauses": ["10.1"],
        },
        "keys": {"classes": ["consent", "identity"], "list": None},
        "kept": [{"class": "suppression", "limb": "GDPR Art. 17(3)(b)", "why": "So that nobody is mailed again."}],
        "copies": [{"place": "/keys/ключи", "method": "overwritten", "by": "2026-12-19", "gone_from": "2026-12-19"}],
        "inventory": [{"artefact": "event log", "held": "events", "state": "stays"}],
        "acknowledgements": [{"where": "vault", "what": "gone", "on": "2026-11-21"}],
        "windows": [{"what": "opened keys", "why": "a minute", "until": "2026-11-21"}],
        "still_possible": ["Who knows the day can count."],
        "signer": {"algorithm": "Ed25519", "public_key": "ab" * 32},
    }
    return {
        "certificate": said | changes,
        "signature": "cd" * 64,
        "public_key": "ab" * 32,
        "destroyed_keys": LIST,
    }


def test_the_same_certificate_gives_the_same_bytes() -> None:
    """Given a certificate, when it is drawn twice, then not a byte differs; another revision gives others."""
    assert certificate_pdf(document()) == certificate_pdf(document())
    assert certificate_pdf(document()) != certificate_pdf(document(revision=3))


def test_the_signed_document_is_inside() -> None:
    """Given a PDF, when its attachment is taken out, then it is the certificate, whole, with its list of keys."""
    (held,) = [s for s in streams(certificate_pdf(document())) if s.startswith(b"{")]
    assert orjson.loads(held) == document()


@pytest.mark.parametrize(("stage", "name"), [(1, "Unreachable"), (2, "Unrecoverable from the enumerated copies")])
def test_it_says_what_the_document_says(stage: int, name: str) -> None:
    """Given a certificate of a stage, when it is drawn, then stage, days, statements and what was kept are on it."""
    text = words(certificate_pdf(document(stage)))
    assert f"STAGE {stage}" in text
    assert f"{name} from {'19 December 2026' if stage == 2 else '21 November 2026'}" in text
    for sentence in document(stage)["certificate"]["statements"]:
        assert sentence in text
    for said in ("Certificate of destruction", "suppression", "GDPR Art. 17(3)(b)", "event log", "clause 10.1"):
        assert said in text


def test_a_long_list_is_cut_on_paper_and_says_so() -> None:
    """Given sixty keys, when the certificate is drawn, then forty stand on it, and it says where the others are."""
    text = words(certificate_pdf(document()))
    assert "60 keys" in text
    assert "The first 40 are shown" in text
    assert f"{39:064x}" in text
    assert f"{40:064x}" not in text


def test_a_plan_is_drawn_by_its_items() -> None:
    """Given the certificate of a plan, when it is drawn, then each item stands there with its clause and keys."""
    items = [{"item": "engagement:2040-01", "clause": "8 usage", "due_on": "2042-01-01", "keys": 1}]
    about = {"kind": "plan", "pack": "mailkai", "pack_version": 1, "clauses": ["8 usage"], "items": items}
    text = words(certificate_pdf(document(about=about, kept=[])))
    assert "engagement:2040-01" in text
    assert "its time under the policy was over" in text


def test_a_path_longer_than_a_page_is_drawn_over_several() -> None:
    """Given a copy in a folder of four thousand characters, when the certificate is drawn, then each one is on it."""
    copies = [{"place": "/" + "x" * 4_000, "method": "overwritten", "by": "2026-12-19", "gone_from": "2026-12-19"}]
    content = certificate_pdf(document(copies=copies))
    assert words(content).count("x") - words(certificate_pdf(document(copies=[]))).count("x") == 4_000
    assert pages(content) > pages(certificate_pdf(document()))


def test_letters_of_other_scripts_are_marked_and_those_near_are_spelt() -> None:
    """Given folders named in other letters, when they are drawn, then they can be read as far as a face has them."""
    places = ("/mnt/Łódź–Praha", "/mnt/ключи")
    copies = [{"place": place, "method": "none", "by": "2026-12-19", "gone_from": "2026-12-19"} for place in places]
    text = words(certificate_pdf(document(copies=copies)))
    assert "/mnt/Lódz–Praha" in text
    assert "/mnt/?????" in text
