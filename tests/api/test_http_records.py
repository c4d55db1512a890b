"""`POST /v1/records`: good rows are kept, bad ones named; officers see them opened through their person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.records import FACT_OF_CLASS, RECORD_CLASSES
from tests.api.conftest import Api

pytestmark = pytest.mark.store

ANNA = "anna@example.com"
CANARY = "canary of the records"


def record(retention_class: str = "support", **changes: Any) -> dict[str, Any]:
    """A record about Anna; a change to None leaves the member out."""
    row = {"class": retention_class, "kind": "ticket", "email": ANNA, "content": {"subject": CANARY}} | changes
    return {name: value for name, value in row.items() if value is not None}


def keep(api: Api, *rows: Any, **options: Any) -> Any:
    return api.post("/v1/records", {"records": list(rows)}, scope="campaign", **options)


def opened(api: Api, **question: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.post("/v1/events/search", {"kinds": ["record"]} | question, scope="officer")[
        "events"
    ]
    return found


@pytest.mark.parametrize("retention_class", RECORD_CLASSES)
def test_a_record_is_kept_and_shown_to_officers(api: Api, retention_class: str) -> None:
    """Given a contact, when a record is sent, then an officer finds it by the address, opened, and that is recorded."""
    api.add(ANNA, consent=False)
    answer = keep(api, record(retention_class))
    end = api.end_of_log()
    assert answer == {"recorded": 1, "rejected": [], "receipt": {"first": end, "last": end}}
    (event,) = opened(api, email=ANNA)
    assert (event["kind"], event["position"]) == (FACT_OF_CLASS[retention_class].TOPIC, end)
    assert event["plain"] == {"about_person": True, "kind": "ticket"}
    assert event["personal"]["content"] == {"subject": CANARY}
    (viewed,) = api.post("/v1/events/search", {"kinds": ["access.viewed"]}, scope="auditor")["events"]
    assert viewed["plain"]["parts_opened"] == 2


def test_auditors_see_that_a_record_is_there_and_not_what_it_says(api: Api) -> None:
    """Given a record, when an auditor searches by the address, then its content stays sealed."""
    api.add(ANNA, consent=False)
    keep(api, record("billing"))
    answer = api.call("POST", "/v1/events/search", {"email": ANNA, "kinds": ["record"]}, scope="auditor")
    assert answer.json()["events"][0]["personal"] == {"content": {"sealed": True}, "at": {"sealed": True}}
    assert CANARY not in answer.text


def test_a_record_about_nobody(api: Api) -> None:
    """Given a line of a log without an address, when it is sent, then it is kept, and about nobody."""
    assert keep(api, record("error_log", email=None, kind=None))["recorded"] == 1
    (event,) = opened(api)
    assert event["plain"] == {"about_person": False}
    assert event["personal"]["content"] == {"subject": CANARY}


def test_bad_rows_are_named_and_the_good_ones_kept(api: Api) -> None:
    """Given ten rows of which two are good, then the eight others are named by index, and nothing is repeated."""
    api.add(ANNA, consent=False)
    future = (api.ledger.clock() + timedelta(minutes=5)).isoformat()
    answer = keep(
        api,
        record("identity"),
        record(email="no-such-contact@example.com"),
        record(email=CANARY),
        record(occurred_at=future),
        record(occurred_at="yesterday"),
        record(kind=CANARY),
        record(content={}),
        record(content={"n": 7}),
        record("billing", occurred_at="2020-02-29T23:59:59Z"),
        record("usage", more=CANARY),
        record("usage"),
        CANARY,
    )
    assert answer["recorded"] == 2
    reasons = {row["index"]: row["reason"] for row in answer["rejected"]}
    assert sorted(reasons) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 11]
    assert reasons[1].startswith("unknown_recipient: ")
    assert reasons[3].startswith("in_the_future: ")
    assert reasons[4].startswith("occurred_at: ")
    assert CANARY not in str(answer)
    assert answer["receipt"]["last"] - answer["receipt"]["first"] == 1


def test_content_beyond_its_limit_rejects_its_row(api: Api) -> None:
    """Given fields that are each allowed and too much together, then the row is rejected and says so."""
    long = {f"field {number}": "x" * 10_000 for number in range(4)}
    answer = keep(api, record(email=None, content=long), record(email=None))
    assert answer["recorded"] == 1
    assert answer["rejected"][0]["reason"].startswith("too_long: ")


@pytest.mark.parametrize("body", [{}, {"records": []}, {"records": "x"}, {"records": [record()] * 10_001}])
def test_an_envelope_that_is_wrong_refuses_the_request_whole(api: Api, body: Any) -> None:
    """Given no rows, or too many, when they are sent, then nothing is kept."""
    before = api.end_of_log()
    assert api.call("POST", "/v1/records", body, scope="campaign").status_code in (413, 422)
    assert api.end_of_log() == before


@pytest.mark.parametrize(("scope", "status"), [("", 401), ("auditor", 403), ("campaign", 200), ("officer", 200)])
def test_who_may_keep_records(api: Api, scope: str, status: int) -> None:
    """Given keys of each scope, then campaign systems and officers may, auditors and strangers may not."""
    assert api.call("POST", "/v1/records", {"records": [record(email=None)]}, scope=scope).status_code == status


def test_a_repeated_request_keeps_nothing_twice(api: Api) -> None:
    """Given rows of several classes and days under one key, when the request comes again, then it is answered again."""
    api.add(ANNA, consent=False)
    day = api.ledger.clock() - timedelta(days=3)
    rows = [record(c, occurred_at=at) for c in ("access_log", "billing") for at in (day.isoformat(), None)]
    rows.append(record(email="stranger@example.com"))
    body = {"records": rows}
    first = api.call("POST", "/v1/records", body, idempotency_key="k1", scope="campaign")
    end = api.end_of_log()
    second = api.call("POST", "/v1/records", body, idempotency_key="k1", scope="campaign")
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json() == first.json()
    assert (first.json()["recorded"], [row["index"] for row in first.json()["rejected"]]) == (4, [4])
    assert api.end_of_log() == end
    other = api.call("POST", "/v1/records", {"records": [*rows, record()]}, idempotency_key="k1", scope="campaign")
    assert other.status_code == 422
    assert api.end_of_log() == end


def test_what_comes_after_its_period_was_destroyed_is_refused_by_name(api: Api) -> None:
    """Given a destroyed day of access logs, when a line of it arrives, then its row says so; the others are kept."""
    now = api.ledger.clock()
    then = now - timedelta(days=100)
    keep(api, record("access_log", email=None, occurred_at=then.isoformat()))
    api.ledger.services.vault.destroy_period(
        api.ledger.tenant, "access_log", f"{then:%Y-%m-%d}", when=now, cause="retention"
    )
    api.ledger.keyring.forget_all()
    answer = keep(api, record("access_log", email=None, occurred_at=then.isoformat()), record("usage", email=None))
    assert answer["recorded"] == 1
    assert answer["rejected"][0]["reason"].startswith("past_its_time: ")


def test_another_account_finds_nothing(api: Api, other: Api) -> None:
    """Given the same address in two accounts, then neither sees the other's records (I10)."""
    for each in (api, other):
        each.add(ANNA, consent=False)
    keep(api, record("billing"))
    assert opened(other, email=ANNA) == []


def test_records_of_an_erased_person_are_not_found_by_the_address(api: Api) -> None:
    """Given an invoice and a letter, when the person is erased, then the address finds nothing, though one is kept."""
    api.add(ANNA, consent=False)
    keep(api, record("billing"), record("support"))
    assert len(opened(api, email=ANNA)) == 2
    api.post("/v1/erasures", {"email": ANNA, "reason": "subject_request"}, scope="officer")
    assert opened(api, email=ANNA) == []
    assert keep(api, record("billing"))["rejected"][0]["reason"].startswith("unknown_recipient: ")
