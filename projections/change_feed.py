"""Asynchronous projection: what senders must be told about suppressions, in order of the log, for seven days.

A row names its address sealed under the feed key of its day, which lives seven days (DESIGN section 3). The address
of a living person is what the person's stream said of it at that event; of erased persons and of strangers it stands
in the event itself, under the same kind of key. A person who was erased meanwhile is told of by the erasure alone:
the rows before it keep no address (`forget_person`), and a rebuild finds none.

What was purged cannot be told any more: a cursor from before that is refused, and the lookup answers instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import orjson
from psycopg import Connection

from domain.facts import opened
from domain.ids import day_of
from domain.personal import Erased, Feed, Identity
from domain.scope import ALL, purpose_scope
from domain.subject import (
    ACCOUNT_CLOSURE,
    AuthorisationsRecalled,
    ConsentGranted,
    ConsentRefused,
    ConsentWithdrawn,
    ContactAdded,
    ContactCorrected,
    ContactSuppressed,
    ErasureIntended,
    NoFact,
    ProcessingRestricted,
    RestrictionLifted,
    SuppressionByHandLifted,
)
from domain.suppression import SuppressionImposed, SuppressionLifted
from ledger.application import Ledger
from ledger.arrays import Uuid16Array
from ledger.errors import PeriodDestroyed
from ledger.keys.keyring import Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.mapper import LedgerEvent
from ledger.recorder import ReaderPool, ledger_event
from ledger.sealing import open_box, scope_key, seal_box
from projections.errors import CursorTooOld
from projections.identity import find_identity_keys
from projections.log import Rows, every_version, read_events
from projections.tracking import take

NAME = "change_feed"
FLOOR = "change_feed.floor"
"""A tracking row of this name, which never serves, holds the last position that was purged."""

DAYS_KEPT = 7
CHANGES_MAX = 10_000

Kind = Literal["suppressed", "lifted", "recalled", "consent_withdrawn", "granted"]

_CAUSES: dict[str, str] = {no.TOPIC: no.CAUSE for no in NoFact.__subclasses__()}
_NOES = (*_CAUSES, ConsentWithdrawn.TOPIC, ConsentRefused.TOPIC)
_OTHERS = (
    *(ConsentGranted.TOPIC, SuppressionByHandLifted.TOPIC, ProcessingRestricted.TOPIC, RestrictionLifted.TOPIC),
    *(AuthorisationsRecalled.TOPIC, ErasureIntended.TOPIC, SuppressionImposed.TOPIC, SuppressionLifted.TOPIC),
)
_ADDRESS_TOPICS = (ContactAdded.TOPIC, ContactCorrected.TOPIC)
_OWN_ADDRESS = (ErasureIntended.TOPIC, SuppressionImposed.TOPIC, SuppressionLifted.TOPIC)

SELECT_PERSONS = """
SELECT e.* FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
    WHERE tenant_id = %s AND stream_id = n.stream_id AND topic = ANY(%s) ORDER BY tenant_id, stream_id, version
) AS e
"""
INSERT_CHANGES = """
INSERT INTO lethe.suppression_change
    (tenant_id, generation, position, kind, scope, cause, campaign_id, recorded_at, feed_day, address)
SELECT %s, %s, n.* FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::uuid[], %b::timestamptz[],
    %b::text[], %b::bytea[]) AS n(position, kind, scope, cause, campaign_id, recorded_at, feed_day, address)
