"""No text of the product promises more than destroying keys can keep: commands, errors, the API, packs, certificates.

The pages of the documentation are held to the same words in `test_pages.py`. Here it is every text that the program
itself can show: string literals of the product's code, help texts among them, files that ship beside it, the OpenAPI
document, and certificates as they are issued, on paper too. "Anonymous" and its kind may only stand where it is denied.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from api.bootstrap import Instance
from api.http.app import create_app, openapi_document
from ledger.application import Ledger
from retention.certificates import text as certificate_text
from retention.certificates.pdf import certificate_pdf
from retention.certificates.store import certificate, exported
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import emails, willing
from tests.docs.pages import ROOT, sentences
from tests.pdfs import words

OVERCLAIMS = re.compile(
    r"anonym\w*|immediate(?:ly)? and provabl[ey]|provabl[ey] (?:deleted|erased|destroyed)|immutab\w*|"
    r"tamper[- ]?proof|permanently deleted|irrecoverabl[ey]|completely (?:deleted|erased|removed)|"
    r"no (?:copy|copies|trace) (?:remain|exist|is left|are left)|guarantee\w*",
    re.IGNORECASE,
)
"""What LAW.md's last lines forbid to claim, and its relations."""

DENIED = re.compile(
    r"\b(?:not|never|no)\b.*\b(?:claim|call|promise)|\b(?:called|claimed)\b.*\b(?:not|never)\b", re.IGNORECASE
)

CODE = sorted(
    path
    for room in ("domain", "ledger", "projections", "retention", "audit", "api")
    for path in (ROOT / room).rglob("*.py")
)
FILES = sorted(
    path
    for room in ("domain", "retention", "api")
    for path in (ROOT / room).rglob("*")
    if path.suffix in (".toml", ".html", ".txt", ".j2", ".jinja", ".css", ".js")
)


def claims(text: str) -> list[str]:
    """The sentences that promise too much."""
    return [s for s in sentences(text) if OVERCLAIMS.search(s) and not DENIED.search(s)]


def literals(path: Path) -> Iterator[str]:
    """Every text of a module: literals, docstrings, and the fixed parts of formatted ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CODE, ids=_id)
def test_no_module_says_too_much(path: Path) -> None:
    """Given a module of the product, then none of its texts promises what cannot be kept."""
    assert [claim for text in literals(path) for claim in claims(text)] == []


@pytest.mark.parametrize("path", FILES, ids=_id)
def test_no_shipped_file_says_too_much(path: Path) -> None:
    """Given a file that ships beside the code, then it promises nothing that cannot be kept."""
    assert claims(path.read_text()) == []


def test_the_document_of_the_api_says_no_more(instance: Instance) -> None:
    """Given the OpenAPI document, then no description of it promises too much."""
    texts = list(_texts(openapi_document(create_app(instance))))
    assert len(texts) > 100
    assert [claim for text in texts for claim in claims(text)] == []


@pytest.mark.store
def test_certificates_say_no_more(ledger: Ledger) -> None:
    """Given certificates as they are issued, in every revision and on paper, then they claim what LAW.md allows."""
    willing(ledger, emails(2))
    (status, *_) = ledger.erasures.intend(emails(2), reason="subject_request", actor="cli")
    finish_erasures(ledger)
    held = exported(ledger, certificate(ledger, status.erasure_id))
    run_daily(ledger)
    for text in (*_texts(held), words(certificate_pdf(held))):
        assert claims(text) == []
    said = " ".join(held["certificate"]["statements"])
    assert "Unreachable from" in said


def test_the_words_of_both_stages_are_those_that_may_be_used() -> None:
    """Given the sentences of the two stages, then they say unreachable, and unrecoverable from enumerated copies."""
    day = date(2026, 11, 21)
    assert "Unreachable from 2026-11-21" in certificate_text.unreachable(day, "the keys")
    assert "Unrecoverable from the enumerated copies from 2026-11-21" in certificate_text.unrecoverable(day)
    assert "tamper-evident back to the last checkpoint that somebody else holds" in certificate_text.DIGEST_IN_LOG


def _texts(held: Any) -> Iterator[str]:
    if isinstance(held, str):
        yield held
    elif isinstance(held, dict):
        for value in held.values():
            yield from _texts(value)
    elif isinstance(held, list | tuple):
        for value in held:
            yield from _texts(value)


@pytest.mark.parametrize(
    "claim",
    [
        "The data is anonymous.",
        "Aggregates are anonymised first.",
        "An immutable log.",
        "A tamper-proof record.",
        "Immediate and provable deletion.",
        "The person was irrecoverably erased.",
        "We guarantee that no copy exists.",
    ],
)
def test_the_search_finds_them(claim: str) -> None:
    """Given a text that claims too much, then it is found (the control of the tests above)."""
    assert claims(claim)


def test_a_denial_passes() -> None:
    """Given a text that denies the claim, then it passes."""
    assert claims("Lethe does not call what remains anonymous.") == []
