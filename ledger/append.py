"""The append: one READ COMMITTED transaction that locks the tenant's head, and only then reads and writes.

The lock is a statement of its own. A CTE or join that locks and reads in one statement sees the standing from
before the wait, and a send could be authorised after a withdrawal (invariant I1); a test keeps that form as its
control. Under the lock a caller reads what must hold, decides, and records: positions run 1, 2, 3, … in commit
order (I3), `recorded_at` never runs backwards, and rows are taken in order of stream id, so that the log's order
repeats nobody's list.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.connections import Pool
from ledger.entry import ENTRY_BYTES_MAX, EntryTooLong, entry_time
from ledger.errors import GateShut, UnknownAccount
from ledger.mapper import Draft
from ledger.ports import Clock

LOCK_HEAD = """
SELECT position, recorded_at, restrict_position, generation, terminated_at, EXISTS (SELECT 1 FROM lethe.restore_gate)
FROM lethe.head WHERE tenant_id = %s FOR UPDATE
"""
READ_HEAD = """
SELECT position, recorded_at, restrict_position, generation, terminated_at, EXISTS (SELECT 1 FROM lethe.restore_gate)
FROM lethe.head WHERE tenant_id = %s
"""
INSERT_HEAD = """
INSERT INTO lethe.head (tenant_id, recorded_at, epoch, epoch_rolled) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
MOVE_HEAD = """
UPDATE lethe.head SET position = %s, recorded_at = %s, restrict_position = %s WHERE tenant_id = %s
"""
COPY_EVENTS = """
COPY lethe.event (tenant_id, position, stream_id, version, topic, recorded_at, entry, sealed)
FROM STDIN (FORMAT BINARY)
"""

COPY_BLOCK_BYTES = 1 << 18
ROWS_PER_BLOCK = 512
ROW_BYTES_BESIDE = 100
"""About what a row takes beside its entry and its sealed parts."""

_COLUMNS = ("tenant_id", "position", "stream_id", "version", "topic", "recorded_at", "entry", "sealed")
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_LENGTH = struct.Struct(">i")
_ROW_HEAD = struct.Struct(">hi16siqi16sii")
_TIME = struct.Struct(">iq")
_VERSION = struct.Struct(">ii")
_NULL = _LENGTH.pack(-1)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a tenant's log. `restrict_position` is the last event that changed any standing.

    `terminated_at` is when the account ended: it sends nothing and takes nothing new in while that is set.
    """

    position: int
    recorded_at: datetime
    restrict_position: int
    generation: int
    terminated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The positions that an append took, first and last, and when it was recorded."""

    first: int
    last: int
    recorded_at: datetime


@dataclass(slots=True)
class Row:
    """One event on its way into the log: its stream (16 bytes), version, topic and final bytes."""

    stream: bytes
    version: int
    topic: bytes
    entry: bytes
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class EntryShape:
    """The bytes of an entry around its ids and its time of recording, for events that differ in little else.

    The entry is `before_id`, event id, `before_time`, time, `before_stream`, stream id, `after_stream`; ids are
    32 hexadecimal digits, so that every entry of one shape has one length.
    """

    topic: bytes
    version: int
    before_id: bytes
    before_time: bytes
    before_stream: bytes
    after_stream: bytes


ShapedRow = tuple[bytes, bytes, EntryShape]
"""A stream (16 bytes), an event id (32 hexadecimal digits) and the shape of the entry; nothing sealed."""


HalvedRow = tuple[bytes, int, bytes, bytes, bytes, bytes | None]
"""A stream (16 bytes), a version, a topic, the entry before and after its time of recording, and what is sealed."""


