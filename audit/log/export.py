"""The log as a folder of plain files, laid out as C2SP tlog-tiles says, so that any tool that reads such logs reads it.

    log.vkey                          the verifier keys that sign it, one a line
    checkpoint                        the served checkpoint, with its cosignatures; written last
    checkpoints/<size>                the same for every size that was exported into this folder
    tile/<level>/<number>[.p/<w>]     hashes: full tiles, and the partial ones of the exported sizes
    tile/entries/<number>[.p/<w>]     entries, where they are asked for

A folder is taken up again only if it is an older export of this very log: its checkpoint is signed by a key of the
log, and the tree continues it. Then what is there is left alone, and only what is new is written. A run that was cut
off before its checkpoint was written is begun again. Every tile is proven against the signed root before it is
written, so an export never says what the checkpoint does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.log.entry_bundles import entry_bundle
from audit.log.errors import FolderRefused, LogContradiction, NothingPublished, TileMissing
from audit.log.served import served
from audit.log.store import PublishedCheckpoint, log_keys, tile, tile_reader
from audit.log.witness_policy import NO_WITNESSES, WitnessPolicy
from audit.verify.checkpoint import open_checkpoint
from audit.verify.errors import VerificationRefused
from audit.verify.note import NOTE_BYTES_MAX, VerifierKey
from audit.verify.tiles import (
    ENTRIES,
    TILE_HEIGHT,
    TILE_WIDTH,
    ProvenTiles,
    TileName,
    Tiles,
    tiles_at,
    width_at,
)

TILES_PER_READ: Final = 64
"""Who needs it: memory and the vacuum; a transaction of an export reads so many tiles and bundles, a few megabytes."""

CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints"
KEYS: Final = "log.vkey"

Reading = Callable[[], AbstractContextManager[Connection[Any]]]
"""Opens a short transaction in which this folder's functions see the log."""

Progress = Callable[[int, int], None]
"""Tiles and bundles done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: the size it reaches, the size the folder reached before, and how many tiles and bundles."""

    size: int
    before: int
    files: int


def export_log(
    folder: Path,
    reading: Reading,
    tenant: UUID,
    *,
    policy: WitnessPolicy = NO_WITNESSES,
    entries: bool = False,
    progress: Progress = lambda _done, _of: None,
    before_entries: Callable[[int], None] = lambda _size: None,
) -> Exported:
    """Write the served log into a folder; `before_entries` is called with its size before entries are written.

    Raises `FolderRefused`, `NothingPublished` and `LogContradiction`.
    """
    with reading() as connection:
        found = served(connection, tenant, policy)
        keys = [] if found is None else _keys(connection, found.checkpoint)
    if found is None:
        raise NothingPublished("Nothing of this account's log is served yet. The worker publishes it: lethe worker.")
    note = found.note.encode()
    signers = open_checkpoint(note, keys, origin=found.checkpoint.origin).signers
    before = _taken_up(folder, reading, found.checkpoint, keys)
    if entries:
        before_entries(found.checkpoint.size)
    write_file(folder / KEYS, "".join(f"{key}\n" for key in signers).encode())
    files = _write_tiles(folder, reading, found.checkpoint, before, progress, entries=entries)
    write_file(folder / CHECKPOINTS / str(found.checkpoint.size), note)
    write_file(folder / CHECKPOINT, note)
    return Exported(found.checkpoint.size, before, files)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


# The folder ---------------------------------------------------------------------------------------------------------


