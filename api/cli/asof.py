"""`lethe subject as-of` and `lethe replay`: the past as it was known, and past sends under other rules."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import new_file
from api.cli.options import (
    ACTOR,
    AccountOption,
    AddressFileOption,
    EmailOption,
    JsonFlag,
    addresses,
    campaign_id,
    ledger_of,
)
from api.cli.output import Output, counted
from api.cli.subjects import living_person
from api.standing import view_as_dict
from audit.asof.decision import PastView, RulesOn, view_at
from audit.asof.moments import MEANINGS, Meaning, Moment, parse_moment
from audit.asof.replay import Difference, Replay, Replayed, Scope
from audit.formulas import neutralised
from domain.facts import opened as opened_value
from domain.law import LawError, RuleSet, law_with, rules_on
from domain.law.rows import ROW_CLASSES
from domain.permission import RULES

SHOWN_MAX: Final = 20
"""Differences that a terminal shows; a file holds them all."""

LAW_BYTES_MAX: Final = 1 << 20
"""A law file is some hundred rows; whatever is larger is another file."""

DIFFERENCE_COLUMNS: Final = (
    "position",
    "decided_at",
    "campaign",
    "outcome",
    "rule",
    "other_rule",
    "rules",
    "other_rules",
    "dispatched_position",
)
OUT_SUFFIXES: Final = (".csv", ".ndjson")
PERSON_COLUMNS: Final = ("subject", "email")
LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
FAR_AHEAD: Final = datetime(9999, 12, 31, tzinfo=UTC)

_is_day = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII).fullmatch

OUTCOMES: Final[dict[str, str]] = {
    "would_be_refused": "was sent, and would be refused",
    "would_be_allowed": "was refused, and would be allowed",
    "other_rule": "the same answer by another rule",
}


def as_of(
    on: Annotated[str, typer.Option("--on", help="A day (its end, UTC) or a time, ISO 8601.", show_default=False)],
    email: EmailOption = None,
    file: AddressFileOption = None,
    meaning: Annotated[
        str, typer.Option(help="recorded: as it was known then. occurred: as it was true then, by all known today.")
    ] = "recorded",
    purpose: Annotated[
        str | None, typer.Option(help="Decide this purpose as of then, too.", show_default=False)
    ] = None,
    channel: Annotated[str, typer.Option(help="The channel of --purpose.")] = "email",
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show how a person stood on a day of the past, and what would have been decided. Looking is recorded."""
    output = Output(as_json)
    if meaning not in MEANINGS:
        raise CommandFailed(ExitCode.USAGE, "unknown_meaning", "--meaning is recorded or occurred.")
    moment = parse_moment(on, _meaning(meaning))
    asked = addresses(email, file)
    if len(asked) > 1:
        raise CommandFailed(ExitCode.USAGE, "one_address", "Look at one person at a time; each look is recorded.")
    with ledger_of(account) as (_, ledger):
        ledger.account()
        row = living_person(ledger, asked[0])
        stream = UUID(bytes=row.subject)
        view = view_at(ledger, stream, (row.fingerprint,), moment)
        ledger.record_view("subject as-of", subject=stream, parts_opened=view.person.opened, actor=ACTOR)
    answer = view_as_dict(view, purpose, channel)
    if as_json:
        output.line({"subject_id": stream, **answer})
        return
    _show_view(output, stream, view, answer)


