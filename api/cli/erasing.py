"""`lethe erase`: forget persons. The plan is shown first; what is destroyed cannot be brought back."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import typer

from api.cli.erase_plan import ErasePlan, plan_erasure
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import (
    ACTOR,
    AccountOption,
    AddressFileOption,
    DryRunFlag,
    EmailOption,
    JsonFlag,
    addresses,
    confirm,
    ledger_of,
)
from api.cli.output import Output, counted
from domain.subject import ERASURE_REASONS
from ledger.erasures import STATE_HELD, STATE_NOTHING_HELD, ErasureStatus
from retention.erasure.erasing import ErasureOutcome, finish_erasures

PLANS_SHOWN_MAX: Final = 10


def erase(
    email: EmailOption = None,
    file: AddressFileOption = None,
    account: AccountOption = None,
    reason: Annotated[
        str,
        typer.Option(help=f"Why; it stays readable for ever. One of {', '.join(sorted(ERASURE_REASONS))}."),
    ] = "subject_request",
    dry_run: DryRunFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Forget persons: destroy their keys, for good.

    What is kept is that their addresses must not be mailed, and that it was done.
    Addresses that are not held are suppressed all the same. --dry-run shows the plan and changes nothing.
    """
    output = Output(as_json)
    if reason not in ERASURE_REASONS:
        known = ", ".join(sorted(ERASURE_REASONS))
        raise CommandFailed(ExitCode.USAGE, "invalid_reason", f"A reason is one of {known}.")
    found = addresses(email, file)
    with ledger_of(account) as (instance, ledger):
        ledger.account()
        plans = plan_erasure(instance, ledger, found, reason)
        held = sum(plan.held for plan in plans)
        if dry_run:
            output.answer({"dry_run": True, "plan": [plan.as_dict() for plan in plans]}, *_plan_said(plans))
            return
        if not yes:
            for sentence in _plan_said(plans):
                output.note(sentence)
        confirm(output, f"Destroy the keys of {counted(held, 'person', 'persons')}? This cannot be undone.", yes=yes)
        statuses = ledger.erasures.intend(found, reason=reason, actor=ACTOR)
        outcomes: dict[UUID, ErasureOutcome] = {}
        with output.progress("Destroying keys", total=held) as bar:
            while finished := finish_erasures(ledger):
                outcomes |= {outcome.erasure_id: outcome for outcome in finished}
                bar.advance(len(finished))
    rows = [_row(status, outcomes.get(status.erasure_id)) for status in statuses]
    output.answer({"erasures": rows}, *_done_said(statuses, rows))


def _row(status: ErasureStatus, outcome: ErasureOutcome | None) -> dict[str, Any]:
    state = "keys_destroyed" if outcome else status.state
    return {
        "erasure_id": status.erasure_id,
        "state": state,
        "keys": outcome.keys if outcome else 0,
        "classes": list(outcome.classes) if outcome else [],
        "certificate_id": outcome.certificate_id if outcome else None,
    }


def _plan_said(plans: list[ErasePlan]) -> list[str]:
    said = []
    for plan in plans[:PLANS_SHOWN_MAX]:
        if not plan.held:
            said.append(f"Address {plan.number}: nothing is held. It would be suppressed from now on.")
            continue
        keys = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(plan.keys.items()))
        said += [
            f"Address {plan.number}: one person.",
            *(_held_said(plan) if plan.legal_holds else ()),
            f"  keys destroyed:    {counted(sum(plan.keys.values()), 'key')}: {keys}",
            (
                f"  out of reach then: {counted(sum(plan.events.values()), 'event')} about the person, "
                f"and who {counted(plan.message_events, 'message event')} were for"
            ),
            (
                f"  kept:              {counted(plan.suppressions, 'suppression')} (all mail, cause erased); "
                "the events themselves, which nobody can open or connect any more"
            ),
            *(f"  kept by law:       {name}: {why}" for name, why in sorted(plan.kept.items())),
        ]
    if len(plans) > PLANS_SHOWN_MAX:
        rest = plans[PLANS_SHOWN_MAX:]
        said.append(f"And {len(rest):,} more addresses, of which {sum(p.held for p in rest):,} are held.")
    return said


def _held_said(plan: ErasePlan) -> list[str]:
    holds = counted(plan.legal_holds, "legal hold")
    return [f"  not now:           {holds}; it waits for the end of the last one, and nothing is sent meanwhile"]


def _done_said(statuses: list[ErasureStatus], rows: list[dict[str, Any]]) -> list[str]:
    nothing = sum(status.state == STATE_NOTHING_HELD for status in statuses)
    waiting = sum(status.state == STATE_HELD for status in statuses)
    keys = sum(row["keys"] for row in rows)
    forgotten = counted(len(rows) - nothing - waiting, "person", "persons")
    said = [
        (
            f"{forgotten} forgotten, {counted(keys, 'key')} destroyed: "
            "nothing of them opens here any more, nor within 60 seconds in any running process."
        )
    ]
    if waiting:
        persons = counted(waiting, "person", "persons")
        said.append(f"{persons} under a legal hold: forgotten when it ends; until then nothing is sent to them.")
    if nothing:
        said.append(f"{counted(nothing, 'address', 'addresses')} not held; suppressed all the same.")
    said.append(
        "Backups of the vault made before today hold these keys until the epoch key of their time is destroyed."
    )
    said += [f"  erasure {row['erasure_id']}: {row['state'].replace('_', ' ')}" for row in rows[:PLANS_SHOWN_MAX]]
    return said
