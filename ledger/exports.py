"""Exports as certificates of destruction find them: about one person, and about many with sealed parts opened.

    about one     UUIDv7 layout: the month's first moment, then 74 bits of BLAKE2b(key = the identity key, month)
    about many    the same layout, with the account's id in place of the key: a stream of each month

A certificate lists what had left the house before: it is out of reach. It may not thereby lead to the person's
events, and whoever asked for the erasure keeps it beside the address (invariant I11). So the fact of an export about
one person names nobody, and stands beside the person's streams as their messages and records do: found by one hash a
month while the identity key lives, and tied to nothing afterwards. An export about many says nothing of any of them,
and stands where everybody finds it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from domain.access import ExportOpened, ExportProduced, rounded_up
from domain.facts import Fact
from domain.ids import from_micros, month_of, next_month, unix_ms, uuid7, uuid7_bytes
from domain.personal import Identity
from ledger.append import LockedTenant
from ledger.desk import Desk
from ledger.errors import KeyDestroyed
from ledger.keys.names import KeyName
from ledger.links import handle_of
from ledger.mapper import LedgerEvent
from ledger.recorder import ledger_event
from ledger.standing_row import StandingRow
from ledger.streams import next_version

STREAM_PERSON: Final = b"lethe.exp.v1"
STREAM_OF_MANY: Final = b"lethe.exo.v1"
TAIL_BYTES: Final = 10
MONTHS_MAX: Final = 1_200
"""Who needs it: a subject's id with a wrong time in it must not make an erasure hash for ever; a century is enough."""

SELECT_EXPORTS = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = ANY(%s) ORDER BY position
"""
SELECT_OPENED = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = %s AND version > %s ORDER BY tenant_id, stream_id, version LIMIT %s
"""
SELECT_BEGINNING = "SELECT recorded_at FROM lethe.event WHERE tenant_id = %s AND position = 1"

OPENED_PER_PAGE: Final = 1_000
"""Who needs it: an account that has the trail exported, with its parts opened, every minute."""


@dataclass(frozen=True, slots=True)
class PastExport:
    """Something about one person that left the house: its kind, the month, and whether sealed parts were open in it."""

    kind: str
    month: str
    opened: bool


@dataclass(frozen=True, slots=True, order=True)
class OpenedExports:
    """How many exports about many persons, of one kind and month, sealed parts were opened for."""

    month: str
    kind: str
    count: int


def export_stream_id(identity_key: bytes, month: str) -> bytes:
    """The 16 bytes of the stream of a month's exports about one person, from their identity key."""
    return _month_stream(identity_key, month, STREAM_PERSON)


def opened_stream_id(tenant: UUID, month: str) -> UUID:
    """The stream of a month's exports about many persons, as far as sealed parts were opened for them."""
    return UUID(bytes=_month_stream(tenant.bytes, month, STREAM_OF_MANY))


def _month_stream(key: bytes, month: str, person: bytes) -> bytes:
    tail = blake2b(month.encode(), key=key, digest_size=TAIL_BYTES, person=person).digest()
    return uuid7_bytes(unix_ms(datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)), tail)


