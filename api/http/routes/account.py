"""The end of an account, and taking it up again while nothing of it was destroyed (Mailkai 8, Mailenium 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Literal

import orjson
from pydantic import Field
from starlette.responses import Response

from api.http.auth import ADMIN
from api.http.bodies import Answer
from api.http.operation import JSON_OPTIONS, Call, json_answer, operation
from domain.account import Account
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.idempotency import IdempotentPart, Replayed
from retention.plans.closure import closing_days
from retention.policy.adopting import pack_of


class ClosingAnswer(Answer):
    """When the data of one class becomes unreachable, if the account is not reactivated before."""

    class_: str = Field(alias="class")
    clause: str
    due_on: date


class AccountStateAnswer(Answer):
    """How the account stands. `closing` is empty while it is active, and holds what is still to go otherwise."""

    status: Literal["active", "terminated", "closed"]
    terminated_at: datetime | None
    closed_at: datetime | None
    closing: list[ClosingAnswer]


@operation(
    "POST",
    "/v1/account/termination",
    "terminateAccount",
    summary="End the account",
    tag="account",
    scopes=(ADMIN,),
    answer=AccountStateAnswer,
    keyed=True,
)
async def terminate_account(call: Call) -> Response:
    """The subscription ends. From the answer on nothing is authorised (rule `account_terminated`) and nothing new is
    taken in; reading and exporting go on until the days named. Until the first of them the account can be
    reactivated. Harmless when it was terminated before. Takes no body."""
    part = call.part(b"")
    answer, replayed = await call.run(_changed, call.ledger, call.ledger.accounts.terminate, call.actor, part)
    return json_answer(answer, replayed=replayed)


@operation(
    "POST",
    "/v1/account/reactivation",
    "reactivateAccount",
    summary="Take a terminated account up again",
    tag="account",
    scopes=(ADMIN,),
    answer=AccountStateAnswer,
    keyed=True,
)
async def reactivate_account(call: Call) -> Response:
    """The account goes on as if it had not been terminated. Refused (`account_closed`) once the first of its keys is
    being destroyed. Harmless when it is active. Takes no body."""
    part = call.part(b"")
    answer, replayed = await call.run(_changed, call.ledger, call.ledger.accounts.reactivate, call.actor, part)
    return json_answer(answer, replayed=replayed)


def _changed(
    ledger: Ledger, change: Callable[..., Account], actor: str, part: IdempotentPart | None
) -> tuple[dict[str, Any], bool]:
    said: list[dict[str, Any]] = []

    def before(locked: LockedTenant) -> None:
        ledger.parts.require_new(locked.connection, part)

    def also(locked: LockedTenant) -> None:
        said.append(_state(ledger.accounts.read(locked.connection)))
        ledger.parts.save(locked, part, orjson.dumps(said[0], option=JSON_OPTIONS))

    try:
        change(actor=actor, before=before, also=also)
    except Replayed as replayed:
        return orjson.loads(replayed.answer), True
    return said[0], False


def _state(account: Account) -> dict[str, Any]:
    return {
        "status": account.status,
        "terminated_at": account.terminated_at,
        "closed_at": account.closed_at,
        "closing": [
            {"class": rule.retention_class, "clause": rule.clause, "due_on": due}
            for rule, due in closing_days(account, pack_of(account))
        ],
    }


OPERATIONS = (terminate_account, reactivate_account)
