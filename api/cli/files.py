"""Files that commands write: new ones, for their owner only, and gone again where the work fails half way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from api.cli.failures import CommandFailed, ExitCode


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner may read. Raises `CommandFailed` where one is there already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandFailed(
            ExitCode.REFUSED, "file_exists", f"{path} exists and is not written over. Name another file, or move it."
        ) from None
    except OSError as error:
        raise CommandFailed(
            ExitCode.REFUSED, "unwritable_file", f"{path.name} cannot be written: {os.strerror(error.errno or 0)}."
        ) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def require_out(path: Path | None, *, as_json: bool) -> None:
    """Raise `CommandFailed` where the content and the JSON answer would both go to standard output."""
    if as_json and path is None:
        raise CommandFailed(
            ExitCode.USAGE, "out_needed", "The export and --json do not fit one output. Name a file: --out."
        )
