"""Verifiers that are not ours believe our logs, and refuse every lie about them (issue 4, must show 1; FAULTS 20)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tlog_scales.backend import LocalBackend
from tlog_scales.signing import PlainEd25519Signer, Vkey, VkeySet
from tlog_scales.tlog import Checkpoint as ScalesCheckpoint
from tlog_scales.tlog import ConsistencyProof
from tlog_scales.writer import TilesWriter

from audit.verify.checkpoint import Checkpoint
from audit.verify.note import COSIGNATURE, compose_note, open_note
from audit.verify.tiles import TileName, Tiles, pack_entries, unpack_entries
from tests.verifiers.checkpoints import RememberingReader
from tests.verifiers.folder import (
    ORIGIN,
    FolderLog,
    cosigned_by,
    entry,
    log_of,
    put,
    signed_by,
    signing_key,
    verifier_key,
)
from tests.verifiers.outside import HERE, Refused, go_program, go_verify, scales_verify

VERIFIERS = [pytest.param(go_verify, id="go"), pytest.param(scales_verify, id="tlog-scales")]
Verifier = Callable[[Path, object], None]

SMALL = 1_025
LARGE = 100_000
EDGES = (1, 2, 3, 255, 256, 257, 511, 512, 513, 767, 768, 1_023, 1_024, 1_025)


@pytest.fixture(scope="module")
def small() -> FolderLog:
    return log_of(SMALL)


@pytest.fixture(scope="module")
def large() -> FolderLog:
    return log_of(LARGE, roots=False)


# What is true is believed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", VERIFIERS)
def test_every_size_to_1025_is_believed(small: FolderLog, tmp_path: Path, verify: Verifier) -> None:
    """Given a log with a checkpoint of each size from 1 to 1,025, when verified, then every entry of each is in it.

    And each size is the beginning of the next one, up to the last.
    """
    verify(small.write(tmp_path, range(1, SMALL)), small.key)


@pytest.mark.parametrize("verify", VERIFIERS)
def test_a_log_is_believed_at_the_edges_of_its_tiles(small: FolderLog, tmp_path: Path, verify: Verifier) -> None:
    """Given the folder as it is when a tile begins, is nearly full, full or overflowing, then it is believed."""
    for size in EDGES:
        verify(small.write(tmp_path / str(size), size=size), small.key)


@pytest.mark.parametrize("verify", VERIFIERS)
def test_a_log_of_100_000_is_believed(large: FolderLog, tmp_path: Path, verify: Verifier) -> None:
    """Given 100,000 entries and checkpoints around the edges of tiles of all levels, then all of it is believed."""
    verify(large.write(tmp_path, [1, 256, 65_535, 65_536, 65_537, 99_999]), large.key)


# What is not true is refused ------------------------------------------------------------------------------------------

Lie = Callable[[Path, FolderLog], None]


def swapped(path: Path, position: int) -> None:
    """One bit of a file, changed."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def some_tile(folder: Path, log: FolderLog, level: int) -> Path:
    """A tile of a level that is not the last one."""
    hashes = log.size >> 8 * max(level, 0)
    return folder / TileName(level, 0, min(256, hashes)).path()


def entry_changed(folder: Path, log: FolderLog) -> None:
    swapped(some_tile(folder, log, -1), 40)


def last_entry_changed(folder: Path, log: FolderLog) -> None:
    number, width = divmod(log.size, 256)
    swapped(folder / TileName(-1, number, width).path(), -1)


def entries_exchanged(folder: Path, log: FolderLog) -> None:
    path = some_tile(folder, log, -1)
    first, second, *rest = unpack_entries(path.read_bytes(), 256)
    path.write_bytes(pack_entries([second, first, *rest]))


def entry_removed(folder: Path, log: FolderLog) -> None:
    path = some_tile(folder, log, -1)
    path.write_bytes(pack_entries(unpack_entries(path.read_bytes(), 256)[1:]))


def bundle_cut(folder: Path, log: FolderLog) -> None:
    path = some_tile(folder, log, -1)
    path.write_bytes(path.read_bytes()[:-1])


def bundle_lengthened(folder: Path, log: FolderLog) -> None:
    path = some_tile(folder, log, -1)
    path.write_bytes(path.read_bytes() + b"\0")


def bundle_missing(folder: Path, log: FolderLog) -> None:
    some_tile(folder, log, -1).unlink()


