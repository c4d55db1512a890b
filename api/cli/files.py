"""Files that commands write: new ones, never written over, and for their owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO

import typer

from api.cli.failures import CommandFailed, ExitCode

OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to write it. Else: standard output.", show_default=False),
]


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file, gone again where the work fails half way. Raises `CommandFailed` where one is there already."""
    descriptor = _created(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def new_text(path: Path) -> Iterator[TextIO]:
    """A new file of lines, each true by itself: they stay where the work fails half way. Raises `CommandFailed`."""
    with os.fdopen(_created(path), "w", encoding="utf-8", newline="") as text:
        yield text


def require_out(path: Path | None, *, as_json: bool) -> None:
    """Raise `CommandFailed` where the content and the JSON answer would both go to standard output."""
    if as_json and path is None:
        raise CommandFailed(
            ExitCode.USAGE, "out_needed", "The export and --json do not fit one output. Name a file: --out."
        )


def _created(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise CommandFailed(
            ExitCode.REFUSED, "file_exists", f"{path} exists and is not written over. Name another file, or move it."
        ) from None
    except FileNotFoundError:
        raise CommandFailed(
            ExitCode.REFUSED, "unwritable_file", f"There is no folder {path.parent} to write {path.name} into. Make it."
        ) from None
    except OSError as error:
        raise CommandFailed(
            ExitCode.REFUSED,
            "unwritable_file",
            f"{path} cannot be written: {os.strerror(error.errno or 0)}. Name a file in a folder of yours.",
        ) from None
