"""Building the inline projections again while the old ones serve: standing, aliases, suppressions and campaigns.

They are one unit, because a decision reads them together and one pointer, `head.generation`, says which generation
serves. The next generation is filled from the log: persons stream by stream, lists and campaigns in order of the log.
What changes meanwhile is taken in round by round, and the last stretch under the tenant's head lock, which also moves
the pointer. Killed anywhere, a rebuild is started again and clears what was left half-built.

A person whose erasure is intended while their row is on its way must not come back. So persons are written under the
head lock, and whoever's stream has moved on since it was read is left to the next round; an intent that comes after
the write deletes the row itself, in every generation (`InlineStanding.detach`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain import campaign as campaigns
from domain import subject as subjects
from domain.campaign import CampaignClosed, CampaignRegistered
from domain.facts import TOPICS, Fact, opened
from domain.ids import month_of
from domain.subject import ContactAdded, ErasureIntended
from domain.suppression import SuppressionImposed, SuppressionLifted
from ledger.append import Appender
from ledger.application import Ledger
from ledger.connections import Pool
from ledger.erasures import RETENTION_ACTOR
from ledger.ports import SuppressionRow
from projections.errors import RebuildRefused
from projections.log import end_of_log, every_version, read_events, windows
from projections.refold import refold, write_persons
from projections.standing import InlineStanding
from projections.suppression import SuppressionTable, since_date

PERSONS_PER_BATCH = 2_000
LAST_STRETCH_EVENTS = 2_000
"""What is left for the time under the head lock, during which the tenant's writers wait."""

ROUNDS_MAX = 100
ROWS_PER_DELETE = 5_000
SCAN_WINDOW_EVENTS = 100_000
READERS_GRACE_SECONDS = 5.0
"""Readers without a lock may have read the old pointer a moment ago; its rows stay for them that long."""

SUBJECT_TOPICS = every_version(t for t, c in TOPICS.items() if c.__module__ == subjects.__name__)
LIST_TOPICS = (
    *(SuppressionImposed.TOPIC, SuppressionLifted.TOPIC, ErasureIntended.TOPIC),
    *(CampaignRegistered.TOPIC, CampaignClosed.TOPIC),
)
# Each table's rows are deleted by the key that follows the generation in its primary key.
TABLES = {
    "standing": "fingerprint",
    "contact_alias": "fingerprint",
    "suppression": "fingerprint",
    "campaign": "campaign_id",
}

SELECT_STREAMS_OF = """
SELECT DISTINCT stream_id FROM lethe.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s)
"""
SERVE_GENERATION = "UPDATE lethe.head SET generation = %s WHERE tenant_id = %s AND generation = %s"

Progress = Callable[[int, int], None]


