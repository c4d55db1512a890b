"""`lethe verify`: an evidence bundle is checked with no database, no settings and no ledger at hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.main import app
from tests.bundles import HOUSE, STRANGER, WITNESS, receipt

ROOT = Path(__file__).resolve().parents[2]
KEY = str(HOUSE.verifier)


def _lethe(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, in another folder, with nothing of Lethe in its environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LETHE_")}
    command = [sys.executable, "-m", "api.cli.main", "verify", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def _said(*arguments: object, code: int) -> Any:
    """What the command says with `--json`, run in this process."""
    done = CliRunner().invoke(app, ["verify", *map(str, arguments), "--json"])
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A receipt, cosigned by a witness."""
    path = tmp_path / "receipt.zip"
    path.write_bytes(receipt().draft(witnesses=(WITNESS,)).zipped())
    return path


def test_a_bundle_is_verified_with_nothing_else_at_hand(bundle: Path, tmp_path: Path) -> None:
    """Given a bundle and the log's key, then it is verified, and neither a server is started nor a file written."""
    empty = tmp_path / "empty"
    empty.mkdir()
    done = _lethe(empty, str(bundle), "--key", KEY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("VERIFIED: a bundle of the kind 'send'")
    assert "Not proven:" in done.stdout
    assert list(empty.iterdir()) == []


def test_without_a_key_it_warns_first(bundle: Path) -> None:
    """Given no key, then the answer begins with what that means, and JSON says whose keys were taken."""
    sentences = CliRunner().invoke(app, ["verify", str(bundle)]).stdout
    assert sentences.startswith("ATTENTION: The keys were taken from the bundle itself")
    said, _ = _said(bundle, code=0)
    assert (said["verified"], said["keys"], said["witness_keys"]) == (False, "bundle", "bundle")
    assert "keys were taken from the bundle itself" in said["not_proven"][0]


def test_a_changed_bundle_ends_with_6_and_its_place(bundle: Path) -> None:
    """Given a bundle whose event was changed by its own house, then file and event are named, also in JSON."""
    made = receipt().draft(proofs=False)
    made.files["entries.tsv"] = made.files["entries.tsv"].replace(b'"actor":"api"', b'"actor":"apj"', 1)
    bundle.write_bytes(made.zipped())
    said, told = _said(bundle, code=6)
    assert (said["error"], said["file"], said["position"]) == ("bundle_refused", "entries.tsv", 2)
    assert told.startswith("REFUSED: entries.tsv: Event 2: ")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--key", str(STRANGER.verifier)], 6, "bundle_refused"),
        (["--key", "x"], 2, "invalid_key"),
        (["--witness", KEY[:-2]], 2, "invalid_key"),
        (["--witness", str(WITNESS.verifier), "--witnesses-needed", "2"], 6, "bundle_refused"),
        (["--timestamp-roots", "none.pem"], 5, "unreadable_file"),
        (["--key", str(WITNESS.verifier)], 2, "invalid_key"),
        (["--witness", KEY], 2, "invalid_key"),
        (["--timestamp-roots", __file__], 2, "invalid_roots"),
    ],
)
def test_what_is_not_as_asked_has_its_exit_code(bundle: Path, arguments: list[str], code: int, error: str) -> None:
    """Given what the bundle does not answer to, or what is no key, no witness or no root at all, each has its code."""
    said, _ = _said(bundle, *arguments, code=code)
    assert (said["error"], said["exit_code"]) == (error, code)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    """Given a name of no file, then it ends with 5."""
    said, _ = _said(tmp_path / "none.zip", code=5)
    assert said["error"] == "unreadable_file"
