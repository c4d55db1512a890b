"""What the doctor says of witnesses and of the timestamp authority."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.bootstrap import Instance
from api.cli.checks import Finding, examine
from api.cli.checks_attesting import ATTESTING_CHECKS
from audit.log.attempts import Kind, note_attempt
from ledger.application import Ledger
from tests.timestamp_authority import TimestampAuthority as Openssl
from tests.witness import Witness

KEY = str(Witness("witness.example/doctor", b"d" * 32, now=lambda: 1).key)
URL = "http://127.0.0.1:9/doctor"

Noting = Callable[..., None]


@pytest.fixture
def note(instance: Instance, ledger: Ledger) -> Noting:
    """Notes an attempt of some age."""

    def noted(kind: Kind, asked: str, *, failure: str | None = None, age: timedelta = timedelta(), **more: Any) -> None:
        with instance.services.writer.connection() as connection:
            at = datetime.now(UTC) - age
            note_attempt(connection, ledger.tenant, 1, kind, asked, size=1, at=at, failure=failure, **more)

    return noted


def found(instance: Instance, **changes: Any) -> dict[str, Finding]:
    """What the two checks find under changed settings."""
    settings = instance.settings.model_copy(update=changes)
    return {f.check: f for f in examine(settings, ATTESTING_CHECKS) if f.check.startswith("log: ")}


def test_without_any_it_says_so(instance: Instance) -> None:
    """Given no witness and no authority, then that is well, and said."""
    findings = found(instance)
    assert [(f.state, f.seen[:4]) for f in findings.values()] == [("ok", "none"), ("ok", "no a")]


@pytest.mark.parametrize(
    ("age", "state"), [(timedelta(minutes=1), "ok"), (timedelta(hours=1), "warn"), (timedelta(days=2), "fail")]
)
def test_a_failure_is_told_by_its_age(
    instance: Instance, note: Noting, tmp_path: Path, age: timedelta, state: str
) -> None:
    """Given a witness and an authority that fail, then a minute is well, an hour a warning, and two days a failure."""
    authority = Openssl(tmp_path / "authority")
    note("witness", KEY, failure="No answer.", age=age)
    note("timestamp", URL, failure="No answer.", age=age)
    changes = {
        "witnesses": [f"{KEY} http://127.0.0.1:9"],
        "timestamp_url": URL,
        "timestamp_roots": authority.folder / "root.pem",
    }
    findings = found(instance, **changes)
    assert [f.state for f in findings.values()] == [state, state]
    assert "witness.example/doctor" in findings["log: witnesses"].seen
    note("witness", KEY)
    note("timestamp", URL)
    assert [f.state for f in found(instance, **changes).values()] == ["ok", "ok"]


def test_another_history_fails_at_once(instance: Instance, note: Noting) -> None:
    """Given a witness that holds another history, then the doctor fails, however young that is."""
    note("witness", KEY, failure="It holds another root.", incident=True)
    finding = found(instance, witnesses=[f"{KEY} http://127.0.0.1:9"])["log: witnesses"]
    assert finding.state == "fail"
    assert "fsck" in finding.advice
    note("witness", KEY)


def test_settings_that_cannot_be_used_fail(instance: Instance) -> None:
    """Given settings that stop the program, then the doctor says which."""
    findings = found(instance, witnesses=["nothing"], timestamp_url=URL)
    assert [(f.state, f.hard) for f in findings.values()] == [("fail", True), ("fail", True)]
