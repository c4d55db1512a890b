"""Campaigns, authorisations and feedback over HTTP, as JSON and as streams."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from projections.worker import catch_up
from tests.api.conftest import CONSENT, Api

NDJSON = {"Content-Type": "application/x-ndjson"}
UNKNOWN = "0198a000-0000-7000-8000-000000000000"


def lines_of(text: str) -> list[dict[str, Any]]:
    """The objects of an NDJSON answer."""
    return [json.loads(line) for line in text.splitlines()]


def test_authorises_known_recipients_and_counts_strangers(api: Api) -> None:
    """Allowed with a token and a time, refused with a rule, rejected by index; asked again, the same answer."""
    api.add("anna@example.com")
    campaign = api.campaign()
    answer = api.authorise(
        campaign, "anna@example.com", "ghost@example.com", "nobody", 7, {"email": "x@example.com", "y": 1}
    )
    (allowed,) = answer["allowed"]
    assert allowed["email"] == "anna@example.com"
    assert "repeated" not in allowed
    assert answer["refused"] == [{"email": "ghost@example.com", "rule": "unknown_recipient"}]
    assert [row["index"] for row in answer["rejected"]] == [2, 3, 4]
    assert answer["receipt"]["last"] == api.end_of_log()
    again = api.authorise(campaign, "anna@example.com")
    assert again["allowed"] == [allowed | {"repeated": True}]
    assert again["receipt"] is None


def test_authorises_a_stream_line_by_line(api: Api) -> None:
    """One object for each recipient and the receipt at the end; a bad line costs only itself."""
    api.add("anna@example.com", "bert@example.com")
    body = b'"anna@example.com"\n{"email":"bert@example.com"}\n{"email":\n\n"ghost@example.com"\n'
    answer = api.call(
        "POST", f"/v1/campaigns/{api.campaign()}/authorisations", content=body, headers=NDJSON, scope="campaign"
    )
    assert answer.headers["content-type"] == "application/x-ndjson"
    *rows, last = lines_of(answer.text)
    assert sorted(row["allowed"]["email"] for row in rows if "allowed" in row) == [
        "anna@example.com",
        "bert@example.com",
    ]
    assert [row["refused"] for row in rows if "refused" in row] == [
        {"email": "ghost@example.com", "rule": "unknown_recipient"}
    ]
    assert [row["rejected"]["index"] for row in rows if "rejected" in row] == [2]
    assert last == {"receipt": {"first": last["receipt"]["first"], "last": api.end_of_log()}}


def test_streams_several_chunks(api: Api) -> None:
    """Nine thousand lines, most of them strangers, come back one for one, however little the client reads at first."""
    api.add("anna@example.com")
    emails = [f"ghost{n}@example.com" for n in range(9000)] + ["anna@example.com"]
    body = b"".join(json.dumps(email).encode() + b"\n" for email in emails)
    answer = api.call("POST", f"/v1/campaigns/{api.campaign()}/authorisations", content=body, headers=NDJSON)
    *rows, last = lines_of(answer.text)
    assert len(rows) == 9001
    assert sum("refused" in row for row in rows) == 9000
    assert last["receipt"] is not None


def test_says_so_when_a_stream_cannot_begin(api: Api) -> None:
    """An unknown campaign is a problem and not an empty stream."""
    path = f"/v1/campaigns/{UNKNOWN}/authorisations"
    answer = api.call("POST", path, content=b'"anna@example.com"\n', headers=NDJSON)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def half_sent(api: Api, path: str, body: bytes, content_type: str, headers: tuple[str, ...] = ()) -> bytes:
    """What comes back when a client promises more than it sends and closes its side."""
    url = urlsplit(api.base_url)
    assert url.hostname is not None
    head = [
        f"POST {path} HTTP/1.1",
        "Host: lethe",
        f"Authorization: Bearer {api.key('campaign')}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body) + 1000}",
        *headers,
    ]
    with socket.create_connection((url.hostname, url.port or 80), timeout=60) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def test_answers_what_came_before_the_cut(api: Api) -> None:
    """Cut in the middle of a line: whole lines are done and answered, the cut one is rejected, the end says so."""
    api.add("anna@example.com", "bert@example.com")
    path = f"/v1/campaigns/{api.campaign()}/authorisations"
    received = half_sent(api, path, b'"anna@example.com"\n"bert@example.com', "application/x-ndjson")
    assert received.startswith(b"HTTP/1.1 200")
    rows = [json.loads(line) for line in received.split(b"\r\n") for line in line.splitlines() if line.startswith(b"{")]
    assert [row["allowed"]["email"] for row in rows if "allowed" in row] == ["anna@example.com"]
    assert [row["rejected"]["index"] for row in rows if "rejected" in row] == [1]
    assert rows[-1]["ended_early"] is True


def test_keeps_contacts_that_came_before_the_cut(api: Api) -> None:
    """The same for contacts, whose answer is one object."""
    body = b'{"email":"anna@example.com"}\n{"email":"bert@exam'
    received = half_sent(api, "/v1/contacts", body, "application/x-ndjson")
    answer = json.loads(received.partition(b"\r\n\r\n")[2])
    assert (answer["added"], answer["ended_early"], answer["rejected"][0]["index"]) == (1, True, 1)
    assert api.ledger.person("anna@example.com") is not None


def test_a_cut_stream_can_be_sent_again_whole(api: Api) -> None:
    """Under an Idempotency-Key the short last chunk of a cut body is not kept against the retry."""
    api.add("anna@example.com", "bert@example.com")
    path = f"/v1/campaigns/{api.campaign()}/authorisations"
    key = ("Idempotency-Key: once",)
    assert half_sent(api, path, b'"anna@example.com"\n', "application/x-ndjson", key).startswith(b"HTTP/1.1 200")
    whole = b'"anna@example.com"\n"bert@example.com"\n'
    first = api.call("POST", path, content=whole, headers=NDJSON, idempotency_key="once")
    assert sum("allowed" in row for row in lines_of(first.text)) == 2
    again = api.call("POST", path, content=whole, headers=NDJSON, idempotency_key="once")
    assert again.headers["idempotency-replayed"] == "true"
    assert lines_of(again.text) == lines_of(first.text)


def test_cut_contacts_can_be_sent_again_whole(api: Api) -> None:
    """The same for contacts: the retry adds who was not there yet."""
    key = ("Idempotency-Key: once",)
    assert b'"added":1' in half_sent(api, "/v1/contacts", b'{"email":"a@example.com"}\n', "application/x-ndjson", key)
    whole = b'{"email":"a@example.com"}\n{"email":"b@example.com"}\n'
    again = api.call("POST", "/v1/contacts", content=whole, headers=NDJSON, idempotency_key="once")
    assert (again.json()["added"], again.json()["known"]) == (1, 1)


def test_a_cut_json_body_does_nothing(api: Api) -> None:
    """Half of a JSON body is no body."""
    received = half_sent(api, "/v1/contacts", b'{"contacts":[{"email":"anna@example.com"}', "application/json")
    assert received.startswith(b"HTTP/1.1 400")
    assert api.ledger.person("anna@example.com") is None


def test_tells_repeated_messages_of_an_ongoing_campaign_apart(api: Api) -> None:
    """Each occurrence is a message of its own, and is named in the answer."""
    api.add("anna@example.com")
    campaign = api.campaign(kind="ongoing", purpose="newsletter")
    rows = [{"email": "anna@example.com", "occurrence": number} for number in ("order-1", "order-2", "order-1")]
    answer = api.authorise(campaign, *rows)
    assert [(row["occurrence"], row.get("repeated", False)) for row in answer["allowed"]] == [
        ("order-1", False),
        ("order-2", False),
        ("order-1", True),
    ]
    assert len({row["message_id"] for row in answer["allowed"]}) == 2


def test_refuses_a_list_that_is_too_long(api: Api) -> None:
    """10,001 recipients are refused whole, with what to do instead."""
    answer = api.call(
        "POST", f"/v1/campaigns/{api.campaign()}/authorisations", {"recipients": ["a@example.com"] * 10_001}
    )
    assert answer.status_code == 413
    assert "application/x-ndjson" in answer.json()["detail"]


def test_authorises_nothing_after_closing(api: Api) -> None:
    """A closed campaign answers 409; closing twice is harmless."""
    api.add("anna@example.com")
    campaign = api.campaign()
    for _ in range(2):
        assert api.call("POST", f"/v1/campaigns/{campaign}/closure", scope="campaign").json()["closed"] is True
    answer = api.call("POST", f"/v1/campaigns/{campaign}/authorisations", {"recipients": ["anna@example.com"]})
    assert answer.status_code == 409


@pytest.mark.parametrize(
    "changes", [{"kind": "weekly"}, {"purpose": "News"}, {"content_sha256": "abc"}, {"channel": "sms"}, {"name": ""}]
)
def test_refuses_a_campaign_that_makes_no_sense(api: Api, changes: dict[str, str]) -> None:
    """Each field is checked, and the answer says which."""
    body = {"name": "Spring", "purpose": "newsletter", "channel": "email"} | changes
    answer = api.call("POST", "/v1/campaigns", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["location"] == f"/{next(iter(changes))}"


def test_takes_feedback_and_counts_it(api: Api) -> None:
    """Recorded once, a repeat is a duplicate, an unknown message is parked, a bad row dropped; the campaign counts."""
    api.add("anna@example.com")
    campaign = api.campaign()
    token = api.authorise(campaign, "anna@example.com")["allowed"][0]["message_id"]
    event = {"message_id": token, "occurred_at": "2026-11-21T20:15:00Z"}
    events = [
        event | {"kind": "delivered", "event_id": "d1"},
        event | {"kind": "delivered", "event_id": "d1"},
        event | {"kind": "opened", "event_id": "o1", "ip": "192.0.2.7", "user_agent": "Mail"},
        event | {"kind": "delivered", "message_id": "changed"},
        event | {"kind": "eaten"},
    ]
    answer = api.post("/v1/feedback", {"events": events}, scope="campaign")
    assert (answer["recorded"], answer["duplicates"]) == (2, 1)
    assert answer["parked"][0]["index"] == 3
    assert answer["dropped"][0]["index"] == 4
    parked = api.get("/v1/feedback/parked?limit=5", scope="officer")["parked"]
    assert [row["event"]["message_id"] for row in parked] == ["changed"]
    catch_up(api.ledger)
    counted = api.get(f"/v1/campaigns/{campaign}", scope="auditor")
    assert (counted["by_kind"]["authorised"], counted["by_kind"]["delivered"], counted["by_kind"]["opened"]) == (
        1,
        1,
        1,
    )
    assert counted["purpose"] == "newsletter"


def test_a_complaint_stops_the_next_send(api: Api) -> None:
    """Feedback that is a no counts at once, for the check, the lookup and the next authorisation."""
    api.add("anna@example.com")
    campaign = api.campaign()
    token = api.authorise(campaign, "anna@example.com")["allowed"][0]["message_id"]
    events = [{"message_id": token, "kind": "complained", "occurred_at": datetime.now(UTC).isoformat()}]
    assert api.post("/v1/feedback", {"events": events})["recorded"] == 1
    assert api.authorise(campaign, "anna@example.com")["refused"][0]["rule"] == "complaint"
    (found,) = api.post("/v1/suppressions/lookup", {"emails": ["anna@example.com"]}, scope="campaign")["results"]
    assert found["suppressed"] is True
    assert ("marketing", "complaint") in {(entry["scope"], entry["cause"]) for entry in found["entries"]}


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "١"])
def test_refuses_a_limit_that_is_none(api: Api, limit: str) -> None:
    """A page is from one to five hundred."""
    assert api.call("GET", f"/v1/feedback/parked?limit={limit}").status_code == 422


def test_consent_rows_of_one_request_see_each_other(api: Api) -> None:
    """A grant and a withdrawal in one body: the last word counts."""
    api.add("anna@example.com", consent=False)
    word = CONSENT | {"email": "anna@example.com"}
    api.post("/v1/consents", {"consents": [word, word | {"action": "withdraw"}]})
    assert api.authorise(api.campaign(), "anna@example.com")["refused"][0]["rule"] == "withdrawn"
