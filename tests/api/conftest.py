"""Fixtures for the HTTP API: one real server per session on 127.0.0.1, and callers with keys of one scope each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from api.bootstrap import Instance
from api.http.app import create_app
from api.http.server import server_config
from ledger.application import API_SCOPES, Ledger

START_SECONDS_MAX = 60.0

CONSENT = {
    "purpose": "newsletter",
    "channel": "email",
    "action": "grant",
    "evidence": {"method": "double_opt_in", "ip": "192.0.2.7"},
}


class Api:
    """One account over HTTP: a key for each scope."""

    def __init__(self, base_url: str, ledger: Ledger) -> None:
        self.ledger = ledger
        self.base_url = base_url
        self._client = httpx.Client(base_url=base_url, timeout=60)
        self._keys = {scope: ledger.issue_api_key([scope], actor="cli") for scope in API_SCOPES}

    def key(self, scope: str) -> str:
        """The API key with this scope."""
        return self._keys[scope]

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        scope: str = "admin",
        idempotency_key: str | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request with a key of the scope; a scope of `` sends none."""
        sent = dict(headers or {})
        if scope:
            sent.setdefault("Authorization", f"Bearer {self.key(scope)}")
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        if content is not None:
            return self._client.request(method, path, content=content, headers=sent)
        if body is None:
            return self._client.request(method, path, headers=sent)
        return self._client.request(method, path, json=body, headers=sent)

    def post(self, path: str, body: Any, **options: Any) -> Any:
        """The answer of a POST that must succeed."""
        answer = self.call("POST", path, body, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def get(self, path: str, **options: Any) -> Any:
        """The answer of a GET that must succeed."""
        answer = self.call("GET", path, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def add(self, *emails: str, consent: bool = True) -> None:
        """Contacts, and their consent to the newsletter."""
        self.post("/v1/contacts", {"contacts": [{"email": email, "first_name": "Anna"} for email in emails]})
        if consent:
            self.post("/v1/consents", {"consents": [CONSENT | {"email": email} for email in emails]})

    def campaign(self, **changes: Any) -> str:
        """A campaign's id."""
        body = {"name": "Spring", "purpose": "newsletter", "channel": "email", "tracking_disclosed": True} | changes
        return str(self.post("/v1/campaigns", body)["campaign_id"])

    def authorise(self, campaign_id: str, *recipients: Any) -> Any:
        """The answer of an authorisation."""
        return self.post(f"/v1/campaigns/{campaign_id}/authorisations", {"recipients": list(recipients)})

    def end_of_log(self) -> int:
        """The last position of the account's log."""
        return self.ledger.log.max_notification_id() or 0

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


@pytest.fixture(scope="session")
def app(instance: Instance) -> FastAPI:
    """The application on the session's instance."""
    return create_app(instance)


@pytest.fixture(scope="session")
def server_url(app: FastAPI, instance: Instance) -> Iterator[str]:
    """Where the session's HTTP server listens."""
    with serving(app, instance) as url:
        yield url


class serving:  # noqa: N801  Used as a function.
    """A real server in a thread, for the length of a block; gives its URL."""

    def __init__(self, app: FastAPI, instance: Instance) -> None:
        self._server = uvicorn.Server(server_config(app, host=instance.settings.host, port=0))
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._server.started:
            assert time.monotonic() < deadline, "The server did not start."
            time.sleep(0.01)
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def serve() -> Callable[[FastAPI, Instance], serving]:
    """For tests that need a server of their own."""
    return serving


@pytest.fixture
def api(server_url: str, ledger: Ledger) -> Iterator[Api]:
    """A fresh account over HTTP."""
    made = Api(server_url, ledger)
    yield made
    made.close()


@pytest.fixture
def other(server_url: str, instance: Instance) -> Iterator[Api]:
    """Another account on the same server."""
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Other Ltd", pack="mailenium", country="GB", minimum_age=0, actor="cli")
    made = Api(server_url, ledger)
    yield made
    made.close()


@pytest.fixture
def api_at() -> Iterator[Callable[[str, Ledger], Api]]:
    """Makes callers of other servers."""
    made: list[Api] = []

    def make(url: str, ledger: Ledger) -> Api:
        made.append(Api(url, ledger))
        return made[-1]

    yield make
    for one in made:
        one.close()
