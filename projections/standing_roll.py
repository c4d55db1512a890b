"""The roll of the standing: rows and the aliases that lead to them, renewed into the newest epoch (DESIGN section 6).

It begins under the tenant's head lock, which every writer of standing holds: from that commit on nothing is written
under an older epoch. Everything after it goes on beside the appends, in short transactions that hold a few rows and
never the head. A row that an append holds is passed by, and is under the new epoch when the append commits; an append
that meets a row of ours waits for one batch. Whoever is forgotten meanwhile is deleted under every epoch that a row
of theirs may have, and an update in place brings nobody back (FAULTS 7a). Every generation is renewed, also one that a
rebuild is building or has left behind.

An alias has no person of its own: it leads to one by the tag that both carry, so it is renewed with that row.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import Connection

from ledger.arrays import Bytes16Array, BytesArray
from ledger.connections import Pool
from ledger.custody.provider import EpochKeyProvider
from ledger.errors import RollIncomplete, TamperError, UnknownAccount
from ledger.keys.rolling import RollStep, until_none_left
from ledger.keys.wraps import refuse_rolled
from ledger.sealing import NONCE_BYTES, aead_open
from ledger.standing_row import StandingRow
from projections.row_keys import RowKeys, row_aad, seal_row

ROWS_PER_BATCH: Final = 1_000
"""Rows per transaction: an append that wants one of them waits for a few dozen milliseconds at most."""

LOCK_MILLISECONDS: Final = 200
"""How long a batch waits for an alias: less than PostgreSQL takes to look for a deadlock, so that the append wins."""

LOCK_TRIES_MAX: Final = 100

LOCK_HEAD = "SELECT 1 FROM lethe.head WHERE tenant_id = %s FOR UPDATE"
OPEN_EPOCH = "UPDATE lethe.head SET epoch = %s WHERE tenant_id = %s AND epoch < %s"
CLOSE_EPOCH = "UPDATE lethe.head SET epoch_rolled = %s WHERE tenant_id = %s AND epoch_rolled < %s"
SELECT_ROLLED = "SELECT epoch_rolled FROM lethe.head WHERE tenant_id = %s"
SELECT_BEHIND = """
SELECT tenant_id FROM lethe.head WHERE epoch_rolled < %s AND tenant_id > %s ORDER BY tenant_id LIMIT %s
"""
COUNT_BEHIND = "SELECT count(*) FROM lethe.head WHERE epoch_rolled < %s"

_AFTER: Final = "tenant_id = %s AND (generation, fingerprint) > (%s::smallint, %s::bytea)"
_ORDER: Final = "ORDER BY tenant_id, generation, fingerprint LIMIT %s"
_FIRST: Final = (-1, b"")
NO_TENANT: Final = UUID(int=0)

SELECT_OLDER = f"""
SELECT generation, fingerprint, handle_tag, epoch, sealed FROM lethe.standing WHERE {_AFTER} AND epoch < %s
{_ORDER} FOR UPDATE SKIP LOCKED
"""
UPDATE_ROWS = """
UPDATE lethe.standing s SET epoch = %s, handle_tag = n.handle_tag, sealed = n.sealed
FROM unnest(%s::smallint[], %s, %s, %s) AS n(generation, fingerprint, handle_tag, sealed)
WHERE s.tenant_id = %s AND s.generation = n.generation AND s.fingerprint = n.fingerprint
"""
UPDATE_ALIASES = """
UPDATE lethe.contact_alias a SET handle_tag = n.new_tag
FROM unnest(%s::smallint[], %s, %s) AS n(generation, old_tag, new_tag)
WHERE a.handle_tag = n.old_tag AND a.tenant_id = %s AND a.generation = n.generation
"""
SELECT_UNDER = f"SELECT generation, fingerprint, epoch FROM lethe.standing WHERE {_AFTER} {_ORDER}"
SELECT_ALL = f"SELECT generation, fingerprint, handle_tag, epoch, sealed FROM lethe.standing WHERE {_AFTER} {_ORDER}"
SELECT_ALIASES = f"""
SELECT a.generation, a.fingerprint, a.generation = (SELECT generation FROM lethe.head WHERE tenant_id = %s)
    AND NOT EXISTS (
        SELECT 1 FROM lethe.standing s
        WHERE s.handle_tag = a.handle_tag AND s.tenant_id = a.tenant_id AND s.generation = a.generation OFFSET 0
    )
