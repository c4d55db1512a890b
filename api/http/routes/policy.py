"""The policy report over HTTP: the account's own pack, clause by clause, as JSON or as a page."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field
from starlette.responses import Response

from api.http.bodies import Answer
from api.http.forms import ACCEPT_PARTS_MAX, quality
from api.http.operation import AUDITOR, OFFICER, Call, json_answer, operation
from api.policy_page import CONTENT_POLICY, policy_json, policy_page
from ledger.application import Ledger
from ledger.keys.vault import Vault
from retention.policy.adopting import pack_of
from retention.policy.controls import Kind
from retention.policy.figures import read_figures
from retention.policy.report import PolicyReport, Status, policy_report

HTML: Final = "text/html"
HEADERS: Final = {"Content-Security-Policy": CONTENT_POLICY, "Vary": "Accept", "Cache-Control": "no-store"}


class KeptByAnswer(Answer):
    """One way in which a clause is kept. `built` is false for a control that is not part of the program yet."""

    kind: Kind
    control: str | None
    does: str
    built: bool | None


class ClauseAnswer(Answer):
    """One clause of the pack."""

    number: str
    title: str
    status: Status
    kept_by: list[KeptByAnswer]
    classes: list[str]
    answers: str | None = Field(description="Who answers for what is declared.")
    note: str | None
    figures: dict[str, Any]
    late: list[str]


class ClassAnswer(Answer):
    """One retention class: how long it is kept, its keys, and what becomes of it for each cause."""

    class_: str = Field(alias="class")
    kept: str
    clause: str | None
    closure: str
    outcomes: dict[str, str]
    why: str | None
    period_keys: int
    oldest_period: str | None
    person_keys: int
    oldest_last_on: date | None
    escrowed_keys: int
    destroyed: dict[str, int] = Field(description="Keys destroyed, by cause.")
    last_destroyed_at: datetime | None
    next_due: date | None


class PolicyReportAnswer(Answer):
    """A policy, clause by clause. `failed` is true where a clause has no control at all."""

    pack: str
    version: int
    title: str
    digest: str
    effective_from: date
    made_at: datetime
    account_id: UUID | None
    accounts: int
    clauses: list[ClauseAnswer]
    classes: list[ClassAnswer]
    counts: dict[Status, int]
    no_control_yet: dict[str, int] = Field(description="Controls that are not built yet: clauses that wait for each.")
    failed: bool


@operation(
    "GET",
    "/v1/policy/report",
    "reportPolicy",
    summary="Report how the policy is kept",
    tag="policy",
    scopes=(OFFICER, AUDITOR),
    answer=PolicyReportAnswer,
)
async def report_policy(call: Call) -> Response:
    """The policy that the account lives under, clause by clause: what keeps each, live figures, and what is late.
    With `Accept: text/html` it is a page. Nothing personal is opened for it."""
    made = await call.run(_report, call.ledger, call.desk.instance.services.vault)
    tenant = call.caller.tenant
    if prefers_html(call.request.headers.get("accept", "")):
        return Response(policy_page(made, tenant), headers=HEADERS, media_type=HTML)
    return json_answer(policy_json(made, tenant))


def _report(ledger: Ledger, vault: Vault) -> PolicyReport:
    now = ledger.clock()
    return policy_report(pack_of(ledger.account()), read_figures([ledger], vault, now), now)


def prefers_html(accept: str) -> bool:
    """Whether a page is asked for by name, and no less than JSON is (RFC 9110, section 12.5.1)."""
    asked = {"text/html": 0.0, "application/json": 0.0}
    for part in accept.split(",", ACCEPT_PARTS_MAX)[:ACCEPT_PARTS_MAX]:
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type in asked:
            asked[media_type] = quality(parameters)
    return asked["text/html"] > 0 and asked["text/html"] >= asked["application/json"]


OPERATIONS = (report_policy,)
