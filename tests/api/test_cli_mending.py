"""`lethe log mend-tiles`: a plan first, the owner's hand, an event before the first tile, and a whole log behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from ledger.application import Ledger
from tests.acts import add, emails
from tests.api.cli_support import CommandLine
from tests.audit.damage import rewrite
from tests.audit.publishing import grow, publish

pytestmark = pytest.mark.store

MENDING = "log.tiles_mending.v1"


@pytest.fixture
def superuser(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody who may do anything to the ledger's database."""
    with psycopg.connect(str(own_instance.settings.ledger_owner_url), autocommit=True) as connection:
        yield connection


@pytest.fixture
def lethe(
    own_instance: Instance,
    own_ledger: Ledger,
    superuser: Connection[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> CommandLine:
    """The command line over a published log that lost a tile, has another one damaged, and one too many."""
    add(own_ledger, emails(400))
    publish(own_instance, own_ledger)
    grow(own_ledger)
    superuser.execute("DELETE FROM lethe.log_tile WHERE level = 0 AND number = 1")
    superuser.execute("UPDATE lethe.log_tile SET hashes = sha256('x') || substring(hashes FROM 33) WHERE level = 1")
    superuser.execute(
        "INSERT INTO lethe.log_tile SELECT tenant_id, 1, 0, 9, hashes FROM lethe.log_tile WHERE level = 1"
    )
    return CommandLine(own_instance, own_ledger, tmp_path, monkeypatch)


def test_fsck_leads_to_the_command(lethe: CommandLine) -> None:
    """Given a log with wrong tiles, when fsck stops at the first, then it says what to try."""
    assert f"lethe log mend-tiles --account {lethe.ledger.tenant} --dry-run" in lethe("fsck", code=6)


def test_a_dry_run_changes_nothing(lethe: CommandLine) -> None:
    """Given wrong tiles, when the plan is looked at, then they are counted and named, and nothing was done."""
    end = lethe.end()
    found = lethe.json("log", "mend-tiles", "--dry-run")
    assert (found["damaged"], found["missing"], found["surplus"], found["mended"]) == (1, 1, 1, False)
    assert found["first"] == [{"series": 1, "level": 0, "number": 1}, {"series": 1, "level": 1, "number": 0}]
    assert (found["checkpoints"], found["published"], found["events"]) == (1, end - 1, end)
    said = lethe("log", "mend-tiles", "--dry-run")
    assert "give the root of each of its 1 checkpoint." in said
    assert "0 of level 1" in said
    assert lethe.end() == end
    assert lethe.json("fsck", code=6)["lie"]["rule"] == "tile"


def test_where_nobody_can_be_asked_it_needs_yes(lethe: CommandLine) -> None:
    """Given no terminal, when `--yes` is not given, then nothing is done."""
    end = lethe.end()
    assert lethe.json("log", "mend-tiles", code=2)["error"] == "not_confirmed"
    assert "destroys" not in lethe.said
    assert lethe.end() == end


def test_mended_it_is_whole_and_the_log_says_so(lethe: CommandLine) -> None:
    """Given wrong tiles, when they are mended, then the log is whole, publishes on, and holds an event about it."""
    before = lethe.json("log", "mend-tiles", "--dry-run")
    found = lethe.json("log", "mend-tiles", "--yes")
    assert (found["mended"], found["damaged"], found["missing"], found["surplus"]) == (True, 1, 1, 1)
    assert lethe.topics()[-1] == MENDING
    event = next(e for e in lethe.lines("events", "--kind", MENDING))
    told = {"damaged": 1, "missing": 1, "surplus": 1, "size": before["events"], "root": before["root"]}
    assert told.items() <= event.items()
    publish(lethe.instance, lethe.ledger)
    assert lethe.json("fsck")["published"] == lethe.end()


def test_what_is_whole_is_left_alone(lethe: CommandLine) -> None:
    """Given a log that was mended, when it is asked for again, then nothing is done and nothing recorded."""
    lethe("log", "mend-tiles", "--yes")
    end = lethe.end()
    assert lethe.json("log", "mend-tiles", "--yes")["mended"] is False
    assert "nothing to mend" in lethe("log", "mend-tiles", "--yes")
    assert lethe.end() == end


def test_over_a_rewritten_event_nothing_is_written(lethe: CommandLine, superuser: Connection[Any]) -> None:
    """Given wrong tiles and an event that was rewritten, when mending is asked for, then the checkpoint is named that
    it does not give, nothing is written or recorded, and it ends with 6."""
    rewrite(superuser, lethe.ledger.tenant, 9, lambda entry: entry.update(actor="somebody"))
    end, size = lethe.end(), lethe.end() - 1
    found = lethe.json("log", "mend-tiles", "--yes", code=6)
    assert (found["mended"], found["lie"]["rule"], found["lie"]["position"]) == (False, "root", size)
    assert "More is wrong" in lethe("log", "mend-tiles", "--yes", code=6)
    assert lethe.end() == end
    assert superuser.execute("SELECT count(*) FROM lethe.log_tile WHERE number = 9").fetchone() == (1,)


def test_without_the_owner_nothing_is_recorded(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given no owner's connection, or the program's own in its place, then neither an event nor a tile is written."""
    end = lethe.end()
    monkeypatch.delenv("LETHE_LEDGER_OWNER_URL")
    assert "LETHE_LEDGER_OWNER_URL" in lethe.json("log", "mend-tiles", "--yes", code=7)["message"]
    monkeypatch.setenv("LETHE_LEDGER_OWNER_URL", lethe.instance.urls.writer)
    assert lethe.json("log", "mend-tiles", "--yes", code=7)["error"] == "settings_refused"
    assert lethe.end() == end
    assert lethe.json("log", "mend-tiles", "--dry-run")["missing"] == 1


def test_a_restored_ledger_is_reopened_first(lethe: CommandLine, superuser: Connection[Any]) -> None:
    """Given a gate that a restore has shut, when mending is asked for, then nothing is recorded behind it."""
    superuser.execute("INSERT INTO lethe.restore_gate VALUES (now(), 'b', now())")
    assert lethe.json("log", "mend-tiles", "--yes", code=6)["error"] == "gate_shut"
    assert lethe.json("log", "mend-tiles", "--dry-run")["missing"] == 1
