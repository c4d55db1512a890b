"""The audit trail, searched: which events of the log answer a question, page by page, opened for those who may.

Three ways through the log, all in its order: by position; by streams, for one stream or for a person (their own
stream, every message of theirs and their records, whose ids are computed and stand nowhere); and by campaign, which
is by position with a filter. `recorded_at` never runs backwards along the positions (I3), so a time is found by
halving. The work of one page is bounded: where a filter matches rarely, a page holds fewer events than asked for and
says where to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign
from domain.facts import TOPICS, Fact, personal_fields, plain_fields
from domain.ids import from_micros, month_of, previous_month
from domain.personal import Erased, Feed, Personal, SuppressionData
from domain.records import FACT_OF_CLASS
from ledger.application import Ledger
from ledger.arrays import Uuid16Array
from ledger.errors import KeyMissing, TamperError
from ledger.keys.keyring import LINK
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.link_generations import PastLinks
from ledger.links import link_scope, message_id
from ledger.mapper import Holder, LedgerEvent
from ledger.recorder import ledger_event
from ledger.standing_row import StandingRow
from projections.errors import ProjectionError
from projections.log import every_version

EVENTS_MAX: Final = 500
"""Events per page: what a person can read, and an answer of about half a megabyte."""

SCANNED_MAX: Final = 20_000
"""Positions that one page looks at where a filter matches rarely: about a tenth of a second."""

NEVER_OPENED: Final = frozenset({SuppressionData.name, Feed.name})
"""Fingerprints, and addresses that only the change feed may tell: no search shows them."""

_COLUMNS = "stream_id, version, topic, entry, sealed, position, recorded_at"
SELECT_END = "SELECT position FROM lethe_read.head WHERE tenant_id = %s"
SELECT_RECORDED_AT = "SELECT recorded_at FROM lethe_read.event WHERE tenant_id = %s AND position = %s"
SELECT_FIRST = "SELECT position FROM lethe_read.event WHERE tenant_id = %s AND stream_id = %s AND version = 1"
SELECT_WINDOW = f"""
SELECT {_COLUMNS} FROM lethe_read.event
WHERE tenant_id = %s AND position > %s AND position <= %s ORDER BY position LIMIT %s
"""
SELECT_WINDOW_FILTERED = f"""
SELECT {_COLUMNS} FROM lethe_read.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s) AND position(%s IN entry) > 0
ORDER BY position LIMIT %s
"""
# The inner order makes the planner probe the index of streams; see ledger/recorder.py.
SELECT_STREAMS = f"""
SELECT {_COLUMNS} FROM unnest(%s) AS n(wanted), LATERAL (
    SELECT {_COLUMNS} FROM lethe_read.event
    WHERE tenant_id = %s AND stream_id = n.wanted ORDER BY tenant_id, stream_id, version
) AS e
WHERE e.position > %s AND e.position <= %s AND e.topic = ANY(%s) ORDER BY e.position LIMIT %s
"""


class EventUnreadable(ProjectionError):
    """An event's key is missing without a tombstone, or its bytes were changed: an incident, never an erasure (I6)."""

    def __init__(self, position: int, error: Exception) -> None:
        super().__init__(f"The event at position {position} cannot be read. {error}")
        self.position = position


class UnknownKind(ProjectionError):
    """A kind of event that this ledger does not have."""


@dataclass(frozen=True, slots=True)
class Question:
    """What to search for; everything given must hold. `kinds` are topics, or their beginnings, such as `consent`.

    `since` (inclusive) and `until` (exclusive) are times of recording. `after` is the position to go on after.
    """

    email: str | None = None
    stream: UUID | None = None
    campaign: UUID | None = None
    kinds: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    after: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """One event as it is shown. `personal` holds values, `Erased`, or None for what was not opened."""

    position: int
    event_id: UUID
    stream: UUID
    version: int
    kind: str
    recorded_at: datetime
    occurred_at: datetime
    actor: str
    command: UUID | None
    rules: str | None
    plain: Mapping[str, Any]
    personal: Mapping[str, Any]


@dataclass(slots=True)
class Page:
    """Events in order of the log, and the position to go on after, None at the end.

    `opened` counts the sealed fields that were opened; `subject` is the person they were searched by, if one was.
    """

    events: list[SeenEvent] = field(default_factory=list)
    next_after: int | None = None
    opened: int = 0
    subject: UUID | None = None


