"""`lethe account holder`: which persons are behind an account, noted in the operator's own account."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import typer

from api.bootstrap import Instance
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import (
    ACTOR,
    AccountOption,
    AddressFileOption,
    EmailOption,
    JsonFlag,
    addresses,
    chosen_ledger,
    instance_of,
)
from api.cli.output import Output, counted
from domain.address import deliverable_address
from ledger.application import Ledger, tenants

holders = typer.Typer(help="Say who is behind an account. They are subjects of the operator's own account.")


@holders.command("add")
def add_holder(
    email: EmailOption = None, file: AddressFileOption = None, account: AccountOption = None, as_json: JsonFlag = False
) -> None:
    """Record who holds an account, in the operator's own account. Harmless when it was recorded before.

    A holder is forgotten when the last account of theirs has ended and the days of the operator's policy have run.
    """
    output = Output(as_json)
    found = [deliverable_address(address) for address in addresses(email, file)]
    with instance_of() as instance:
        held = chosen_ledger(instance, account)
        operator = require_operator(instance)
        recorded = record_holders(operator, held.tenant, found)
    known = len(found) - recorded
    output.answer(
        {"account_id": held.tenant, "operator_id": operator.tenant, "recorded": recorded, "known": known},
        f"{counted(recorded, 'holder')} of account {held.tenant} recorded, {known:,} known before.",
    )


def operator_of(instance: Instance) -> Ledger | None:
    """The operator's own account, None where it was not opened yet."""
    ledgers = (instance.ledger(tenant) for tenant in tenants(instance.services.writer))
    return next((ledger for ledger in ledgers if ledger.account().operator), None)


def require_operator(instance: Instance) -> Ledger:
    """The operator's own account. Raises `CommandFailed` where there is none."""
    operator = operator_of(instance)
    if operator is None:
        raise CommandFailed(
            ExitCode.REFUSED,
            "no_operator",
            "Holders are subjects of the operator's own account, and there is none. "
            "Open it first: lethe account open --operator --name NAME",
        )
    return operator


def record_holders(operator: Ledger, account: UUID, found: Sequence[str]) -> int:
    """Record in one transaction that these persons hold an account; returns of how many that was not known."""
    acts = [operator.holders.assignment(account, address, actor=ACTOR) for address in found]
    outcomes, _ = operator.subjects.act(acts)
    for outcome in outcomes:
        if outcome.refused is not None:
            raise outcome.refused
    return sum(bool(outcome.facts) for outcome in outcomes)
