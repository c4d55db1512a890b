"""Legal holds over HTTP: who may, what is answered, and that nothing personal is said where it should not be."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from retention.erasure.erasing import finish_erasures
from retention.holds.releasing import finish_holds
from tests.api.conftest import Api
from tests.retention.plans import a_plan_at_work
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"


def hold(clock: SettableClock, **changes: Any) -> dict[str, Any]:
    """A body that places a hold on Anna."""
    body: dict[str, Any] = {
        "target": "person",
        "emails": [ANNA],
        "matter": "Example v. Acme",
        "reason": "a claim was announced",
        "owner": "Legal department",
        "review_on": (clock().date() + timedelta(days=90)).isoformat(),
    }
    return body | changes


def test_a_hold_makes_an_erasure_wait_and_its_release_runs_it(api: Api, clock: SettableClock) -> None:
    """Given a held person, when they are to be erased, then the answer is `held`, and the release says what is due."""
    api.add(ANNA, BERT)
    placed = api.post("/v1/holds", hold(clock), scope="officer")
    assert (placed["state"], placed["persons"], placed["overdue"]) == ("active", 1, False)
    answer = api.call("POST", "/v1/erasures", {"email": ANNA, "reason": "subject_request"}, scope="officer")
    assert (answer.status_code, answer.json()["state"]) == (202, "held")
    erasure = answer.json()["erasure_id"]
    deletion = api.post("/v1/contacts/deletions", {"emails": [ANNA, BERT]}, scope="officer")
    assert deletion["state"] == "held"
    finish_erasures(api.ledger)
    states = api.get(f"/v1/deletions/{deletion['deletion_id']}", scope="officer")["states"]
    assert states == {"held": 1, "keys_destroyed": 1}
    asked = {"email": ANNA, "purpose": "newsletter", "channel": "email"}
    checked = api.post("/v1/permissions/check", asked)
    assert (checked["allowed"], checked["rule"]) == (False, "restricted")
    lift = api.call("POST", "/v1/restrictions", {"email": ANNA, "lift": True}, scope="officer")
    assert (lift.status_code, lift.json()["reason"]) == (409, "erasure_postponed")
    path = f"/v1/holds/{placed['hold_id']}/release"
    released = api.post(path, {"reason": "settled"}, scope="officer", idempotency_key="r1")
    assert released["state"] == "released"
    assert erasure in released["erasures"]
    assert len(released["erasures"]) == 2
    assert api.post(path, {"reason": "settled"}, scope="officer", idempotency_key="r1") == released
    finish_holds(api.ledger)
    finish_erasures(api.ledger)
    assert api.get(f"/v1/erasures/{erasure}", scope="officer")["state"] == "keys_destroyed"
    (listed,) = api.get("/v1/holds", scope="officer")["holds"]
    assert (listed["state"], listed["matter"], listed["owner"], listed["reasons"]) == ("closed", None, None, [])


def test_a_hold_is_widened_listed_and_marked_when_it_is_overdue(api: Api, clock: SettableClock) -> None:
    """Given a hold, when it is widened and its date passes, then the list shows it opened, which is recorded."""
    api.add(ANNA, BERT)
    campaign = api.campaign()
    placed = api.post("/v1/holds", hold(clock), scope="officer")
    path = f"/v1/holds/{placed['hold_id']}/widen"
    api.post(path, {"target": "campaign", "campaigns": [campaign]}, scope="officer")
    period = {"retention_class": "engagement", "period": "2026-11"}
    widened = api.post(path, {"target": "period", "periods": [period], "reason": "more"}, scope="officer")
    assert (widened["persons"], widened["campaigns"], widened["periods"]) == (1, 1, 1)
    clock.advance(timedelta(days=91))
    before = api.end_of_log()
    (listed,) = api.get("/v1/holds", scope="officer")["holds"]
    assert listed["overdue"] is True
    assert (listed["matter"], listed["owner"]) == ("Example v. Acme", "Legal department")
    assert listed["reasons"] == ["a claim was announced", "more"]
    assert (listed["campaign_ids"], listed["held_periods"]) == ([campaign], [period])
    assert ANNA not in str(listed)
    (viewed,) = api.ledger.log.select_log(before + 1, 10)
    assert viewed.topic == "access.viewed.v1"
    later = (clock().date() + timedelta(days=30)).isoformat()
    assert api.post(path, {"review_on": later}, scope="officer")["overdue"] is False


def test_a_hold_after_the_intent_is_too_late(api: Api, clock: SettableClock) -> None:
    """Given an erasure that was intended, when the person is to be held, then 409 names the certificate."""
    api.add(ANNA)
    accepted = api.post("/v1/erasures", {"email": ANNA, "reason": "subject_request"}, scope="officer")
    answer = api.call("POST", "/v1/holds", hold(clock), scope="officer")
    problem = answer.json()
    assert answer.status_code == 409
    assert problem["type"] == "/docs#problem-hold-too-late"
    (status,) = api.ledger.erasures.status(UUID(accepted["erasure_id"]))
    assert problem["certificate"] == str(status.certificate_id)
    assert ANNA not in answer.text


def test_a_hold_that_is_too_late_for_a_part_stands_for_the_rest(api: Api, clock: SettableClock) -> None:
    """Given a plan that destroys a month, when a person is held, then 201 names that month and its certificate."""
    api.add(ANNA)
    certificate = a_plan_at_work(api.ledger, "identity", "2024-10")
    late = [{"retention_class": "identity", "period": "2024-10", "certificate": certificate}]
    first = api.post("/v1/holds", hold(clock), scope="officer", idempotency_key="h1")
    assert (first["state"], first["persons"], first["too_late"]) == ("active", 1, late)
    assert api.post("/v1/holds", hold(clock), scope="officer", idempotency_key="h1") == first
    (listed,) = api.get("/v1/holds", scope="officer")["holds"]
    assert listed["too_late"] == late


def test_a_hold_is_placed_once_per_key(api: Api, clock: SettableClock) -> None:
    """Given a request with a key, when it is sent twice, then there is one hold; with another body it is refused."""
    api.add(ANNA)
    first = api.call("POST", "/v1/holds", hold(clock), scope="officer", idempotency_key="h1")
    again = api.call("POST", "/v1/holds", hold(clock), scope="officer", idempotency_key="h1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json() == again.json()
    other = api.call("POST", "/v1/holds", hold(clock, matter="other"), scope="officer", idempotency_key="h1")
    assert other.status_code == 422
    assert len(api.ledger.holds.every()) == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"emails": ["nobody@example.com"]}, 404),
        ({"emails": ["not an address"]}, 422),
        ({"emails": []}, 422),
        ({"target": "account"}, 422),
        ({"target": "campaign", "emails": [], "campaigns": [str(uuid4())]}, 404),
        ({"target": "campaign", "emails": [], "campaigns": ["x"]}, 422),
        (
            {"target": "period", "emails": [], "periods": [{"retention_class": "engagement", "period": "2026-13"}]},
            422,
        ),
        ({"target": "period", "emails": [], "periods": [{"retention_class": "feed", "period": "2026-11"}]}, 422),
        ({"matter": ""}, 422),
        ({"matter": "   "}, 422),
        ({"review_on": "2020-01-01"}, 422),
        ({"review_on": "2030-02-30"}, 422),
        ({"review_on": date.max.isoformat() + "x"}, 422),
    ],
)
def test_what_is_no_hold_is_refused(api: Api, clock: SettableClock, changes: dict[str, Any], status: int) -> None:
    """Given a body that holds nothing, when it is sent, then it is refused, nothing is written or repeated."""
    api.add(ANNA)
    before = api.end_of_log()
    answer = api.call("POST", "/v1/holds", hold(clock, **changes), scope="officer")
    assert answer.status_code == status, answer.text
    assert "Example" not in answer.text
    assert "nobody" not in answer.text
    assert api.end_of_log() == before


def test_holds_are_for_officers_and_for_one_account(api: Api, other: Api, clock: SettableClock) -> None:
    """Given other scopes and another account, when they ask for holds, then they are turned away or see nothing."""
    api.add(ANNA)
    placed = api.post("/v1/holds", hold(clock), scope="admin")
    for scope in ("campaign", "auditor"):
        assert api.call("GET", "/v1/holds", scope=scope).status_code == 403
        assert api.call("POST", "/v1/holds", hold(clock), scope=scope).status_code == 403
    assert other.get("/v1/holds", scope="officer") == {"holds": []}
    for path in ("widen", "release"):
        answer = other.call("POST", f"/v1/holds/{placed['hold_id']}/{path}", {}, scope="officer")
        assert answer.status_code == 404
    released = api.call("POST", f"/v1/holds/{placed['hold_id']}/release", {}, scope="officer")
    assert released.status_code == 200
    widened = api.call("POST", f"/v1/holds/{placed['hold_id']}/widen", {"target": "account"}, scope="officer")
    assert (widened.status_code, widened.json()["reason"]) == (409, "hold_released")