def replay(
    rules: Annotated[
        str,
        typer.Option(
            "--rules",
            metavar="DATE|FILE",
            help="Rules of that day for every decision, or a law file (such as permission.toml) or a folder of them "
            "in place of ours, each decision by the rules of its own day.",
            show_default=False,
        ),
    ],
    campaign: Annotated[str | None, typer.Option(help="Only this campaign, by its id.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Only decisions from this day or time on.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Only decisions up to this day or time.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every difference to this new file: .csv, or .ndjson.", show_default=False),
    ] = None,
    opened_too: Annotated[
        bool, typer.Option("--open", help="Name the persons with their present addresses; recorded, as every look is.")
    ] = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Decide past sends again under other rules, and list what would differ. Nothing in the log changes."""
    output = Output(as_json)
    scope = _scope(since, until, campaign)
    if out is not None and out.suffix.casefold() not in OUT_SUFFIXES:
        raise CommandFailed(ExitCode.USAGE, "unknown_format", "The name of --out ends in .csv or in .ndjson.")
    other = other_rules(rules)
    columns = (*DIFFERENCE_COLUMNS, *PERSON_COLUMNS) if opened_too else DIFFERENCE_COLUMNS
    shown: list[dict[str, Any]] = []
    dispatched = 0
    with ledger_of(account) as (_, ledger), _writer(out, columns) as write, output.progress("Deciding again") as bar:
        ledger.account()
        if scope.campaign is not None:
            ledger.campaign(scope.campaign)
        run = Replay(ledger, other, scope)
        decisions = run.count()
        if out is not None:
            opened = decisions if opened_too else 0
            if opened:
                ledger.exports.note_opened("replay", actor=ACTOR)
            ledger.record_export("replay", f"rules {_named(rules)}", entries=decisions, opened=opened, actor=ACTOR)
        for difference in run.differences():
            row = _difference(difference, opened=opened_too)
            write(row)
            if difference.outcome == "would_be_refused":
                dispatched += difference.decision.dispatched_at is not None
            if len(shown) < SHOWN_MAX:
                shown.append(row)
            bar.to(run.counted.decided_again, decisions)
        if opened_too:
            parts = sum(run.counted.differences.values())
            ledger.record_view("replay", subject=None, parts_opened=parts, actor=ACTOR)
    _tell(output, run.counted, shown, dispatched, out)


def other_rules(text: str) -> RulesOn:
    """The rules that `--rules` names. Raises `CommandFailed` for what is neither a day nor a law file, `LawError`."""
    day = _day(text)
    if day is None:
        return law_with(_law_files(Path(text))).on
    fixed = rules_on(day)

    def always(_: date) -> RuleSet:
        return fixed

    return always


def _scope(since: str | None, until: str | None, campaign: str | None) -> Scope:
    start = LONG_AGO if since is None else _start(since)
    end = FAR_AHEAD if until is None else parse_moment(until).at
    if start > end:
        raise CommandFailed(ExitCode.USAGE, "invalid_time", "--to comes before --from. Exchange the two.")
    return Scope(start, end, None if campaign is None else campaign_id(campaign))


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _is_day(text) else None
    except ValueError:
        return None


def _law_files(path: Path) -> dict[str, str]:
    names = {row_class.FILE for row_class in ROW_CLASSES}
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    if not path.exists():
        raise CommandFailed(
            ExitCode.USAGE, "unknown_rules", "--rules is a day such as 2026-01-01, or a law file or folder that exists."
        )
    odd = [file.name for file in files if file.name not in names]
    if odd or not files:
        named = ", ".join(sorted(names))
        raise CommandFailed(
            ExitCode.USAGE, "unknown_rules", f"A law file keeps its name, so that it takes that one's place: {named}."
        )
    if any(file.stat().st_size > LAW_BYTES_MAX for file in files):
        raise CommandFailed(ExitCode.USAGE, "unknown_rules", "A law file is smaller than 1 MiB. Is this the file?")
    try:
        return {file.name: file.read_text(encoding="utf-8") for file in files}
    except UnicodeDecodeError:
        raise LawError("A law file is not UTF-8; save it as UTF-8.") from None


def _show_view(output: Output, stream: UUID, view: PastView, answer: dict[str, Any]) -> None:
    meant = "as it was known" if view.moment.meaning == "recorded" else "as it was true, by all that is known today"
    output.say(f"Subject {stream} at {view.moment.at:%Y-%m-%d %H:%M:%SZ}, {meant}. That you looked was recorded.\n")
    if not answer["known"]:
        output.say("Nothing was known of this person yet.")
    permissions = [
        (f"{p['purpose']} by {p['channel']}", p["status"], p["basis"], p["since"], p["position"])
        for p in answer.get("permissions", ())
    ]
    if permissions:
        output.table(["permission", "says", "on the basis of", "since", "position#"], permissions)
    elif answer["known"]:
        output.say("No permission had been given or asked for.")
    noes = [(no["cause"], no["scope"], no["since"], no["position"]) for no in answer.get("noes", ())]
    if noes:
        output.table(["no", "scope", "since", "position#"], noes)
    if answer.get("restricted"):
        output.say("Processing was restricted to storage (GDPR Art. 18).")
    if answer["suppressions"]:
        listed = [(entry["cause"], entry["scope"], entry["since"]) for entry in answer["suppressions"]]
        output.table(["on the list", "scope", "since"], listed)
    decision = answer.get("decision")
    if decision is not None:
        word = "Allowed" if decision["allowed"] else "Refused"
        output.say(f"\n{word}: {RULES[decision['rule']]} (rule {decision['rule']}, {decision['rules']})")


def _tell(output: Output, counted_: Replayed, shown: list[dict[str, Any]], dispatched: int, out: Path | None) -> None:
    differ = sum(counted_.differences.values())
    if output.as_json:
        output.line(
            {
                "decisions": counted_.decisions,
                "decided_again": counted_.decided_again,
                "not_by_law": counted_.not_by_law,
                "not_found": counted_.not_found,
                "rules_unknown": counted_.rules_unknown,
                "not_reproduced": counted_.not_reproduced,
                "differences": dict(counted_.differences),
                "wrongly_dispatched": dispatched,
                "shown": shown,
                "more": differ - len(shown),
                "file": None if out is None else str(out),
            }
        )
        return
    rows = [
        (r["position"], r["decided_at"], r["campaign"], OUTCOMES[r["outcome"]], r["rule"], r["other_rule"])
        for r in shown
    ]
    if rows:
        output.table(["position#", "decided", "campaign", "difference", "rule", "under the other rules"], rows)
        output.say("")
    output.say(f"{counted(counted_.decided_again, 'decision')} made again, {differ:,} would differ.")
    for outcome, count in sorted(counted_.differences.items()):
        output.say(f"  {count:,} {OUTCOMES[outcome]}.")
    if dispatched:
        output.say(f"  {counted(dispatched, 'message')} of these went out.")
    if counted_.not_by_law:
        output.say(f"{counted_.not_by_law:,} were refused for no rule of the law, and were left alone.")
    if counted_.not_found:
        output.say(
            f"{counted_.not_found:,} cannot be found any more: their persons, or the time of their link, are gone."
        )
    if counted_.rules_unknown:
        output.say(f"{counted_.rules_unknown:,} name rules that this program does not have.")
    if counted_.not_reproduced:
        first = ", ".join(f"{position:,}" for position in counted_.not_reproduced[:SHOWN_MAX])
        output.say(f"{len(counted_.not_reproduced):,} do not follow from their own rules. Look at position {first}.")
    if out is not None:
        output.say(f"Every difference is in {out}.")
    elif differ > len(shown):
        output.say(f"{differ - len(shown):,} more are not shown; write them all with --out FILE.csv.")


def _difference(found: Difference, *, opened: bool) -> dict[str, Any]:
    """One row. Without `opened` nothing in it leads from a message to a person."""
    decision = found.decision
    row: dict[str, Any] = {
        "position": decision.position,
        "decided_at": decision.decided_at,
        "campaign": decision.campaign,
        "outcome": found.outcome,
        "rule": decision.rule,
        "other_rule": found.rule,
        "rules": decision.rules,
        "other_rules": found.rules,
        "dispatched_position": decision.dispatched_at,
    }
    if opened:
        row |= {"subject": found.subject, "email": opened_value(found.email)}
    return row


def _named(rules: str) -> str:
    """What the log keeps of `--rules`: a day, or that a file was given; never a path of somebody's disk."""
    return "from files" if _day(rules) is None else rules


@contextmanager
def _writer(path: Path | None, columns: Sequence[str]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Writes differences to a new file that only its owner can read; nowhere without a path."""
    if path is None:
        yield lambda _: None
        return
    with new_file(path) as file, TextIOWrapper(file, "utf-8", newline="") as text:
        if path.suffix.casefold() == ".ndjson":
            yield lambda row: _write_line(text.write, row)
            return
        table = csv.writer(text)
        table.writerow(columns)
        yield lambda row: table.writerow([_cell(row[name]) for name in columns])


def _write_line(write: Callable[[str], int], row: dict[str, Any]) -> None:
    write(orjson.dumps(row, option=orjson.OPT_UTC_Z).decode() + "\n")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else neutralised(str(value))


def _start(text: str) -> datetime:
    """The first instant of a day, or a time."""
    moment: Moment = parse_moment(text)
    return moment.at.replace(hour=0, minute=0, second=0, microsecond=0) if len(text) == len("2026-11-21") else moment.at


def _meaning(text: str) -> Meaning:
    return "occurred" if text == "occurred" else "recorded"
