"""Contacts, consents and corrections over HTTP: the shapes of the API, and rows that are rejected alone."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import CONSENT, Api


def test_adds_contacts_and_counts_known_ones(api: Api) -> None:
    """The first request adds, the second finds the same person under another spelling."""
    answer = api.post("/v1/contacts", {"contacts": [{"email": "anna@example.com", "country": "de"}]}, scope="campaign")
    assert answer["added"] == 1
    assert answer["receipt"]["first"] == answer["receipt"]["last"] == api.end_of_log()
    again = api.post("/v1/contacts", {"contacts": [{"email": "Anna@EXAMPLE.com"}]})
    assert again == {"added": 0, "known": 1, "rejected": [], "receipt": None}


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"email": "nobody"}, "no_at_sign"),
        ({"email": 7}, "email"),
        ({}, "email"),
        ("anna@example.com", ""),
        ({"email": "anna@example.com", "nickname": "A"}, "…"),
        ({"email": "anna@example.com", "birth_date": "2001-02-30"}, "birth_date"),
        ({"email": "anna@example.com", "birth_date": "20010203"}, "birth_date"),
        ({"email": "anna@example.com", "birth_date": "2999-01-01"}, "birth_date"),
        ({"email": "anna@example.com", "country": "Germany"}, "country"),
        ({"email": "anna@example.com", "custom": {"size": "x" * 1001}}, "custom"),
        ({"email": "anna@example.com", "custom": {str(n): "x" for n in range(51)}}, "custom"),
        ({"email": "anna@example.com", "category": "see anna@example.com"}, "category"),
    ],
)
def test_rejects_a_bad_row_by_index_and_keeps_the_good_ones(api: Api, row: object, place: str) -> None:
    """The reason names the place and what is expected, never the value."""
    answer = api.post("/v1/contacts", {"contacts": [{"email": "bert@example.com"}, row]})
    assert answer["added"] == 1
    (rejected,) = answer["rejected"]
    assert rejected["index"] == 1
    assert place in rejected["reason"]
    assert "anna@" not in rejected["reason"]


def test_takes_contacts_as_lines(api: Api) -> None:
    """NDJSON: one contact a line, blank lines passed over, bad lines rejected by their number."""
    lines = [
        b'{"email":"a@example.com"}',
        b"",
        b"{",
        b'{"email":"b@example.com"}',
        b'{"email":"b@example.com","email":1}',
    ]
    answer = api.post("/v1/contacts", None, content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"})
    assert answer["added"] == 2
    assert [row["index"] for row in answer["rejected"]] == [2, 4]


def test_takes_more_lines_than_an_array_may_have(api: Api) -> None:
    """10,001 contacts are too many for an array and nothing special as lines; a second time all are known."""
    rows = [{"email": f"person{n}@example.com"} for n in range(10_001)]
    refused = api.call("POST", "/v1/contacts", {"contacts": rows})
    assert refused.status_code == 413
    assert "application/x-ndjson" in refused.json()["detail"]
    assert api.ledger.person("person0@example.com") is None
    content = b"\n".join(json.dumps(row).encode() for row in rows[:2500])
    answer = api.post("/v1/contacts", None, content=content, headers={"Content-Type": "application/x-ndjson"})
    assert answer["added"] == 2500
    assert answer["receipt"]["last"] - answer["receipt"]["first"] == 2499


def test_records_consents_with_their_effect(api: Api) -> None:
    """A grant counts; after a withdrawal an older grant is recorded and answered as not effective, with the reason."""
    api.add("anna@example.com", consent=False)
    word = CONSENT | {"email": "anna@example.com"}
    rows = [word, word | {"action": "withdraw"}, word | {"occurred_at": "2020-01-01T00:00:00+01:00"}]
    answer = api.post("/v1/consents", {"consents": [*rows, word | {"email": "ghost@example.com"}]}, scope="campaign")
    assert [(r["index"], r["effective"]) for r in answer["results"]] == [(0, True), (1, True), (2, False)]
    assert answer["results"][2]["reason"] == "not_later_than_withdrawal"
    assert answer["rejected"][0]["index"] == 3
    assert answer["rejected"][0]["reason"].startswith("unknown_recipient")
    assert answer["receipt"]["first"] == answer["results"][0]["position"]


def test_declares_a_permission_without_consent(api: Api) -> None:
    """A soft opt-in goes with the action grant, and is what the check then names."""
    api.post("/v1/contacts", {"contacts": [{"email": "anna@example.com", "country": "DE"}]})
    row = {"email": "anna@example.com", "purpose": "newsletter", "channel": "email", "basis": "soft-opt-in"}
    answer = api.post("/v1/consents", {"consents": [row | {"action": "grant"}, row | {"action": "refuse"}]})
    assert len(answer["results"]) == 1
    assert answer["rejected"][0]["index"] == 1
    question = {"email": "anna@example.com", "purpose": "newsletter", "channel": "email"}
    assert api.post("/v1/permissions/check", question)["rule"] == "soft_opt_in"


def test_checks_a_permission_and_records_nothing(api: Api) -> None:
    """The answer names rule, basis and the position of the evidence."""
    api.add("anna@example.com")
    end = api.end_of_log()
    question = {"email": "Anna@example.com", "purpose": "newsletter", "channel": "email"}
    answer = api.post("/v1/permissions/check", question, scope="campaign")
    assert answer == {"allowed": True, "rule": "consent", "basis": "consent", "evidence": {"position": end}}
    stranger = api.post("/v1/permissions/check", question | {"email": "ghost@example.com"}, scope="officer")
    assert stranger == {"allowed": False, "rule": "unknown_recipient", "basis": None, "evidence": None}
    assert api.end_of_log() == end


@pytest.mark.parametrize("changes", [{"email": "nobody"}, {"purpose": "News Letter"}, {"channel": "sms"}])
def test_refuses_a_check_that_makes_no_sense(api: Api, changes: dict[str, str]) -> None:
    """A bad address, purpose or channel is a 422 and takes no other check down with it."""
    question = {"email": "anna@example.com", "purpose": "newsletter", "channel": "email"}
    assert api.call("POST", "/v1/permissions/check", question | changes).status_code == 422


def test_corrects_a_contact(api: Api) -> None:
    """Names change alone; a changed address leaves the old one unmailable."""
    api.add("anna@example.com")
    position = api.call("PATCH", "/v1/contacts", {"email": "anna@example.com", "set": {"last_name": "Berg"}}).json()
    assert position == {"position": api.end_of_log()}
    moved = {"email": "anna@example.com", "set": {"email": "anna.berg@example.com"}}
    assert api.call("PATCH", "/v1/contacts", moved, scope="campaign").status_code == 200
    answer = api.authorise(api.campaign(), "anna@example.com", "anna.berg@example.com")
    assert answer["refused"] == [{"email": "anna@example.com", "rule": "superseded_address"}]
    assert answer["allowed"][0]["email"] == "anna.berg@example.com"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "ghost@example.com", "set": {"last_name": "Berg"}}, 404),
        ({"email": "anna@example.com", "set": {"email": "bert@example.com"}}, 409),
        ({"email": "anna@example.com", "set": {}}, 422),
        ({"email": "anna@example.com", "set": {"birth_date": "tomorrow"}}, 422),
        ({"email": "anna@example.com"}, 422),
    ],
)
def test_refuses_a_correction(api: Api, body: object, status: int) -> None:
    """Nobody there, an address that is taken, nothing to correct, a value that cannot be."""
    api.add("anna@example.com", "bert@example.com", consent=False)
    end = api.end_of_log()
    assert api.call("PATCH", "/v1/contacts", body).status_code == status
    assert api.end_of_log() == end
