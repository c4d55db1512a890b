"""The daily chores: yesterday's erasures go to the suppression list, and what was kept for days only is let go.

An erasure's intent carries the person's fingerprints sealed under the key of its day. Once the day is over they are
written to the list, one event each in a stream of its own, in order of random ids, the rows of the list are written
anew, and the day's key is destroyed: from then on nothing in the kept suppressions points at the erased stream, not
even its neighbourhood (DESIGN section 3, invariant I11).

Every step can be killed and run again. A bookmark per day, written with the first entries and deleted with the fact
that closes the day, says that a day was begun; what was written already is told from the entries themselves, which
all carry the end of their day as the time they were true.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.facts import opened
from domain.ids import day_of, month_of, unix_ms, uuid7
from domain.personal import Erased, Feed, Personal, SuppressionData
from domain.subject import ErasureIntended
from domain.suppression import SuppressionImposed, SuppressionKeyClosed
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.erasures import RETENTION_ACTOR
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER
from ledger.mapper import LedgerEvent
from ledger.ports import SuppressionRow
from projections.alone import alone
from projections.change_feed import oldest_day_kept, purge_changes
from projections.log import end_of_log, first_position_at, read_events, windows
from projections.rebuild import clear_leftovers
from projections.suppression import SuppressionTable
from retention.certificates.commitments import publish_commitments
from retention.certificates.of_plans import certify_plans
from retention.erasure.days import complete_certificates, mix_kept_keys, settle_erasures
from retention.holds.releasing import forget_closed_days

ENTRIES_PER_APPEND = 2_000
"""Entries per transaction, so that the tenant's other writers are not kept waiting."""

SCAN_WINDOW_EVENTS = 100_000
BOOKMARK = "suppression_day:"
"""A tracking row of this name, which never serves, says that a day was begun and not closed."""

KEY_CAUSE_CLOSED = "suppression day closed"
KEY_CAUSE_EXPIRED = "feed day expired"

SELECT_BOOKMARKS = """
SELECT projection, position FROM lethe.tracking WHERE tenant_id = %s AND projection LIKE %s AND NOT live
"""
INSERT_BOOKMARK = """
INSERT INTO lethe.tracking (tenant_id, projection, generation, position, live) VALUES (%s, %s, 0, %s, false)
ON CONFLICT (tenant_id, projection, generation) DO NOTHING
"""
DELETE_BOOKMARK = "DELETE FROM lethe.tracking WHERE tenant_id = %s AND projection = %s AND NOT live"
END_DAY = "UPDATE lethe.head SET recorded_at = greatest(recorded_at, %s) WHERE tenant_id = %s"
DELETE_PARKED_FEEDBACK = 'DELETE FROM lethe.parked_feedback WHERE tenant_id = %s AND feed_day < %s COLLATE "C"'
DELETE_IDEMPOTENCY = 'DELETE FROM lethe.idempotency WHERE tenant_id = %s AND feed_day < %s COLLATE "C"'


Entry = tuple[str, str, str]
"""What the list is to say: fingerprint (hex), scope and cause."""


class DayNotOver(Exception):
    """The ledger's own clock has not reached the end of the day that is to be closed."""


@dataclass(frozen=True, slots=True)
class DayClosed:
    """A closed day and how many entries it gave the suppression list."""

    day: str
    entries: int


@dataclass(frozen=True, slots=True)
class FeedExpired:
    """The days whose feed keys were destroyed, and how many rows that depended on them were deleted."""

    days: tuple[str, ...]
    changes: int
    parked: int
    answers: int


def run_daily(ledger: Ledger) -> None:
    """All of the daily chores of one tenant, as of now; cheap when there is nothing to do.

    A rebuild that was killed may have left rows of persons behind, which nothing serves: they go too.
    """
    now = ledger.services.due_clock()
    mix_kept_keys(ledger, now)
    close_suppression_days(ledger, now)
    publish_commitments(ledger, now)
    settle_erasures(ledger, now)
    certify_plans(ledger)
    complete_certificates(ledger, now)
    expire_feed_keys(ledger, now)
    purge_idempotency(ledger, now)
    forget_closed_days(ledger, now)
    clear_leftovers(ledger, ledger.services.writer)


