"""Figures that outlive a month: what became of each campaign, published once, before the month's keys go.

Both policies keep statistics in aggregated form (Mailkai 8 and 6.5, Mailenium 5.3). They are called aggregated, never
anonymous. What is published of one campaign in one month:

- a figure stands for at least ten messages to as many persons; a smaller one, and nought, is withheld without telling
  which of the two it is;
- figures of one campaign nest (who opened had it delivered), so a difference between two of them is a group as well:
  none is published that would leave one to nine, nor one that a parent less its parts would leave;
- an ongoing campaign may write to one person many times, so its messages must be seen to go to ten persons;
- there are no totals over campaigns, because one person can stand in many: a total less what is published would tell;
- a month is published once. What is withheld stays withheld, and nothing is ever cut in another way.

The hourly counts of the campaign view go when the month was published, and are not counted again by a rebuild.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any, Final
from uuid import UUID

import orjson
from psycopg import Connection
from psycopg.types.json import Jsonb

from domain.campaign import Campaign
from domain.facts import NIL
from domain.ids import next_month, unix_ms, uuid7
from domain.keys import AggregatePublished
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.erasures import RETENTION_ACTOR
from ledger.streams import next_version
from projections.campaign_view import (
    AUTHORISED,
    DISPATCHED,
    FIRST_CLICKED,
    FIRST_OPENED,
    CampaignView,
)
from projections.worker import catch_up

GROUP_MIN: Final = 10
"""The least number of persons behind a figure (Mailkai 6.5)."""

CAMPAIGNS_PER_APPEND: Final = 500
EVENTS_PROBED_MAX: Final = 20_000
"""Events of an ongoing campaign that are looked at to see that ten persons stand behind a figure."""

DELIVERED, SOFT_BOUNCED, HARD_BOUNCED = "delivered", "soft_bounced", "hard_bounced"
PUBLISHED_KINDS: Final = (
    *(AUTHORISED, DISPATCHED, DELIVERED, FIRST_OPENED, FIRST_CLICKED),
    *("unsubscribed", HARD_BOUNCED, SOFT_BOUNCED, "complained"),
)
"""What is published, the most wanted first: where two figures tell too much together, the later one is withheld."""

CHAIN: Final = (AUTHORISED, DISPATCHED, DELIVERED, FIRST_OPENED, FIRST_CLICKED)
"""Each is a part of the one before it."""

PARENTS: Final = (AUTHORISED, DISPATCHED)
PARTS: Final = (DELIVERED, SOFT_BOUNCED, HARD_BOUNCED)
"""A dispatched message is delivered or bounces, or nothing is heard of it."""

NESTED: Final = (
    *combinations(CHAIN, 2),
    *((parent, part) for parent in PARENTS for part in PARTS[1:]),
    *((parent, no) for parent in CHAIN[:3] for no in ("unsubscribed", "complained")),
)
"""Pairs of which the second is a part of the first: their difference is a group of persons, too."""

WHOLE_MONTH: Final = ""
MONTH_CHARACTERS: Final = len("2026-11")

SELECT_COUNTS = """
SELECT c.campaign_id, c.kind, sum(c.count)::bigint FROM lethe.tracking t, LATERAL (
    SELECT campaign_id, kind, count FROM lethe.campaign_count
    WHERE tenant_id = t.tenant_id AND generation = t.generation AND hour >= %s AND hour < %s
) AS c
WHERE t.tenant_id = %s AND t.projection = %s AND t.live GROUP BY c.campaign_id, c.kind
"""
SELECT_STREAMS = """
SELECT stream_id, entry FROM lethe.event
WHERE tenant_id = %s AND stream_id >= %s AND stream_id <= %s AND topic LIKE 'message.%%' LIMIT %s
"""
SELECT_PUBLISHED = "SELECT subject FROM lethe.published_aggregate WHERE tenant_id = %s AND month = %s"
INSERT_PUBLISHED = """
INSERT INTO lethe.published_aggregate (tenant_id, month, subject, figures, withheld, position)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
DELETE_HOURS = """
DELETE FROM lethe.campaign_count WHERE (tenant_id, generation, campaign_id, hour, kind, rule) IN (
    SELECT tenant_id, generation, campaign_id, hour, kind, rule FROM lethe.campaign_count
    WHERE tenant_id = %s AND hour >= %s AND hour < %s LIMIT %s)
"""
ROWS_PER_DELETE: Final = 5_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told of one campaign in one month, and the kinds that are not told."""

    campaign: UUID
    figures: Mapping[str, int]
    withheld: tuple[str, ...]


def publish_month(ledger: Ledger, month: str, plan_id: UUID) -> int:
    """Publish the figures of a month if they were not, and let the hourly counts go; returns how many campaigns.

    Safe to kill and to run again: what was published stays, the rest follows.
    """
    with ledger.services.writer.transaction() as connection:
        done = {row[0] for row in connection.execute(SELECT_PUBLISHED, (ledger.tenant, month))}
    published = 0
    if WHOLE_MONTH not in done:
        catch_up(ledger, [CampaignView()])
        found = [f for f in _figures(ledger, month) if f.campaign.hex not in done]
        for start in range(0, len(found), CAMPAIGNS_PER_APPEND):
            published += _append(ledger, month, plan_id, found[start : start + CAMPAIGNS_PER_APPEND])
        _close(ledger, month, plan_id)
    _purge_hours(ledger, month)
    return published


def forget_hours(ledger: Ledger, first: str, last: str) -> None:
    """Of months whose keys are gone, let the hourly counts go that a restored ledger has of them, and count none again.

    What was published of them is not published again: an older ledger may have counted less, and the difference would
    tell. Safe to run again.
    """
    month = first
    while month <= last:
        _close(ledger, month, NIL)
        _purge_hours(ledger, month)
        month = next_month(month)


def protected(counts: Mapping[str, int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Of the counts of one campaign: the figures that may be told, and the kinds that are withheld."""
    told: dict[str, int] = {}
    for kind in PUBLISHED_KINDS:
        value = counts.get(kind, 0)
        if value >= GROUP_MIN and not any(_is_small(rest) for rest in _rests(told | {kind: value})):
            told[kind] = value
    return told, tuple(kind for kind in PUBLISHED_KINDS if kind not in told)


