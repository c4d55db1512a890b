"""Campaigns: announced, counted, closed. Authorisations have a module of their own."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import Field, StringConstraints
from starlette.responses import Response

from api.http.bodies import Answer, Body, Purpose, ShortText
from api.http.operation import AUDITOR, CAMPAIGN, OFFICER, Call, Parameter, json_answer, operation
from domain.campaign import Campaign
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.idempotency import IdempotentPart, Replayed
from projections.campaign_view import CampaignCounts, campaign_counts

Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]

CAMPAIGN_ID = Parameter("id", "path", {"type": "string", "format": "uuid"}, "The campaign.")


class CampaignBody(Body):
    """A campaign to announce."""

    name: ShortText
    purpose: Purpose
    channel: Literal["email"]
    kind: Literal["one-off", "ongoing"] = Field(
        default="one-off",
        description="A one-off campaign authorises for 30 days; an ongoing one (receipts, automations) until closed.",
    )
    content_sha256: Digest | None = Field(default=None, description="What will be sent, as SHA-256 in hex.")
    tracking_disclosed: bool = Field(
        default=False, description="Whether recipients were told of openings and clicks; only then they are kept."
    )


class CampaignId(Answer):
    """The campaign's id."""

    campaign_id: UUID


class HourAnswer(Answer):
    """What happened in one hour (UTC), by kind."""

    hour: datetime
    by_kind: dict[str, int]


class MonthAnswer(Answer):
    """What was published of one month before its keys were destroyed. No figure is less than ten."""

    month: str
    figures: dict[str, int]
    withheld: list[str] = Field(description="Kinds that are not told: nought, fewer than ten, or too telling.")


class CampaignAnswer(Answer):
    """A campaign and what became of it, as far as the log was counted: up to `position`.

    Months whose time is over are counted in `published` only.
    """

    campaign_id: UUID
    purpose: str
    channel: str
    kind: str
    tracking_disclosed: bool
    registered_at: datetime
    closed: bool
    position: int
    by_kind: dict[str, int]
    refused_by_rule: dict[str, int]
    findings: dict[str, int]
    by_hour: list[HourAnswer]
    published: list[MonthAnswer]


class ClosureAnswer(Answer):
    """The campaign is closed."""

    campaign_id: UUID
    closed: bool


@operation(
    "POST",
    "/v1/campaigns",
    "registerCampaign",
    summary="Announce a campaign",
    tag="campaigns",
    scopes=(CAMPAIGN,),
    body=CampaignBody,
    answer=CampaignId,
    status=201,
    keyed=True,
)
async def register_campaign(call: Call) -> Response:
    """Announce what will be sent, for which purpose. Its name is sealed."""
    body, raw = await call.body()
    answer, replayed = await call.run(_register, call.ledger, body, call.actor, call.part(raw))
    return json_answer(answer, 201, replayed=replayed)


def _register(
    ledger: Ledger, body: CampaignBody, actor: str, part: IdempotentPart | None
) -> tuple[dict[str, str], bool]:
    def before(locked: LockedTenant) -> None:
        ledger.parts.require_new(locked.connection, part)

    def also(locked: LockedTenant, campaign_id: UUID) -> None:
        ledger.parts.save(locked, part, orjson.dumps({"campaign_id": campaign_id}))

    try:
        made = ledger.register_campaign(**body.model_dump(), actor=actor, before=before, also=also)
    except Replayed as replayed:
        return orjson.loads(replayed.answer), True
    return {"campaign_id": str(made)}, False


@operation(
    "GET",
    "/v1/campaigns/{id}",
    "getCampaign",
    summary="See what became of a campaign",
    tag="campaigns",
    scopes=(CAMPAIGN, OFFICER, AUDITOR),
    parameters=(CAMPAIGN_ID,),
    answer=CampaignAnswer,
)
async def get_campaign(call: Call) -> Response:
    """The campaign with its counts by kind, by rule of refusal and by hour. Counts follow the log within moments;
    `position` says how far."""
    campaign_id = call.path_id("id")
    return json_answer(await call.run(_campaign, call.ledger, campaign_id))


def _campaign(ledger: Ledger, campaign_id: UUID) -> dict[str, Any]:
    campaign: Campaign = ledger.campaign(campaign_id)
    counts: CampaignCounts = campaign_counts(ledger.services.reader, ledger.tenant, campaign_id)
    state = asdict(campaign)
    del state["version"]
    return state | {
        "campaign_id": campaign_id,
        "position": counts.position,
        "by_kind": dict(counts.by_kind),
        "refused_by_rule": dict(counts.refused_by_rule),
        "findings": dict(counts.findings),
        "by_hour": [{"hour": hour.hour, "by_kind": dict(hour.by_kind)} for hour in counts.by_hour],
        "published": [asdict(month) for month in counts.published],
    }


@operation(
    "POST",
    "/v1/campaigns/{id}/closure",
    "closeCampaign",
    summary="Close a campaign",
    tag="campaigns",
    scopes=(CAMPAIGN,),
    parameters=(CAMPAIGN_ID,),
    answer=ClosureAnswer,
)
async def close_campaign(call: Call) -> Response:
    """Authorise no more sends for a campaign. Harmless when it is closed already. Takes no body."""
    campaign_id = call.path_id("id")
    await call.run(call.ledger.close_campaign, campaign_id, actor=call.actor)
    return json_answer({"campaign_id": campaign_id, "closed": True})


OPERATIONS = (register_campaign, get_campaign, close_campaign)
