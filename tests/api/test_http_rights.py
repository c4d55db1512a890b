"""Suppressions, the change feed, objections, restrictions, erasures and deletions over HTTP."""

from __future__ import annotations

import time
from typing import Any

import pytest

from projections.worker import catch_up
from tests.api.conftest import CONSENT, Api

FINISHED_SECONDS_MAX = 60.0


def finished(api: Api, path: str) -> Any:
    """The answer once every key is gone."""
    deadline = time.monotonic() + FINISHED_SECONDS_MAX
    while True:
        answer = api.get(path, scope="officer")
        if answer["finished_at"] is not None:
            return answer
        assert time.monotonic() < deadline, "The erasure did not end."
        time.sleep(0.02)


def test_forgets_a_person(api: Api) -> None:
    """The intent counts at once, the keys go in the background, and nothing is sent or found afterwards."""
    api.add("anna@example.com")
    campaign = api.campaign()
    accepted = api.call("POST", "/v1/erasures", {"email": "anna@example.com", "reason": "withdrew"}, scope="officer")
    assert accepted.status_code == 202
    assert accepted.json()["state"] == "intended"
    answer = finished(api, f"/v1/erasures/{accepted.json()['erasure_id']}")
    assert answer["state"] == "keys_destroyed"
    assert api.authorise(campaign, "anna@example.com")["refused"][0]["rule"] == "erased"
    assert api.post("/v1/events/search", {"email": "anna@example.com"}) == {"events": []}


def test_suppresses_an_address_that_is_not_held(api: Api) -> None:
    """Nothing is held, and the address is unmailable all the same."""
    answer = api.post("/v1/erasures", {"email": "ghost@example.com", "reason": "asked"})
    assert answer["state"] == "nothing_held"
    (found,) = api.post("/v1/suppressions/lookup", {"emails": ["ghost@example.com"]})["results"]
    assert found["suppressed"] is True


def test_deletes_contacts_and_leaves_them_suppressed(api: Api) -> None:
    """A deletion is an erasure by the controller; importing the person again makes nobody mailable."""
    api.add("anna@example.com", "bert@example.com")
    body = {"emails": ["anna@example.com", "ghost@example.com", "nobody", 7]}
    accepted = api.call("POST", "/v1/contacts/deletions", body, scope="officer")
    assert accepted.status_code == 202
    assert [row["index"] for row in accepted.json()["rejected"]] == [2, 3]
    answer = finished(api, f"/v1/deletions/{accepted.json()['deletion_id']}")
    assert answer["states"] == {"keys_destroyed": 1, "nothing_held": 1}
    api.post("/v1/contacts", {"contacts": [{"email": "anna@example.com"}]})
    recipients = api.authorise(api.campaign(), "anna@example.com", "bert@example.com")
    assert recipients["refused"] == [{"email": "anna@example.com", "rule": "erased"}]
    assert recipients["allowed"][0]["email"] == "bert@example.com"


@pytest.mark.parametrize("body", [{"emails": []}, {"emails": ["nobody"]}, {"emails": "anna@example.com"}, {}])
def test_refuses_a_deletion_of_nobody(api: Api, body: object) -> None:
    """Nothing to delete is an error of the caller."""
    assert api.call("POST", "/v1/contacts/deletions", body).status_code == 422


@pytest.mark.parametrize("path", ["/v1/erasures/{}", "/v1/deletions/{}", "/v1/campaigns/{}"])
@pytest.mark.parametrize("identity", ["0028222b-ef1b-41b3-9e63-bc11c4f9afa8", "anna@example.com", "1"])
def test_knows_nothing_of_other_ids(api: Api, path: str, identity: str) -> None:
    """An id that is unknown, or none, is a 404."""
    assert api.call("GET", path.format(identity)).status_code == 404


def test_an_erasure_id_is_no_deletion_id(api: Api) -> None:
    """The two kinds do not answer for each other."""
    erasure = api.post("/v1/erasures", {"email": "ghost@example.com", "reason": "asked"})["erasure_id"]
    assert api.call("GET", f"/v1/deletions/{erasure}").status_code == 404


