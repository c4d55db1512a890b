"""A daily chore: the erasures of a day that is over are let go of, many at a time and in no order of theirs.

On its day an erasure's bookmark and certificate stand beside the person's events: written in the same transaction,
at the same microsecond. That would lead whoever keeps an erasure's or a certificate's id to the events (I11). So when
the day is over they are written anew: rows in order of random ids, days in place of times, and one list of keys for
up to 256 erasures together. The tombstones of that day then forget which keys went. What is left says that somebody
was erased on a day, and no more. Keys that the law keeps from those erased moved to new holders on that day; they are
written anew among each other, so that no neighbourhood in the vault tells whose they were.

In the same append the certificates' digests are written into the log: the second revision of stage 1. Stage 2 follows
when the epoch keys are destroyed, also many at a time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from domain.ids import unix_ms, uuid7
from domain.keys import CertificateIssued
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.certificate_format import digest_of
from ledger.keys.commitments import CommitmentBook
from ledger.streams import next_version
from projections.alone import alone
from retention.certificates.commitments import ACTOR, days_over
from retention.certificates.epoch_dates import epoch_dates
from retention.certificates.exports import end_of, exports_of_many, midnight
from retention.certificates.issuing import listed, unrecoverable
from retention.certificates.store import (
    Certificate,
    insert_list,
    read_certificates,
    replace_certificates,
    waiting_certificates,
)
from retention.erasure.destroyed_lists import BATCH, destroyed_list

ERASURES_PER_LIST: Final = 256
"""Erasures that share a list: enough to hide among, and a list of some two megabytes at most."""

ERASURES_PER_RUN: Final = 100_000
"""Bookmarks looked at in one run, by id and day only; a larger deletion is let go of in several runs."""

SELECT_UNSETTLED: Final = """
SELECT erasure_id, coalesce((progress ->> 'day')::date, finished_at::date) FROM lethe.erasure
WHERE tenant_id = %s AND settled_on IS NULL AND finished_at IS NOT NULL AND finished_at < %s
ORDER BY finished_at LIMIT %s
"""
SELECT_GROUP: Final = """
SELECT erasure_id, certificate_id, progress FROM lethe.erasure
WHERE tenant_id = %s AND erasure_id = ANY(%s) AND settled_on IS NULL
"""
# Taken out and put back in order of their random ids, so that neither place nor transaction tells them apart.
REWRITE: Final = """
WITH old AS (
    DELETE FROM lethe.erasure WHERE tenant_id = %s AND erasure_id = ANY(%s) AND settled_on IS NULL RETURNING *
)
SELECT erasure_id, deletion_id, state, cause, requested_at, finished_at, certificate_id FROM old ORDER BY erasure_id
"""
INSERT: Final = """
INSERT INTO lethe.erasure (tenant_id, erasure_id, deletion_id, state, cause, requested_at, finished_at, certificate_id,
    settled_on)
SELECT %s, n.*, %s FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
    %s::uuid[]) AS n
"""
SELECT_UNFINISHED: Final = """
SELECT 1 FROM lethe.erasure WHERE tenant_id = %s AND state = 'intended' AND finished_at IS NULL LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class DaySettled:
    """What was let go of, of one day: how many erasures, on how many lists."""

    day: date
    erasures: int
    lists: int


def settle_erasures(ledger: Ledger, now: datetime) -> list[DaySettled]:
    """Let go of the erasures of every day before today (UTC). Does nothing while another process is at it."""
    with alone(ledger.services.writer, f"erasure days {ledger.tenant}") as ours:
        return _settle(ledger, days_over(now), now.date()) if ours else []


def mix_kept_keys(ledger: Ledger, now: datetime) -> int:
    """Write anew, in no order, what was kept from persons erased on the days before today; returns how many keys."""
    mixed = 0
    with alone(ledger.services.writer, f"kept keys {ledger.tenant}") as ours:
        while ours and (done := ledger.services.vault.mix_rehomed(ledger.tenant, now.date())):
            mixed += done
    return mixed


def complete_certificates(ledger: Ledger, now: datetime) -> int:
    """Issue stage 2 for every certificate whose keys no epoch key opens any more; returns how many."""
    dates = epoch_dates(ledger.services, now)
    gone, done = dates.gone_up_to(), 0
    if not gone:
        return 0
    with alone(ledger.services.writer, f"erasure days {ledger.tenant}") as ours:
        while ours:
            with ledger.services.writer.transaction() as connection:
                waiting = waiting_certificates(connection, ledger.tenant, gone, ERASURES_PER_LIST)
            if not waiting:
                break
            issued = [unrecoverable(ledger, one, dates, now.date()) for one in waiting]
            with ledger.appender.locked() as locked:
                replace_certificates(locked.connection, ledger.tenant, issued)
                record_issued(locked, ledger, issued)
            done += len(issued)
    return done


