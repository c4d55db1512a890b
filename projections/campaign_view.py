"""Asynchronous projection: what became of a campaign, counted by hour, kind and rule.

Whatever becomes a "no" stands in a person's stream with its campaign, the rest in message streams; both are counted
here and neither is named. Counting needs the plain part of an entry only, so nothing is opened and no fact is built:
a window of the log becomes one aggregated upsert. The hour is that of `occurred_at`, when the thing happened to the
mail: providers report late, and a chart by the time of their reports would show their queues.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from domain.campaign import RecipientsRefused
from domain.message import (
    MessageClicked,
    MessageDeferred,
    MessageDelivered,
    MessageDispatched,
    MessageOpened,
    MessageSoftBounced,
    SendAuthorised,
    SendRefused,
)
from domain.subject import ConsentWithdrawn, ContactComplained, ContactHardBounced, ContactUnsubscribed
from ledger.application import Ledger
from ledger.recorder import ReaderPool
from projections.log import Rows

NAME = "campaign_view"

AUTHORISED, REFUSED, DISPATCHED, FINDING = "authorised", "refused", "dispatched", "finding"
OPENED, CLICKED, FIRST_OPENED, FIRST_CLICKED = "opened", "clicked", "first_opened", "first_clicked"
KINDS = (
    *(AUTHORISED, REFUSED, DISPATCHED, "delivered", "deferred", "soft_bounced", "hard_bounced", "complained"),
    *(OPENED, CLICKED, FIRST_OPENED, FIRST_CLICKED, "unsubscribed", FINDING),
)

SELECT_ENTRIES = """
SELECT position, topic, entry FROM lethe.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s)
"""
UPSERT_COUNTS = """
INSERT INTO lethe.campaign_count (tenant_id, generation, campaign_id, hour, kind, rule, count)
SELECT %s, %s, n.* FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::bigint[])
    AS n(campaign_id, hour, kind, rule, count)
