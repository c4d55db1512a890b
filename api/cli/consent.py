"""`lethe consent`: consent records and receipts of one person (ISO/IEC TS 27560:2023), as JSON-LD."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import OutOption, new_file, require_out
from api.cli.options import ACTOR, AccountOption, AddressFileOption, EmailOption, JsonFlag, addresses, ledger_of
from api.cli.output import Output, counted
from api.consent_documents import Kind, consent_document

consent = typer.Typer(help="Make consent records and receipts of a person.")

PurposeOption = Annotated[str | None, typer.Option(help="On one purpose only, such as newsletter.", show_default=False)]
ClosedFlag = Annotated[
    bool, typer.Option("--closed", help="Leave the evidence sealed: what was shown and from where is not opened.")
]


@consent.command("record")
def record(
    email: EmailOption = None,
    file: AddressFileOption = None,
    purpose: PurposeOption = None,
    closed: ClosedFlag = False,
    out: OutOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the records of what one person said on consent, with each act's place in the log. That is recorded."""
    _made("record", addresses(email, file), purpose, not closed, out, account, as_json)


@consent.command("receipt")
def receipt(
    email: EmailOption = None,
    file: AddressFileOption = None,
    purpose: PurposeOption = None,
    out: OutOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a receipt for one person of what they said on consent, to be given to them. Its digest is recorded."""
    _made("receipt", addresses(email, file), purpose, True, out, account, as_json)


def _made(
    kind: Kind,
    asked: list[str],
    purpose: str | None,
    opened: bool,
    out: Path | None,
    account: str | None,
    as_json: bool,
) -> None:
    output = Output(as_json)
    if len(asked) > 1:
        raise CommandFailed(ExitCode.USAGE, "one_address", "Name one person; each look is recorded.")
    require_out(out, as_json=as_json)
    with ledger_of(account) as (instance, ledger):
        if out is None:
            made = consent_document(instance, ledger, kind, asked[0], purpose=purpose, opened=opened, actor=ACTOR)
            sys.stdout.buffer.write(made.content)
            sys.stdout.flush()
            return
        with new_file(out) as written:  # First: what was recorded as handed out must have a place to go.
            made = consent_document(instance, ledger, kind, asked[0], purpose=purpose, opened=opened, actor=ACTOR)
            written.write(made.content)
    said = {
        "file": str(out),
        "kind": kind,
        "records": made.records,
        "acts": made.acts,
        "opened": made.opened,
        "bytes": len(made.content),
        "sha256": made.digest,
    }
    output.answer(said, f"Wrote {out}: {counted(made.records, 'record')}, {counted(made.acts, 'act')}.")