def search(ledger: Ledger, question: Question, *, opened: bool) -> Page:
    """One page of what answers a question. Raises `EventUnreadable`, `UnknownKind`, `InvalidAddress`.

    The address of an erased person finds nothing, because nothing leads from it to their events any more (I11).
    """
    topics = matching_topics(question.kinds)
    page = Page()
    holders: dict[UUID, Holder] = {}
    streams = None
    if question.email is not None:
        person = ledger.person(question.email)
        if person is None:
            return page
        page.subject = UUID(bytes=person.person.subject)
        holders = _messages_of(ledger, person, question.campaign)
        streams = [page.subject, *holders]
        if question.campaign is None:
            records = ledger.records.streams.of(person.person.records_kid, _record_classes(topics))
            holders |= records
            streams += [*records, *ledger.exports.streams_of(person.person.kid, person.person.subject)]
    if question.stream is not None:
        streams = [s for s in (streams if streams is not None else [question.stream]) if s == question.stream]
    limit = min(question.limit, EVENTS_MAX)
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        first, last = _section(connection, ledger.tenant, question)
        if streams is None:
            found, page.next_after = _by_position(connection, ledger.tenant, question, topics, first, last, limit)
        else:
            values = (Uuid16Array(s.bytes for s in streams), ledger.tenant, first, last, topics, limit + 1)
            rows = connection.execute(SELECT_STREAMS, values, binary=True).fetchall()
            found = [ledger_event(row) for row in rows[:limit]]
            page.next_after = found[-1].position if len(rows) > limit else None
    if streams is not None and question.campaign is not None:
        found = [event for event in found if _speaks_of(event, question.campaign)]
    for event in found:
        assert isinstance(event.originator_id, UUID)
        page.events.append(_seen(ledger, event, holders.get(event.originator_id), opened, page))
    return page


def streams_of_person(ledger: Ledger, person: StandingRow) -> dict[UUID, Holder]:
    """The streams of every message and record that may be of a person, with whose keys open them."""
    return _messages_of(ledger, person, None) | ledger.records.streams.of(person.person.records_kid)


def matching_topics(kinds: Sequence[str]) -> list[str]:
    """Every stored topic that one of these kinds names, older versions included. Raises `UnknownKind`."""
    known = sorted(TOPICS)
    if not kinds:
        return every_version(known)
    wanted: set[str] = set()
    for kind in kinds:
        found = {topic for topic in known if topic == kind or topic.startswith(kind + ".")}
        if not found:
            names = ", ".join(topic.rpartition(".v")[0] for topic in known)
            raise UnknownKind(f"There is no such kind of event. Kinds are {names}, or their first word.")
        wanted |= found
    return every_version(sorted(wanted))


def _section(connection: Connection[Any], tenant: UUID, question: Question) -> tuple[int, int]:
    """The positions that can answer: after the first, up to the last."""
    row = connection.execute(SELECT_END, (tenant,)).fetchone()
    end = int(row[0]) if row else 0
    first, last = question.after, end
    if question.since is not None:
        first = max(first, _position_at(connection, tenant, question.since, end) - 1)
    if question.until is not None:
        last = min(last, _position_at(connection, tenant, question.until, end) - 1)
    return first, last


def _position_at(connection: Connection[Any], tenant: UUID, moment: datetime, end: int) -> int:
    """The first position recorded at or after a moment; one past the end if there is none."""
    low, high = 1, end + 1
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(SELECT_RECORDED_AT, (tenant, middle)).fetchone()
        if row is not None and row[0] >= moment:
            high = middle
        else:
            low = middle + 1
    return low


def _by_position(
    connection: Connection[Any],
    tenant: UUID,
    question: Question,
    topics: list[str],
    first: int,
    last: int,
    limit: int,
) -> tuple[list[LedgerEvent], int | None]:
    """A window of the log and where to go on; a window that is filtered is bounded by what it looks at."""
    if question.campaign is None and not question.kinds:
        rows = connection.execute(SELECT_WINDOW, (tenant, first, last, limit + 1), binary=True).fetchall()
        found = [ledger_event(row) for row in rows[:limit]]
        return found, found[-1].position if len(rows) > limit else None
    if question.campaign is not None:
        row = connection.execute(SELECT_FIRST, (tenant, question.campaign)).fetchone()
        if row is None:
            return [], None
        first = max(first, row[0] - 1)
    scanned = min(last, first + SCANNED_MAX)
    needle = question.campaign.hex.encode() if question.campaign is not None else b""
    values = (tenant, first, scanned, topics, needle, limit + 1)
    rows = connection.execute(SELECT_WINDOW_FILTERED, values, binary=True).fetchall()
    found = [ledger_event(row) for row in rows[:limit]]
    if question.campaign is not None:
        found = [event for event in found if _speaks_of(event, question.campaign)]
    if len(rows) > limit:
        return found, rows[limit - 1][5]
    return found, scanned if scanned < last else None


