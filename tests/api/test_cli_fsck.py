"""`lethe fsck`: a whole log passes, a damaged one ends with 6 and names the event; a kept checkpoint proves more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from audit.verify.note import ED25519, VerifierKey
from ledger.application import Ledger
from ledger.custody.kept_checkpoints import CHECKPOINTS
from tests.acts import add, emails
from tests.api.cli_support import CommandLine
from tests.audit.damage import cut, unpublish
from tests.audit.publishing import grow, publish
from tests.rolls import new_account

pytestmark = pytest.mark.store


@pytest.fixture
def lethe(own_instance: Instance, own_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line over databases and custody of its own, and a published log."""
    add(own_ledger, emails(5))
    publish(own_instance, own_ledger)
    return CommandLine(own_instance, own_ledger, tmp_path, monkeypatch)


@pytest.fixture
def superuser(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody who may do anything to the ledger's database."""
    with psycopg.connect(str(own_instance.settings.ledger_owner_url), autocommit=True) as connection:
        yield connection


def kept(lethe: CommandLine) -> tuple[Path, str]:
    """The last checkpoint as somebody keeps it, and the key that they know."""
    note = publish(lethe.instance, lethe.ledger).note
    path = lethe.folder / "checkpoint"
    path.write_bytes(note.encode())
    return path, lethe.json("log", "keys")["keys"][0]["verifier_key"]


def test_a_whole_log_passes(lethe: CommandLine) -> None:
    """Given a log with an event that is not published yet, when it is checked, then all of it is told."""
    grow(lethe.ledger)
    found = lethe.json("fsck")
    assert (found["whole"], found["events"]) == (True, lethe.end())
    assert found["published"] == lethe.end() - 1
    assert (found["checkpoints"], found["kept"]) == (1, 1)
    said = lethe("fsck")
    assert f"The log of {lethe.ledger.tenant} is whole" in said
    assert "not published yet: 1 event." in said


def test_every_account_is_checked_without_an_account(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two accounts of which one was damaged, then both are told of, and the command ends with 6."""
    monkeypatch.delenv("LETHE_ACCOUNT")
    other = new_account(lethe.instance)
    assert [row["whole"] for row in lethe.lines("fsck")] == [True, True]
    with psycopg.connect(str(lethe.instance.settings.ledger_owner_url), autocommit=True) as superuser:
        superuser.execute("DELETE FROM lethe.event WHERE tenant_id = %s", (other.tenant,))
    rows = {row["account_id"]: row for row in lethe.lines("fsck", code=6)}
    assert rows[str(lethe.ledger.tenant)]["whole"]
    assert rows[str(other.tenant)]["lie"]["rule"] == "gapless"


def test_damage_is_named_and_ends_with_6(lethe: CommandLine, superuser: Connection[Any]) -> None:
    """Given a deleted event, then the position is named for people and in JSON, also behind a gate that is shut."""
    superuser.execute("DELETE FROM lethe.event WHERE tenant_id = %s AND position = 3", (lethe.ledger.tenant,))
    lie = lethe.json("fsck", code=6)["lie"]
    assert (lie["rule"], lie["position"], lie["expected"], lie["found"]) == (
        "gapless",
        3,
        "position 3",
        "position 4",
    )
    assert "is NOT whole" in lethe("fsck", code=6)
    assert "gapless at position 3" in lethe("fsck", code=6)


def test_a_log_that_was_cut_off_is_told_by_custody(lethe: CommandLine, superuser: Connection[Any]) -> None:
    """Given a log whose end is gone with everything published of it, when the gate would be shut, then fsck says what
    is missing."""
    size = publish(lethe.instance, lethe.ledger).size
    grow(lethe.ledger, 3)
    later = publish(lethe.instance, lethe.ledger).size
    cut(superuser, lethe.ledger.tenant, size)
    unpublish(superuser, lethe.ledger.tenant, size)
    lie = lethe.json("fsck", code=6)["lie"]
    assert (lie["rule"], lie["position"], lie["expected"]) == ("kept", size + 1, f"{later} events")


def test_a_log_replaced_by_another_one_with_the_real_key_is_proven_by_a_kept_checkpoint(
    lethe: CommandLine, superuser: Connection[Any]
) -> None:
    """Given a log that was cut back and written on by the program itself, with the real key, and custody cleaned of
    what it kept, when it is checked from inside, then it is whole; the checkpoint that somebody kept proves the lie."""
    tenant = lethe.ledger.tenant
    size = publish(lethe.instance, lethe.ledger).size
    grow(lethe.ledger, 5)
    checkpoint, key = kept(lethe)
    cut(superuser, tenant, size)
    unpublish(superuser, tenant, size)
    for folder in lethe.instance.custody.folders():
        (Path(folder) / CHECKPOINTS).unlink()
    lethe.instance.custody.replace_heads({}, gone=[tenant])
    grow(lethe.ledger, 7)
    publish(lethe.instance, lethe.ledger)
    assert lethe.json("fsck")["whole"]
    for options in (("--key", key), ()):
        lie = lethe.json("fsck", "--checkpoint", checkpoint, *options, code=6)["lie"]
        assert (lie["rule"], lie["position"]) == ("kept", size + 5)
        assert "rewritten" in lie["text"]


def test_a_kept_checkpoint_of_a_whole_log_agrees(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a checkpoint that was kept, when the log has grown since, then it agrees, and names its account itself."""
    checkpoint, key = kept(lethe)
    grow(lethe.ledger, 4)
    new_account(lethe.instance)
    monkeypatch.delenv("LETHE_ACCOUNT")
    assert lethe.json("fsck", "--checkpoint", checkpoint, "--key", key)["kept"] == 2


def test_a_loss_that_was_accepted_is_whole_under_two_origins(lethe: CommandLine, superuser: Connection[Any]) -> None:
    """Given a ledger that a restore brought back to before what it had signed, when that was accepted and the log went
    on under another origin, then it is whole; whoever holds what was lost can still prove that it was."""
    tenant = lethe.ledger.tenant
    size = publish(lethe.instance, lethe.ledger).size
    grow(lethe.ledger, 5)
    checkpoint, key = kept(lethe)
    cut(superuser, tenant, size)
    unpublish(superuser, tenant, size)
    lethe.instance.custody.replace_heads({}, gone=[tenant])
    lethe.instance.custody.abandon_checkpoints([tenant])
    grow(lethe.ledger, 300)
    assert publish(lethe.instance, lethe.ledger).series == 2
    found = lethe.json("fsck")
    assert (found["whole"], found["checkpoints"], found["published"]) == (True, 2, lethe.end())
    lie = lethe.json("fsck", "--checkpoint", checkpoint, "--key", key, code=6)["lie"]
    assert (lie["rule"], lie["position"]) == ("kept", size + 5)


@pytest.mark.parametrize(
    ("content", "options", "code", "error"),
    [
        ("no checkpoint at all\n", (), 1, "checkpoint_refused"),
        (None, ("--key", "nonsense"), 1, "checkpoint_refused"),
        (None, ("--key", str(VerifierKey("example.com/log", ED25519, b"k" * 32))), 1, "checkpoint_refused"),
    ],
    ids=["no checkpoint", "no key", "another's key"],
)
def test_what_proves_nothing_is_refused(
    lethe: CommandLine, content: str | None, options: tuple[str, ...], code: int, error: str
) -> None:
    """Given a file that is no checkpoint, or one whose signature the named key did not make, then it is refused."""
    checkpoint, _ = kept(lethe)
    if content is not None:
        checkpoint.write_text(content)
    assert lethe.json("fsck", "--checkpoint", checkpoint, *options, code=code)["error"] == error


def test_questions_that_cannot_be_answered_are_refused(lethe: CommandLine) -> None:
    """Given a key without a checkpoint, a file that is not there, or an account that is not, then each is named."""
    assert lethe.json("fsck", "--key", "x", code=2)["error"] == "checkpoint_needed"
    assert lethe.json("fsck", "--checkpoint", "nowhere", code=5)["error"] == "unreadable_file"
    assert lethe.json("fsck", "--account", "x", code=2)["error"] == "invalid_account"
    unknown = "00000000-0000-4000-8000-000000000000"
    assert lethe.json("fsck", "--account", unknown, code=5)["error"] == "unknown_account"
