"""Every decision that was made about a living person's messages, found by computing their message ids.

A message never names its subject (DESIGN section 3). Who still has the link keys finds each message by one hash per
campaign and month; where the person's or the month's link key is destroyed nobody finds it any more, by design (I11).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from domain.campaign import Campaign
from domain.ids import month_of, next_month, previous_month
from domain.message import MessageDispatched, SendAuthorised, SendRefused
from ledger.application import Ledger
from ledger.entry import parse_entry_time
from ledger.keys.keyring import LINK
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.link_generations import PastLinks
from ledger.links import link_scope, message_id
from ledger.mapper import LedgerEvent
from ledger.standing_row import StandingRow

PERSONS_PER_PAGE = 500
STREAMS_PER_READ = 2_000

SELECT_LIVING = """
SELECT fingerprint FROM lethe.standing WHERE tenant_id = %s AND generation = %s AND fingerprint > %s
ORDER BY fingerprint LIMIT %s
"""

PROBES_MAX = 100_000
"""Message ids that are computed at once. Who needs it: accounts with more campaigns than memory has room for pages."""

Campaigns = Mapping[UUID, Campaign]


class _Place(NamedTuple):
    """Where messages of a campaign can stand: a month, with its link key."""

    campaign: UUID
    month: str
    key: bytes


@dataclass(frozen=True, slots=True)
class PastDecision:
    """One decision as the log holds it. `rule` allowed or refused it, under the rules of version `rules`.

    `dispatched_at` is the position at which the message was reported as sent on this authorisation, None where it was
    not. It was decided at `decided_at`, and recorded a moment later.
    """

    position: int
    decided_at: datetime
    recorded_at: datetime
    stream: UUID
    campaign: UUID
    allowed: bool
    rule: str
    rules: str | None
    dispatched_at: int | None = None


def campaigns_of(ledger: Ledger) -> tuple[int, dict[UUID, Campaign]]:
    """The generation of the inline projections that serves, and every campaign."""
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        return generation, dict(ledger.services.book.campaigns(connection, ledger.tenant, generation))


def living(ledger: Ledger, generation: int) -> Iterator[list[StandingRow]]:
    """Every living person of an account, in pages of `PERSONS_PER_PAGE`."""
    last = b""
    while True:
        with ledger.services.writer.transaction() as connection:
            values = (ledger.tenant, generation, last, PERSONS_PER_PAGE)
            fingerprints = [bytes(row[0]) for row in connection.execute(SELECT_LIVING, values, binary=True)]
            rows = ledger.services.book.read(connection, ledger.tenant, generation, fingerprints)
        yield list(rows.values())
        if len(fingerprints) < PERSONS_PER_PAGE:
            return
        last = fingerprints[-1]


def past_decisions(
    ledger: Ledger, campaigns: Campaigns, page: Sequence[StandingRow]
) -> Iterator[tuple[StandingRow, list[PastDecision]]]:
    """The decisions about each person of a page, in the order of the log."""
    places = _places(ledger, campaigns)
    links = PastLinks(ledger.services.vault, ledger.tenant)
    links.ask(page)
    persons = max(1, PROBES_MAX // max(1, len(places)))
    for start in range(0, len(page), persons):
        yield from _decisions_of(ledger, places, links, page[start : start + persons])


def _decisions_of(
    ledger: Ledger, places: Sequence[_Place], links: PastLinks, rows: Sequence[StandingRow]
) -> Iterator[tuple[StandingRow, list[PastDecision]]]:
    owners = _owners(places, links, rows)
    found: list[list[PastDecision]] = [[] for _ in rows]
    streams = list(owners)
    for start in range(0, len(streams), STREAMS_PER_READ):
        events = ledger.log.select_streams(streams[start : start + STREAMS_PER_READ])
        for stream, told in _by_stream(events).items():
            number, campaign = owners[stream]
            found[number].extend(_decisions(stream, campaign, told))
    for decisions in found:
        decisions.sort(key=lambda decision: decision.position)
    yield from zip(rows, found, strict=True)


def _owners(places: Sequence[_Place], links: PastLinks, rows: Sequence[StandingRow]) -> dict[UUID, tuple[int, UUID]]:
    """Whose each message stream would be, as the number of the row and the campaign."""
    owners: dict[UUID, tuple[int, UUID]] = {}
    for number, row in enumerate(rows):
        for place in places:
            link = links.link_for(row, place.month)
            if link is not None:
                stream = UUID(bytes=message_id(link_scope(link[0], place.key), place.campaign.bytes))
                owners[stream] = (number, place.campaign)
    return owners


def _places(ledger: Ledger, campaigns: Campaigns) -> list[_Place]:
    """Where messages can stand whose month's link key still lives: each campaign with each of its months."""
    end = month_of(ledger.clock())
    months = {campaign_id: link_months(campaign, end) for campaign_id, campaign in campaigns.items()}
    names = {month: KeyName(TENANT_HOLDER, LINK, month) for of_one in months.values() for month in of_one}
    keys = ledger.keyring.find(list(names.values())).keys
    return [
        _Place(campaign_id, month, keys[names[month]])
        for campaign_id, of_one in months.items()
        for month in of_one
        if names[month] in keys
    ]


def link_months(campaign: Campaign, end: str) -> list[str]:
    """The link months that a campaign's messages can stand in: its own, or for ongoing ones all until `end`."""
    if campaign.kind != "ongoing":
        return [campaign.month(campaign.registered_at)]
    month = previous_month(month_of(campaign.registered_at))  # The month before the first is probed as well.
    months = []
    while month <= end:
        months.append(month)
        month = next_month(month)
    return months


def _by_stream(events: Iterable[LedgerEvent]) -> dict[UUID, list[LedgerEvent]]:
    found: dict[UUID, list[LedgerEvent]] = {}
    for event in events:
        assert isinstance(event.originator_id, UUID)
        found.setdefault(event.originator_id, []).append(event)
    return found


def _decisions(stream: UUID, campaign: UUID, told: Sequence[LedgerEvent]) -> Iterator[PastDecision]:
    entries = [(event, orjson.loads(event.state)) for event in told]
    dispatched = _dispatches(entries)
    for event, entry in entries:
        if event.topic in (SendAuthorised.TOPIC, SendRefused.TOPIC):
            yield _decision(stream, campaign, event, entry, dispatched.get(event.position or 0))


def _dispatches(entries: Sequence[tuple[LedgerEvent, Mapping[str, Any]]]) -> dict[int, int]:
    """By position of an authorisation: where it was first used. A dispatch uses the last one that stood before it."""
    last: dict[Any, int] = {}
    used: dict[int, int] = {}
    for event, entry in entries:
        occurrence, position = entry["plain"].get("occurrence"), event.position or 0
        if event.topic == SendAuthorised.TOPIC:
            last[occurrence] = position
        elif event.topic == MessageDispatched.TOPIC and occurrence in last:
            used.setdefault(last[occurrence], position)
    return used


def _decision(
    stream: UUID, campaign: UUID, event: LedgerEvent, entry: Mapping[str, Any], dispatched_at: int | None
) -> PastDecision:
    plain = entry["plain"]
    assert event.recorded_at is not None
    return PastDecision(
        event.position or 0,
        parse_entry_time(entry["occurred_at"]),
        event.recorded_at,
        stream,
        campaign,
        event.topic == SendAuthorised.TOPIC,
        plain["rule"],
        entry.get("rules"),
        dispatched_at,
    )
