"""What a plan has intended and what of it is done: rows beside the log, so that a plan that was cut off is taken up.

The facts stand in the plan's own stream. A row says which item is still open; it is closed in the transaction that
records the item's fact, so that each is recorded once however often the plan is run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.facts import Fact
from domain.ids import unix_ms, uuid7
from domain.keys import DestructionIntended, PlanApplied
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.erasures import RETENTION_ACTOR
from ledger.recorder import ledger_event
from ledger.streams import next_version

INSERT_INTENTS = """
INSERT INTO lethe.destruction_intent (tenant_id, plan_id, item, class, period, certificate, intended_at)
SELECT %s, %s, n.item, n.class, n.period, %s, %s
FROM unnest(%s::text[], %s::text[], %s::text[]) AS n(item, class, period)
"""
SELECT_OPEN_PLANS = """
SELECT DISTINCT plan_id FROM lethe.destruction_intent i WHERE tenant_id = %s AND NOT EXISTS (
    SELECT 1 FROM lethe.event e WHERE e.tenant_id = i.tenant_id AND e.stream_id = i.plan_id AND e.topic = %s
) ORDER BY plan_id
"""
SELECT_DONE = """
SELECT item FROM lethe.destruction_intent WHERE tenant_id = %s AND plan_id = %s AND done_at IS NOT NULL
"""
NOTE_ESCROWED = """
UPDATE lethe.destruction_intent SET escrowed = greatest(escrowed, %s)
WHERE tenant_id = %s AND plan_id = %s AND item = %s
"""
SELECT_ESCROWED = """
SELECT escrowed FROM lethe.destruction_intent WHERE tenant_id = %s AND plan_id = %s AND item = %s
"""
SET_DONE = """
UPDATE lethe.destruction_intent SET done_at = %s
WHERE tenant_id = %s AND plan_id = %s AND item = %s AND done_at IS NULL
"""
SELECT_STREAM = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = %s ORDER BY tenant_id, stream_id, version
"""

WHY: Final = "retention"
"""The cause on tombstones, in front of the clause: `retention: 8 billing`."""


def cause_of(intent: DestructionIntended) -> str:
    """Why an item's keys went, as their tombstones say it."""
    return f"{WHY}: {intent.clause}"


def record_intents(locked: LockedTenant, ledger: Ledger, plan_id: UUID, intents: Sequence[DestructionIntended]) -> None:
    """Write the intents of a plan and their rows, in the caller's transaction."""
    record_in_plan(locked, ledger, plan_id, intents)
    columns = (
        [intent.item for intent in intents],
        [intent.retention_class for intent in intents],
        [intent.period or "" for intent in intents],
    )
    values = (locked.tenant, plan_id, intents[0].certificate, locked.now, *columns)
    locked.connection.execute(INSERT_INTENTS, values)


def record_in_plan(locked: LockedTenant, ledger: Ledger, plan_id: UUID, facts: Sequence[Fact]) -> None:
    """Write facts to the stream of a plan."""
    version = next_version(locked.connection, ledger.tenant, plan_id)
    command = UUID(bytes=os.urandom(16), version=4)
    headed = [
        fact.model_copy(
            update={
                "originator_id": plan_id,
                "originator_version": version + number,
                "event_id": uuid7(unix_ms(locked.now), os.urandom(10)),
                "occurred_at": locked.now,
                "actor": RETENTION_ACTOR,
                "command": command,
            }
        )
        for number, fact in enumerate(facts)
    ]
    locked.record([(ledger.sealing.draft(fact), fact.originator_version) for fact in headed], restricts=False)


def close_item(locked: LockedTenant, ledger: Ledger, plan_id: UUID, item: str, fact: Fact) -> bool:
    """Record that an item is done, once; False if another run had recorded it."""
    values = (locked.now, locked.tenant, plan_id, item)
    if locked.connection.execute(SET_DONE, values).rowcount != 1:
        return False
    record_in_plan(locked, ledger, plan_id, [fact])
    return True


def note_escrowed(connection: Connection[Any], tenant: UUID, plan_id: UUID, item: str, count: int) -> None:
    """Note how many held persons' keys were set aside for an item; a smaller count of a later run changes nothing."""
    connection.execute(NOTE_ESCROWED, (count, tenant, plan_id, item))


def escrowed_for(connection: Connection[Any], tenant: UUID, plan_id: UUID, item: str) -> int:
    """How many held persons' keys were set aside for an item."""
    row = connection.execute(SELECT_ESCROWED, (tenant, plan_id, item)).fetchone()
    return int(row[0]) if row else 0


def plan_facts(connection: Connection[Any], ledger: Ledger, plan_id: UUID) -> list[Fact]:
    """The facts of a plan's stream, in order."""
    rows = connection.execute(SELECT_STREAM, (ledger.tenant, plan_id), binary=True).fetchall()
    return [ledger.sealing.open(ledger_event(row)) for row in rows]


def done_items(connection: Connection[Any], tenant: UUID, plan_id: UUID) -> set[str]:
    """The items of a plan that are done."""
    return {row[0] for row in connection.execute(SELECT_DONE, (tenant, plan_id))}


def open_plans(connection: Connection[Any], tenant: UUID) -> list[UUID]:
    """Plans that intended something and are not finished, oldest first."""
    return [row[0] for row in connection.execute(SELECT_OPEN_PLANS, (tenant, PlanApplied.TOPIC))]
