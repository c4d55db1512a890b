"""The roll of the vault: every wrap of an older epoch is renewed under the newest one, in place and in batches.

Deleting a row does not delete it from the write-ahead log, dead tuples or backups; but there it is wrapped under the
epoch of its time, and nothing opens it any more once that epoch's key is destroyed. So whatever still lives has to be
under a later epoch by then (DESIGN section 6).

Rows are renewed where they stand. A row that was deleted in the meantime is updated nowhere, so that nothing destroyed
comes back; a row that somebody holds is passed by and met again on the next pass; and nobody writes under an older
epoch once the newest is open (`ledger.epochs`), so passes end. Each batch is one short transaction: killed between any
two of them, the roll is simply begun again. At the end every row is read and opened, against its commitment.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from psycopg import Connection

from ledger.arrays import BytesArray
from ledger.connections import Pool
from ledger.custody.provider import EpochKeyProvider
from ledger.errors import RollIncomplete, TamperError
from ledger.keys.epochs import ROLLED
from ledger.keys.names import KeyName, key_commitment
from ledger.keys.wraps import refuse_rolled, wrap_aad
from ledger.sealing import open_box, seal_box

WRAPS_PER_BATCH: Final = 2_000
"""Wraps per transaction: a few dozen milliseconds, so that whoever wants one of its rows is not kept waiting."""

PASSES_MAX: Final = 100
"""Passes over what others held; nothing holds a row for longer than their pauses together."""

PAUSE_SECONDS: Final = 0.02
PAUSE_SECONDS_MAX: Final = 2.0

_PLACE: Final = "tenant_id, holder, class, period, generation"
_FIRST: Final = (UUID(int=0), b"", "", "", -1)
_AFTER: Final = f"({_PLACE}) > (%s::uuid, %s::bytea, %s::text, %s::text, %s::smallint)"

# The sum keeps the planner from the index on epoch, which would be sorted anew for every batch.
SELECT_OLDER = f"""
SELECT {_PLACE}, epoch, wrap, {ROLLED} FROM lethe_vault.wrapped_key WHERE {_AFTER} AND epoch + 0 < %s
ORDER BY {_PLACE} LIMIT %s FOR UPDATE SKIP LOCKED
"""
UPDATE_WRAPS = """
UPDATE lethe_vault.wrapped_key k SET epoch = %s, wrap = n.wrap
FROM unnest(%s::uuid[], %s::bytea[], %s::text[], %s::text[], %s::smallint[], %s::bytea[])
    AS n(tenant_id, holder, class, period, generation, wrap)
WHERE k.tenant_id = n.tenant_id AND k.holder = n.holder AND k.class = n.class AND k.period = n.period
    AND k.generation = n.generation
