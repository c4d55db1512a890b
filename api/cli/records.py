"""`lethe records`: support, billing, usage and logs, into the ledger and looked at again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.lists import RejectsOption, lines_in
from api.cli.options import (
    ACTOR,
    AccountOption,
    AddressFileOption,
    EmailOption,
    JsonFlag,
    addresses,
    ledger_of,
    require_files,
)
from api.cli.output import Output, cell, counted, shown
from api.cli.trail import pages
from api.imports.record_files import read_records
from api.imports.record_import import RecordsImport, RecordsReport, digest_of
from api.imports.rejects import LineRejectsWriter, RejectsWriter
from domain.personal import Erased
from domain.records import FACT_OF_CLASS, RECORD_CLASSES
from projections.history import Question, SeenEvent

RECORDS_SHOWN_MAX: Final = 10_000  # who needs it: one person's records, held in memory

records = typer.Typer(help="Keep and look at records of support, billing, usage and logs.")


@records.command("import")
def import_records(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A CSV, or NDJSON in the shape of POST /v1/records; one record a row."),
    ],
    account: AccountOption = None,
    retention_class: Annotated[
        str | None,
        typer.Option("--class", help=f"The class of rows that name none: {', '.join(RECORD_CLASSES)}."),
    ] = None,
    rejects: RejectsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Import records. Columns class, kind, email and occurred_at mean what they say; all others become sealed content.

    The same file is not taken twice within 24 hours: an import that was interrupted goes on where it stopped.
    """
    require_files([file])
    _require_classes([retention_class] if retention_class else [])
    output = Output(as_json)
    rows, is_ndjson = read_records(file, retention_class=retention_class)
    writer = (LineRejectsWriter if is_ndjson else RejectsWriter)(rejects or file.parent)
    with ledger_of(account) as (_, ledger), writer as rejected:
        ledger.account()
        with output.progress("Importing", total=lines_in(file)) as bar:
            key = f"{digest_of(file)} {retention_class or ''}"
            report = RecordsImport(ledger, rejected, actor=ACTOR, key=key, seen=bar.advance).take(rows)
        paths = [str(path) for path in rejected.paths.values()]
    output.answer(report.as_dict() | {"rejects": paths}, *_sentences(report, paths))
    if report.rejected:
        raise typer.Exit(ExitCode.IN_PART)


@records.command("list")
def list_records(
    email: EmailOption = None,
    file: AddressFileOption = None,
    retention_class: Annotated[
        list[str] | None,
        typer.Option("--class", help="Only these classes; may be repeated.", show_default=False),
    ] = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the records about a person, opened. Looking is recorded."""
    output = Output(as_json)
    asked = addresses(email, file)
    if len(asked) > 1:
        raise CommandFailed(ExitCode.USAGE, "one_address", "Look at one person at a time; each look is recorded.")
    classes = _require_classes(retention_class or RECORD_CLASSES)
    kinds = [FACT_OF_CLASS[c].TOPIC for c in classes]
    with ledger_of(account) as (_, ledger):
        ledger.account()
        row = ledger.person(asked[0])
        if row is None:
            raise CommandFailed(
                ExitCode.NOT_FOUND, "unknown_contact", "No living contact of this account has this address."
            )
        question = Question(email=asked[0], kinds=kinds)
        found = list(pages(ledger, question, opened=True, events_max=RECORDS_SHOWN_MAX))
        opened = sum(page.opened for page in found)
        ledger.record_view("records list", subject=UUID(bytes=row.person.subject), parts_opened=opened, actor=ACTOR)
    events = [event for page in found for event in page.events]
    for event in events if as_json else ():
        output.line(_record(event))
    if not as_json:
        output.table(["position#", "occurred", "class", "kind", "content"], [_row(event) for event in events])
        output.say(f"{counted(len(events), 'record')}. That you looked was recorded.")


def _require_classes(classes: list[str] | tuple[str, ...]) -> list[str]:
    for retention_class in classes:
        if retention_class not in RECORD_CLASSES:
            text = f"A record's class is one of {', '.join(RECORD_CLASSES)}."
            raise CommandFailed(ExitCode.USAGE, "unknown_class", text)
    return list(dict.fromkeys(classes))


_CLASS_OF_TOPIC: Final = {fact.TOPIC: retention_class for retention_class, fact in FACT_OF_CLASS.items()}


def _record(event: SeenEvent) -> dict[str, Any]:
    content = event.personal.get("content")
    held: dict[str, Any] = {
        "position": event.position,
        "class": _CLASS_OF_TOPIC[event.kind],
        "kind": event.plain.get("kind"),
        "occurred_at": _moment(event),
        "recorded_at": event.recorded_at,
    }
    if isinstance(content, Erased):
        return held | {"erased": {"when": content.when, "why": content.why}}
    return held | {"content": content}


def _moment(event: SeenEvent) -> datetime:
    """When it happened; only the day once the content is erased."""
    at = event.personal.get("at")
    return datetime.fromisoformat(at) if isinstance(at, str) else event.occurred_at


def _row(event: SeenEvent) -> tuple[object, ...]:
    content = event.personal.get("content")
    said = "(erased)" if isinstance(content, Erased) else "; ".join(f"{k}: {v}" for k, v in (content or {}).items())
    kind = event.plain.get("kind")
    return event.position, cell(_moment(event)), _CLASS_OF_TOPIC[event.kind], kind, shown(said)


def _sentences(report: RecordsReport, paths: list[str]) -> Iterator[str]:
    nobody = f", {report.about_nobody:,} of them about nobody" if report.about_nobody else ""
    yield f"{counted(report.recorded, 'record')} kept{nobody}."
    if report.repeated:
        yield f"{counted(report.repeated, 'record')} kept already by an earlier import of this very file."
    if report.rejected:
        yield f"{counted(report.rejected, 'row')} not taken. Each says why; mend and import again:"
        yield from (f"  {path}" for path in paths)
        yield "These files hold personal data in the clear. Delete them when you are done."
