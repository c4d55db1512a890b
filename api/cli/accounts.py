"""`lethe account` and `lethe apikey`: who keeps contacts here, and who may speak for them."""

from __future__ import annotations

from typing import Annotated, Final, Literal
from uuid import uuid4

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, AccountOption, JsonFlag, instance_of, ledger_of
from api.cli.output import Output
from domain.account import AccountOpened
from domain.facts import opened
from domain.personal import Personal
from ledger.application import API_SCOPES, Ledger, parse_api_key, tenants

Policy = Literal["mailkai", "mailenium"]

MINIMUM_AGE_OF_POLICY: Final[dict[Policy, int]] = {"mailkai": 16, "mailenium": 0}
"""The youngest age that a policy lets an account mail, in years (Mailkai 11); the law's own ages hold besides."""

accounts = typer.Typer(help="Open accounts and list them. An account is a controller with contacts of its own.")
apikeys = typer.Typer(help="Make and revoke keys for the HTTP API.")


@accounts.command("open")
def open_account(
    name: Annotated[str, typer.Option(help="The controller's name; it is sealed.")],
    policy: Annotated[Policy, typer.Option(help="The privacy policy that the account lives under.")] = "mailkai",
    country: Annotated[
        str | None, typer.Option(help="Where the controller is established: two letters (ISO 3166), such as EE.")
    ] = None,
    minimum_age: Annotated[
        int | None,
        typer.Option(
            min=0, max=120, help="The youngest age that may be mailed. Default: the policy's.", show_default=False
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Open an account. Its id is what other commands and the API name it by."""
    output = Output(as_json)
    code = country.upper() if country else None
    if code is not None and not (len(code) == 2 and code.isascii() and code.isalpha()):
        raise CommandFailed(ExitCode.USAGE, "invalid_country", "A country is two letters (ISO 3166), such as EE.")
    age = MINIMUM_AGE_OF_POLICY[policy] if minimum_age is None else minimum_age
    with instance_of() as instance:
        tenant = uuid4()
        instance.ledger(tenant).open_account(name=name, pack=policy, country=code, minimum_age=age, actor=ACTOR)
    output.answer(
        {"account_id": tenant, "policy": policy, "country": code, "minimum_age": age},
        f"Opened account {tenant} under the {policy} policy.",
        f"Next: lethe apikey create --account {tenant}   or   lethe contacts import --account {tenant} FILE",
    )


@accounts.command("list")
def list_accounts(
    names: Annotated[bool, typer.Option("--names", help="Open the accounts' names as well; that is recorded.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the accounts: ids, policies, how many events each has."""
    output = Output(as_json)
    with instance_of() as instance:
        rows = [_account_row(instance.ledger(tenant), names=names) for tenant in tenants(instance.services.writer)]
    for row in rows if as_json else ():
        output.line(row)
    if not rows:
        output.say("There is no account yet. Open one: lethe account open --name NAME --country EE")
    else:
        columns = [
            "account_id",
            *(["name"] if names else []),
            "policy",
            "country",
            "minimum_age",
            "events",
            "opened_at",
        ]
        titles = [c.replace("_", " ") + ("#" if c in ("minimum_age", "events") else "") for c in columns]
        output.table(titles, [[row[c] for c in columns] for row in rows])


@apikeys.command("create")
def create_key(
    account: AccountOption = None,
    scope: Annotated[
        list[str] | None, typer.Option(help=f"What the key may do; may be repeated: {', '.join(API_SCOPES)}.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an API key and show it this once; the ledger keeps a hash of it only."""
    output = Output(as_json)
    scopes = scope or ["campaign"]
    if not set(scopes) <= set(API_SCOPES):
        raise CommandFailed(ExitCode.USAGE, "unknown_scope", f"A scope is one of {', '.join(API_SCOPES)}.")
    with ledger_of(account) as (_, ledger):
        ledger.account()
        key = ledger.issue_api_key(scopes, actor=ACTOR)
        tenant = ledger.tenant
    key_id = _key_id(key)
    output.answer(
        {"api_key": key, "key_id": key_id, "account_id": tenant, "scopes": scopes},
        key,
        "This is the only time the key is shown. Send it as: Authorization: Bearer KEY",
        f"To make it stop working: lethe apikey revoke {key_id} --account {tenant}",
    )


@apikeys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's public id (16 hex digits), not the key.")],
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make an API key stop working, at once and for good."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        if not ledger.revoke_api_key(key_id, actor=ACTOR):
            raise CommandFailed(
                ExitCode.NOT_FOUND, "unknown_key", "This account has no living key of that id. Keys have 16 hex digits."
            )
    output.answer({"revoked": key_id}, f"Key {key_id} has stopped working.")


def _account_row(ledger: Ledger, *, names: bool) -> dict[str, object]:
    state = ledger.account()
    row: dict[str, object] = {
        "account_id": ledger.tenant,
        "policy": state.pack,
        "country": state.country,
        "minimum_age": state.minimum_age,
        "opened_at": state.opened_at,
    }
    if names:
        row["name"] = _name(ledger)
    return row | {"events": ledger.log.max_notification_id() or 0}


def _name(ledger: Ledger) -> str | None:
    """The account's name, after it was recorded that it is read (I8)."""
    stored = ledger.log.select_events(ledger.tenant, lte=1)
    fact = ledger.sealing.to_domain_event(stored[0])
    assert isinstance(fact, AccountOpened)
    if isinstance(fact.name, Personal):
        ledger.record_view("account name", subject=None, parts_opened=1, actor=ACTOR)
    name: str | None = opened(fact.name)
    return name


def _key_id(key: str) -> str:
    parsed = parse_api_key(key)
    assert parsed is not None
    return parsed[1]
