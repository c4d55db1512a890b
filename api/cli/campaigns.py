"""`lethe campaign`, `lethe authorise` and `lethe feedback`: what is to be sent, to whom it may be, what came of it."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TextIO

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import new_text
from api.cli.options import ACTOR, STDIN, AccountOption, JsonFlag, campaign_id, ledger_of, open_text
from api.cli.output import Output, counted
from api.cli.provider_events import read_events
from api.cli.recipients import Form, Rejected, ResultsWriter, form_of, read_recipients
from domain.campaign import Kind
from domain.permission import RULES
from ledger.application import Ledger
from projections.campaign_view import campaign_counts
from projections.worker import catch_up

CHANNEL: Final = "email"
REJECTED_SHOWN_MAX: Final = 20

campaigns = typer.Typer(help="Register campaigns, see how they go, close them.")

CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]


@campaigns.command("create")
def create_campaign(
    name: Annotated[str, typer.Option(help="What you call it; it is sealed.")],
    purpose: Annotated[
        str, typer.Option(help="What it is for, as consents name it: newsletter, offers, transactional:receipt …")
    ],
    account: AccountOption = None,
    kind: Annotated[
        Kind, typer.Option(help="one-off authorises for 30 days; ongoing is for automation and receipts.")
    ] = "one-off",
    content_sha256: Annotated[
        str | None, typer.Option(help="The digest (hex) of what will be sent.", show_default=False)
    ] = None,
    tracking_disclosed: Annotated[
        bool, typer.Option("--tracking-disclosed", help="Recipients were told that openings and clicks are tracked.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Register a campaign. Nothing is sent: this gives the id that sends are authorised under."""
    output = Output(as_json)
    if content_sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", content_sha256):
        raise CommandFailed(ExitCode.USAGE, "invalid_digest", "A SHA-256 is 64 lower-case hex digits.")
    with ledger_of(account) as (_, ledger):
        made = ledger.register_campaign(
            name=name,
            purpose=purpose,
            channel=CHANNEL,
            kind=kind,
            content_sha256=content_sha256,
            tracking_disclosed=tracking_disclosed,
            actor=ACTOR,
        )
    output.answer(
        {"campaign_id": made, "purpose": purpose, "kind": kind},
        f"Registered campaign {made} for the purpose {purpose}.",
        f"Next: lethe authorise {made} RECIPIENTS --out allowed.csv",
    )


@campaigns.command("close")
def close_campaign(campaign: CampaignArgument, account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Authorise no more sends for a campaign."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        ledger.close_campaign(campaign_id(campaign), actor=ACTOR)
    output.answer({"closed": campaign}, f"Campaign {campaign} is closed; it authorises nothing any more.")


@campaigns.command("list")
def list_campaigns(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """List the campaigns: ids, purposes, when they were registered. Their names stay sealed."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger), ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        held = ledger.services.book.campaigns(connection, ledger.tenant, generation)
    rows = [
        {
            "campaign_id": found,
            "purpose": state.purpose,
            "channel": state.channel,
            "kind": state.kind,
            "tracking_disclosed": state.tracking_disclosed,
            "registered_at": state.registered_at,
            "closed": state.closed,
        }
        for found, state in sorted(held.items())
    ]
    for row in rows if as_json else ():
        output.line(row)
    if rows:
        output.table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows])
    else:
        output.say("There is no campaign yet. Register one: lethe campaign create --name NAME --purpose newsletter")


@campaigns.command("show")
def show_campaign(
    campaign: CampaignArgument,
    account: AccountOption = None,
    hours: Annotated[bool, typer.Option("--hours", help="Show every hour as well.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what became of a campaign, in numbers."""
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        state = ledger.campaign(campaign_id(campaign))
        with output.progress("Counting what is new"):
            catch_up(ledger)
        counts = campaign_counts(ledger.services.reader, ledger.tenant, campaign_id(campaign))
    by_hour = [{"hour": found.hour, **found.by_kind} for found in counts.by_hour]
    if as_json:
        output.line(
            {
                "campaign_id": campaign,
                "purpose": state.purpose,
                "kind": state.kind,
                "closed": state.closed,
                "position": counts.position,
                "counts": dict(counts.by_kind),
                "refused": dict(counts.refused_by_rule),
                "findings": dict(counts.findings),
                "by_hour": by_hour,
            }
        )
        return
    output.say(f"Campaign {campaign}: {state.purpose}, {state.kind}, {'closed' if state.closed else 'open'}.")
    output.table(["what", "how many#"], [(kind.replace("_", " "), number) for kind, number in counts.by_kind.items()])
    if counts.refused_by_rule:
        output.say("")
        output.table(
            ["refused by", "how many#", "because"],
            [(rule, number, RULES.get(rule, "")) for rule, number in sorted(counts.refused_by_rule.items())],
        )
    if counts.findings:
        output.say("")
        output.table(["finding", "how many#"], [(name.replace("_", " "), n) for name, n in counts.findings.items()])
    for found in counts.by_hour if hours else ():
        said = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in found.by_kind.items())
        output.say(f"{found.hour:%Y-%m-%d %H}:00Z  {said}")


def authorise(
    campaign: CampaignArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="One address a line, a CSV with an e-mail column, or NDJSON; - is standard input."
        ),
    ],
    account: AccountOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write what was answered for each recipient to this new file (mode 0600); - is standard output. "
            "Without it only counts are shown; ask again with it, and allowed answers are repeated.",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form | None, typer.Option("--format", help="csv or ndjson. Default: what the name of --out says.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask to whom a campaign may be sent, and record each answer.

    An allowed answer holds for 24 hours, unless the person says no before. What is refused must not be sent.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger), open_text(file) as text, _results(out, form) as writer:
        _authorise(ledger, campaign, text, writer, output)
    summary = {
        "campaign_id": campaign,
        "allowed": writer.allowed,
        "repeated": writer.repeated,
        "refused": dict(sorted(writer.refused.items())),
        "rejected": writer.rejected,
    }
    aside = out is not None and str(out) == STDIN
    if as_json:
        output.line(summary)
    else:
        _say_authorised(Output(as_json=False), writer, out, aside=aside)
    if writer.rejected:
        raise typer.Exit(ExitCode.IN_PART)