class InlineRebuild:
    """One rebuild of one tenant's inline projections. `book` and `pool` are the rebuilder's own."""

    def __init__(self, ledger: Ledger, pool: Pool, *, grace_seconds: float = READERS_GRACE_SECONDS) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._pool = pool
        self._appender = Appender(ledger.tenant, pool, ledger.clock)
        self._book = InlineStanding(ledger.services.vault.provider)
        self._list = SuppressionTable()
        self._grace_seconds = grace_seconds
        self._serving = 0

    @property
    def _next(self) -> int:
        return self._serving + 1

    def run(self, progress: Progress | None = None) -> int:
        """Build, catch up, move the pointer, delete the old rows; returns the position it was moved at."""
        with self._pool.transaction() as connection:
            self._serving = self._appender.read_head(connection).generation
        self.clear_leftovers()
        end = self._end()
        for after, last in windows(0, end, SCAN_WINDOW_EVENTS):
            self._fill(after, last)
            if progress is not None:
                progress(last, end)
        end = self._catch_up(end)
        position = self._serve(end)
        time.sleep(self._grace_seconds)
        self._clear(self._serving)
        return position

    def clear_leftovers(self) -> None:
        """Delete what a rebuild that was killed left: half a next generation, or rows of the one before."""
        with self._pool.transaction() as connection:
            self._serving = self._appender.read_head(connection).generation
        self._clear(self._serving + 1)
        self._clear(self._serving - 1)

    def _fill(self, after: int, last: int) -> None:
        """Persons added in this section of the log, as they are now; lists and campaigns as they were."""
        with self._pool.transaction() as connection:
            streams = self._streams(connection, [ContactAdded.TOPIC], after, last)
        for start in range(0, len(streams), PERSONS_PER_BATCH):
            self._write(streams[start : start + PERSONS_PER_BATCH])
        for piece in windows(after, last):
            with self._pool.transaction() as connection:
                self._take_lists(connection, *piece)

    def _catch_up(self, after: int) -> int:
        """Take in what came meanwhile until little is left. Raises `RebuildRefused` if writers stay ahead."""
        for _ in range(ROUNDS_MAX):
            end = self._end()
            if end - after <= LAST_STRETCH_EVENTS:
                return after
            for piece in windows(after, end, SCAN_WINDOW_EVENTS):
                self._take_changes(*piece)
            after = end
        raise RebuildRefused("This account is written to faster than it can be rebuilt. Try again at a quieter time.")

    def _take_changes(self, after: int, last: int) -> None:
        with self._pool.transaction() as connection:
            streams = self._streams(connection, SUBJECT_TOPICS, after, last)
        for start in range(0, len(streams), PERSONS_PER_BATCH):
            self._write(streams[start : start + PERSONS_PER_BATCH])
        for piece in windows(after, last):
            with self._pool.transaction() as connection:
                self._take_lists(connection, *piece)

    def _serve(self, after: int) -> int:
        """Under the head lock: the last stretch, then the pointer."""
        with self._appender.locked() as locked:
            last = locked.head.position
            streams = self._streams(locked.connection, SUBJECT_TOPICS, after, last)
            persons = refold(locked.connection, self._ledger, streams, last)
            if any(person.unopened for person in persons):
                raise RebuildRefused(_UNOPENED)
            write_persons(locked, self._book, self._ledger, self._next, persons)
            self._take_lists(locked.connection, after, last)
            values = (self._next, self._tenant, self._serving)
            if locked.connection.execute(SERVE_GENERATION, values).rowcount != 1:
                raise RebuildRefused("Another rebuild of this account has finished meanwhile; nothing is changed.")
            return last

    def _write(self, streams: Sequence[UUID]) -> None:
        """Persons as they are now; whose stream moves on while it is read is left to the next round."""
        with self._pool.transaction() as connection:
            end = end_of_log(connection, self._tenant)
            persons = refold(connection, self._ledger, streams, end)
        with self._appender.locked() as locked:
            moved_on = set(self._streams(locked.connection, SUBJECT_TOPICS, end, locked.head.position))
            settled = [person for person in persons if person.stream not in moved_on]
            if any(person.unopened for person in settled):
                raise RebuildRefused(_UNOPENED)
            write_persons(locked, self._book, self._ledger, self._next, settled)

    def _take_lists(self, connection: Connection[Any], after: int, last: int) -> None:
        """Suppressions and campaigns, in order of the log."""
        entries: dict[tuple[bytes, str, str], SuppressionRow] = {}
        listed_again: dict[tuple[bytes, str, str], SuppressionRow] = {}
        for event in read_events(connection, self._tenant, LIST_TOPICS, after, last):
            fact = self._ledger.sealing.open(event, personal=event.topic not in _WITHOUT_SECRETS)
            if isinstance(fact, ErasureIntended):
                # Once the day's key is gone the daily batch has listed these addresses, further on in the log.
                month = month_of(fact.occurred_at)
                _merge(entries, [SuppressionRow(bytes.fromhex(f), s, c, month) for f, s, c in fact.entries()])
            elif isinstance(fact, SuppressionImposed):
                by_batch = fact.actor == RETENTION_ACTOR
                rows = _entries(fact, fact.scope, fact.reason, fact.since)
                _merge(listed_again if by_batch else entries, rows)
            elif isinstance(fact, SuppressionLifted):
                self._list.write(connection, self._tenant, self._next, _unordered(entries))
                entries.clear()
                fingerprints = [row.fingerprint for row in _entries(fact, fact.scope, fact.reason, "")]
                self._list.lift(connection, self._tenant, self._next, fingerprints, fact.scope)
            else:
                self._take_campaign(connection, fact)
        self._list.write(connection, self._tenant, self._next, _unordered(entries))
        if listed_again:
            self._list.rewrite(connection, self._tenant, self._next, _unordered(listed_again))

    def _take_campaign(self, connection: Connection[Any], fact: Fact) -> None:
        held = self._book.campaign(connection, self._tenant, self._next, fact.originator_id)
        state = campaigns.evolve(held, fact)
        assert state is not None
        self._book.write_campaign(connection, self._tenant, self._next, fact.originator_id, state)

    def _streams(self, connection: Connection[Any], topics: Iterable[str], after: int, last: int) -> list[UUID]:
        values = (self._tenant, after, last, every_version(topics))
        return sorted(row[0] for row in connection.execute(SELECT_STREAMS_OF, values, binary=True))

    def _end(self) -> int:
        with self._pool.transaction() as connection:
            return end_of_log(connection, self._tenant)

    def _clear(self, generation: int) -> None:
        """Delete a generation that does not serve, in batches."""
        for table, key in TABLES.items():
            statement = _delete_some(table, key)
            deleted = 1
            while deleted:
                with self._pool.transaction() as connection:
                    if self._appender.read_head(connection).generation == generation:
                        raise RebuildRefused("Another rebuild of this account has finished meanwhile.")
                    values = (self._tenant, generation, self._tenant, generation, ROWS_PER_DELETE)
                    deleted = connection.execute(statement, values).rowcount


_WITHOUT_SECRETS = frozenset({CampaignRegistered.TOPIC, CampaignClosed.TOPIC})
_UNOPENED = (
    "The address of a living person cannot be opened any more, so their standing cannot be built again. "
    "Nothing is changed: the projection that served goes on serving."
)


def _entries(
    fact: ErasureIntended | SuppressionImposed | SuppressionLifted, scope: str, cause: str, since: str
) -> list[SuppressionRow]:
    return [SuppressionRow(bytes.fromhex(f), scope, cause, since) for f in opened(fact.fingerprints) or ()]


def _unordered(entries: dict[tuple[bytes, str, str], SuppressionRow]) -> list[SuppressionRow]:
    """In order of fingerprint, which says nothing: rows must not repeat the order of the log (I11)."""
    return [entries[key] for key in sorted(entries)]


def _merge(entries: dict[tuple[bytes, str, str], SuppressionRow], rows: Iterable[SuppressionRow]) -> None:
    """Of the same entry the later time counts, as in the table."""
    for row in rows:
        key = (row.fingerprint, row.scope, row.cause)
        held = entries.get(key)
        if held is None or since_date(row.since) > since_date(held.since):
            entries[key] = row


def _delete_some(table: str, key: str) -> str:
    return (
        f"DELETE FROM lethe.{table} WHERE tenant_id = %s AND generation = %s AND {key} = ANY(ARRAY("
        f"SELECT {key} FROM lethe.{table} WHERE tenant_id = %s AND generation = %s ORDER BY {key} LIMIT %s))"
    )