def record_issued(locked: LockedTenant, ledger: Ledger, certificates: Sequence[Certificate]) -> None:
    """Write the digests of certificates into the log, each in the stream of its certificate."""
    drafts = []
    for certificate in certificates:
        version = next_version(locked.connection, ledger.tenant, certificate.certificate_id)
        fact = CertificateIssued(
            stage=certificate.stage,
            digest=digest_of(certificate.document),
            originator_id=certificate.certificate_id,
            originator_version=version,
            event_id=uuid7(unix_ms(locked.now), os.urandom(10)),
            occurred_at=locked.now,
            actor=ACTOR,
            command=UUID(bytes=os.urandom(16), version=4),
        )
        drafts.append((ledger.sealing.draft(fact), version))
    locked.record(drafts, restricts=False)


def _settle(ledger: Ledger, before: date, today: date) -> list[DaySettled]:
    with ledger.services.writer.transaction() as connection:
        values = (ledger.tenant, midnight(before), ERASURES_PER_RUN)
        rows = connection.execute(SELECT_UNSETTLED, values).fetchall()
    by_day: dict[date, list[UUID]] = {}
    for erasure_id, day in rows:
        by_day.setdefault(day, []).append(erasure_id)
    settled = []
    for day, ids in sorted(by_day.items()):
        groups = list(_groups(ids))
        for group in groups:
            _Group(ledger, day, group).settle(today)
        settled.append(DaySettled(day, len(ids), len(groups)))
    _silence(ledger, before)
    return settled


def _groups(ids: Sequence[UUID]) -> Iterator[list[UUID]]:
    """The erasures of a day in as few even groups as can be, by lot."""
    shuffled = list(ids)
    random.SystemRandom().shuffle(shuffled)
    count = -(-len(shuffled) // ERASURES_PER_LIST)
    for number in range(count):
        yield shuffled[number::count]


def _silence(ledger: Ledger, before: date) -> None:
    """Let the tombstones of days that are settled forget which keys went; later, while somebody may still ask them."""
    with ledger.services.writer.transaction() as connection:
        if connection.execute(SELECT_UNFINISHED, (ledger.tenant,)).fetchone() is not None:
            return
        if connection.execute(SELECT_UNSETTLED, (ledger.tenant, midnight(before), 1)).fetchone() is not None:
            return
    CommitmentBook(ledger.services.vault, ledger.tenant).silence_tombstones(BATCH, before)


class _Group:
    """Some erasures of one day, which are let go of together."""

    def __init__(self, ledger: Ledger, day: date, ids: Sequence[UUID]) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._day = day
        self._ids = list(ids)

    def settle(self, today: date) -> None:
        """Everything of this group in one append: the list, the certificates, their digests, the bookmarks."""
        with self._ledger.services.writer.transaction() as connection:
            rows = connection.execute(SELECT_GROUP, (self._tenant, self._ids)).fetchall()
            wanted = [row[1] for row in rows if row[1] is not None]
            held = read_certificates(connection, self._tenant, wanted)
        keys = [key for row in rows for key in (row[2] or {}).get("destroyed", ())]
        made = destroyed_list(self._ledger, self._day, keys, len(held))
        named = made.named if made is not None else None
        since = min((date.fromisoformat(made_on) for _, made_on, _ in keys), default=None)
        exports = exports_of_many(self._ledger, since, end_of(self._day))
        issued = [listed(self._ledger, one, named, exports, today) for one in held.values() if one.revision == 1]
        with self._ledger.appender.locked() as locked:
            if made is not None:
                insert_list(locked.connection, self._tenant, made.document)
            replace_certificates(locked.connection, self._tenant, issued)
            record_issued(locked, self._ledger, issued)
            self._rewrite(locked, today)

    def _rewrite(self, locked: LockedTenant, today: date) -> None:
        rows = locked.connection.execute(REWRITE, (self._tenant, self._ids)).fetchall()
        columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
        columns[4] = [midnight(moment.date()) for moment in columns[4]]
        columns[5] = [midnight(moment.date()) for moment in columns[5]]
        locked.connection.execute(INSERT, (self._tenant, today, *columns))
