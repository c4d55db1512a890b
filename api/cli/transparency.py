"""`lethe log`: the transparency log of an account, what is published of it, and the keys that sign it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli.options import ACTOR, AccountOption, JsonFlag, ledger_of
from api.cli.output import Output, counted
from api.cli.proving import outside_as_dict, outside_said
from audit.log.keys import retire, rotate
from audit.log.outside import outside_status
from audit.log.status import LogStatus, log_status
from audit.log.store import LogKey, log_keys

log = typer.Typer(help="The transparency log: what is published, and the keys that sign it.")


@log.command("status")
def status(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Show what is published of an account's log: its name, size and root, and how far it is behind."""
    output = Output(as_json)
    with ledger_of(account) as (instance, ledger):
        ledger.account()
        with instance.services.writer.transaction() as connection:
            found = log_status(connection, ledger.tenant)
            others = outside_status(connection, ledger.tenant, instance.witnesses, instance.timestamp_authority)
    output.answer(_object(found) | outside_as_dict(others), *_said(found), *outside_said(others))


@log.command("keys")
def keys(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Show the verifier keys: what whoever checks the log is given, once, by a way they trust."""
    output = Output(as_json)
    with ledger_of(account) as (instance, ledger):
        ledger.account()
        with instance.services.writer.transaction() as connection:
            found = log_keys(connection, ledger.tenant)
    output.answer({"keys": [_key(key) for key in found]}, *_keys_said(found))


@log.command("rotate")
def rotate_key(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Open one more key, which signs beside the others from the next checkpoint on.

    Give its verifier key to those who check the log; when they have it, retire the old one.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        ledger.account()
        opened = rotate(ledger, actor=ACTOR)
    output.answer(
        _key(opened),
        f"Key {opened.key_id} signs every checkpoint from now on, beside the others. Its verifier key:",
        f"  {opened.verifier_key}",
        "When everybody who checks has it, retire the old one: lethe log retire KEYID.",
    )


@log.command("retire")
def retire_key(
    key: Annotated[str, typer.Argument(metavar="KEYID", help="The key's id: 8 hexadecimal digits.")],
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a key sign nothing more. What it signed stays signed; the last key cannot be retired."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        ledger.account()
        retired = retire(ledger, key, actor=ACTOR)
    output.answer(_key(retired), f"Key {retired.key_id} signs nothing more. Keep its verifier key for what it signed.")


def _object(found: LogStatus) -> dict[str, Any]:
    checkpoint = found.checkpoint
    return {
        "account": found.tenant.hex,
        "origin": found.series.origin if found.series else None,
        "series": found.series.series if found.series else None,
        "size": checkpoint.size if checkpoint else 0,
        "root": checkpoint.root.hex() if checkpoint else None,
        "published_at": checkpoint.published_at if checkpoint else None,
        "events": found.head,
        "lag_events": found.lag_events,
        "waiting_since": found.waiting_since,
        "cosigned_size": found.cosigned_size,
        "cosigned_by": found.cosigned_by,
        "keys": [key.key_id for key in found.keys],
    }


def _said(found: LogStatus) -> list[str]:
    if found.checkpoint is None or found.series is None:
        return ["Nothing of this log is published yet. The worker does that: lethe worker."]
    size, published_at = found.checkpoint.size, f"{found.checkpoint.published_at:%Y-%m-%d %H:%M:%SZ}"
    said = [
        found.series.origin,
        f"{counted(size, 'event')} published at {published_at}, root {found.checkpoint.root.hex()}.",
        f"Signed by {', '.join(key.key_id for key in found.keys)}.",
    ]
    if found.cosigned_size:
        said.append(f"Witnesses cosigned {found.cosigned_size:,} events ({found.cosigned_by} of them).")
    if found.lag_events:
        said.append(f"{counted(found.lag_events, 'event')} not published yet. Is lethe worker running?")
    return said


def _key(key: LogKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "verifier_key": key.verifier_key,
        "series": key.series,
        "opened_at": key.opened_at,
        "retired_at": key.retired_at,
    }


def _keys_said(keys: list[LogKey]) -> list[str]:
    if not keys:
        return ["This log has no key yet. The worker opens it: lethe worker."]
    return [line for key in keys for line in (_key_said(key), f"  {key.verifier_key}")]


def _key_said(key: LogKey) -> str:
    since = f"{key.key_id}, since {key.opened_at:%Y-%m-%d}"
    return f"{since}, retired on {key.retired_at:%Y-%m-%d}" if key.retired_at else since
