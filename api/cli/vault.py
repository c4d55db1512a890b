"""`lethe vault`: the epochs that keys are wrapped under, and the backup horizon that follows from them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.bootstrap import running
from api.cli.options import DryRunFlag, JsonFlag, confirm, instance_of, settings
from api.cli.output import Output, counted
from ledger.application import tenants
from ledger.backup.gate import look
from ledger.custody.journal_check import keep_published, write_journal
from ledger.errors import GateShut
from ledger.keys.epochs import Epoch
from retention.horizon.epoch_facts import tell
from retention.horizon.horizon import EpochState, Horizon, HorizonState

vault = typer.Typer(help="The epochs of the vault: look at them, renew all keys, destroy what is past.")


@vault.command("status")
def status(as_json: JsonFlag = False) -> None:
    """Show each epoch: its age, the keys under it, when its key is destroyed, and what is overdue."""
    output = Output(as_json)
    with instance_of() as instance:
        state = Horizon(instance.services).state()
    columns = ("epoch#", "state", "opened", "age in days#", "keys#", "destroyed on", "overdue")
    output.table(columns, [_row(one) for one in state.epochs])
    output.answer(_object(state), *_said(state))


@vault.command("roll")
def roll(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be renewed, and change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Open the next epoch and renew every key and every person's row into it, while everything goes on.

    The worker does this on schedule. A roll that was cut off goes on where it stopped.
    """
    output = Output(as_json)
    with instance_of() as instance:
        horizon = Horizon(instance.services)
        to_renew, before = horizon.to_renew(), horizon.state()
        current = before.epochs[-1].epoch.number
        if dry_run:
            said = f"Would renew {counted(to_renew, 'key')} and the rows of every person out of epoch {current}."
            output.answer({"dry_run": True, "epoch": current, "keys": to_renew}, said)
            return
        done: dict[str, int] = {}
        with output.progress("Renewing") as bar:
            for step in horizon.roll():
                done[step.stage] = done.get(step.stage, 0) + step.rows
                bar.to(done[step.stage], to_renew if step.stage.endswith("keys") else None)
        epochs = horizon.book.all()
        for tenant in tenants(instance.services.writer):
            tell(instance.ledger(tenant), epochs)
    keys, rows, orphans = (done.get(stage, 0) for stage in ("renew keys", "renew persons", "collect orphans"))
    verified = done.get("verify keys", 0)
    output.answer(
        {"epoch": epochs[-1].number, "keys": keys, "rows": rows, "verified": verified, "orphans": orphans},
        f"Everything is in epoch {epochs[-1].number} now, and was seen to open there: {counted(keys, 'key')} and "
        f"{counted(rows, 'row')} of persons renewed.",
        *(f"The key of epoch {one.number} is destroyed on {one.destroy_on}." for one in epochs if _waits(one)),
    )


@vault.command("destroy-epoch")
def destroy_epoch(
    epoch: Annotated[int, typer.Argument(help="The number of the epoch.", show_default=False)],
    dry_run: DryRunFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Destroy the key of a past epoch in every copy: nothing destroyed in its time can be recovered after that.

    Refused before its day, and while anything living is still under it. The worker does this on schedule.
    """
    output = Output(as_json)
    with instance_of() as instance:
        horizon = Horizon(instance.services)
        found = horizon.require_destroyable(epoch)
        copies = instance.services.vault.provider.copies()
        if dry_run:
            said = f"Would destroy the key of epoch {epoch} in {counted(len(copies), 'copy', 'copies')}."
            answer = {"dry_run": True, "epoch": epoch, "state": found.state, "copies": len(copies)}
            output.answer(answer, said, "Backups of that time could not be read any more.")
            return
        confirm(output, f"Destroy the key of epoch {epoch} in every copy? This cannot be undone.", yes=yes)
        destruction = horizon.destroy(epoch)
        epochs = horizon.book.all()
        for tenant in tenants(instance.services.writer):
            tell(instance.ledger(tenant), epochs)
    copies_gone = [
        {"place": copy.place, "method": copy.method, "gone_after_days": copy.gone_after_days}
        for copy in destruction.copies
    ]
    output.answer(
        {"epoch": epoch, "gone_after_days": destruction.gone_after_days, "copies": copies_gone},
        f"The key of epoch {epoch} is destroyed. What was destroyed in its time opens from no enumerated copy any more"
        + (f", once {destruction.gone_after_days} days have passed." if destruction.gone_after_days else "."),
        *(f"  {copy.place}: {copy.method}" for copy in destruction.copies),
    )


@vault.command("write-journal")
def write_the_journal(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the journal has, and change nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the journal of tombstones again out of the vault's own list, where no copy of it is left.

    What is published of each log is kept beside it again.
    Refused for databases that were restored and not opened again: their list may be older than the journal was.
    """
    output = Output(as_json)
    with running(settings(), application="lethe-cli", gated=False) as instance:
        state = look(instance.services.writer, instance.vault_pool, instance.custody)
        if state.shut:
            raise GateShut(
                "These databases were restored, so that their list of tombstones may be older than the journal was. "
                "Bring back a copy of tombstones.jsonl. Nothing was written."
            )
        if dry_run:
            lines = instance.custody.count()
            output.answer({"dry_run": True, "lines": lines}, f"The journal has {counted(lines, 'line')} now.")
            return
        noted = write_journal(instance.vault_pool, instance.custody)
        keep_published(instance.services.writer, instance.custody)
        lines = instance.custody.count()
    output.answer(
        {"dry_run": False, "lines": lines, "noted": noted},
        f"Noted {counted(noted, 'tombstone')} once more; the journal has {counted(lines, 'line')} now.",
    )


def _row(state: EpochState) -> tuple[Any, ...]:
    epoch = state.epoch
    return (epoch.number, epoch.state, epoch.opened_at, state.age_days, state.wraps, epoch.destroy_on, state.overdue)


def _object(state: HorizonState) -> dict[str, Any]:
    return {
        "epochs": [
            {
                "epoch": one.epoch.number,
                "state": one.epoch.state,
                "opened_at": one.epoch.opened_at,
                "rolled_at": one.epoch.rolled_at,
                "verified_at": one.epoch.verified_at,
                "destroy_on": one.epoch.destroy_on,
                "destroyed_at": one.epoch.destroyed_at,
                "age_days": one.age_days,
                "keys": one.wraps,
                "overdue": one.overdue,
            }
            for one in state.epochs
        ],
        "roll_due_at": state.roll_due_at,
        "accounts_behind": state.accounts_behind,
        "horizon": state.horizon,
        "overdue": state.overdue,
    }


def _said(state: HorizonState) -> list[str]:
    said = [
        f"The next roll is due on {state.roll_due_at:%Y-%m-%d}.",
        f"What is destroyed today cannot be recovered from any enumerated copy after {state.horizon}.",
    ]
    if state.accounts_behind:
        said.append(f"A roll is under way: {counted(state.accounts_behind, 'account')} not renewed yet.")
    return said + [f"Overdue: {overdue}." for overdue in state.overdue]


def _waits(epoch: Epoch) -> bool:
    """Whether an epoch is rolled and only waits for its day."""
    return epoch.state == "verified"
