"""Idempotency-Key over HTTP: done once, answered again, refused for another body, nothing back (FAULTS 11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from api.http import rows
from ledger.errors import Unavailable
from ledger.subjects import SubjectDesk
from tests.api.conftest import CONSENT, Api

REPLAYED = "idempotency-replayed"

Requests = Callable[[Api], tuple[str, str, Any]]


def _authorise(api: Api) -> tuple[str, str, Any]:
    return "POST", f"/v1/campaigns/{api.campaign()}/authorisations", {"recipients": ["anna@example.com", "nobody"]}


def _feedback(api: Api) -> tuple[str, str, Any]:
    token = api.authorise(api.campaign(), "anna@example.com")["allowed"][0]["message_id"]
    event = {"message_id": token, "kind": "delivered", "occurred_at": datetime.now(UTC).isoformat()}
    return "POST", "/v1/feedback", {"events": [event, event | {"message_id": "changed"}]}


def _lift(api: Api) -> tuple[str, str, Any]:
    api.post("/v1/suppressions", {"suppressions": [{"email": "anna@example.com"}]})
    return "POST", "/v1/suppressions/lifts", {"email": "anna@example.com"}


CASES: dict[str, Requests] = {
    "contacts": lambda api: ("POST", "/v1/contacts", {"contacts": [{"email": "new@example.com"}, {"email": "nobody"}]}),
    "correction": lambda api: ("PATCH", "/v1/contacts", {"email": "anna@example.com", "set": {"phone": "1"}}),
    "deletions": lambda api: ("POST", "/v1/contacts/deletions", {"emails": ["anna@example.com", "g@example.com"]}),
    "consents": lambda api: ("POST", "/v1/consents", {"consents": [CONSENT | {"email": "anna@example.com"}, {}]}),
    "campaigns": lambda api: ("POST", "/v1/campaigns", {"name": "S", "purpose": "newsletter", "channel": "email"}),
    "authorisations": _authorise,
    "feedback": _feedback,
    "suppressions": lambda api: ("POST", "/v1/suppressions", {"suppressions": [{"email": "anna@example.com"}]}),
    "lifts": _lift,
    "objections": lambda api: ("POST", "/v1/objections", {"email": "anna@example.com"}),
    "restrictions": lambda api: ("POST", "/v1/restrictions", {"email": "anna@example.com"}),
    "erasures": lambda api: ("POST", "/v1/erasures", {"email": "g@example.com", "reason": "asked"}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_request_is_done_once(api: Api, name: str) -> None:
    """The second answer is the first one, marked, and the log did not move."""
    api.add("anna@example.com")
    method, path, body = CASES[name](api)
    first = api.call(method, path, body, idempotency_key="once")
    assert first.is_success, first.text
    assert REPLAYED not in first.headers
    settle(api, path)
    end = api.end_of_log()
    again = api.call(method, path, body, idempotency_key="once")
    assert again.status_code == first.status_code
    assert again.json() == first.json()
    assert again.headers[REPLAYED] == "true"
    settle(api, path)
    assert api.end_of_log() == end


def settle(api: Api, path: str) -> None:
    """Let the background finish what an erasure began."""
    while "deletions" in path and api.ledger.erasures.unfinished(10):
        pass


@pytest.mark.parametrize("name", CASES)
def test_the_same_key_with_another_body_is_refused(api: Api, name: str) -> None:
    """A body that differs by a blank is another body: 422, and nothing is done."""
    api.add("anna@example.com")
    method, path, body = CASES[name](api)
    assert api.call(method, path, body, idempotency_key="once").is_success
    settle(api, path)
    end = api.end_of_log()
    content = json.dumps(body).encode() + b" "
    headers = {"Content-Type": "application/json"}
    answer = api.call(method, path, content=content, headers=headers, idempotency_key="once")
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("idempotency-mismatch")
    assert api.end_of_log() == end


def test_keys_of_accounts_and_routes_are_apart(api: Api, other: Api) -> None:
    """The same key elsewhere is another key."""
    body = {"contacts": [{"email": "anna@example.com"}]}
    assert api.call("POST", "/v1/contacts", body, idempotency_key="k").json()["added"] == 1
    assert other.call("POST", "/v1/contacts", body, idempotency_key="k").json()["added"] == 1
    lookup = api.call("POST", "/v1/objections", {"email": "anna@example.com"}, idempotency_key="k")
    assert REPLAYED not in lookup.headers


def test_a_replay_after_an_erasure_brings_nothing_back(api: Api) -> None:
    """The import of a person who was forgotten since is answered as then, and nobody is added."""
    body = {"contacts": [{"email": "anna@example.com", "first_name": "Anna"}]}
    first = api.call("POST", "/v1/contacts", body, idempotency_key="import")
    api.post("/v1/erasures", {"email": "anna@example.com", "reason": "withdrew_consent"})
    again = api.call("POST", "/v1/contacts", body, idempotency_key="import")
    assert again.json() == first.json()
    assert api.ledger.person("anna@example.com") is None


def test_a_replayed_authorisation_after_an_erasure_answers_as_then(api: Api) -> None:
    """What was answered is repeated from what the client sent; what is stored names nobody."""
    api.add("anna@example.com")
    path, body = f"/v1/campaigns/{api.campaign()}/authorisations", {"recipients": ["anna@example.com"]}
    first = api.call("POST", path, body, idempotency_key="send")
    api.post("/v1/erasures", {"email": "anna@example.com", "reason": "withdrew_consent"})
    assert api.call("POST", path, body, idempotency_key="send").json() == first.json()
    assert api.call("POST", path, body).json()["refused"][0]["rule"] == "erased"


def test_a_retry_goes_on_where_the_first_attempt_stopped(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database goes after the first chunk: the answer says what was done; the retry does the rest, once."""
    monkeypatch.setattr(rows, "CHUNK_ROWS", 2)
    body = {"contacts": [{"email": f"person{n}@example.com"} for n in range(5)]}
    act, calls = SubjectDesk.act, []

    def failing(self: SubjectDesk, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise Unavailable("The database does not answer.")
        return act(self, *args, **kwargs)

    monkeypatch.setattr(SubjectDesk, "act", failing)
    stopped = api.call("POST", "/v1/contacts", body, idempotency_key="import")
    assert stopped.status_code == 503
    assert stopped.headers["retry-after"]
    assert "before index 2" in stopped.json()["detail"]
    retried = api.call("POST", "/v1/contacts", body, idempotency_key="import")
    assert retried.json()["added"] == 5
    assert REPLAYED not in retried.headers
    assert api.call("POST", "/v1/contacts", body, idempotency_key="import").headers[REPLAYED] == "true"


def test_two_at_once_are_done_once(api: Api) -> None:
    """The same campaign registered by eight threads under one key has one id."""
    body = {"name": "Spring", "purpose": "newsletter", "channel": "email"}

    def register(_: int) -> str:
        return str(api.call("POST", "/v1/campaigns", body, idempotency_key="one").json()["campaign_id"])

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(register, range(8)))) == 1
