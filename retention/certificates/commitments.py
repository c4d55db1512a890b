"""A daily chore: the commitments of the keys that a day made are published as one fact, a count and a Merkle root.

Published means: in the log, before anybody knows which of the keys will be destroyed. A certificate of destruction
later gives the commitments of what it calls destroyed, each with its path to such a root. Who finds a key afterwards
that fits one of them has shown the certificate wrong; and nobody can make up keys to destroy that never existed.

Killed anywhere, it is run again: the rows of a day are written once, and the fact with its row in one transaction.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.ids import unix_ms, uuid7
from domain.keys import KeyCommitmentsPublished
from domain.merkle import tree_of
from ledger.application import Ledger
from ledger.keys.commitments import CommitmentBook
from projections.alone import alone

ACTOR: Final = "retention"
CLOCKS_APART_SECONDS_MAX: Final = 600
"""How far behind another machine's clock may be that still makes keys of yesterday."""

SELECT_LAST: Final = "SELECT max(day) FROM lethe.commitment_day WHERE tenant_id = %s"
SELECT_DAYS: Final = """
SELECT day, keys, root, position FROM lethe.commitment_day WHERE tenant_id = %s AND day = ANY(%s)
"""
INSERT_DAY: Final = """
INSERT INTO lethe.commitment_day (tenant_id, day, keys, root, position) VALUES (%s, %s, %s, %s, %s)
"""


@dataclass(frozen=True, slots=True)
class PublishedDay:
    """What stands in the log of the keys that one day made."""

    day: date
    keys: int
    root: bytes
    position: int


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where a commitment stands in its day's tree, and the path from there to the root."""

    day: date
    index: int
    path: tuple[bytes, ...]


def days_over(now: datetime) -> date:
    """The first day that does not count as over yet: days before it have made all of their keys."""
    return (now - timedelta(seconds=CLOCKS_APART_SECONDS_MAX)).date()


def publish_commitments(ledger: Ledger, now: datetime) -> list[PublishedDay]:
    """Publish each day before today (UTC) that made keys, oldest first. Does nothing while another process is at it."""
    with alone(ledger.services.writer, f"key commitments {ledger.tenant}") as ours:
        return _publish(ledger, days_over(now)) if ours else []


def published_days(connection: Connection[Any], tenant: UUID, days: Collection[date]) -> dict[date, PublishedDay]:
    """What was published of these days; a day that made no key is absent."""
    rows = connection.execute(SELECT_DAYS, (tenant, sorted(days)))
    return {day: PublishedDay(day, keys, bytes(root), position) for day, keys, root, position in rows}


def inclusions(ledger: Ledger, made_on: Mapping[bytes, date]) -> dict[bytes, Inclusion]:
    """Where these commitments stand, given the day that made each; one that was never published is absent.

    Each day is read twice as a stream, so the memory needed grows with what is asked, not with the day.
    """
    book = CommitmentBook(ledger.services.vault, ledger.tenant)
    found = {}
    for day in sorted(set(made_on.values())):
        wanted = {commitment for commitment, made in made_on.items() if made == day}
        with book.of_day(day) as commitments:
            places = {c: index for index, c in enumerate(commitments) if c in wanted}
        with book.of_day(day) as commitments:
            paths = tree_of(commitments, places.values()).paths
        found.update({c: Inclusion(day, index, tuple(paths[index])) for c, index in places.items()})
    return found


def _publish(ledger: Ledger, before: date) -> list[PublishedDay]:
    book = CommitmentBook(ledger.services.vault, ledger.tenant)
    with ledger.services.writer.transaction() as connection:
        row = connection.execute(SELECT_LAST, (ledger.tenant,)).fetchone()
    last = row[0] if row is not None and row[0] is not None else date.min
    published: list[PublishedDay] = []
    while (day := book.next_day(last, before)) is not None:
        if not published:
            book.wait_for_writers()
        book.collect(day)
        with book.of_day(day) as commitments:
            tree = tree_of(commitments)
        if tree.size:  # Keys from before there were commitments have none.
            published.append(_record(ledger, day, tree.size, tree.root))
        last = day
    return published


def _record(ledger: Ledger, day: date, keys: int, root: bytes) -> PublishedDay:
    with ledger.appender.locked() as locked:
        fact = KeyCommitmentsPublished(
            day=day.isoformat(),
            count=keys,
            root=root.hex(),
            originator_id=uuid7(unix_ms(locked.now), os.urandom(10)),
            originator_version=1,
            event_id=uuid7(unix_ms(locked.now), os.urandom(10)),
            occurred_at=locked.now,
            actor=ACTOR,
            command=UUID(bytes=os.urandom(16), version=4),
        )
        (position,) = locked.record([(ledger.sealing.draft(fact), 1)], restricts=False)
        locked.connection.execute(INSERT_DAY, (ledger.tenant, day, keys, root, position))
    return PublishedDay(day, keys, root, position)
