"""Certificates over HTTP: by erasure and by id, as JSON and as PDF, for officers and auditors of the account only."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
import pytest

from ledger.certificate_format import checked_certificate
from ledger.signing import verify_key
from tests.api.conftest import Api
from tests.api.test_http_rights import finished

PDF = "application/pdf"


@pytest.fixture
def erasure(api: Api) -> Any:
    """A finished erasure."""
    api.add("anna@example.com")
    accepted = api.post("/v1/erasures", {"email": "anna@example.com", "reason": "subject_request"}, scope="officer")
    return finished(api, f"/v1/erasures/{accepted['erasure_id']}")


def test_an_erasure_names_its_certificate_and_its_steps(erasure: Any) -> None:
    """Given a finished erasure, when it is looked at, then its certificate and each step are named."""
    assert erasure["certificate_id"] != erasure["erasure_id"]
    steps = {step["step"]: step["count"] for step in erasure["steps"]}
    assert steps.keys() == {"addresses", "keys", "records", "leases", "change_feed", "opening"}
    assert steps["keys"] > 1


@pytest.mark.parametrize("scope", ["officer", "auditor"])
def test_it_is_answered_by_erasure_and_by_id(api: Api, erasure: Any, scope: str) -> None:
    """Given a certificate, when it is asked for by either id, then it is the same, and it checks offline."""
    by_erasure = api.get(f"/v1/erasures/{erasure['erasure_id']}/certificate", scope=scope)
    by_id = api.get(f"/v1/certificates/{erasure['certificate_id']}", scope=scope)
    assert by_erasure == by_id == api.get(f"/v1/certificates/{erasure['erasure_id']}", scope=scope)
    said = checked_certificate(orjson.dumps(by_id), verify_key(api.ledger.keyring))
    assert (said["id"], said["stage"]) == (erasure["certificate_id"], 1)


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("application/pdf", PDF),
        ("application/pdf, application/json;q=0.5", PDF),
        ("text/html, application/pdf;q=0.9", PDF),
        ("application/json, application/pdf", "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
    ],
)
def test_it_is_had_on_paper(api: Api, erasure: Any, accept: str, answered: str) -> None:
    """Given an Accept header, when PDF is named first, then PDF is answered, else JSON."""
    path = f"/v1/certificates/{erasure['certificate_id']}"
    answer = api.call("GET", path, headers={"Accept": accept})
    assert answer.headers["content-type"] == answered
    if answered == PDF:
        assert answer.content.startswith(b"%PDF-")
        assert erasure["certificate_id"] in answer.headers["content-disposition"]
    else:
        assert answer.json()["certificate"]["id"] == erasure["certificate_id"]


def test_where_there_is_none_it_says_why(api: Api) -> None:
    """Given ids of nobody, and an erasure of an address not held, when asked for, then 404 says why."""
    ghost = api.post("/v1/erasures", {"email": "ghost@example.com", "reason": "other"}, scope="officer")
    assert api.get(f"/v1/erasures/{ghost['erasure_id']}", scope="officer")["certificate_id"] is None
    for path, why in (
        (f"/v1/erasures/{ghost['erasure_id']}/certificate", "Nothing was held"),
        (f"/v1/erasures/{uuid4()}/certificate", "no erasure"),
        (f"/v1/certificates/{uuid4()}", "no certificate"),
        ("/v1/certificates/seven", "nothing with this id"),
    ):
        answer = api.call("GET", path, scope="officer")
        assert answer.status_code == 404
        assert why in answer.json()["detail"]


@pytest.mark.parametrize("scope", ["campaign", ""])
def test_who_may_not_see_it(api: Api, erasure: Any, scope: str) -> None:
    """Given a caller without the scope, or without a key, when a certificate is asked for, then it is refused."""
    for path in (f"/v1/certificates/{erasure['certificate_id']}", f"/v1/erasures/{erasure['erasure_id']}/certificate"):
        assert api.call("GET", path, scope=scope).status_code in (401, 403)
