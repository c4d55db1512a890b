"""The demo: every promise is put to the test, and every figure is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.cli.demo import MARKER
from api.demo.canary import control, look
from ledger.embedded import EmbeddedPostgres

CONTACTS = 300


def _demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LETHE_")}
    environment |= {"LETHE_DATA_DIR": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-m", "api.cli.main", "demo", "--once", "--json", "--contacts", str(CONTACTS), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=110,
    )


@pytest.mark.store
def test_the_whole_story_holds_and_its_last_line_is_the_summary(tmp_path: Path) -> None:
    """Played without a terminal, the demo ends well and prints one object with what it measured."""
    done = _demo(tmp_path)

    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert told["contacts"] == CONTACTS
    assert told["events"] > CONTACTS
    assert told["authorised"] > 0
    assert {"no_consent", "unsubscribed", "unknown_recipient"} <= set(told["refused"])
    assert sum(told["refused"].values()) > 0
    assert told["suppressed"] > 0
    assert told["erased"] == 1
    assert told["send_after_erasure"] == "refused"
    assert told["suppressed_after_reimport"] is True
    assert told["clear_text_found"] == 0
    assert told["control_found"] is True
    assert told["log_findings"] == 0
    assert told["seconds"] > 0
    assert "1. Two shops open an account" in done.stderr
    assert "\u2715" not in done.stderr
    assert "canary." not in done.stderr
    _plays_again_in_its_own_folder_only(tmp_path)


def _plays_again_in_its_own_folder_only(folder: Path) -> None:
    """The folder of the last demo is wiped by the next; a folder that holds anything else never is."""
    demo = folder / "demo"
    assert (demo / MARKER).exists()
    kept = _demo(folder, "--keep", str(demo))
    assert json.loads(kept.stdout)["error"] == "folder_in_use"
    assert kept.returncode == 1
    (demo / MARKER).unlink()
    foreign = _demo(folder)
    assert json.loads(foreign.stdout)["error"] == "folder_in_use"
    assert (demo / "lethe").exists()


@pytest.mark.store
def test_the_search_finds_what_is_planted_and_leaves_nothing(server: EmbeddedPostgres) -> None:
    """The control: planted in a table and in a file the needle is found, before and afterwards it is not."""
    needle = "needleofthedemo4711"
    assert not look(server, server.data_dir, [needle]).hits

    trial = control(server, server.data_dir, needle)

    assert trial.works
    assert (trial.in_file, trial.left) == (1, 0)
    assert trial.in_table >= 1
    assert not look(server, server.data_dir, [needle]).hits
