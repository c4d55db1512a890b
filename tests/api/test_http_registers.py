"""Registers and records of processing over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from projections.worker import catch_up
from tests.api.conftest import Api

pytestmark = pytest.mark.store

PARTY: dict[str, Any] = {"key": "acme", "role": "controller", "name": "Acme GmbH", "email": "office@acme.example"}
SECRET = "Ada Lovelace"


def test_an_entry_is_declared_amended_and_retired(api: Api) -> None:
    """Given an officer's key, then an entry goes its way, and each answer says what was recorded."""
    declared = api.post("/v1/registers/declarations", {"party": [PARTY]}, scope="officer")
    assert declared["recorded"] == ["register.party_declared.v1 acme"]
    assert api.post("/v1/registers/declarations", {"party": [PARTY]}, scope="officer")["recorded"] == []
    amended = api.post("/v1/registers/amendments", {"party": [PARTY | {"name": "Acme SE"}]}, scope="officer")
    assert amended["recorded"] == ["register.party_amended.v1 acme"]
    (entry,) = api.get("/v1/registers", scope="auditor")["entries"]
    assert (entry["entry"]["name"], entry["in_force"]) == ("Acme SE", True)
    retired = api.post("/v1/registers/retirements", {"kind": "party", "key": "acme"}, scope="officer")
    assert retired["recorded"] == ["register.entry_retired.v1 acme"]


def test_a_request_with_a_key_is_done_once(api: Api) -> None:
    """Given an Idempotency-Key, when the request is repeated, then it is answered again and not done again."""
    first = api.call("POST", "/v1/registers/declarations", {"party": [PARTY]}, idempotency_key="one")
    end = api.ledger.log.max_notification_id()
    again = api.call("POST", "/v1/registers/declarations", {"party": [PARTY]}, idempotency_key="one")
    assert first.status_code == again.status_code == 201
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    assert api.ledger.log.max_notification_id() == end


def test_the_record_is_served_to_officers_and_auditors(api: Api) -> None:
    """Given seeded registers, then both see the record and its findings; a campaign key is turned away."""
    api.post("/v1/registers/seeds", None, scope="officer")
    api.add("anna@example.com")
    catch_up(api.ledger)
    for scope in ("officer", "auditor"):
        record = api.get("/v1/processing-records", scope=scope)["record"]
        assert record["activities"][0]["key"] == "campaigns"
        assert {seen["category"]["code"] for seen in record["observed"]["categories"]} >= {"identity", "consent"}
        assert "missing_party" in {finding["code"] for finding in record["findings"]}
    for path in ("/v1/processing-records", "/v1/registers", "/v1/processing-records/difference?earlier=2026-01-01"):
        assert api.call("GET", path, scope="campaign").status_code == 403
    for path in ("declarations", "amendments", "retirements", "seeds"):
        assert api.call("POST", f"/v1/registers/{path}", {}, scope="auditor").status_code == 403


def test_two_days_are_compared(api: Api) -> None:
    """Given two days, then the difference is a list of changes; without the first day it is refused."""
    today = api.ledger.clock().date()
    found = api.get(f"/v1/processing-records/difference?earlier={today}&later={today}")
    assert found == {"earlier": str(today), "later": str(today), "meaning": "recorded", "changes": []}
    assert api.call("GET", "/v1/processing-records/difference").status_code == 422


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("declarations", {"party": [PARTY | {"role": SECRET}]}, 422),
        ("declarations", {"party": [PARTY | {"colour": SECRET}]}, 422),
        ("declarations", {"activity": [{"key": "x", "role": "controller", "name": SECRET}]}, 422),
        ("declarations", {}, 422),
        ("declarations", {"party": [PARTY], "since": "2999-01-01"}, 422),
        ("amendments", {"party": [PARTY | {"name": SECRET}]}, 409),
        ("retirements", {"kind": "party", "key": "nobody"}, 409),
        ("retirements", {"kind": "colour", "key": "red"}, 422),
    ],
)
def test_what_cannot_be_is_a_problem_without_its_words(api: Api, path: str, body: Any, status: int) -> None:
    """Given a statement that is refused, then the problem says why, repeats no word, and nothing is recorded."""
    end = api.ledger.log.max_notification_id()
    answer = api.call("POST", f"/v1/registers/{path}", body)
    assert answer.status_code == status
    assert SECRET not in answer.text
    assert api.ledger.log.max_notification_id() == end


@pytest.mark.parametrize(
    ("query", "status"),
    [
        *(("as_of=yesterday", 422), ("as_of=2999-01-01", 422), ("as_of=2001-01-01", 409), ("meaning=perhaps", 422)),
        *(("as_of=2026-W01-1", 422), ("as_of=2027-02-29", 422), ("as_of=", 422)),
    ],
)
def test_a_day_that_cannot_be_is_a_problem(api: Api, query: str, status: int) -> None:
    """Given a day that is none, is to come, or lies before the account, then each is refused."""
    assert api.call("GET", f"/v1/processing-records?{query}").status_code == status


def test_listing_entries_that_name_a_person_is_a_look(api: Api) -> None:
    """Given a register with and then without a natural person's name, when it is listed, then only the first is
    recorded, by whom (I8)."""
    officer = {"key": "dpo", "role": "controller_dpo", "name": "Officer", "person": SECRET}
    api.post("/v1/registers/declarations", {"party": [PARTY]}, scope="officer")
    end = api.end_of_log()
    api.get("/v1/registers", scope="auditor")
    assert api.end_of_log() == end
    api.post("/v1/registers/declarations", {"party": [officer]}, scope="officer")
    end = api.end_of_log()
    assert SECRET in json.dumps(api.get("/v1/registers", scope="auditor"))
    (viewed,) = api.ledger.log.select_log(end + 1, 10)
    entry = json.loads(viewed.state)
    assert (entry["topic"], entry["plain"]) == ("access.viewed.v1", {"what": "register", "parts_opened": 1})
    assert entry["actor"].startswith("key:")


def test_days_in_the_wrong_order_are_a_problem(api: Api) -> None:
    """Given a second day that lies before the first, then nothing is told backwards."""
    today = api.ledger.clock().date()
    query = f"earlier={today}&later={today.replace(year=today.year - 1, day=1)}"
    answer = api.call("GET", f"/v1/processing-records/difference?{query}")
    assert (answer.status_code, answer.json()["reason"]) == (422, "wrong_order")