FROM (SELECT * FROM lethe.contact_alias WHERE {_AFTER} {_ORDER}) AS a
"""

Place = tuple[int, bytes]


class StandingRoll:
    """The renewal of one tenant's standing into epoch `into`, which the vault has opened already."""

    def __init__(
        self, pool: Pool, provider: EpochKeyProvider, tenant: UUID, into: int, *, rows_per_batch: int = ROWS_PER_BATCH
    ) -> None:
        self._pool = pool
        self._keys = RowKeys(provider)
        self._tenant = tenant
        self._into = into
        self._rows_per_batch = rows_per_batch

    def open(self) -> bool:
        """From here on nothing is written under an older epoch; False where that was so before."""
        with self._pool.transaction() as connection:
            if connection.execute(LOCK_HEAD, (self._tenant,)).fetchone() is None:
                raise UnknownAccount("There is no account with this id here, so there is nothing to renew.")
            return connection.execute(OPEN_EPOCH, (self._into, self._tenant, self._into)).rowcount == 1

    def renew_all(self) -> Iterator[RollStep]:
        """Renew until nothing is left under an older epoch; gives a step after each batch. Raises `RollIncomplete`."""
        yield from until_none_left(self.renew, self.left)

    def renew(self) -> Iterator[RollStep]:
        """One pass over every generation: each row of an older epoch that nobody else holds, with its aliases."""
        after: Place | None = _FIRST
        while after is not None:
            rows, after = self._batch(after)
            if rows:
                yield RollStep("renew persons", rows)

    def verify(self) -> Iterator[RollStep]:
        """Read every row and see that it opens and is found by its handle; see that every alias leads to a row.

        Raises `RollIncomplete`, `TamperError`, `KeyMissing`.
        """
        for page in self._pages(SELECT_ALL):
            for generation, fingerprint, tag, epoch, sealed in page:
                self._verify(generation, fingerprint, tag, epoch, sealed)
            yield RollStep("verify persons", len(page))
        lost = sum(row[2] for page in self._pages(SELECT_ALIASES, self._tenant) for row in page)
        if lost:
            raise RollIncomplete(
                f"{lost} superseded addresses of account {self._tenant} lead to nobody any more, so they would be "
                "taken for strangers. Build the standing again, then roll again: lethe rebuild standing."
            )

    def left(self) -> int:
        """How many rows are under an older epoch."""
        return sum(row[2] < self._into for page in self._pages(SELECT_UNDER) for row in page)

    def _batch(self, after: Place) -> tuple[int, Place | None]:
        """One batch; tried again where an append holds an alias of it."""
        for _ in range(LOCK_TRIES_MAX):
            with self._pool.connection() as connection:
                try:
                    with connection.transaction():
                        return self._renew(connection, after)
                except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                    continue
        raise RollIncomplete("Addresses are held by a transaction that does not end. Find it in pg_stat_activity.")

    def _renew(self, connection: Connection[Any], after: Place) -> tuple[int, Place | None]:
        connection.execute(f"SET LOCAL lock_timeout = {LOCK_MILLISECONDS}")
        rolled = connection.execute(SELECT_ROLLED, (self._tenant,)).fetchone()
        assert rolled is not None
        values = (self._tenant, *after, self._into, self._rows_per_batch)
        rows = connection.execute(SELECT_OLDER, values, binary=True).fetchall()
        if not rows:
            return 0, None
        key = self._keys.row_key(self._tenant, self._into)
        tags, sealed = [], []
        for _, fingerprint, _, epoch, box in rows:
            refuse_rolled(epoch, rolled[0])
            packed = self._open(fingerprint, epoch, box)
            tags.append(self._keys.tag(self._tenant, self._into, StandingRow.unpacked(fingerprint, packed).handle))
            sealed.append(seal_row(key, packed, row_aad(self._tenant, fingerprint, self._into)))
        generations = [row[0] for row in rows]
        columns = (generations, Bytes16Array(row[1] for row in rows), Bytes16Array(tags), BytesArray(sealed))
        if connection.execute(UPDATE_ROWS, (self._into, *columns, self._tenant)).rowcount != len(rows):
            raise RollIncomplete("Rows that this transaction holds were changed by another. Nothing of it is kept.")
        old_tags = Bytes16Array(row[2] for row in rows)
        connection.execute(UPDATE_ALIASES, (generations, old_tags, Bytes16Array(tags), self._tenant))
        return len(rows), _last(rows, self._rows_per_batch)

    def close(self) -> None:
        """After `verify`: older rows are refused from here on, and nobody looks for older tags any more."""
        with self._pool.transaction() as connection:
            connection.execute(CLOSE_EPOCH, (self._into - 1, self._tenant, self._into - 1))

    def _verify(self, generation: int, fingerprint: bytes, tag: bytes, epoch: int, sealed: bytes) -> None:
        if epoch < self._into:
            raise RollIncomplete(
                f"A row of account {self._tenant} stands under epoch {epoch} though everything was renewed into "
                f"{self._into}: it was put back from an older copy, or written by an older version of this program. "
                "Look into it, then roll again."
            )
        handle = StandingRow.unpacked(fingerprint, self._open(fingerprint, epoch, sealed)).handle
        if not hmac.compare_digest(tag, self._keys.tag(self._tenant, epoch, handle)):
            raise TamperError(
                f"A person of account {self._tenant}, in generation {generation}, cannot be found by their handle. "
                "Build the standing again: lethe rebuild standing."
            )

    def _open(self, fingerprint: bytes, epoch: int, sealed: bytes) -> bytes:
        key = self._keys.row_key(self._tenant, epoch)
        try:
            return aead_open(key, sealed[NONCE_BYTES:], row_aad(self._tenant, fingerprint, epoch), sealed[:NONCE_BYTES])
        except TamperError:
            raise TamperError(
                f"A row of account {self._tenant} does not open under epoch {epoch}: it was changed, or put back from "
                "another epoch. Build the standing again: lethe rebuild standing."
            ) from None

    def _pages(self, statement: str, *before: object) -> Iterator[Sequence[tuple[Any, ...]]]:
        """Every page of a table, each read in a transaction of its own."""
        after: Place | None = _FIRST
        while after is not None:
            with self._pool.transaction() as connection:
                values = (*before, self._tenant, *after, self._rows_per_batch)
                page = connection.execute(statement, values, binary=True).fetchall()
            after = _last(page, self._rows_per_batch)
            if page:
                yield page


def tenants_behind(pool: Pool, into: int, limit: int, *, after: UUID = NO_TENANT) -> list[UUID]:
    """The next tenants whose standing is not known to be wholly under epoch `into` yet, in order of their ids."""
    with pool.transaction() as connection:
        return [row[0] for row in connection.execute(SELECT_BEHIND, (into - 1, after, limit))]


def count_behind(pool: Pool, into: int) -> int:
    """How many tenants `tenants_behind` would give without a limit."""
    with pool.transaction() as connection:
        row = connection.execute(COUNT_BEHIND, (into - 1,)).fetchone()
    assert row is not None
    return int(row[0])


def _last(rows: Sequence[tuple[Any, ...]], limit: int) -> Place | None:
    """Where the next page begins; None after the last one."""
    return None if len(rows) < limit else (rows[-1][0], bytes(rows[-1][1]))
