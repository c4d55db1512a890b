"""Custody: what must survive a restore of both databases, kept outside PostgreSQL, beside the epoch keys.

    tombstones.jsonl   a journal of every destruction, one line each, appended and never changed
    heads.json         the last kept head of each tenant's log: its position, and the SHA-256 of the entry there
    checkpoints.json   the last signed checkpoint of each tenant's log (`ledger/custody/kept_checkpoints.py`)

A vault brought back from a backup holds keys that were destroyed since, and no tombstones that say so. It is told by
this journal before it serves again (FAULTS 3, 4); a ledger that was brought back too far is known by its kept head.
Nothing here is personal data: holders are random kids. The same bytes stand in at least two folders.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from uuid import UUID

import orjson

from ledger.custody import kept_checkpoints
from ledger.custody.journal_files import append, cut, last_lines, reconciled, whole_lines
from ledger.custody.journal_lines import FIRST_CHAIN, TombstoneNote, checked, end_of, lines_of
from ledger.custody.kept_checkpoints import CHECKPOINTS, KeptCheckpoint
from ledger.custody.private_files import disk_errors, locked, place, prepare_folders, read_private
from ledger.errors import SettingsRefused, TamperError
from ledger.keys.names import Tombstone

__all__ = ["Custody", "KeptCheckpoint", "KeptHead", "TombstoneNote"]

FOLDERS_MIN = 2
JOURNAL = "tombstones.jsonl"
HEADS = "heads.json"
HEADS_VERSION = 1
LINES_PER_WRITE = 10_000
"""Lines held in memory while they are written: as many as the vault destroys in one transaction, some megabytes."""


@dataclass(frozen=True, slots=True)
class KeptHead:
    """Where a tenant's log stood: position, SHA-256 of the entry at it (32 bytes), and when it was recorded."""

    position: int
    digest: bytes
    recorded_at: datetime


class Custody:
    """The journal and the kept heads in their folders. Safe for any number of threads and processes."""

    def __init__(self, folders: Sequence[Path]) -> None:
        if len(folders) < FOLDERS_MIN:
            raise SettingsRefused("The journal needs at least two folders (LETHE_CUSTODY_FOLDERS): one can be lost.")
        self._folders = tuple(folders)
        self._journals = tuple(folder / JOURNAL for folder in folders)
        self._read: dict[Path, tuple[bytes, dict[UUID, KeptCheckpoint]]] = {}
        with disk_errors():
            prepare_folders(self._folders)

    def folders(self) -> tuple[str, ...]:
        """Every place that holds a copy, for inventories."""
        return tuple(str(folder) for folder in self._folders)

    def note(self, entries: Sequence[Tombstone]) -> None:
        """Append these to the journal in every folder; they are on disk when this returns.

        Raises `Unavailable` if a folder cannot be written: then none of them counts, and nothing may be destroyed.
        """
        if not entries:
            return
        with locked(self._folders):
            tail = reconciled(self._journals)
            lines = lines_of(entries, tail.number, tail.chain)
            try:
                while content := b"".join(islice(lines, LINES_PER_WRITE)):
                    for path in self._journals:
                        append(path, content)
            except OSError:
                for path in self._journals:
                    cut(path, tail.size)
                raise

    def notes(self, after: int = 0) -> Iterator[TombstoneNote]:
        """The lines numbered above `after`, in order. The whole chain is checked on the way, from the first line on.

        Raises `TamperError` at the first line that does not fit.
        """
        with locked(self._folders):
            tail = reconciled(self._journals)
        with disk_errors():
            for note in _checked_lines(self._journals[0], tail.size):
                if note.number > after:
                    yield note

    def latest(self, count: int) -> list[TombstoneNote]:
        """The last so many notes, in order, without reading the lines before them; each is checked against the last.

        Raises `TamperError` for a line among them that does not fit.
        """
        with locked(self._folders), disk_errors():
            tail = reconciled(self._journals)
            lines = last_lines(self._journals[0], tail.size, count + 1)
        found: list[TombstoneNote] = []
        chain = FIRST_CHAIN
        first = tail.number - len(lines) + 1
        for number, line in enumerate(lines, first):
            if number == first > 1:
                _, chain = end_of(line, self._journals[0])  # What stands before it is not read: it begins the chain.
                continue
            note, chain = checked(line, number, chain, self._journals[0])
            found.append(note)
        return found[-count:] if count else []

    def count(self) -> int:
        """How many lines the journal has."""
        with locked(self._folders):
            return reconciled(self._journals).number

    def is_new(self) -> bool:
        """Whether nothing was ever kept here: no destruction, no head and no checkpoint."""
        with locked(self._folders):
            return not (reconciled(self._journals).number or self._read_heads() or self._read_checkpoints())

    def check(self) -> int:
        """Read every folder's journal, from its first line to its last, heads and checkpoints. Returns how many lines.

        Raises `TamperError` if something was changed, dropped or put in, or if the folders tell different stories.
        """
        with locked(self._folders):
            tail = reconciled(self._journals)
            for path in self._journals:
                for _ in _checked_lines(path, tail.size):
                    pass
            self._read_heads()
            self._read_checkpoints()
        return tail.number

    def keep_heads(self, heads: Mapping[UUID, KeptHead]) -> None:
        """Keep where these tenants' logs stand now.

        Raises `TamperError`, and keeps nothing, for a head behind the one kept or beside it: then the log was brought
        back to an older state, or rewritten.
        """
        if not heads:
            return
        with locked(self._folders):
            kept = self._read_heads()
            for tenant, head in heads.items():
                _require_onward(tenant, kept.get(tenant), head)
            self._place_heads({**kept, **heads})

    def replace_heads(self, heads: Mapping[UUID, KeptHead], *, gone: Collection[UUID] = ()) -> None:
        """Keep these whatever was kept before: somebody has accepted, by name, that the log is shorter now.

        `gone` are accounts whose whole log is missing, and accepted as such.
        """
        with locked(self._folders):
            kept = {tenant: head for tenant, head in self._read_heads().items() if tenant not in gone}
            self._place_heads({**kept, **heads})

    def kept_heads(self) -> dict[UUID, KeptHead]:
        """The last kept head of each tenant, the furthest that any folder holds."""
        with locked(self._folders):
            return self._read_heads()

    def keep_checkpoints(
        self, checkpoints: Mapping[UUID, KeptCheckpoint], *, after: Mapping[UUID, KeptCheckpoint] | None = None
    ) -> None:
        """Keep what these tenants' logs are about to publish; it is on disk when this returns.

        `after` is what was kept when they were made, and what they were compared with. Raises `TamperError`, and keeps
        nothing, for a checkpoint that does not follow the one kept, or where another was kept meanwhile, and
        `Unavailable` if a folder cannot be written. In all these cases nothing may be published.
        """
        if not checkpoints:
            return
        with locked(self._folders):
            kept = self._read_checkpoints()
            for tenant, checkpoint in checkpoints.items():
                kept_checkpoints.require_onward(tenant, kept.get(tenant), checkpoint)
                if after is not None:
                    kept_checkpoints.require_unmoved(tenant, after.get(tenant), kept.get(tenant))
            self._place_checkpoints({**kept, **checkpoints})

    def abandon_checkpoints(self, tenants: Collection[UUID]) -> None:
        """Somebody has accepted that these logs do not reach what was signed of them: their series are over."""
        with locked(self._folders):
            kept = self._read_checkpoints()
            over = {t: replace(kept[t], abandoned=True) for t in tenants if t in kept and not kept[t].abandoned}
            if over:
                self._place_checkpoints({**kept, **over})

    def kept_checkpoints(self) -> dict[UUID, KeptCheckpoint]:
        """What was signed last of each tenant's log, the furthest that any folder holds."""
        with locked(self._folders):
            return self._read_checkpoints()

    def _place_checkpoints(self, checkpoints: Mapping[UUID, KeptCheckpoint]) -> None:
        written = kept_checkpoints.content(checkpoints)
        for folder in self._folders:
            place(folder / CHECKPOINTS, written)

    def _read_checkpoints(self) -> dict[UUID, KeptCheckpoint]:
        found: dict[UUID, KeptCheckpoint] = {}
        for path in (folder / CHECKPOINTS for folder in self._folders):
            found = kept_checkpoints.furthest(found, self._parsed(path) if path.exists() else {})
        return found

    def _parsed(self, path: Path) -> Mapping[UUID, KeptCheckpoint]:
        """One folder's checkpoints. The same bytes are parsed once: of ten thousand logs that takes a sequencer longer
        than all else it does for a step."""
        written = read_private(path)
        before = self._read.get(path)
        if before is None or before[0] != written:
            before = self._read[path] = written, kept_checkpoints.parsed(path, written)
        return before[1]

    def _place_heads(self, heads: Mapping[UUID, KeptHead]) -> None:
        content = _heads_content(heads)
        for folder in self._folders:
            place(folder / HEADS, content)

    def _read_heads(self) -> dict[UUID, KeptHead]:
        furthest: dict[UUID, KeptHead] = {}
        for path in (folder / HEADS for folder in self._folders):
            for tenant, head in (_parsed_heads(path) if path.exists() else {}).items():
                seen = furthest.get(tenant)
                if seen is not None and seen.position == head.position and seen.digest != head.digest:
                    raise TamperError(f"Two folders keep different heads of {tenant} at {head.position}.")
                if seen is None or seen.position < head.position:
                    furthest[tenant] = head
        return furthest


