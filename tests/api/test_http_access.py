"""Who may do what (FAULTS 23, 25): every endpoint with no key, a revoked one, a foreign one, a wrong scope."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from api.http import auth
from api.http.app import OPERATIONS
from api.http.limits import TokenBuckets
from api.http.operation import Operation
from domain.access import AccessRefused
from ledger.application import API_SCOPES, parse_api_key
from tests.api.conftest import Api

OPEN_PATHS = {"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"}
UNKNOWN = "0198a000-0000-7000-8000-000000000000"
EVERY = [pytest.param(operation, id=operation.operation_id) for operation in OPERATIONS]


def attempt(api: Api, operation: Operation, **options: Any) -> Any:
    """The operation called with an empty body; who may not come in never gets as far as the body."""
    path = operation.path.replace("{id}", UNKNOWN).replace("{position}", "1")
    body: dict[str, Any] | None = {} if operation.body is not None else None
    return api.call(operation.method, path, body, **options)


def refusals(api: Api) -> list[dict[str, Any]]:
    """What was recorded of those turned away."""
    events = api.ledger.log.select_log(1, 1000, topics=[AccessRefused.TOPIC])
    plain: list[dict[str, Any]] = [json.loads(event.state)["plain"] for event in events]
    return plain


@pytest.mark.parametrize("operation", EVERY)
def test_needs_a_key(api: Api, operation: Operation) -> None:
    """Without a key, or with something that is none: 401 with WWW-Authenticate, and nothing is recorded for anybody."""
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic bGV0aGU6"}, {"Authorization": ""}):
        answer = attempt(api, operation, scope="", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    assert refusals(api) == []


@pytest.mark.parametrize("operation", EVERY)
def test_refuses_a_revoked_key_at_once(api: Api, operation: Operation) -> None:
    """A key that worked a moment ago does not once it is revoked in this process, and that is recorded."""
    headers = {"Authorization": f"Bearer {api.key('admin')}"}
    assert attempt(api, operation, headers=headers).status_code not in (401, 403)
    _, key_id, _ = parse_api_key(api.key("admin")) or (None, "", b"")
    assert api.ledger.revoke_api_key(key_id, actor="cli")
    assert attempt(api, operation, headers=headers).status_code == 401
    assert refusals(api) == [{"route": operation.path, "reason": "unknown_or_revoked_key", "key_id": key_id}]


@pytest.mark.parametrize("operation", EVERY)
def test_refuses_a_wrong_scope(api: Api, operation: Operation) -> None:
    """A key of any scope that is not the operation's: 403 that names those that are, recorded with the key."""
    wrong = [scope for scope in API_SCOPES if scope not in operation.scopes and scope != "admin"]
    for scope in wrong:
        answer = attempt(api, operation, scope=scope)
        assert answer.status_code == 403
        for right in operation.scopes:
            assert right in answer.json()["detail"]
    assert [(fact["route"], fact["reason"]) for fact in refusals(api)] == [(operation.path, "wrong_scope")] * len(wrong)
    for scope in operation.scopes:
        assert attempt(api, operation, scope=scope).status_code not in (401, 403)


def test_no_account_sees_another(api: Api, other: Api) -> None:
    """Every id and address of one account is unknown to the key of another: 404 or nothing found (I10)."""
    api.add("anna@example.com")
    campaign = api.campaign()
    token = api.authorise(campaign, "anna@example.com")["allowed"][0]["message_id"]
    erasure = api.post("/v1/erasures", {"email": "bert@example.com", "reason": "asked"})["erasure_id"]
    deletion = api.post("/v1/contacts/deletions", {"emails": ["carl@example.com"]})["deletion_id"]
    end = api.end_of_log()
    for path in (f"/v1/campaigns/{campaign}", f"/v1/erasures/{erasure}", f"/v1/deletions/{deletion}"):
        assert other.call("GET", path).status_code == 404
    body = {"recipients": ["anna@example.com"]}
    assert other.call("POST", f"/v1/campaigns/{campaign}/authorisations", body).status_code == 404
    assert other.call("POST", f"/v1/campaigns/{campaign}/closure").status_code == 404
    question = {"email": "anna@example.com", "purpose": "newsletter", "channel": "email"}
    assert other.post("/v1/permissions/check", question)["rule"] == "unknown_recipient"
    assert not other.post("/v1/suppressions/lookup", {"emails": ["bert@example.com"]})["results"][0]["suppressed"]
    assert other.get("/v1/suppressions/changes")["changes"] == []
    assert other.call("PATCH", "/v1/contacts", {"email": "anna@example.com", "set": {"phone": "1"}}).status_code == 404
    assert other.call("POST", "/v1/restrictions", {"email": "anna@example.com"}).status_code == 404
    events = [{"message_id": token, "kind": "complained", "occurred_at": "2026-11-21T20:15:00Z"}]
    assert other.post("/v1/feedback", {"events": events})["parked"]
    assert api.get("/v1/feedback/parked")["parked"] == []
    assert api.end_of_log() == end
    assert api.post("/v1/permissions/check", question)["allowed"] is True


