"""The checkpoint that is served: the newest one that as many witnesses cosigned as the policy asks for.

It trails the newest one that was published. By how much is told by the status and by the doctor; nothing that is
served, and no proof, goes beyond it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.log.store import PublishedCheckpoint, checkpoint_at, cosignatures, latest_checkpoint
from audit.log.witness_policy import NO_WITNESSES, WitnessPolicy

COSIGNATURES_PER_PAGE: Final = 256
"""Who needs it: every reader of a checkpoint; the newest enough-cosigned one stands in the first page, as a rule."""

SELECT_COSIGNED = """
SELECT size, witness FROM log_cosignature
WHERE tenant_id = %s AND series = %s AND size < %s ORDER BY size DESC, witness DESC LIMIT %s
"""
BEYOND_ALL: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Served:
    """A checkpoint, its signed note with the cosignatures of the policy's witnesses, and how many those are."""

    checkpoint: PublishedCheckpoint
    note: str
    cosigned: int


def served(
    connection: Connection[Any], tenant: UUID, policy: WitnessPolicy = NO_WITNESSES, *, series: int | None = None
) -> Served | None:
    """The newest checkpoint that satisfies the policy, None if there is none yet."""
    latest = latest_checkpoint(connection, tenant, series=series)
    if latest is None or not policy.needed:
        return None if latest is None else as_served(connection, latest, policy)
    size = _newest_cosigned(connection, latest, policy)
    found = None if size is None else checkpoint_at(connection, tenant, size, series=latest.series)
    return None if found is None else as_served(connection, found, policy)


def as_served(connection: Connection[Any], checkpoint: PublishedCheckpoint, policy: WitnessPolicy) -> Served:
    """A checkpoint with what the policy's witnesses signed about it."""
    known: Collection[str] = frozenset(policy.names)
    lines = [c.line for c in cosignatures(connection, checkpoint) if c.witness in known]
    return Served(checkpoint, checkpoint.note + "".join(f"{line}\n" for line in lines), len(lines))


def _newest_cosigned(connection: Connection[Any], latest: PublishedCheckpoint, policy: WitnessPolicy) -> int | None:
    """The largest size that enough witnesses cosigned. Read by pages, because witnesses may have been missing long."""
    below, known = BEYOND_ALL, frozenset(policy.names)
    counts: Counter[int] = Counter()
    while True:
        page = (latest.tenant, latest.series, below, COSIGNATURES_PER_PAGE)
        rows = connection.execute(SELECT_COSIGNED, page, binary=True).fetchall()
        for size, witness in rows:
            counts[size] += witness in known
            if counts[size] >= policy.needed:
                return int(size)
        if len(rows) < COSIGNATURES_PER_PAGE:
            return None
        # A page may end inside a size; that one begins the next page, unless it filled the whole of this one.
        last = rows[-1][0]
        below = last + 1 if rows[0][0] != last else last
        counts.clear()
