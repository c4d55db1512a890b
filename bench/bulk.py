"""Bulk authorisation and bulk engagement, in turns with raw COPY and with stock batched save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from statistics import median

from bench.budgets import Line
from bench.contenders import RawPostgres, StockEventsourcing
from bench.stand import ACTOR, USER_AGENT, Campaign, Stand, register
from bench.timing import interleaved, medians, rate
from domain.ids import previous_month
from ledger.feedback import FeedbackAnswer, FeedbackEvent


def measure(stand: Stand) -> list[Line]:
    """Every round authorises a fresh campaign for everybody, and takes an opening or a click for each message."""
    ledger, sizes = stand.ledger, stand.sizes
    first_authorised = register(ledger)
    stand.authorise(first_authorised, stand.recipients)
    stand.campaigns.append(first_authorised)
    with closing(RawPostgres(stand)) as raw, closing(StockEventsourcing(stand)) as stock:

        def authorise(_: int) -> float:
            campaign = register(ledger)
            found = rate(sizes.people, lambda: stand.authorise(campaign, stand.recipients))
            stand.campaigns.append(campaign)
            return found

        def engage(number: int) -> float:
            events = engagement(stand.campaigns[number + 1].tokens, engagement_month(stand, round_month(number)))
            return rate(len(events), lambda: take(stand, events))

        def copy(number: int) -> float:
            campaign = stand.campaigns[number + 1]
            blocks = raw.rows_of(ledger.tenant, campaign.first, campaign.last)
            return rate(campaign.last - campaign.first + 1, lambda: raw.copy(blocks))

        found = interleaved(
            {
                "authorise": authorise,
                "engage": engage,
                "copy": copy,
                "put": lambda _: stock.put(sizes.stock_batches, sizes.stock_batch),
                "save": lambda _: stock.save(sizes.stock_batches, sizes.stock_batch),
            },
            sizes.rounds,
        )
    rates = medians(found)
    put, copied = rates["put"], rates["copy"]
    batches = f"batches of {sizes.stock_batch:,}"
    return [
        _line(found, "copy", "raw_copy", "raw binary COPY of the same rows and indexes"),
        _line(found, "put", "stock_save", f"stock eventsourcing, EventStore.put, {batches}"),
        _line(found, "save", "stock_application_save", f"stock eventsourcing, Application.save, {batches}"),
        _line(found, "authorise", "authorise", "bulk authorisation : stock put", "authorise_vs_stock_save", put),
        _line(found, "authorise", "authorise", "bulk authorisation : raw COPY", "authorise_vs_raw_copy", copied),
        _line(found, "engage", "engagement", "bulk sealed engagement : stock put", "engagement_vs_stock_save", put),
    ]


def _line(
    found: Mapping[str, list[float]],
    contender: str,
    name: str,
    what: str,
    budget: str | None = None,
    against: float | None = None,
) -> Line:
    value = median(found[contender])
    return Line(name, what, value, "rows/s", budget, value / against if against else None, tuple(found[contender]))


def engagement(tokens: Sequence[str], when: datetime, start: int = 0) -> list[FeedbackEvent]:
    """An opening or a click for each token, by turns, as a provider reports them."""
    return [
        FeedbackEvent(
            index,
            token,
            "clicked" if index % 2 else "opened",
            when,
            event_id=f"evt_{when:%Y%m}_{start + index:010d}",
            ip=f"198.51.100.{index % 250}",
            user_agent=USER_AGENT,
            url=f"https://shop.example.com/spring/offer?item={index % 977}&utm_medium=email" if index % 2 else None,
        )
        for index, token in enumerate(tokens)
    ]


def engagement_month(stand: Stand, months_ago: int) -> datetime:
    """A moment in a month of the past: rounds go to different months, so that months can be destroyed later."""
    now = stand.ledger.clock()
    month = f"{now.year:04d}-{now.month:02d}"
    for _ in range(months_ago):
        month = previous_month(month)
    return datetime(int(month[:4]), int(month[5:]), 1, 12, tzinfo=UTC)


def take(stand: Stand, events: Sequence[FeedbackEvent]) -> FeedbackAnswer:
    """Take feedback in full; every event must have been recorded."""
    total = FeedbackAnswer()
    for answer in stand.ledger.feedback.take(events, actor=ACTOR):
        total.recorded += answer.recorded
    assert total.recorded == len(events), "The bench gave feedback that was not recorded."
    return total


def round_month(number: int) -> int:
    """How many months ago the engagement of a round lies: two rounds each, beginning with last month."""
    return 1 + max(number, 0) // 2


def authorise_everybody(stand: Stand) -> Campaign:
    """A campaign authorised for everybody: the last one measured, or a new one."""
    if not stand.campaigns:
        campaign = register(stand.ledger)
        stand.authorise(campaign, stand.recipients)
        stand.campaigns.append(campaign)
    return stand.campaigns[-1]
