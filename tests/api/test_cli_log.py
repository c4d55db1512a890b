"""`lethe log`, the worker's sequencer, and what doctor, readiness and figures say of a log."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from api.bootstrap import Instance, make_work
from api.cli.checks import Finding, examine
from api.cli.checks_log import LOG_CHECKS
from audit.log.status import log_lag
from audit.log.store import latest_checkpoint
from audit.verify.note import VerifierKey, open_note
from ledger.application import Ledger
from ledger.errors import GateShut
from tests.acts import add, emails
from tests.api.cli_support import CommandLine
from tests.support import SettableClock

PUBLISHED_SECONDS_MAX = 60.0


@pytest.fixture
def lethe(own_instance: Instance, own_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(own_instance, own_ledger, tmp_path, monkeypatch)


def test_status_says_what_is_published(lethe: CommandLine) -> None:
    """Given a log, when its status is asked for before and after it is published, then it says so in words and JSON."""
    assert "lethe worker" in lethe("log", "status")
    before = lethe.json("log", "status")
    assert (before["origin"], before["size"], before["root"], before["lag_events"]) == (None, 0, None, 1)
    published = lethe.instance.sequencer.publish_tenant(lethe.ledger)
    assert published is not None
    after = lethe.json("log", "status")
    assert (after["origin"], after["size"], after["root"]) == (published.origin, 3, published.root.hex())
    assert (after["events"], after["lag_events"], after["waiting_since"]) == (3, 0, None)
    add(lethe.ledger, emails(2))
    behind = lethe.json("log", "status")
    assert (behind["size"], behind["lag_events"]) == (3, 2)
    assert behind["waiting_since"]
    said = lethe("log", "status")
    assert published.origin in said
    assert "2 events not published yet" in said


def test_keys_are_shown_replaced_and_retired(lethe: CommandLine) -> None:
    """Given a published log, when its key is replaced by commands, then each says what whoever checks needs."""
    assert "no key yet" in lethe("log", "keys")
    assert lethe.json("log", "keys") == {"keys": []}
    assert lethe.json("log", "rotate", code=1)["error"] == "log_key_refused"
    lethe.instance.sequencer.publish()
    (old,) = lethe.json("log", "keys")["keys"]
    assert lethe.json("log", "retire", old["key_id"], code=1)["error"] == "log_key_refused"
    new = lethe.json("log", "rotate")
    lethe.instance.sequencer.publish()
    with lethe.instance.services.writer.transaction() as connection:
        checkpoint = latest_checkpoint(connection, lethe.ledger.tenant)
    assert checkpoint is not None
    parsed = [VerifierKey.parse(key["verifier_key"]) for key in (old, new)]
    assert len(open_note(checkpoint.note.encode(), parsed).signed) == 2
    assert lethe.json("log", "retire", old["key_id"])["retired_at"]
    said = lethe("log", "keys")
    assert old["verifier_key"] in said
    assert new["verifier_key"] in said
    assert "retired on" in said


# The worker's thread --------------------------------------------------------------------------------------------------


def test_a_worker_publishes_in_a_thread_of_its_own(own_instance: Instance, own_ledger: Ledger) -> None:
    """Given the sequencer of a worker, when events come, then they are published, until it is told to stop."""
    stop = threading.Event()
    thread = threading.Thread(target=make_work(own_instance)["sequencer"], args=(stop,), daemon=True)
    thread.start()
    try:
        for number in range(3):
            add(own_ledger, emails(5, f"w{number}-"))
            wait_until_published(own_instance, own_ledger)
    finally:
        stop.set()
        thread.join(PUBLISHED_SECONDS_MAX)
    assert not thread.is_alive()


def wait_until_published(instance: Instance, ledger: Ledger) -> None:
    deadline = time.monotonic() + PUBLISHED_SECONDS_MAX
    while True:
        with instance.services.writer.transaction() as connection:
            head = ledger.appender.read_head(connection).position
            found = latest_checkpoint(connection, ledger.tenant)
        if found is not None and found.size == head:
            return
        assert time.monotonic() < deadline, "The sequencer did not publish."
        time.sleep(0.05)


def test_whatever_goes_wrong_the_thread_goes_on(
    own_instance: Instance, own_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a gate that is shut and a database that errs, when that is over, then the same thread publishes."""
    wrongs: list[Exception] = [GateShut("Shut."), psycopg.errors.UndefinedTable("x"), ValueError("a fault")]
    real = own_instance.watch.look

    def look() -> None:
        if wrongs:
            raise wrongs.pop()
        real()

    monkeypatch.setattr(own_instance.watch, "look", look)
    monkeypatch.setattr("audit.log.sequencer.PUBLISH_EVERY_SECONDS", 0.01)
    monkeypatch.setattr("audit.log.sequencer.BACK_OFF_SECONDS_MAX", 0.02)
    stop = threading.Event()
    work = make_work(own_instance)["sequencer"]
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_until_published(own_instance, own_ledger)
    finally:
        stop.set()
        thread.join(PUBLISHED_SECONDS_MAX)
    assert wrongs == []


