"""Nothing personal leaves by the side doors (FAULTS 6): logs, problems, metrics, headers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import structlog

from api.http.metrics import Metrics
from api.http.observing import logged_as_json
from ledger.application import Ledger
from tests.api.conftest import CONSENT, Api

CANARY = "canary-7f3a@secret.example"
HALF = "canary-7f3a"


def provoke(api: Api) -> list[str]:
    """Requests that carry the canary wherever a client can put one; returns everything that came back."""
    answers = [
        api.call("POST", "/v1/contacts", {"contacts": [{"email": CANARY, CANARY: 1}, {"email": CANARY, "phone": 7}]}),
        api.call("POST", "/v1/contacts", {CANARY: CANARY}),
        api.call("POST", "/v1/contacts", content=f'{{"{CANARY}'.encode(), headers={"Content-Type": "application/json"}),
        api.call("POST", "/v1/contacts", content=CANARY.encode(), headers={"Content-Type": CANARY}),
        api.call("POST", "/v1/contacts", {}, idempotency_key=CANARY),
        api.call("POST", "/v1/consents", {"consents": [CONSENT | {"email": CANARY, "purpose": CANARY}]}),
        api.call("PATCH", "/v1/contacts", {"email": CANARY, "set": {"country": CANARY}}),
        api.call("POST", "/v1/campaigns", {"name": CANARY, "purpose": CANARY, "channel": CANARY}),
        api.call("POST", "/v1/permissions/check", {"email": f"{CANARY}@x", "purpose": "a", "channel": "email"}),
        api.call("POST", "/v1/restrictions", {"email": CANARY}),
        api.call("POST", "/v1/erasures", {"email": CANARY, "reason": CANARY}),
        api.call("POST", "/v1/suppressions", {"suppressions": [{"email": f"{CANARY}@", "cause": CANARY}]}),
        api.call("POST", "/v1/suppressions/lifts", {"email": CANARY, "scope": CANARY}),
        api.call("POST", "/v1/feedback", {"events": [{"message_id": CANARY, "kind": CANARY}]}),
        api.call("POST", "/v1/events/search", {"stream": CANARY, "kinds": [CANARY], "after": CANARY}),
        api.call("POST", "/v1/events/search", {"kinds": [CANARY]}),
        api.call("GET", f"/v1/campaigns/{CANARY}?email={CANARY}"),
        api.call("GET", f"/v1/suppressions/changes?after={CANARY}"),
        api.call("GET", f"/{CANARY}"),
        api.call("GET", "/v1/feedback/parked", headers={"Authorization": f"Bearer {CANARY}"}),
        api.call("GET", "/v1/feedback/parked", headers={"Authorization": "Bearer lethe_x", "X-Email": CANARY}),
    ]
    return [answer.text for answer in answers] + [str(answer.headers) for answer in answers]


def said_by_the_server(caplog: pytest.LogCaptureFixture) -> str:
    """What the standard library's logging got, but for the client of these tests, which is in the same process."""
    formatter = logging.Formatter()
    records = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    return "".join(formatter.format(record) for record in records)


def test_no_value_in_problems_logs_or_metrics(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is sent wherever, neither the answers, nor a log line, nor a figure repeats it."""
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as lines:
        texts = provoke(api)
    assert not [text for text in texts if HALF in text]
    assert len(lines) >= len(texts) // 2
    assert HALF not in str(lines)
    assert HALF not in said_by_the_server(caplog)
    assert HALF not in api.call("GET", "/metrics").text


def test_the_search_finds_a_value_that_is_there(api: Api) -> None:
    """The control: a log line that repeats the path does not pass."""
    with structlog.testing.capture_logs() as lines:
        structlog.get_logger().info("request", path=f"/v1/{CANARY}")
    assert HALF in str(lines)


def test_access_lines_carry_templates(api: Api) -> None:
    """Method, template, status, time and the key's public id; nothing else."""
    campaign = api.campaign()
    with structlog.testing.capture_logs() as lines:
        api.get(f"/v1/campaigns/{campaign}")
        api.call("GET", "/v1/nothing")
    known, unmatched = (line for line in lines if line["event"] == "request")
    assert known["route"] == "/v1/campaigns/{id}"
    assert set(known) == {"event", "log_level", "method", "route", "status", "ms", "key_id"}
    assert (unmatched["route"], unmatched["status"]) == ("unmatched", 404)


def test_access_lines_of_production_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, in the form of all other lines."""
    logged_as_json({"method": "GET", "route": "/v1/campaigns/{id}", "status": 200, "ms": 1.5, "key_id": None})
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["level"], line["logger"]) == ("request", "info", "lethe.access")
    assert line["timestamp"].endswith("Z")


def test_an_error_nobody_foresaw_says_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is an id; the log has the id, the kind of error and where it was, and not its words."""

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"it was {CANARY}")

    monkeypatch.setattr(Ledger, "close_campaign", failing)
    with structlog.testing.capture_logs() as lines:
        answer = api.call("POST", f"/v1/campaigns/{api.campaign()}/closure")
    assert answer.status_code == 500
    assert HALF not in answer.text
    (line,) = (line for line in lines if line["event"] == "request_failed")
    assert line["id"] == answer.json()["id"]
    assert line["error"] == "RuntimeError"
    assert any("failing" in place for place in line["at"])
    assert HALF not in str(lines)


def test_an_error_outside_every_operation_says_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The outermost net catches it before the server can log its words."""

    def failing(*_: Any) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(Metrics, "text", failing)
    with structlog.testing.capture_logs() as lines:
        answer = api.call("GET", "/metrics")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert HALF not in answer.text + str(lines) + said_by_the_server(caplog)


def test_security_headers(api: Api) -> None:
    """No sniffing, no caching, no framing, no referrer; HSTS is for production."""
    headers = api.call("GET", "/v1/feedback/parked").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "strict-transport-security" not in headers
    assert "server" not in headers
