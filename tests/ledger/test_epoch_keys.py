"""The epoch keys at hand against the vault: missing, another's, put back; and the first, made once (FAULTS 2, 10)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance, running
from ledger.custody.key_files import FileKeyProvider
from ledger.errors import KeyMissing, TamperError
from ledger.keys.vault import KeyName, Vault
from tests.rolls import new_account, roll

pytestmark = pytest.mark.store

Act = Callable[[Instance], Any]


def identity() -> KeyName:
    return KeyName(uuid4().bytes, "identity")


def change_keys(instance: Instance) -> None:
    """Put the keys of another installation, which is in the same epoch, into every folder."""
    folders = instance.settings.folders_for_keys()
    living = instance.services.vault.provider.living()
    for folder in folders:
        for path in folder.glob("epoch-*"):
            path.unlink()
    other = FileKeyProvider(folders)
    for epoch in range(1, living[-1] + 1):
        other.create(epoch)
    instance.services.vault.provider.forget_cached()


def lose_keys(instance: Instance) -> None:
    """Take every key away."""
    for folder in instance.settings.folders_for_keys():
        for path in folder.glob("epoch-*"):
            path.unlink()
    instance.services.vault.provider.forget_cached()


def restart(instance: Instance) -> None:
    with running(instance.settings, clock=instance.services.clock):
        pass


WRITES: dict[str, Act] = {
    "a key": lambda instance: instance.services.vault.ensure(uuid4(), [identity()]),
    "persons' keys": lambda instance: instance.services.vault.ensure_subject_keys(uuid4(), "identity", [bytes(16)]),
    "an escrowed key": lambda instance: instance.services.vault.escrow(
        uuid4(), {KeyName(os.urandom(16), "identity", "2026-10"): os.urandom(32)}
    ),
    "an account": new_account,
    "a roll": roll,
    "a start": restart,
}


@pytest.mark.parametrize("entered", [False, True], ids=["before its book", "with its book"])
@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_without_the_vaults_own_key(own_instance: Instance, write: str, entered: bool) -> None:
    """Given a vault in use, when its keys are gone, then nothing is written, no key is made, and the error says what to
    do; when they are back, all goes on."""
    # given
    vault, name, tenant = own_instance.services.vault, identity(), uuid4()
    vault.ensure(tenant, [name])
    if entered:
        own_instance.services.epochs.adopt(own_instance.services.clock())
    folders = own_instance.settings.folders_for_keys()
    kept = (folders[0] / "epoch-000001.key").read_bytes()
    # when
    lose_keys(own_instance)
    with pytest.raises(KeyMissing, match=r"(?s)poch key.*Mount the disk"):
        WRITES[write](own_instance)
    # then
    assert not any(list(folder.glob("epoch-*.key")) for folder in folders)
    (folders[1] / "epoch-000001.key").write_bytes(kept)
    (folders[1] / "epoch-000001.key").chmod(0o600)
    vault.provider.forget_cached()
    WRITES[write](own_instance)
    assert name in vault.find(tenant, [name]).keys


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_under_the_key_of_another_installation(
    own_instance: Instance, write: str, epochs: int
) -> None:
    """Given a vault in its first or a later epoch, when the folders hold another's keys, then nothing is written."""
    own_instance.services.vault.ensure(uuid4(), [identity()])
    own_instance.services.epochs.adopt(own_instance.services.clock())
    if epochs == 2:
        roll(own_instance)
    change_keys(own_instance)
    with pytest.raises(TamperError, match="not the one that this vault was wrapped under"):
        WRITES[write](own_instance)


def test_a_vault_older_than_its_book_is_not_entered_with_anothers_key(own_instance: Instance) -> None:
    """Given keys and no book yet, when the folders hold another's key, then one wrap tells, and no commitment of the
    wrong key is kept."""
    own_instance.services.vault.ensure(uuid4(), [identity()])
    change_keys(own_instance)
    with pytest.raises(TamperError, match="not the one"):
        own_instance.services.epochs.adopt(own_instance.services.clock())
    assert own_instance.services.epochs.all() == []


def test_a_book_from_before_commitments_gets_them_at_a_start(own_instance: Instance) -> None:
    """Given an epoch without a commitment, when a process starts with the right key, then it is noted; with the wrong
    one it is refused by a wrap that does not open."""
    own_instance.services.vault.ensure(uuid4(), [identity()])
    own_instance.services.epochs.adopt(own_instance.services.clock())
    with own_instance.vault_pool.transaction() as connection:
        connection.execute("UPDATE lethe_vault.epoch SET commitment = NULL")
    folders = own_instance.settings.folders_for_keys()
    kept = [(folder / "epoch-000001.key").read_bytes() for folder in folders]
    change_keys(own_instance)
    with pytest.raises(TamperError, match="not the one"):
        restart(own_instance)
    for folder, key in zip(folders, kept, strict=True):
        (folder / "epoch-000001.key").write_bytes(key)
    restart(own_instance)
    with own_instance.vault_pool.transaction() as connection:
        assert connection.execute("SELECT octet_length(commitment) FROM lethe_vault.epoch").fetchall() == [(32,)]


def test_writers_that_begin_an_empty_vault_at_once_agree(own_instance: Instance) -> None:
    """Given an empty vault and eight processes that look at empty folders, when all write at once, then one key was
    made, and every wrap opens under it."""
    barrier, tenant = Barrier(8), uuid4()

    def write(_: int) -> KeyName:
        provider, name = FileKeyProvider(own_instance.settings.folders_for_keys()), identity()
        vault = Vault(own_instance.vault_pool, provider)
        assert vault.provider.living() == ()
        barrier.wait()
        vault.ensure(tenant, [name])
        return name

    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(write, range(8)))
    assert set(own_instance.services.vault.find(tenant, names).keys) == set(names)


def test_an_empty_vault_on_folders_that_were_used_begins_nothing(own_instance: Instance) -> None:
    """Given a new vault beside folders that know a destroyed epoch and hold no key, then it is an incident."""
    for folder in own_instance.settings.folders_for_keys():
        (folder / "epoch-000004.destroyed").write_bytes(b"lethe.epoch.destroyed.v1\n")
        (folder / "epoch-000004.destroyed").chmod(0o600)
    with pytest.raises(KeyMissing, match="incident"):
        own_instance.services.vault.ensure(uuid4(), [identity()])


def test_a_lost_folder_alone_stops_nothing(own_instance: Instance) -> None:
    """Given one folder that is lost, when a process starts, then the copy is written again: two are kept for that."""
    own_instance.services.vault.ensure(uuid4(), [identity()])
    folder = own_instance.settings.folders_for_keys()[0]
    shutil.rmtree(folder)
    restart(own_instance)
    assert (folder / "epoch-000001.key").exists()