ON CONFLICT (tenant_id, generation, position) DO NOTHING
"""
# One statement, so that the changes and the position they are current to come from one snapshot.
SELECT_CHANGES = """
SELECT t.position, f.position, c.position, c.kind, c.scope, c.cause, c.campaign_id, c.recorded_at, c.feed_day, c.address
FROM lethe_read.tracking t
LEFT JOIN lethe_read.tracking f ON f.tenant_id = t.tenant_id AND f.projection = %s
LEFT JOIN LATERAL (
    SELECT * FROM lethe_read.suppression_change
    WHERE tenant_id = t.tenant_id AND generation = t.generation AND position > %s ORDER BY position LIMIT %s
) AS c ON true
WHERE t.tenant_id = %s AND t.projection = %s AND t.live ORDER BY c.position
"""
FORGET_PERSON = """
UPDATE lethe.suppression_change c SET address = NULL FROM (
    SELECT position FROM lethe.event WHERE tenant_id = %s AND stream_id = %s AND topic <> %s
) AS e
WHERE c.tenant_id = %s AND c.generation = ANY(%s) AND c.position = e.position
"""
SELECT_GENERATIONS = "SELECT generation FROM lethe.tracking WHERE tenant_id = %s AND projection = %s FOR UPDATE"
# By where the rows end and not by a list of them: a planner without statistics goes through that list for each row.
DELETE_SOME = """
DELETE FROM lethe.suppression_change WHERE tenant_id = %s AND generation = %s AND position <= (
    SELECT max(position) FROM (
        SELECT position FROM lethe.suppression_change
        WHERE tenant_id = %s AND generation = %s ORDER BY position LIMIT %s
    ) AS first
)
"""
RAISE_FLOOR = """
INSERT INTO lethe.tracking (tenant_id, projection, generation, position, live) VALUES (%s, %s, 0, %s, false)
ON CONFLICT (tenant_id, projection, generation) DO UPDATE SET position = greatest(tracking.position, excluded.position)
"""
DELETE_PURGED = """
DELETE FROM lethe.suppression_change WHERE tenant_id = %s AND generation = ANY(%s) AND position <= %s
"""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the feed. `email` is None where the key that sealed it is gone."""

    position: int
    kind: Kind
    scope: str
    cause: str
    campaign: UUID | None
    recorded_at: datetime
    email: str | None


class _Line:
    """A change on its way into the table, and the event it comes from."""

    __slots__ = ("address", "campaign", "cause", "day", "event", "kind", "scope")

    def __init__(self, event: LedgerEvent, kind: Kind, scope: str, cause: str, campaign: UUID | None = None) -> None:
        assert event.recorded_at is not None
        self.event = event
        self.kind = kind
        self.scope = scope
        self.cause = cause
        self.campaign = campaign
        self.address: str | None = None
        self.day = day_of(event.recorded_at)


class ChangeFeed:
    """The suppression changes of a tenant."""

    name = NAME

    def read(self, connection: Connection[Any], tenant: UUID, after: int, last: int) -> Rows:
        """Position, topic and event of what changes a suppression, in a window of the log."""
        events = read_events(connection, tenant, (*_NOES, *_OTHERS), after, last)
        return [(event.position, event.topic, event) for event in events]

    def apply(self, connection: Connection[Any], ledger: Ledger, generation: int, rows: Rows) -> None:
        """Add the lines of a window that are still to be told."""
        oldest = oldest_day_kept(ledger.clock())
        lines = [line for _, _, event in rows if (line := _line(event)) is not None and line.day >= oldest]
        keys = _feed_scopes(ledger.keyring, {line.day for line in lines})
        lines = _with_addresses(connection, ledger, [line for line in lines if line.day in keys])
        columns: list[list[Any]] = [
            [line.event.position for line in lines],
            [line.kind for line in lines],
            [line.scope for line in lines],
            [line.cause for line in lines],
            [line.campaign for line in lines],
            [line.event.recorded_at for line in lines],
            [line.day for line in lines],
            [_sealed(ledger.tenant, line, keys[line.day]) for line in lines],
        ]
        if lines:
            connection.execute(INSERT_CHANGES, (ledger.tenant, generation, *columns))

    def clear(self, connection: Connection[Any], tenant: UUID, generation: int, rows_max: int) -> int:
        """Delete some rows of a generation; returns how many."""
        return connection.execute(DELETE_SOME, (tenant, generation, tenant, generation, rows_max)).rowcount


def changes_after(
    reader: ReaderPool, keyring: Keyring, tenant: UUID, after: int | None, limit: int
) -> tuple[list[Change], int]:
    """The changes after a cursor (a position; None: everything kept), and the cursor for the next call.

    At most `limit` changes (bounded by `CHANGES_MAX`). Raises `CursorTooOld`.
    """
    values = (FLOOR, after or 0, min(limit, CHANGES_MAX), tenant, NAME)
    with reader.tenant(tenant) as connection:
        rows = connection.execute(SELECT_CHANGES, values, binary=True).fetchall()
    if not rows:
        return [], after or 0
    current, floor = rows[0][0], rows[0][1] or 0
    if after is not None and after < floor:
        raise CursorTooOld(
            f"The change feed keeps {DAYS_KEPT} days, and this cursor is older. Ask about every address you hold with "
            "POST /v1/suppressions/lookup, then follow the feed again without a cursor."
        )
    scopes: dict[str, bytes | Erased] = {}
    changes = [_change(keyring, tenant, scopes, row[2:]) for row in rows if row[2] is not None]
    full = len(changes) >= min(limit, CHANGES_MAX)
    return changes, changes[-1].position if full else max(current, after or 0)


