"""`lethe events`: search the audit trail. Sealed parts are shown only on request, and that is recorded (I8)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer

from api.cli.failures import CommandFailed, ExitCode
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
from api.cli.output import Output, cell, counted, shown
from domain.personal import Erased
from ledger.application import Ledger
from projections.history import EVENTS_MAX, Page, Question, SeenEvent, search

SinceOption = Annotated[
    str | None, typer.Option("--from", help="Recorded at or after this time (ISO 8601, UTC).", show_default=False)
]
UntilOption = Annotated[
    str | None, typer.Option("--to", help="Recorded before this time (ISO 8601, UTC).", show_default=False)
]


def events(
    email: EmailOption = None,
    file: AddressFileOption = None,
    stream: Annotated[str | None, typer.Option(help="One stream, by its id.", show_default=False)] = None,
    campaign: Annotated[str | None, typer.Option(help="One campaign, by its id.", show_default=False)] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="A kind of event, such as consent.granted.v1, or how it begins: consent. May be repeated."),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    after: Annotated[int, typer.Option(min=0, help="Go on after this position.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    opened: Annotated[
        bool, typer.Option("--open", help="Open the sealed parts as well; that you looked is recorded.")
    ] = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Search the log by person, stream, campaign, kind and time."""
    output = Output(as_json)
    asked = addresses(email, file) if email or file else [None]
    if len(asked) > 1:
        raise CommandFailed(ExitCode.USAGE, "one_address", "Search for one person at a time; each look is recorded.")
    question = Question(
        email=asked[0],
        stream=_uuid(stream) if stream else None,
        campaign=campaign_id(campaign) if campaign else None,
        kinds=kind or (),
        since=moment(since),
        until=moment(until),
        after=after,
        limit=limit,
    )
    with ledger_of(account) as (_, ledger):
        ledger.account()
        shown_so_far, cursor = 0, None
        for page in pages(ledger, question, opened=opened, events_max=limit):
            if page.opened or page.subject is not None:
                ledger.record_view("events", subject=page.subject, parts_opened=page.opened, actor=ACTOR)
            _show(output, page)
            shown_so_far, cursor = shown_so_far + len(page.events), page.next_after
    if as_json and cursor is not None:
        output.line({"next": cursor})
    output.say(f"{counted(shown_so_far, 'event')}." + (f" There may be more: --after {cursor}" if cursor else ""))


def pages(ledger: Ledger, question: Question, *, opened: bool, events_max: int) -> Iterator[Page]:
    """Pages until there is no more, or `events_max` events are seen."""
    left, after = events_max, question.after
    while left > 0:
        page = search(ledger, replace(question, after=after, limit=min(left, EVENTS_MAX)), opened=opened)
        yield page
        left -= len(page.events)
        if page.next_after is None:
            return
        after = page.next_after


def event_as_dict(event: SeenEvent) -> dict[str, Any]:
    """An event for machines; `sealed` names what was not opened, `erased` stands where the key is gone.

    A plain field that is called as something every event has stands under `own_` and its name.
    """
    held: dict[str, Any] = {
        "position": event.position,
        "event_id": event.event_id,
        "stream": event.stream,
        "version": event.version,
        "kind": event.kind,
        "recorded_at": event.recorded_at,
        "occurred_at": event.occurred_at,
        "actor": event.actor,
    }
    # A campaign and a record have a kind of their own, which is not the kind of the event.
    held |= {f"own_{name}" if name in held else name: value for name, value in event.plain.items()}
    for name, value in event.personal.items():
        if isinstance(value, Erased):
            held[name] = {"erased": {"when": value.when, "why": value.why, "certificate": value.certificate}}
        elif value is None:
            held.setdefault("sealed", []).append(name)
        else:
            held[name] = value
    return held


def event_row(event: SeenEvent) -> tuple[object, ...]:
    """An event as a line of a table: position, when it was true, what, and the details."""
    details = [f"{name}={_said(value)}" for name, value in event.plain.items() if value is not False]
    for name, value in event.personal.items():
        state = "(erased)" if isinstance(value, Erased) else "(sealed)" if value is None else _said(value)
        details.append(f"{name}={state}")
    return event.position, event.occurred_at, event.kind, ", ".join(details)


def _show(output: Output, page: Page) -> None:
    if output.as_json:
        for event in page.events:
            output.line(event_as_dict(event))
    elif page.events:
        output.table(["position#", "occurred", "what", "details"], [event_row(event) for event in page.events])


def _said(value: object) -> str:
    if isinstance(value, datetime):
        return cell(value)
    if isinstance(value, dict):
        return "{" + "; ".join(f"{shown(str(k))}: {shown(str(v))}" for k, v in value.items()) + "}"
    return shown(str(value))


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandFailed(ExitCode.USAGE, "invalid_stream", "A stream's id is a UUID.") from None


def moment(text: str | None) -> datetime | None:
    """A time from the command line, UTC where it names no offset. Raises `CommandFailed`."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandFailed(
            ExitCode.USAGE, "invalid_time", "A time is written as 2026-11-21 or 2026-11-21T20:15:00Z."
        ) from None
