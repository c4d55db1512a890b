"""Exports about one person: that a bundle or a receipt left the house stands in a stream that only their key finds.

    stream id   UUIDv7 layout: the month's first moment, then 74 bits of BLAKE2b(key = the person's identity key, month)

A certificate of destruction lists what had left the house before: it is out of reach. It may not thereby lead to the
person's events, and whoever asked for the erasure keeps it beside the address (invariant I11). So the fact names
nobody, and stands beside the person's streams as their messages and records do: found by one hash a month while the
identity key lives, and tied to nothing afterwards.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from domain.access import ExportProduced
from domain.ids import from_micros, month_of, next_month, unix_ms, uuid7, uuid7_bytes
from domain.personal import Identity
from ledger.desk import Desk
from ledger.errors import KeyDestroyed
from ledger.keys.names import KeyName
from ledger.links import handle_of
from ledger.mapper import LedgerEvent
from ledger.recorder import ledger_event
from ledger.standing_row import StandingRow
from ledger.streams import next_version

STREAM_PERSON: Final = b"lethe.exp.v1"
TAIL_BYTES: Final = 10
MONTHS_MAX: Final = 1_200
"""Who needs it: a subject's id with a wrong time in it must not make an erasure hash for ever; a century is enough."""

SELECT_EXPORTS = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = ANY(%s) ORDER BY position
"""


@dataclass(frozen=True, slots=True)
class PastExport:
    """Something about one person that left the house: its kind, the month, and whether sealed parts were open in it."""

    kind: str
    month: str
    opened: bool


def export_stream_id(identity_key: bytes, month: str) -> bytes:
    """The 16 bytes of the stream of a month's exports about one person, from their identity key."""
    tail = blake2b(month.encode(), key=identity_key, digest_size=TAIL_BYTES, person=STREAM_PERSON).digest()
    return uuid7_bytes(unix_ms(datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)), tail)


class ExportDesk(Desk):
    """Records and finds the exports about persons of one tenant."""

    def record(
        self, row: StandingRow, kind: str, what: str, *, entries: int, opened: int, actor: str, digest: str | None
    ) -> int:
        """Note that something about this person leaves the house; returns the position.

        Raises `KeyDestroyed` if they are being forgotten: what is not on their certificate must not leave.
        """
        key = self._identity_key(row.person.kid)
        fact = ExportProduced(kind=kind, what=what, entries=entries, opened=opened, digest=digest)
        with self._appender.locked() as locked:
            handles = [] if key is None else [handle_of(key)]
            known = self._book.read_handles(locked.connection, self._tenant, locked.generation, handles)
            if key is None or handles[0] not in known:
                raise KeyDestroyed("This person is being forgotten. Nothing about them is given out any more.")
            stream = UUID(bytes=export_stream_id(key, month_of(locked.now)))
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

    def streams_of(self, kid: bytes, subject: bytes) -> list[UUID]:
        """Every stream in which exports about a person may stand: one hash for each month since they were added.

        Empty where their identity key is gone.
        """
        key = self._identity_key(kid)
        if key is None:
            return []
        # A subject's id is a UUIDv7: its first six bytes are when the person was added, in milliseconds.
        month = month_of(from_micros(int.from_bytes(subject[:6], "big") * 1_000))
        last, streams = month_of(self._clock()), list[UUID]()
        while month <= last and len(streams) < MONTHS_MAX:
            streams.append(UUID(bytes=export_stream_id(key, month)))
            month = next_month(month)
        return streams

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


def past_export(fact: object, event: LedgerEvent) -> PastExport:
    """What a certificate may say of an export."""
    assert isinstance(fact, ExportProduced)
    assert event.recorded_at is not None
    return PastExport(fact.kind, month_of(event.recorded_at.astimezone(UTC)), fact.opened > 0)
