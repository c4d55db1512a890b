"""`lethe doctor` on what lies outside the databases: epoch keys, the journal of tombstones, the horizon."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws

from api.bootstrap import Instance
from ledger.application import Ledger
from ledger.custody.journal import JOURNAL, Custody
from ledger.custody.kept_checkpoints import CHECKPOINTS
from ledger.custody.key_files import FileKeyProvider
from ledger.custody.kms import KmsKeyProvider
from ledger.keys.names import KeyName, Tombstone
from tests.api.cli_support import CommandLine
from tests.audit.publishing import grow
from tests.rolls import new_account

REGIONS = ["eu-central-1", "eu-west-1"]


@pytest.fixture
def lethe(own_instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line on an installation in which nothing was written yet."""
    return CommandLine(own_instance, ledger, tmp_path, monkeypatch)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Key folders of this test's own, which the command line is told of."""
    named = tmp_path / "a", tmp_path / "b"
    monkeypatch.setenv("LETHE_KEY_FOLDERS", json.dumps([str(folder) for folder in named]))
    return named


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS as moto plays it, with the epoch keys there and nothing promised that it cannot keep."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("LETHE_KEY_PROVIDER", "aws-kms")
    monkeypatch.setenv("LETHE_KMS_REGIONS", json.dumps(REGIONS))
    monkeypatch.setenv("LETHE_EPOCH_KEPT_DAYS", "7")
    with mock_aws():
        yield


def finding(lethe: CommandLine, check: str, code: int = 0) -> Any:
    """What the doctor says of one check."""
    return next(f for f in lethe.json("doctor", code=code)["findings"] if f["check"] == check)


def test_a_copy_of_a_destroyed_epoch_that_came_back_is_found(lethe: CommandLine, folders: tuple[Path, Path]) -> None:
    """Given a key file back from a backup after its epoch was destroyed, then it is named; gone again, all is well."""
    provider = FileKeyProvider(folders)
    provider.create(1)
    shutil.copy2(folders[0] / "epoch-000001.key", folders[0].parent / "kept")
    provider.create(2)
    provider.destroy(1)
    assert finding(lethe, "epoch keys")["state"] == "ok"

    shutil.copy2(folders[0].parent / "kept", folders[0] / "epoch-000001.key")
    found = finding(lethe, "epoch keys", code=1)
    assert (found["state"], found["hard"]) == ("fail", True)
    assert f"{folders[0] / 'epoch-000001.key'} is a copy of a destroyed epoch" in found["seen"]

    provider.destroy(1)
    assert finding(lethe, "epoch keys")["seen"] == "1 living, each in 2 private copies"


def test_a_journal_that_was_changed_is_found(lethe: CommandLine, folders: tuple[Path, Path]) -> None:
    """Given tombstones, when a line of one folder is changed, then it fails; before there was any, it does not."""
    assert "nothing was destroyed" in finding(lethe, "custody")["seen"]
    custody = Custody(folders)
    when = datetime(2026, 11, 21, tzinfo=UTC)
    custody.note([Tombstone(uuid4(), bytes([n] * 16), "*", "*", 0, when, "erasure", None) for n in range(3)])
    assert finding(lethe, "custody")["seen"] == "3 tombstones, the same in 2 folders"

    journal = folders[1] / JOURNAL
    journal.write_bytes(journal.read_bytes().replace(b"01" * 16, b"09" * 16))
    found = finding(lethe, "custody", code=1)
    assert (found["state"], found["hard"]) == ("fail", True)
    assert str(journal) in found["seen"]

    journal.unlink()
    assert finding(lethe, "custody")["state"] == "warn"


def test_keys_that_are_not_those_of_the_vault_are_found(lethe: CommandLine, folders: tuple[Path, Path]) -> None:
    """Given a vault in use, when the key folders are empty, or hold the key of another installation, then it fails and
    says what to do, and no key is made."""
    lethe.instance.services.vault.ensure(uuid4(), [KeyName(uuid4().bytes, "identity")])
    found = finding(lethe, "epoch keys", code=1)
    assert (found["state"], found["hard"]) == ("fail", True)
    assert "No key is made in its place" in found["seen"]
    assert not any(path.name.endswith(".key") for folder in folders for path in folder.iterdir())

    FileKeyProvider(folders).create(1)
    assert "not the one that this vault was wrapped under" in finding(lethe, "epoch keys", code=1)["seen"]


def test_a_journal_that_is_shorter_than_the_vaults_list_is_found(lethe: CommandLine) -> None:
    """Given destructions, when the journal is gone, or ends early, in every folder, then the doctor does not say that
    nothing was destroyed; written again out of the vault, it is whole."""
    # given
    vault, tenant = lethe.instance.services.vault, uuid4()
    for _ in range(3):
        vault.destroy_holder(tenant, uuid4().bytes, when=datetime.now(UTC), cause="x", certificate=None)
    assert "3 tombstones" in finding(lethe, "custody")["seen"]
    journals = [folder / JOURNAL for folder in lethe.instance.settings.folders_for_custody()]
    lines = journals[0].read_bytes().splitlines(keepends=True)
    # when
    for left in (b"", b"".join(lines[:2])):
        for journal in journals:
            journal.write_bytes(left)
        found = finding(lethe, "custody", code=1)
        # then
        assert (found["state"], found["hard"]) == ("fail", True)
        assert "3 tombstones" in found["seen"]
        assert "lethe vault write-journal" in found["seen"]
        assert lethe.json("vault", "status", code=6)["error"] == "journal_lost"
    assert lethe.json("vault", "write-journal", "--dry-run") == {"dry_run": True, "lines": 2}
    assert lethe.json("vault", "write-journal") == {"dry_run": False, "lines": 5, "noted": 3}
    assert "5 tombstones" in finding(lethe, "custody")["seen"]
    assert lethe.json("vault", "status")["epochs"]


