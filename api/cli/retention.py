"""`lethe retention`: what is due under the account's policy, as a signed plan; and doing exactly that plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import AccountOption, DryRunFlag, JsonFlag, confirm, ledger_of, require_files
from api.cli.output import Bar, Output, counted
from retention.plans.apply import Applied, apply_plan, finish_open_plans
from retention.plans.closure import sweep_closed_classes
from retention.plans.file import read_plan_file, require_fresh, signed
from retention.plans.model import ERASE_HOLDERS, Plan, PlanItem, Touched
from retention.plans.plan import made_again, make_plan
from retention.policy.adopting import pack_of
from retention.policy.pack import load_pack

retention = typer.Typer(help="Plan what a policy's time has run out for, and destroy exactly what was planned.")

NOT_COUNTED: Final = "not counted"
COLUMNS: Final = ("what", "period", "clause", "due on", "events#", "persons#", "kept back by holds")


@retention.command("plan")
def plan(
    account: AccountOption = None,
    pack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Another policy than the account's, to see what it would mean. Such a plan cannot be applied.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the signed plan into this file.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what is due under the account's policy today, and what holds keep back. Destroys nothing.

    With --out the plan is written as a signed file, which is what `lethe retention apply` takes.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        state = ledger.accounts.state()
        under = pack_of(state) if pack is None else load_pack(pack)
        with output.progress("Looking at what is due") as bar:
            made = make_plan(ledger, under, ledger.services.due_clock(), progress=bar.to)
        raw = signed(ledger, made)
    if out is not None:
        _write(out, raw)
    if as_json:
        output.line(made.to_row() | {"file": str(out) if out else None})
        return
    _tell(output, made)
    if out is not None:
        output.say(f"Wrote the plan to {out}. To do it: lethe retention apply {out} --account {made.tenant}")
    elif made.items:
        output.say("To have it done: lethe retention plan --out FILE, then lethe retention apply FILE.")


@retention.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan that `lethe retention plan --out` wrote.")],
    account: AccountOption = None,
    dry_run: DryRunFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Do exactly what a plan says: destroy these keys, for good, and record it.

    Refuses a plan that was changed, is another account's or another policy's, is older than seven days, or is not the
    plan that would be made now. Killed anywhere, it is run again and goes on; done, it does nothing more.
    """
    output = Output(as_json)
    require_files([file])
    with ledger_of(account) as (_, ledger):
        ready = read_plan_file(ledger, file)
        pack = pack_of(ledger.accounts.state())
        if dry_run:
            require_fresh(ready, pack, ledger.services.due_clock())
            same = made_again(ledger, pack, ready).digest == ready.digest
            if as_json:
                output.line(ready.to_row() | {"dry_run": True, "still_true": same})
            else:
                _tell(output, ready)
                output.say(
                    "The plan is still what would be planned now. Nothing was destroyed."
                    if same
                    else "Facts have changed since: this plan would be refused. Make a new one. Nothing was destroyed."
                )
            return
        if not yes:
            _tell(output, ready, stderr=True)
        confirm(output, f"Do {counted(len(ready.items), 'item')} of this plan? This cannot be undone.", yes=yes)
        with output.progress("Applying the plan") as bar:
            applied = apply_plan(ledger, pack, ready, progress=_shown(bar))
        sweep_closed_classes(ledger)
    output.answer(_row(applied), *_done(applied))


@retention.command("resume")
def resume(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Finish plans that were cut off after their intent was recorded. A worker does so by itself."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        with output.progress("Finishing plans") as bar:
            finished = finish_open_plans(ledger, progress=_shown(bar))
        sweep_closed_classes(ledger)
    said = [sentence for applied in finished for sentence in _done(applied)]
    output.answer({"finished": [_row(applied) for applied in finished]}, *(said or ["No plan was cut off."]))


def _shown(bar: Bar) -> Any:
    def show(what: str, done: int, total: int) -> None:
        if what == "items":
            bar.to(done, total)

    return show


def _tell(output: Output, made: Plan, *, stderr: bool = False) -> None:
    """The plan for a person: what goes, and what holds keep back."""
    say = output.note if stderr else output.say
    say(f"Plan {made.plan_id} for {made.as_of}, under version {made.pack_version} of {made.pack}.")
    if made.items and not stderr:
        output.table(COLUMNS, [_cells(item, made.touched.get(item.item)) for item in made.items])
    elif made.items:
        for item in made.items:
            say(f"  {item.item}: clause {item.clause}, due on {item.due_on}")
    else:
        say("Nothing is due.")
    for item in made.kept_back:
        assert item.held is not None
        say(f"Kept back: {item.item}, due on {item.due_on} (clause {item.clause}): {_held(item)}.")
    if any(item.closes_account for item in made.items):
        say("This closes the account: from then on it cannot be reactivated.")


def _cells(item: PlanItem, touched: Touched | None) -> list[object]:
    events = touched.events if touched else None
    persons = touched.persons if touched else item.persons
    return [
        item.retention_class,
        item.period or _whose(item),
        item.clause,
        str(item.due_on),
        NOT_COUNTED if events is None else events,
        NOT_COUNTED if persons is None else persons,
        _held(item) if item.held else None,
    ]


def _whose(item: PlanItem) -> str:
    if item.action == ERASE_HOLDERS:
        return "holders of ended accounts"
    return "everything" if item.persons is None else "persons whose time is over"


def _held(item: PlanItem) -> str:
    assert item.held is not None
    whom = "" if item.held.persons is None else f"{counted(item.held.persons, 'person', 'persons')}, "
    return f"{whom}{item.held.why}" + (f": {', '.join(item.held.holds)}" if item.held.holds else "")


def _row(applied: Applied) -> dict[str, Any]:
    return {
        "plan_id": applied.plan_id,
        "certificate": applied.certificate,
        "items": applied.items,
        "keys_destroyed": applied.keys,
        "persons_spared": applied.spared,
        "account_holders_erased": applied.erased,
        "applied_before": applied.again,
    }


def _done(applied: Applied) -> list[str]:
    if applied.again:
        return [f"Plan {applied.plan_id} was applied before. Nothing was done now."]
    if not applied.items:
        return ["The plan has nothing in it. Nothing was done."]
    said = [
        (
            f"{counted(applied.items, 'item')} done, {counted(applied.keys, 'key')} destroyed: nothing under them "
            "opens here any more, nor within 60 seconds in any running process."
        ),
        f"Certificate: {applied.certificate}",
    ]
    if applied.erased:
        said.append(f"{counted(applied.erased, 'account holder')} erased, each with a certificate of their own.")
    if applied.spared:
        said.append(f"{counted(applied.spared, 'person', 'persons')} spared: something has changed since the plan.")
    return said


def _write(path: Path, raw: bytes) -> None:
    try:
        path.write_bytes(raw)
    except OSError:
        raise CommandFailed(ExitCode.REFUSED, "unwritable_file", f"{path.name} cannot be written here.") from None
