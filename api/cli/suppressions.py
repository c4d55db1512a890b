"""`lethe suppressions`: who must not be mailed. Look addresses up, import lists, follow the changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from api.cli.lists import RejectsOption, run_import
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
from api.cli.output import Output, counted
from api.imports.plain_csv import read_contacts
from api.imports.rows import ImportRow, RejectedRow, SuppressionRow
from domain.scope import ALL, MARKETING, checked_scope
from projections.change_feed import Change, changes_after
from projections.worker import catch_up

LOOKED_UP_AT_ONCE: Final = 1000

ListCause = Literal["unsubscribed", "hard_bounce", "complaint", "manual"]

suppressions = typer.Typer(help="Look addresses up, import lists, follow changes.")


@suppressions.command("lookup")
def lookup(
    email: EmailOption = None, file: AddressFileOption = None, account: AccountOption = None, as_json: JsonFlag = False
) -> None:
    """Say whether addresses may not be mailed, in which scope, why and since when. Looking is recorded."""
    output = Output(as_json)
    asked = addresses(email, file)
    with ledger_of(account) as (_, ledger):
        ledger.account()
        found = [
            looked
            for start in range(0, len(asked), LOOKED_UP_AT_ONCE)
            for looked in ledger.suppressions.look_up(asked[start : start + LOOKED_UP_AT_ONCE])
        ]
        ledger.record_view(
            "suppressions lookup", subject=None, parts_opened=sum(bool(f.entries) for f in found), actor=ACTOR
        )
    for looked in found:
        entries = [{"scope": s, "cause": c, "since": day} for s, c, day in looked.entries]
        if as_json:
            output.line({"email": looked.email, "suppressed": bool(entries), "entries": entries})
    if not as_json:
        rows: list[tuple[object, ...]] = []
        for looked in found:
            rows += [(looked.email, *entry) for entry in looked.entries] or [(looked.email, "-", "not suppressed", "-")]
        output.table(["address", "scope", "cause", "since"], rows)


@suppressions.command("import")
def import_suppressions(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV with an e-mail column.")],
    account: AccountOption = None,
    cause: Annotated[ListCause, typer.Option(help="Why these addresses are not mailed.")] = "unsubscribed",
    scope: Annotated[str, typer.Option(help="all, marketing, or purpose:NAME.")] = MARKETING,
    rejects: RejectsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Suppress every address of a list, known here or not. Nothing but a later act of the person lifts it."""
    require_files([file])
    checked_scope(scope)
    reach = ALL if cause == "hard_bounce" and scope == MARKETING else scope

    def rows() -> Iterator[ImportRow]:
        for row in read_contacts(file):
            if isinstance(row, RejectedRow):
                yield row
                continue
            what = (row.email, cause, reach, None, None, None)
            yield SuppressionRow(row.line, row.file, *what, row.cells, row.header)

    run_import(Output(as_json), account, rows, rejects or file.parent, [file])


@suppressions.command("changes")
def changes(
    account: AccountOption = None,
    after: Annotated[
        int | None, typer.Option(min=0, help="The cursor that the last call ended with.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """List what has become unmailable, or mailable again, and which authorisations were recalled, oldest first."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        ledger.account()
        with output.progress("Reading what is new"):
            catch_up(ledger)
        found, cursor = changes_after(ledger.services.reader, ledger.keyring, ledger.tenant, after, limit)
        opened = sum(change.email is not None for change in found)
        ledger.record_view("suppression changes", subject=None, parts_opened=opened, actor=ACTOR)
    for change in found if as_json else ():
        output.line(_change(change))
    if as_json:
        output.line({"next": cursor})
        return
    columns = ["position#", "what", "scope", "cause", "address", "recorded at"]
    rows = [(c.position, c.kind, c.scope, c.cause, c.email, c.recorded_at) for c in found]
    output.table([name.replace("_", " ") for name in columns], rows)
    output.say(f"{counted(len(found), 'change')}. Next time: --after {cursor}")


def _change(change: Change) -> dict[str, Any]:
    return {
        "position": change.position,
        "kind": change.kind,
        "scope": change.scope,
        "cause": change.cause,
        "campaign_id": change.campaign,
        "recorded_at": change.recorded_at,
        "email": change.email,
    }
