"""`lethe log mend-tiles`: wrong tiles made anew from the events, where everything else about the log is whole."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from api.bootstrap import LEDGER_DATABASE, Instance, running
from api.cli.failures import ExitCode
from api.cli.fsck import held_outside
from api.cli.options import ACTOR, AccountOption, JsonFlag, chosen_ledger, confirm, settings
from api.cli.output import Output, counted, shown
from audit.fsck import LogLies, require_whole_log
from audit.fsck.mending import TilePlan, mend, tile_plan
from audit.log.facts import record_facts
from domain.log import LogTilesMending
from ledger.application import Ledger
from ledger.backup.gate import look
from ledger.errors import GateShut, SettingsRefused

NOT_CONFIRMED: Final = "This writes what is published. Look at it with --dry-run, then add --yes."


def mend_tiles(
    account: AccountOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is wrong, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make wrong hash tiles of a log anew from its events.

    Only where the events give the root of every checkpoint that was published or kept, and nothing else is wrong;
    otherwise nothing is written, the first lie is named, and it ends with 6. Runs as the owner of the database:
    LETHE_LEDGER_OWNER_URL. Recorded in the log. Killed anywhere, it is run again.
    """
    output = Output(as_json)
    # Also behind a gate that a wrong tile has shut.
    with running(settings(), application="lethe-cli", gated=False) as instance:
        ledger = chosen_ledger(instance, account)
        if not dry_run:
            _require_not_restored(instance)
        try:
            _mend(output, instance, ledger, dry_run=dry_run, yes=yes)
        except LogLies as lies:
            _refused(output, ledger.tenant, lies)
            raise typer.Exit(ExitCode.INCIDENT) from None


def _mend(output: Output, instance: Instance, ledger: Ledger, *, dry_run: bool, yes: bool) -> None:
    tenant, source = ledger.tenant, instance.urls.writer
    with ExitStack() as stack:
        with output.progress(f"Checking the log of {tenant}") as bar:
            plan = stack.enter_context(tile_plan(source, tenant, held_outside(instance, tenant), told=bar.to))
        if dry_run or not plan.count:
            output.answer(_as_object(plan) | {"dry_run": dry_run, "mended": False}, *_planned(plan))
            return
        owner_url = _owner_url(instance)
        if not yes:
            for sentence in _planned(plan):
                output.note(sentence)
        confirm(output, f"Mend {counted(plan.count, 'tile')}?", yes=yes, refusal=NOT_CONFIRMED)
        with output.progress("Mending tiles") as bar:
            mend(owner_url, plan, begun=lambda: _record(ledger, plan), told=bar.to)
    with output.progress("Checking again") as bar:
        found = require_whole_log(source, tenant, held_outside(instance, tenant), told=bar.to)
    output.answer(
        _as_object(plan) | {"dry_run": False, "mended": True},
        f"{counted(plan.count, 'tile')} mended. Checked again: the log of {tenant} is whole, "
        f"{counted(found.events, 'event')}, {counted(found.tiles, 'tile')}.",
    )


def _require_not_restored(instance: Instance) -> None:
    services = instance.services
    if look(services.writer, services.vault.pool, instance.custody).restored:
        raise GateShut("A database was restored from a backup. First: lethe reopen --dry-run.")


def _owner_url(instance: Instance) -> str:
    if instance.server is not None:
        return instance.server.url(LEDGER_DATABASE)
    if instance.settings.ledger_owner_url is None:
        raise SettingsRefused("Mending runs as the owner of the ledger's database: set LETHE_LEDGER_OWNER_URL.")
    return instance.settings.ledger_owner_url


def _record(ledger: Ledger, plan: TilePlan) -> None:
    """That tiles are written anew is in the log before the first of them is."""
    fact = LogTilesMending(
        damaged=plan.damaged,
        missing=plan.missing,
        surplus=plan.surplus,
        size=plan.whole.events,
        root=plan.whole.root.hex(),
    )
    with ledger.appender.locked() as locked:
        record_facts(ledger, locked, [fact], ACTOR)


def _refused(output: Output, tenant: UUID, lies: LogLies) -> None:
    output.answer(
        {"account_id": tenant, "mended": False, "lie": lies.lie.as_object()},
        f"More is wrong with the log of {tenant} than tiles.",
        f"  {shown(lies.lie.said())}",
        "  Tiles may be all that tells what was published. Keep the database as it is, and compare it with a backup.",
    )


def _as_object(plan: TilePlan) -> dict[str, Any]:
    return {
        "account_id": plan.tenant,
        "damaged": plan.damaged,
        "missing": plan.missing,
        "surplus": plan.surplus,
        "events": plan.whole.events,
        "root": plan.whole.root.hex(),
        "published": plan.whole.published,
        "checkpoints": plan.whole.counts.checkpoints,
        "first": [{"series": one.series, "level": one.name.level, "number": one.name.number} for one in plan.first],
    }


def _planned(plan: TilePlan) -> list[str]:
    said = [
        (
            f"The {counted(plan.whole.events, 'event')} of the log of {plan.tenant} give the root of each of its "
            f"{counted(plan.whole.counts.checkpoints, 'checkpoint')}."
        )
    ]
    if not plan.count:
        return [*said, "Every tile holds what they give. There is nothing to mend."]
    wrong = (
        f"{counted(plan.damaged, 'tile')} do not hold what they give, {plan.missing:,} are not there, and "
        f"{plan.surplus:,} should not be there."
    )
    shown_first = "; ".join(f"{one.name.number:,} of level {one.name.level}" for one in plan.first)
    return [*said, wrong, *([f"To be written anew, first: {shown_first}."] if plan.first else [])]
