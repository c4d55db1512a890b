"""`lethe prove` and `lethe log export`: what somebody else checks the log with, as files."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import typer
from psycopg import Connection

from api.bootstrap import Instance
from api.cli.files import new_file
from api.cli.options import ACTOR, AccountOption, JsonFlag, ledger_of
from api.cli.output import Output, counted
from audit.log.export import Exported, export_log
from audit.log.outside import Outside
from audit.log.proofs import proven_entry
from audit.log.reading import reading
from ledger.application import Ledger

EXPORT_KIND = "log"


def prove(
    position: Annotated[int, typer.Argument(min=1, help="The event's position in the log.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the proof to this new file. Default: standard output.")
    ] = None,
    entry: Annotated[
        Path | None,
        typer.Option("--entry", help="Write the event's entry to this new file: the bytes that the proof is of."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Prove it under the checkpoint of this size.")
    ] = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove that an event is in the log: a C2SP tlog-proof, which others check with software that is not ours."""
    output = Output(as_json)
    with ledger_of(account) as (instance, ledger):
        ledger.account()
        with reading(instance.services.reader, ledger.tenant) as connection:
            proof, content = proven_entry(connection, ledger.tenant, position, policy=instance.witnesses, size=size)
    text = proof.format()
    for path, bytes_of in ((out, text), (entry, content)):
        if path is not None:
            with new_file(path) as file:
                file.write(bytes_of)
    if as_json:
        output.line({"position": position, "proof": text.decode(), "out": None if out is None else str(out)})
    elif out is None:
        sys.stdout.write(text.decode())
    else:
        output.say(f"The proof of position {position:,} is in {out}.")


def export(
    folder: Annotated[Path, typer.Argument(help="An empty folder, a new one, or an older export of this log.")],
    entries: Annotated[
        bool, typer.Option("--entries", help="Write the entries as well; that they left the house is recorded.")
    ] = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the published log into a folder of plain files, laid out as C2SP tlog-tiles says.

    An older export of the same log is taken further. A folder of anything else is refused.
    """
    output = Output(as_json)
    with ledger_of(account) as (instance, ledger):
        ledger.account()
        with output.progress("Exporting") as bar:
            done = export_log(
                folder,
                lambda: _reading(instance, ledger),
                ledger.tenant,
                policy=instance.witnesses,
                entries=entries,
                progress=bar.to,
                before_entries=lambda size: _record(ledger, size),
            )
    output.answer(
        {"folder": str(folder), "size": done.size, "size_before": done.before, "files": done.files},
        _said(done, folder),
    )


def outside_as_dict(outside: Outside) -> dict[str, Any]:
    """For `lethe log status --json`: what is served, and who is asked about it."""
    return {
        "served_size": outside.served_size,
        "witnesses_needed": outside.witnesses_needed,
        "stamped_size": outside.stamped_size,
        "stamped_at": outside.stamped_at,
        "asked": [
            {
                "kind": one.kind,
                "name": one.name,
                "size": one.size,
                "failing_since": one.failing_since,
                "why": one.why,
            }
            for one in outside.asked
        ],
    }


def outside_said(outside: Outside) -> list[str]:
    """For `lethe log status`: the same in sentences."""
    said = []
    if outside.behind_events:
        waiting = f"{outside.witnesses_needed} witnesses" if outside.witnesses_needed > 1 else "a witness"
        said.append(
            f"Served up to {outside.served_size:,}: {counted(outside.behind_events, 'event')} wait for {waiting}."
        )
    if outside.stamped_at is not None:
        said.append(f"Stamped at {outside.stamped_size:,} events, {outside.stamped_at:%Y-%m-%d %H:%M:%SZ}.")
    for one in outside.asked:
        if one.failing_since is not None:
            said.append(f"{one.name} fails since {one.failing_since:%Y-%m-%d %H:%M:%SZ}. {one.why}")
    return said


def _reading(instance: Instance, ledger: Ledger) -> AbstractContextManager[Connection[Any]]:
    return reading(instance.services.reader, ledger.tenant)


def _record(ledger: Ledger, size: int) -> None:
    """That entries leave the house is a fact before the first of them does (I8)."""
    ledger.record_export(EXPORT_KIND, f"entries to size {size}", entries=size, opened=0, actor=ACTOR)


def _said(done: Exported, folder: Path) -> str:
    size = counted(done.size, "event")
    if done.before == done.size:
        return f"{folder} has this log up to {size} already."
    return f"{folder} has this log up to {size}; {counted(done.files, 'file')} written."