@pytest.mark.parametrize("destroyed", [False, True])
def test_folders_that_were_put_back_are_found_by_what_was_published_since(lethe: CommandLine, destroyed: bool) -> None:
    """Given folders that are older than the last checkpoint, when the journal in them is as long as the vault's list,
    or there never was one, then the doctor fails and nothing starts; written again, all is well."""
    instance, ledger = lethe.instance, new_account(lethe.instance)
    if destroyed:
        instance.services.vault.destroy_holder(
            uuid4(), uuid4().bytes, when=datetime.now(UTC), cause="x", certificate=None
        )
    instance.sequencer.publish_tenant(ledger)
    held = {path: path.read_bytes() for path in (f / CHECKPOINTS for f in instance.settings.folders_for_custody())}
    grow(ledger)
    instance.sequencer.publish_tenant(ledger)
    assert finding(lethe, "custody")["state"] == "ok"
    for path, content in held.items():
        path.write_bytes(content)
    found = finding(lethe, "custody", code=1)
    assert (found["state"], found["hard"]) == ("fail", True)
    assert "put back" in found["seen"]
    assert lethe.json("vault", "status", code=6)["error"] == "journal_lost"
    lethe("vault", "write-journal")
    assert finding(lethe, "custody")["state"] == "ok"
    assert lethe.json("vault", "status")["epochs"] is not None


def test_the_journal_is_not_written_out_of_a_vault_that_was_restored(lethe: CommandLine) -> None:
    """Given a vault behind its gate, which may lack tombstones itself, then its list is not taken for the journal."""
    with lethe.instance.vault_pool.transaction() as connection:
        connection.execute("INSERT INTO lethe_vault.restore_gate VALUES (now(), 'b', now())")
    assert lethe.json("vault", "write-journal", code=6)["error"] == "gate_shut"


def test_a_restored_vault_without_its_journal_is_opened_only_by_name(lethe: CommandLine) -> None:
    """Given a restored vault with a tombstone, and a journal that is gone, then `reopen` says what is missing, refuses,
    and needs both options; then everything serves."""
    lethe.instance.services.vault.destroy_holder(
        new_account(lethe.instance).tenant, uuid4().bytes, when=datetime.now(UTC), cause="x", certificate=None
    )
    with lethe.instance.vault_pool.transaction() as connection:
        connection.execute("INSERT INTO lethe_vault.restore_gate VALUES (now(), 'b', now())")
    assert lethe.json("reopen", "--dry-run")["journal_lost"] is False
    for folder in lethe.instance.settings.folders_for_custody():
        (folder / JOURNAL).write_bytes(b"")
    assert lethe.json("reopen", "--dry-run")["journal_lost"] is True
    assert "Opening needs --accept-loss REASON and --journal-lost" in lethe("reopen", "--dry-run")
    assert lethe.json("reopen", code=6)["error"] == "journal_lost"
    assert lethe.json("reopen", "--accept-loss", "Burnt.", code=6)["error"] == "journal_lost"
    assert lethe.json("reopen", "--journal-lost", code=1)["error"] == "refused"
    assert lethe.json("vault", "status", code=6)["error"] in ("gate_shut", "journal_lost")
    assert lethe.json("reopen", "--journal-lost", "--accept-loss", "Burnt.")["journal_lost"] is True
    assert lethe.json("vault", "status")["epochs"]


def test_a_horizon_that_is_too_long_is_found(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given keys kept so long that a promise breaks, then the finding has the figures; within it, the days."""
    assert finding(lethe, "backup horizon")["seen"] == "28 days after a key is destroyed, at most"
    monkeypatch.setenv("LETHE_EPOCH_KEPT_DAYS", "24")
    found = finding(lethe, "backup horizon", code=1)
    assert (found["state"], found["hard"]) == ("fail", True)
    assert "31 days" in found["seen"]


@pytest.mark.usefixtures("aws")
def test_keys_in_kms_are_looked_at(lethe: CommandLine) -> None:
    """Given epoch keys in KMS, when somebody cancels a deletion there, then it is named; before, all is well."""
    provider = KmsKeyProvider(REGIONS, "lethe", 7)
    provider.create(1)
    provider.create(2)
    provider.destroy(1)
    assert finding(lethe, "epoch keys")["seen"] == "KMS answers in 2 regions"
    assert finding(lethe, "backup horizon")["seen"].startswith("30 days")

    client: Any = boto3.client("kms", region_name=REGIONS[1])
    client.cancel_key_deletion(KeyId=client.describe_key(KeyId="alias/lethe-destroyed-000001")["KeyMetadata"]["KeyId"])
    found = finding(lethe, "epoch keys", code=1)
    assert (found["state"], found["hard"]) == ("fail", True)
    assert "eu-west-1" in found["seen"]


@pytest.mark.usefixtures("aws")
def test_regions_that_cannot_hold_copies_are_found(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given one region only, then the finding names the setting."""
    monkeypatch.setenv("LETHE_KMS_REGIONS", '["eu-west-1"]')
    assert "LETHE_KMS_REGIONS" in finding(lethe, "epoch keys", code=1)["seen"]


@pytest.mark.usefixtures("aws")
def test_production_with_kms_needs_folders_for_the_journal(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given production with keys in KMS, when no folder is chosen for the journal, then the setting is named."""
    monkeypatch.setenv("LETHE_ENVIRONMENT", "production")
    findings = lethe.json("doctor", code=1)["findings"]
    assert any("LETHE_CUSTODY_FOLDERS" in f["seen"] for f in findings if f["check"] == "settings")
