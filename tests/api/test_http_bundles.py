"""Evidence bundles over HTTP: one zip, opened for officers only, and recorded before its first byte."""

from __future__ import annotations

import io
from hashlib import sha256
from typing import Any
from uuid import uuid4
from zipfile import ZipFile

import pytest

from api.bootstrap import Instance
from api.http.routes import bundles
from audit.verify.bundle import Trusted, verify_bundle
from domain.access import ROUNDED_TO_MIN, ExportProduced
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, register, topics
from tests.api.conftest import Api
from tests.audit.publishing import keys_of

ANNA, BERT = "anna@example.com", "bert@example.com"


@pytest.fixture
def people(api: Api) -> Api:
    """Two persons who agreed to the newsletter."""
    api.add(ANNA, BERT)
    return api


def zipped(api: Api, path: str, body: dict[str, Any], scope: str = "auditor") -> bytes:
    """The bundle that is answered."""
    answer = api.call("POST", path, body, scope=scope)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip"
    with ZipFile(io.BytesIO(answer.content)) as archive:
        digest = sha256(archive.read("manifest.json")).hexdigest()
    assert answer.headers["lethe-manifest-sha256"] == digest
    return answer.content


def test_a_bundle_comes_whole_and_verifies(people: Api, instance: Instance) -> None:
    """Given each kind, when an auditor asks for it, then a zip comes that verifies by the log's key."""
    campaign = register(people.ledger)
    token = ask(people.ledger, campaign, [ANNA, BERT]).allowed[ANNA]
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/v1/bundles", {"kind": "person", "email": ANNA}),
        ("/v1/bundles", {"kind": "campaign", "id": str(campaign)}),
        ("/v1/bundles", {"kind": "period", "first": 2, "last": 5}),
        ("/v1/bundles", {"kind": "period", "from": "2020-01-01T00:00:00Z"}),
        ("/v1/receipts", {"message_id": token}),
        ("/v1/receipts", {"message_id": token, "link": False}),
    ]
    for path, body in asked:
        content = zipped(people, path, body)
        found = verify_bundle(io.BytesIO(content), Trusted(log_keys=keys_of(instance, people.ledger)))
        assert found.parts.opened == 0
        assert found.manifest.by.startswith("key:")
        assert ANNA.encode() not in content


def test_only_officers_have_parts_opened(people: Api) -> None:
    """Given a bundle that is asked for opened, then an auditor is refused and nothing recorded; an officer gets it."""
    body = {"kind": "person", "email": ANNA, "open": True}
    answer = people.call("POST", "/v1/bundles", body, scope="auditor")
    assert (answer.status_code, answer.json()["type"]) == (403, "/docs#problem-forbidden")
    assert "access.export_produced.v1" not in topics(people.ledger)
    assert ANNA.encode() in zipped(people, "/v1/bundles", body, scope="officer")
    exported = [
        fact
        for event in people.ledger.log.select_log(1, 1_000)
        if isinstance(fact := people.ledger.sealing.open(event, personal=False), ExportProduced)
    ]
    assert [(fact.kind, fact.opened) for fact in exported] == [("bundle.person", ROUNDED_TO_MIN)]
    assert "access.viewed.v1" in topics(people.ledger)


def test_campaign_keys_make_no_bundles(people: Api) -> None:
    """Given a key that may only send, when it asks for evidence, then it is refused, and that is recorded."""
    for path, body in (("/v1/bundles", {"kind": "person", "email": ANNA}), ("/v1/receipts", {"message_id": "x"})):
        assert people.call("POST", path, body, scope="campaign").status_code == 403
    assert topics(people.ledger).count("access.refused.v1") == 2


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "person"},
        {"kind": "person", "email": ANNA, "first": 1},
        {"kind": "campaign", "email": ANNA},
        {"kind": "campaign", "id": "seven"},
        {"kind": "everything"},
        {"kind": "period", "first": 0},
    ],
)
def test_a_question_that_does_not_fit_is_refused(people: Api, body: dict[str, Any]) -> None:
    """Given a kind with the wrong names, then 422 says so and repeats no value."""
    answer = people.call("POST", "/v1/bundles", body, scope="auditor")
    assert answer.status_code == 422
    assert ANNA not in answer.text


def test_what_is_not_there_has_its_status(people: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given what nobody knows, what was erased, and too much, then 404, 410 and 413 come before any byte of a zip."""
    token = ask(people.ledger, register(people.ledger), [ANNA, BERT]).allowed[ANNA]
    people.ledger.erasures.intend([ANNA], reason="other", actor="cli")
    finish_erasures(people.ledger)
    monkeypatch.setattr(bundles, "BUNDLE_ENTRIES_OVER_HTTP_MAX", 3)
    for path, body, status, kind in (
        ("/v1/bundles", {"kind": "request", "id": str(uuid4())}, 404, "not-found"),
        ("/v1/bundles", {"kind": "person", "email": ANNA}, 404, "not-found"),
        ("/v1/receipts", {"message_id": token}, 410, "erased"),
        ("/v1/receipts", {"message_id": "no token"}, 422, "invalid-request"),
        ("/v1/bundles", {"kind": "period"}, 413, "too-large"),
    ):
        answer = people.call("POST", path, body, scope="auditor")
        assert (answer.status_code, answer.json()["type"]) == (status, f"/docs#problem-{kind}"), answer.text
    assert "access.export_produced.v1" not in topics(people.ledger)
