"""Listing erased persons' addresses again, when the key of the day that held them was lost with an old vault.

The intent of an erasure carries its fingerprints under the key of its day, and the daily batch writes them to the list
as events that last. Where that key is gone first, the rows of the list are all that is left: they become events now, in
order of random ids, so that a rebuild of the list keeps them (I7) and the log still repeats nobody's order (I11).
"""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

from domain.ids import month_of, unix_ms, uuid7
from domain.personal import Personal
from domain.suppression import SuppressionImposed
from ledger.application import Ledger
from ledger.erasures import ERASED_CAUSE, RETENTION_ACTOR

ENTRIES_PER_APPEND = 2_000

SELECT_ERASED = """
SELECT fingerprint, scope, since FROM lethe.suppression
WHERE tenant_id = %s AND generation = %s AND cause = %s AND since >= %s ORDER BY fingerprint
"""


def list_again(ledger: Ledger, since_month: str) -> int:
    """Write events for every erased address on the list since a month (`2026-11`); returns how many those were."""
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        values = (ledger.tenant, generation, ERASED_CAUSE, f"{since_month}-01")
        rows = connection.execute(SELECT_ERASED, values).fetchall()
    stamp = unix_ms(ledger.clock())
    entries = sorted((uuid7(stamp, os.urandom(10)), row) for row in rows)
    for start in range(0, len(entries), ENTRIES_PER_APPEND):
        _append(ledger, entries[start : start + ENTRIES_PER_APPEND])
    return len(entries)


def _append(ledger: Ledger, entries: list[tuple[UUID, tuple[Any, ...]]]) -> None:
    with ledger.appender.locked() as locked:
        facts = [
            SuppressionImposed(
                fingerprints=Personal((bytes(fingerprint).hex(),)),
                scope=scope,
                reason=ERASED_CAUSE,
                since=month_of(since),
                originator_id=stream,
                originator_version=1,
                event_id=uuid7(unix_ms(locked.now), os.urandom(10)),
                occurred_at=locked.now,
                actor=RETENTION_ACTOR,
                command=UUID(bytes=os.urandom(16), version=4),
            )
            for stream, (fingerprint, scope, since) in entries
        ]
        locked.record([(ledger.sealing.draft(fact), 1) for fact in facts], restricts=False)
