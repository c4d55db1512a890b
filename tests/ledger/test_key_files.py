"""Epoch keys in files: what lies where, who may read it, and what a destroyed epoch leaves behind (FAULTS 1, 2, 10)."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ledger.custody import key_files, private_files
from ledger.custody.key_files import MARKER, FileKeyProvider
from ledger.custody.provider import CopyReturned
from ledger.errors import KeyDestroyed, KeyMissing, SettingsRefused, TamperError, Unavailable
from ledger.sealing import KEY_BYTES
from tests.workers import finish, start


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders that do not exist yet."""
    return tmp_path / "a", tmp_path / "b"


def names(folders: tuple[Path, ...]) -> list[list[str]]:
    """What each folder holds."""
    return [sorted(path.name for path in folder.iterdir()) for folder in folders]


def rolled(folders: tuple[Path, ...], epoch: int = 2) -> FileKeyProvider:
    """A provider whose newest epoch is this one."""
    provider = FileKeyProvider(folders)
    for number in range(max(provider.living(), default=0) + 1, epoch + 1):
        provider.create(number)
    return provider


def test_an_epoch_key_has_a_copy_in_every_folder_and_is_closed_to_others(folders: tuple[Path, Path]) -> None:
    """Given empty folders, when the first epoch is made, then both hold the same bytes, closed to others."""
    provider = FileKeyProvider(folders)
    provider.create(1)
    assert (provider.current(), provider.living()) == (1, (1,))
    files = [folder / "epoch-000001.key" for folder in folders]
    assert {file.read_bytes() for file in files} == {provider.key(1)}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert {file.parent.stat().st_mode & 0o777 for file in files} == {0o700}
    assert names(folders) == [["epoch-000001.key"]] * 2


def test_one_folder_is_too_few_and_one_twice_is_one(tmp_path: Path) -> None:
    """Given one folder, or two names of one, when the provider is made, then it is refused: it could be lost."""
    with pytest.raises(SettingsRefused, match="two folders"):
        FileKeyProvider((tmp_path / "a",))
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(SettingsRefused, match="are one"):
        FileKeyProvider((tmp_path / "a", tmp_path / "b"))


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_copy_is_restored(folders: tuple[Path, Path], lost: int) -> None:
    """Given two copies, when one is lost, then the other serves and the lost one is written again."""
    key = rolled(folders).key(2)
    copy = folders[lost] / "epoch-000002.key"
    copy.unlink()
    assert FileKeyProvider(folders).key(2) == key
    assert copy.read_bytes() == key
    assert copy.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wrong", [bytes(range(32)), bytes(31), b""])
def test_copies_that_disagree_are_refused(folders: tuple[Path, Path], wrong: bytes) -> None:
    """Given two copies that differ, or one cut short, when the key is read, then it is refused, untouched."""
    rolled(folders)
    copy = folders[1] / "epoch-000001.key"
    copy.write_bytes(wrong)
    with pytest.raises(TamperError):
        FileKeyProvider(folders).key(1)
    assert copy.read_bytes() == wrong


def test_a_key_file_open_to_others_is_refused(folders: tuple[Path, Path]) -> None:
    """Given a copy or a folder that others may read, when the program starts on it, then it says what to do."""
    rolled(folders)
    copy = folders[1] / "epoch-000001.key"
    copy.chmod(0o640)
    with pytest.raises(SettingsRefused, match="chmod"):
        FileKeyProvider(folders).key(1)
    copy.chmod(0o600)
    folders[0].chmod(0o750)
    with pytest.raises(SettingsRefused, match="chmod"):
        FileKeyProvider(folders)


