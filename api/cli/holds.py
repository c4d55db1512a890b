"""`lethe hold`: place, widen, release, list and show legal holds.

What a hold says in words is sealed and opened by `show` only, which is recorded. A release takes up what had waited,
which destroys keys: it shows first what that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import (
    ACTOR,
    AccountOption,
    AddressFileOption,
    DryRunFlag,
    EmailOption,
    JsonFlag,
    addresses,
    campaign_id,
    confirm,
    ledger_of,
)
from api.cli.output import Output, counted
from domain.hold import HELD_CLASSES, HoldRefused, Period, TooLate
from ledger.application import Ledger
from ledger.holds import HoldOn, HoldRow, HoldWords
from retention.erasure.erasing import finish_erasures
from retention.holds.releasing import DueOnRelease, due_on_release, finish_holds

REVIEW_AFTER: Final = timedelta(days=90)
IDS_SHOWN_MAX: Final = 10

holds = typer.Typer(help="Legal holds: what must not be destroyed while a matter is open.")

HoldArgument = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, as place or list shows it.")]
CampaignOption = Annotated[
    list[str] | None, typer.Option("--campaign", metavar="ID", help="A campaign; may be repeated.", show_default=False)
]
PeriodOption = Annotated[
    list[str] | None,
    typer.Option(
        "--period",
        metavar="CLASS:PERIOD",
        help=f"A month or day of a class, such as engagement:2026-11; may be repeated. Classes: "
        f"{', '.join(sorted(HELD_CLASSES))}.",
        show_default=False,
    ),
]
WholeFlag = Annotated[bool, typer.Option("--whole-account", help="Everything of the account.")]
ReasonOption = Annotated[str | None, typer.Option(help="Why; sealed.", show_default=False)]
ReviewOption = Annotated[
    str | None,
    typer.Option(metavar="YYYY-MM-DD", help="The day by which it is looked at again.", show_default=False),
]


@holds.command("place")
def place(
    matter: Annotated[str, typer.Option(help="What it is about; sealed.")],
    reason: Annotated[str, typer.Option(help="Why; sealed.")],
    owner: Annotated[str, typer.Option(help="Who answers for it and looks at it again; sealed.")],
    email: EmailOption = None,
    file: AddressFileOption = None,
    campaign: CampaignOption = None,
    period: PeriodOption = None,
    whole_account: WholeFlag = False,
    review_on: ReviewOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Place a hold on persons, campaigns, periods, or the whole account.

    From then on nothing of it is destroyed: erasures wait, and so does retention.
    Without --review-on it is looked at again in ninety days.
    Ends with code 8 where a plan was destroying a part of it already; the hold stands for the rest.
    """
    output = Output(as_json)
    target = _target(email, file, campaign, period, whole_account)
    if target is None:
        raise CommandFailed(
            ExitCode.USAGE,
            "no_target",
            "Say what is to be held: --email or --file, --campaign, --period, or --whole-account.",
        )
    with ledger_of(account) as (_, ledger):
        ledger.account()
        day = _day(review_on) or ledger.clock().date() + REVIEW_AFTER
        row = ledger.holds.place(target, matter=matter, reason=reason, owner=owner, review_on=day, actor=ACTOR)
        told = _row(row, ledger)
    said = [f"Held: {_speaks_of(row)}.", f"  hold:   {row.hold_id}", f"  review: by {row.review_on}"]
    output.answer(told, *said, *_too_late_said(row.too_late))
    _end(row)