def _checked_lines(path: Path, size: int) -> Iterator[TombstoneNote]:
    """Every note of one journal, up to `size` bytes. Raises `TamperError` at the first that does not fit."""
    chain = FIRST_CHAIN
    for number, line in enumerate(whole_lines(path, size), 1):
        note, chain = checked(line, number, chain, path)
        yield note


def _require_onward(tenant: UUID, kept: KeptHead | None, head: KeptHead) -> None:
    if kept is None or kept.position < head.position:
        return
    if kept.position == head.position and kept.digest == head.digest:
        return
    raise TamperError(
        f"The log of {tenant} stands at {head.position}, and a head at {kept.position} was kept: it was brought back "
        "to an older state or rewritten. Restore a newer backup."
    )


def _heads_content(heads: Mapping[UUID, KeptHead]) -> bytes:
    rows = {t.hex: [h.position, h.digest.hex(), h.recorded_at.isoformat()] for t, h in heads.items()}
    body = orjson.dumps(rows, option=orjson.OPT_SORT_KEYS)
    return orjson.dumps({"v": HEADS_VERSION, "sha256": sha256(body).hexdigest()}) + b"\n" + body + b"\n"


def _parsed_heads(path: Path) -> dict[UUID, KeptHead]:
    """The heads of one folder. Raises `TamperError` if the file was changed; it is never half-written."""
    try:
        first, body, rest = read_private(path).split(b"\n")
        said = orjson.loads(first)
        whole = said["v"] == HEADS_VERSION and said["sha256"] == sha256(body).hexdigest() and not rest
        heads = {
            UUID(tenant): KeptHead(position, bytes.fromhex(digest), datetime.fromisoformat(recorded_at))
            for tenant, (position, digest, recorded_at) in orjson.loads(body).items()
        }
    except (ValueError, KeyError, TypeError):
        whole, heads = False, {}
    if not whole:
        raise TamperError(f"{path} was changed. Take it away if another folder still holds its copy.")
    return heads