def leaf_tile_changed(folder: Path, log: FolderLog) -> None:
    swapped(some_tile(folder, log, 0), 32 * 7)


def upper_tile_changed(folder: Path, log: FolderLog) -> None:
    swapped(some_tile(folder, log, 1), 0)


def entry_and_its_leaf_changed(folder: Path, log: FolderLog) -> None:
    """As somebody would who knows how leaves are hashed."""
    lying = FolderLog()
    lying.append(log.entries[0] + b" ", *log.entries[1:256])
    for path in (some_tile(folder, log, 0), some_tile(folder, log, -1)):
        level = -1 if "entries" in str(path) else 0
        path.write_bytes(pack_entries(lying.entries) if level else lying.read(0, 0, 256))


def tile_missing(folder: Path, log: FolderLog) -> None:
    some_tile(folder, log, 0).unlink()


def root_changed(folder: Path, log: FolderLog) -> None:
    checkpoint = log.checkpoint(log.size)
    put(folder / "checkpoint", checkpoint.replace(checkpoint.split(b"\n")[2], b"A" * 43 + b"="))


def root_changed_and_signed(folder: Path, log: FolderLog) -> None:
    """The log itself lies: a root that its entries do not give, under its own signature."""
    body = Checkpoint(ORIGIN, log.size, bytes(32)).body()
    put(folder / "checkpoint", compose_note(body, [signed_by(body, ORIGIN)]))


def size_changed(folder: Path, log: FolderLog) -> None:
    content = log.checkpoint(log.size)
    put(folder / "checkpoint", content.replace(b"\n%d\n" % log.size, b"\n%d\n" % (log.size - 1)))


def size_changed_and_signed(folder: Path, log: FolderLog) -> None:
    body = Checkpoint(ORIGIN, log.size - 1, log.roots[-1]).body()
    put(folder / "checkpoint", compose_note(body, [signed_by(body, ORIGIN)]))


def signature_changed(folder: Path, log: FolderLog) -> None:
    content = log.checkpoint(log.size)
    put(folder / "checkpoint", content[:-20] + (b"A" if content[-20:-19] != b"A" else b"B") + content[-19:])


def signed_by_a_stranger(folder: Path, log: FolderLog) -> None:
    body = Checkpoint(ORIGIN, log.size, log.roots[-1]).body()
    put(folder / "checkpoint", compose_note(body, [signed_by(body, ORIGIN, word="stranger")]))


def checkpoint_of_another_log(folder: Path, log: FolderLog) -> None:
    """Signed with the right key, and yet for another origin."""
    body = Checkpoint("log.example/other", log.size, log.roots[-1]).body()
    put(folder / "checkpoint", compose_note(body, [signed_by(body, ORIGIN)]))


def older_checkpoint_forked(folder: Path, log: FolderLog) -> None:
    """An older checkpoint, properly signed, of a history that this log never had."""
    fork = FolderLog()
    fork.append(*log.entries[:299], b"another history")
    put(folder / "checkpoints" / "300", fork.checkpoint(300))


def older_checkpoint_is_of_another_size(folder: Path, log: FolderLog) -> None:
    body = Checkpoint(ORIGIN, 299, log.roots[300] or Tiles(log.read).root(300)).body()
    put(folder / "checkpoints" / "299", compose_note(body, [signed_by(body, ORIGIN)]))


LIES: list[Lie] = [
    entry_changed,
    last_entry_changed,
    entries_exchanged,
    entry_removed,
    bundle_cut,
    bundle_lengthened,
    bundle_missing,
    leaf_tile_changed,
    upper_tile_changed,
    entry_and_its_leaf_changed,
    tile_missing,
    root_changed,
    root_changed_and_signed,
    size_changed,
    size_changed_and_signed,
    signature_changed,
    signed_by_a_stranger,
    checkpoint_of_another_log,
    older_checkpoint_forked,
    older_checkpoint_is_of_another_size,
]