def forget_person(connection: Connection[Any], tenant: UUID, stream: UUID) -> int:
    """Take the address out of an erased person's lines, but for the one that tells of the erasure; returns how many.

    Waits for a batch that is being taken in, which may have read the person's stream before the intent.
    """
    generations = [row[0] for row in connection.execute(SELECT_GENERATIONS, (tenant, NAME))]
    values = (tenant, stream, ErasureIntended.TOPIC, tenant, generations)
    return connection.execute(FORGET_PERSON, values).rowcount


def purge_changes(connection: Connection[Any], tenant: UUID, last: int) -> int:
    """Delete the lines up to a position and refuse older cursors from now on; returns how many went."""
    take(connection, tenant, NAME, wait=True)
    connection.execute(RAISE_FLOOR, (tenant, FLOOR, last))
    generations = [row[0] for row in connection.execute(SELECT_GENERATIONS, (tenant, NAME))]
    return connection.execute(DELETE_PURGED, (tenant, generations, last)).rowcount


def oldest_day_kept(now: datetime) -> str:
    """The first day whose feed key still lives."""
    return day_of(now - timedelta(days=DAYS_KEPT))


def _line(event: LedgerEvent) -> _Line | None:
    """The change an event makes, None where there is nothing to tell."""
    entry = orjson.loads(event.state)
    plain = entry["plain"]
    topic = event.topic
    if topic in _CAUSES:
        cause = "legal" if topic == ContactSuppressed.TOPIC and plain.get("legal") else _CAUSES[topic]
        return _Line(event, "suppressed", plain["scope"], cause, _campaign(plain))
    if topic == ConsentWithdrawn.TOPIC:
        return _Line(event, "consent_withdrawn", purpose_scope(plain["purpose"]), "withdrawn", _campaign(plain))
    if topic == ConsentRefused.TOPIC:
        return _Line(event, "consent_withdrawn", purpose_scope(plain["purpose"]), "refused")
    if topic == ConsentGranted.TOPIC:
        lifts = plain["effective"] and plain["evidenced"] and not plain["imported"]
        return _Line(event, "granted", purpose_scope(plain["purpose"]), "consent") if lifts else None
    if topic == AuthorisationsRecalled.TOPIC:
        return _Line(event, "recalled", plain["scope"], "recalled")
    if topic == SuppressionByHandLifted.TOPIC:
        return _Line(event, "lifted", plain["scope"], "manual")
    if topic == ProcessingRestricted.TOPIC:
        return _Line(event, "suppressed", ALL, "restriction")
    if topic == RestrictionLifted.TOPIC:
        return _Line(event, "lifted", ALL, "restriction")
    if topic == ErasureIntended.TOPIC:
        # An account that ended is no "no": its holder's addresses may be written to when they come back.
        return None if plain["reason"] == ACCOUNT_CLOSURE else _Line(event, "suppressed", ALL, "erased")
    if Feed.name not in entry.get("sealed", {}):
        return None  # The daily batch lists erased persons again, of whom the feed told when they were erased.
    kind: Kind = "suppressed" if topic == SuppressionImposed.TOPIC else "lifted"
    return _Line(event, kind, plain["scope"], plain["reason"])


def _campaign(plain: Mapping[str, Any]) -> UUID | None:
    """The campaign a "no" came through, if it is one of ours."""
    try:
        return UUID(hex=plain["campaign"])
    except (KeyError, ValueError):
        return None


def _with_addresses(connection: Connection[Any], ledger: Ledger, lines: list[_Line]) -> list[_Line]:
    """Lines with their addresses, as far as they can be had, without the grants that lift nothing."""
    of_persons = [line for line in lines if line.event.topic not in _OWN_ADDRESS]
    persons = _persons(connection, ledger, {_stream(line.event) for line in of_persons})
    for line in lines:
        if line.event.topic in _OWN_ADDRESS:
            line.address = opened(getattr(ledger.sealing.open(line.event), "address", None))
        else:
            line.address = persons[_stream(line.event)].address_at(line.event.originator_version)
    grants = [line for line in of_persons if line.kind == "granted"]
    idle = _lifting_nothing(connection, ledger, grants, persons)
    return [line for line in lines if line.event.position not in idle]


