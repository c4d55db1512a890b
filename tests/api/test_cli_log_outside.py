"""`lethe prove`, `lethe log export` and what `lethe log status` says of others."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from audit.log.attesting import ask_witnesses
from audit.log.calls import Caller
from audit.log.keys import signed_note
from audit.log.witness_policy import WitnessPolicy
from audit.verify.checkpoint import open_checkpoint
from audit.verify.merkle import leaf_hash
from audit.verify.note import VerifierKey
from audit.verify.tiles import ENTRIES, ProvenTiles, TileName, Tiles, tiles_at, unpack_entries
from audit.verify.tlog_proof import TlogProof
from domain.access import ExportProduced
from ledger.application import Ledger
from tests.api.cli_support import CommandLine
from tests.audit.publishing import grow, keys_of, publish
from tests.witness import Witness


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line in a folder of its own."""
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def reader_of(folder: Path) -> Callable[[int, int, int], bytes]:
    """Tiles from files, as any tool reads them."""
    return lambda level, number, width: (folder / TileName(level, number, width).path()).read_bytes()


def checked(folder: Path, *, entries: bool) -> int:
    """The size of an exported log, after everything in it was checked with the files alone."""
    keys = [VerifierKey.parse(line) for line in (folder / "log.vkey").read_text().splitlines()]
    said = open_checkpoint((folder / "checkpoint").read_bytes(), keys).checkpoint
    assert Tiles(reader_of(folder)).root(said.size) == said.root
    proven, index = ProvenTiles(reader_of(folder), said.size, said.root), 0
    for name in tiles_at(said.size):
        proven.tile(name.level, name.number)
        if entries and name.level == 0:
            bundle = (folder / TileName(ENTRIES, name.number, name.width).path()).read_bytes()
            for entry in unpack_entries(bundle, name.width):
                proven.require_leaf(index, leaf_hash(entry))
                index += 1
    assert index == (said.size if entries else 0)
    return said.size


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Proofs -------------------------------------------------------------------------------------------------------------


