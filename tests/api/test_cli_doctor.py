"""`lethe doctor`: it finds what is planted, and is well when it is taken away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.bootstrap import Instance, running
from ledger.embedded import EmbeddedPostgres
from tests.api.cli_support import CommandLine
from tests.rolls import new_account, own_settings

pytestmark = pytest.mark.store

EXPECTED_IN_TESTS = {"durability: writer", "durability: vault"}
"""The tests' server runs without fsync, which a laptop is warned of."""


@pytest.fixture(scope="module")
def fresh(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance whose databases no other test writes to: what is found in them was planted here."""
    with running(own_settings(server, tmp_path_factory.mktemp("fresh"))) as started:
        yield started


@pytest.fixture
def lethe(fresh: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(fresh, new_account(fresh), tmp_path, monkeypatch)


def _findings(lethe: CommandLine, *, code: int = 0) -> dict[str, Any]:
    told = lethe.json("doctor", code=code)
    return {finding["check"]: finding for finding in told["findings"]}


def test_an_installation_that_is_well(lethe: CommandLine) -> None:
    """Nothing fails on a fresh server; every check has been made."""
    found = _findings(lethe)
    assert {name for name, finding in found.items() if finding["state"] == "fail"} == set()
    warned = {name for name, finding in found.items() if finding["state"] == "warn"}
    assert warned - EXPECTED_IN_TESTS <= {"log: published"}, "No worker runs here."
    assert {"settings", "AES hardware", "tenants apart", "epoch keys", "erasures", "clock"} <= set(found)


@pytest.mark.parametrize(
    ("database", "plant", "remove", "check"),
    [
        (
            "ledger",
            "GRANT UPDATE ON lethe.event TO lethe_writer",
            "REVOKE UPDATE ON lethe.event FROM lethe_writer",
            "append-only: writer",
        ),
        (
            "ledger",
            "GRANT UPDATE (topic) ON lethe.event TO lethe_rebuilder",
            "REVOKE UPDATE (topic) ON lethe.event FROM lethe_rebuilder",
            "append-only: rebuilder",
        ),
        (
            "vault",
            "GRANT DELETE ON lethe_vault.tombstone TO lethe_vault",
            "REVOKE DELETE ON lethe_vault.tombstone FROM lethe_vault",
            "append-only: vault",
        ),
        (
            "ledger",
            "GRANT SELECT ON lethe.event TO lethe_reader",
            "REVOKE SELECT ON lethe.event FROM lethe_reader",
            "tenants apart",
        ),
        (
            "ledger",
            "ALTER ROLE lethe_reader SET log_statement = 'all'",
            "ALTER ROLE lethe_reader RESET log_statement",
            "silent log: reader",
        ),
        (
            "ledger",
            "ALTER DATABASE {} SET log_error_verbosity = 'verbose'",
            "ALTER DATABASE {} RESET log_error_verbosity",
            "silent log: writer",
        ),
        (
            "ledger",
            "UPDATE lethe.migration SET name = name || '.gone'",
            "UPDATE lethe.migration SET name = replace(name, '.gone', '')",
            "migrations: ledger",
        ),
    ],
)
def test_what_is_planted_in_a_database_is_found(
    lethe: CommandLine, database: str, plant: str, remove: str, check: str
) -> None:
    """Each planted fault makes its check fail with what to do, and is not found any more when it is gone."""
    settings = lethe.instance.settings
    with _planted(getattr(settings, f"{database}_owner_url"), plant, remove):
        bad = _findings(lethe, code=1)[check]
        assert (bad["state"], bad["hard"]) == ("fail", True)
        assert bad["advice"]

    assert _findings(lethe)[check]["state"] == "ok"


@pytest.mark.parametrize("fault", ["open", "differs", "missing"])
def test_keys_that_are_not_safe_are_found(
    lethe: CommandLine, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A key file that others may read, copies that differ and a missing copy each fail; equal private copies do not."""
    folders = [tmp_path / "a", tmp_path / "b"]
    key = lethe.instance.services.vault.provider.key(1)
    for folder in folders:
        folder.mkdir(mode=0o700)
        (folder / "epoch-000001.key").write_bytes(key)
        (folder / "epoch-000001.key").chmod(0o600)
    monkeypatch.setenv("LETHE_KEY_FOLDERS", f'["{folders[0]}", "{folders[1]}"]')
    monkeypatch.setenv("LETHE_CUSTODY_FOLDERS", json.dumps(lethe.instance.custody.folders()))
    assert _findings(lethe)["epoch keys"]["state"] == "ok"

    copy = folders[1] / "epoch-000001.key"
    spoil: dict[str, Callable[[], object]] = {
        "open": lambda: copy.chmod(0o644),
        "differs": lambda: copy.write_bytes(key[:-1] + bytes([key[-1] ^ 1])),
        "missing": copy.unlink,
    }
    spoil[fault]()

    assert _findings(lethe, code=1)["epoch keys"]["state"] == "fail"


def test_a_database_that_does_not_answer_is_one_finding(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One role that cannot sign in is named; the checks of the others are made all the same."""
    monkeypatch.setenv("LETHE_VAULT_URL", "postgresql://lethe_vault@127.0.0.1:1/lethe_vault")
    found = _findings(lethe, code=1)
    assert found["database: vault"]["state"] == "fail"
    assert found["tenants apart"]["state"] == "ok"


def test_production_is_not_served_while_a_promise_does_not_hold(
    lethe: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger and vault on one server, and no key folders chosen: serve and worker refuse to start."""
    monkeypatch.setenv("LETHE_ENVIRONMENT", "production")
    for command in ("serve", "worker"):
        refused = lethe.json(command, code=7)
        assert refused["error"] == "unsafe"
        assert "LETHE_KEY_FOLDERS" in refused["message"]
        assert "share WAL" in refused["message"]


@contextmanager
def _planted(url: str, plant: str, remove: str) -> Iterator[None]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(plant.format(connection.info.dbname).encode())
        try:
            yield
        finally:
            connection.execute(remove.format(connection.info.dbname).encode())
