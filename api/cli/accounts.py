"""`lethe account` and `lethe apikey`: who keeps contacts here, and who may speak for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Annotated
from uuid import UUID, uuid4

import typer

from api.bootstrap import Instance
from api.cli.account_holders import holders, operator_of, record_holders, require_operator
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, AccountOption, DryRunFlag, JsonFlag, addresses, confirm, instance_of, ledger_of
from api.cli.output import Output
from domain.account import Account, AccountOpened
from domain.address import deliverable_address
from domain.facts import opened
from domain.personal import Personal
from ledger.application import API_SCOPES, Ledger, parse_api_key, tenants
from ledger.keys.horizon import require_horizon
from retention.plans.closure import closing_days
from retention.policy.adopting import adopt, announce, newest_in_force, open_under, pack_of
from retention.policy.pack import Pack, load_pack

accounts = typer.Typer(help="Open accounts and list them. An account is a controller with contacts of its own.")
accounts.add_typer(holders, name="holder")
apikeys = typer.Typer(help="Make and revoke keys for the HTTP API.")


@accounts.command("open")
def open_account(
    name: Annotated[str, typer.Option(help="The controller's name; it is sealed.")],
    policy: Annotated[
        str, typer.Option(help="The policy pack that the account lives under: mailkai, mailenium, or one of yours.")
    ] = "mailkai",
    country: Annotated[
        str | None, typer.Option(help="Where the controller is established: two letters (ISO 3166), such as EE.")
    ] = None,
    minimum_age: Annotated[
        int | None,
        typer.Option(
            min=0, max=120, help="The youngest age that may be mailed. Default: the policy's.", show_default=False
        ),
    ] = None,
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="The platform's own account: its subjects are account holders, support contacts, visitors, "
            "prospects and affiliates.",
        ),
    ] = False,
    holder: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Who holds the account, recorded in the operator's own account; - reads one from standard input.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Open an account. Its id is what other commands and the API name it by."""
    output = Output(as_json)
    held_by = [deliverable_address(address) for address in addresses([holder], None)] if holder is not None else []
    code = country.upper() if country else None
    if code is not None and not (len(code) == 2 and code.isascii() and code.isalpha()):
        raise CommandFailed(ExitCode.USAGE, "invalid_country", "A country is two letters (ISO 3166), such as EE.")
    with instance_of() as instance:
        tenant, today = uuid4(), instance.services.clock().date()
        pack = newest_in_force(policy, today)  # Asked first: making a ledger makes its keys.
        if operator:
            _require_first_operator(instance)
        operators = require_operator(instance) if held_by else None
        ledger = instance.ledger(tenant)
        age = open_under(ledger, pack, name=name, country=code, minimum_age=minimum_age, actor=ACTOR, operator=operator)
        if operators is not None:
            record_holders(operators, tenant, held_by)
    output.answer(
        {
            "account_id": tenant,
            "policy": policy,
            "policy_version": pack.version,
            "country": code,
            "minimum_age": age,
            "operator": operator,
            "holders": len(held_by),
        },
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
            "policy_version",
            "country",
            "minimum_age",
            "operator",
            "status",
            "events",
            "opened_at",
        ]
        titles = [
            c.replace("_", " ") + ("#" if c in ("policy_version", "minimum_age", "events") else "") for c in columns
        ]
        output.table(titles, [[row[c] for c in columns] for row in rows])


