"""The audit trail over HTTP: found by person, stream, campaign, kind, time; opened for those who may (I6, I8, I11)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.bootstrap import Instance
from domain.access import PersonalDataViewed
from ledger.embedded import EmbeddedPostgres
from projections import history
from tests.api.conftest import Api
from tests.support import SettableClock

DELETE_KEY = "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'identity' AND period = ''"


@pytest.fixture
def told(api: Api) -> Api:
    """An account in which Anna and Bert were sent a campaign, and Anna opened it."""
    api.add("anna@example.com", "bert@example.com")
    tokens = {
        row["email"]: row["message_id"]
        for row in api.authorise(api.campaign(), "anna@example.com", "bert@example.com", "ghost@example.com")["allowed"]
    }
    event = {"message_id": tokens["anna@example.com"], "occurred_at": datetime.now(UTC).isoformat()}
    api.post(
        "/v1/feedback", {"events": [event | {"kind": "dispatched"}, event | {"kind": "opened", "ip": "192.0.2.9"}]}
    )
    return api


def search(api: Api, scope: str = "officer", **question: Any) -> Any:
    """The answer of a search."""
    return api.post("/v1/events/search", question, scope=scope)


def test_shows_everything_of_one_person_opened(told: Api) -> None:
    """The person's own stream and their messages, whose link stands nowhere; of nobody else."""
    events = search(told, email="ANNA@example.com")["events"]
    kinds = [event["kind"] for event in events]
    assert kinds == [
        "contact.added.v1",
        "consent.granted.v1",
        "send.authorised.v1",
        "message.dispatched.v1",
        "message.opened.v1",
    ]
    assert events[0]["personal"] == {"email": "anna@example.com", "first_name": "Anna"}
    assert events[1]["personal"]["evidence"] == {"ip": "192.0.2.7", "method": "double_opt_in"}
    assert events[4]["personal"] == {"ip": "192.0.2.9"}
    assert len({event["stream"] for event in events}) == 2
    assert [event["position"] for event in events] == sorted(event["position"] for event in events)


def test_an_auditor_sees_that_parts_are_there_and_no_more(told: Api) -> None:
    """Sealed parts are named, each with every field that it can hold, and not opened."""
    events = search(told, "auditor", email="anna@example.com")["events"]
    assert {"email", "first_name"} <= events[0]["personal"].keys()
    assert {"ip"} <= events[4]["personal"].keys()
    assert all(value == {"sealed": True} for event in events for value in event["personal"].values())


def test_every_opened_answer_is_recorded(told: Api) -> None:
    """The view stands in the log before the answer is out: by whom, of whom, how many parts."""
    subject = search(told, email="anna@example.com")["events"][0]["stream"]
    view = search(told, "auditor", kinds=[PersonalDataViewed.TOPIC])["events"][-1]
    assert view["plain"] == {"what": "events.search", "subject": subject, "parts_opened": 4}
    assert view["actor"].startswith("key:")
    end = told.end_of_log()
    search(told, "auditor", kinds=["campaign"])
    assert told.end_of_log() == end


def test_finds_a_campaign_with_all_that_names_it(told: Api) -> None:
    """Its own stream, its messages, and the noes that came through it; another campaign's are not among them."""
    campaign = search(told, kinds=["campaign.registered"])["events"][0]["stream"]
    told.authorise(told.campaign(), "anna@example.com")
    events = search(told, campaign=campaign)["events"]
    kinds = [event["kind"] for event in events]
    assert kinds.count("campaign.registered.v1") == 1
    assert kinds.count("send.authorised.v1") == 2
    assert kinds.count("campaign.recipients_refused.v1") == 1
    sent = next(event for event in events if event["kind"] == "send.authorised.v1")
    assert sent["plain"]["campaign"] == campaign
    both = search(told, campaign=campaign, email="bert@example.com")["events"]
    assert [event["kind"] for event in both] == ["send.authorised.v1"]


def test_finds_one_stream(told: Api) -> None:
    """By its id alone a message's parts stay closed, for nothing says whose it is."""
    events = search(told, email="anna@example.com")["events"]
    found = search(told, stream=events[4]["stream"])["events"]
    assert [event["kind"] for event in found] == [event["kind"] for event in events[2:]]
    assert found[2]["personal"]["ip"] == {"sealed": True}
    own = search(told, stream=events[0]["stream"])["events"]
    assert own[0]["personal"]["email"] == "anna@example.com"
    assert search(told, stream=events[0]["stream"], email="bert@example.com")["events"] == []


