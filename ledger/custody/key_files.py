"""Epoch keys in files: one file of mode 0600 per epoch and folder, in at least two folders.

    epoch-000001.key         32 bytes, the same in every folder
    epoch-000001.destroyed   in every folder, for ever: this epoch's key never comes back

A copy that is missing is restored from another, unless its epoch was destroyed; copies that differ are refused. The
marker is written before the first copy goes, in every folder, so that a folder that comes back from a backup or a
disk that was away brings no epoch back: what it holds is refused, and listed by `returned`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ledger.custody.private_files import disk_errors, locked, place, prepare_folders, read_private, shred, sync_folder
from ledger.custody.provider import COPIES_MIN, CopyDestroyed, CopyReturned, Destruction
from ledger.errors import EpochInUse, KeyDestroyed, KeyMissing, SettingsRefused, TamperError
from ledger.sealing import KEY_BYTES

LIST_SECONDS = 1.0
MARKER = b"lethe.epoch.destroyed.v1\n"
METHOD = "overwritten with random bytes and unlinked, with every half-written file; then the folder was synced"
_FILE = re.compile(r"epoch-(\d{6,9})\.(key|destroyed)")


class _Seen(NamedTuple):
    """What the folders hold: living epochs, destroyed ones, and key files of destroyed ones."""

    living: tuple[int, ...]
    destroyed: tuple[int, ...]
    returned: tuple[Path, ...]


class FileKeyProvider:
    """The provider of epoch keys in files."""

    delay_days = 0
    notice_seconds = LIST_SECONDS

    def __init__(self, folders: tuple[Path, ...]) -> None:
        if len(folders) < COPIES_MIN:
            raise SettingsRefused("Epoch keys need at least two folders (LETHE_KEY_FOLDERS), so that one can be lost.")
        with disk_errors():
            prepare_folders(folders)
        self._folders = folders
        self._keys: dict[int, bytes] = {}
        self._seen = _Seen((), (), ())
        self._looked_at = -LIST_SECONDS
        self._lock = Lock()

    def current(self) -> int:
        """The newest epoch in any folder."""
        seen = self._look()
        if not seen.living:
            raise self._none_left(seen.destroyed)
        return seen.living[-1]

    def living(self) -> tuple[int, ...]:
        """The epochs in any folder, read again at most once a second."""
        return self._look().living

    def destroyed(self) -> tuple[int, ...]:
        """The epochs with a marker in any folder."""
        return self._look(afresh=True).destroyed

    def key(self, epoch: int) -> bytes:
        """The epoch key, read once and checked against every copy; forgotten within a second of its destruction."""
        if epoch not in self._look().living and epoch not in self._look(afresh=True).living:
            raise self._missing(epoch)
        found = self._keys.get(epoch)
        if found is None:
            with locked(self._folders):
                found = self._keys[epoch] = self._read(epoch)
        return found

    def copies(self) -> tuple[str, ...]:
        """The folders that hold copies."""
        return tuple(str(folder) for folder in self._folders)

    def returned(self) -> tuple[CopyReturned, ...]:
        """Key files of epochs that have a marker in any folder."""
        return tuple(CopyReturned(_epoch_of(path), str(path)) for path in self._look(afresh=True).returned)

    def create(self, epoch: int) -> None:
        """Write the key of the next epoch to every folder."""
        with locked(self._folders):
            seen = self._read_folders()
            if epoch in seen.destroyed:
                raise KeyDestroyed(f"Epoch {epoch} was destroyed; its number is never used again.")
            newest = max((*seen.living, *seen.destroyed), default=0)
            if epoch in seen.living:
                self._read(epoch)
            elif epoch == newest + 1:
                self._write(epoch)
            else:
                raise ValueError(f"The next epoch is {newest + 1}, not {epoch}.")
        self._look(afresh=True)

    def destroy(self, epoch: int) -> Destruction:
        """Mark the epoch as destroyed in every folder, then overwrite and unlink each copy and staging file."""
        with locked(self._folders):
            seen = self._read_folders()
            if epoch not in seen.living and epoch not in seen.destroyed:
                raise self._missing(epoch)
            if epoch == max(seen.living, default=0):
                raise EpochInUse(f"Epoch {epoch} is the current one. Open the next epoch and renew every wrap first.")
            self._mark(epoch)
            for folder in self._folders:
                for path in (*folder.glob(f"epoch-{epoch:06d}.key"), *folder.glob(f"epoch-{epoch:06d}.*.new")):
                    shred(path)
                sync_folder(folder)
        self._look(afresh=True)
        return Destruction(epoch, tuple(CopyDestroyed(str(folder), METHOD, 0) for folder in self._folders))

    def forget_cached(self) -> None:
        """Forget every key held here, and read the folders again at the next call."""
        self._keys.clear()
        self._looked_at = -LIST_SECONDS

    def _look(self, *, afresh: bool = False) -> _Seen:
        """What the folders held at most a second ago; keys of epochs that went are forgotten."""
        if not afresh and time.monotonic() - self._looked_at < LIST_SECONDS:
            return self._seen
        with self._lock, disk_errors():
            now = time.monotonic()
            if not afresh and now - self._looked_at < LIST_SECONDS:
                return self._seen  # Another thread was faster.
            seen = self._read_folders()
            if any(not self._marker(f, epoch).exists() for epoch in seen.destroyed for f in self._folders):
                self._repair_markers(seen.destroyed)
            for epoch in set(self._keys) - set(seen.living):
                self._keys.pop(epoch, None)
            self._seen, self._looked_at = seen, now
        return self._seen

    def _read_folders(self) -> _Seen:
        keys: dict[int, list[Path]] = {}
        destroyed = set()
        for folder in self._folders:
            for path in folder.iterdir():
                named = _FILE.fullmatch(path.name)
                if named is None:
                    continue
                if named[2] == "destroyed":
                    destroyed.add(int(named[1]))
                else:
                    keys.setdefault(int(named[1]), []).append(path)
        returned = tuple(path for epoch in sorted(keys) if epoch in destroyed for path in sorted(keys[epoch]))
        return _Seen(tuple(sorted(set(keys) - destroyed)), tuple(sorted(destroyed)), returned)

    def _none_left(self, destroyed: tuple[int, ...]) -> KeyMissing:
        places = ", ".join(self.copies())
        if not destroyed:
            return KeyMissing(f"There is no epoch key in {places}.")
        return KeyMissing(
            f"No epoch key is left, though epochs up to {destroyed[-1]} existed. This is an incident: bring back a "
            f"copy of the newest key to one of {places}."
        )

    def _write(self, epoch: int) -> None:
        key = os.urandom(KEY_BYTES)
        for folder in self._folders:
            place(self._path(folder, epoch), key)

    def _read(self, epoch: int) -> bytes:
        """The key, under the folders' lock; copies that are missing are written again."""
        if epoch in self._read_folders().destroyed:
            raise self._missing(epoch)
        found = {path: _read_key(path) for path in self._paths(epoch) if os.path.lexists(path)}
        if not found:
            raise self._missing(epoch)
        keys = set(found.values())
        if len(keys) != 1:
            raise TamperError(f"The copies of epoch key {epoch} differ: {', '.join(map(str, found))}. Restore one.")
        key = keys.pop()
        for path in self._paths(epoch):
            if path not in found:
                place(path, key)
        return key

    def _mark(self, epoch: int) -> None:
        for folder in self._folders:
            if not self._marker(folder, epoch).exists():
                place(self._marker(folder, epoch), MARKER)

    def _repair_markers(self, epochs: tuple[int, ...]) -> None:
        """A folder that was away when an epoch went is told of it."""
        with locked(self._folders):
            for epoch in epochs:
                self._mark(epoch)

    def _missing(self, epoch: int) -> KeyMissing:
        seen = self._read_folders()
        if epoch not in seen.destroyed:
            return KeyMissing(f"Epoch key {epoch} is in none of the key folders: {', '.join(self.copies())}.")
        back = [str(path) for path in self._paths(epoch) if path in seen.returned]
        again = f" A copy has come back and is refused: {', '.join(back)}." if back else ""
        return KeyMissing(f"Epoch key {epoch} was destroyed.{again}")

    def _paths(self, epoch: int) -> Iterator[Path]:
        return (self._path(folder, epoch) for folder in self._folders)

    def _path(self, folder: Path, epoch: int) -> Path:
        return folder / f"epoch-{epoch:06d}.key"

    def _marker(self, folder: Path, epoch: int) -> Path:
        return folder / f"epoch-{epoch:06d}.destroyed"


def _epoch_of(path: Path) -> int:
    named = _FILE.fullmatch(path.name)
    assert named is not None
    return int(named[1])


def _read_key(path: Path) -> bytes:
    key = read_private(path)
    if len(key) != KEY_BYTES:
        raise TamperError(f"{path} does not hold a key of {KEY_BYTES} bytes. Restore it from another copy.")
    return key
