"""`lethe processing`: the record of processing (GDPR Art. 30), declared beside observed, and what changed in it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import OutOption, new_file, require_out
from api.cli.options import ACTOR, AccountOption, JsonFlag, ledger_of
from api.cli.output import Output, counted
from api.cli.registers import day_of, day_of_option
from api.processing import difference_of, record_of
from api.record_forms import FORMS, RecordForm
from audit.asof.moments import Meaning
from audit.records.model import Activity, Change, RecordsOfProcessing
from domain.register_shape import PARTY_ROLES, ROLES
from projections.observed import ObservedProcessing
from projections.worker import catch_up

processing = typer.Typer(help="Records of processing: what was declared, what was observed, and where they differ.")

MEANING_HELP: Final = "recorded: as the ledger knew it by then. occurred: as it was true by then."
ACTIVITY_TITLES: Final = ("activity", "name", "data", "persons", "recipients", "time limits")
FINDING_TITLES: Final = ("", "code", "about", "since", "what")

MeaningOption = Annotated[Meaning, typer.Option("--meaning", help=MEANING_HELP)]


@processing.command("show")
def show(
    as_of: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The day; today without it.", show_default=False)
    ] = None,
    meaning: MeaningOption = "recorded",
    form: Annotated[
        RecordForm | None,
        typer.Option("--format", help="Write it as a file: csv is a zip of tables.", show_default=False),
    ] = None,
    out: OutOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the account's record of processing as of the end of a day (UTC), with its findings."""
    output = Output(as_json)
    day = day_of_option(as_of)
    form = form or form_of_file(out)
    if form is not None:
        require_out(out, as_json=as_json)
    with ledger_of(account) as (instance, ledger):
        catch_up(ledger, [ObservedProcessing()])
        made = record_of(instance, ledger, as_of=day, meaning=meaning, actor=ACTOR)
    if form is not None:
        _write(output, made, form, out)
    elif as_json:
        output.line(asdict(made))
    else:
        _tell(output, made)


def form_of_file(out: Path | None) -> RecordForm | None:
    """The form that a file's name says. Raises `CommandFailed` for a name that says none."""
    if out is None:
        return None
    suffix = out.suffix.casefold().removeprefix(".")
    form = next((name for name, known in FORMS.items() if known.suffix == suffix), None)
    if form is None:
        raise CommandFailed(
            ExitCode.USAGE, "format_needed", f"Say in which form to write {out.name}: --format {'|'.join(FORMS)}."
        )
    return form


def _write(output: Output, made: RecordsOfProcessing, form: RecordForm, out: Path | None) -> None:
    content = FORMS[form].render(made)
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    with new_file(out) as file:
        file.write(content)
    said = {"file": str(out), "format": form, "as_of": made.as_of.on, "bytes": len(content)}
    output.answer(said, f"Wrote {out} ({counted(len(content), 'byte')}).")


@processing.command("diff")
def diff(
    earlier: Annotated[str, typer.Argument(metavar="EARLIER", help="A day, YYYY-MM-DD.")],
    later: Annotated[str | None, typer.Argument(metavar="LATER", help="A day; today without it.")] = None,
    meaning: MeaningOption = "recorded",
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what changed in the record of processing between two days."""
    output = Output(as_json)
    first, last = day_of(earlier), day_of_option(later)
    with ledger_of(account) as (instance, ledger):
        catch_up(ledger, [ObservedProcessing()])
        found = difference_of(instance, ledger, first, last, meaning=meaning, actor=ACTOR)
    if as_json:
        output.line(asdict(found))
        return
    output.table(("register", "what", "key", "part", "before", "after"), [_row(change) for change in found.changes])
    output.say(f"{counted(len(found.changes), 'change')} from {found.earlier.on} to {found.later.on} ({meaning}).")


def _row(change: Change) -> tuple[object, ...]:
    return (change.register, change.what, change.key, change.part, change.before, change.after)


def _tell(output: Output, made: RecordsOfProcessing) -> None:
    name = made.account_name or "an account whose name is erased"
    known = f"as of {made.as_of.on} ({made.as_of.meaning}), position {made.position:,}"
    output.say(f"Record of processing of {name}, {known}.")
    output.say(f"Policy: {made.pack_title}, version {made.pack_version}.")
    parties = [
        (PARTY_ROLES[party.role], party.name, party.person, party.email, party.country) for party in made.parties
    ]
    output.table(("answerable", "name", "person", "email", "country"), parties)
    for role in ("controller", "processor"):
        rows = [_activity(activity) for activity in made.activities if activity.role == role]
        if rows:
            output.table(ACTIVITY_TITLES, rows, title=f"\nActivities {ROLES[role]}")
    _tell_observed(output, made)
    found = [(f.severity, f.code, f.about, f.since, f.words) for f in made.findings]
    output.table(FINDING_TITLES, found, title="\nFindings")
    count = sum(finding.severity == "finding" for finding in made.findings)
    output.say(f"{counted(len(made.activities), 'activity', 'activities')}, {counted(count, 'finding')}.")


def _activity(activity: Activity) -> tuple[object, ...]:
    return (
        activity.key,
        activity.name,
        _joined(category.code or category.words for category in activity.categories),
        _joined(category.code for category in activity.subjects),
        _joined(recipient.key for recipient in activity.recipients),
        _joined(f"{limit.category}: {limit.words}" for limit in activity.time_limits),
    )


def _tell_observed(output: Output, made: RecordsOfProcessing) -> None:
    observed = made.observed
    oldest = {(key.category, key.kind): key for key in observed.oldest_keys or ()}
    rows = []
    for seen in observed.categories:
        key = oldest.get((seen.category.code, "period"))
        rows.append(
            (
                seen.category.code,
                seen.events,
                seen.first_on,
                seen.last_on,
                _joined(seen.declared_by) or "NOT DECLARED",
                key and key.oldest,
                key and key.due_on,
            )
        )
    titles = ("data", "events#", "first", "last", "declared by", "oldest key", "due")
    output.table(titles, rows, title="\nObserved: data")
    used = [(r.code, r.events, r.first_on, r.last_on, _joined(r.declared_as)) for r in observed.recipients]
    output.table(("recipient", "events#", "first", "last", "declared as"), used, title="\nObserved: recipients")
    done = [(e.category, e.clause, e.keys, len(e.periods), e.last_on) for e in observed.enforced]
    if done:
        output.table(("data", "clause", "keys#", "periods#", "last"), done, title="\nObserved: destroyed by plan")
    if observed.erasures:
        output.say(f"Erased: {counted(observed.erasures, 'person', 'persons')}, last on {observed.last_erasure_on}.")


def _joined(words: Iterable[str]) -> str:
    return ", ".join(words)
