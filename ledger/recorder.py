"""The recorder: eventsourcing's storage interface over the ledger's event table, one light object per tenant.

It subclasses `PostgresApplicationRecorder` for its interface only: every read and write is ours. Writes go through
the append of DESIGN section 4; reads go through the reader's views, which show one tenant at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    Notification,
    StoredEvent,
    Subscription,
    TrackingRecorder,
)
from eventsourcing.postgres import PostgresApplicationRecorder
from eventsourcing.utils import Environment
from psycopg import Connection, errors

from ledger.append import Appender
from ledger.arrays import Uuid16Array
from ledger.connections import Pool
from ledger.mapper import LedgerEvent

NOTIFICATIONS_MAX = 10_000

SET_TENANT = "SELECT set_config('lethe.tenant', %s, true)"
SELECT_STREAM = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe_read.event
WHERE tenant_id = %s AND stream_id = %s AND version > %s AND version <= %s ORDER BY version
"""
SELECT_STREAM_BACKWARDS = SELECT_STREAM + " DESC"
SELECT_LOG = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe_read.event
WHERE tenant_id = %s AND position >= %s AND position <= %s ORDER BY position LIMIT %s
"""
SELECT_LOG_TOPICS = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe_read.event
WHERE tenant_id = %s AND position >= %s AND position <= %s AND topic = ANY(%s) ORDER BY position LIMIT %s
"""
SELECT_STREAMS = """
SELECT e.* FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe_read.event
    WHERE tenant_id = %s AND stream_id = n.stream_id ORDER BY tenant_id, stream_id, version
) AS e
"""
SELECT_END = "SELECT position FROM lethe_read.head WHERE tenant_id = %s"

_END = 2**62


class ReaderPool:
    """The reader's connections: each transaction sees exactly one tenant."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @contextmanager
    def tenant(self, tenant: UUID) -> Iterator[Connection[Any]]:
        """A transaction whose views show this tenant only."""
        with self._pool.transaction() as connection:
            connection.execute(SET_TENANT, (str(tenant),))
            yield connection


class TenantRecorder(PostgresApplicationRecorder):
    """One tenant's events, in its streams and along its log."""

    def __init__(self, tenant: UUID, appender: Appender, reader: ReaderPool) -> None:
        # The parent's constructor only prepares statements for tables of its own, which do not exist here.
        self.tenant = tenant
        self._appender = appender
        self._reader = reader

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append drafts of streams that no person holds. Raises `IntegrityError` for a version already taken."""
        drafts = []
        for stored in stored_events:
            assert isinstance(stored, LedgerEvent)
            assert stored.draft is not None
            drafts.append((stored.draft, stored.originator_version))
        try:
            with self._appender.locked() as locked:
                return locked.record(drafts, restricts=bool(kwargs.get("restricts", False)))
        except errors.UniqueViolation as error:
            raise IntegrityError("Another command wrote this version of the stream first; try again.") from error

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one stream, by version."""
        statement = SELECT_STREAM_BACKWARDS if desc else SELECT_STREAM
        values = (self.tenant, originator_id, gt or 0, lte or 2**31 - 1)
        with self._reader.tenant(self.tenant) as connection:
            rows = connection.execute(statement, values, binary=True).fetchall()
        return [ledger_event(row) for row in rows[:limit]]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> list[Notification]:
        """A section of the log, by position."""
        return [notification(event) for event in self.select_log(start, limit, stop, topics, inclusive_of_start)]

    def select_log(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        inclusive_of_start: bool = True,
    ) -> list[LedgerEvent]:
        """As `select_notifications`, with the sealed parts; at most `NOTIFICATIONS_MAX` events."""
        first = (start or 0) + (0 if inclusive_of_start else 1)
        last = _END if stop is None else stop
        count = min(limit, NOTIFICATIONS_MAX)
        with self._reader.tenant(self.tenant) as connection:
            if topics:
                values: tuple[Any, ...] = (self.tenant, first, last, list(topics), count)
                rows = connection.execute(SELECT_LOG_TOPICS, values, binary=True).fetchall()
            else:
                rows = connection.execute(SELECT_LOG, (self.tenant, first, last, count), binary=True).fetchall()
        return [ledger_event(row) for row in rows]

    def select_streams(self, stream_ids: Sequence[UUID]) -> list[LedgerEvent]:
        """All events of several streams, by stream and version."""
        with self._reader.tenant(self.tenant) as connection:
            values = (Uuid16Array(i.bytes for i in stream_ids), self.tenant)
            rows = connection.execute(SELECT_STREAMS, values, binary=True).fetchall()
        return [ledger_event(row) for row in rows]

    def max_notification_id(self) -> int | None:
        """The last position, None for an empty log."""
        with self._reader.tenant(self.tenant) as connection:
            row = connection.execute(SELECT_END, (self.tenant,)).fetchone()
        return int(row[0]) if row and row[0] else None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Not offered: a subscription holds a connection per tenant. Projections poll in batches instead."""
        raise NotImplementedError("Lethe's projections read the log in batches; see projections/worker.py.")


class LedgerFactory(InfrastructureFactory[TrackingRecorder]):
    """Gives eventsourcing's `Application` the recorder of one tenant."""

    def __init__(self, env: Environment, recorder: TenantRecorder) -> None:
        super().__init__(env)
        self._recorder = recorder

    def aggregate_recorder(self, purpose: str = "events") -> TenantRecorder:
        """The tenant's recorder; there are no snapshots, because standing is the snapshot."""
        return self._recorder

    def application_recorder(self) -> TenantRecorder:
        """The tenant's recorder."""
        return self._recorder

    def tracking_recorder(self, tracking_recorder_class: Any = None) -> Any:
        """Not offered: tracking is kept by projections, in the transaction of their batches."""
        raise NotImplementedError("Projections keep their own tracking; see projections/tracking.py.")

    def process_recorder(self) -> Any:
        """Not offered, as `tracking_recorder`."""
        raise NotImplementedError("Projections keep their own tracking; see projections/tracking.py.")


def ledger_event(row: Sequence[Any]) -> LedgerEvent:
    """A row of the event table, read in binary, as a stored event."""
    stream, version, topic, entry, sealed, position, recorded_at = row
    return LedgerEvent(stream, version, topic, bytes(entry), sealed and bytes(sealed), position, recorded_at)


def notification(event: LedgerEvent) -> Notification:
    """A stored event as eventsourcing's notification."""
    assert event.position is not None
    return Notification(event.originator_id, event.originator_version, event.topic, event.state, event.position)
