"""The book of holds built again from the log: every hold's facts, folded, and its tables written anew.

Holds are few, and their facts are read by topic through the whole log. What stands up to the moment is read without
a lock; the rest under the tenant's head lock, which also covers the writing, so that no hold is missed and none is
missing for a moment (FAULTS 13).
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from domain.hold import Hold, HoldClosed, HoldPlaced, HoldReleased, HoldWidened, evolve
from domain.personal import HoldReference
from ledger.append import Appender
from ledger.application import Ledger
from ledger.connections import Pool
from ledger.entry import unpack_sealed
from ledger.mapper import LedgerEvent
from ledger.sealing import envelope_kid
from projections.log import end_of_log, read_events, windows

HOLDS = "holds"
HOLD_TOPICS = (HoldPlaced.TOPIC, HoldWidened.TOPIC, HoldReleased.TOPIC, HoldClosed.TOPIC)
SCAN_WINDOW_EVENTS = 100_000

DELETE_TARGETS = "DELETE FROM lethe.legal_hold_target WHERE tenant_id = %s"
DELETE_HOLDS = "DELETE FROM lethe.legal_hold WHERE tenant_id = %s"


def rebuild_holds(ledger: Ledger, pool: Pool, progress: Callable[[int, int], None] | None = None) -> int:
    """Write the holds of one tenant anew from its log; returns the position up to which it was read."""
    built = _Built(ledger)
    with pool.transaction() as connection:
        end = end_of_log(connection, ledger.tenant)
    for after, last in windows(0, end, SCAN_WINDOW_EVENTS):
        with pool.transaction() as connection:
            built.take(read_events(connection, ledger.tenant, HOLD_TOPICS, after, last))
        if progress is not None:
            progress(last, end)
    with Appender(ledger.tenant, pool, ledger.clock).locked() as locked:
        for after, last in windows(end, locked.head.position, SCAN_WINDOW_EVENTS):
            built.take(read_events(locked.connection, ledger.tenant, HOLD_TOPICS, after, last))
        locked.connection.execute(DELETE_TARGETS, (ledger.tenant,))
        locked.connection.execute(DELETE_HOLDS, (ledger.tenant,))
        for hold_id, hold in built.holds.items():
            ledger.hold_book.write(locked.connection, ledger.tenant, hold_id, built.holders[hold_id], hold)
        return locked.head.position


class _Built:
    """Holds as far as the log was read."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.holds: dict[UUID, Hold] = {}
        self.holders: dict[UUID, bytes] = {}

    def take(self, events: list[LedgerEvent]) -> None:
        for event in events:
            fact = self._ledger.sealing.open(event)
            hold = evolve(self.holds.get(fact.originator_id), fact)
            assert hold is not None, "A hold's stream begins with its placing."
            self.holds[fact.originator_id] = hold
            envelope = unpack_sealed(event.sealed).get(HoldReference.name)
            if envelope is not None:
                self.holders[fact.originator_id] = envelope_kid(envelope)