def test_files_and_folders_of_somebody_else_are_refused(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given private files of another user, when the program reads them, then it refuses them, and makes none there."""
    provider = rolled(folders)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    provider.forget_cached()
    with pytest.raises(SettingsRefused, match="belong"):
        provider.key(1)
    with pytest.raises(SettingsRefused, match="belong"):
        FileKeyProvider(folders)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_key_with_a_second_name_is_refused(
    folders: tuple[Path, Path], tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    """Given a key file that is linked to somewhere else, when it is read, then it is refused."""
    rolled(folders)
    copy, elsewhere = folders[1] / "epoch-000001.key", tmp_path / "elsewhere"
    copy.replace(elsewhere)
    link(elsewhere, copy)
    with pytest.raises(SettingsRefused, match="second name"):
        FileKeyProvider(folders).key(1)


def test_a_folder_that_is_away_makes_no_new_epoch(folders: tuple[Path, Path]) -> None:
    """Given a folder that is gone, when an epoch is made or destroyed, then neither happens half."""
    provider = rolled(folders)
    away = folders[1].rename(folders[1].with_name("away"))
    for act in (lambda: provider.create(3), lambda: provider.destroy(1)):
        with pytest.raises(Unavailable):
            act()
    away.rename(folders[1])
    assert names(folders) == [["epoch-000001.key", "epoch-000002.key"]] * 2


# Destroyed -----------------------------------------------------------------------------------------------------------


def test_a_destroyed_epoch_leaves_only_a_marker(folders: tuple[Path, Path]) -> None:
    """Given two epochs and half-written files of both, when the first is destroyed, then no file holds its bytes."""
    provider = rolled(folders)
    key = provider.key(1)
    for folder in folders:
        (folder / "epoch-000001.0011223344556677.new").write_bytes(key)
        (folder / "epoch-000002.0011223344556677.new").write_bytes(provider.key(2))
    holding = [path for folder in folders for path in folder.iterdir() if path.read_bytes() == key]
    assert len(holding) == 4
    provider.destroy(1)
    assert names(folders) == [["epoch-000001.destroyed", "epoch-000002.0011223344556677.new", "epoch-000002.key"]] * 2
    assert [path for folder in folders for path in folder.iterdir() if key in path.read_bytes()] == []
    assert {(folder / "epoch-000001.destroyed").read_bytes() for folder in folders} == {MARKER}


def test_the_bytes_are_overwritten_before_the_name_goes(folders: tuple[Path, Path]) -> None:
    """Given somebody who holds a key file open, when its epoch is destroyed, then they read something else."""
    provider = rolled(folders)
    key = provider.key(1)
    with (folders[0] / "epoch-000001.key").open("rb", buffering=0) as held:
        assert held.read() == key
        provider.destroy(1)
        held.seek(0)
        after = held.read()
    assert len(after) == KEY_BYTES
    assert after != key


def test_every_step_is_on_disk_before_the_next(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an epoch made and destroyed, then files are synced before they get their name, names before it returns."""
    provider = rolled(folders, 1)
    done: list[tuple[str, str]] = []
    fsync, replace, unlink = os.fsync, Path.replace, Path.unlink

    def spy_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        done.append(("sync", "folder" if path.is_dir() else re.sub(r"\.[0-9a-f]{16}\.", ".", path.name)))
        fsync(descriptor)

    def spy_replace(path: Path, target: Path) -> Path:
        done.append(("name", target.name))
        return replace(path, target)

    def spy_unlink(path: Path) -> None:
        done.append(("unlink", path.name))
        unlink(path)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(Path, "replace", spy_replace)
    monkeypatch.setattr(Path, "unlink", spy_unlink)
    provider.create(2)
    made = [("sync", "epoch-000002.new"), ("name", "epoch-000002.key"), ("sync", "folder")]
    assert done == made * 2
    done.clear()
    provider.destroy(1)
    marked = [("sync", "epoch-000001.new"), ("name", "epoch-000001.destroyed"), ("sync", "folder")]
    gone = [("sync", "epoch-000001.key"), ("unlink", "epoch-000001.key"), ("sync", "folder")]
    assert done == marked * 2 + gone * 2


def test_a_process_that_looked_a_moment_ago_restores_and_keeps_nothing(folders: tuple[Path, Path]) -> None:
    """Given a process that still lists an epoch, when it was destroyed and a copy came back, then it is refused too."""
    provider, other, holder = rolled(folders), FileKeyProvider(folders), FileKeyProvider(folders)
    key = holder.key(1)
    assert other.living() == (1, 2)
    provider.destroy(1)
    (folders[0] / "epoch-000001.key").write_bytes(key)
    (folders[0] / "epoch-000001.key").chmod(0o600)
    with pytest.raises(KeyMissing):
        other.key(1)
    assert not (folders[1] / "epoch-000001.key").exists()
    assert holder.destroyed() == (1,)
    assert holder._keys == {}


@pytest.mark.parametrize("stale", [(0,), (1,), (0, 1)])
def test_a_stale_folder_brings_no_epoch_back(folders: tuple[Path, Path], stale: tuple[int, ...]) -> None:
    """Given key files of a destroyed epoch back from a backup, then they are refused, reported, and go at a repeat."""
    provider = rolled(folders)
    key = provider.key(1)
    provider.destroy(1)
    back = [folders[index] / "epoch-000001.key" for index in stale]
    for path in back:
        path.write_bytes(key)
        path.chmod(0o600)
    fresh = FileKeyProvider(folders)
    assert (fresh.living(), fresh.destroyed(), fresh.current()) == ((2,), (1,), 2)
    assert fresh.returned() == tuple(CopyReturned(1, str(path)) for path in back)
    with pytest.raises(KeyMissing, match="come back and is refused"):
        fresh.key(1)
    with pytest.raises(KeyDestroyed):
        fresh.create(1)
    assert fresh.destroy(1) == provider.destroy(1)
    assert fresh.returned() == ()
    assert not any(path.exists() for path in back)


def test_a_whole_folder_from_before_the_destruction_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Given a folder as it was before, markers missing, when it comes back, then it gets them and nothing revives."""
    provider = rolled(folders)
    shutil.copytree(folders[0], tmp_path / "backup")
    provider.destroy(1)
    shutil.rmtree(folders[0])
    shutil.copytree(tmp_path / "backup", folders[0])

    fresh = FileKeyProvider(folders)
    assert fresh.living() == (2,)
    assert (folders[0] / "epoch-000001.destroyed").exists()
    assert fresh.returned() == (CopyReturned(1, str(folders[0] / "epoch-000001.key")),)
    shutil.rmtree(folders[1])
    alone = FileKeyProvider(folders)
    assert (alone.living(), alone.destroyed()) == ((2,), (1,))
    with pytest.raises(KeyMissing):
        alone.key(1)


def test_nothing_begins_anew_where_epochs_have_been(folders: tuple[Path, Path]) -> None:
    """Given folders that know destroyed epochs and hold no key, when one is asked for, then it is an incident (I6)."""
    rolled(folders).destroy(1)
    for folder in folders:
        (folder / "epoch-000002.key").unlink()
    fresh = FileKeyProvider(folders)
    with pytest.raises(KeyMissing, match="incident"):
        fresh.current()
    assert names(folders) == [["epoch-000001.destroyed"]] * 2


@pytest.mark.parametrize("step", range(4))
def test_a_destruction_cut_off_anywhere_is_finished_by_the_next(
    folders: tuple[Path, Path], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a destruction that ends at any step, then the key is refused at once, and a repeat takes the rest away."""
    provider = rolled(folders)
    steps = iter(range(100))

    def cut_off(real: Callable[..., None]) -> Callable[..., None]:
        def act(*arguments: object) -> None:
            if next(steps) == step:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(*arguments)

        return act

    for name in ("place", "shred"):
        monkeypatch.setattr(key_files, name, cut_off(getattr(key_files, name)))
    with pytest.raises(Unavailable):
        provider.destroy(1)
    monkeypatch.undo()

    fresh = FileKeyProvider(folders)
    if step > 0:
        with pytest.raises(KeyMissing):
            fresh.key(1)
        provider.forget_cached()
        with pytest.raises(KeyMissing):
            provider.key(1)
    fresh.destroy(1)
    assert names(folders) == [["epoch-000001.destroyed", "epoch-000002.key"]] * 2


def test_a_creation_cut_off_between_the_folders_is_finished_by_the_next(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a creation that reached one folder only, when the key is asked for, then both have it before it is used."""
    provider = rolled(folders, 1)
    real = private_files.place

    def first_only(path: Path, content: bytes) -> None:
        if path.parent == folders[1]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(path, content)

    monkeypatch.setattr(key_files, "place", first_only)
    with pytest.raises(Unavailable):
        provider.create(2)
    with pytest.raises(Unavailable):
        provider.key(2)
    monkeypatch.undo()
    key = FileKeyProvider(folders).key(2)
    assert {(folder / "epoch-000002.key").read_bytes() for folder in folders} == {key}


# Together ------------------------------------------------------------------------------------------------------------


def test_threads_that_start_at_once_agree_on_the_first_epoch(folders: tuple[Path, Path]) -> None:
    """Given eight threads on empty folders, when all ask at once, then one key is made."""
    barrier = Barrier(8)

    def first(_: int) -> bytes:
        provider = FileKeyProvider(folders)
        barrier.wait()
        provider.create(1)
        return provider.key(1)

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(first, range(8)))) == 1


def note_both_epochs(folders: tuple[Path, ...], answer: Path) -> None:
    """A process of its own that makes two epochs, and notes their keys."""
    provider = FileKeyProvider(folders)
    for epoch in (1, 2):
        provider.create(epoch)
    answer.write_bytes(provider.key(1) + provider.key(2))


def test_processes_that_make_epochs_at_once_get_one_key_each(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Given four processes that make the same epochs, then one key is made for each, and nothing else is left."""
    finish([start(note_both_epochs, folders, tmp_path / f"keys-{n}") for n in range(4)])
    assert len({(tmp_path / f"keys-{n}").read_bytes() for n in range(4)}) == 1
    assert names(folders) == [["epoch-000001.key", "epoch-000002.key"]] * 2


def test_a_reader_beside_a_destruction_restores_nothing(folders: tuple[Path, Path]) -> None:
    """Given threads that read an epoch, one copy missing, while it is destroyed, then no copy is written again."""
    provider = rolled(folders, 12)
    for epoch in range(1, 12):
        (folders[0] / f"epoch-{epoch:06d}.key").unlink()
        barrier = Barrier(5)

        def read(_: int, epoch: int = epoch, barrier: Barrier = barrier) -> None:
            reader = FileKeyProvider(folders)
            barrier.wait()
            try:
                reader.key(epoch)
            except KeyMissing:
                return

        with ThreadPoolExecutor(4) as threads:
            readers = threads.map(read, range(4))
            barrier.wait()
            provider.destroy(epoch)
            list(readers)
        assert not any((folder / f"epoch-{epoch:06d}.key").exists() for folder in folders)


def test_a_cut_off_creation_does_not_stop_the_next(folders: tuple[Path, Path]) -> None:
    """Given a file left half-way by a killed process of the same number, when the next starts, then it goes on."""
    for folder in folders:
        folder.mkdir(mode=0o700)
        (folder / f"epoch-000001.{os.getpid()}.new").write_bytes(b"half")
    provider = FileKeyProvider(folders)
    provider.create(1)
    assert len(provider.key(1)) == KEY_BYTES
