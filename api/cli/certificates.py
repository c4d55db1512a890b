"""`lethe certificate` and `lethe signing-key`: what was destroyed, in words that can be shown, filed and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import OutOption, new_file
from api.cli.options import AccountOption, JsonFlag, ledger_of
from api.cli.output import Output, counted
from domain.facts import NIL
from ledger.certificate_format import BYTES_MAX, checked_certificate, digest_of
from ledger.signing import ALGORITHM, PUBLIC_KEY_BYTES, verify_key
from retention.certificates.exports import is_of_many
from retention.certificates.pdf import certificate_pdf
from retention.certificates.store import Certificate, certificate, certificates_of_day, exported

certificates = typer.Typer(help="Show, check and export certificates of destruction.")

Format = Literal["json", "pdf"]

EXPORTS_OF_PERSON: Final = "Exports about this person, out of reach"
EXPORTS_OF_MANY: Final = "Exports about many persons with parts opened: they may hold something of what was destroyed"
LISTED_MAX: Final = 1_000
CertificateArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The certificate's id, or that of the erasure it is about.")
]


@certificates.command("show")
def show(certificate_id: CertificateArgument, account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Show a certificate: what was destroyed, since when it is unreachable, what was kept, what is out of reach."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        held = certificate(ledger, _id(certificate_id))
    output.answer(held.document, *_said(held))
    if not as_json:
        _tables(output, held.document)


@certificates.command("list")
def list_of_day(
    day: Annotated[str, typer.Argument(metavar="DAY", help="The day of the destruction (UTC), such as 2026-11-21.")],
    after: Annotated[
        str | None, typer.Option("--after", metavar="ID", help="Go on after this certificate.", show_default=False)
    ] = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the certificates of one day by id. An erased value names the day it was destroyed on, and no certificate."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger), ledger.services.writer.transaction() as connection:
        begin = _id(after) if after else NIL
        found = certificates_of_day(connection, ledger.tenant, _day(day), begin, LISTED_MAX)
    rows = [_row(held) for held in found]
    for row in rows if as_json else ():
        output.line(row)
    if not rows:
        output.say("No certificate is of this day.")
    else:
        output.table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])


@certificates.command("verify")
def verify(
    wanted: Annotated[
        str, typer.Argument(metavar="FILE_OR_ID", help="A certificate in JSON; or an id, to check what is stored here.")
    ],
    public_key: Annotated[
        str | None,
        typer.Option(
            "--public-key",
            metavar="HEX",
            help="The account's public key, as lethe signing-key shows it. Needed for a file: no ledger is asked then.",
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a certificate: its signature, its list of keys, and each key's path to what was published. Changes nothing.

    A file is checked without a network and without a database; only the public key is needed.
    """
    output = Output(as_json)
    path = Path(wanted)
    if path.exists():
        document = checked_certificate(_read(path), _key(public_key))
    else:
        with ledger_of(account) as (_, ledger):
            held = certificate(ledger, _id(wanted))
            trusted = _key(public_key) if public_key else verify_key(ledger.keyring)
            document = checked_certificate(orjson.dumps(exported(ledger, held)), trusted)
    listed = document["keys"]["list"]
    output.answer(
        {"valid": True, "certificate_id": document["id"], "stage": document["stage"], "digest": digest_of(document)},
        f"Certificate {document['id']} is signed by this key and was not changed. Stage {document['stage']}, "
        f"revision {document['revision']}.",
        f"Its {counted(listed['keys'], 'key')} lead to the roots that are named." if listed else "It lists no keys.",
        "What this does not show: that the roots and the digest stand in the log. An auditor compares them there.",
    )


@certificates.command("export")
def export(
    certificate_id: CertificateArgument,
    form: Annotated[
        Format, typer.Option("--format", help="json is what is signed; pdf is for the file, with the JSON inside.")
    ] = "json",
    out: OutOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a certificate with its list of keys, as JSON or as PDF."""
    output = Output(as_json)
    if as_json and (form == "pdf" and out is None):
        raise CommandFailed(ExitCode.USAGE, "out_needed", "A PDF and --json do not fit one output. Name a file: --out.")
    with ledger_of(account) as (_, ledger):
        held = exported(ledger, certificate(ledger, _id(certificate_id)))
    content = certificate_pdf(held) if form == "pdf" else _json(held)
    if out is None:
        typer.echo(content.decode() if form == "json" else content, nl=form == "json")
        return
    with new_file(out) as file:
        file.write(content)
    said = {"certificate_id": held["certificate"]["id"], "format": form, "file": str(out), "bytes": len(content)}
    output.answer(said, f"Wrote {out} ({counted(len(content), 'byte')}).")


def signing_key(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Show the account's public key. Give it to whoever checks certificates, by another way than the certificates."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        ledger.account()
        key = verify_key(ledger.keyring).hex()
        tenant = ledger.tenant
    output.answer({"account_id": tenant, "algorithm": ALGORITHM, "public_key": key}, key)


def _said(held: Certificate) -> list[str]:
    said = held.document
    until = said["unrecoverable_from"]
    return [
        f"Certificate {said['id']}, stage {said['stage']}, revision {said['revision']}, issued {said['issued_on']}.",
        *said["statements"],
        f"Unrecoverable from {until}." if until else f"Horizon: {said['horizon']}.",
        f"Destroyed: every key of {', '.join(said['keys']['classes'])}.",
    ]


def _tables(output: Output, said: Mapping[str, Any]) -> None:
    kept = [[row["class"], row["limb"], row["why"]] for row in said["kept"]]
    output.table(["class", "limb", "why"], kept, title="What was kept")
    inventory = [[row["artefact"], row["held"], row["state"]] for row in said["inventory"]]
    output.table(["artefact", "what it held", "state"], inventory, title="Where it had been")
    if said.get("exports"):
        for of_many, title in ((False, EXPORTS_OF_PERSON), (True, EXPORTS_OF_MANY)):
            left = [
                [row["month"], row["kind"], row["opened"], row["count"]]
                for row in said["exports"]
                if is_of_many(row) == of_many
            ]
            if left:
                output.table(["month", "kind", "opened", "count#"], left, title=title)
    windows = [[row["what"], row["until"], row["why"]] for row in said["windows"]]
    output.table(["what", "until", "why"], windows, title="Still open for a while")
    for sentence in said["still_possible"]:
        output.say(sentence)


def _row(held: Certificate) -> dict[str, Any]:
    said = held.document
    return {
        "certificate_id": held.certificate_id,
        "about": held.kind,
        "stage": held.stage,
        "unreachable_from": said["unreachable_from"],
        "horizon": said["horizon"],
        "unrecoverable_from": said["unrecoverable_from"],
    }


def _json(held: Mapping[str, Any]) -> bytes:
    return orjson.dumps(held, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandFailed(
            ExitCode.USAGE, "invalid_certificate", "A certificate's id is a UUID, as the erasure or the plan shows it."
        ) from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandFailed(ExitCode.USAGE, "invalid_day", "A day is written as 2026-11-21.") from None


def _key(text: str | None) -> bytes:
    try:
        key = bytes.fromhex(text or "")
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_BYTES:
        raise CommandFailed(
            ExitCode.USAGE,
            "public_key_needed",
            "Give the account's public key, 64 hex digits: --public-key HEX. Take it from lethe signing-key or from "
            "whoever keeps the account, not from the certificate.",
        )
    return key


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(
            ExitCode.NOT_FOUND, "unreadable_file", f"{path.name} cannot be read: {os.strerror(error.errno or 0)}."
        ) from None