def _speaks_of(event: LedgerEvent, campaign: UUID) -> bool:
    """Whether an event is of a campaign's stream, or names it."""
    return event.originator_id == campaign or b'"campaign":"%b"' % campaign.hex.encode() in event.state


def _messages_of(ledger: Ledger, person: StandingRow, campaign_id: UUID | None) -> dict[UUID, Holder]:
    """The streams of every message that may have been for a person, with whose keys open them: one hash each."""
    with ledger.services.writer.connection() as connection:
        generation = ledger.appender.read_head(connection).generation
        campaigns = ledger.services.book.campaigns(connection, ledger.tenant, generation)
    now = ledger.clock()
    first_month = month_of(from_micros(person.standing.added_at)) if person.standing.added_at else ""
    wanted = {
        c: months
        for c, campaign in campaigns.items()
        if campaign_id in (None, c) and (months := _link_months(campaign, first_month, now))
    }
    holders: dict[UUID, Holder] = {}
    for month, scope, holder in _link_scopes(ledger, person, {month for months in wanted.values() for month in months}):
        ids = (message_id(scope, c.bytes) for c, months in wanted.items() if month in months)
        holders.update((UUID(bytes=stream), holder) for stream in ids)
    return holders


def _link_scopes(ledger: Ledger, person: StandingRow, months: Set[str]) -> Iterator[tuple[str, bytes, Holder]]:
    """K_link of a person in each of these months that still has one, and with whose keys its messages open.

    Of a person under a legal hold K_link itself may be kept after the month's key went.
    """
    kid = person.person.kid
    names = {month: KeyName(TENANT_HOLDER, LINK, month) for month in months}
    keys = ledger.keyring.find(names.values()).keys if names else {}
    links = PastLinks(ledger.services.vault, ledger.tenant)
    kept: dict[KeyName, str] = {}
    for month, name in names.items():
        link = links.link_for(person, month)
        if link is not None and name in keys:
            yield month, link_scope(link[0], keys[name]), Holder(kid, link[1])
        elif link is not None:
            kept[KeyName(kid, LINK, month, link[1])] = month
    escrowed = ledger.keyring.find(kept).keys if kept else {}
    for name, scope in escrowed.items():
        yield kept[name], scope, Holder(kid, name.generation)


def _record_classes(topics: Sequence[str]) -> set[str]:
    """The classes of records that one of these topics tells of."""
    return {name for name, fact_class in FACT_OF_CLASS.items() if fact_class.TOPIC in topics}


def _link_months(campaign: Campaign, first_month: str, now: datetime) -> list[str]:
    """The months whose link key the messages of a campaign were made with, not before the person was added."""
    registered = month_of(campaign.registered_at)
    if campaign.kind != "ongoing":
        return [registered]
    months = []
    month = month_of(now.astimezone(UTC))
    while month >= max(registered, first_month):
        months.append(month)
        month = previous_month(month)
    return months


def _seen(ledger: Ledger, event: LedgerEvent, holder: Holder | None, opened: bool, page: Page) -> SeenEvent:
    assert event.position is not None
    assert event.recorded_at is not None
    try:
        fact = ledger.sealing.open(event, holder, personal=opened)
    except (KeyMissing, TamperError) as error:
        raise EventUnreadable(event.position, error) from error
    personal = dict(personal_values(fact))
    page.opened += sum(value is not None and not isinstance(value, Erased) for value in personal.values())
    plain = {name: value for name in plain_fields(type(fact)) if (value := getattr(fact, name)) is not None}
    return SeenEvent(
        position=event.position,
        event_id=fact.event_id,
        stream=fact.originator_id,
        version=fact.originator_version,
        kind=event.topic,
        recorded_at=event.recorded_at,
        occurred_at=fact.occurred_at,
        actor=fact.actor,
        command=fact.command,
        rules=fact.rules,
        plain=plain,
        personal=personal,
    )


def personal_values(fact: Fact) -> Iterator[tuple[str, Any]]:
    """The personal fields of a fact that hold something: the value, its `Erased`, or None where it is not shown."""
    for name, retention_class in personal_fields(type(fact)).items():
        value = getattr(fact, name)
        if value is None:
            continue
        if retention_class in NEVER_OPENED and not isinstance(value, Erased):
            yield name, None
        elif isinstance(value, Personal):
            yield name, value.reveal()
        else:
            yield name, value if isinstance(value, Erased) else None
