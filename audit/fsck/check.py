"""The whole check: a tenant's log from its rows to its roots, in one pass and in memory that does not grow with it.

    rows            gapless positions, times that never run backwards, canonical entries in their own rows, sealed
                    parts that the entries vouch for
    streams         versions 1, 2, 3 … in the order of the log
    tree            the tile of every level, and the root at every size that was ever signed
    attestations    signatures by keys that the log itself opened, cosignatures, timestamps
    kept            heads and checkpoints in custody, and a checkpoint that somebody brings

It stops at the first lie. Each window of rows is a transaction of its own, so other work goes on meanwhile; what is
appended after the head was read is left to the next check. What the check cannot see stands in docs/adr/0034.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import Connection

from audit.fsck.checkpoints import Checkpoints, Counts, Stored, Trust
from audit.fsck.events import Events
from audit.fsck.kept import Brought, check_kept_head, expectations
from audit.fsck.lies import Lie, LogLies
from audit.fsck.rows import ROWS_PER_WINDOW, window
from audit.fsck.shape import require_tables
from audit.fsck.signers import TOPICS, Signers, read_tables
from audit.fsck.tiles import StoredTiles, TileRule
from audit.fsck.tree import Tree
from audit.fsck.versions import Versions
from audit.verify.errors import NoteMalformed
from audit.verify.merkle import HASH_BYTES
from audit.verify.note import require_key_name
from ledger.custody.journal import KeptHead
from ledger.custody.kept_checkpoints import KeptCheckpoint

Told = Callable[[int, int], None]
"""(checked so far, of how many events): for a progress bar."""

# One statement, one snapshot: the head moves in the transaction that writes its rows.
SELECT_HEAD = """
SELECT h.position, timestamptz_send(h.recorded_at),
    (SELECT min(position) FROM lethe.event WHERE tenant_id = h.tenant_id),
    (SELECT max(position) FROM lethe.event WHERE tenant_id = h.tenant_id)
FROM lethe.head h WHERE h.tenant_id = %s
"""
# Likewise a series and its last checkpoint.
SELECT_SERIES = """
SELECT s.series, s.origin, s.size,
    (SELECT max(size) FROM lethe.log_checkpoint c WHERE c.tenant_id = s.tenant_id AND c.series = s.series)
FROM lethe.log_series s WHERE s.tenant_id = %s ORDER BY s.series
"""
SELECT_STRAY = """
SELECT 'A checkpoint', c.size FROM lethe.log_checkpoint c WHERE c.tenant_id = %(tenant)s AND (c.size < 1 OR NOT EXISTS (
    SELECT 1 FROM lethe.log_series s WHERE s.tenant_id = c.tenant_id AND s.series = c.series AND s.size >= c.size
))
UNION ALL
SELECT 'A cosignature', a.size FROM lethe.log_cosignature a WHERE a.tenant_id = %(tenant)s AND NOT EXISTS (
    SELECT 1 FROM lethe.log_checkpoint c WHERE (c.tenant_id, c.series, c.size) = (a.tenant_id, a.series, a.size)
)
UNION ALL
SELECT 'A timestamp', a.size FROM lethe.log_timestamp a WHERE a.tenant_id = %(tenant)s AND NOT EXISTS (
    SELECT 1 FROM lethe.log_checkpoint c WHERE (c.tenant_id, c.series, c.size) = (a.tenant_id, a.series, a.size)
)
ORDER BY 2, 1 LIMIT 1
"""
SESSION: Final = ("SET enable_seqscan = off", "SET enable_bitmapscan = off", "SET jit = off")
"""Windows are read by the index while there is one; a young table has no statistics that would say so."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the caller holds against the log: custody's copies, a checkpoint that was brought, and whom to believe."""

    head: KeptHead | None = None
    checkpoint: KeptCheckpoint | None = None
    brought: Sequence[Brought] = ()
    trust: Trust = field(default_factory=Trust)


