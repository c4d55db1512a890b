"""`lethe contacts import` and `lethe consents import`: lists from files into the ledger.

Rows that are not taken go to files of their own, beside the source or in `--rejects`, to be mended and imported
again; then the command ends with exit code 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Final
from zipfile import BadZipFile, ZipFile, is_zipfile

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, AccountOption, JsonFlag, ledger_of, require_files
from api.cli.output import Bar, Output, counted
from api.imports.into_ledger import ImportReport, LedgerImport
from api.imports.mailchimp import read_mailchimp
from api.imports.mailchimp_files import is_mailchimp_export
from api.imports.plain_csv import read_consents, read_contacts
from api.imports.rejects import RejectsWriter
from api.imports.rows import ImportRow
from ledger.application import Ledger

COUNTED_BYTES: Final = 1 << 20

contacts = typer.Typer(help="Import contacts.")
consents = typer.Typer(help="Import records of consent.")

RejectsOption = Annotated[
    Path | None,
    typer.Option(
        "--rejects", help="The folder for files of rejected rows. Default: beside the first file.", show_default=False
    ),
]


@contacts.command("import")
def import_contacts(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="CSV files, or a Mailchimp audience export: its zip, its folder or its three files."
        ),
    ],
    account: AccountOption = None,
    purpose: Annotated[
        str, typer.Option(help="What a Mailchimp opt-in was for; the export does not say.")
    ] = "newsletter",
    rejects: RejectsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Import contacts, with the consents and the suppressions that the files hold.

    Importing a file again is harmless: what is known stays as it is. An import lifts no suppression.
    """
    require_files(files)

    def rows() -> Iterable[ImportRow]:
        return contact_rows(files, purpose)

    run_import(Output(as_json), account, rows, rejects or _folder(files[0]), files)


@consents.command("import")
def import_consents(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CSV with e-mail, action and purpose; one act of consent a row.")
    ],
    account: AccountOption = None,
    purpose: Annotated[str | None, typer.Option(help="The purpose of rows that name none.", show_default=False)] = None,
    rejects: RejectsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Import acts of consent of contacts that are here already: requests, grants, refusals, withdrawals.

    They are recorded as imported, with the evidence that the row gives; an imported grant lifts no suppression.
    """
    require_files([file])

    def rows() -> Iterable[ImportRow]:
        return read_consents(file, purpose=purpose)

    run_import(Output(as_json), account, rows, rejects or _folder(file), [file])


def contact_rows(files: list[Path], purpose: str) -> Iterator[ImportRow]:
    """The rows of plain CSV files, or of one Mailchimp export. Raises `ImportFileError` and `CommandFailed`."""
    exports = [is_mailchimp_export(path) for path in files]
    if all(exports):
        return read_mailchimp(files[0] if len(files) == 1 else files, purpose=purpose)
    if any(exports):
        raise CommandFailed(
            ExitCode.USAGE,
            "mixed_files",
            "Import Mailchimp's files and plain CSV files one after the other, not together.",
        )
    if any(path.is_dir() for path in files):
        raise CommandFailed(
            ExitCode.USAGE, "not_an_export", "This folder holds no Mailchimp export; name the CSV files themselves."
        )
    return chain.from_iterable([read_contacts(path) for path in files])


def import_into(
    ledger: Ledger, rows: Iterable[ImportRow], rejects: RejectsWriter, seen: Callable[[int], None]
) -> ImportReport:
    """Carry rows over as the command line."""
    return LedgerImport(ledger, rejects, actor=ACTOR, seen=seen).take(rows)


def run_import(
    output: Output, account: str | None, rows: Callable[[], Iterable[ImportRow]], folder: Path, files: list[Path]
) -> None:
    """Import rows with a progress bar, say what came of it, and end with exit code 3 if rows were rejected."""
    found = rows()  # A file that cannot be read at all is told before a database is started.
    with ledger_of(account) as (_, ledger), RejectsWriter(folder) as rejects:
        ledger.account()
        with output.progress("Importing", total=sum(map(lines_in, files))) as bar:
            report = import_into(ledger, found, rejects, _advance(bar))
        paths = [str(path) for path in rejects.paths.values()]
    output.answer(report.as_dict() | {"rejects": paths}, *_sentences(report, paths))
    if report.rejected:
        raise typer.Exit(ExitCode.IN_PART)


def _advance(bar: Bar) -> Callable[[int], None]:
    return bar.advance


def _sentences(report: ImportReport, paths: list[str]) -> Iterator[str]:
    yield f"Contacts:     {report.contacts_added:,} added, {report.contacts_known:,} known already."
    yield f"Consents:     {report.consents_recorded:,} recorded, {report.consents_known:,} known already."
    for reason, count in sorted(report.without_effect.items()):
        yield f"              {count:,} of them without effect: {reason.replace('_', ' ')}."
    yield f"Suppressions: {report.suppressions_added:,} added, {report.suppressions_known:,} known already."
    if report.rejected:
        yield f"{counted(report.rejected, 'row')} not taken. The last column says why; mend and import again:"
        yield from (f"  {path}" for path in paths)
        yield "These files hold addresses in the clear. Delete them when you are done."


def _folder(file: Path) -> Path:
    return file.parent


def lines_in(path: Path) -> int:
    """About how many rows a file, a folder or a zip holds: for the progress bar only."""
    if path.is_dir():
        return sum(lines_in(child) for child in path.iterdir() if child.suffix.casefold() == ".csv")
    if not is_zipfile(path):
        with path.open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(COUNTED_BYTES), b""))
    try:
        with ZipFile(path) as archive:
            return sum(_lines_of_member(archive, name) for name in archive.namelist() if name.endswith(".csv"))
    except (BadZipFile, OSError):
        return 0


def _lines_of_member(archive: ZipFile, name: str) -> int:
    with archive.open(name) as member:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: member.read(COUNTED_BYTES), b""))
