"""`lethe bundle` and `lethe receipt`: evidence as one file, counted before it is made, and refused by its reason."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from api.cli.failures import ExitCode
from ledger.application import Ledger
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, register, topics, willing
from tests.api.cli_support import CommandLine
from tests.audit.bundling import verified

pytestmark = pytest.mark.store

PEOPLE = emails(4)
ANNA = PEOPLE[0]


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """An account with four willing persons."""
    willing(ledger, PEOPLE)
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def test_every_kind_is_made_and_verifies(lethe: CommandLine) -> None:
    """Given an account, when a bundle of each kind is made, then a file for its owner only is there, and verifies."""
    campaign = register(lethe.ledger)
    token = ask(lethe.ledger, campaign, PEOPLE).allowed[ANNA]
    (erasure,) = lethe.ledger.erasures.intend([PEOPLE[3]], reason="other", actor="cli")
    finish_erasures(lethe.ledger)
    lethe.file("who.txt", ANNA)
    for arguments in (
        ("bundle", "person", "--file", "who.txt"),
        ("bundle", "campaign", campaign),
        ("bundle", "request", erasure.erasure_id),
        ("bundle", "destruction", erasure.certificate_id),
        ("bundle", "period", "--first", 2, "--last", 6),
        ("receipt", token),
    ):
        out = lethe.folder / f"{arguments[0]}-{arguments[1]}.zip"[:60]
        said = lethe.json(*arguments, "--out", out)
        found = verified(lethe.instance, lethe.ledger, out)
        assert (said["events"], said["bytes"], said["opened"]) == (found.events, out.stat().st_size, 0)
        assert said["size"] == found.checkpoint.checkpoint.size
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert lethe.json("verify", out, code=0)
    assert "Check it: lethe verify" in lethe("bundle", "period", "--out", "all.zip")


def test_opening_is_asked_for(lethe: CommandLine) -> None:
    """Given a bundle that is asked for opened, then it says how much of it is, and the page inside shows it."""
    lethe.file("who.txt", ANNA)
    said = lethe.json("bundle", "person", "--file", "who.txt", "--open", "--out", "anna.zip")
    assert said["opened"] == said["sealed_parts"] == 2
    assert ANNA.encode() in (lethe.folder / "anna.zip").read_bytes()
    assert "2 of 2 sealed parts opened" in lethe(
        "bundle", "person", "--file", "who.txt", "--open", "--out", "again.zip"
    )


def test_a_dry_run_counts_and_makes_nothing(lethe: CommandLine) -> None:
    """Given a dry run, then the events are counted by topic and no file is made; that a person was looked up is
    recorded, and not who: the export that follows would be theirs, by its neighbourhood (I11)."""
    lethe.file("who.txt", ANNA)
    before = topics(lethe.ledger)
    said = lethe.json("bundle", "person", "--file", "who.txt", "--dry-run")
    assert said == {
        "kind": "person",
        "events": 2,
        "sealed_parts": 2,
        "topics": {"consent.granted.v1": 1, "contact.added.v1": 1},
    }
    assert "Nothing was made" in lethe("bundle", "period", "--dry-run")
    assert topics(lethe.ledger)[len(before) :] == ["access.viewed.v1"]
    (view,) = lethe.ledger.log.select_log(len(before) + 1, 1)
    assert json.loads(view.state)["plain"] == {"parts_opened": 0, "what": "bundle person"}
    assert [path.name for path in lethe.folder.glob("*.zip")] == []


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("bundle", "period"), ExitCode.USAGE, "out_needed"),
        (("bundle", "campaign", "seven", "--out", "x.zip"), ExitCode.USAGE, "invalid_campaign"),
        (("bundle", "campaign", str(uuid4()), "--out", "x.zip"), ExitCode.NOT_FOUND, "unknown_campaign"),
        (("bundle", "request", str(uuid4()), "--out", "x.zip"), ExitCode.NOT_FOUND, "nothing_found"),
        (("bundle", "destruction", str(uuid4()), "--out", "x.zip"), ExitCode.NOT_FOUND, "unknown_certificate"),
        (("bundle", "period", "--first", "999", "--out", "x.zip"), ExitCode.NOT_FOUND, "nothing_found"),
        (("receipt", "no-token", "--out", "x.zip"), ExitCode.REFUSED, "refused"),
    ],
)
def test_what_cannot_be_made_is_said(lethe: CommandLine, arguments: tuple[str, ...], code: ExitCode, name: str) -> None:
    """Given a question without an answer, then its name and exit code say so, and no half of a file is left."""
    assert lethe.json(*arguments, code=code)["error"] == name
    assert not (lethe.folder / "x.zip").exists()


def test_what_was_erased_is_said_to_be(lethe: CommandLine) -> None:
    """Given an erased person, when a receipt of their message is asked for, then the answer is `erased`."""
    token = ask(lethe.ledger, register(lethe.ledger), PEOPLE).allowed[ANNA]
    lethe.ledger.erasures.intend([ANNA], reason="other", actor="cli")
    finish_erasures(lethe.ledger)
    said = lethe.json("receipt", token, "--out", "x.zip", code=ExitCode.REFUSED)
    assert said["error"] == "erased"
    assert "made before still verify" in said["message"]


def test_no_file_is_written_over(lethe: CommandLine) -> None:
    """Given a file of that name, then it stays as it is, and nothing is recorded as having left."""
    (lethe.folder / "all.zip").write_bytes(b"mine")
    assert lethe.json("bundle", "period", "--out", "all.zip", code=ExitCode.REFUSED)["error"] == "file_exists"
    assert (lethe.folder / "all.zip").read_bytes() == b"mine"
    assert "access.export_produced.v1" not in topics(lethe.ledger)