def _taken_up(folder: Path, reading: Reading, checkpoint: PublishedCheckpoint, keys: Sequence[VerifierKey]) -> int:
    """The size that the folder holds already, 0 if none. Raises `FolderRefused` for a folder of something else."""
    if folder.exists() and not folder.is_dir():
        raise FolderRefused("There is a file of this name already. Name a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        return 0
    if (folder / CHECKPOINT).is_file():
        return _continued(folder / CHECKPOINT, reading, checkpoint, keys)
    if not (folder / KEYS).is_file():
        raise FolderRefused("The folder is not empty and holds no export of a log. Name an empty one.")
    if {str(key) for key in keys}.isdisjoint(_read(folder / KEYS).decode(errors="replace").split()):
        raise FolderRefused("The folder holds an unfinished export of another log. Name an empty one.")
    return 0


def _continued(held: Path, reading: Reading, checkpoint: PublishedCheckpoint, keys: Sequence[VerifierKey]) -> int:
    """The size of an older export, once it was seen that this log continues it."""
    try:
        old = open_checkpoint(_read(held), keys, origin=checkpoint.origin).checkpoint
    except VerificationRefused as refused:
        raise FolderRefused(f"The folder holds no older export of this log. {refused} Name an empty one.") from None
    if old.size > checkpoint.size:
        raise FolderRefused(
            f"The folder holds this log at size {old.size}, and what is served here has {checkpoint.size}. Either a "
            "restore lost events, or witnesses are behind. See: lethe log status"
        )
    with reading() as connection:
        root = Tiles(tile_reader(connection, checkpoint.tenant, series=checkpoint.series)).root(old.size)
    if root != old.root:
        raise FolderRefused(
            f"The folder's checkpoint of size {old.size} is signed, and is not the beginning of this log: the log was "
            "rewritten. Keep the folder, it is the evidence. Then run: lethe fsck"
        )
    return old.size


# Tiles and bundles --------------------------------------------------------------------------------------------------


def _write_tiles(
    folder: Path,
    reading: Reading,
    checkpoint: PublishedCheckpoint,
    before: int,
    progress: Progress,
    *,
    entries: bool,
) -> int:
    """Write every tile and bundle that the folder does not have; returns how many that were."""
    source = _Source(checkpoint)
    total, done, written = _how_many(checkpoint.size, entries=entries), 0, 0
    for names in _batches(_names(checkpoint.size, entries=entries)):
        missing = [name for name in names if not _is_there(folder, name, before)]
        if missing:
            with reading() as connection:
                for name, content in source.contents(connection, missing):
                    write_file(folder / name.path(), content)
        done, written = done + len(names), written + len(missing)
        progress(done, total)
    return written


class _Source:
    """The tiles of one checkpoint, each proven before it is handed out, and the bundles under them."""

    def __init__(self, checkpoint: PublishedCheckpoint) -> None:
        self._checkpoint = checkpoint
        self._connection: Connection[Any] | None = None
        self._proven = ProvenTiles(self._read, checkpoint.size, checkpoint.root)

    def contents(self, connection: Connection[Any], names: Sequence[TileName]) -> Iterator[tuple[TileName, bytes]]:
        """The contents of a few of them, read on this connection; one is held at a time."""
        self._connection = connection
        for name in names:
            try:
                yield name, self._content(connection, name)
            except (VerificationRefused, TileMissing) as refused:
                raise LogContradiction(f"The log cannot be exported. {refused} Run: lethe fsck") from None

    def _content(self, connection: Connection[Any], name: TileName) -> bytes:
        if name.level != ENTRIES:
            return self._proven.tile(name.level, name.number)
        return entry_bundle(
            connection, self._checkpoint.tenant, name.number, name.width, series=self._checkpoint.series
        )

    def _read(self, level: int, number: int, width: int) -> bytes:
        assert self._connection is not None
        return tile(self._connection, self._checkpoint.tenant, level, number, width, series=self._checkpoint.series)


def _names(size: int, *, entries: bool) -> Iterator[TileName]:
    for name in tiles_at(size):
        yield name
        if entries and name.level == 0:
            yield TileName(ENTRIES, name.number, name.width)


def _how_many(size: int, *, entries: bool) -> int:
    total, hashes = 0, size
    while hashes:
        tiles = -(-hashes // TILE_WIDTH)
        total += 2 * tiles if entries and hashes == size else tiles
        hashes >>= TILE_HEIGHT
    return total


def _is_there(folder: Path, name: TileName, before: int) -> bool:
    """Whether a finished export wrote it: what was full at the older size is left alone."""
    return name.width <= _full_at(name, before) and (folder / name.path()).is_file()


def _full_at(name: TileName, size: int) -> int:
    """The width of a full tile if it was full at this size, else 0: a partial one is always written again."""
    return TILE_WIDTH if width_at(name.level, name.number, size) == TILE_WIDTH else 0


def _batches(names: Iterator[TileName]) -> Iterator[list[TileName]]:
    while batch := list(islice(names, TILES_PER_READ)):
        yield batch


def _keys(connection: Connection[Any], checkpoint: PublishedCheckpoint) -> list[VerifierKey]:
    """The keys that sign this series, or did."""
    every = log_keys(connection, checkpoint.tenant)
    return [VerifierKey.parse(key.verifier_key) for key in every if key.series == checkpoint.series]


def _read(path: Path) -> bytes:
    """A small file. Raises `FolderRefused` where it is none."""
    try:
        with path.open("rb") as file:
            return file.read(NOTE_BYTES_MAX + 1)
    except OSError:
        raise FolderRefused(f"{path.name} in the folder cannot be read.") from None