@dataclass(slots=True)
class _PersonSoFar:
    """What a person's stream says of addresses and noes: (version, address) in order, and the first no's version."""

    addresses: list[tuple[int, str]]
    first_no: int | None = None

    def address_at(self, version: int) -> str | None:
        return next((address for at, address in reversed(self.addresses) if at <= version), None)


def _persons(connection: Connection[Any], ledger: Ledger, streams: set[UUID]) -> dict[UUID, _PersonSoFar]:
    """The streams' persons. One who was erased has no address any more, whether or not the keys are gone already."""
    persons = {stream: _PersonSoFar([]) for stream in streams}
    topics = every_version((*_ADDRESS_TOPICS, *_NOES, ErasureIntended.TOPIC))
    values = (Uuid16Array(stream.bytes for stream in streams), ledger.tenant, topics)
    events = [ledger_event(row) for row in connection.execute(SELECT_PERSONS, values, binary=True)]
    erased = {_stream(event) for event in events if event.topic == ErasureIntended.TOPIC}
    sealed = [e for e in events if e.topic not in (*_NOES, ErasureIntended.TOPIC) and _stream(e) not in erased]
    find_identity_keys(ledger.keyring, sealed)
    for event in sealed:
        address = _address(ledger, event)
        if address is not None:
            persons[_stream(event)].addresses.append((event.originator_version, address))
    for event in events:
        person = persons[_stream(event)]
        if event.topic in _NOES and person.first_no is None:
            person.first_no = event.originator_version
    return persons


def _address(ledger: Ledger, event: LedgerEvent) -> str | None:
    """The address that an event of a person's stream gives them; None where it gives none, or its key is gone."""
    address: str | None
    if event.topic in _ADDRESS_TOPICS:
        values = ledger.sealing.open_part(event, Identity.name)
        address = values.get("email") if isinstance(values, dict) else None
    else:  # An older version of one of these is lifted first.
        address = opened(getattr(ledger.sealing.open(event), "email", None))
    return address


def _lifting_nothing(
    connection: Connection[Any], ledger: Ledger, grants: Sequence[_Line], persons: Mapping[UUID, _PersonSoFar]
) -> set[int | None]:
    """Positions of grants before which nothing stood in the way: of those senders need not be told."""
    fresh: list[_Line] = []
    for line in grants:
        first_no = persons[_stream(line.event)].first_no
        if first_no is None or first_no > line.event.originator_version:
            fresh.append(line)
    probes = {id(line): ledger.fingerprint.every(line.address) for line in fresh if line.address is not None}
    every = [fingerprint for fingerprints in probes.values() for fingerprint in fingerprints]
    generation = ledger.appender.read_head(connection).generation
    listed = ledger.services.book.suppressions(connection, ledger.tenant, generation, every) if every else {}
    return {line.event.position for line in fresh if not any(f in listed for f in probes.get(id(line), ()))}


def _feed_scopes(keyring: Keyring, days: Iterable[str]) -> dict[str, bytes]:
    """K of each day's feed; a day whose key is gone is absent."""
    tenant_key = KeyName(TENANT_HOLDER, Feed.name)
    scopes = {}
    for day in days:
        name = KeyName(TENANT_HOLDER, Feed.name, day)
        try:
            keys = keyring.ensure((tenant_key, name))
        except PeriodDestroyed:
            continue
        scopes[day] = scope_key(keys[tenant_key], keys[name])
    return scopes


def _sealed(tenant: UUID, line: _Line, scope: bytes) -> bytes | None:
    if line.address is None:
        return None
    assert line.event.position is not None
    return seal_box(scope, line.address.encode(), _aad(tenant, line.event.position))


def _change(keyring: Keyring, tenant: UUID, scopes: dict[str, bytes | Erased], row: Sequence[Any]) -> Change:
    position, kind, scope, cause, campaign, recorded_at, day, address = row
    email = None
    if address is not None:
        if day not in scopes:
            scopes[day] = keyring.opening_scope(TENANT_HOLDER, Feed.name, day)
        key = scopes[day]
        email = None if isinstance(key, Erased) else open_box(key, bytes(address), _aad(tenant, position)).decode()
    return Change(position, kind, scope, cause, campaign, recorded_at, email)


def _aad(tenant: UUID, position: int) -> bytes:
    return b"suppression_change" + tenant.bytes + position.to_bytes(8, "big")


def _stream(event: LedgerEvent) -> UUID:
    assert isinstance(event.originator_id, UUID)
    return event.originator_id