"""
SELECT_ALL = f"""
SELECT {_PLACE}, epoch, wrap, commitment FROM lethe_vault.wrapped_key WHERE {_AFTER} ORDER BY {_PLACE} LIMIT %s
"""
COUNT_OLDER = "SELECT count(*) FROM lethe_vault.wrapped_key WHERE epoch < %s"
COUNT_ALL = "SELECT count(*) FROM lethe_vault.wrapped_key"
COUNT_BY_EPOCH = "SELECT epoch, count(*) FROM lethe_vault.wrapped_key GROUP BY epoch ORDER BY epoch"

Stage = Literal["renew keys", "verify keys", "renew persons", "verify persons", "collect orphans"]
Place = tuple[UUID, bytes, str, str, int]


@dataclass(frozen=True, slots=True)
class RollStep:
    """One batch that is committed: what was done, to how many rows."""

    stage: Stage
    rows: int


class VaultRoll:
    """The renewal of one vault into epoch `into`, which is open already."""

    def __init__(
        self, pool: Pool, provider: EpochKeyProvider, into: int, *, wraps_per_batch: int = WRAPS_PER_BATCH
    ) -> None:
        self._pool = pool
        self._provider = provider
        self._into = into
        self._wraps_per_batch = wraps_per_batch

    def renew_all(self) -> Iterator[RollStep]:
        """Renew until nothing is left under an older epoch; gives a step after each batch. Raises `RollIncomplete`."""
        yield from until_none_left(self.renew, self.left)

    def renew(self) -> Iterator[RollStep]:
        """One pass: every wrap of an older epoch that nobody else holds."""
        after: Place | None = _FIRST
        while after is not None:
            with self._pool.transaction() as connection:
                rows, after = self._batch(connection, after)
            if rows:
                yield RollStep("renew keys", rows)

    def verify(self) -> Iterator[RollStep]:
        """Read every wrap, and see that it opens under its epoch to the key it was made as.

        Raises `RollIncomplete`, `TamperError`, `KeyMissing`.
        """
        after: Place | None = _FIRST
        while after is not None:
            with self._pool.transaction() as connection:
                values = (*after, self._wraps_per_batch)
                rows = connection.execute(SELECT_ALL, values, binary=True).fetchall()
            for *place, epoch, wrap, commitment in rows:
                self._verify(place, epoch, wrap, commitment)
            after = _last(rows, self._wraps_per_batch)
            if rows:
                yield RollStep("verify keys", len(rows))

    def left(self) -> int:
        """How many wraps are under an older epoch."""
        return _count(self._pool, COUNT_OLDER, (self._into,))

    def total(self) -> int:
        """How many wraps there are, whatever their epoch."""
        return _count(self._pool, COUNT_ALL, ())

    def _batch(self, connection: Connection[Any], after: Place) -> tuple[int, Place | None]:
        values = (*after, self._into, self._wraps_per_batch)
        rows = connection.execute(SELECT_OLDER, values, binary=True).fetchall()
        if not rows:
            return 0, None
        key = self._provider.key(self._into)
        renewed = [
            seal_box(key, self._open(place, epoch, wrap, rolled), wrap_aad(place[0], KeyName(*place[1:]), self._into))
            for *place, epoch, wrap, rolled in rows
        ]
        columns = [list(column) for column in zip(*(row[:5] for row in rows), strict=True)]
        if connection.execute(UPDATE_WRAPS, (self._into, *columns, BytesArray(renewed))).rowcount != len(rows):
            raise RollIncomplete("Rows that this transaction holds were changed by another. Nothing of it is kept.")
        return len(rows), _last(rows, self._wraps_per_batch)

    def _verify(self, place: Sequence[Any], epoch: int, wrap: bytes, commitment: bytes | None) -> None:
        if epoch < self._into:
            raise RollIncomplete(
                f"A wrap stands under epoch {epoch} though everything was renewed into {self._into}: it was put back "
                "from an older copy, or written by an older version of this program. Look into it, then roll again."
            )
        key = self._open(place, epoch, wrap)
        if commitment is not None and not hmac.compare_digest(bytes(commitment), key_commitment(key)):
            raise TamperError(f"A key of class {place[2]} of account {place[0]} is not the key it was made as.")

    def _open(self, place: Sequence[Any], epoch: int, wrap: bytes, rolled: int = 0) -> bytes:
        tenant, name = place[0], KeyName(*place[1:])
        refuse_rolled(epoch, rolled)
        try:
            return open_box(self._provider.key(epoch), wrap, wrap_aad(tenant, name, epoch))
        except TamperError:
            raise TamperError(
                f"A wrapped key of class {name.retention_class} of account {tenant} does not open under epoch {epoch}: "
                "it was changed, or put back from another epoch. Bring the vault back from a backup."
            ) from None


def until_none_left(renew: Callable[[], Iterator[RollStep]], left: Callable[[], int]) -> Iterator[RollStep]:
    """Pass after pass, with longer and longer pauses where others hold what is left. Raises `RollIncomplete`."""
    pause, remaining = PAUSE_SECONDS, 0
    for _ in range(PASSES_MAX):
        yield from renew()
        remaining = left()
        if not remaining:
            return
        time.sleep(pause)
        pause = min(pause * 2, PAUSE_SECONDS_MAX)
    raise RollIncomplete(
        f"{remaining} rows could not be renewed: another transaction has held them all the time. "
        "Nothing is lost; find it in pg_stat_activity, end it, and roll again."
    )


def wraps_by_epoch(pool: Pool) -> dict[int, int]:
    """How many wraps are under each epoch."""
    with pool.transaction() as connection:
        return {row[0]: row[1] for row in connection.execute(COUNT_BY_EPOCH)}


def _last(rows: Sequence[Sequence[Any]], limit: int) -> Place | None:
    """Where the next page begins; None after the last one."""
    if len(rows) < limit:
        return None
    tenant, holder, retention_class, period, generation = rows[-1][:5]
    return tenant, bytes(holder), retention_class, period, generation


def _count(pool: Pool, statement: str, values: tuple[Any, ...]) -> int:
    with pool.transaction() as connection:
        row = connection.execute(statement, values).fetchone()
    assert row is not None
    return int(row[0])
