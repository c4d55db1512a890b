"""May this be sent? One question about one address; nothing is recorded. The hot path of the API."""

from __future__ import annotations

from typing import Literal

import orjson
from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email
from api.http.operation import CAMPAIGN, OFFICER, Call, operation


class CheckBody(Body):
    """Who would be mailed, and for what."""

    email: Email
    purpose: str
    channel: Literal["email"]


class EvidencePosition(Answer):
    """Where the log holds the fact that decided."""

    position: int


class CheckAnswer(Answer):
    """Whether it is allowed, by which rule and on which basis."""

    allowed: bool
    rule: str = Field(description="Rules are listed in the documentation.")
    basis: str | None
    evidence: EvidencePosition | None


@operation(
    "POST",
    "/v1/permissions/check",
    "checkPermission",
    summary="Ask whether one address may be mailed",
    tag="permissions",
    scopes=(CAMPAIGN, OFFICER),
    body=CheckBody,
    answer=CheckAnswer,
)
async def check_permission(call: Call) -> Response:
    """Ask without recording anything. It is advice: only an authorisation is proof, and only it makes sure that
    nothing is sent after a no."""
    body, _ = await call.body()
    decision = await call.desk.checks.check(call.ledger, body.email, body.purpose, body.channel)
    position = decision.evidence_position
    answer = {
        "allowed": decision.allowed,
        "rule": decision.rule,
        "basis": decision.basis,
        "evidence": None if position is None else {"position": position},
    }
    return Response(orjson.dumps(answer), media_type="application/json")


OPERATIONS = (check_permission,)