def test_pages_through_the_log(told: Api) -> None:
    """Pages put together are the log as it was, each event once."""
    end = told.end_of_log()
    seen: list[int] = []
    after: dict[str, str] = {}
    while True:
        page = search(told, "auditor", limit=3, to=datetime.now(UTC).isoformat(), **after)
        seen += [event["position"] for event in page["events"]]
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert seen == list(range(1, end + 1))


def test_pages_through_a_person(told: Api) -> None:
    """The same, along several streams."""
    whole = [event["event_id"] for event in search(told, email="anna@example.com")["events"]]
    first = search(told, email="anna@example.com", limit=2)
    rest = search(told, email="anna@example.com", after=first["next"])
    assert [event["event_id"] for event in first["events"] + rest["events"]] == whole


def test_a_rare_filter_gives_short_pages(told: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work of a page is bounded: it may hold nothing and still say where to go on."""
    monkeypatch.setattr(history, "SCANNED_MAX", 2)
    pages = found = 0
    after: dict[str, str] = {}
    while True:
        page = search(told, "auditor", kinds=["message.opened"], **after)
        pages, found = pages + 1, found + len(page["events"])
        if "next" not in page:
            break
        after = {"after": page["next"]}
    assert found == 1
    assert pages > 3


def test_finds_by_time_of_recording(told: Api, clock: SettableClock) -> None:
    """From is inclusive, to is not, and both are about when the ledger learnt it."""
    clock.advance(timedelta(days=2))
    told.post("/v1/contacts", {"contacts": [{"email": "carl@example.com"}]})
    moment = search(told, kinds=["contact.added"])["events"][-1]["recorded_at"]
    assert len(search(told, kinds=["contact"], **{"from": moment})["events"]) == 1
    assert len(search(told, kinds=["contact"], to=moment)["events"]) == 2
    assert search(told, **{"from": "2100-01-01T00:00:00Z"}) == {"events": []}
    assert search(told, to="2000-01-01T00:00:00Z") == {"events": []}


def test_an_erased_person_cannot_be_found_and_their_events_say_erased(told: Api) -> None:
    """The address leads nowhere; whoever has the stream's id sees when and why it was erased."""
    stream = search(told, email="anna@example.com")["events"][0]["stream"]
    told.post("/v1/erasures", {"email": "anna@example.com", "reason": "withdrew_consent"})
    for _ in range(200):
        if search(told, stream=stream)["events"][-1]["kind"] == "keys.destroyed.v1":
            break
    assert search(told, email="anna@example.com") == {"events": []}
    first, *_, intent, _destroyed = search(told, stream=stream)["events"]
    assert set(first["personal"]["email"]["erased"]) == {"when", "why"}
    assert intent["kind"] in ("erasure.intended.v1", "authorisations.recalled.v1")
    assert "anna@example.com" not in str(search(told, stream=stream))


def test_a_lost_key_is_an_incident_and_names_the_event(told: Api, server: EmbeddedPostgres) -> None:
    """A key without a tombstone is never shown as erased: a problem of status 500 with the position (I6)."""
    with psycopg.connect(server.url("lethe_vault"), autocommit=True) as connection:
        assert connection.execute(DELETE_KEY, (told.ledger.tenant,)).rowcount > 0
    told.ledger.keyring.forget_all()
    answer = told.call("POST", "/v1/events/search", {"email": "anna@example.com"}, scope="officer")
    assert answer.status_code == 500
    assert answer.json()["type"].endswith("incident")
    assert "position" in answer.json()["detail"]
    assert "id" in answer.json()


@pytest.mark.parametrize(
    "question",
    [
        {"stream": "anna@example.com"},
        {"campaign": "1"},
        {"kinds": ["gossip"]},
        {"from": "yesterday"},
        {"from": "2026-11-21 20:15"},
        {"to": "9999-12-31T23:59:59-01:00"},
        {"limit": 0},
        {"limit": 501},
        {"limit": "10"},
        {"after": "12"},
        {"email": "nobody"},
        {"colour": "red"},
    ],
)
def test_refuses_a_question_that_makes_no_sense(api: Api, question: dict[str, object]) -> None:
    """Each is a 422 that repeats nothing of it."""
    answer = api.call("POST", "/v1/events/search", question)
    assert answer.status_code == 422
    assert "anna@" not in answer.text
    assert "colour" not in answer.text


def test_finds_nothing_of_another_account(told: Api, other: Api, instance: Instance) -> None:
    """Another account's streams, campaigns and persons are not there (I10)."""
    stream = search(told, email="anna@example.com")["events"][0]["stream"]
    for question in ({"stream": stream}, {"campaign": stream}, {"email": "anna@example.com"}):
        assert search(other, **question)["events"] == []