# Doctor, readiness, figures -------------------------------------------------------------------------------------------


def findings(instance: Instance) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(instance.settings, LOG_CHECKS)}


def test_doctor_of_a_log_that_is_well(own_instance: Instance, own_ledger: Ledger) -> None:
    """Given a published log, when doctor looks, then lag, edge and keys are well."""
    add(own_ledger, emails(300))
    own_instance.sequencer.publish()
    found = findings(own_instance)
    assert {name: found[name].state for name in found if name.startswith("log:")} == {
        "log: published": "ok",
        "log: edges": "ok",
        "log: keys": "ok",
    }


def test_doctor_says_that_nobody_publishes(own_instance: Instance, clock: SettableClock) -> None:
    """Given events of an hour ago that stand in no published log, when doctor looks, then it warns."""
    clock.advance(timedelta(hours=-1))
    ledger = own_instance.ledger(UUID(int=5))
    ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    found = findings(own_instance)["log: published"]
    assert (found.state, "60 minutes" in found.seen) == ("warn", True)
    assert "lethe worker" in found.advice


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("UPDATE lethe.log_tile SET hashes = sha256('x') || substring(hashes FROM 33) WHERE level = 0", "log: edges"),
        ("DELETE FROM lethe.log_tile", "log: edges"),
        ("UPDATE lethe.log_checkpoint SET root = sha256('x')", "log: edges"),
        ("UPDATE lethe.event SET entry = entry || ' ' WHERE position = 3", "log: edges"),
        ("INSERT INTO lethe.log_key SELECT tenant_id, 9, 1, 'abcdef01', 'x', now() FROM lethe.log_key", "log: keys"),
    ],
)
def test_doctor_finds_what_is_planted(own_instance: Instance, own_ledger: Ledger, statement: str, check: str) -> None:
    """Given a published log that somebody changed, or a key that is not there, when doctor looks, then it fails."""
    own_instance.sequencer.publish()
    assert findings(own_instance)[check].state == "ok"
    assert own_instance.settings.ledger_owner_url is not None
    with psycopg.connect(own_instance.settings.ledger_owner_url, autocommit=True) as connection:
        connection.execute(statement.encode())
    found = findings(own_instance)[check]
    assert found.state == "fail"
    assert found.advice


def test_the_lag_of_all_logs(own_instance: Instance, own_ledger: Ledger, clock: SettableClock) -> None:
    """Given two accounts, when one is behind, then the worst lag is that one's, in events and in seconds."""
    other = own_instance.ledger(UUID(int=6))
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    own_instance.sequencer.publish()
    add(own_ledger, emails(7))
    moment = clock()

    def lag() -> Any:
        with own_instance.services.writer.transaction() as connection:
            return log_lag(connection, moment + timedelta(seconds=90))

    assert (lag().entries, lag().events) == (6, 7)
    assert 85 < lag().seconds < 100
    own_instance.sequencer.publish()
    assert (lag().entries, lag().events, lag().seconds) == (13, 0, 0)
