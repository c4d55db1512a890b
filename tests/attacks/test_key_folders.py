"""Attacks on the key folders: what becomes of a vault whose folders are empty or replaced when a process starts."""

from __future__ import annotations

import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from api.bootstrap import running
from ledger.embedded import EmbeddedPostgres
from ledger.errors import LedgerError
from ledger.keys.vault import KeyName
from retention.horizon.horizon import Horizon
from tests.drills import databases
from tests.support import SettableClock


def empty(folder: Path) -> None:
    """Take away everything in a folder of keys, as an unmounted disk or a new machine would."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_empty_key_folders_do_not_begin_a_new_first_epoch_for_a_vault_in_use(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a vault in use in its first epoch, when both key folders are empty at a start, then no key is made anew."""
    tenant, first, second = uuid4(), KeyName(uuid4().bytes, "identity"), KeyName(uuid4().bytes, "identity")
    with databases(server, tmp_path / "keys") as settings:
        with running(settings, clock=clock) as instance:
            instance.services.vault.ensure(tenant, [first])
        for folder in settings.folders_for_keys():
            empty(folder)
        with pytest.raises(LedgerError), running(settings, clock=clock) as instance:
            instance.services.vault.ensure(tenant, [second])


def test_empty_key_folders_get_no_key_for_an_epoch_that_was_destroyed(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a vault in a later epoch, when both key folders are empty at a start, then no file of epoch 1 appears."""

    with databases(server, tmp_path / "keys") as settings:
        with running(settings, clock=clock) as instance:
            instance.services.vault.ensure(uuid4(), [KeyName(uuid4().bytes, "identity")])
            for _ in Horizon(instance.services).roll():
                pass
        for folder in settings.folders_for_keys():
            empty(folder)
        with suppress(LedgerError), running(settings, clock=clock) as instance:
            instance.services.vault.provider.current()
        made = [path.name for folder in settings.folders_for_keys() for path in folder.glob("epoch-*.key")]
        assert made == []


def test_an_empty_journal_beside_a_vault_with_tombstones_is_noticed(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given noted destructions, when the journal is gone from every folder, then a start is refused."""

    with databases(server, tmp_path / "keys") as settings:
        with running(settings, clock=clock) as instance:
            vault = instance.services.vault
            kid = uuid4().bytes
            tenant = uuid4()
            vault.ensure(tenant, [KeyName(kid, "identity")])
            vault.destroy_holder(tenant, kid, when=datetime.now(UTC), cause="x", certificate=None)
        for folder in settings.folders_for_custody():
            (folder / "tombstones.jsonl").unlink()
        with pytest.raises(LedgerError), running(settings, clock=clock):
            pass
