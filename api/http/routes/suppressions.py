"""Suppressions: asked about, followed, imposed by hand or by import, and lifted where staff imposed them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email, Moment, Rows, Scope, require_rows, rows_schema
from api.http.cursors import cursor_of, position_of
from api.http.operation import CAMPAIGN, OFFICER, Call, Parameter, json_answer, operation
from api.http.replays import done_once
from api.http.routes.feedback import query_limit
from api.http.routes.shapes import ReceiptAnswer, RejectedRow
from api.http.rows import CHUNK_ROWS
from domain.address import InvalidAddress, canonical_address
from domain.scope import ALL
from ledger.application import Ledger
from ledger.suppressing import SuppressionRequest
from projections.change_feed import changes_after

CHANGES_MAX = 1000
"""Changes per answer of the feed: about a quarter of a megabyte."""


class LookupBody(Body):
    """Addresses to ask about."""

    emails: Annotated[list[Any], rows_schema(None)]


class EntryAnswer(Answer):
    """One no: what it covers, why, and since which day (or month)."""

    scope: str
    cause: str
    since: str


class LookedUp(Answer):
    """What stands against one address."""

    email: str
    suppressed: bool
    entries: list[EntryAnswer]


class LookupAnswer(Answer):
    """One result for each address that is one."""

    results: list[LookedUp]
    rejected: list[RejectedRow]


class ChangeAnswer(Answer):
    """One change. `email` is null where the person was forgotten, or the change is older than seven days."""

    position: int
    kind: Literal["suppressed", "lifted", "recalled", "consent_withdrawn", "granted"]
    scope: str
    cause: str
    campaign: UUID | None
    recorded_at: datetime
    email: str | None


class ChangesAnswer(Answer):
    """Changes in the order of the log, and the cursor for the next call, which is always given."""

    changes: list[ChangeAnswer]
    next: str


class SuppressionRow(Body):
    """One address that must not be mailed."""

    email: Email
    cause: Literal["manual", "legal", "unsubscribed"] = "manual"
    scope: Scope = Field(default=ALL, description="all, marketing, or purpose:NAME.")
    since: Moment | None = None


class SuppressionsBody(Body):
    """Addresses to suppress."""

    suppressions: Annotated[list[Any], rows_schema("SuppressionRow")]


class SuppressionsAnswer(Answer):
    """What came of the rows. `known` counts those that stood already."""

    added: int
    known: int
    rejected: list[RejectedRow]
    receipt: ReceiptAnswer | None


class LiftBody(Body):
    """A suppression by hand to take back: just this scope."""

    email: Email
    scope: Scope = ALL


class LiftAnswer(Answer):
    """It was taken back."""

    lifted: bool


@operation(
    "POST",
    "/v1/suppressions/lookup",
    "lookUpSuppressions",
    summary="Ask what stands against addresses",
    tag="suppressions",
    scopes=(CAMPAIGN, OFFICER),
    body=LookupBody,
    answer=LookupAnswer,
)
async def look_up(call: Call) -> Response:
    """What stands against up to 10,000 addresses, in persons' own words and on the list. Whether one may be mailed
    is more than this: ask for an authorisation."""
    body, _ = await call.body()
    require_rows(body.emails)
    return json_answer(await call.run(_look_up, call.ledger, body.emails))


def _look_up(ledger: Ledger, emails: list[Any]) -> dict[str, Any]:
    rejected: list[dict[str, Any]] = []
    good = []
    for index, email in enumerate(emails):
        reason = _no_address(email)
        if reason is None:
            good.append(email)
        else:
            rejected.append({"index": index, "reason": reason})
    results = [
        {
            "email": looked.email,
            "suppressed": bool(looked.entries),
            "entries": [{"scope": scope, "cause": cause, "since": since} for scope, cause, since in looked.entries],
        }
        for looked in (ledger.suppressions.look_up(good) if good else ())
    ]
    return {"results": results, "rejected": rejected}


def _no_address(email: Any) -> str | None:
    """Why something is no address, None if it is one."""
    if not isinstance(email, str):
        return "an address is a string"
    try:
        canonical_address(email)
    except InvalidAddress as error:
        return str(error)
    return None


@operation(
    "GET",
    "/v1/suppressions/changes",
    "followSuppressions",
    summary="Follow what became suppressed, lifted or recalled",
    tag="suppressions",
    scopes=(CAMPAIGN, OFFICER),
    parameters=(
        Parameter("after", "query", {"type": "string"}, "The `next` of the last answer; absent: all that is kept."),
        Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": CHANGES_MAX}, "At most."),
    ),
    answer=ChangesAnswer,
)
async def follow_changes(call: Call) -> Response:
    """The changes of the last seven days, so that senders can stop what is under way. Ask again with `next`; an
    empty answer means that you are up to date. A cursor that is too old is answered with 410."""
    after = call.request.query_params.get("after")
    position = None if after is None else position_of(after)
    limit = query_limit(call, CHANGES_MAX)
    ledger = call.ledger
    changes, following = await call.run(
        changes_after, ledger.services.reader, ledger.keyring, ledger.tenant, position, limit
    )
    return json_answer({"changes": [asdict(change) for change in changes], "next": cursor_of(following)})


@operation(
    "POST",
    "/v1/suppressions",
    "suppressAddresses",
    summary="Suppress addresses",
    tag="suppressions",
    scopes=(CAMPAIGN, OFFICER),
    body=SuppressionsBody,
    rows=(SuppressionRow,),
    answer=SuppressionsAnswer,
    keyed=True,
)
async def suppress(call: Call) -> Response:
    """Suppress up to 10,000 addresses, known or not: by hand, because the law says so, or because they had
    unsubscribed elsewhere. An import never lifts one."""
    body, raw = await call.body()
    require_rows(body.suppressions)
    part = call.part(raw)
    answer, replayed = await call.run(
        done_once, call.ledger, part, lambda: _impose(call.ledger, body.suppressions, call.actor)
    )
    return json_answer(answer, replayed=replayed)


_ROWS = Rows(SuppressionRow)


def _impose(ledger: Ledger, rows: list[Any], actor: str) -> dict[str, Any]:
    rejected: list[tuple[int, str]] = []
    good = _ROWS.check(enumerate(rows), rejected)
    added = known = 0
    positions: list[int] = []
    for start in range(0, len(good), CHUNK_ROWS):
        chunk = good[start : start + CHUNK_ROWS]
        requests = [SuppressionRequest(row.email, row.cause, row.scope, row.since) for _, row in chunk]
        answer = ledger.suppressions.impose(requests, actor=actor)
        added += answer.added
        known += answer.known
        rejected.extend((chunk[at][0], reason) for at, reason in answer.rejected)
        positions.extend(p for receipt in answer.receipts for p in (receipt.first, receipt.last))
    return {
        "added": added,
        "known": known,
        "rejected": [{"index": index, "reason": reason} for index, reason in sorted(rejected)],
        "receipt": {"first": min(positions), "last": max(positions)} if positions else None,
    }


@operation(
    "POST",
    "/v1/suppressions/lifts",
    "liftSuppression",
    summary="Take back a suppression by hand",
    tag="suppressions",
    scopes=(OFFICER,),
    body=LiftBody,
    answer=LiftAnswer,
    keyed=True,
)
async def lift(call: Call) -> Response:
    """Take back what staff imposed by hand. What a person said, or what a bounce showed, is never lifted this
    way."""
    body, raw = await call.body()
    ledger, part = call.ledger, call.part(raw)

    def lifted() -> dict[str, bool]:
        ledger.suppressions.lift(body.email, body.scope, actor=call.actor)
        return {"lifted": True}

    answer, replayed = await call.run(done_once, ledger, part, lifted)
    return json_answer(answer, replayed=replayed)


OPERATIONS = (look_up, follow_changes, suppress, lift)