class ExportDesk(Desk):
    """Records and finds the exports of one tenant that certificates list."""

    def record(
        self, row: StandingRow, kind: str, what: str, *, entries: int, opened: int, actor: str, digest: str | None
    ) -> int:
        """Note that something about this person leaves the house; returns the position. Counts are rounded up.

        Raises `KeyDestroyed` if they are being forgotten: what is not on their certificate must not leave.
        """
        key = self._identity_key(row.person.kid)
        entries, opened = rounded_up(entries), rounded_up(opened)
        fact = ExportProduced(kind=kind, what=what, entries=entries, opened=opened, digest=digest)
        with self._appender.locked() as locked:
            handles = [] if key is None else [handle_of(key)]
            known = self._book.read_handles(locked.connection, self._tenant, locked.generation, handles)
            if key is None or handles[0] not in known:
                raise KeyDestroyed("This person is being forgotten. Nothing about them is given out any more.")
            return self._append(locked, fact, UUID(bytes=export_stream_id(key, month_of(locked.now))), actor)

    def note_opened(self, kind: str, *, actor: str) -> int:
        """Note that sealed parts of many persons are opened for an export; returns the position.

        Once for each export, as soon as the first part was opened and before anything of it is handed out: what is
        still under way when somebody is erased stands on their certificate, too.
        """
        with self._appender.locked() as locked:
            stream = opened_stream_id(self._tenant, month_of(locked.now))
            return self._append(locked, ExportOpened(kind=kind), stream, actor)

    def opened_between(self, since: datetime | None, until: datetime) -> list[OpenedExports]:
        """Exports about many persons that were opened from one moment to another, by month and kind; both inclusive.

        Without a beginning: since the account was opened.
        """
        counted = Counter[tuple[str, str]]()
        for stream in self.opened_streams(since, until):
            for event in self._opened_in(stream):
                assert event.recorded_at is not None
                if event.recorded_at <= until and (since is None or since <= event.recorded_at):
                    fact = self._mapper.open(event)
                    assert isinstance(fact, ExportOpened)
                    counted[month_of(event.recorded_at.astimezone(UTC)), fact.kind] += 1
        return sorted(OpenedExports(month, kind, count) for (month, kind), count in counted.items())

    def opened_streams(self, since: datetime | None, until: datetime) -> list[UUID]:
        """The streams of the months in which exports about many may have been opened from one moment to another."""
        begin = since or self._beginning()
        if begin is None:
            return []
        months = _months(month_of(begin.astimezone(UTC)), month_of(until.astimezone(UTC)))
        return [opened_stream_id(self._tenant, month) for month in months]

    def streams_of(self, kid: bytes, subject: bytes) -> list[UUID]:
        """Every stream in which exports about a person may stand: one hash for each month since they were added.

        Empty where their identity key is gone.
        """
        key = self._identity_key(kid)
        if key is None:
            return []
        # A subject's id is a UUIDv7: its first six bytes are when the person was added, in milliseconds.
        first = month_of(from_micros(int.from_bytes(subject[:6], "big") * 1_000))
        return [UUID(bytes=export_stream_id(key, month)) for month in _months(first, month_of(self._clock()))]

    def of(self, kid: bytes, subject: bytes) -> list[PastExport]:
        """What left the house about a person so far, in the order of the log. Empty once they cannot be found."""
        streams = self.streams_of(kid, subject)
        if not streams:
            return []
        with self._appender.pool.transaction() as connection:
            rows = connection.execute(SELECT_EXPORTS, (self._tenant, streams), binary=True).fetchall()
        return [past_export(self._mapper.open(event), event) for event in map(ledger_event, rows)]

    def person_of(self, kid: bytes) -> StandingRow | None:
        """The living person with these keys; None once they are being forgotten."""
        key = self._identity_key(kid)
        if key is None:
            return None
        handle = handle_of(key)
        with self._appender.pool.transaction() as connection:
            generation = self._appender.read_head(connection).generation
            return self._book.read_handles(connection, self._tenant, generation, [handle]).get(handle)

    def _identity_key(self, kid: bytes) -> bytes | None:
        name = KeyName(kid, Identity.name)
        return self._keyring.find([name]).keys.get(name)

    def _append(self, locked: LockedTenant, fact: Fact, stream: UUID, actor: str) -> int:
        version = next_version(locked.connection, self._tenant, stream)
        headed = fact.model_copy(
            update={
                "originator_id": stream,
                "originator_version": version,
                "event_id": uuid7(unix_ms(locked.now), os.urandom(10)),
                "occurred_at": locked.now,
                "actor": actor,
                "command": UUID(bytes=os.urandom(16), version=4),
            }
        )
        return locked.record([(self._mapper.draft(headed), version)], restricts=False)[0]

    def _opened_in(self, stream: UUID) -> Iterator[LedgerEvent]:
        """The events of a month's stream, page by page, each in a short transaction of its own."""
        after = 0
        while True:
            with self._appender.pool.transaction() as connection:
                values = (self._tenant, stream, after, OPENED_PER_PAGE)
                rows = connection.execute(SELECT_OPENED, values, binary=True).fetchall()
            yield from map(ledger_event, rows)
            if len(rows) < OPENED_PER_PAGE:
                return
            after = rows[-1][1]

    def _beginning(self) -> datetime | None:
        with self._appender.pool.transaction() as connection:
            row = connection.execute(SELECT_BEGINNING, (self._tenant,)).fetchone()
        return row[0] if row is not None else None


def _months(first: str, last: str) -> Iterator[str]:
    month, left = first, MONTHS_MAX
    while month <= last and left:
        yield month
        month, left = next_month(month), left - 1


def past_export(fact: object, event: LedgerEvent) -> PastExport:
    """What a certificate may say of an export."""
    assert isinstance(fact, ExportProduced)
    assert event.recorded_at is not None
    return PastExport(fact.kind, month_of(event.recorded_at.astimezone(UTC)), fact.opened > 0)