def _rests(figures: Mapping[str, int]) -> Iterable[int]:
    """Every group that these figures tell by subtraction."""
    for whole, part in NESTED:
        if whole in figures and part in figures:
            yield abs(figures[whole] - figures[part])
    parts = [figures[kind] for kind in PARTS if kind in figures]
    for parent in (figures[kind] for kind in PARENTS if kind in figures):
        for number in range(2, len(parts) + 1):
            for some in combinations(parts, number):
                yield abs(parent - sum(some))


def _is_small(group: int) -> bool:
    return 0 < group < GROUP_MIN


def _figures(ledger: Ledger, month: str) -> list[Figures]:
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        campaigns = ledger.services.book.campaigns(connection, ledger.tenant, generation)
        counts: dict[UUID, dict[str, int]] = {}
        values = (*_bounds(month), ledger.tenant, CampaignView.name)
        for campaign, kind, count in connection.execute(SELECT_COUNTS, values):
            counts.setdefault(campaign, {})[kind] = count
        found = []
        for campaign_id in sorted(counts):
            campaign = campaigns.get(campaign_id)
            if campaign is None:
                continue
            of_campaign = counts[campaign_id]
            if campaign.kind == "ongoing" and not _goes_to_a_group(connection, ledger, campaign_id, campaign, month):
                of_campaign = {}
            found.append(Figures(campaign_id, *protected(of_campaign)))
    return found


def _goes_to_a_group(
    connection: Connection[Any], ledger: Ledger, campaign_id: UUID, campaign: Campaign, month: str
) -> bool:
    """Whether the messages of an ongoing campaign in this month were seen to go to ten persons.

    Message streams begin with their campaign's time, so those of one campaign stand together in the index.
    """
    prefix = campaign_id.bytes[:6]
    first, last = UUID(bytes=prefix + bytes(10)), UUID(bytes=prefix + b"\xff" * 10)
    seen: set[UUID] = set()
    values = (ledger.tenant, first, last, EVENTS_PROBED_MAX)
    for stream, raw in connection.execute(SELECT_STREAMS, values, binary=True):
        entry = orjson.loads(bytes(raw))
        if entry["plain"].get("campaign") == campaign_id.hex and entry["occurred_at"].startswith(month):
            seen.add(stream)
        if len(seen) >= GROUP_MIN:
            return True
    return False


def _append(ledger: Ledger, month: str, plan_id: UUID, found: Sequence[Figures]) -> int:
    with ledger.appender.locked() as locked:
        told = [figures for figures in found if figures.figures]
        facts = [
            AggregatePublished(
                month=month, campaign=f.campaign.hex, figures=dict(f.figures), withheld=f.withheld, **_header(locked)
            )
            for f in told
        ]
        version = next_version(locked.connection, ledger.tenant, plan_id)
        headed = [
            fact.model_copy(update={"originator_id": plan_id, "originator_version": version + number})
            for number, fact in enumerate(facts)
        ]
        drafts = [(ledger.sealing.draft(fact), fact.originator_version) for fact in headed]
        positions = locked.record(drafts, restricts=False)
        for figures, position in zip(told, positions, strict=True):
            _note(locked, month, figures.campaign.hex, figures, position)
    return len(told)


def _close(ledger: Ledger, month: str, plan_id: UUID) -> None:
    """The month was published: whatever is counted of it later is not told any more."""
    with ledger.appender.locked() as locked:
        _note(locked, month, WHOLE_MONTH, Figures(plan_id, {}, ()), locked.position)


def _note(locked: LockedTenant, month: str, subject: str, figures: Figures, position: int) -> None:
    values = (locked.tenant, month, subject, Jsonb(dict(figures.figures)), list(figures.withheld), position)
    locked.connection.execute(INSERT_PUBLISHED, values)


def _purge_hours(ledger: Ledger, month: str) -> None:
    deleted = 1
    while deleted:
        with ledger.services.writer.transaction() as connection:
            values = (ledger.tenant, *_bounds(month), ROWS_PER_DELETE)
            deleted = connection.execute(DELETE_HOURS, values).rowcount


def _header(locked: LockedTenant) -> dict[str, Any]:
    return {
        "event_id": uuid7(unix_ms(locked.now), os.urandom(10)),
        "occurred_at": locked.now,
        "actor": RETENTION_ACTOR,
        "command": UUID(bytes=os.urandom(16), version=4),
    }


def _bounds(month: str) -> tuple[datetime, datetime]:
    year, number = int(month[:4]), int(month[5:7])
    start = datetime(year, number, 1, tzinfo=UTC)
    return start, datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
