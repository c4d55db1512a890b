"""`lethe trail export`: a section of the audit trail as one file, for auditors and their tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from typing import Annotated, BinaryIO

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import OutOption, new_file, require_out
from api.cli.options import ACTOR, AccountOption, JsonFlag, ledger_of
from api.cli.output import Output, counted
from api.cli.trail import SinceOption, UntilOption, moment
from audit.trail.export import TrailExport
from audit.trail.lines import Form
from audit.trail.section import Section, SectionRefused, positions_at_once, section_of
from ledger.application import Ledger

trail = typer.Typer(help="Export the audit trail.")


@trail.command("export")
def export_trail(
    form: Annotated[Form, typer.Option("--format", help="ndjson holds the entries byte for byte.")] = "ndjson",
    since: SinceOption = None,
    until: UntilOption = None,
    topic: Annotated[
        list[str] | None,
        typer.Option(help="A topic, such as consent.granted.v1, or how it begins: consent. May be repeated."),
    ] = None,
    after: Annotated[int, typer.Option(min=0, help="Go on after this position.")] = 0,
    opened: Annotated[
        bool,
        typer.Option("--open", help="Open the sealed parts of persons' own events as well; that is recorded."),
    ] = False,
    out: OutOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Export the events of a section of the log, in its order, as CSV or NDJSON. Memory does not grow with it.

    Sealed parts are named and stay closed, unless --open is given. That something was exported is recorded.
    """
    output = Output(as_json)
    require_out(out, as_json=as_json)
    with ledger_of(account) as (_, ledger), ExitStack() as stack:
        ledger.account()
        section = _section(ledger, topic or (), moment(since), moment(until), after)
        export = TrailExport(ledger, section, form, opened=opened, actor=ACTOR)
        file: BinaryIO = sys.stdout.buffer if out is None else stack.enter_context(new_file(out))
        bar = stack.enter_context(output.progress("Exporting", section.last - section.after))
        written = 0
        for block in stack.enter_context(closing(export.blocks())):
            written += file.write(block)
            bar.advance(positions_at_once(opened=opened))
        file.flush()
    if out is None:
        output.note(_said(export))
        return
    answer = {
        "file": str(out),
        "format": form,
        "entries": export.entries,
        "opened": export.opened,
        "bytes": written,
        "sha256": export.digest,
        "next": section.last,
    }
    output.answer(answer, f"Wrote {out}: {_said(export)}")


def _section(
    ledger: Ledger, kinds: Sequence[str], since: datetime | None, until: datetime | None, after: int
) -> Section:
    try:
        return section_of(ledger, kinds=kinds, since=since, until=until, after=after)
    except SectionRefused as error:
        raise CommandFailed(ExitCode.USAGE, "invalid_section", str(error)) from None


def _said(export: TrailExport) -> str:
    opened = f", {counted(export.opened, 'sealed field')} opened" if export.opened else ""
    return f"{counted(export.entries, 'event')}{opened}. To go on from here: --after {export.section.last}"