@pytest.fixture(scope="module")
def told(small: FolderLog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small log as it is, with one older checkpoint: a copy of it is lied about."""
    return small.write(tmp_path_factory.mktemp("told"), [300])


@pytest.mark.parametrize("verify", VERIFIERS)
def test_the_folder_that_is_lied_about_is_believed_before(
    told: Path, small: FolderLog, tmp_path: Path, verify: Verifier
) -> None:
    """Given the folder before any lie, when it is verified, then it is believed: the control of the next test."""
    verify(Path(shutil.copytree(told, tmp_path / "copy")), small.key)


@pytest.mark.parametrize("verify", VERIFIERS)
@pytest.mark.parametrize("lie", LIES)
def test_every_lie_about_a_log_is_refused(
    told: Path, small: FolderLog, tmp_path: Path, verify: Verifier, lie: Lie
) -> None:
    """Given a true folder in which one thing is changed, when it is verified, then it is refused with a reason."""
    folder = Path(shutil.copytree(told, tmp_path / "copy"))
    lie(folder, small)
    with pytest.raises(Refused, match=r"refused: \S"):
        verify(folder, small.key)


@pytest.mark.parametrize("verify", VERIFIERS)
@pytest.mark.parametrize("lie", [entry_changed, leaf_tile_changed, upper_tile_changed, root_changed_and_signed])
def test_a_lie_about_a_large_log_is_refused(large: FolderLog, tmp_path: Path, verify: Verifier, lie: Lie) -> None:
    """Given the log of 100,000 entries with one thing changed, when it is verified, then it is refused.

    Go's `TileHashReader` believes some of these tiles before x/mod 0.40 (CVE-2026-56865), and Debian 12 has an older
    one. The program in Go therefore compares every tile with the tree of the entries, and does not use that reader.
    """
    folder = large.write(tmp_path)
    lie(folder, large)
    with pytest.raises(Refused):
        verify(folder, large.key)


@pytest.mark.parametrize("verify", VERIFIERS)
def test_a_foreign_key_believes_nothing(told: Path, verify: Verifier) -> None:
    """Given a true folder, when it is verified with another log's key, or this log's name with another key, refused."""
    for key in (verifier_key("log.example/other"), verifier_key(ORIGIN, word="stranger")):
        with pytest.raises(Refused):
            verify(told, key)


# Both make the same proofs, byte by byte ------------------------------------------------------------------------------


def questions(sizes: range) -> Iterator[tuple[str, int, int]]:
    """For every size: entries and older sizes at the edges of tiles, and at places that wander with the size."""
    for size in sizes:
        places = {0, 1, 127, 128, 254, 255, 256, 257, 511, 512, 1_023, 1_024, size // 3, size // 2, size * 7 // 9}
        places |= {size - 1, size - 2, size, 1 << size.bit_length() >> 1, (1 << size.bit_length() >> 1) - 1}
        yield from (("i", place, size) for place in sorted(places) if 0 <= place < size)
        yield from (("c", place, size) for place in sorted(places) if 0 < place <= size)


def ours(tiles: Tiles, kind: str, first: int, size: int) -> bytes:
    """The hashes of one of our proofs, one behind the other."""
    return b"".join(tiles.inclusion_path(first, size) if kind == "i" else tiles.consistency_path(first, size))


def answers_of_go(log: FolderLog, asked: list[str]) -> list[bytes]:
    """What Go's tlog answers to questions about the tree that it hashed from a log's entries."""
    lines = [str(log.size), *(content.hex() for content in log.entries), *asked, ""]
    done = subprocess.run(
        [str(go_program("proofs"))], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    return [bytes.fromhex(line) for line in done.stdout.splitlines()]


def test_our_proofs_are_gos(small: FolderLog) -> None:
    """Given a tree that Go hashed from the entries, when both prove at every size to 1,025, the bytes are the same."""
    assert answers_of_go(small, [f"r {size}" for size in range(1, SMALL + 1)]) == small.roots[1:]
    asked, tiles = list(questions(range(1, SMALL + 1))), Tiles(small.read)
    answered = answers_of_go(small, [f"{kind} {first} {size}" for kind, first, size in asked])
    assert answered == [ours(tiles, kind, first, size) for kind, first, size in asked]


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_all_our_proofs_are_gos(small: FolderLog) -> None:
    """Given every entry and every older size of every size to 1,025, when both prove, then the bytes are the same."""
    tiles, compared = Tiles(small.read), 0
    for size in range(1, SMALL + 1):
        asked = [("i", index, size) for index in range(size)] + [("c", old, size) for old in range(1, size + 1)]
        answered = answers_of_go(small, [f"{kind} {first} {size}" for kind, first, size in asked])
        assert answered == [ours(tiles, kind, first, size) for kind, first, size in asked]
        compared += len(answered)
    assert compared == SMALL * (SMALL + 1)


def test_our_proofs_are_those_of_tlog_scales(small: FolderLog, tmp_path: Path) -> None:
    """Given our folder, when tlog-scales proves from it at every size from 0 to 1,025, the bytes are the same."""
    reader = RememberingReader(LocalBackend(small.write(tmp_path)))
    reader.set_size(SMALL)
    tiles = Tiles(small.read)
    assert [reader.mth(0, size) for size in range(SMALL + 1)] == [tiles.root(size) for size in range(SMALL + 1)]
    for kind, first, size in questions(range(SMALL + 1)):
        prove = reader.get_inclusion_proof if kind == "i" else reader.get_consistency_proof
        assert b"".join(prove(first, size).node_hashes) == ours(tiles, kind, first, size), (kind, first, size)
    from_nothing = tiles.consistency_path(0, SMALL)  # Its writer knows no proof from there, and its reader does.
    ConsistencyProof(0, SMALL, from_nothing).check(tiles.root(0), tiles.root(SMALL))


@pytest.mark.parametrize("batches", [[SMALL], [1, 255, 1, 256, 300, 212]])
def test_our_tiles_are_those_of_tlog_scales(small: FolderLog, tmp_path: Path, batches: list[int]) -> None:
    """Given the same entries and key, when tlog-scales writes a log in batches, then every file is the same as ours."""
    writer, numbers = TilesWriter.create(tmp_path / "theirs", ORIGIN), iter(range(SMALL))
    signer = PlainEd25519Signer(ORIGIN, bytes(signing_key(ORIGIN)))
    for batch in batches:
        for number in [next(numbers) for _ in range(batch)]:
            writer.add_leaf(entry(number))
        for place in ("0", "1", "entries"):  # It makes the folder of a level, and not that of its first partial tile.
            (tmp_path / "theirs" / "tile" / place).mkdir(parents=True, exist_ok=True)
        writer.commit([signer])
    theirs, mine = files(tmp_path / "theirs"), files(small.write(tmp_path / "mine"))
    earlier = {path for path in theirs if path.startswith("tile/1/000.p/") and path not in mine}
    assert {path: content for path, content in theirs.items() if path not in earlier} == mine
    for path in earlier:  # Partial tiles of earlier sizes, which ours are too, cut off there.
        assert theirs[path] == small.read(1, 0, int(path.rpartition("/")[2]))


def files(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tlog_scales_believes_our_cosignatures() -> None:
    """Given a checkpoint that a witness cosigned, when tlog-scales reads it, then both signatures are valid to it."""
    body, witness = Checkpoint(ORIGIN, 5, bytes(32)).body(), verifier_key("witness.example", COSIGNATURE)
    content = compose_note(body, [signed_by(body, ORIGIN), cosigned_by(body, witness.name, 1_790_000_000)])
    keys = VkeySet(Vkey.from_string(str(verifier_key(ORIGIN))), Vkey.from_string(str(witness)))
    read = ScalesCheckpoint.from_text(content.decode())
    assert {key.name for key, _ in keys.verify(read.signatures, read)} == {ORIGIN, witness.name}
    theirs = ScalesCheckpoint.make_signed(
        ORIGIN, 5, bytes(32), [PlainEd25519Signer(ORIGIN, bytes(signing_key(ORIGIN)))]
    )
    open_note(theirs.serialize().encode(), [verifier_key(ORIGIN)])


# The verifiers are what they are said to be ---------------------------------------------------------------------------


def test_the_go_verifier_is_small_and_uses_only_gos_packages() -> None:
    """Given the Go program, when it is read, then it has at most 80 lines, and imports note, tlog and the stdlib."""
    source = (HERE / "checkpoints.go").read_text()
    assert len(source.splitlines()) <= 80
    imports = re.findall(r'^\t"([^"]+)"$', source, re.MULTILINE)
    outside = {name for name in imports if "." in name}
    assert outside == {"golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog"}


def test_the_python_verifier_uses_only_tlog_scales() -> None:
    """Given the Python program, when it is read, then it imports tlog-scales and the standard library only."""
    source = (HERE / "checkpoints.py").read_text()
    imported = set(re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE))
    assert imported == {"sys", "functools", "pathlib", "tlog_scales"}


def test_a_missing_go_is_a_failure_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a machine without Go, when a Go verifier is asked for, then it fails and is not passed over."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(AssertionError, match="apt-get install golang-go golang-golang-x-mod-dev"):
        go_program.__wrapped__("checkpoints")
