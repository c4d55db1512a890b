"""Consents: what persons said about being mailed, with the evidence of it (GDPR Art. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email, LongText, Moment, Purpose, Rows, ShortText, rows_schema
from api.http.bulk import bulk_answer
from api.http.operation import CAMPAIGN, Call, operation
from api.http.routes.shapes import ReceiptAnswer, RejectedRow
from api.http.rows import RowWork
from domain.standing import CONSENT
from domain.subject_commands import EVIDENCE_KEYS, RecordConsent
from ledger.subjects import Act, Outcome

Basis = Literal["consent", "soft-opt-in", "implied-purchase", "implied-inquiry"]
Words = Annotated[str, StringConstraints(max_length=1000)]


class Evidence(Body):
    """What shows how and when the person acted. It is sealed under the person's keys."""

    ip: ShortText | None = None
    user_agent: Words | None = None
    form: Words | None = Field(default=None, description="Where it was given, such as the form's address.")
    wording: LongText | None = Field(default=None, description="The words that were shown.")
    notice_version: ShortText | None = None
    method: ShortText | None = Field(
        default=None, description="How: double_opt_in, checkbox, paper, … Short lower-case names stay readable."
    )


class ConsentRow(Body):
    """One word of one person on one purpose."""

    email: Email
    purpose: Purpose
    channel: Literal["email"]
    action: Literal["request", "grant", "refuse", "withdraw"]
    occurred_at: Moment | None = Field(default=None, description="When it was said; now, if absent.")
    evidence: Evidence | None = None
    basis: Basis = Field(
        default="consent",
        description="Other than consent only with action grant: a permission that you declare without consent.",
    )

    @model_validator(mode="after")
    def _basis_goes_with_grant(self) -> ConsentRow:
        if self.basis != CONSENT and self.action != "grant":
            raise ValueError("a basis other than consent goes with the action grant only")
        return self


class ConsentsBody(Body):
    """Consents to record."""

    consents: Annotated[list[Any], rows_schema("ConsentRow")]


class ConsentResult(Answer):
    """Where it was recorded, and whether it can be relied on; `reason` says why not."""

    index: int
    position: int
    effective: bool
    reason: str | None = None


class ConsentsAnswer(Answer):
    """What came of the rows."""

    results: list[ConsentResult]
    rejected: list[RejectedRow]
    receipt: ReceiptAnswer | None


def _act(row: ConsentRow, actor: str) -> Act:
    evidence = None
    if row.evidence is not None:
        given = {name: getattr(row.evidence, name) for name in EVIDENCE_KEYS}
        evidence = {name: value for name, value in given.items() if value is not None}
    command = RecordConsent(row.purpose, row.channel, row.action, row.occurred_at, evidence or None, row.basis)
    return Act(command, address=row.email, actor=actor)


def _answer(indexes: Sequence[int], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"results": [_result(i, o) for i, o in zip(indexes, outcomes, strict=True) if o.facts]}


def _result(index: int, outcome: Outcome) -> dict[str, Any]:
    fact = outcome.facts[0]
    result = {"index": index, "position": outcome.position, "effective": bool(getattr(fact, "effective", True))}
    reason = getattr(fact, "reason", None)
    return result if reason is None else result | {"reason": reason}


CONSENTS = RowWork(Rows(ConsentRow), _act, _answer, lists=("results",))


@operation(
    "POST",
    "/v1/consents",
    "recordConsents",
    summary="Record consents, refusals and withdrawals",
    tag="consents",
    scopes=(CAMPAIGN,),
    body=ConsentsBody,
    rows=(ConsentRow,),
    answer=ConsentsAnswer,
    keyed=True,
)
async def record_consents(call: Call) -> Response:
    """Record what persons said, up to 10,000 at a time. A withdrawal is in force when the answer arrives: no later
    authorisation is given, and open ones are recalled. A grant that lifts nothing is recorded all the same and
    answered `effective: false` with the reason."""
    return await bulk_answer(call, CONSENTS, "consents")


OPERATIONS = (record_consents,)
