"""Work that only one process may do at a time, such as a rebuild: a lock that the database lets go of when it dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ledger.connections import Pool

TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
UNLOCK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"


@contextmanager
def alone(pool: Pool, work: str) -> Iterator[bool]:
    """Whether the right to do `work` is ours for the length of the block. Never waits; holds a connection."""
    with pool.connection() as guard:
        row = guard.execute(TRY_LOCK, (work,)).fetchone()
        ours = row is not None and bool(row[0])
        try:
            yield ours
        finally:
            if ours and not guard.closed:
                guard.execute(UNLOCK, (work,))