@holds.command("widen")
def widen(
    hold: HoldArgument,
    email: EmailOption = None,
    file: AddressFileOption = None,
    campaign: CampaignOption = None,
    period: PeriodOption = None,
    whole_account: WholeFlag = False,
    reason: ReasonOption = None,
    review_on: ReviewOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a hold speak of more, or look at it again on another day.

    What it held it goes on holding.
    """
    output = Output(as_json)
    target = _target(email, file, campaign, period, whole_account)
    if target is None and review_on is None:
        raise CommandFailed(
            ExitCode.USAGE, "no_target", "Say what else is to be held, or by when it is looked at again: --review-on."
        )
    with ledger_of(account) as (_, ledger):
        row = ledger.holds.widen(_id(hold), target=target, review_on=_day(review_on), reason=reason, actor=ACTOR)
        told = _row(row, ledger)
    said = [f"Held: {_speaks_of(row)}.", f"  review: by {row.review_on}"]
    output.answer(told, *said, *_too_late_said(row.too_late))
    _end(row)


@holds.command("release")
def release(
    hold: HoldArgument,
    reason: ReasonOption = None,
    dry_run: DryRunFlag = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")] = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End a hold, and take up what had waited for it.

    --dry-run shows what becomes due and changes nothing.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        hold_id = _id(hold)
        row, _words = ledger.holds.show(hold_id)
        due = due_on_release(ledger, hold_id) if row.state == "active" else DueOnRelease((), 0)
        if dry_run:
            output.answer({"dry_run": True, **_row(row, ledger), **_due(due)}, *_due_said(due))
            return
        if not yes:
            for sentence in _due_said(due):
                output.note(sentence)
        confirm(output, "Release the hold? What becomes due is destroyed, which cannot be undone.", yes=yes)
        ledger.holds.release(hold_id, reason=reason, actor=ACTOR)
        with output.progress("Taking up what had waited"):
            finish_holds(ledger)
            while finish_erasures(ledger):
                pass
        row, _words = ledger.holds.show(hold_id)
        told = _row(row, ledger) | _due(due)
    output.answer(told, f"The hold is {row.state}.", *_due_said(due, done=True))


@holds.command("list")
def list_holds(
    active: Annotated[bool, typer.Option("--active", help="Only those that hold now.")] = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the holds. Their words stay sealed.

    Those whose review date has passed are marked.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        rows = [row for row in ledger.holds.every() if row.state == "active" or not active]
        today = ledger.clock().date()
        told = [_row(row, ledger) for row in rows]
    if as_json:
        output.line({"holds": told})
        return
    output.table(
        ["hold", "state", "holds", "review by", "placed", "released"],
        [
            (
                row.hold_id,
                row.state,
                _speaks_of(row) if row.state == "active" else "nothing any more",
                f"{row.review_on}{'  OVERDUE' if row.overdue(today) else ''}",
                row.placed_at,
                row.released_at,
            )
            for row in rows
        ],
    )
    overdue = sum(row.overdue(today) for row in rows)
    if overdue:
        output.say(f"{counted(overdue, 'hold')} should have been looked at again: lethe hold show HOLD.")


@holds.command("show")
def show(hold: HoldArgument, account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Show a hold with its matter, reasons and owner. Looking is recorded.

    Persons are counted: the ledger tells nobody whom a hold names.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        row, words = ledger.holds.show(_id(hold))
        opened = (words.matter is not None) + (words.owner is not None) + len(words.reasons)
        if opened:
            ledger.record_view("hold show", subject=None, parts_opened=opened, actor=ACTOR)
        told = _row(row, ledger) | _words_told(words)
        overdue = row.overdue(ledger.clock().date())
    if as_json:
        output.line(told)
        return
    facts: list[tuple[str, object]] = [
        ("state", row.state),
        ("matter", words.matter or "the hold's key is gone"),
        ("owner", words.owner or "-"),
        *(("reason", reason) for reason in words.reasons),
        ("holds", _speaks_of(row) if row.state == "active" else "nothing any more"),
        *(("campaign", campaign) for campaign in words.campaigns),
        *(("period", held.text()) for held in words.periods),
        *(("too late for", _late_said(late)) for late in words.too_late),
        ("review by", f"{row.review_on}{'  OVERDUE' if overdue else ''}"),
        ("placed", row.placed_at),
        ("released", row.released_at),
        ("closed", row.closed_at),
    ]
    output.table(["", str(row.hold_id)], facts)


def _target(
    email: list[str] | None, file: Path | None, campaign: list[str] | None, period: list[str] | None, whole: bool
) -> HoldOn | None:
    """What was asked for, of one kind; None if nothing. Raises `CommandFailed` for two kinds at once."""
    persons = bool(email or file)
    if sum((persons, bool(campaign), bool(period), whole)) > 1:
        raise CommandFailed(
            ExitCode.USAGE, "other_targets", "One kind of target at a time; widen the hold by another kind afterwards."
        )
    if persons:
        return HoldOn("person", addresses=tuple(addresses(email, file)))
    if campaign:
        return HoldOn("campaign", campaigns=tuple(campaign_id(text) for text in campaign))
    if period:
        return HoldOn("period", periods=tuple(_period(text) for text in period))
    return HoldOn("account") if whole else None


def _period(text: str) -> Period:
    try:
        return Period.parse(text.replace(":", " ", 1))
    except HoldRefused as refused:
        raise CommandFailed(ExitCode.USAGE, refused.reason, f"{refused} Write it as engagement:2026-11.") from None


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandFailed(ExitCode.USAGE, "invalid_day", "Write the review date as YYYY-MM-DD.") from None


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandFailed(
            ExitCode.USAGE, "invalid_hold", "A hold's id is a UUID, as lethe hold list shows it."
        ) from None


def _row(row: HoldRow, ledger: Ledger) -> dict[str, Any]:
    return {
        "hold_id": row.hold_id,
        "state": row.state,
        "account": row.account,
        "persons": row.persons,
        "campaigns": row.campaigns,
        "periods": row.periods,
        "review_on": row.review_on,
        "overdue": row.overdue(ledger.clock().date()),
        "placed_at": row.placed_at,
        "released_at": row.released_at,
        "closed_at": row.closed_at,
        "too_late": _too_late_told(row.too_late),
    }


def _end(row: HoldRow) -> None:
    """A script must not take a hold for whole that is not."""
    if row.too_late:
        raise typer.Exit(ExitCode.TOO_LATE)


def _too_late_told(found: Sequence[TooLate]) -> list[dict[str, Any]]:
    return [late._asdict() | {"period": late.period or None} for late in found]


def _too_late_said(found: Sequence[TooLate]) -> list[str]:
    return [f"  TOO LATE for {_late_said(late)}" for late in found]


def _late_said(late: TooLate) -> str:
    what = f"{late.retention_class} {late.period}".rstrip()
    return f"{what}: its destruction was recorded before this hold, under certificate {late.certificate}"


def _words_told(words: HoldWords) -> dict[str, Any]:
    return {
        "matter": words.matter,
        "owner": words.owner,
        "reasons": list(words.reasons),
        "campaign_ids": list(words.campaigns),
        "held_periods": [held.text() for held in words.periods],
        "too_late": _too_late_told(words.too_late),
    }


def _speaks_of(row: HoldRow) -> str:
    parts = ["the whole account"] if row.account else []
    for count, one, many in (
        (row.persons, "person", "persons"),
        (row.campaigns, "campaign", "campaigns"),
        (row.periods, "period", "periods"),
    ):
        if count:
            parts.append(counted(count, one, many))
    return ", ".join(parts) or "nothing any more"


def _due(due: DueOnRelease) -> dict[str, Any]:
    return {"erasures": list(due.erasures), "escrowed": due.escrowed}


def _due_said(due: DueOnRelease, *, done: bool = False) -> Sequence[str]:
    were = "carried out" if done else "waiting for this hold alone"
    keys = "destroyed" if done else "kept for persons whom this hold alone protects"
    said = [
        f"  erasures {were}: {len(due.erasures):,}",
        f"  keys {keys}: {due.escrowed:,}",
    ]
    said += [f"  erasure {erasure_id}" for erasure_id in due.erasures[:IDS_SHOWN_MAX]]
    return [*said, "What the policy made due meanwhile is in the next plan: lethe retention plan."]
