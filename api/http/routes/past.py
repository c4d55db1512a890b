"""How somebody stood on a day of the past, and what would have been decided. Opens personal data: a fact first (I8)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email, ShortText
from api.http.bodies import Moment as When
from api.http.operation import OFFICER, Call, json_answer, operation
from api.http.problems import INVALID, RequestRefused
from api.standing import view_as_dict
from audit.asof.decision import view_at
from audit.asof.moments import Moment, MomentRefused
from domain.law import LawError, rules_on
from ledger.errors import UnknownSubject

WHAT = "standing as of"


class AsOfBody(Body):
    """Whose standing, and when. With a purpose, what would have been decided as well."""

    email: Email
    at: When = Field(description="The last instant that counts. What is left of today is answered as of now.")
    meaning: Literal["recorded", "occurred"] = Field(
        default="recorded",
        description="As it was known then, or as it was true then by all that is known today.",
    )
    purpose: ShortText | None = None
    channel: Literal["email"] = "email"


class PastPermission(Answer):
    """One permission as it stood."""

    purpose: str
    channel: str
    status: str
    basis: str
    since: datetime
    position: int
    evidenced: bool
    imported: bool


class PastNo(Answer):
    """One "no" of the person as it stood."""

    cause: str
    scope: str
    since: datetime
    position: int


class PastSuppression(Answer):
    """One entry of the suppression list as it stood."""

    scope: str
    cause: str
    since: str


class PastDecisionAnswer(Answer):
    """What would have been decided, and the rules of that day."""

    allowed: bool
    rule: str
    basis: str | None
    evidence_position: int | None
    rules: str


class AsOfAnswer(Answer):
    """A standing of the past. `known` is false where nothing had been heard of the person yet."""

    subject_id: UUID
    at: datetime
    meaning: str
    known: bool
    position: int = Field(description="The last position of the log that counted, 0 where none did.")
    permissions: list[PastPermission]
    noes: list[PastNo]
    restricted: bool
    suppressions: list[PastSuppression]
    decision: PastDecisionAnswer | None = None


@operation(
    "POST",
    "/v1/standing/as-of",
    "standingAsOf",
    summary="Ask how a person stood on a day of the past",
    tag="events",
    scopes=(OFFICER,),
    body=AsOfBody,
    answer=AsOfAnswer,
)
async def standing_as_of(call: Call) -> Response:
    """How a living person stood at a moment: as it was known then, or as it was true then by all that is known
    today. With a purpose, what would have been decided under the rules of that day. Each look is itself an event."""
    body, _ = await call.body()
    if body.purpose is not None:
        _require_rules(body.at)
    return json_answer(await call.run(_answered, call, body))


def _require_rules(at: datetime) -> None:
    try:
        rules_on(at.date())
    except LawError as error:
        raise RequestRefused(INVALID, f"{error} Ask for a later time, or without a purpose.") from None


def _answered(call: Call, body: AsOfBody) -> dict[str, Any]:
    row = call.ledger.person(body.email)
    if row is None:
        raise UnknownSubject("No living contact of this account has this address.")
    subject = UUID(bytes=row.subject)
    try:
        view = view_at(call.ledger, subject, (row.fingerprint,), Moment(body.at, body.meaning))
    except MomentRefused as error:
        raise RequestRefused(INVALID, str(error)) from None
    call.ledger.record_view(WHAT, subject=subject, parts_opened=view.person.opened, actor=call.actor)
    return {"subject_id": subject, **view_as_dict(view, body.purpose, body.channel)}


OPERATIONS = (standing_as_of,)
