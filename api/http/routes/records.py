"""Records: support interactions, transactions, lines of logs, usage: the data that each retention clause acts on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email, Moment, Rows, require_rows, rows_schema
from api.http.operation import CAMPAIGN, OFFICER, Call, json_answer, operation
from api.http.problems import UNAVAILABLE, RequestRefused
from api.http.routes.shapes import ReceiptAnswer, RejectedRow
from api.http.rows import Gathered
from domain.records import (
    CONTENT_FIELDS_MAX,
    FIELD_CHARACTERS_MAX,
    FIELD_NAME_CHARACTERS_MAX,
    KIND_PATTERN,
    Record,
    RecordRefused,
    require_shape,
)
from ledger.application import Ledger
from ledger.errors import Unavailable
from ledger.idempotency import IdempotentPart
from ledger.recording import RecordAnswer, in_chunks

RecordClass = Literal["support", "billing", "usage", "access_log", "error_log"]
FieldName = Annotated[str, StringConstraints(min_length=1, max_length=FIELD_NAME_CHARACTERS_MAX)]
FieldText = Annotated[str, StringConstraints(max_length=FIELD_CHARACTERS_MAX)]


class RecordRow(Body):
    """One record. Its content and its moment are sealed; class, kind and day stay readable."""

    retention_class: RecordClass = Field(alias="class", description="Which clause of the policy it falls under.")
    kind: str | None = Field(
        default=None, pattern=f"^{KIND_PATTERN.pattern}$", description="A code of yours, kept in the clear: ticket."
    )
    email: Email | None = Field(default=None, description="Whom it is about: a contact of the account. None: nobody.")
    occurred_at: Moment | None = Field(default=None, description="When it happened; absent: now. Never in the future.")
    content: dict[FieldName, FieldText] = Field(
        min_length=1, max_length=CONTENT_FIELDS_MAX, description="Fields of your own; names and values are sealed."
    )


class RecordsBody(Body):
    """Records to keep."""

    records: Annotated[list[Any], rows_schema("RecordRow")]


class RecordsAnswer(Answer):
    """What came of the rows."""

    recorded: int
    rejected: list[RejectedRow]
    receipt: ReceiptAnswer | None


_ROWS: Final = Rows(RecordRow)


@operation(
    "POST",
    "/v1/records",
    "keepRecords",
    summary="Keep records of support, billing, usage and logs",
    tag="records",
    scopes=(CAMPAIGN, OFFICER),
    body=RecordsBody,
    rows=(RecordRow,),
    answer=RecordsAnswer,
    keyed=True,
)
async def keep_records(call: Call) -> Response:
    """Keep up to 10,000 records. Each lives as long as the account's policy says for its class. A bad row is rejected
    by its index and the good ones are kept. What happened in a period whose time is over is refused. Records are
    written by class and period, so their positions do not follow the order of the rows."""
    body, raw = await call.body()
    require_rows(body.records)
    gathered = Gathered({"recorded": 0}, {})
    await call.run(_keep, call.ledger, body.records, call.actor, call.part(raw), gathered)
    return json_answer(gathered.answer(), replayed=gathered.was_replayed)


def _keep(ledger: Ledger, rows: Sequence[Any], actor: str, part: IdempotentPart | None, gathered: Gathered) -> None:
    rejected: list[tuple[int, str]] = []
    records = []
    for index, row in _ROWS.check(enumerate(rows), rejected):
        record = Record(row.retention_class, row.content, row.kind, row.email, row.occurred_at)
        try:
            require_shape(record)
        except RecordRefused as refusal:
            rejected.append((index, str(refusal)))
        else:
            records.append((index, record))
    gathered.reject(rejected)
    for number, chunk in enumerate(in_chunks(records)):
        # The whole request is hashed into the part, so the numbers of its rows say which they are.
        content = orjson.dumps([index for index, _ in chunk])
        numbered = None if part is None else part.numbered(number, content)
        try:
            answer = ledger.records.record(chunk, actor=actor, part=numbered)
            gathered.add(_answer(answer), answer.repeated)
        except Unavailable as error:
            if not number:
                raise
            raise RequestRefused(UNAVAILABLE, STOPPED) from error


def _answer(answer: RecordAnswer) -> dict[str, Any]:
    receipt = [answer.first, answer.last] if answer.first else None
    return {"recorded": answer.recorded, "rejected": answer.rejected, "receipt": receipt}


STOPPED: Final = (
    "Some of these records were kept and the others were not: the database does not answer. Send the whole request "
    "again: under the Idempotency-Key that it had, nothing is kept twice."
)

OPERATIONS = (keep_records,)
