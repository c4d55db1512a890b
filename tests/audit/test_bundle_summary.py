"""The summary of a bundle for people: nothing that anybody wrote steers it, and it does not overstate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from typing import Any
from uuid import uuid4

import orjson
import pytest

from audit.bundles.disclosing import Part
from audit.bundles.model import KINDS, Kind
from audit.bundles.summary import CONTENT_POLICY, TIMES, Summary, SummaryEvent, summary_page
from audit.bundles.summary_pdf import summary_pdf
from ledger.mapper import LedgerEvent

MADE = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{7*7}}{%raw%}"
TURNED = "\u202eevil\u202c \u2066x\u2069 \x1b[2J\x9b"


def _summary(kind: Kind = "person", text: str = "", parts: Mapping[str, Mapping[str, Any]] | None = None) -> Summary:
    """A summary in which one text stands wherever somebody may have written one."""
    summary = Summary(
        kind=kind,
        title="One person",
        words=(f"words {text}",),
        asked={"subject": text},
        account=text,
        origin=text,
        size=7,
        published_at=MADE,
        made_at=MADE,
        by=text,
        entries=1,
        opens=True,
        rules={
            "version": text,
            "rows": [{"says": [text], "effective_from": text, "effective_to": text, "source": text, "note": text}],
        },
        cosigned=1,
        marks={1: text},
    )
    entry = {
        "recorded_at": "2026-11-21T08:02:00.000000Z",
        "occurred_at": "2026-11-20T08:02:00.000000Z",
        "topic": "contact.added.v1",
        "stream": text,
        "version": 1,
        "actor": text,
        "rules": text,
        "plain": {"purpose": text, text: "name"},
        "sealed": dict.fromkeys(parts or (), ""),
    }
    event = LedgerEvent(uuid4(), 1, "contact.added.v1", orjson.dumps(entry), position=1)
    summary.take(SummaryEvent.of(event, [Part(1, name, said) for name, said in (parts or {}).items()]))
    summary.finish(opened=0, erased=0, not_disclosed=0)
    return summary


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_becomes_markup(kind: Kind) -> None:
    """Given markup in every text that somebody may have written, then it is shown as text, and no element is added."""
    opened = {"identity": {"opened": {"email": SCRIPT, "fields": {SCRIPT: [SCRIPT]}}}}
    page, plain = summary_page(_summary(kind, SCRIPT, opened)), summary_page(_summary(kind, "plain", opened))
    elements = re.compile(r"<[a-z][^>]*>")
    assert "<script" not in page
    assert "<img" not in page
    assert {re.sub(r"\W.*", "", tag[1:]) for tag in elements.findall(page)} == {
        re.sub(r"\W.*", "", tag[1:]) for tag in elements.findall(plain)
    }
    assert unescape(page).count("{{7*7}}") > 10
    assert f'content="{CONTENT_POLICY}"' in unescape(page)
    assert "default-src 'none'" in CONTENT_POLICY


def test_no_letter_turns_its_neighbours_round() -> None:
    """Given letters that turn the direction of a line or steer a terminal, then they are named and not obeyed."""
    page = summary_page(_summary(text=TURNED))
    assert not set(page) & {*"\u202e\u202c\u2066\u2069\x1b\x9b"}
    assert "[U+202E]evil[U+202C]" in page
    other = "مرحبا בית नमस्ते क्‍ष Zoë"
    assert other in summary_page(_summary(text=other))


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"opened": {"email": "a@b.example"}}, "opened"),
        ({"opened": {"email": "a@b.example"}, "unprovable": "x"}, "opened_without_a_key_that_shows_it"),
        ({"not_disclosed": "held"}, "not_opened"),
        ({"erased": {"certificate": None, "when": "2026-11-21", "why": "period"}}, "erased"),
    ],
)
def test_what_is_not_shown_by_a_key_does_not_look_so(said: Mapping[str, Any], state: str) -> None:
    """Given a part that no key bears out, then it does not stand in the colour of those that were opened by one."""
    assert f'<div class="part {state}">' in summary_page(_summary(parts={"identity": said}))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_does_not_show(kind: Kind) -> None:
    """Given a bundle of any kind, then its page says that its times are the house's, and that a key is due."""
    summary = _summary(kind)
    page = unescape(summary_page(summary))
    assert "What it does not show" in page
    assert TIMES in page
    assert len(summary.not_shown) > 1
    assert "--key 'VERIFIER-KEY'" in page
    assert summary_pdf(_summary(kind, SCRIPT + TURNED)).startswith(b"%PDF")
