"""Authorisations: may this campaign be sent to these recipients? Asked, decided and recorded.

As JSON the answer is one object. As NDJSON it is a stream: recipients are authorised in chunks while the body still
arrives, each answered on a line of its own, and the last line is the receipt. Memory grows with neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Final
from uuid import UUID

import anyio
import orjson
from pydantic import Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.http.bodies import NDJSON, Answer, Body, Email, require_json, require_rows, rows_schema
from api.http.bulk import require_stream_place
from api.http.ndjson import LineFeed, beside
from api.http.operation import CAMPAIGN, Call, json_answer, operation, reported
from api.http.problems import UNAVAILABLE, RequestRefused
from api.http.replays import REPLAYED_HEADER
from api.http.routes.campaigns import CAMPAIGN_ID
from api.http.routes.shapes import ProblemAnswer, ReceiptAnswer, RejectedRow
from api.http.spool import Spool
from api.http.strict_json import MalformedJson, parse_json
from ledger.application import Ledger
from ledger.authorise import CHUNK_RECIPIENTS, OCCURRENCE_CHARACTERS_MAX
from ledger.authorise_layout import Answer as ChunkAnswer
from ledger.authorise_layout import Recipient
from ledger.errors import Unavailable
from ledger.idempotency import IdempotentPart

REJECTED_FLUSHED: Final = 1000
"""Rejected lines are answered at the latest when there are so many of them."""

WRONG_SHAPE: Final = "a recipient is an address as a string, or an object with email and, if you like, occurrence"
WRONG_OCCURRENCE: Final = f"occurrence: write 1 to {OCCURRENCE_CHARACTERS_MAX} characters"
PARTLY_DONE: Final = (
    "Some of the recipients were authorised, then the database did not answer. Send the request again: what was "
    "allowed is answered again."
)
_FIELDS: Final = {"email", "occurrence"}


class RecipientRow(Body):
    """One recipient. `occurrence` (an order number, a step) tells messages of an ongoing campaign apart."""

    email: Email
    occurrence: str | None = Field(default=None, min_length=1, max_length=OCCURRENCE_CHARACTERS_MAX)


class RecipientsBody(Body):
    """Recipients, each an address or an object."""

    recipients: Annotated[list[Any], rows_schema("RecipientRow", or_text=True)]


class AllowedRecipient(Answer):
    """This may be sent until `expires_at`. Give `message_id` to your provider; feedback names it."""

    email: str
    occurrence: str | None = None
    message_id: str
    expires_at: str
    repeated: bool | None = Field(default=None, description="True where it had been allowed before.")


class RefusedRecipient(Answer):
    """This must not be sent, by this rule."""

    email: str
    occurrence: str | None = None
    rule: str


class AuthorisationsAnswer(Answer):
    """What was decided. `receipt` is null where nothing new was recorded."""

    allowed: list[AllowedRecipient]
    refused: list[RefusedRecipient]
    rejected: list[RejectedRow]
    receipt: ReceiptAnswer | None


class AuthorisationLine(Answer):
    """One line of the stream: one member of the first three, or, on the last line, the receipt and what went wrong."""

    allowed: AllowedRecipient | None = None
    refused: RefusedRecipient | None = None
    rejected: RejectedRow | None = None
    receipt: ReceiptAnswer | None = None
    ended_early: bool | None = Field(default=None, description="True where the body was cut off.")
    problem: ProblemAnswer | None = Field(default=None, description="What stopped the work before its end.")


@operation(
    "POST",
    "/v1/campaigns/{id}/authorisations",
    "authoriseSends",
    summary="Authorise sends",
    tag="campaigns",
    scopes=(CAMPAIGN,),
    body=RecipientsBody,
    ndjson=RecipientRow,
    rows=(RecipientRow,),
    answer=AuthorisationsAnswer,
    streamed=AuthorisationLine,
    parameters=(CAMPAIGN_ID,),
    keyed=True,
)
async def authorise_sends(call: Call) -> Response:
    """Ask whether a campaign may be sent to up to 10,000 recipients, or to any number as NDJSON, one a line. Every
    decision is recorded. An allowed answer is repeated however often it is asked for, until it expires (24 hours)
    or is recalled; a refusal is decided afresh. An unknown address is refused as unknown_recipient and only
    counted. The NDJSON answer may be read while the body is still being sent, and need not be."""
    campaign_id = call.path_id("id")
    if require_json(call.request, or_ndjson=True):
        require_stream_place(call)
        return _Stream(call, campaign_id)
    body, raw = await call.body()
    require_rows(body.recipients)
    part = call.part(campaign_id.bytes + raw)
    answer, replayed = await call.run(_authorise, call.ledger, campaign_id, body.recipients, call.actor, part)
    return json_answer(answer, replayed=replayed)


def _authorise(
    ledger: Ledger, campaign_id: UUID, rows: Sequence[Any], actor: str, part: IdempotentPart | None
) -> tuple[dict[str, Any], bool]:
    rejected: list[tuple[int, str]] = []
    recipients = [r for i, row in enumerate(rows) if (r := _recipient(i, row, rejected)) is not None]
    said: dict[str, Any] = {"allowed": [], "refused": []}
    tally = _Tally()
    account = ledger.account()
    desk = ledger.authorisations
    try:
        for answer in desk.authorise(campaign_id, recipients, account=account, actor=actor, idempotency=part):
            said["allowed"].extend(_allowed(answer))
            said["refused"].extend(_refused(answer))
            rejected.extend(answer.rejected)
            tally.add(answer)
    except Unavailable:
        if not tally.chunks:
            raise
        raise RequestRefused(UNAVAILABLE, PARTLY_DONE) from None
    said["rejected"] = [{"index": index, "reason": reason} for index, reason in sorted(rejected)]
    return said | {"receipt": tally.receipt()}, tally.all_replayed


def _recipient(index: int, row: Any, rejected: list[tuple[int, str]]) -> Recipient | None:
    if isinstance(row, str):
        return Recipient(index, row)
    if not isinstance(row, dict) or not row.keys() <= _FIELDS or not isinstance(row.get("email"), str):
        rejected.append((index, WRONG_SHAPE))
        return None
    occurrence = row.get("occurrence")
    if occurrence is None:
        return Recipient(index, row["email"])
    if not isinstance(occurrence, str) or not 1 <= len(occurrence) <= OCCURRENCE_CHARACTERS_MAX:
        rejected.append((index, WRONG_OCCURRENCE))
        return None
    return Recipient(index, row["email"], occurrence)


def _allowed(answer: ChunkAnswer) -> Iterator[dict[str, Any]]:
    for recipient, token, expires_at, repeated in answer.allowed:
        said = _named(recipient) | {"message_id": token, "expires_at": expires_at}
        yield said | {"repeated": True} if repeated else said


def _refused(answer: ChunkAnswer) -> Iterator[dict[str, Any]]:
    for recipient, rule in answer.refused:
        yield _named(recipient) | {"rule": rule}


def _named(recipient: Recipient) -> dict[str, Any]:
    if recipient.occurrence is None:
        return {"email": recipient.email}
    return {"email": recipient.email, "occurrence": recipient.occurrence}


class _Tally:
    """Positions taken, and whether anything was done now."""

    def __init__(self) -> None:
        self.first = self.last = self.chunks = self.replayed = 0

    def add(self, answer: ChunkAnswer) -> None:
        self.chunks += 1
        self.replayed += answer.replayed
        self.first = self.first or answer.first
        self.last = answer.last or self.last

    def receipt(self) -> dict[str, int] | None:
        return {"first": self.first, "last": self.last} if self.first else None

    @property
    def all_replayed(self) -> bool:
        return self.chunks > 0 and self.replayed == self.chunks


class _Stream(Response):
    """The answer to an NDJSON body, sent while the body arrives."""

    def __init__(self, call: Call, campaign_id: UUID) -> None:
        self._call = call
        self._campaign_id = campaign_id
        self._part = call.part(campaign_id.bytes)
        self._spool = Spool()
        self._feed = LineFeed(call.request)
        self._tally = _Tally()
        self._failure: Exception | None = None
        self._rejected: deque[tuple[int, str]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work and send side by side; what fails before the first line is a problem, later it is on the last line."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._work)
            try:
                await self._send(scope, receive, send)
            finally:
                self._spool.close()

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        block = await self._spool.take()
        if block is None and self._failure is not None:
            problem = reported(self._failure, self._call.operation.path)
            await problem.response()(scope, receive, send)
            return
        headers = [(b"content-type", NDJSON.encode())]
        if self._tally.all_replayed:
            headers.append((REPLAYED_HEADER.lower().encode(), b"true"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        while block is not None:
            await send({"type": "http.response.body", "body": block, "more_body": True})
            block = await self._spool.take()
        await send({"type": "http.response.body", "body": self._last_line(), "more_body": False})

    async def _work(self) -> None:
        self._failure = await beside(self._feed, self._authorise, self._call.desk.streams)
        self._spool.end()

    def _last_line(self) -> bytes:
        said: dict[str, Any] = {"receipt": self._tally.receipt()}
        if self._feed.ended_early:
            said["ended_early"] = True
        if self._failure is not None:
            said["problem"] = reported(self._failure, self._call.operation.path).as_json()
        return orjson.dumps(said) + b"\n"

    def _authorise(self) -> None:
        """In a thread: whole chunks under the Idempotency-Key; of a cut body the last, short chunk without it."""
        recipients = self._recipients()
        left: list[Recipient] = []
        self._chunks(self._whole_chunks(recipients, left), self._part)
        if left:
            self._chunks(left, None)
        self._flush()

    def _chunks(self, recipients: Iterable[Recipient], part: IdempotentPart | None) -> None:
        ledger, actor = self._call.ledger, self._call.actor
        desk = ledger.authorisations
        account = ledger.account()
        for answer in desk.authorise(self._campaign_id, recipients, account=account, actor=actor, idempotency=part):
            self._tally.add(answer)
            self._flush()
            self._spool.put(_lines(answer))

    def _whole_chunks(self, recipients: Iterator[Recipient], left: list[Recipient]) -> Iterator[Recipient]:
        """All recipients; of a cut body under an Idempotency-Key those of the last, short chunk go to `left`."""
        if self._part is None:
            yield from recipients
            return
        while chunk := list(islice(recipients, CHUNK_RECIPIENTS)):
            if len(chunk) < CHUNK_RECIPIENTS and self._feed.ended_early:
                left.extend(chunk)
                return
            yield from chunk

    def _recipients(self) -> Iterator[Recipient]:
        """Read by a thread of the authorisation's own, while answers are given by another."""
        rejected: list[tuple[int, str]] = []
        for number, line in self._feed.lines():
            if isinstance(line, str):
                rejected.append((number, line))
            else:
                try:
                    recipient = _recipient(number, parse_json(line), rejected)
                except MalformedJson as error:
                    rejected.append((number, str(error)))
                else:
                    if recipient is not None:
                        yield recipient
            if rejected:
                self._rejected.extend(rejected)
                rejected.clear()
                if len(self._rejected) >= REJECTED_FLUSHED:
                    self._flush()

    def _flush(self) -> None:
        """Answer the lines that were rejected so far. Two threads come here: each takes what the other has not."""
        taken = []
        while self._rejected:
            try:
                taken.append(self._rejected.popleft())
            except IndexError:
                break
        if taken:
            self._spool.put(b"".join(_line("rejected", {"index": i, "reason": reason}) for i, reason in taken))


def _lines(answer: ChunkAnswer) -> bytes:
    lines = [_line("allowed", said) for said in _allowed(answer)]
    lines += [_line("refused", said) for said in _refused(answer)]
    lines += [_line("rejected", {"index": index, "reason": reason}) for index, reason in answer.rejected]
    return b"".join(lines)


def _line(name: str, said: dict[str, Any]) -> bytes:
    return orjson.dumps({name: said}, option=orjson.OPT_APPEND_NEWLINE)


OPERATIONS = (authorise_sends,)
