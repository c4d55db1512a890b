"""Finds the CSV files of a Mailchimp audience export in a zip, in a folder, or among given paths.

A zip comes from outside, so it is bounded before anything is unpacked: how many members, how large, how
strongly packed. Members are streamed and never written to disk, so their paths cannot lead anywhere.
Encrypted, damaged and cut-short zips are refused, and so is a CSV that is no part of an export: passed
over in silence, it would be contacts, or a "no", that never arrived.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal
from zipfile import BadZipFile, ZipFile, ZipInfo, is_zipfile

from api.imports.errors import ImportFileError
from api.imports.sources import TextSource, checked, text_source

ZIP_MEMBERS_MAX: Final = 100
ZIP_MEMBER_BYTES_MAX: Final = 2 * 1024**3  # unpacked; a million contacts are some 300 MB
ZIP_BYTES_MAX: Final = 4 * 1024**3  # unpacked, all members
ZIP_RATIO_MAX: Final = 100  # deflate of a real export is 5 to 15; a bomb's is about 1,000
ZIP_RATIO_FREE_BYTES: Final = 1024**2  # small members may be as empty as they like

Kind = Literal["subscribed", "unsubscribed", "cleaned", "nonsubscribed"]
READING_ORDER: Final[tuple[Kind, ...]] = ("unsubscribed", "cleaned", "nonsubscribed", "subscribed")

_ENCRYPTED: Final = 0x1


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One CSV file of an export, decoded once to its end."""

    kind: Kind
    text: TextSource


def kind_of(name: str) -> Kind | None:
    """Which file of an export ``name`` is, by its first word, or None."""
    base = PurePosixPath(name.replace("\\", "/")).name.casefold()
    if not base.endswith(".csv"):
        return None
    return next((kind for kind in READING_ORDER if base.startswith(kind + "_") or base == kind + ".csv"), None)


def is_mailchimp_export(path: Path) -> bool:
    """Whether ``path`` looks like an export, by names alone: a zip or folder with such a file, or a file."""
    if path.is_dir():
        return any(kind_of(child.name) for child in path.iterdir())
    if not is_zipfile(path):
        return kind_of(path.name) is not None
    with ZipFile(path) as archive:
        return any(kind_of(name) for name in archive.namelist()[:ZIP_MEMBERS_MAX])


def export_files(source: Path | Sequence[Path] | BinaryIO) -> list[ExportFile]:
    """Find and check the files, suppressions first. Raises :class:`ImportFileError`."""
    if isinstance(source, Path):
        found = _of_path(source)
    elif isinstance(source, Sequence):
        found = [export for path in source for export in _of_path(path)]
    else:
        found = _of_zip(source, "the upload")
    return sorted(found, key=lambda export: READING_ORDER.index(export.kind))


def _of_path(path: Path) -> list[ExportFile]:
    try:
        if path.is_dir():
            names = sorted(child for child in path.iterdir() if _counts(child.name))
            return _known([(child.name, _opener(child)) for child in names], path.name)
        if is_zipfile(path) or path.suffix.casefold() == ".zip":
            return _of_zip(path, path.name)
    except OSError as error:
        raise ImportFileError(f"{path.name} cannot be read: {error.strerror}.") from error
    kind = kind_of(path.name)
    if kind is None:
        raise ImportFileError(
            f"{path.name} is no part of a Mailchimp export: its name must begin with subscribed_,"
            " unsubscribed_ or cleaned_. Import it as a plain CSV instead."
        )
    return [ExportFile(kind, text_source(path))]


def _opener(path: Path) -> Callable[[], io.BufferedIOBase]:
    return lambda: path.open("rb")


def _of_zip(source: Path | BinaryIO, name: str) -> list[ExportFile]:
    try:
        archive = ZipFile(source)
    except (BadZipFile, OSError, NotImplementedError) as error:
        raise ImportFileError(f"{name} is no zip, or is damaged or cut short; export it again.") from error
    members = archive.infolist()
    _check_bounds(members, name)
    files = [member for member in members if not member.is_dir() and _counts(member.filename)]
    return _known([(member.filename, _member_opener(archive, member)) for member in files], name)


def _member_opener(archive: ZipFile, member: ZipInfo) -> Callable[[], io.BufferedIOBase]:
    def opened() -> io.BufferedIOBase:
        try:
            return archive.open(member)  # type: ignore[return-value]  # it is a BufferedIOBase at run time
        except (NotImplementedError, RuntimeError) as error:
            raise ImportFileError("The zip is packed in a way that cannot be read; pack it again.") from error

    return opened


def _check_bounds(members: list[ZipInfo], name: str) -> None:
    if len(members) > ZIP_MEMBERS_MAX:
        raise ImportFileError(f"{name} holds more than {ZIP_MEMBERS_MAX} files; import the CSV files themselves.")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise ImportFileError(f"{name} is encrypted; unpack it and import the CSV files.")
    if sum(member.file_size for member in members) > ZIP_BYTES_MAX:
        raise ImportFileError(f"{name} unpacks to more than {ZIP_BYTES_MAX} bytes; import its files one by one.")
    for member in members:
        packed_hard = member.file_size > ZIP_RATIO_MAX * max(member.compress_size, 1)
        too_hard = packed_hard and member.file_size > ZIP_RATIO_FREE_BYTES
        if too_hard or member.file_size > ZIP_MEMBER_BYTES_MAX:
            raise ImportFileError(f"{name} unpacks to far more than its size; unpack it and import the CSV files.")


def _counts(name: str) -> bool:
    """Whether a file has to be understood: CSV files, but not the copies that archivers leave behind."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.suffix.casefold() == ".csv" and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _known(found: list[tuple[str, Callable[[], io.BufferedIOBase]]], container: str) -> list[ExportFile]:
    exports, unknown = [], []
    for name, open_bytes in found:
        kind = kind_of(name)
        if kind is None:
            unknown.append(name)
        else:
            exports.append(ExportFile(kind, checked(name, open_bytes)))
    if unknown or not exports:
        fault = f"a file that is no part of one ({unknown[0][:80]})" if unknown else "no file of one"
        raise ImportFileError(
            f"{container} is taken for a Mailchimp export but holds {fault}. The names must begin with"
            " subscribed_, unsubscribed_ or cleaned_."
        )
    return exports
