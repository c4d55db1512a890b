"""Feedback: what mail providers say happened to messages, by the `message_id` of the authorisation."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.http.bodies import Answer, Body, Moment, Rows, ShortText, require_rows, rows_schema
from api.http.operation import CAMPAIGN, OFFICER, Call, Parameter, json_answer, operation
from api.http.problems import INVALID, RequestRefused
from api.http.replays import done_once
from api.http.routes.shapes import RejectedRow
from ledger.application import Ledger
from ledger.feedback import FeedbackEvent

PARKED_MAX = 500
"""Parked events per answer: enough to see what is wrong; nobody needs the list by heart."""

Url = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
UserAgent = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class FeedbackRow(Body):
    """One thing a provider said of one message."""

    message_id: ShortText
    kind: Literal["dispatched", "delivered", "deferred", "bounced", "complained", "opened", "clicked", "unsubscribed"]
    occurred_at: Moment
    event_id: ShortText | None = Field(default=None, description="The provider's id, by which repeats are dropped.")
    ip: ShortText | None = None
    user_agent: UserAgent | None = None
    url: Url | None = None
    bounce_type: Literal["hard", "soft"] | None = Field(
        default=None, description="For bounced. Without it the bounce counts as hard, and the address is suppressed."
    )


class FeedbackBody(Body):
    """Feedback to record."""

    events: Annotated[list[Any], rows_schema("FeedbackRow")]


class FeedbackAnswer(Answer):
    """What came of the events. Dropped ones are not kept, parked ones are, until somebody has seen why."""

    recorded: int
    duplicates: int
    dropped: list[RejectedRow]
    parked: list[RejectedRow]


class ParkedEvent(Answer):
    """An event that belongs to no message that is known. `event` is null once its key is gone (seven days)."""

    parked_id: str
    reason: str
    parked_at: datetime
    event: dict[str, Any] | None


class ParkedAnswer(Answer):
    """Parked events, oldest first."""

    parked: list[ParkedEvent]


_ROWS = Rows(FeedbackRow)


@operation(
    "POST",
    "/v1/feedback",
    "recordFeedback",
    summary="Report deliveries, bounces, complaints and engagement",
    tag="feedback",
    scopes=(CAMPAIGN,),
    body=FeedbackBody,
    rows=(FeedbackRow,),
    answer=FeedbackAnswer,
    keyed=True,
)
async def record_feedback(call: Call) -> Response:
    """Report up to 10,000 events. Repeats are dropped by the provider's event_id. A complaint, a hard bounce or an
    unsubscription suppresses the person at once. Openings and clicks are kept only for campaigns whose tracking was
    disclosed."""
    body, raw = await call.body()
    require_rows(body.events)
    part = call.part(raw)
    answer, replayed = await call.run(done_once, call.ledger, part, lambda: _take(call.ledger, body.events, call.actor))
    return json_answer(answer, replayed=replayed)


def _take(ledger: Ledger, rows: list[Any], actor: str) -> dict[str, Any]:
    dropped: list[tuple[int, str]] = []
    parked: list[tuple[int, str]] = []
    events = [FeedbackEvent(index, **row.model_dump()) for index, row in _ROWS.check(enumerate(rows), dropped)]
    recorded = duplicates = 0
    for answer in ledger.feedback.take(events, actor=actor):
        recorded += answer.recorded
        duplicates += answer.duplicates
        dropped.extend(answer.dropped)
        parked.extend(answer.parked)
    return {
        "recorded": recorded,
        "duplicates": duplicates,
        "dropped": [{"index": index, "reason": reason} for index, reason in sorted(dropped)],
        "parked": [{"index": index, "reason": reason} for index, reason in sorted(parked)],
    }


@operation(
    "GET",
    "/v1/feedback/parked",
    "listParkedFeedback",
    summary="See feedback that could not be matched",
    tag="feedback",
    scopes=(CAMPAIGN, OFFICER),
    parameters=(Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": PARKED_MAX}, "At most."),),
    answer=ParkedAnswer,
)
async def list_parked(call: Call) -> Response:
    """Events whose message_id leads to nobody: changed on the way, of a month that is over, or of a person who was
    forgotten."""
    limit = query_limit(call, PARKED_MAX)
    return json_answer({"parked": await call.run(call.ledger.feedback.parked, limit)})


def query_limit(call: Call, limit_max: int) -> int:
    """The query's `limit`, `limit_max` where there is none. Raises the problem for anything else."""
    given = call.request.query_params.get("limit", str(limit_max))
    if not given.isascii() or not given.isdigit() or not 1 <= int(given[:9]) <= limit_max or len(given) > 9:
        raise RequestRefused(INVALID, f"limit is a number from 1 to {limit_max}.")
    return int(given)


OPERATIONS = (record_feedback, list_parked)
