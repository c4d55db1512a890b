"""Erasures (GDPR Art. 17) and deletions by the controller: one saga, two causes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import orjson
from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email, ShortText, require_rows, rows_schema
from api.http.operation import OFFICER, Call, Parameter, json_answer, operation
from api.http.problems import INVALID, NOT_FOUND, RequestRefused
from api.http.routes.shapes import RejectedRow
from api.http.rows import CHUNK_ROWS
from domain.address import InvalidAddress, canonical_address
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.erasures import STATE_HELD, STATE_INTENDED, STATE_KEYS_DESTROYED, STATE_NOTHING_HELD, ErasureStatus
from ledger.idempotency import IdempotentPart, Replayed

DELETED_BY_CONTROLLER = "deleted by controller"


class ErasureBody(Body):
    """Who is to be forgotten, and why."""

    email: Email
    reason: ShortText = Field(
        description="Kept in the clear for ever, so only as a code: the ground of GDPR Art. 17(1); other words "
        "become `other` and are not stored."
    )


class ErasureAccepted(Answer):
    """`intended`: nothing opens for this person any more, and the keys are being destroyed. `held`: a legal hold speaks
    of them; nothing is sent to them, and they are forgotten when it ends (Art. 17(3)(e)). `nothing_held`: the address
    was not known, and is suppressed."""

    erasure_id: UUID
    state: str


class ErasureStep(Answer):
    """One step of an erasure that was done: when, and how many rows, keys or parts it took."""

    step: str
    at: str
    count: int


class ErasureAnswer(ErasureAccepted):
    """Where an erasure stands; `keys_destroyed` is its end. Once its day is over, times are days and steps gone."""

    cause: str
    requested_at: datetime
    finished_at: datetime | None
    certificate_id: UUID | None = Field(description="Issued with `keys_destroyed`; null where nothing was held.")
    steps: list[ErasureStep] = Field(description="What each step has acknowledged, until the day is over.")


class DeletionsBody(Body):
    """Contacts that the controller deletes."""

    emails: Annotated[list[Any], rows_schema(None)]


class DeletionAccepted(Answer):
    """The deletion, and the state of its slowest erasure."""

    deletion_id: UUID
    state: str
    rejected: list[RejectedRow] | None = Field(default=None, description="Only where an address is none.")


class DeletionAnswer(Answer):
    """Where a deletion stands: how many erasures are in which state."""

    deletion_id: UUID
    state: str
    states: dict[str, int]
    requested_at: datetime
    finished_at: datetime | None


ERASURE_ID = Parameter("id", "path", {"type": "string", "format": "uuid"}, "The erasure.")
DELETION_ID = Parameter("id", "path", {"type": "string", "format": "uuid"}, "The deletion.")


@operation(
    "POST",
    "/v1/erasures",
    "erasePerson",
    summary="Forget a person",
    tag="erasures",
    scopes=(OFFICER,),
    body=ErasureBody,
    answer=ErasureAccepted,
    status=202,
    keyed=True,
)
async def erase_person(call: Call) -> Response:
    """Forget a person: from this answer on nothing of theirs opens, every address of theirs is unmailable, and their
    keys are destroyed within moments. What was said before stays provable and says nothing of them. An address that
    is not known is suppressed all the same. Where a legal hold stands against it the request waits, in the state
    `held`, and processing is restricted at once."""
    body, raw = await call.body()
    canonical_address(body.email)
    answer, replayed = await call.run(_erase, call.ledger, body, call.actor, call.part(raw))
    call.desk.erasures.wake(call.caller.tenant)
    return json_answer(answer, 202, replayed=replayed)


def _erase(ledger: Ledger, body: ErasureBody, actor: str, part: IdempotentPart | None) -> tuple[dict[str, str], bool]:
    def stored(statuses: Sequence[ErasureStatus]) -> dict[str, str]:
        return {"erasure_id": str(statuses[0].erasure_id), "state": statuses[0].state}

    return _intend_once(ledger, [body.email], part, stored, reason=body.reason, actor=actor)


def _intend_once(
    ledger: Ledger, emails: Sequence[str], part: IdempotentPart | None, stored: Any, **command: Any
) -> tuple[dict[str, str], bool]:
    """Record the intents in one transaction, once per part. `stored` makes the answer of the statuses."""

    def before(locked: LockedTenant) -> None:
        ledger.parts.require_new(locked.connection, part)

    def also(locked: LockedTenant, statuses: Sequence[ErasureStatus]) -> None:
        ledger.parts.save(locked, part, orjson.dumps(stored(statuses)))

    try:
        return stored(ledger.erasures.intend(emails, before=before, also=also, **command)), False
    except Replayed as replayed:
        return orjson.loads(replayed.answer), True


@operation(
    "GET",
    "/v1/erasures/{id}",
    "getErasure",
    summary="See where an erasure stands",
    tag="erasures",
    scopes=(OFFICER,),
    parameters=(ERASURE_ID,),
    answer=ErasureAnswer,
)
async def get_erasure(call: Call) -> Response:
    """`held`, `intended`, `keys_destroyed` or `nothing_held`, with its times."""
    erasure_id = call.path_id("id")
    statuses = await call.run(call.ledger.erasures.status, erasure_id)
    status = next((s for s in statuses if s.erasure_id == erasure_id), None)
    if status is None:
        raise RequestRefused(NOT_FOUND, "There is no erasure with this id in this account.")
    return json_answer(
        {
            "erasure_id": status.erasure_id,
            "state": status.state,
            "cause": status.cause,
            "requested_at": status.requested_at,
            "finished_at": status.finished_at,
            "certificate_id": status.certificate_id if status.state != STATE_NOTHING_HELD else None,
            "steps": [{"step": s, "at": at, "count": count} for s, (at, count) in sorted(status.steps.items())],
        }
    )


@operation(
    "POST",
    "/v1/contacts/deletions",
    "deleteContacts",
    summary="Delete contacts",
    tag="contacts",
    scopes=(OFFICER,),
    body=DeletionsBody,
    answer=DeletionAccepted,
    status=202,
    keyed=True,
)
async def delete_contacts(call: Call) -> Response:
    """The controller deletes up to 10,000 contacts: each is erased as a person who asked for it would be. Their
    addresses stay suppressed: a delete never makes anybody mailable."""
    body, raw = await call.body()
    require_rows(body.emails)
    answer, replayed = await call.run(_delete, call.ledger, body.emails, call.actor, call.part(raw))
    call.desk.erasures.wake(call.caller.tenant)
    return json_answer(answer, 202, replayed=replayed)


def _delete(
    ledger: Ledger, emails: Sequence[Any], actor: str, part: IdempotentPart | None
) -> tuple[dict[str, Any], bool]:
    good: list[str] = []
    rejected: list[dict[str, Any]] = []
    for index, email in enumerate(emails):
        try:
            canonical_address(email if isinstance(email, str) else "")
            good.append(email)
        except InvalidAddress as error:
            rejected.append({"index": index, "reason": str(error)})
    if not good:
        raise RequestRefused(INVALID, "None of these is an address. Nothing was done.")
    deletion_id, states, repeated = str(uuid4()), set(), []
    for number, start in enumerate(range(0, len(good), CHUNK_ROWS)):
        chunk = good[start : start + CHUNK_ROWS]
        numbered = part.numbered(number, orjson.dumps(chunk)) if part is not None else None
        identity = deletion_id

        def stored(statuses: Sequence[ErasureStatus], identity: str = identity) -> dict[str, str]:
            return {"deletion_id": identity, "state": _slowest(status.state for status in statuses)}

        answer, replayed = _intend_once(
            ledger, chunk, numbered, stored, reason=DELETED_BY_CONTROLLER, actor=actor, deletion_id=UUID(deletion_id)
        )
        deletion_id = answer["deletion_id"]
        states.add(answer["state"])
        repeated.append(replayed)
    said: dict[str, Any] = {"deletion_id": deletion_id, "state": _slowest(states)}
    return said | ({"rejected": rejected} if rejected else {}), all(repeated)


def _slowest(states: Any) -> str:
    found = set(states)
    order = (STATE_HELD, STATE_INTENDED, STATE_KEYS_DESTROYED, STATE_NOTHING_HELD)
    return next(state for state in order if state in found)


@operation(
    "GET",
    "/v1/deletions/{id}",
    "getDeletion",
    summary="See where a deletion stands",
    tag="contacts",
    scopes=(OFFICER,),
    parameters=(DELETION_ID,),
    answer=DeletionAnswer,
)
async def get_deletion(call: Call) -> Response:
    """How many of its erasures wait for a legal hold, are intended, finished, or were not needed."""
    deletion_id = call.path_id("id")
    found = await call.run(call.ledger.erasures.status, deletion_id)
    statuses = [status for status in found if status.deletion_id == deletion_id]
    if not statuses:
        raise RequestRefused(NOT_FOUND, "There is no deletion with this id in this account.")
    states: dict[str, int] = {}
    for status in statuses:
        states[status.state] = states.get(status.state, 0) + 1
    finished = [status.finished_at for status in statuses if status.finished_at is not None]
    return json_answer(
        {
            "deletion_id": deletion_id,
            "state": _slowest(states),
            "states": states,
            "requested_at": min(status.requested_at for status in statuses),
            "finished_at": max(finished) if len(finished) == len(statuses) else None,
        }
    )


OPERATIONS = (erase_person, get_erasure, delete_contacts, get_deletion)
