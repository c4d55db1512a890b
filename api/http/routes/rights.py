"""Rights that act at once: objection to direct marketing (GDPR Art. 21) and restriction of processing (Art. 18)."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Body, Email, Scope
from api.http.operation import OFFICER, Call, json_answer, operation
from api.http.replays import done_once
from api.http.routes.contacts import act_singly
from api.http.routes.shapes import PositionAnswer
from domain.address import canonical_address
from domain.scope import MARKETING
from domain.subject_commands import Restrict
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest


class ObjectionBody(Body):
    """An objection of one person, known or not."""

    email: Email
    scope: Scope = MARKETING


class RestrictionBody(Body):
    """A restriction of processing, or its end."""

    email: Email
    lift: bool = Field(default=False, description="True ends the restriction; tell the person before (Art. 18(3)).")


@operation(
    "POST",
    "/v1/objections",
    "recordObjection",
    summary="Record an objection",
    tag="rights",
    scopes=(OFFICER,),
    body=ObjectionBody,
    answer=PositionAnswer,
    keyed=True,
)
async def record_objection(call: Call) -> Response:
    """The person objects to direct marketing, or to one purpose. It is absolute and in force when the answer
    arrives; an address that is not known is suppressed all the same. The position is null where the same objection
    stood on the list already."""
    body, raw = await call.body()
    canonical_address(body.email)
    ledger, part = call.ledger, call.part(raw)

    def object_() -> dict[str, Any]:
        request = SuppressionRequest(body.email, "objection", body.scope)
        receipts = ledger.suppressions.impose([request], actor=call.actor).receipts
        return {"position": receipts[0].first if receipts else None}

    answer, replayed = await call.run(done_once, ledger, part, object_)
    return json_answer(answer, replayed=replayed)


@operation(
    "POST",
    "/v1/restrictions",
    "restrictProcessing",
    summary="Restrict processing, or end that",
    tag="rights",
    scopes=(OFFICER,),
    body=RestrictionBody,
    answer=PositionAnswer,
    keyed=True,
)
async def restrict(call: Call) -> Response:
    """Limit what is done with a person's data to storing it. While it lasts nothing is sent to them, service
    messages included."""
    body, raw = await call.body()
    act = Act(Restrict(body.lift), address=body.email, actor=call.actor)
    return await act_singly(call, act, call.part(raw))


OPERATIONS = (record_objection, restrict)
