"""Custody: what was destroyed is remembered outside both databases, and a memory that was changed is refused."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from ledger.custody import journal_files
from ledger.custody.journal import HEADS, JOURNAL, Custody, KeptHead, TombstoneNote
from ledger.custody.journal_lines import FIRST_CHAIN, LINE_BYTES_MAX, lines_of
from ledger.custody.kept_checkpoints import CHECKPOINTS, KeptCheckpoint
from ledger.errors import SettingsRefused, TamperError, Unavailable
from ledger.keys.names import EVERY_GENERATION, TENANT_HOLDER, TOMBSTONE_ALL, Tombstone
from tests.workers import finish, start

NOW = datetime(2026, 11, 21, 10, 30, tzinfo=UTC)
TENANT = UUID("018f0000-0000-7000-8000-000000000001")
OTHER = UUID("018f0000-0000-7000-8000-000000000002")

FIRST_LINE = (
    b'{"cause":"erasure","certificate":"c1",'
    b'"chain":"9bb6d721966c96e793aeaa464c8706dfb530bab123e4b9e6528930a13d7d1a69",'
    b'"class":"*","generation":0,"holder":"000102030405060708090a0b0c0d0e0f","number":1,"period":"*",'
    b'"tenant":"018f0000000070008000000000000001","v":1,"when":"2026-11-21T10:30:00+00:00"}\n'
)
"""A stored format, its chain computed apart from the code: it changes with a new version number only."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders that do not exist yet."""
    return tmp_path / "a", tmp_path / "b"


@pytest.fixture
def custody(folders: tuple[Path, Path]) -> Custody:
    """A custody with nothing in it."""
    return Custody(folders)


