"""Campaigns: what is to be sent, for which purpose, and whether its tracking was disclosed (Mailkai 5.5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar, Literal

from domain.facts import BY_TENANT_AND_MONTH, Fact, SealedBy
from domain.ids import month_of
from domain.personal import Content, Personal

Kind = Literal["one-off", "ongoing"]

ONE_OFF_AUTHORISES_FOR = timedelta(days=30)
AUTHORISATION_LIFETIME = timedelta(hours=24)


class CampaignRegistered(Fact):
    """A campaign was announced. `content_sha256` is the digest (hex) of what will be sent."""

    TOPIC: ClassVar[str] = "campaign.registered.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Content.name: BY_TENANT_AND_MONTH}
    name: Personal[str, Content]
    purpose: str
    channel: str
    kind: Kind
    content_sha256: str | None = None
    tracking_disclosed: bool = False


class CampaignClosed(Fact):
    """No more sends are authorised for this campaign."""

    TOPIC: ClassVar[str] = "campaign.closed.v1"


class RecipientsRefused(Fact):
    """Recipients without a subject were refused: how many, by rule. Nothing else is kept of them."""

    TOPIC: ClassVar[str] = "campaign.recipients_refused.v1"
    counts: dict[str, int]


class CampaignNotOpen(Exception):
    """The campaign is closed, or the thirty days in which a one-off campaign authorises are over."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """The state of a campaign."""

    purpose: str
    channel: str
    kind: Kind
    tracking_disclosed: bool
    registered_at: datetime
    closed: bool = False
    version: int = 1

    def month(self, now: datetime) -> str:
        """The link month of messages authorised now: the campaign's own, or for ongoing ones the current."""
        return month_of(now if self.kind == "ongoing" else self.registered_at)

    def require_open(self, now: datetime) -> None:
        """Raise `CampaignNotOpen` if this campaign authorises nothing any more."""
        if self.closed:
            raise CampaignNotOpen("The campaign is closed. Register a new campaign to send again.")
        if self.kind == "one-off" and now > self.registered_at + ONE_OFF_AUTHORISES_FOR:
            raise CampaignNotOpen(
                "A one-off campaign authorises sends for 30 days after it was registered, and these are over. "
                "Register a new campaign, or register it as ongoing."
            )


def evolve(campaign: Campaign | None, fact: Fact) -> Campaign | None:
    """The campaign after one more fact of its stream."""
    if isinstance(fact, CampaignRegistered):
        return Campaign(fact.purpose, fact.channel, fact.kind, fact.tracking_disclosed, fact.occurred_at)
    if campaign is None:
        return None
    closed = campaign.closed or isinstance(fact, CampaignClosed)
    return replace(campaign, closed=closed, version=fact.originator_version)


def fold(campaign: Campaign | None, facts: Iterable[Fact]) -> Campaign | None:
    """The campaign after a run of facts."""
    for fact in facts:
        campaign = evolve(campaign, fact)
    return campaign