ON CONFLICT (tenant_id, generation, campaign_id, hour, kind, rule)
DO UPDATE SET count = campaign_count.count + excluded.count
"""
# One statement, so that the counts and the position they are current to come from one snapshot.
SELECT_COUNTS = """
SELECT t.position, c.hour, c.kind, c.rule, c.count FROM lethe_read.tracking t LEFT JOIN LATERAL (
    SELECT hour, kind, rule, count FROM lethe_read.campaign_count
    WHERE tenant_id = t.tenant_id AND generation = t.generation AND campaign_id = %s ORDER BY hour, kind, rule
) AS c ON true
WHERE t.tenant_id = %s AND t.projection = %s AND t.live
"""
# Of a month whose figures were published nothing is counted by the hour any more (retention/plans/aggregates.py).
SELECT_PUBLISHED_MONTHS = "SELECT month FROM lethe.published_aggregate WHERE tenant_id = %s AND subject = ''"
SELECT_PUBLISHED = """
SELECT month, figures, withheld FROM lethe_read.published_aggregate WHERE tenant_id = %s AND subject = %s ORDER BY month
"""
DELETE_SOME = """
DELETE FROM lethe.campaign_count WHERE tenant_id = %s AND generation = %s AND (campaign_id, hour, kind, rule) IN (
    SELECT campaign_id, hour, kind, rule FROM lethe.campaign_count WHERE tenant_id = %s AND generation = %s LIMIT %s
)
"""

Key = tuple[str, str, str, str]
"""Campaign (hex), hour (as entries write it, to the hour), kind, rule."""

Counter = dict[Key, int]
MONTH_CHARACTERS = len("2026-11")
_CAMPAIGN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class HourCounts:
    """What happened in one hour (its beginning, UTC), by kind."""

    hour: datetime
    by_kind: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MonthFigures:
    """What was published of a month before its keys went: figures of at least ten, and the kinds not told."""

    month: str
    figures: Mapping[str, int]
    withheld: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CampaignCounts:
    """What became of one campaign, as far as the log was counted: up to `position`.

    `by_kind` has every kind, 0 where nothing happened; `refused_by_rule` and `findings` break two of them down. Months
    whose keys are gone stand in `published` and in nothing else.
    """

    campaign_id: UUID
    position: int
    by_kind: Mapping[str, int]
    refused_by_rule: Mapping[str, int]
    findings: Mapping[str, int]
    by_hour: list[HourCounts] = field(default_factory=list)
    published: list[MonthFigures] = field(default_factory=list)


class CampaignView:
    """Counts for every campaign of a tenant."""

    name = NAME

    def read(self, connection: Connection[Any], tenant: UUID, after: int, last: int) -> Rows:
        """Position, topic and entry of what is counted, in a window of the log."""
        return connection.execute(SELECT_ENTRIES, (tenant, after, last, _TOPIC_LIST), binary=True).fetchall()

    def apply(self, connection: Connection[Any], ledger: Ledger, generation: int, rows: Rows) -> None:
        """Add a window to the counts."""
        counts = count(rows)
        closed = {row[0] for row in connection.execute(SELECT_PUBLISHED_MONTHS, (ledger.tenant,))} if counts else ()
        keys = sorted(key for key in counts if key[1][:MONTH_CHARACTERS] not in closed)
        if not keys:
            return
        columns = (
            [UUID(campaign) for campaign, _, _, _ in keys],
            [datetime(int(h[:4]), int(h[5:7]), int(h[8:10]), int(h[11:13]), tzinfo=UTC) for _, h, _, _ in keys],
            [kind for _, _, kind, _ in keys],
            [rule for _, _, _, rule in keys],
            [counts[key] for key in keys],
        )
        connection.execute(UPSERT_COUNTS, (ledger.tenant, generation, *columns))

    def clear(self, connection: Connection[Any], tenant: UUID, generation: int, rows_max: int) -> int:
        """Delete some rows of a generation; returns how many."""
        values = (tenant, generation, tenant, generation, rows_max)
        return connection.execute(DELETE_SOME, values).rowcount


def campaign_counts(reader: ReaderPool, tenant: UUID, campaign_id: UUID) -> CampaignCounts:
    """What became of a campaign; all zero if it is unknown or nothing was counted yet."""
    with reader.tenant(tenant) as connection:
        rows = connection.execute(SELECT_COUNTS, (campaign_id, tenant, NAME), binary=True).fetchall()
        told = connection.execute(SELECT_PUBLISHED, (tenant, campaign_id.hex)).fetchall()
    by_kind = dict.fromkeys(KINDS, 0)
    refused: dict[str, int] = {}
    findings: dict[str, int] = {}
    hours: dict[datetime, dict[str, int]] = {}
    position = rows[0][0] if rows else 0
    for _, hour, kind, rule, number in rows:
        if hour is None:
            continue
        by_kind[kind] = by_kind.get(kind, 0) + number
        of_hour = hours.setdefault(hour, {})
        of_hour[kind] = of_hour.get(kind, 0) + number
        if kind in (REFUSED, FINDING):
            by_rule = refused if kind == REFUSED else findings
            by_rule[rule] = by_rule.get(rule, 0) + number
    by_hour = [HourCounts(hour, hours[hour]) for hour in sorted(hours)]
    published = [MonthFigures(month, figures, tuple(withheld)) for month, figures, withheld in told]
    return CampaignCounts(campaign_id, position, by_kind, refused, findings, by_hour, published)


def count(rows: Rows) -> Counter:
    """The counts of a window, by campaign, hour, kind and rule. Rows are position, topic and entry."""
    counts: Counter = {}
    kinds, special, loads = _KINDS, _SPECIAL, orjson.loads
    for _, topic, entry in rows:
        stored = loads(entry)
        plain = stored["plain"]
        hour = stored["occurred_at"][:13]
        kind = kinds.get(topic)
        if kind is not None:
            key = (plain["campaign"], hour, kind, "")
            counts[key] = counts.get(key, 0) + 1
        else:
            special[topic](counts, stored, plain, hour)
    return counts


def _add(counts: Counter, key: Key, number: int = 1) -> None:
    counts[key] = counts.get(key, 0) + number


def _refused(counts: Counter, stored: Mapping[str, Any], plain: Mapping[str, Any], hour: str) -> None:
    _add(counts, (plain["campaign"], hour, REFUSED, plain["rule"]))


def _strangers(counts: Counter, stored: Mapping[str, Any], plain: Mapping[str, Any], hour: str) -> None:
    for rule, number in plain["counts"].items():
        _add(counts, (stored["stream"], hour, REFUSED, rule), number)


def _dispatched(counts: Counter, stored: Mapping[str, Any], plain: Mapping[str, Any], hour: str) -> None:
    _add(counts, (plain["campaign"], hour, DISPATCHED, ""))
    finding = plain.get("finding")
    if finding is not None:
        _add(counts, (plain["campaign"], hour, FINDING, finding))


def _engaged(kind: str, first_kind: str) -> Callable[[Counter, Mapping[str, Any], Mapping[str, Any], str], None]:
    def add(counts: Counter, stored: Mapping[str, Any], plain: Mapping[str, Any], hour: str) -> None:
        _add(counts, (plain["campaign"], hour, kind, ""))
        if plain.get("first"):
            _add(counts, (plain["campaign"], hour, first_kind, ""))

    return add


def _of_person(kind: str) -> Callable[[Counter, Mapping[str, Any], Mapping[str, Any], str], None]:
    """A "no" counts for the campaign it came through; one without a campaign of ours counts for none."""

    def add(counts: Counter, stored: Mapping[str, Any], plain: Mapping[str, Any], hour: str) -> None:
        campaign = plain.get("campaign")
        if campaign is not None and _CAMPAIGN_ID.fullmatch(campaign):
            _add(counts, (campaign, hour, kind, ""))

    return add


# Topics are those of version 1. A new version of one of them gets a line of its own here.
_KINDS: dict[str, str] = {
    SendAuthorised.TOPIC: AUTHORISED,
    MessageDelivered.TOPIC: "delivered",
    MessageDeferred.TOPIC: "deferred",
    MessageSoftBounced.TOPIC: "soft_bounced",
}
_SPECIAL: dict[str, Callable[[Counter, Mapping[str, Any], Mapping[str, Any], str], None]] = {
    SendRefused.TOPIC: _refused,
    RecipientsRefused.TOPIC: _strangers,
    MessageDispatched.TOPIC: _dispatched,
    MessageOpened.TOPIC: _engaged(OPENED, FIRST_OPENED),
    MessageClicked.TOPIC: _engaged(CLICKED, FIRST_CLICKED),
    ContactComplained.TOPIC: _of_person("complained"),
    ContactHardBounced.TOPIC: _of_person("hard_bounced"),
    ContactUnsubscribed.TOPIC: _of_person("unsubscribed"),
    ConsentWithdrawn.TOPIC: _of_person("unsubscribed"),
}
_TOPIC_LIST = [*_KINDS, *_SPECIAL]