class LockedTenant:
    """A tenant whose head this transaction holds. Everything read through `connection` is what commits after."""

    def __init__(self, connection: Connection[Any], tenant: UUID, head: Head, now: datetime) -> None:
        self.connection = connection
        self.tenant = tenant
        self.head = head
        self.now = now
        self.recorded_at = entry_time(now)
        self.position = head.position
        self._restrict_position = head.restrict_position

    @property
    def generation(self) -> int:
        """The generation of the inline projections that serves."""
        return self.head.generation

    def record(self, drafts: Sequence[tuple[Draft, int]], *, restricts: bool) -> list[int]:
        """Write drafts with their stream versions; returns their positions in the order given."""
        rows = [
            Row(draft.stream, version, draft.topic.encode(), draft.finish(version, self.recorded_at), draft.sealed)
            for draft, version in drafts
        ]
        for row in rows:
            if len(row.entry) > ENTRY_BYTES_MAX:
                raise EntryTooLong(f"The plain fields of a {row.topic.decode()} event exceed {ENTRY_BYTES_MAX} bytes.")
        order = sorted(range(len(rows)), key=lambda index: (rows[index].stream, rows[index].version))
        first = self.record_rows([rows[index] for index in order], restricts=restricts)
        positions = [0] * len(rows)
        for offset, index in enumerate(order):
            positions[index] = first + offset
        return positions

    def record_rows(self, rows: Sequence[Row], *, restricts: bool) -> int:
        """COPY rows that are already in order of stream id; returns the position of the first."""
        first = self.position + 1
        if not rows:
            return first
        with self.connection.cursor().copy(COPY_EVENTS) as copy:
            for block in _copy_blocks(rows, self.tenant.bytes, first, self.now):
                copy.write(block)
        self.position += len(rows)
        if restricts:
            self._restrict_position = self.position
        return first

    def record_shaped(self, rows: Sequence[ShapedRow]) -> int:
        """As `record_rows`, for shaped entries; they restrict nobody."""
        first = self.position + 1
        if rows:
            with self.connection.cursor().copy(COPY_EVENTS) as copy:
                for block in _shaped_blocks(rows, self.tenant.bytes, first, self.now):
                    copy.write(block)
            self.position += len(rows)
        return first

    def record_halved(self, rows: Sequence[HalvedRow]) -> int:
        """As `record_rows`, for entries that lack only the time of recording; they restrict nobody."""
        first = self.position + 1
        if rows:
            with self.connection.cursor().copy(COPY_EVENTS) as copy:
                for block in _halved_blocks(rows, self.tenant.bytes, first, self.now):
                    copy.write(block)
            self.position += len(rows)
        return first

    def move_head(self) -> None:
        """Point the head at the last event written; the last statement before the commit."""
        if self.position == self.head.position:
            return
        values = (self.position, self.now, self._restrict_position, self.tenant)
        self.connection.execute(MOVE_HEAD, values)

    def receipt(self) -> Receipt | None:
        """What this append wrote, None if nothing."""
        if self.position == self.head.position:
            return None
        return Receipt(self.head.position + 1, self.position, self.now)


class Appender:
    """The way into one tenant's log."""

    def __init__(self, tenant: UUID, pool: Pool, clock: Clock, *, gated: bool = True) -> None:
        self._tenant = tenant
        self._pool = pool
        self._clock = clock
        self._gated = gated

    @property
    def pool(self) -> Pool:
        """Connections with the writer's role."""
        return self._pool

    def open_tenant(self, epoch: int) -> None:
        """Make the head row of a new tenant, whose standing is written under this epoch; harmless when it is there."""
        with self._pool.transaction() as connection:
            connection.execute(INSERT_HEAD, (self._tenant, datetime(1970, 1, 1, tzinfo=UTC), epoch, epoch - 1))

    @contextmanager
    def locked(self) -> Iterator[LockedTenant]:
        """Hold the head for the length of the block; the block's writes commit together at its end."""
        with self._pool.transaction() as connection:
            locked = self.lock(connection)
            yield locked
            locked.move_head()

    def lock(self, connection: Connection[Any]) -> LockedTenant:
        """Lock the head inside a transaction that the caller has begun. Raises `UnknownAccount`."""
        row = connection.execute(LOCK_HEAD, (self._tenant,)).fetchone()
        head = self._head(row)
        return LockedTenant(connection, self._tenant, head, max(self._clock(), head.recorded_at))

    def read_head(self, connection: Connection[Any]) -> Head:
        """The head without a lock: advice only, to be compared with what the lock shows."""
        return self._head(connection.execute(READ_HEAD, (self._tenant,)).fetchone())

    def _head(self, row: tuple[Any, ...] | None) -> Head:
        """The head, unless the database was restored and not opened again."""
        if row is None:
            raise UnknownAccount("There is no account with this id here. Open it first: lethe account open.")
        if row[-1] and self._gated:
            raise GateShut("This database was restored from a backup. Nothing is served until: lethe reopen.")
        return Head(*row[:-1])


