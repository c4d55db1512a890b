"""The database gone in the middle of things (FAULTS 26): a clear 503 with Retry-After, nothing lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi import FastAPI

from api.bootstrap import Instance, running
from api.http.app import create_app
from ledger.application import Ledger
from ledger.connections import ACQUIRE_TIMEOUT_SECONDS
from ledger.embedded import EmbeddedPostgres
from ledger.errors import GateShut
from tests.api.conftest import Api, serving
from tests.support import chosen_bin_dir, settings_for

TRIES_MAX = 60
GONE_SECONDS = 1.0

pytestmark = pytest.mark.store


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[tuple[EmbeddedPostgres, Instance]]:
    """A server of its own, which the test may stop, and an instance on it."""
    with (
        EmbeddedPostgres(tmp_path / "postgres", chosen_bin_dir(), fsync=False) as server,
        running(settings_for(server, tmp_path / "lethe")) as instance,
    ):
        yield server, instance


@pytest.fixture
def fragile_api(
    fragile: tuple[EmbeddedPostgres, Instance],
    serve: Callable[[FastAPI, Instance], serving],
    api_at: Callable[[str, Ledger], Api],
) -> Iterator[Api]:
    """An account on it, over HTTP."""
    _, instance = fragile
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=0, actor="cli")
    with serve(create_app(instance), instance) as url:
        yield api_at(url, ledger)


def wait_for_a_connection(instance: Instance, seconds: float) -> None:
    """How long its pools wait; short only while the server is gone, since a busy one may take longer than that."""
    for pool in (instance.services.writer, instance.services.reader._pool, instance.vault_pool):
        pool._pool.timeout = seconds


def test_answers_503_until_the_database_is_back(fragile: tuple[EmbeddedPostgres, Instance], fragile_api: Api) -> None:
    """Every kind of command fails clearly while it is gone, and works when it is back; what was there still is."""
    server, instance = fragile
    fragile_api.add("anna@example.com")
    campaign = fragile_api.campaign()
    assert fragile_api.get("/readyz", scope="")["status"] == "ready"
    server.stop_immediately()
    wait_for_a_connection(instance, GONE_SECONDS)
    question = {"email": "anna@example.com", "purpose": "newsletter", "channel": "email"}
    for path, body in (
        ("/v1/contacts", {"contacts": [{"email": "bert@example.com"}]}),
        (f"/v1/campaigns/{campaign}/authorisations", {"recipients": ["anna@example.com"]}),
        ("/v1/permissions/check", question),
    ):
        answer = fragile_api.call("POST", path, body)
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["type"].endswith("unavailable")
    lines = {"Content-Type": "application/x-ndjson"}
    path = f"/v1/campaigns/{campaign}/authorisations"
    assert fragile_api.call("POST", path, content=b'"anna@example.com"\n', headers=lines).status_code == 503
    readiness = fragile_api.call("GET", "/readyz", scope="")
    assert readiness.status_code == 503
    assert readiness.json()["checks"]
    assert fragile_api.call("GET", "/healthz", scope="").status_code == 200
    server.start()
    wait_for_a_connection(instance, ACQUIRE_TIMEOUT_SECONDS)
    recipients = {"recipients": ["anna@example.com", "bert@example.com"]}
    answer = fragile_api.call("POST", path, recipients)
    for _ in range(TRIES_MAX):  # As a client would: each database has connections of its own to make anew.
        if answer.status_code != 503:
            break
        time.sleep(0.5)
        answer = fragile_api.call("POST", path, recipients)
    assert answer.status_code == 200, answer.text
    assert answer.json()["refused"] == [{"email": "bert@example.com", "rule": "unknown_recipient"}]


def test_a_restored_database_answers_nothing_until_it_is_opened(
    fragile: tuple[EmbeddedPostgres, Instance], fragile_api: Api
) -> None:
    """Given a server, when a backup is restored under it, then it is not ready and answers 503 until the gate opens."""
    _, instance = fragile
    question = {"email": "anna@example.com", "purpose": "newsletter", "channel": "email"}
    fragile_api.add("anna@example.com")
    with instance.services.writer.transaction() as connection:
        connection.execute("INSERT INTO restore_gate (shut_at, backup_id, taken_at) VALUES (now(), 'b', now())")
    with pytest.raises(GateShut, match="restored from backup b"):
        instance.watch.look()
    for method, path, body in (("POST", "/v1/permissions/check", question), ("GET", "/readyz", None)):
        answer = fragile_api.call(method, path, body)
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert "lethe reopen" in answer.text