def close_suppression_days(ledger: Ledger, now: datetime) -> list[DayClosed]:
    """Close each day before today (UTC) on which somebody was erased, oldest first.

    Does nothing while another process is at it. Raises `KeyMissing` if a day's key is gone without a tombstone: an
    incident, and the day stays open.
    """
    with alone(ledger.services.writer, f"suppression days {ledger.tenant}") as ours:
        return _close_days(ledger, day_of(now)) if ours else []


def expire_feed_keys(ledger: Ledger, now: datetime) -> FeedExpired:
    """Destroy the feed keys of days older than seven, and delete what only they could open."""
    oldest = oldest_day_kept(now)
    days = ledger.services.vault.living_periods(ledger.tenant, Feed.name, oldest)
    for day in days:
        _destroy(ledger, Feed.name, day, now, KEY_CAUSE_EXPIRED)
    with ledger.services.writer.transaction() as connection:
        last = first_position_at(connection, ledger.tenant, _midnight(oldest)) - 1
        changes = purge_changes(connection, ledger.tenant, last)
        parked = connection.execute(DELETE_PARKED_FEEDBACK, (ledger.tenant, oldest)).rowcount
        answers = connection.execute(DELETE_IDEMPOTENCY, (ledger.tenant, oldest)).rowcount
    return FeedExpired(tuple(days), changes, parked, answers)


def purge_idempotency(ledger: Ledger, now: datetime) -> int:
    """Forget the answers to requests older than a day; returns how many."""
    with ledger.services.writer.transaction() as connection:
        return ledger.parts.purge(connection, now)


def _close_days(ledger: Ledger, today: str) -> list[DayClosed]:
    with ledger.services.writer.transaction() as connection:
        rows = connection.execute(SELECT_BOOKMARKS, (ledger.tenant, f"{BOOKMARK}%")).fetchall()
    begun = {name.removeprefix(BOOKMARK): position for name, position in rows}
    living = ledger.services.vault.living_periods(ledger.tenant, SuppressionData.name, today)
    days = sorted({day for day in living if day != FOR_EVER} | begun.keys())
    return [_Day(ledger, day, begun.get(day)).close() for day in days]