@accounts.command("adopt")
def adopt_pack(
    pack: Annotated[str, typer.Argument(help="The name of a policy pack, such as mailkai.")],
    version: Annotated[int, typer.Option(min=1, help="Which version of it.")],
    announcing: Annotated[
        bool, typer.Option("--announce", help="Give notice of the change, and leave the account as it is.")
    ] = False,
    effective_on: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="With --announce: the day from which it may be adopted. Default: the earliest.",
            show_default=False,
        ),
    ] = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Live under another version of a policy, or under another policy.

    A version that takes back or shortens anything that was promised needs a notice first that has run its days.
    """
    output = Output(as_json)
    if effective_on is not None and not announcing:
        raise CommandFailed(ExitCode.USAGE, "not_announcing", "--effective-on goes with --announce only.")
    with ledger_of(account) as (instance, ledger):
        wanted = load_pack(pack, version)
        if announcing:
            done = announce(ledger, wanted, effective_on=effective_on and effective_on.date(), actor=ACTOR)
        else:
            _require_horizon(instance, wanted)
            done = adopt(ledger, wanted, actor=ACTOR)
        tenant = ledger.tenant
    notice = done.account.announced.get((wanted.name, wanted.version))
    named = f"version {wanted.version} of {wanted.name}"
    if announcing:
        assert notice is not None
        said = f"Notice given: account {tenant} can adopt {named} from {notice.effective_on} on."
    else:
        said = f"Account {tenant} lives under {named}{'' if done.recorded else ' already'}."
    changes = [f"It changes: {change}." for change in done.weakened if announcing or done.recorded]
    output.answer(
        {
            "account_id": tenant,
            "policy": done.account.pack,
            "policy_version": done.account.pack_version,
            "minimum_age": done.account.minimum_age,
            "recorded": done.recorded,
            "effective_on": notice and notice.effective_on,
            "changes": done.weakened,
        },
        said,
        *changes,
    )


@accounts.command("terminate")
def terminate_account(
    account: AccountOption = None,
    dry_run: DryRunFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """End an account: from now on it sends nothing and takes nothing new in.

    What it holds can be read and exported until the days that are named; its data goes then, by retention plans.
    Until the first of them: lethe account reactivate.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        state = ledger.accounts.state()
        would_be = replace(state, terminated_at=state.terminated_at or ledger.clock())
        if not dry_run:
            if not yes and state.terminated_at is None:
                for sentence in _closing_said(would_be):
                    output.note(sentence)
            confirm(output, f"End account {ledger.tenant}?", yes=yes)
            would_be = ledger.accounts.terminate(actor=ACTOR)
    said = f"Account {ledger.tenant} would be terminated." if dry_run else f"Account {ledger.tenant} is terminated."
    output.answer(_state_row(ledger.tenant, would_be) | {"dry_run": dry_run}, said, *_closing_said(would_be))


@accounts.command("reactivate")
def reactivate_account(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Take a terminated account up again. Possible until the first of its keys is being destroyed."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        state = ledger.accounts.reactivate(actor=ACTOR)
    output.answer(_state_row(ledger.tenant, state), f"Account {ledger.tenant} is active.")


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


def _state_row(tenant: UUID, state: Account) -> dict[str, object]:
    return {
        "account_id": tenant,
        "status": state.status,
        "terminated_at": state.terminated_at,
        "closed_at": state.closed_at,
        "closing": [
            {"class": rule.retention_class, "clause": rule.clause, "due_on": due}
            for rule, due in closing_days(state, pack_of(state))
        ],
    }


def _closing_said(state: Account) -> list[str]:
    """When what goes, one sentence for each day."""
    by_day: dict[date, list[str]] = {}
    for rule, due in closing_days(state, pack_of(state)):
        by_day.setdefault(due, []).append(rule.retention_class)
    return [f"On {day}: {', '.join(classes)} can no longer be opened." for day, classes in by_day.items()]


def _require_first_operator(instance: Instance) -> None:
    """Raise `CommandFailed` where the platform has its own account already."""
    found = operator_of(instance)
    if found is not None:
        raise CommandFailed(
            ExitCode.REFUSED, "operator_exists", f"The operator has an account already: {found.tenant}. There is one."
        )


def _require_horizon(instance: Instance, pack: Pack) -> None:
    """Raise `SettingsRefused` where this installation's epochs are too long for what the pack promises."""
    settings, provider = instance.settings, instance.services.vault.provider
    require_horizon(settings.epoch_days, settings.epoch_kept_days, provider.delay_days, pack.horizon_days)


def _account_row(ledger: Ledger, *, names: bool) -> dict[str, object]:
    state = ledger.accounts.state()
    row: dict[str, object] = {
        "account_id": ledger.tenant,
        "policy": state.pack,
        "policy_version": state.pack_version,
        "country": state.country,
        "minimum_age": state.minimum_age,
        "operator": state.operator,
        "status": state.status,
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