@dataclass(frozen=True, slots=True)
class Whole:
    """A log that is whole: how long it is, its root, how far it is published, and what was checked on the way."""

    tenant: UUID
    events: int
    root: bytes
    published: int
    tiles: int
    kept: int
    counts: Counts


def require_whole_log(
    source: Connection[Any] | str,
    tenant: UUID,
    outside: Outside | None = None,
    *,
    told: Told | None = None,
    tiles: TileRule | None = None,
) -> Whole:
    """Everything there is to check about one tenant's log. Raises `LogLies` with the first lie.

    `source` is a connection outside any pipeline, or a URL, whose role may read the log's tables. `tiles` says what is
    done about wrong tiles; without it they are lies. Raises `VerificationRefused` for a brought checkpoint that cannot
    be used.
    """
    with _connected(source) as connection, Versions() as versions:
        return _Check(connection, tenant, outside or Outside(), versions, told or _quiet, tiles or TileRule()).run()


@dataclass(frozen=True, slots=True)
class _Series:
    number: int
    origin: str
    size: int
    signed: int | None
    tiles: StoredTiles


class _Check:
    def __init__(
        self,
        connection: Connection[Any],
        tenant: UUID,
        outside: Outside,
        versions: Versions,
        told: Told,
        tiles: TileRule,
    ) -> None:
        self._connection = connection
        self._tenant = tenant
        self._outside = outside
        self._told = told
        self._tiles = tiles
        self._versions = versions
        self._events = Events(tenant, versions, TOPICS)
        self._tree = Tree()
        require_tables(connection)
        self._signers = Signers(connection, tenant)
        self._checkpoints = Checkpoints(connection, tenant, outside.trust)
        self._expected = expectations(tenant, outside.checkpoint, outside.brought)

    def run(self) -> Whole:
        """Everything, from the first row to the last checkpoint."""
        series = self._read_series()  # Before the head: what is published never goes beyond it.
        end, recorded_at = self._head()
        for first in range(1, end + 1, ROWS_PER_WINDOW):
            last = min(first + ROWS_PER_WINDOW - 1, end)
            self._window(series, first, last, end)
            self._told(last, end)
        self._require_reached(series, end, recorded_at)
        lie = self._versions.first_lie()
        if lie is not None:
            raise LogLies(lie)
        self._require_nothing_else(series, end)
        return Whole(
            self._tenant,
            end,
            self._tree.root(),
            max((one.size for one in series), default=0),
            sum(one.tiles.count for one in series),
            len(self._expected) + (self._outside.head is not None),
            self._checkpoints.counts,
        )

    def _read_series(self) -> list[_Series]:
        rows = self._connection.execute(SELECT_SERIES, (self._tenant,)).fetchall()
        for number, origin, size, _ in rows:
            try:
                require_key_name(origin or "")
            except NoteMalformed as malformed:
                raise LogLies(Lie(0, "series", f"Series {number} has no origin. {malformed}")) from None
            if number is None or size is None:
                raise LogLies(Lie(0, "series", "A series of the log has no number or no size."))
        return [
            _Series(number, origin, size, signed, self._tiles.of_series(self._connection, self._tenant, number, size))
            for number, origin, size, signed in rows
        ]

    def _head(self) -> tuple[int, bytes]:
        rows = self._connection.execute(SELECT_HEAD, (self._tenant,)).fetchall()
        if not rows:
            raise LogLies(Lie(0, "head", "The account has no head row: nothing says how long its log is."))
        position, recorded_at, lowest, highest = rows[0]
        if len(rows) > 1 or position is None or recorded_at is None or position < 0:
            raise LogLies(Lie(0, "head", "The account's head is no position and time, or there are two of it."))
        if lowest is not None and lowest < 1:
            raise LogLies(Lie(lowest, "gapless", f"An event stands at {lowest}, before the first position."))
        if (highest or 0) > position:
            text = f"The head points at {position}, and events stand behind it."
            raise LogLies(Lie(position + 1, "head", text, None, f"head at {highest}", f"head at {position}"))
        return position, bytes(recorded_at)

    # One window -----------------------------------------------------------------------------------------------------

    def _window(self, series: Sequence[_Series], first: int, last: int, end: int) -> None:
        """Check so many rows, then what was published of them."""
        with closing(window(self._connection, self._tenant, first, last)) as rows:  # A lie ends the COPY at once.
            leaves = b"".join(self._events.check(rows, last))
        stored = [(one, found) for one in series for found in self._checkpoints.read(one.number, first, last)]
        expected = [one for one in self._expected if first <= one.size <= last]
        full, roots = self._tree.grow(leaves, [found.size for _, found in stored] + [one.size for one in expected])
        made = [*full, *self._tree.growing()] if last == end else full
        for one in series:
            one.tiles.compare(made)
        for one, found in sorted(stored, key=_size):
            self._checkpoints.check(found, roots[found.size], one.origin, self._signers)
        for expectation in expected:
            expectation.require(roots[expectation.size], self._signers)
        head = self._outside.head
        if head is not None and first <= head.position <= last:
            at = (head.position - first) * HASH_BYTES
            check_kept_head(self._connection, self._tenant, head, leaves[at : at + HASH_BYTES])

    # The end --------------------------------------------------------------------------------------------------------

    def _require_reached(self, series: Sequence[_Series], end: int, recorded_at: bytes) -> None:
        """Raise `LogLies` if the log ends before what was published or kept of it, or not at its head's time."""
        if end and recorded_at != self._events.recorded_at:
            text = "The head's recorded_at is not that of the last event."
            raise LogLies(Lie(end, "head", text))
        for one in series:
            if one.size > end:
                text = f"The log was cut off: {one.size} events were published."
                raise LogLies(Lie(end + 1, "published", text, None, f"{one.size} events", f"{end} events"))
        for expectation in self._expected:
            expectation.require_reached(end, self._signers)
        head = self._outside.head
        if head is not None and head.position > end:
            text = f"The log was cut off: an event at {head.position} was kept in custody."
            raise LogLies(Lie(end + 1, "kept", text, None, f"{head.position} events", f"{end} events"))

    def _require_nothing_else(self, series: Sequence[_Series], end: int) -> None:
        """Raise `LogLies` for what is published and not of this log, or taken away from what was published."""
        for one in series:
            if (one.signed or 0) != one.size:
                text = "The last checkpoint is not there: tiles were published up to another size."
                raise LogLies(Lie(one.size, "checkpoint", text, None, f"size {one.size}", f"size {one.signed or 0}"))
        stray = self._connection.execute(SELECT_STRAY, {"tenant": self._tenant}).fetchone()
        if stray is not None:
            what, size = stray
            raise LogLies(Lie(size, "checkpoint", f"{what} of size {size} belongs to nothing that was published."))
        self._tiles.require_no_other(self._connection, self._tenant)
        tables = read_tables(self._connection, self._tenant)
        later = Signers(
            self._connection, self._tenant
        )  # Behind the tables: whatever stands in them has its fact by now.
        position, _ = self._head()
        if position < end:
            text = "The head went back while the log was read."
            raise LogLies(Lie(end, "head", text, None, f"head at {end} or behind it", f"head at {position}"))
        self._signers.require_facts(self._events.facts, end)
        self._signers.require_tables(tables, later)


def _size(pair: tuple[_Series, Stored]) -> int:
    return pair[1].size


def _quiet(_done: int, _of: int) -> None:
    """Nobody watches."""


@contextmanager
def _connected(source: Connection[Any] | str) -> Iterator[Connection[Any]]:
    if isinstance(source, str):
        with psycopg.connect(source, autocommit=True) as connection:
            for setting in SESSION:
                connection.execute(setting)
            yield connection
    else:
        yield source