def test_an_unknown_account_creates_nothing(api: Api, instance: Instance) -> None:
    """A well-formed key of an account that does not exist leaves no trace in either database."""
    stranger = uuid4()
    key = "lethe_" + urlsafe_b64encode(stranger.bytes + bytes(40)).decode().rstrip("=")
    answer = api.call("GET", "/v1/feedback/parked", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert instance.held_ledger(stranger) is None
    for pool, statement in (
        (instance.services.writer, "SELECT count(*) FROM lethe.head WHERE tenant_id = %s"),
        (instance.vault_pool, "SELECT count(*) FROM lethe_vault.wrapped_key WHERE tenant_id = %s"),
    ):
        with pool.connection() as connection:
            assert connection.execute(statement, (stranger,)).fetchone() == (0,)


def test_refusals_cannot_flood_the_log(api: Api) -> None:
    """Of many attempts with one bad key a few are recorded; the answer stays the same."""
    tenant = api.ledger.tenant.bytes
    for number in range(60):
        key = "lethe_" + urlsafe_b64encode(tenant + number.to_bytes(8, "big") + bytes(32)).decode().rstrip("=")
        for _ in range(2):
            headers = {"Authorization": f"Bearer {key}"}
            assert api.call("GET", "/v1/feedback/parked", headers=headers).status_code == 401
    assert 0 < len(refusals(api)) <= auth.REFUSALS_PER_ACCOUNT_AND_MINUTE + 1


@pytest.fixture
def slow_rate(app: Any) -> Iterator[None]:
    """Three requests a minute for each key."""
    desk = app.state.desk
    usual = desk.rates
    object.__setattr__(desk, "rates", TokenBuckets(3))
    yield
    object.__setattr__(desk, "rates", usual)


@pytest.mark.usefixtures("slow_rate")
def test_too_many_requests_of_one_key(api: Api, other: Api) -> None:
    """The fourth is told to wait, and how long; other keys are not touched by it."""
    statuses = [api.call("GET", "/v1/feedback/parked").status_code for _ in range(3)]
    limited = api.call("GET", "/v1/feedback/parked")
    assert statuses == [200, 200, 200]
    assert limited.status_code == 429
    assert int(limited.headers["retry-after"]) > 0
    assert other.call("GET", "/v1/feedback/parked").status_code == 200


def test_no_get_changes_anything(api: Api) -> None:
    """Link scanners and prefetchers open every address (FAULTS 25): GET and HEAD leave the log as it was."""
    api.add("anna@example.com")
    campaign = api.campaign()
    end = api.end_of_log()
    paths = [operation.path for operation in OPERATIONS if operation.method == "GET"]
    for path in [*paths, *OPEN_PATHS]:
        for method in ("GET", "HEAD"):
            api.call(method, path.replace("{id}", campaign))
    assert api.end_of_log() == end


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_some_paths_take_no_key(api: Api, path: str) -> None:
    """Whoever runs the server, and whoever reads about it, needs none."""
    answer = api.call("GET", path, scope="")
    assert answer.status_code == 200
    assert str(api.ledger.tenant) not in answer.text


def test_a_path_that_does_not_exist(api: Api) -> None:
    """404 and 405 are problems like all others; 405 names every method of the path."""
    assert api.call("GET", "/v1/nothing").json()["status"] == 404
    answer = api.call("DELETE", "/v1/contacts")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "PATCH, POST"
    assert answer.headers["content-type"] == "application/problem+json"