def test_a_proof_and_its_entry_are_written(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given a published event, when it is proven, then the files verify with the log's key alone."""
    grow(ledger, 5)
    publish(instance, ledger)
    said = lethe("prove", 3, "--out", "3.tlog-proof", "--entry", "3.json")
    assert "3.tlog-proof" in said
    entry = (lethe.folder / "3.json").read_bytes()
    assert json.loads(entry)["tenant"] == ledger.tenant.hex
    proof = TlogProof.parse((lethe.folder / "3.tlog-proof").read_bytes())
    proof.require_logged(entry, keys_of(instance, ledger))
    assert lethe("prove", 3).encode() == proof.format()
    assert lethe.json("prove", 3)["proof"].encode() == proof.format()


@pytest.mark.parametrize(
    ("position", "code", "name"), [(1_000, 5, "no_such_position"), ("last", 4, "not_published_yet")]
)
def test_what_cannot_be_proven_says_why(
    lethe: CommandLine, instance: Instance, ledger: Ledger, position: Any, code: int, name: str
) -> None:
    """Given a position beyond the log, or not published yet, then the exit code and the name say which."""
    publish(instance, ledger)
    grow(ledger)
    asked = lethe.end() if position == "last" else position
    assert lethe.json("prove", asked, code=code)["error"] == name


def test_a_proof_is_not_written_over_another_file(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given a file of that name, then it stays as it is."""
    publish(instance, ledger)
    there = lethe.file("proof", "mine")
    lethe("prove", 1, "--out", "proof", code=1)
    assert there.read_text() == "mine\n"


# Export -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entries", [False, True])
def test_an_export_is_checked_from_its_files(
    lethe: CommandLine, instance: Instance, ledger: Ledger, *, entries: bool
) -> None:
    """Given a log of several tiles, when it is exported, then its files give the signed root, entries where asked."""
    grow(ledger, 520)
    checkpoint = publish(instance, ledger)
    done = lethe.json("log", "export", "out", *(["--entries"] if entries else []))
    folder = lethe.folder / "out"
    assert checked(folder, entries=entries) == checkpoint.size == done["size"]
    assert (folder / "tile" / "entries").exists() == entries
    assert (folder / "checkpoints" / str(checkpoint.size)).read_text() == checkpoint.note
    assert not list(folder.rglob("*.new"))


def test_that_entries_left_the_house_is_a_fact(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given an export with entries, then it stands in the log; one of hashes only does not (I8)."""
    publish(instance, ledger)
    lethe("log", "export", "hashes")
    assert ExportProduced.TOPIC not in lethe.topics()
    lethe("log", "export", "entries", "--entries")
    assert lethe.topics().count(ExportProduced.TOPIC) == 1


def test_an_older_export_is_taken_further(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given an export, when the log has grown, then what was full is left alone and the whole is as a new export."""
    grow(ledger, 300)
    before = publish(instance, ledger)
    lethe("log", "export", "out")
    full = lethe.folder / "out" / "tile" / "0" / "000"
    written_at = full.stat().st_mtime_ns
    grow(ledger, 300)
    publish(instance, ledger)
    done = lethe.json("log", "export", "out")
    lethe("log", "export", "new")
    assert done["size_before"] == before.size
    assert full.stat().st_mtime_ns == written_at
    assert checked(lethe.folder / "out", entries=False) == done["size"]
    ours, new = files(lethe.folder / "out"), files(lethe.folder / "new")
    assert ours.items() >= new.items()
    assert {name for name in ours if name not in new} == {
        f"checkpoints/{before.size}",
        f"tile/0/001.p/{before.size - 256}",
        "tile/1/000.p/1",
    }
    assert "already" in lethe("log", "export", "out")


def test_entries_can_be_added_to_an_export_of_hashes(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given an export without entries, when it is made again with them, then every bundle is there."""
    grow(ledger, 300)
    publish(instance, ledger)
    lethe("log", "export", "out")
    lethe("log", "export", "out", "--entries")
    assert checked(lethe.folder / "out", entries=True) > 300


def test_an_export_that_was_cut_off_is_begun_again(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given a folder without a checkpoint and with half a tile in it, then the next export makes it whole."""
    grow(ledger, 300)
    publish(instance, ledger)
    lethe("log", "export", "out")
    folder = lethe.folder / "out"
    whole = files(folder)
    (folder / "checkpoint").unlink()
    (folder / "tile" / "0" / "000").write_bytes(b"half")
    (folder / "tile" / "1" / "000.p" / "1").unlink()
    lethe("log", "export", "out")
    assert files(folder) == whole


def test_a_disk_that_is_full_leaves_no_half_of_a_file(
    lethe: CommandLine, instance: Instance, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a disk that takes a part of a tile and no more, then it is said, no half file stays, and the export can be
    begun again."""
    publish(instance, ledger)
    out, real = lethe.folder / "log", Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if "tile" in path.parts:
            real(path, content[:16])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        assert lethe.json("log", "export", out, code=1)["error"] == "no_room"
    assert [name for name in files(out) if name.endswith(".new")] == []
    lethe("log", "export", out)
    assert checked(out, entries=False) > 0


def _other_things(folder: Path) -> None:
    (folder / "holiday.jpg").write_bytes(b"x")


def _no_note(folder: Path) -> None:
    (folder / "checkpoint").write_text("hello")


def _another_unfinished(folder: Path) -> None:
    (folder / "log.vkey").write_text("lethe.localhost/log/2+00000000+AQ==\n")


@pytest.mark.parametrize("fill", [_other_things, _no_note, _another_unfinished])
def test_a_folder_of_something_else_is_refused(
    lethe: CommandLine, instance: Instance, ledger: Ledger, fill: Callable[[Path], None]
) -> None:
    """Given a folder that is no older export of this log, then nothing in it is touched, and the reason is told."""
    publish(instance, ledger)
    folder = lethe.folder / "out"
    folder.mkdir()
    fill(folder)
    before = files(folder)
    assert lethe.json("log", "export", "out", code=1)["error"] == "folder_refused"
    assert files(folder) == before


def test_an_export_of_another_account_is_refused(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given another account's export, then this account's log does not go into it."""
    publish(instance, ledger)
    lethe("log", "export", "out")
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    publish(instance, other)
    assert lethe.json("log", "export", "out", "--account", other.tenant, code=1)["error"] == "folder_refused"


def test_a_folder_that_proves_a_rewritten_log_is_kept(lethe: CommandLine, instance: Instance, ledger: Ledger) -> None:
    """Given a signed checkpoint that this log does not continue, then the export refuses and calls it evidence."""
    grow(ledger, 10)
    publish(instance, ledger)
    lethe("log", "export", "out")
    held = lethe.folder / "out" / "checkpoint"
    forged = _resigned(instance, ledger, held.read_bytes())
    held.write_bytes(forged)
    lethe("log", "export", "out", code=1)
    assert "evidence" in lethe.said
    assert held.read_bytes() == forged


def _resigned(instance: Instance, ledger: Ledger, note: bytes) -> bytes:
    """The note with another root, signed by the log's own key."""
    origin, size, _ = note.decode().split("\n")[:3]
    with instance.services.writer.connection() as connection:
        return signed_note(ledger, connection, f"{origin}\n{size}\n{'A' * 43}=\n").encode()


# Status -------------------------------------------------------------------------------------------------------------


def test_the_status_says_how_far_witnesses_are_behind(
    lethe: CommandLine, instance: Instance, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a needed witness that is down, when it was asked, then the status says what waits, since when, and why."""
    witness = Witness("witness.example/1", b"1" * 32, now=lambda: 1)
    line = f"{witness.key} http://127.0.0.1:9"
    monkeypatch.setenv("LETHE_WITNESSES", json.dumps([line]))
    monkeypatch.setenv("LETHE_WITNESSES_NEEDED", "1")
    checkpoint = publish(instance, ledger)
    ask_witnesses(ledger, WitnessPolicy.parse([line], 1), Caller())
    said = lethe.json("log", "status")
    assert (said["size"], said["served_size"], said["witnesses_needed"]) == (checkpoint.size, 0, 1)
    (asked,) = said["asked"]
    assert (asked["kind"], asked["name"]) == ("witness", "witness.example/1")
    assert asked["failing_since"] is not None
    assert "No answer" in asked["why"]
    told = lethe("log", "status")
    assert "wait for a witness" in told
    assert "witness.example/1 fails since" in told


def test_a_witness_that_cannot_be_read_stops_the_program(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a setting that names no witness, then every command ends with the exit code of settings."""
    monkeypatch.setenv("LETHE_WITNESSES", json.dumps(["witness https://w.example"]))
    assert lethe.json("log", "status", code=7)["error"] == "settings_refused"