class _Day:
    """The closing of one day of one tenant."""

    def __init__(self, ledger: Ledger, day: str, begun_at: int | None) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._day = day
        self._end = _midnight(day) + timedelta(days=1)
        self._begun_at = begun_at
        self._list = SuppressionTable()

    def close(self) -> DayClosed:
        written = self._written()
        intents, seen = self._intents()
        wanted = {entry for intent in intents for entry in _entries(self._ledger, intent)}
        entries = len(written) + self._write(wanted - written, written, seen)
        _destroy(self._ledger, SuppressionData.name, self._day, self._ledger.clock(), KEY_CAUSE_CLOSED)
        self._conclude(entries)
        return DayClosed(self._day, entries)

    def _written(self) -> set[Entry]:
        """The entries that an earlier run has listed for this day before it was cut off."""
        if self._begun_at is None:
            return set()
        with self._ledger.services.writer.transaction() as connection:
            end = end_of_log(connection, self._tenant)
            found = []
            for after, last in windows(self._begun_at, end, SCAN_WINDOW_EVENTS):
                found.extend(read_events(connection, self._tenant, (SuppressionImposed.TOPIC,), after, last))
        facts = [self._ledger.sealing.open(event) for event in found]
        ours = [f for f in facts if f.actor == RETENTION_ACTOR and f.occurred_at == self._end]
        return {
            (fingerprint, fact.scope, fact.reason)
            for fact in ours
            if isinstance(fact, SuppressionImposed)
            for fingerprint in opened(fact.fingerprints)
        }

    def _intents(self) -> tuple[list[LedgerEvent], int]:
        """The day's intents, and the end of the log when they were read."""
        with self._ledger.services.writer.transaction() as connection:
            seen = end_of_log(connection, self._tenant)
            first = first_position_at(connection, self._tenant, _midnight(self._day))
            last = min(first_position_at(connection, self._tenant, self._end) - 1, seen)
            return list(self._read(connection, first - 1, last)), seen

    def _read(self, connection: Connection[Any], after: int, last: int) -> Iterator[LedgerEvent]:
        for piece in windows(after, last, SCAN_WINDOW_EVENTS):
            yield from read_events(connection, self._tenant, (ErasureIntended.TOPIC,), *piece)

    def _write(self, wanted: set[Entry], written: set[Entry], seen: int) -> int:
        """List what is wanted, in order of random ids over the whole day; returns how many entries that were.

        The first append also takes in intents that came after the others were read, and moves the log into the next
        day: what is recorded later bears a later day (I3), so that no intent of this one can follow.
        """
        with self._ledger.appender.locked() as locked:
            self._require_over(locked)
            late = [e for e in self._read(locked.connection, seen, locked.head.position) if self._of_day(e)]
            wanted |= {entry for intent in late for entry in _entries(self._ledger, intent)} - written
            entries = _in_random_order(wanted, locked.now)
            name = BOOKMARK + self._day
            locked.connection.execute(INSERT_BOOKMARK, (self._tenant, name, locked.head.position))
            locked.connection.execute(END_DAY, (self._end, self._tenant))
            self._append(locked, entries[:ENTRIES_PER_APPEND])
        for start in range(ENTRIES_PER_APPEND, len(entries), ENTRIES_PER_APPEND):
            with self._ledger.appender.locked() as locked:
                self._append(locked, entries[start : start + ENTRIES_PER_APPEND])
        return len(entries)

    def _append(self, locked: LockedTenant, entries: list[tuple[UUID, Entry]]) -> None:
        """Events and rows of some entries, in order of their ids."""
        month = month_of(_midnight(self._day))
        facts = [
            SuppressionImposed(
                fingerprints=Personal((fingerprint,)),
                scope=scope,
                reason=cause,
                since=month,
                **_header(stream, 1, self._end, locked.now),
            )
            for stream, (fingerprint, scope, cause) in entries
        ]
        locked.record([(self._ledger.sealing.draft(fact), 1) for fact in facts], restricts=False)
        rows = [SuppressionRow(bytes.fromhex(f), scope, cause, month) for _, (f, scope, cause) in entries]
        self._list.rewrite(locked.connection, self._tenant, locked.generation, rows)

    def _conclude(self, entries: int) -> None:
        """Record that the day is closed and let go of its bookmark, once."""
        with self._ledger.appender.locked() as locked:
            locked.connection.execute(DELETE_BOOKMARK, (self._tenant, BOOKMARK + self._day))
            stream = uuid7(unix_ms(locked.now), os.urandom(10))
            fact = SuppressionKeyClosed(day=self._day, entries=entries, **_header(stream, 1, locked.now, locked.now))
            locked.record([(self._ledger.sealing.draft(fact), 1)], restricts=False)

    def _require_over(self, locked: LockedTenant) -> None:
        if day_of(locked.now) <= self._day:
            raise DayNotOver(f"{self._day} is not over by the clock of this ledger. Close it tomorrow.")

    def _of_day(self, event: LedgerEvent) -> bool:
        return event.recorded_at is not None and day_of(event.recorded_at) == self._day


def _entries(ledger: Ledger, intent: LedgerEvent) -> list[Entry]:
    """The entries of one intent; none once the day's key is destroyed, when they have been listed."""
    fact = ledger.sealing.open(intent)
    assert isinstance(fact, ErasureIntended)
    return fact.entries()


def _in_random_order(entries: set[Entry], now: datetime) -> list[tuple[UUID, Entry]]:
    """Each with a random stream id of one and the same time, sorted by it."""
    stamp = unix_ms(now)
    return sorted((uuid7(stamp, os.urandom(10)), entry) for entry in entries)


def _header(stream: UUID, version: int, occurred_at: datetime, now: datetime) -> dict[str, Any]:
    return {
        "originator_id": stream,
        "originator_version": version,
        "event_id": uuid7(unix_ms(now), os.urandom(10)),
        "occurred_at": occurred_at,
        "actor": RETENTION_ACTOR,
        "command": UUID(bytes=os.urandom(16), version=4),
    }


def _destroy(ledger: Ledger, retention_class: str, period: str, now: datetime, cause: str) -> None:
    """Destroy one period's key and see that it is gone. Raises `KeyMissing` if it went without a tombstone."""
    ledger.services.vault.destroy_period(ledger.tenant, retention_class, period, when=now, cause=cause)
    ledger.keyring.forget_period(retention_class, period)
    gone = ledger.keyring.opening_scope(TENANT_HOLDER, retention_class, period)
    assert isinstance(gone, Erased), "A destroyed key does not open."


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)
