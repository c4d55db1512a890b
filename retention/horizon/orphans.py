"""Orphans: keys that were made for a person whose first event never came, collected at the roll.

Keys are made durably before the append that needs them, so a process that dies in between leaves some behind that
never sealed anything. A kid that stands in no envelope of the whole log was never used; its keys go, with a tombstone,
so that nothing can be sealed under them later either. Everything doubtful is left alone: keys of the last days, keys of
a holder that anything was ever destroyed of, records' and period keys, and all keys around the time of a restore,
because then events are missing and not yet to come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.personal import Identity
from domain.restore import LedgerRestored
from ledger.application import LedgerServices
from ledger.entry import unpack_sealed
from ledger.keys.keyring import LINK
from ledger.sealing import envelope_kid
from projections.log import end_of_log, every_version, first_position_at, windows
from projections.rebuild_inline import SUBJECT_TOPICS

GRACE_DAYS: Final = 2
"""An append follows its keys within seconds; a day's end and a clock that is off are covered twice over."""

HOLDERS_PER_PAGE: Final = 10_000
CAUSE: Final = "never used"

SELECT_MADE = """
SELECT DISTINCT holder FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND class = %s AND period = '' AND holder > %s AND holder <> '' AND created_on BETWEEN %s AND %s
ORDER BY holder LIMIT %s
"""
SELECT_MARKED = "SELECT DISTINCT holder FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder = ANY(%s)"
SELECT_SEALED_BY_TOPIC = """
SELECT sealed FROM lethe.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND sealed IS NOT NULL AND topic = ANY(%s)
"""
SELECT_SEALED = """
SELECT sealed FROM lethe.event WHERE tenant_id = %s AND position > %s AND position <= %s AND sealed IS NOT NULL
"""
SELECT_RESTORED = """
SELECT 1 FROM lethe.event WHERE tenant_id = %s AND position > %s AND topic = ANY(%s) LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class MadeBetween:
    """The first and the last day of keys that are looked at."""

    first: date
    last: date


def days_looked_at(now: datetime, epoch_days: int) -> MadeBetween:
    """The days since the roll before the last one, so that one that was cut off is made up for; not the last days."""
    today = now.date()
    return MadeBetween(today - timedelta(days=2 * epoch_days + GRACE_DAYS), today - timedelta(days=GRACE_DAYS))


def collect_orphans(services: LedgerServices, tenant: UUID, made: MadeBetween) -> int:
    """Destroy the keys of persons who never came to be; returns how many persons that were. Safe to run again."""
    collected = 0
    for retention_class in (LINK, Identity.name):
        for kids in _pages(services, tenant, retention_class, made):
            orphans = _orphans(services, tenant, kids, made)
            for kid in sorted(orphans):
                services.vault.destroy_holder(tenant, kid, when=services.clock(), cause=CAUSE, certificate=None)
            collected += len(orphans)
    return collected


def _pages(services: LedgerServices, tenant: UUID, retention_class: str, made: MadeBetween) -> Iterator[set[bytes]]:
    after = b""
    while True:
        with services.vault.pool.transaction() as connection:
            values = (tenant, retention_class, after, made.first, made.last, HOLDERS_PER_PAGE)
            kids = [bytes(row[0]) for row in connection.execute(SELECT_MADE, values, binary=True)]
        if not kids:
            return
        yield set(kids)
        after = kids[-1]


def _orphans(services: LedgerServices, tenant: UUID, kids: set[bytes], made: MadeBetween) -> set[bytes]:
    """Those of these kids that stand in no envelope: looked for where they should be, the rest in the whole log."""
    with services.vault.pool.transaction() as connection:
        marked = {bytes(row[0]) for row in connection.execute(SELECT_MARKED, (tenant, sorted(kids)))}
    unseen = kids - marked
    with services.writer.transaction() as connection:
        begin = first_position_at(connection, tenant, datetime.combine(made.first, time(), UTC)) - 1
        end = end_of_log(connection, tenant)
        restored = connection.execute(SELECT_RESTORED, (tenant, begin, [LedgerRestored.TOPIC])).fetchone()
    if restored is not None:
        return set()
    unseen = _without_seen(services, tenant, unseen, (begin, end), every_version(SUBJECT_TOPICS))
    return _without_seen(services, tenant, unseen, (0, end), None)


def _without_seen(
    services: LedgerServices, tenant: UUID, kids: set[bytes], section: tuple[int, int], topics: Sequence[str] | None
) -> set[bytes]:
    """The kids that no envelope in this section of the log names."""
    for after, last in windows(*section):
        if not kids:
            break
        with services.writer.transaction() as connection:
            kids = kids - _named(connection, tenant, after, last, topics)
    return kids


def _named(
    connection: Connection[Any], tenant: UUID, after: int, last: int, topics: Sequence[str] | None
) -> set[bytes]:
    values: tuple[Any, ...] = (tenant, after, last)
    statement = SELECT_SEALED
    if topics is not None:
        statement, values = SELECT_SEALED_BY_TOPIC, (*values, list(topics))
    rows = connection.execute(statement, values, binary=True)
    return {envelope_kid(envelope) for row in rows for envelope in unpack_sealed(row[0]).values()}
