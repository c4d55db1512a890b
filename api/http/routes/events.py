"""The audit trail over HTTP: searched, and opened for those who may. Every opened answer is a fact first (I8)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field, field_validator
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email, Moment, ShortText
from api.http.cursors import cursor_of, position_of
from api.http.operation import AUDITOR, OFFICER, Call, json_answer, operation
from domain.personal import Erased
from projections.history import EVENTS_MAX, Page, Question, SeenEvent, search

KINDS_MAX: Final = 50
LIMIT_USUAL: Final = 100
WHAT: Final = "events.search"

OPENERS: Final = frozenset({OFFICER})
_IDS: Final = frozenset({"campaign"})


class SearchBody(Body):
    """What to search for. Everything that is given must hold."""

    email: Email | None = Field(default=None, description="A person's address: their own events and their messages'.")
    stream: str | None = Field(default=None, description="One stream's id.")
    campaign: str | None = Field(default=None, description="One campaign's id: its own events and what names it.")
    kinds: list[ShortText] | None = Field(
        default=None, max_length=KINDS_MAX, description="Such as consent, consent.granted or consent.granted.v1."
    )
    since: Moment | None = Field(default=None, alias="from", description="Recorded at or after.")
    until: Moment | None = Field(default=None, alias="to", description="Recorded before.")
    limit: int = Field(default=LIMIT_USUAL, ge=1, le=EVENTS_MAX)
    after: ShortText | None = Field(default=None, description="The `next` of the last answer.")

    @field_validator("stream", "campaign")
    @classmethod
    def _an_id(cls, value: str | None) -> str | None:
        try:
            return value if value is None else str(UUID(value))
        except ValueError:
            raise ValueError("write an id as a UUID") from None


class EventAnswer(Answer):
    """One event. A personal field holds its value, `{"sealed": true}`, or `{"erased": {"when", "why"}}`."""

    position: int
    event_id: UUID
    stream: UUID
    version: int
    kind: str
    recorded_at: datetime
    occurred_at: datetime
    actor: str
    command: UUID | None = None
    rules: str | None = Field(default=None, description="The version of the rules that decided.")
    plain: dict[str, Any]
    personal: dict[str, Any]


class EventsAnswer(Answer):
    """Events in the order of the log. Where `next` is given there may be more, even if this page is short."""

    events: list[EventAnswer]
    next: str | None = None


@operation(
    "POST",
    "/v1/events/search",
    "searchEvents",
    summary="Search the audit trail",
    tag="events",
    scopes=(OFFICER, AUDITOR),
    body=SearchBody,
    answer=EventsAnswer,
)
async def search_events(call: Call) -> Response:
    """Search by address, stream, campaign, kind and time of recording. Officers see sealed fields opened, auditors
    see that they are there. Each search that opens something, or goes by an address, is itself an event. The
    address of a forgotten person finds nothing: nothing leads there any more."""
    body, _ = await call.body()
    question = Question(
        email=body.email,
        stream=None if body.stream is None else UUID(body.stream),
        campaign=None if body.campaign is None else UUID(body.campaign),
        kinds=body.kinds or (),
        since=body.since,
        until=body.until,
        after=0 if body.after is None else position_of(body.after),
        limit=body.limit,
    )
    page = await call.run(_searched, call, question, opened=call.caller.may(OPENERS))
    answer: dict[str, Any] = {"events": [_shown(event) for event in page.events]}
    if page.next_after is not None:
        answer["next"] = cursor_of(page.next_after)
    return json_answer(answer)


def _searched(call: Call, question: Question, *, opened: bool) -> Page:
    page = search(call.ledger, question, opened=opened)
    if page.opened or page.subject is not None:
        call.ledger.record_view(WHAT, subject=page.subject, parts_opened=page.opened, actor=call.actor)
    return page


def _shown(event: SeenEvent) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "position": event.position,
        "event_id": event.event_id,
        "stream": event.stream,
        "version": event.version,
        "kind": event.kind,
        "recorded_at": event.recorded_at,
        "occurred_at": event.occurred_at,
        "actor": event.actor,
        "plain": {name: _plain(name, value) for name, value in event.plain.items()},
        "personal": {name: _personal(value) for name, value in event.personal.items()},
    }
    for name, value in (("command", event.command), ("rules", event.rules)):
        if value is not None:
            shown[name] = value
    return shown


def _plain(name: str, value: Any) -> Any:
    """Entries write ids as 32 hex digits; the API writes them with dashes."""
    if name not in _IDS:
        return value
    try:
        return UUID(hex=value)
    except ValueError:
        return value


def _personal(value: Any) -> Any:
    if value is None:
        return {"sealed": True}
    if isinstance(value, Erased):
        return {"erased": {"when": value.when, "why": value.why}}
    return value


OPERATIONS = (search_events,)