def _copy_blocks(rows: Sequence[Row], tenant: bytes, first: int, now: datetime) -> Iterator[bytes]:
    """Binary COPY of event rows in blocks of about a quarter of a MiB."""
    time = _TIME.pack(8, (now - _POSTGRES_EPOCH) // timedelta(microseconds=1))
    length, head = _LENGTH.pack, _ROW_HEAD.pack
    block = [COPY_HEADER]
    size = 0
    topics: dict[bytes, bytes] = {}
    for position, row in enumerate(rows, first):
        topic = topics.get(row.topic)
        if topic is None:
            topic = topics[row.topic] = length(len(row.topic)) + row.topic + time
        entry, sealed = row.entry, row.sealed
        block.append(head(8, 16, tenant, 8, position, 16, row.stream, 4, row.version))
        block.append(topic)
        block.append(length(len(entry)))
        block.append(entry)
        block.append(_NULL if sealed is None else length(len(sealed)) + sealed)
        size += len(entry) + (len(sealed) if sealed else 0) + ROW_BYTES_BESIDE
        if size >= COPY_BLOCK_BYTES:
            yield b"".join(block)
            block, size = [], 0
    block.append(COPY_TRAILER)
    yield b"".join(block)


def _shaped_blocks(rows: Sequence[ShapedRow], tenant: bytes, first: int, now: datetime) -> Iterator[bytes]:
    """As `_copy_blocks`: what all rows of a shape share is laid out once, and a row is one join."""
    time = _TIME.pack(8, (now - _POSTGRES_EPOCH) // timedelta(microseconds=1))
    recorded_at = entry_time(now).encode()
    head = struct.pack(">hi16si", len(_COLUMNS), 16, tenant, 8)
    before_stream = _LENGTH.pack(16)
    laid_out: dict[int, tuple[bytes, bytes, bytes]] = {}
    block, join = [COPY_HEADER], b"".join
    for position, (stream, event, shape) in enumerate(rows, first):
        parts = laid_out.get(id(shape))
        if parts is None:
            parts = laid_out[id(shape)] = _lay_out_shape(shape, time, recorded_at)
        before, middle, after = parts
        number = position.to_bytes(8, "big")
        block.append(join((head, number, before_stream, stream, before, event, middle, stream.hex().encode(), after)))
        if not position % ROWS_PER_BLOCK:
            yield join(block)
            block = []
    block.append(COPY_TRAILER)
    yield join(block)


def _halved_blocks(rows: Sequence[HalvedRow], tenant: bytes, first: int, now: datetime) -> Iterator[bytes]:
    """As `_copy_blocks`, for entries in two halves: a row is one join."""
    time = _TIME.pack(8, (now - _POSTGRES_EPOCH) // timedelta(microseconds=1))
    recorded_at = entry_time(now).encode()
    head = struct.pack(">hi16si", len(_COLUMNS), 16, tenant, 8)
    before_stream, time_bytes = _LENGTH.pack(16), len(recorded_at)
    length, join = _LENGTH.pack, b"".join
    kinds: dict[tuple[bytes, int], bytes] = {}
    block, size = [COPY_HEADER], 0
    for position, (stream, version, topic, before, after, sealed) in enumerate(rows, first):
        kind = kinds.get((topic, version))
        if kind is None:
            kind = kinds[topic, version] = _VERSION.pack(4, version) + length(len(topic)) + topic + time
        entry_bytes = len(before) + time_bytes + len(after)
        if entry_bytes > ENTRY_BYTES_MAX:
            raise EntryTooLong(f"The plain fields of a {topic.decode()} event exceed {ENTRY_BYTES_MAX} bytes.")
        number = position.to_bytes(8, "big")
        block += (head, number, before_stream, stream, kind, length(entry_bytes), before, recorded_at, after)
        if sealed is None:
            block.append(_NULL)
        else:
            block += (length(len(sealed)), sealed)
            size += len(sealed)
        size += entry_bytes + ROW_BYTES_BESIDE
        if size >= COPY_BLOCK_BYTES:
            yield join(block)
            block, size = [], 0
    block.append(COPY_TRAILER)
    yield join(block)


def _lay_out_shape(shape: EntryShape, time: bytes, recorded_at: bytes) -> tuple[bytes, bytes, bytes]:
    middle = shape.before_time + recorded_at + shape.before_stream
    length = len(shape.before_id) + 32 + len(middle) + 32 + len(shape.after_stream)
    version = _VERSION.pack(4, shape.version)
    topic = _LENGTH.pack(len(shape.topic)) + shape.topic
    return version + topic + time + _LENGTH.pack(length) + shape.before_id, middle, shape.after_stream + _NULL
