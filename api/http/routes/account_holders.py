"""Who is behind an account of the platform: said by the operator's own systems, in the operator's own account."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from api.http.auth import ADMIN
from api.http.bodies import Body, Email
from api.http.operation import Call, operation
from api.http.routes.contacts import act_singly
from api.http.routes.shapes import PositionAnswer
from domain.address import deliverable_address


class AccountHolderBody(Body):
    """A person, and an account that they hold."""

    account_id: UUID = Field(strict=False, description="The customer's account, not the operator's.")
    email: Email


@operation(
    "POST",
    "/v1/account-holders",
    "addAccountHolder",
    summary="Record who holds an account",
    tag="account",
    scopes=(ADMIN,),
    body=AccountHolderBody,
    answer=PositionAnswer,
    keyed=True,
)
async def add_account_holder(call: Call) -> Response:
    """For the operator's own account only (`not_the_operator` elsewhere). The person becomes a subject of it, of the
    category `account_holder`, if they are none. When the last account that they hold has ended and the days of the
    operator's policy have run, a retention plan erases them. Harmless when it was recorded before."""
    body, raw = await call.body()
    email = deliverable_address(body.email)
    act = await call.run(lambda: call.ledger.holders.assignment(body.account_id, email, actor=call.actor))
    return await act_singly(call, act, call.part(raw))


OPERATIONS = (add_account_holder,)
