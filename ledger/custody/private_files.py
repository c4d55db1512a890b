"""Files that only the user Lethe runs as may read: how keys and the journal of tombstones are kept outside databases.

What is written here is on disk, with its name, before the call returns. Work that several processes do on the same
folders is done one at a time: each folder is locked, in one order for everybody.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ledger.errors import SettingsRefused, Unavailable

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def prepare_folders(folders: Sequence[Path]) -> None:
    """Make the folders that do not exist. Raises `SettingsRefused` if one is open to others, or two are the same."""
    for folder in folders:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        require_private(folder)
    if len({(status.st_dev, status.st_ino) for status in map(Path.stat, folders)}) < len(folders):
        raise SettingsRefused(f"Two of these folders are one, so nothing in them has a second copy: {_list(folders)}.")


@contextmanager
def locked(folders: Sequence[Path]) -> Iterator[None]:
    """Alone among all processes and threads that lock the same folders; turns what the disk refuses into an error.

    Raises `Unavailable` where a folder cannot be used. The lock lies on the folders themselves and leaves no file; it
    ends with the process that holds it.
    """
    with disk_errors(), ExitStack() as stack:
        for folder in sorted(folder.resolve() for folder in folders):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raises `Unavailable`, with the place, instead of what the operating system says of a disk."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise Unavailable(
            f"A folder of keys or of the journal cannot be used: {error.strerror}{where}. Mend the disk or the rights."
        ) from error


def require_private(path: Path) -> None:
    """Raises `SettingsRefused` unless the file or folder is ours, closed to others, and has no other name.

    A link, symbolic or hard, would be a copy or a place that no inventory lists.
    """
    folder = path.is_dir()
    status = path.stat() if folder else path.lstat()
    if not folder and (not stat.S_ISREG(status.st_mode) or status.st_nlink != 1):
        raise SettingsRefused(f"{path} is a link or has a second name, which no list of copies knows. Remove it.")
    if status.st_mode & 0o077 or status.st_uid != os.geteuid():
        raise SettingsRefused(
            f"{path} must belong to the user Lethe runs as and be closed to others: chmod go-rwx {path}"
        )


def read_private(path: Path) -> bytes:
    """The bytes of a file that is private. Raises `SettingsRefused` if it is not."""
    require_private(path)
    return path.read_bytes()


def place(path: Path, content: bytes) -> None:
    """Write a whole file durably: it stands under its name complete, or not at all."""
    staged = staging(path)
    descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        staged.replace(path)
    except OSError:  # A disk that is full must not be filled with pieces, try after try.
        staged.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def staging(path: Path) -> Path:
    """A name nobody has used: in a container every process has the same number, and threads share theirs."""
    return path.with_suffix(f".{os.urandom(8).hex()}.new")


def shred(path: Path) -> None:
    """Overwrite a file where it lies and take its name away; the folder must be synced afterwards.

    What a file system or a disk keeps of earlier blocks is beyond a program's reach (docs: keep-epoch-keys).
    """
    if not path.is_symlink():
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            write_all(descriptor, os.urandom(os.fstat(descriptor).st_size))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything: the operating system may take less at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _list(folders: Sequence[Path]) -> str:
    return ", ".join(str(folder) for folder in folders)