def feedback(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="NDJSON, one event a line as in POST /v1/feedback; - is standard input."),
    ],
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Record what mail providers told us about messages.

    Deliveries, bounces, complaints, openings, clicks, unsubscriptions. Repeats are dropped.
    What cannot be matched to a message is parked, sealed, and counted here.
    """
    output = Output(as_json)
    recorded = duplicates = 0
    dropped: Counter[str] = Counter()
    parked: Counter[str] = Counter()
    rejected: list[tuple[int, str]] = []
    with ledger_of(account) as (_, ledger), open_text(file) as text, output.progress("Recording feedback") as bar:
        ledger.account()
        for answer in ledger.feedback.take(read_events(text, rejected), actor=ACTOR):
            recorded += answer.recorded
            duplicates += answer.duplicates
            dropped.update(reason for _, reason in answer.dropped)
            parked.update(reason for _, reason in answer.parked)
            bar.advance(answer.recorded + answer.duplicates + len(answer.dropped) + len(answer.parked))
    output.answer(
        {
            "recorded": recorded,
            "duplicates": duplicates,
            "dropped": dict(dropped),
            "parked": dict(parked),
            "rejected": [{"line": line, "reason": reason} for line, reason in rejected],
        },
        f"{counted(recorded, 'event')} recorded, {duplicates:,} known already.",
        *(f"{count:,} dropped: {reason}" for reason, count in dropped.items()),
        *(f"{count:,} parked: {reason}" for reason, count in parked.items()),
        *_rejected_lines(rejected),
    )
    if rejected:
        raise typer.Exit(ExitCode.IN_PART)


def _authorise(ledger: Ledger, campaign: str, text: TextIO, writer: ResultsWriter, output: Output) -> None:
    rejected = Rejected()
    answers = ledger.authorisations.authorise(
        campaign_id(campaign), read_recipients(text, rejected), account=ledger.account(), actor=ACTOR
    )
    with output.progress("Authorising") as bar:
        for answer in answers:
            writer.write(answer)
            bar.advance(len(answer.allowed) + len(answer.refused) + len(answer.rejected))
    writer.write_rejected(rejected.lines)


@contextmanager
def _results(out: Path | None, form: Form | None) -> Iterator[ResultsWriter]:
    chosen = form_of(out, form)
    if out is None:
        yield ResultsWriter(None, chosen)
    elif str(out) == STDIN:
        yield ResultsWriter(sys.stdout, chosen)
    else:
        with new_text(out) as text:
            yield ResultsWriter(text, chosen)


def _say_authorised(output: Output, writer: ResultsWriter, out: Path | None, *, aside: bool) -> None:
    """The counts, for a person: on standard error where standard output holds the answers themselves."""
    say = output.note if aside else output.say
    say(
        f"Allowed: {writer.allowed:,}"
        + (f", of which {writer.repeated:,} repeat an earlier answer." if writer.repeated else ".")
    )
    say(f"Refused: {sum(writer.refused.values()):,}.")
    for rule, count in writer.refused.most_common():
        say(f"  {count:>9,}  {rule}: {RULES.get(rule, rule)}")
    if writer.rejected:
        say(f"Rejected: {writer.rejected:,} lines are no recipient; the answers name them by line.")
    if out is not None and not aside:
        say(f"Each recipient's answer is in {out}. It holds addresses: delete it when the campaign is sent.")


def _rejected_lines(rejected: list[tuple[int, str]]) -> Iterator[str]:
    if rejected:
        yield f"{counted(len(rejected), 'line')} not taken:"
        yield from (f"  line {line}: {reason}" for line, reason in rejected[:REJECTED_SHOWN_MAX])
        if len(rejected) > REJECTED_SHOWN_MAX:
            yield f"  and {len(rejected) - REJECTED_SHOWN_MAX:,} more (--json names them all)"
