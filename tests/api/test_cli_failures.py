"""How `lethe` fails: one line that says what to do, a documented exit code, JSON where asked, never a traceback."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.bootstrap import Instance
from api.cli import options
from api.cli.failures import FAILURES, MEANINGS, CommandFailed, ExitCode, failure_of
from api.cli.main import COMMANDS, GROUPS, app
from ledger.application import Ledger
from ledger.errors import KeyMissing, Unavailable
from tests.api.cli_support import CommandLine

SECRET = "ann.secret@example.com"


def _commands() -> Iterator[tuple[str, Any]]:
    yield from COMMANDS.items()
    for group, commands in GROUPS.items():
        for registered in commands.registered_commands:
            yield f"{group} {registered.name}", registered.callback


@pytest.mark.parametrize(("name", "command"), list(_commands()), ids=[name for name, _ in _commands()])
def test_every_command_answers_in_json_and_explains_itself(name: str, command: Any) -> None:
    """Each command takes --json, has help, and each of its options says what it is for."""
    assert "as_json" in inspect.signature(command).parameters
    shown = CliRunner().invoke(app, [*name.split(), "--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.stdout
    assert command.__doc__


@pytest.mark.parametrize("name", ["erase"])
def test_what_destroys_can_be_tried_dry(name: str) -> None:
    """Each command that destroys takes --dry-run."""
    assert "--dry-run" in CliRunner().invoke(app, [name, "--help"]).stdout


def test_every_exit_code_has_a_meaning_and_every_error_a_code() -> None:
    """The table is complete, and a more special error never stands behind its parent."""
    assert set(MEANINGS) == set(ExitCode)
    kinds = [kind for kind, _ in FAILURES]
    for index, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:index]), kind


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (Unavailable("The database does not answer."), ExitCode.UNAVAILABLE, "unavailable"),
        (KeyMissing("A key is gone."), ExitCode.INCIDENT, "key_missing"),
        (CommandFailed(ExitCode.USAGE, "odd", "Do this."), ExitCode.USAGE, "odd"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "interrupted"),
    ],
)
def test_known_errors_have_their_code(error: BaseException, code: ExitCode, name: str) -> None:
    """An error of ours is told in its own words, under its own code."""
    failure, text = failure_of(error)
    assert (failure.code, failure.name) == (code, name)
    assert text


def test_an_unknown_error_shows_where_it_happened_and_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the program ends with 70; neither its text nor a local variable is printed (I4)."""

    def fail() -> None:
        held = SECRET
        raise ValueError(f"bad value {held}")

    monkeypatch.setattr(options, "Settings", fail)

    done = CliRunner().invoke(app, ["account", "list", "--json"])

    assert done.exit_code == ExitCode.FAULT
    assert SECRET not in done.output
    assert "Traceback" not in done.output
    told = json.loads(done.stdout)
    assert (told["error"], told["exit_code"]) == ("fault", 70)
    assert "ValueError at test_cli_failures.py" in told["message"]


def test_a_database_that_is_gone_is_said_with_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a port where nothing listens, a command ends with 4 and says what to do."""
    nowhere = "postgresql://lethe_writer@127.0.0.1:1/lethe"
    for name in ("LEDGER", "READER", "VAULT", "LEDGER_OWNER", "VAULT_OWNER"):
        monkeypatch.setenv(f"LETHE_{name}_URL", nowhere)
    monkeypatch.setenv("LETHE_DATA_DIR", str(tmp_path))

    done = CliRunner().invoke(app, ["migrate", "--json"])

    assert done.exit_code == ExitCode.UNAVAILABLE
    assert json.loads(done.stdout)["error"] == "unavailable"
    assert "lethe doctor" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"), [("LETHE_PORT", "many"), ("LETHE_ENVIRONMENT", "moon"), ("LETHE_LOG_LEVEL", "LOUD")]
)
def test_a_setting_that_cannot_be_used_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad setting ends with 7 and names the variable, without repeating its value."""
    monkeypatch.setenv(variable, value)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == ExitCode.SETTINGS
    message = json.loads(done.stdout)["message"]
    assert variable in message
    assert value not in message


def test_production_without_databases_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In production nothing is embedded: the missing settings are named."""
    monkeypatch.setenv("LETHE_ENVIRONMENT", "production")
    monkeypatch.setenv("LETHE_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["serve", "--json"])
    assert done.exit_code == ExitCode.SETTINGS
    assert "LETHE_LEDGER_URL" in json.loads(done.stdout)["message"]


def test_a_command_that_was_not_understood() -> None:
    """Usage errors keep the usual code 2."""
    assert CliRunner().invoke(app, ["account", "open"]).exit_code == ExitCode.USAGE
    assert CliRunner().invoke(app, ["obliterate"]).exit_code == ExitCode.USAGE


@pytest.mark.store
def test_an_invalid_address_is_refused_without_repeating_it(
    instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what is wrong with the address, and not which address it was."""
    lethe = CommandLine(instance, ledger, tmp_path, monkeypatch)
    said = lethe.json("suppressions", "lookup", "--file", "-", stdin="someone at example.com\n", code=1)
    assert said["error"] == "invalid_address"
    assert "someone" not in said["message"] + lethe.said
