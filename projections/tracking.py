"""Where each asynchronous projection of each tenant stands.

A batch holds the tracking row of its tenant and projection, so that several workers never do the same work twice,
and the read model and its position move in the same transaction: a batch that was cut off has not happened. The
position itself is recorded as eventsourcing's `Tracking`, whose application name is the tenant's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from eventsourcing.persistence import IntegrityError, Tracking
from psycopg import Connection

START = """
INSERT INTO lethe.tracking (tenant_id, projection, generation)
SELECT h.tenant_id, %s, 1 FROM lethe.head h WHERE h.tenant_id = %s
    AND NOT EXISTS (SELECT 1 FROM lethe.tracking t WHERE t.tenant_id = h.tenant_id AND t.projection = %s)
ON CONFLICT DO NOTHING
"""
TAKE_LIVE = """
SELECT generation, position FROM lethe.tracking WHERE tenant_id = %s AND projection = %s AND live FOR UPDATE
"""
TAKE_LIVE_OR_SKIP = TAKE_LIVE + " SKIP LOCKED"
TAKE_GENERATION = """
SELECT generation, position FROM lethe.tracking
WHERE tenant_id = %s AND projection = %s AND generation = %s FOR UPDATE
"""
MOVE = """
UPDATE lethe.tracking SET position = %s
WHERE tenant_id = %s AND projection = %s AND generation = %s AND position <= %s
"""
SELECT_ALL = """
SELECT projection, generation, position, live FROM lethe.tracking WHERE tenant_id = %s ORDER BY projection, generation
"""
SELECT_BEHIND = """
SELECT h.tenant_id FROM lethe.head h WHERE h.position > 0 AND %s > (
    SELECT count(*) FROM lethe.tracking t
    WHERE t.tenant_id = h.tenant_id AND t.projection = ANY(%s) AND t.live AND t.position >= h.position
) ORDER BY h.tenant_id
"""
INSERT_PARKED = """
INSERT INTO lethe.parked_event (tenant_id, projection, generation, position, reason) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
SELECT_PARKED = """
SELECT p.projection, p.position, p.reason FROM lethe.parked_event p
WHERE p.tenant_id = %s ORDER BY p.projection, p.generation, p.position LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Tracked:
    """One generation of one projection of one tenant, and the last position it has taken in."""

    tenant: UUID
    projection: str
    generation: int
    position: int

    def tracking(self) -> Tracking:
        """The same as eventsourcing records it."""
        return Tracking(application_name=str(self.tenant), notification_id=self.position)


@dataclass(frozen=True, slots=True)
class Parked:
    """An event that a projection could not take in, and why."""

    projection: str
    position: int
    reason: str


def start(connection: Connection[Any], tenant: UUID, projection: str) -> bool:
    """Begin a projection at position 0 if it was never begun; whether that was so.

    In a transaction of its own: others that begin the same one wait for its end.
    """
    return connection.execute(START, (projection, tenant, projection)).rowcount == 1


def take(connection: Connection[Any], tenant: UUID, projection: str, *, wait: bool = False) -> Tracked | None:
    """Hold the serving generation for this transaction; None if another worker has it, or if there is none yet."""
    row = connection.execute(TAKE_LIVE if wait else TAKE_LIVE_OR_SKIP, (tenant, projection)).fetchone()
    return Tracked(tenant, projection, *row) if row else None


def take_generation(connection: Connection[Any], tenant: UUID, projection: str, generation: int) -> Tracked | None:
    """Hold one generation, serving or being built; None if it does not exist (any more)."""
    row = connection.execute(TAKE_GENERATION, (tenant, projection, generation)).fetchone()
    return Tracked(tenant, projection, *row) if row else None


def move(connection: Connection[Any], tracked: Tracked, position: int) -> Tracked:
    """Record that everything up to `position` is taken in. Raises `IntegrityError` for a step backwards."""
    moved = replace(tracked, position=position)
    values = (moved.tracking().notification_id, tracked.tenant, tracked.projection, tracked.generation, position)
    if connection.execute(MOVE, values).rowcount != 1:
        raise IntegrityError("This projection has moved on meanwhile; nothing of this batch is kept.")
    return moved


def all_tracked(connection: Connection[Any], tenant: UUID) -> list[tuple[Tracked, bool]]:
    """Every generation of every projection of a tenant, each with whether it serves."""
    rows = connection.execute(SELECT_ALL, (tenant,)).fetchall()
    return [(Tracked(tenant, name, generation, position), live) for name, generation, position, live in rows]


def tenants_behind(connection: Connection[Any], projections: Sequence[str]) -> list[UUID]:
    """The tenants whose log has something that one of these projections has not taken in."""
    values = (len(projections), list(projections))
    return [row[0] for row in connection.execute(SELECT_BEHIND, values)]


def park(connection: Connection[Any], tracked: Tracked, position: int, reason: str) -> None:
    """Put an event aside. `reason` holds no value of the event."""
    values = (tracked.tenant, tracked.projection, tracked.generation, position, reason)
    connection.execute(INSERT_PARKED, values)


def parked_events(connection: Connection[Any], tenant: UUID, limit: int) -> list[Parked]:
    """Events that were put aside, for `lethe doctor` and whoever mends them."""
    return [Parked(*row) for row in connection.execute(SELECT_PARKED, (tenant, limit))]