def erased(number: int, certificate: str | None = "c1") -> Tombstone:
    """The tombstone of a person's every key."""
    kid = bytes([number // 256, number % 256, *range(2, 16)])
    return Tombstone(TENANT, kid, TOMBSTONE_ALL, TOMBSTONE_ALL, EVERY_GENERATION, NOW, "erasure", certificate)


def contents(folders: tuple[Path, ...]) -> set[bytes]:
    """The journals' bytes: one if they are equal."""
    return {(folder / JOURNAL).read_bytes() for folder in folders}


def test_what_is_noted_is_told_again_in_order(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given notes of a person, a month and an escrowed key, when another process reads, then it has all, numbered."""
    month = Tombstone(TENANT, TENANT_HOLDER, "engagement", "2026-11", 1, NOW, "time", None)
    escrow = Tombstone(OTHER, bytes(16), "engagement", "2024-11", 3, NOW + timedelta(microseconds=1), "released", "c2")
    custody.note([erased(1), month])
    custody.note([])
    custody.note([escrow])

    fresh = Custody(folders)
    assert [note.tombstone for note in fresh.notes()] == [erased(1), month, escrow]
    assert [note.number for note in fresh.notes()] == [1, 2, 3]
    assert list(fresh.notes(2)) == [
        TombstoneNote(3, OTHER, "00" * 16, "engagement", "2024-11", 3, escrow.when, "released", "c2")
    ]
    assert (fresh.count(), fresh.check()) == (3, 3)


def test_every_folder_holds_the_same_bytes_closed_to_others(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given notes and heads, then both folders hold equal files of mode 0600 in folders of mode 0700."""
    custody.note([erased(1), erased(2)])
    custody.keep_heads({TENANT: KeptHead(7, bytes(32), NOW)})
    for name in (JOURNAL, HEADS):
        files = [folder / name for folder in folders]
        assert len({file.read_bytes() for file in files}) == 1
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        assert {file.parent.stat().st_mode & 0o777 for file in files} == {0o700}
    assert custody.folders() == tuple(str(folder) for folder in folders)


def test_the_stored_line_is_the_golden_one(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given the first tombstone, then its line is byte for byte what version 1 writes."""
    custody.note([Tombstone(TENANT, bytes(range(16)), "*", "*", 0, NOW, "erasure", "c1")])
    assert contents(folders) == {FIRST_LINE}


def test_one_folder_is_too_few_and_one_twice_is_one(tmp_path: Path) -> None:
    """Given one folder, or two names of one, when custody is made, then it is refused."""
    with pytest.raises(SettingsRefused, match="at least two"):
        Custody([tmp_path / "a"])
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(SettingsRefused, match="are one"):
        Custody([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("name", [JOURNAL, HEADS])
def test_files_open_to_others_are_refused(custody: Custody, folders: tuple[Path, Path], name: str) -> None:
    """Given a file of custody that others may read, when it is read, then it says what to do."""
    custody.note([erased(1)])
    custody.keep_heads({TENANT: KeptHead(7, bytes(32), NOW)})
    (folders[1] / name).chmod(0o640)
    with pytest.raises(SettingsRefused, match="chmod"):
        custody.check()


# A crash -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("torn", [b'{"cause":"era', b"{", b"\0" * 9000, b"\xff"])
@pytest.mark.parametrize("where", [(0,), (1,), (0, 1)])
def test_a_line_cut_off_by_a_crash_is_taken_away(
    custody: Custody, folders: tuple[Path, Path], torn: bytes, where: tuple[int, ...]
) -> None:
    """Given a torn last line in one or both folders, when it goes on, then only what was acknowledged stands there."""
    custody.note([erased(1), erased(2)])
    for index in where:
        with (folders[index] / JOURNAL).open("ab") as file:
            file.write(torn)
    Custody(folders).note([erased(3)])
    assert [note.tombstone for note in custody.notes()] == [erased(1), erased(2), erased(3)]
    assert (len(contents(folders)), custody.check()) == (1, 3)


@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_folder_that_is_behind_is_brought_up(
    custody: Custody, folders: tuple[Path, Path], behind: int, lines: int
) -> None:
    """Given a folder from a backup, or one the crash reached first, when it goes on, then it has what the other has."""
    custody.note([erased(1), erased(2), erased(3)])
    journal = folders[behind] / JOURNAL
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    assert Custody(folders).count() == 3
    assert (len(contents(folders)), custody.check()) == (1, 3)


def test_a_folder_that_is_empty_or_new_is_filled(custody: Custody, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Given a journal, when one folder is lost and a third one named, then all three hold it and the heads."""
    custody.note([erased(1)])
    custody.keep_heads({TENANT: KeptHead(7, bytes(32), NOW)})
    for name in (JOURNAL, HEADS):
        (folders[0] / name).unlink()
    wider = (*folders, tmp_path / "c")
    moved = Custody(wider)
    assert (moved.check(), moved.kept_heads()) == (1, {TENANT: KeptHead(7, bytes(32), NOW)})
    assert len(contents(wider)) == 1


def test_a_batch_longer_than_one_read_is_told_whole(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given more lines than are written or read at once, when one folder lost most, then both have all."""
    batch = [erased(number) for number in range(12_000)]
    custody.note(batch)
    (folders[1] / JOURNAL).write_bytes(b"")
    assert [note.tombstone for note in Custody(folders).notes()] == batch
    assert len(contents(folders)) == 1


@pytest.mark.parametrize("failing", [0, 1])
def test_a_full_disk_notes_nothing(
    custody: Custody, folders: tuple[Path, Path], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a folder that takes no more, when a destruction is noted, then it is refused and no folder has it."""
    custody.note([erased(1)])
    append = journal_files.append

    def full(path: Path, content: bytes) -> None:
        append(path, content[:20] if path.parent == folders[failing] else content)
        if path.parent == folders[failing]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("ledger.custody.journal.append", full)
    with pytest.raises(Unavailable, match="No space left"):
        custody.note([erased(2)])
    monkeypatch.undo()
    assert [note.tombstone for note in Custody(folders).notes()] == [erased(1)]


def test_a_folder_that_is_away_stops_the_destruction(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given a disk that is gone, when a destruction is noted, then it is refused: every folder must know of it."""
    custody.note([erased(1)])
    (folders[1] / JOURNAL).unlink()
    folders[1].rmdir()
    with pytest.raises(Unavailable):
        custody.note([erased(2)])


def test_a_note_is_on_disk_in_every_folder_before_it_is_acknowledged(
    custody: Custody, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a note, when it returns, then each folder's journal was synced after it was written."""
    synced: dict[Path, int] = {}
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        synced[path] = os.fstat(descriptor).st_size if path.is_file() else -1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    custody.note([erased(1)])
    for folder in folders:
        assert synced[folder / JOURNAL] == (folder / JOURNAL).stat().st_size > 0
        assert folder in synced


# Tampering -----------------------------------------------------------------------------------------------------------


def _change(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b'"erasure"', b'"mistake"')


def _drop(lines: list[bytes]) -> None:
    del lines[1]


def _swap(lines: list[bytes]) -> None:
    lines[0], lines[1] = lines[1], lines[0]


def _repeat(lines: list[bytes]) -> None:
    lines.insert(1, lines[0])


def _put_in(lines: list[bytes]) -> None:
    lines.insert(1, lines[1].replace(b'"c1"', b'"c9"'))


def _forget_version(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b'"v":1', b'"v":2')


def _garble(lines: list[bytes]) -> None:
    lines[1] = b"\xff" + lines[1][1:]


def _lengthen(lines: list[bytes]) -> None:
    lines[1] = lines[1].rstrip(b"\n") + b" " * LINE_BYTES_MAX + b"\n"


@pytest.mark.parametrize("change", [_change, _drop, _swap, _repeat, _put_in, _forget_version, _garble, _lengthen])
def test_a_journal_changed_in_every_folder_is_refused(
    custody: Custody, folders: tuple[Path, Path], change: Callable[[list[bytes]], None]
) -> None:
    """Given a line changed, dropped, moved, repeated or put in, in all folders alike, then reading says so."""
    custody.note([erased(1), erased(2), erased(3)])
    assert custody.check() == 3
    for folder in folders:
        lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
        change(lines)
        (folder / JOURNAL).write_bytes(b"".join(lines))
    with pytest.raises(TamperError):
        list(custody.notes())
    with pytest.raises(TamperError):
        custody.check()


@pytest.mark.parametrize("first", [0, 2])
def test_a_journal_written_anew_with_other_numbers_is_refused(
    custody: Custody, folders: tuple[Path, Path], first: int
) -> None:
    """Given lines whose chain is right and whose numbers are not, in all folders alike, then reading says so."""
    custody.note([erased(1)])
    for folder in folders:
        (folder / JOURNAL).write_bytes(b"".join(lines_of([erased(2), erased(3)], first - 1, FIRST_CHAIN)))
    with pytest.raises(TamperError, match="Line 1"):
        list(custody.notes())


def test_a_change_in_the_second_folder_alone_is_found(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given a line changed in one folder only, with the ends alike, when all are checked, then it is found there."""
    custody.note([erased(1), erased(2), erased(3)])
    lines = (folders[1] / JOURNAL).read_bytes().splitlines(keepends=True)
    _change(lines)
    (folders[1] / JOURNAL).write_bytes(b"".join(lines))
    with pytest.raises(TamperError, match="b/tombstones"):
        custody.check()


@pytest.mark.parametrize("more", [1, 2])
def test_folders_that_tell_different_stories_are_refused(
    custody: Custody, folders: tuple[Path, Path], tmp_path: Path, more: int
) -> None:
    """Given two folders written to apart, of equal or different length, then nothing is noted and none is changed."""
    custody.note([erased(1)])
    for index, numbers in enumerate(([10], [20, 21][:more])):
        spare = tmp_path / f"spare-{index}"
        shutil.copytree(folders[index], spare)
        Custody([folders[index], spare]).note([erased(number) for number in numbers])
    before = [(folder / JOURNAL).read_bytes() for folder in folders]
    for attempt in (custody.count, custody.check, lambda: custody.note([erased(5)]), lambda: list(custody.notes())):
        with pytest.raises(TamperError, match="different stories"):
            attempt()
    assert [(folder / JOURNAL).read_bytes() for folder in folders] == before


def test_a_journal_that_is_a_link_is_refused(custody: Custody, folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Given a journal that has a second name elsewhere, when it is used, then it is refused: a copy nobody lists."""
    custody.note([erased(1)])
    os.link(folders[0] / JOURNAL, tmp_path / "elsewhere")
    with pytest.raises(SettingsRefused, match="second name"):
        custody.note([erased(2)])


# Together ------------------------------------------------------------------------------------------------------------


def note_many(folders: tuple[Path, ...], first: int, count: int) -> None:
    """A process of its own that notes one after the other."""
    custody = Custody(folders)
    for number in range(first, first + count):
        custody.note([erased(number)])


def test_processes_note_side_by_side(folders: tuple[Path, Path]) -> None:
    """Given four processes that note at full speed, then every note is there once, in one unbroken chain."""
    finish([start(note_many, folders, 1000 * n, 50) for n in range(4)])
    custody = Custody(folders)
    assert custody.check() == 200
    expected = {erased(1000 * n + number).holder for n in range(4) for number in range(50)}
    assert {note.tombstone.holder for note in custody.notes()} == expected
    assert len(contents(folders)) == 1


def test_a_process_killed_while_it_notes_leaves_a_whole_journal(folders: tuple[Path, Path]) -> None:
    """Given a process killed at any moment of its work, when the next goes on, then the chain holds (FAULTS 7)."""
    Custody(folders)
    for number in range(3):
        child = start(note_many, folders, 10_000 * number, 100_000)
        before = Custody(folders).count()
        while Custody(folders).count() < before + 20:
            assert child.is_alive()
        child.kill()
        child.join()
        custody = Custody(folders)
        custody.note([erased(60_000 + number)])
        assert custody.check() == custody.count() > before + 20
        assert len(contents(folders)) == 1


# Heads ---------------------------------------------------------------------------------------------------------------


def test_the_last_head_of_each_tenant_is_kept(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given heads kept one after the other, when another process asks, then it has the last of each tenant."""
    assert custody.kept_heads() == {}
    custody.keep_heads({TENANT: KeptHead(7, b"\x01" * 32, NOW), OTHER: KeptHead(3, b"\x02" * 32, NOW)})
    custody.keep_heads({})
    custody.keep_heads({TENANT: KeptHead(9, b"\x03" * 32, NOW)})
    custody.keep_heads({TENANT: KeptHead(9, b"\x03" * 32, NOW + timedelta(hours=1))})
    assert Custody(folders).kept_heads() == {
        TENANT: KeptHead(9, b"\x03" * 32, NOW + timedelta(hours=1)),
        OTHER: KeptHead(3, b"\x02" * 32, NOW),
    }


@pytest.mark.parametrize("head", [KeptHead(8, b"\x03" * 32, NOW), KeptHead(9, b"\x04" * 32, NOW)])
def test_a_head_behind_or_beside_the_kept_one_is_refused(custody: Custody, head: KeptHead) -> None:
    """Given a kept head, when the log stands further back or differs there, then it is refused, and nothing is kept."""
    kept = {TENANT: KeptHead(9, b"\x03" * 32, NOW)}
    custody.keep_heads(kept)
    with pytest.raises(TamperError, match="older state"):
        custody.keep_heads({OTHER: KeptHead(1, bytes(32), NOW), TENANT: head})
    assert custody.kept_heads() == kept


def test_heads_of_an_old_folder_do_not_win(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given one folder brought back from a backup, then the furthest counts; two that differ at one place do not."""
    custody.keep_heads({TENANT: KeptHead(7, b"\x01" * 32, NOW)})
    old = (folders[0] / HEADS).read_bytes()
    custody.keep_heads({TENANT: KeptHead(9, b"\x03" * 32, NOW)})
    (folders[0] / HEADS).write_bytes(old)
    assert custody.kept_heads() == {TENANT: KeptHead(9, b"\x03" * 32, NOW)}

    Custody([folders[0], folders[0].parent / "c"]).keep_heads({TENANT: KeptHead(9, b"\x04" * 32, NOW)})
    with pytest.raises(TamperError, match="different heads"):
        custody.kept_heads()


@pytest.mark.parametrize("wrong", [b"", b"{}\n{}\n", b"[]\n[]\n"])
def test_heads_that_were_changed_are_refused(custody: Custody, folders: tuple[Path, Path], wrong: bytes) -> None:
    """Given a file of heads that was changed, cut or emptied, when it is read, then it is refused."""
    custody.keep_heads({TENANT: KeptHead(7, b"\x01" * 32, NOW)})
    right = (folders[0] / HEADS).read_bytes()
    for content in (wrong, right.replace(b"[7,", b"[8,"), right[:-1], right + b"x"):
        (folders[0] / HEADS).write_bytes(content)
        with pytest.raises(TamperError, match="was changed"):
            custody.kept_heads()


# Checkpoints ---------------------------------------------------------------------------------------------------------


def signed(size: int, root: int = 1, series: int = 1) -> KeptCheckpoint:
    """A signed size, with a root that is told by a number."""
    return KeptCheckpoint(series, size, bytes([root]) * 32, NOW)


def test_the_stored_form_of_checkpoints(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given a kept checkpoint, when its file is looked at, then it is what version 1 says."""
    custody.keep_checkpoints({TENANT: signed(7)})
    body = b'{"018f0000000070008000000000000001":[1,7,"' + b"01" * 32 + b'","2026-11-21T10:30:00+00:00",false]}'
    head = b'{"v":1,"sha256":"' + sha256(body).hexdigest().encode() + b'"}'
    for folder in folders:
        assert (folder / CHECKPOINTS).read_bytes() == head + b"\n" + body + b"\n"


def test_the_last_checkpoint_of_each_tenant_is_kept(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given checkpoints kept one after the other, when another process asks, then it has the last of each tenant."""
    assert custody.kept_checkpoints() == {}
    custody.keep_checkpoints({TENANT: signed(7), OTHER: signed(3)})
    custody.keep_checkpoints({})
    custody.keep_checkpoints({TENANT: signed(9, 2)})
    custody.keep_checkpoints({TENANT: signed(9, 2)})
    assert Custody(folders).kept_checkpoints() == {TENANT: signed(9, 2), OTHER: signed(3)}
    assert custody.check() == 0


@pytest.mark.parametrize("wrong", [signed(8), signed(9, 4), signed(9, 3, series=0), signed(100, 3, series=0)])
def test_another_root_for_a_size_is_refused(custody: Custody, wrong: KeptCheckpoint) -> None:
    """Given a kept checkpoint, when a shorter one or another root comes, then it is refused, and nothing is kept."""
    kept = {TENANT: signed(9, 3)}
    custody.keep_checkpoints(kept)
    with pytest.raises(TamperError, match="older state or rewritten"):
        custody.keep_checkpoints({OTHER: signed(1), TENANT: wrong})
    assert custody.kept_checkpoints() == kept


def test_an_abandoned_series_is_never_signed_again(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given a loss that was accepted, when the old series is signed again, then it is refused; the next one is not."""
    custody.keep_checkpoints({TENANT: signed(9, 3), OTHER: signed(4)})
    custody.abandon_checkpoints([TENANT, UUID(int=99)])
    custody.abandon_checkpoints([TENANT])
    for old in (signed(9, 3), signed(10, 3), signed(900, 3)):
        with pytest.raises(TamperError):
            custody.keep_checkpoints({TENANT: old})
    assert Custody(folders).kept_checkpoints() == {TENANT: replace(signed(9, 3), abandoned=True), OTHER: signed(4)}
    custody.keep_checkpoints({TENANT: signed(2, 7, series=2)})
    assert custody.kept_checkpoints()[TENANT] == signed(2, 7, series=2)


def test_checkpoints_of_an_old_folder_do_not_win(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given one folder brought back from a backup, then the furthest counts; two that differ at one place do not."""
    custody.keep_checkpoints({TENANT: signed(7)})
    old = (folders[0] / CHECKPOINTS).read_bytes()
    custody.keep_checkpoints({TENANT: signed(9, 3)})
    custody.abandon_checkpoints([TENANT])
    (folders[0] / CHECKPOINTS).write_bytes(old)
    assert custody.kept_checkpoints() == {TENANT: replace(signed(9, 3), abandoned=True)}

    Custody([folders[0], folders[0].parent / "c"]).keep_checkpoints({TENANT: signed(9, 4)})
    with pytest.raises(TamperError, match="different checkpoints"):
        custody.kept_checkpoints()


@pytest.mark.parametrize("wrong", [b"", b"{}\n{}\n", b"[]\n[]\n"])
def test_checkpoints_that_were_changed_are_refused(custody: Custody, folders: tuple[Path, Path], wrong: bytes) -> None:
    """Given a file of checkpoints that was changed, cut or emptied, when it is read, then it is refused."""
    custody.keep_checkpoints({TENANT: signed(7)})
    right = (folders[0] / CHECKPOINTS).read_bytes()
    for content in (wrong, right.replace(b",7,", b",8,"), right[:-1], right + b"x"):
        (folders[0] / CHECKPOINTS).write_bytes(content)
        with pytest.raises(TamperError, match="was changed"):
            custody.kept_checkpoints()
        with pytest.raises(TamperError, match="was changed"):
            custody.check()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 39, 40, 41, 100])
def test_the_latest_notes_are_the_last_of_all(custody: Custody, count: int) -> None:
    """Given forty notes, when the latest are asked for, then they are the end of the whole list, however many."""
    assert custody.latest(count) == []
    custody.note([erased(number) for number in range(40)])
    everything = list(custody.notes())
    assert custody.latest(count) == (everything[-count:] if count else [])


def test_a_changed_line_among_the_latest_is_refused(custody: Custody, folders: tuple[Path, Path]) -> None:
    """Given a note that was changed in every folder, when the latest are read, then it is a TamperError."""
    custody.note([erased(number) for number in range(40)])
    for folder in folders:
        lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
        lines[35] = lines[35].replace(b'"erasure"', b'"erasura"')
        (folder / JOURNAL).write_bytes(b"".join(lines))
    assert [note.number for note in custody.latest(3)] == [38, 39, 40]
    with pytest.raises(TamperError, match="Line 36"):
        custody.latest(10)
