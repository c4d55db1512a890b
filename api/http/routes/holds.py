"""Legal holds: what must not be destroyed while a matter is open. Persons are named by address in bodies only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema
from starlette.responses import Response

from api.http.bodies import Answer, Body, Email
from api.http.operation import OFFICER, Call, Parameter, json_answer, operation
from api.http.replays import done_once
from domain.hold import HELD_CLASSES, WORDS_CHARACTERS_MAX, HoldKind, HoldRefused, Period, TooLate
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.holds import HoldOn, HoldRow, HoldWords
from ledger.idempotency import IdempotentPart, Replayed
from retention.holds.releasing import due_on_release

WHAT = "holds"
TARGETS_PER_REQUEST_MAX = 1000
"""Who needs it: a body that one transaction under the lock resolves; a hold is widened by more."""


def _day(value: str) -> str:
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    raise ValueError("write a day as YYYY-MM-DD")


def _campaign(value: str) -> str:
    try:
        return str(UUID(value))
    except ValueError:
        raise ValueError("write a campaign's id, a UUID") from None


def _retention_class(value: str) -> str:
    if value not in HELD_CLASSES:
        raise ValueError(f"write one of {', '.join(sorted(HELD_CLASSES))}")
    return value


Day = Annotated[str, AfterValidator(_day), WithJsonSchema({"type": "string", "format": "date"})]
CampaignRef = Annotated[str, AfterValidator(_campaign), WithJsonSchema({"type": "string", "format": "uuid"})]
ClassName = Annotated[
    str, AfterValidator(_retention_class), WithJsonSchema({"type": "string", "enum": sorted(HELD_CLASSES)})
]
Words = Annotated[str, StringConstraints(min_length=1, max_length=WORDS_CHARACTERS_MAX)]
PeriodText = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d(-\d\d)?$")]


class PeriodTarget(Body):
    """A month, or for logs a day, of a retention class."""

    retention_class: ClassName
    period: PeriodText = Field(examples=["2026-11"])


class HoldBody(Body):
    """What is to be held, for which matter. `target` is their kind: give the list of that kind, and no other."""

    target: Literal["person", "campaign", "account", "period"]
    emails: list[Email] = Field(default_factory=list, max_length=TARGETS_PER_REQUEST_MAX)
    campaigns: list[CampaignRef] = Field(default_factory=list, max_length=TARGETS_PER_REQUEST_MAX)
    periods: list[PeriodTarget] = Field(default_factory=list, max_length=TARGETS_PER_REQUEST_MAX)
    matter: Words = Field(description="Sealed under the hold's own key, as are reason and owner.")
    reason: Words
    owner: Words = Field(description="Who answers for the hold and looks at it again on `review_on`.")
    review_on: Day


class WidenBody(Body):
    """More targets, a later review date, or both."""

    target: Literal["person", "campaign", "account", "period"] | None = None
    emails: list[Email] = Field(default_factory=list, max_length=TARGETS_PER_REQUEST_MAX)
    campaigns: list[CampaignRef] = Field(default_factory=list, max_length=TARGETS_PER_REQUEST_MAX)
    periods: list[PeriodTarget] = Field(default_factory=list, max_length=TARGETS_PER_REQUEST_MAX)
    reason: Words | None = None
    review_on: Day | None = None


class ReleaseBody(Body):
    """Why the hold ends."""

    reason: Words | None = None


class TooLateAnswer(Answer):
    """What a retention plan was destroying already: a class, its period (null: persons' own keys of it, or all of it),
    and the plan's certificate."""

    retention_class: str
    period: str | None
    certificate: str


class HoldAnswer(Answer):
    """A hold: `active`, `released` (what had waited is being taken up) or `closed`. Targets are counted. The hold
    stands for everything that it speaks of but `too_late`."""

    hold_id: UUID
    state: str
    account: bool
    persons: int
    campaigns: int
    periods: int
    review_on: str
    overdue: bool
    placed_at: datetime
    released_at: datetime | None
    closed_at: datetime | None
    too_late: list[TooLateAnswer]


class ReleaseAnswer(HoldAnswer):
    """The hold is released. `erasures` are those that had waited for it and for no other hold: they run now.
    `escrowed` counts keys that were kept for held persons only: they are destroyed."""

    erasures: list[UUID]
    escrowed: int


class PeriodAnswer(Answer):
    """A period that a hold speaks of."""

    retention_class: str
    period: str


class HoldShown(HoldAnswer):
    """A hold with its words. They are null once it is closed, because its key is gone."""

    matter: str | None
    owner: str | None
    reasons: list[str]
    campaign_ids: list[UUID]
    held_periods: list[PeriodAnswer]


class HoldsAnswer(Answer):
    """Every hold, oldest first."""

    holds: list[HoldShown]


HOLD_ID = Parameter("id", "path", {"type": "string", "format": "uuid"}, "The hold.")


@operation(
    "POST",
    "/v1/holds",
    "placeHold",
    summary="Place a legal hold",
    tag="holds",
    scopes=(OFFICER,),
    body=HoldBody,
    answer=HoldAnswer,
    status=201,
    keyed=True,
)
async def place_hold(call: Call) -> Response:
    """From this answer on nothing that the hold speaks of is destroyed: an erasure of a held person waits, and so does
    whatever the policy makes due. Words and persons are sealed under a key of the hold's own. A person whose erasure is
    intended and a period that is being destroyed are refused with `hold-too-late` and the certificate. Where a
    retention plan is destroying only a part of what is to be held, the hold stands for all the rest, and `too_late`
    names that part with the plan's certificate: read it."""
    body, raw = await call.body()
    target = _target(body.target, body)
    assert target is not None

    def place(**hooks: Any) -> HoldRow:
        return call.ledger.holds.place(
            target,
            matter=body.matter,
            reason=body.reason,
            owner=body.owner,
            review_on=date.fromisoformat(body.review_on),
            actor=call.actor,
            **hooks,
        )

    answer, replayed = await call.run(_once, call.ledger, call.part(raw), place)
    return json_answer(answer, 201, replayed=replayed)


@operation(
    "POST",
    "/v1/holds/{id}/widen",
    "widenHold",
    summary="Widen a legal hold",
    tag="holds",
    scopes=(OFFICER,),
    parameters=(HOLD_ID,),
    body=WidenBody,
    answer=HoldAnswer,
    keyed=True,
)
async def widen_hold(call: Call) -> Response:
    """Let a hold speak of more, of the same kind or of another one, or look at it again on another day. What it held
    it goes on holding."""
    body, raw = await call.body()
    hold_id = call.path_id("id")
    target = _target(body.target, body)
    review_on = date.fromisoformat(body.review_on) if body.review_on else None

    def widen(**hooks: Any) -> HoldRow:
        return call.ledger.holds.widen(
            hold_id, target=target, review_on=review_on, reason=body.reason, actor=call.actor, **hooks
        )

    answer, replayed = await call.run(_once, call.ledger, call.part(hold_id.bytes + raw), widen)
    return json_answer(answer, replayed=replayed)


@operation(
    "POST",
    "/v1/holds/{id}/release",
    "releaseHold",
    summary="Release a legal hold",
    tag="holds",
    scopes=(OFFICER,),
    parameters=(HOLD_ID,),
    body=ReleaseBody,
    answer=ReleaseAnswer,
    keyed=True,
)
async def release_hold(call: Call) -> Response:
    """The matter is resolved. What had waited for this hold, and for no other one, is taken up by the worker within
    moments: this cannot be undone. Ask first what that is, with `lethe hold release --dry-run`."""
    body, raw = await call.body()
    hold_id = call.path_id("id")
    ledger = call.ledger

    def release() -> dict[str, Any]:
        due = due_on_release(ledger, hold_id)
        row = ledger.holds.release(hold_id, reason=body.reason, actor=call.actor)
        return _told(row, ledger) | {"erasures": [str(e) for e in due.erasures], "escrowed": due.escrowed}

    answer, replayed = await call.run(done_once, ledger, call.part(hold_id.bytes + raw), release)
    return json_answer(answer, replayed=replayed)


@operation(
    "GET",
    "/v1/holds",
    "listHolds",
    summary="List the legal holds",
    tag="holds",
    scopes=(OFFICER,),
    answer=HoldsAnswer,
)
async def list_holds(call: Call) -> Response:
    """Every hold with its matter, reasons and owner, which is recorded. Persons are counted and never named.
    `overdue` says that the review date has passed."""
    return json_answer({"holds": await call.run(_listed, call.ledger, call.actor)})


def _listed(ledger: Ledger, actor: str) -> list[dict[str, Any]]:
    rows = ledger.holds.every()
    shown = [(row, ledger.holds.show(row.hold_id)[1]) for row in rows]
    opened = sum((words.matter is not None) + (words.owner is not None) + len(words.reasons) for _, words in shown)
    if opened:
        ledger.record_view(WHAT, subject=None, parts_opened=opened, actor=actor)
    return [_told(row, ledger) | _said(words) for row, words in shown]


def _said(words: HoldWords) -> dict[str, Any]:
    return {
        "matter": words.matter,
        "owner": words.owner,
        "reasons": list(words.reasons),
        "campaign_ids": [str(campaign) for campaign in words.campaigns],
        "held_periods": [{"retention_class": p.retention_class, "period": p.period} for p in words.periods],
        "too_late": _too_late(words.too_late),
    }


def _too_late(found: Sequence[TooLate]) -> list[dict[str, Any]]:
    return [late._asdict() | {"period": late.period or None} for late in found]


def _target(kind: HoldKind | None, body: HoldBody | WidenBody) -> HoldOn | None:
    if kind is None:
        if body.emails or body.campaigns or body.periods:
            raise HoldRefused("no_kind", "Say of which kind the targets are: person, campaign or period.")
        return None
    return HoldOn(
        kind,
        tuple(body.emails),
        tuple(UUID(campaign) for campaign in body.campaigns),
        tuple(Period.parse(f"{target.retention_class} {target.period}") for target in body.periods),
    )


def _told(row: HoldRow, ledger: Ledger) -> dict[str, Any]:
    return {
        "hold_id": str(row.hold_id),
        "state": row.state,
        "account": row.account,
        "persons": row.persons,
        "campaigns": row.campaigns,
        "periods": row.periods,
        "review_on": row.review_on.isoformat(),
        "overdue": row.overdue(ledger.clock().date()),
        "placed_at": _moment(row.placed_at),
        "released_at": _moment(row.released_at),
        "closed_at": _moment(row.closed_at),
        "too_late": _too_late(row.too_late),
    }


def _moment(moment: datetime | None) -> str | None:
    """As text, so that a repeated answer is the first one to the letter."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment is not None else None


def _once(ledger: Ledger, part: IdempotentPart | None, act: Callable[..., HoldRow]) -> tuple[dict[str, Any], bool]:
    """Do something to a hold in one transaction, once per part. What is kept of the answer names nobody."""

    def before(locked: LockedTenant) -> None:
        ledger.parts.require_new(locked.connection, part)

    def also(locked: LockedTenant, row: HoldRow) -> None:
        ledger.parts.save(locked, part, orjson.dumps(_told(row, ledger)))

    try:
        return _told(act(before=before, also=also), ledger), False
    except Replayed as replayed:
        stored: dict[str, Any] = orjson.loads(replayed.answer)
        return stored, True


OPERATIONS = (place_hold, widen_hold, release_hold, list_holds)
