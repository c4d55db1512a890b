"""The demo's campaigns: asked for, sent by a provider that is not there, and reported on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from api.demo.audience import ACTOR, CHANNEL, Controller
from api.demo.provider import Sent, reports
from domain.scope import is_transactional
from ledger.authorise_layout import Recipient
from projections.campaign_view import campaign_counts

STRANGERS: Final = 25
"""Addresses that nobody ever imported, in every list of recipients."""


@dataclass(slots=True)
class Mailing:
    """One campaign of one account: what was answered, and what may be sent."""

    name: str
    controller: Controller
    campaign: UUID
    purpose: str
    seconds: float = 0.0
    sent: list[Sent] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def asked(self) -> int:
        """How many recipients were asked about."""
        return len(self.sent) + sum(self.refused.values())


def authorise(
    controller: Controller,
    name: str,
    purpose: str,
    recipients: Iterable[Recipient],
    *,
    tracked: bool = False,
    canary: str = "",
    seen: Callable[[int], None] = lambda count: None,
) -> Mailing:
    """Register a campaign and ask whether it may be sent to these recipients."""
    ledger, began = controller.ledger, time.monotonic()
    campaign = ledger.register_campaign(
        name=name,
        purpose=purpose,
        channel=CHANNEL,
        kind="one-off",
        content_sha256=None,
        tracking_disclosed=tracked,
        actor=ACTOR,
    )
    mailing = Mailing(name, controller, campaign, purpose)
    for answer in ledger.authorisations.authorise(campaign, recipients, account=ledger.account(), actor=ACTOR):
        mailing.sent += [Sent(token, recipient.email == canary) for recipient, token, _, _ in answer.allowed]
        mailing.refused.update(rule for _, rule in answer.refused)
        seen(len(answer.allowed) + len(answer.refused))
    mailing.seconds = time.monotonic() - began
    return mailing


def everybody(controller: Controller) -> Iterator[Recipient]:
    """All whom the account's export names, also those who left, and some strangers."""
    for index, email in enumerate(controller.emails):
        yield Recipient(index, email)
    for number in range(STRANGERS):
        yield Recipient(len(controller.emails) + number, f"nobody{number}@stranger.example")


def take_reports(mailing: Mailing, *, seed: int, mark: str, seen: Callable[[int], None]) -> Counter[str]:
    """Record what the provider reports about a mailing; counts how each report was taken.

    It reports openings of all advertising. The ledger keeps those whose tracking was disclosed.
    """
    ledger, marketing = mailing.controller.ledger, not is_transactional(mailing.purpose)
    told = reports(mailing.sent, seed=seed, at=ledger.clock(), marketing=marketing, tracked=marketing, mark=mark)
    taken: Counter[str] = Counter()
    for answer in ledger.feedback.take(told, actor=ACTOR):
        chunk = {
            "recorded": answer.recorded,
            "duplicates": answer.duplicates,
            "dropped": len(answer.dropped),
            "parked": len(answer.parked),
        }
        taken.update(chunk)
        seen(sum(chunk.values()))
    return taken


def counted(mailing: Mailing) -> Counter[str]:
    """What the campaign view counts for a mailing, by kind."""
    ledger = mailing.controller.ledger
    by_kind = campaign_counts(ledger.services.reader, ledger.tenant, mailing.campaign).by_kind
    return Counter({kind: number for kind, number in by_kind.items() if number})