def test_follows_suppressions(api: Api) -> None:
    """The feed tells of a withdrawal with its recall, and a cursor goes on where it was."""
    api.add("anna@example.com")
    catch_up(api.ledger)
    start = api.get("/v1/suppressions/changes", scope="campaign")["next"]
    api.post("/v1/consents", {"consents": [CONSENT | {"email": "anna@example.com", "action": "withdraw"}]})
    catch_up(api.ledger)
    answer = api.get(f"/v1/suppressions/changes?after={start}", scope="campaign")
    assert {change["kind"] for change in answer["changes"]} == {"consent_withdrawn", "recalled"}
    assert {change["email"] for change in answer["changes"]} == {"anna@example.com"}
    assert api.get(f"/v1/suppressions/changes?after={answer['next']}")["changes"] == []
    first = api.get(f"/v1/suppressions/changes?after={start}&limit=1")
    assert len(first["changes"]) == 1
    assert len(api.get(f"/v1/suppressions/changes?after={first['next']}")["changes"]) == 1


@pytest.mark.parametrize("cursor", ["12", "x" * 12, "anna%40example.com", "", "%00", "_" * 12])
def test_refuses_a_cursor_that_is_none(api: Api, cursor: str) -> None:
    """A cursor is what the API gave, unchanged."""
    assert api.call("GET", f"/v1/suppressions/changes?after={cursor}").status_code == 422


def test_imposes_and_lifts_by_hand(api: Api) -> None:
    """Known and unknown addresses are suppressed; staff take back only what staff imposed."""
    api.add("anna@example.com")
    rows = [
        {"email": "anna@example.com"},
        {"email": "ghost@example.com", "cause": "legal", "since": "2026-01-02T03:04:05Z"},
        {"email": "nobody"},
        {"email": "bert@example.com", "scope": "everything"},
        {"email": "carl@example.com", "cause": "complaint"},
    ]
    answer = api.post("/v1/suppressions", {"suppressions": rows}, scope="officer")
    assert (answer["added"], [row["index"] for row in answer["rejected"]]) == (2, [2, 3, 4])
    assert answer["receipt"]["last"] == api.end_of_log()
    campaign = api.campaign()
    assert api.authorise(campaign, "anna@example.com")["refused"][0]["rule"] == "manual"
    assert api.post("/v1/suppressions/lifts", {"email": "anna@example.com"}, scope="officer") == {"lifted": True}
    assert api.authorise(campaign, "anna@example.com")["allowed"]
    refused = api.call("POST", "/v1/suppressions/lifts", {"email": "ghost@example.com"})
    assert refused.status_code in (404, 409)
    (found,) = api.post("/v1/suppressions/lookup", {"emails": ["ghost@example.com"]})["results"]
    assert found["entries"] == [{"scope": "all", "cause": "legal", "since": "2026-01-02"}]


def test_looks_up_addresses_in_order_and_names_bad_ones(api: Api) -> None:
    """One result for each address; what is none is named by its index."""
    answer = api.post("/v1/suppressions/lookup", {"emails": ["b@example.com", "nobody", 7, "a@example.com"]})
    assert [row["email"] for row in answer["results"]] == ["b@example.com", "a@example.com"]
    assert [row["index"] for row in answer["rejected"]] == [1, 2]


def test_an_objection_is_absolute(api: Api) -> None:
    """It stops marketing for the known and the unknown, and leaves service mail alone."""
    api.add("anna@example.com")
    answer = api.post("/v1/objections", {"email": "anna@example.com"}, scope="officer")
    assert answer["position"] is not None
    assert api.authorise(api.campaign(), "anna@example.com")["refused"][0]["rule"] == "objection"
    assert api.authorise(api.campaign(purpose="transactional"), "anna@example.com")["allowed"]
    assert api.post("/v1/objections", {"email": "ghost@example.com", "scope": "purpose:newsletter"})["position"]
    (found,) = api.post("/v1/suppressions/lookup", {"emails": ["ghost@example.com"]})["results"]
    assert found["entries"][0]["cause"] == "objection"


def test_a_restriction_stops_everything_until_it_is_lifted(api: Api) -> None:
    """Service mail included; a second restriction changes nothing and has no position."""
    api.add("anna@example.com")
    campaign = api.campaign(purpose="transactional", kind="ongoing")
    body = {"email": "anna@example.com"}
    assert api.post("/v1/restrictions", body, scope="officer")["position"] is not None
    assert api.post("/v1/restrictions", body)["position"] is None
    assert api.authorise(campaign, "anna@example.com")["refused"][0]["rule"] == "restricted"
    assert api.post("/v1/restrictions", body | {"lift": True})["position"] is not None
    assert api.authorise(campaign, "anna@example.com")["allowed"]
    assert api.call("POST", "/v1/restrictions", {"email": "ghost@example.com"}).status_code == 404
