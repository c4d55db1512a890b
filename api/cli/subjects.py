"""`lethe subject show`: everything that is held of one person. That it was looked at is recorded first (I8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, AccountOption, AddressFileOption, EmailOption, JsonFlag, addresses, ledger_of
from api.cli.output import Output
from api.cli.trail import event_as_dict, event_row, pages
from api.standing import standing_as_dict
from domain.ids import from_micros
from domain.personal import Erased
from domain.standing import Standing
from domain.subject import ContactAdded, ContactCorrected
from ledger.application import Ledger
from ledger.standing_row import StandingRow
from projections.history import Question, SeenEvent

EVENTS_SHOWN_MAX: Final = 10_000  # who needs it: one person's history, messages included, held in memory

IDENTITY_KINDS: Final = (ContactAdded.TOPIC, ContactCorrected.TOPIC)

subjects = typer.Typer(help="Look at what is held of a person.")


@subjects.command("show")
def show_subject(
    email: EmailOption = None, file: AddressFileOption = None, account: AccountOption = None, as_json: JsonFlag = False
) -> None:
    """Show a person's data, permissions and history, messages included. Looking is recorded."""
    output = Output(as_json)
    asked = addresses(email, file)
    if len(asked) > 1:
        raise CommandFailed(ExitCode.USAGE, "one_address", "Look at one person at a time; each look is recorded.")
    with ledger_of(account) as (_, ledger):
        ledger.account()
        row = living_person(ledger, asked[0])
        stream = UUID(bytes=row.person.subject)
        found = list(pages(ledger, Question(email=asked[0]), opened=True, events_max=EVENTS_SHOWN_MAX))
        opened = sum(page.opened for page in found)
        ledger.record_view("subject show", subject=stream, parts_opened=opened, actor=ACTOR)
    history = [event for page in found for event in page.events]
    identity = _identity(history)
    if as_json:
        events = [event_as_dict(event) for event in history]
        output.line({"subject_id": stream, "identity": identity, **standing_as_dict(row.standing), "events": events})
        return
    _show(output, stream, identity, row.standing, history)


def _show(
    output: Output, stream: UUID, identity: dict[str, Any], standing: Standing, history: Sequence[SeenEvent]
) -> None:
    output.say(f"Subject {stream}. That you looked was recorded.\n")
    fields = dict(_flattened(identity))
    output.table(["field", "value"], list(fields.items()))
    output.say("")
    if standing.permissions:
        columns = ["permission", "says", "on the basis of", "since", "position#"]
        output.table(columns, list(_permissions(standing)))
    else:
        output.say("No permission was given or asked for.")
    output.say("")
    if standing.noes:
        noes = [(no.cause, no.scope, from_micros(no.occurred_at), no.position) for no in standing.noes]
        output.table(["no", "scope", "since", "position#"], noes)
        output.say("")
    output.table(["position#", "occurred", "what", "details"], [event_row(event) for event in history])


def living_person(ledger: Ledger, email: str) -> StandingRow:
    """The living person with this address. Raises `CommandFailed`."""
    row = ledger.person(email)
    if row is None:
        listed = bool(ledger.suppressions.look_up([email])[0].entries)
        text = "No living contact of this account has this address." + (" It is suppressed." if listed else "")
        raise CommandFailed(ExitCode.NOT_FOUND, "unknown_contact", text)
    return row


def _identity(history: Sequence[SeenEvent]) -> dict[str, Any]:
    """What is known of the person now: each correction over what stood before."""
    known: dict[str, Any] = {}
    for event in history:
        if event.kind in IDENTITY_KINDS:
            known |= {n: v for n, v in event.personal.items() if v is not None and not isinstance(v, Erased)}
    return known


def _flattened(identity: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in identity.items():
        if isinstance(value, dict):
            yield from ((str(key), str(held)) for key, held in value.items())
        else:
            yield name.replace("_", " "), str(value)


def _permissions(standing: Standing) -> Iterator[tuple[object, ...]]:
    for key, word in standing.permissions.items():
        purpose, _, channel = key.partition("|")
        yield f"{purpose} by {channel}", word.status, word.basis, from_micros(word.occurred_at), word.position
