"""Key providers: where epoch keys live, outside every database, in at least two enumerated copies (DESIGN 6).

A provider is a small protocol. The one for files keeps each epoch key in a file of mode 0600, once per folder; it
refuses folders and files that others may read, and copies that disagree.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from ledger.errors import KeyMissing, SettingsRefused, TamperError
from ledger.sealing import KEY_BYTES

COPIES_MIN = 2
LIST_SECONDS = 1.0


class EpochKeyProvider(Protocol):
    """Holds the epoch keys. `current` creates the first one when there is none."""

    def current(self) -> int:
        """The number of the newest epoch, counted from 1."""
        ...

    def living(self) -> tuple[int, ...]:
        """Every epoch whose key still exists, oldest first."""
        ...

    def key(self, epoch: int) -> bytes:
        """The 32 bytes of an epoch key. Raises `KeyMissing` when it was destroyed or never existed."""
        ...

    def copies(self) -> tuple[str, ...]:
        """Every place that holds a copy, for inventories."""
        ...


class FileKeyProvider:
    """Epoch keys as files `epoch-000001.key` in at least two folders."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        if len(folders) < COPIES_MIN:
            raise SettingsRefused("Epoch keys need at least two folders (LETHE_KEY_FOLDERS), so that one can be lost.")
        self._folders = folders
        self._keys: dict[int, bytes] = {}
        self._epochs: tuple[int, ...] = ()
        self._listed_at = 0.0
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_private(folder)

    def current(self) -> int:
        """The newest epoch in any folder; the first is made durably when there is none."""
        return self.living()[-1]

    def living(self) -> tuple[int, ...]:
        """The epochs in any folder, read again at most once a second."""
        now = time.monotonic()
        if now - self._listed_at > LIST_SECONDS or not self._epochs:
            self._epochs = self._list() or self._create(1)
            self._listed_at = now
        return self._epochs

    def _list(self) -> tuple[int, ...]:
        found = {int(p.stem.removeprefix("epoch-")) for f in self._folders for p in f.glob("epoch-*.key")}
        return tuple(sorted(found))

    def key(self, epoch: int) -> bytes:
        """The epoch key, read once and checked against every copy."""
        if epoch not in self._keys:
            self._keys[epoch] = self._read(epoch)
        return self._keys[epoch]

    def copies(self) -> tuple[str, ...]:
        """The folders that hold copies."""
        return tuple(str(folder) for folder in self._folders)

    def _path(self, folder: Path, epoch: int) -> Path:
        return folder / f"epoch-{epoch:06d}.key"

    def _create(self, epoch: int) -> tuple[int, ...]:
        """Write the key to the first folder exclusively, so that two processes cannot make two, then copy it."""
        first = self._path(self._folders[0], epoch)
        staged = _staging(first)
        _write_durably(staged, os.urandom(KEY_BYTES))
        try:
            os.link(staged, first)
        except FileExistsError:
            pass
        finally:
            staged.unlink()
        self._read(epoch)
        return (epoch,)

    def _read(self, epoch: int) -> bytes:
        found = {p: _read_private(p) for p in (self._path(f, epoch) for f in self._folders) if p.exists()}
        if not found:
            raise KeyMissing(f"Epoch key {epoch} is in none of the key folders: {', '.join(self.copies())}.")
        keys = set(found.values())
        if len(keys) != 1:
            raise TamperError(f"The copies of epoch key {epoch} differ: {', '.join(map(str, found))}. Restore one.")
        key = keys.pop()
        for folder in self._folders:
            path = self._path(folder, epoch)
            if path not in found:
                self._restore_copy(path, key)
        return key

    def _restore_copy(self, path: Path, key: bytes) -> None:
        staged = _staging(path)
        _write_durably(staged, key)
        staged.replace(path)


def _staging(path: Path) -> Path:
    """A name nobody has used: in a container every process has the same number, and threads share theirs."""
    return path.with_suffix(f".{os.urandom(8).hex()}.new")


def _write_durably(path: Path, key: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, key)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_private(path: Path) -> bytes:
    _require_private(path)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise TamperError(f"{path} does not hold a key of {KEY_BYTES} bytes. Restore it from another copy.")
    return key


def _require_private(path: Path) -> None:
    status = path.stat()
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise SettingsRefused(
            f"{path} must belong to the user Lethe runs as and be closed to others: chmod go-rwx {path}"
        )
