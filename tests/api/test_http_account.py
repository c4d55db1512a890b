"""The end of an account over HTTP: for admins only, once, and with a rule of its own on everything that follows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from retention.plans.schedule import run_retention
from tests.api.conftest import CONSENT, Api
from tests.support import SettableClock

pytestmark = pytest.mark.store


@pytest.mark.parametrize("path", ["/v1/account/termination", "/v1/account/reactivation"])
@pytest.mark.parametrize("scope", ["campaign", "officer", "auditor", ""])
def test_only_an_admin_ends_an_account(api: Api, path: str, scope: str) -> None:
    """Given a key of any other scope, or none, then it is refused and nothing happens."""
    assert api.call("POST", path, scope=scope).status_code in (401, 403)
    assert api.ledger.accounts.state().status == "active"


def test_an_ended_account_sends_nothing_and_still_answers(api: Api) -> None:
    """Given a willing contact, when the account is ended, then sends are refused by rule and reading goes on."""
    api.add("anna@example.com")
    campaign = api.post("/v1/campaigns", {"name": "S", "purpose": "newsletter", "channel": "email"}, scope="campaign")
    ended = api.post("/v1/account/termination", None)
    assert (ended["status"], ended["closed_at"]) == ("terminated", None)
    days = {row["class"]: date.fromisoformat(row["due_on"]) for row in ended["closing"]}
    today = datetime.fromisoformat(ended["terminated_at"]).date()
    assert (days["identity"] - today, days["content"] - today) == (timedelta(days=60), timedelta(days=90))
    body = {"recipients": [{"email": "anna@example.com"}]}
    asked = api.post(f"/v1/campaigns/{campaign['campaign_id']}/authorisations", body, scope="campaign")
    assert [row["rule"] for row in asked["refused"]] == ["account_terminated"]
    assert api.post("/v1/events/search", {}, scope="auditor")["events"]


def test_an_ended_account_takes_nothing_in(api: Api) -> None:
    """Given an ended account, then contacts, consents and campaigns are refused with 409 or row by row, by name."""
    api.add("anna@example.com")
    api.post("/v1/account/termination", None)
    added = api.post("/v1/contacts", {"contacts": [{"email": "bert@example.com"}]}, scope="campaign")
    said = api.post("/v1/consents", {"consents": [{"email": "anna@example.com", **CONSENT}]}, scope="campaign")
    assert [row["reason"].partition(":")[0] for row in (*added["rejected"], *said["rejected"])] == [
        "account_terminated"
    ] * 2
    body = {"name": "S", "purpose": "newsletter", "channel": "email"}
    refused = api.call("POST", "/v1/campaigns", body, scope="campaign")
    assert (refused.status_code, refused.json()["reason"]) == (409, "account_terminated")
    no = {"email": "anna@example.com", **CONSENT, "action": "withdraw"}
    assert len(api.post("/v1/consents", {"consents": [no]}, scope="campaign")["results"]) == 1


def test_a_repeated_request_is_answered_and_not_done_again(api: Api) -> None:
    """Given a termination under an Idempotency-Key, when it is repeated after a reactivation, then it ends nothing."""
    key = uuid4().hex
    first = api.call("POST", "/v1/account/termination", idempotency_key=key)
    assert api.post("/v1/account/reactivation", None)["status"] == "active"
    again = api.call("POST", "/v1/account/termination", idempotency_key=key)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert api.ledger.accounts.state().status == "active"


def test_a_closed_account_is_not_taken_up_again(api: Api, clock: SettableClock) -> None:
    """Given an account whose keys have begun to go, when it is reactivated, then the answer says why not."""
    api.post("/v1/account/termination", None)
    clock.set(datetime.now(UTC) + timedelta(days=61))
    run_retention(api.ledger)
    refused = api.call("POST", "/v1/account/reactivation")
    assert (refused.status_code, refused.json()["reason"]) == (409, "account_closed")
    assert "cannot be taken up again" in refused.json()["detail"]
    assert api.post("/v1/events/search", {}, scope="auditor")["events"]
    gone = api.call("POST", "/v1/suppressions/lookup", {"emails": ["anna@example.com"]}, scope="officer")
    assert gone.status_code == 409


def test_accounts_end_one_by_one(api: Api, other: Api) -> None:
    """Given two accounts, when one is ended, then the other runs on (I10)."""
    api.post("/v1/account/termination", None)
    assert other.ledger.accounts.state().status == "active"
    other.add("anna@example.com")
