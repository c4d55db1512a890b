"""Persons as their streams tell them: what the inline standing projection is built again from.

Address, country, birth date and the accounts that a person holds are opened, everything else of a standing stands in
the plain fields. The kid is the one the envelopes name, the link keys come from the vault when the row is written, the
fingerprint from the opened address under the newest pepper; addresses a person had before become aliases. Whose erasure
was intended comes to nothing, and nothing of theirs is opened on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from domain.facts import NIL, Fact, opened, upcast
from domain.personal import Erased, Identity
from domain.standing import Standing
from domain.subject import AccountAssigned, ContactAdded, ContactCorrected, ErasureIntended, evolve
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.arrays import Bytes16Array, Uuid16Array
from ledger.entry import parse_entry_time
from ledger.keys.keyring import LINK
from ledger.keys.vault import KeyName, erased_or_missing
from ledger.link_generations import linked
from ledger.links import handle_of, records_kid_of
from ledger.mapper import LedgerEvent
from ledger.recorder import ledger_event
from ledger.standing_row import NO_KEY, Person, StandingRow
from projections.identity import find_identity_keys, kid_of
from projections.log import every_version
from projections.standing import InlineStanding

IDENTITY_TOPICS = frozenset(every_version((ContactAdded.TOPIC, ContactCorrected.TOPIC, AccountAssigned.TOPIC)))
ERASURE_TOPICS = frozenset(every_version((ErasureIntended.TOPIC,)))

# Sealed parts are read where they are opened, and left where they are not.
SELECT_STREAMS = """
SELECT e.* FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT stream_id, version, topic, entry, CASE WHEN topic = ANY(%s) THEN sealed END, position, recorded_at
    FROM lethe.event WHERE tenant_id = %s AND stream_id = n.stream_id ORDER BY tenant_id, stream_id, version
) AS e WHERE e.position <= %s
"""
DELETE_STANDING = "DELETE FROM lethe.standing WHERE tenant_id = %s AND generation = %s AND fingerprint = ANY(%s)"
DELETE_ALIASES = "DELETE FROM lethe.contact_alias WHERE tenant_id = %s AND generation = %s AND fingerprint = ANY(%s)"


@dataclass(slots=True)
class Refolded:
    """One stream folded: its row and superseded addresses; no row where the person was erased or cannot be opened."""

    stream: UUID
    row: StandingRow | None = None
    aliases: tuple[bytes, ...] = ()
    unopened: bool = False


def refold(connection: Connection[Any], ledger: Ledger, streams: Sequence[UUID], last: int) -> list[Refolded]:
    """These persons as the log tells them up to position `last`. Raises `KeyMissing` for a key without tombstone."""
    values = (Uuid16Array(s.bytes for s in streams), list(IDENTITY_TOPICS), ledger.tenant, last)
    events = [ledger_event(row) for row in connection.execute(SELECT_STREAMS, values, binary=True)]
    told = [(stream, list(run)) for stream, run in groupby(events, key=_stream)]
    living = [(stream, run) for stream, run in told if not any(event.topic in ERASURE_TOPICS for event in run)]
    find_identity_keys(ledger.keyring, (e for _, run in living for e in run if e.topic in IDENTITY_TOPICS))
    gone = [Refolded(stream) for stream in {stream for stream, _ in told} - {stream for stream, _ in living}]
    return gone + [_person(ledger, stream, run) for stream, run in living]


def write_persons(
    locked: LockedTenant, book: InlineStanding, ledger: Ledger, generation: int, persons: Sequence[Refolded]
) -> None:
    """Put persons into a generation, in place of what it may hold of them. The head lock keeps their links still."""
    connection, tenant = locked.connection, ledger.tenant
    with_links = _linked(locked, book, ledger, [person.row for person in persons if person.row is not None])
    rows = list(with_links.values())
    aliases = [
        (alias, with_links[person.row.fingerprint].person)
        for person in persons
        if person.row is not None
        for alias in person.aliases
    ]
    if aliases:
        connection.execute(DELETE_STANDING, (tenant, generation, Bytes16Array(alias for alias, _ in aliases)))
    if rows:
        connection.execute(DELETE_ALIASES, (tenant, generation, Bytes16Array(row.fingerprint for row in rows)))
    book.write(connection, tenant, generation, rows)
    if aliases:
        book.write_aliases(connection, tenant, generation, aliases)


def _linked(
    locked: LockedTenant, book: InlineStanding, ledger: Ledger, rows: Sequence[StandingRow]
) -> dict[bytes, StandingRow]:
    """These rows with their link keys, by fingerprint. Raises `KeyMissing` for a person who never had one.

    A generation that the vault let begin, while the row that serves was not written any more, has not begun: a
    rebuild never goes ahead of what serves, or a message would be sent twice.
    """
    if not rows:
        return {}
    known = ledger.services.vault.generations(ledger.tenant, LINK, [row.person.kid for row in rows])
    handles = [row.handle for row in rows]
    serving = book.read_handles(locked.connection, ledger.tenant, locked.generation, handles)
    found = {}
    for row in rows:
        person = linked(row.person, known.get(row.person.kid))
        served = serving.get(row.handle)
        if served is not None and served.person.link_generation < person.link_generation:
            person = served.person
        found[row.fingerprint] = StandingRow(row.fingerprint, person, row.standing)
    return found


def _person(ledger: Ledger, stream: UUID, events: Sequence[LedgerEvent]) -> Refolded:
    standing = Standing()
    fingerprint = b""
    aliases: dict[bytes, None] = {}
    for fact in _facts(ledger, events):
        assert fact.position is not None
        if isinstance(fact, ContactAdded | ContactCorrected):
            email: object = fact.email
            if isinstance(email, Erased):
                return Refolded(stream, unopened=True)
            address = opened(email)
            if address is not None:
                aliases[fingerprint] = None
                fingerprint = ledger.fingerprint(address)
                aliases.pop(fingerprint, None)
        standing = evolve(standing, fact, fact.position)
    aliases.pop(b"", None)
    person = _secrets(ledger, stream, events)
    if person is None:
        return Refolded(stream, unopened=True)
    return Refolded(stream, StandingRow(fingerprint, person, standing), tuple(aliases))


def _facts(ledger: Ledger, events: Sequence[LedgerEvent]) -> Iterator[Fact]:
    """The facts of a stream; those without identity are taken as stored, because a fold needs no second validation."""
    for event in events:
        if event.topic in IDENTITY_TOPICS:
            yield ledger.sealing.open(event)
        else:
            entry = orjson.loads(event.state)
            fact_class, stored = upcast(event.topic, {"plain": entry["plain"], "parts": {}})
            header: dict[str, Any] = {
                "originator_id": event.originator_id,
                "event_id": NIL,
                "originator_version": entry["version"],
                "occurred_at": parse_entry_time(entry["occurred_at"]),
                "position": event.position,
            }
            yield fact_class.model_construct(None, **stored["plain"], **header)


def _secrets(ledger: Ledger, stream: UUID, events: Sequence[LedgerEvent]) -> Person | None:
    """The person's kids and handle, link keys still wanting; None once the identity key was destroyed."""
    kid = next((kid for event in events if event.topic in IDENTITY_TOPICS and (kid := kid_of(event))), None)
    assert kid is not None, "A person's stream begins with a sealed address."
    name = KeyName(kid, Identity.name)
    found = ledger.keyring.find((name,))
    identity = found.keys.get(name)
    if identity is None:
        erased_or_missing(found, name)
        return None
    return Person(stream.bytes, kid, handle_of(identity), records_kid_of(identity), NO_KEY)


def _stream(event: LedgerEvent) -> UUID:
    assert isinstance(event.originator_id, UUID)
    return event.originator_id
