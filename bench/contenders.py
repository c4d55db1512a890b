"""The contenders: what PostgreSQL does by itself, and what stock `eventsourcing` 9.5 does with it.

They get every advantage: rows and events for COPY and for single commits are built before the clock starts, one
COPY and one commit take a whole round, and the table holds nothing but these rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent
from psycopg import Connection

from bench.stand import Stand
from bench.timing import rate

RAW_SCHEMA = "bench_raw"
STOCK_SCHEMA = "bench_stock"
COLUMNS = "tenant_id, position, stream_id, version, topic, recorded_at, entry, sealed"
CREATE_RAW = f"""
CREATE SCHEMA IF NOT EXISTS {RAW_SCHEMA};
CREATE TABLE IF NOT EXISTS {RAW_SCHEMA}.event (LIKE lethe.event INCLUDING ALL);
CREATE TABLE IF NOT EXISTS {RAW_SCHEMA}.single (LIKE lethe.event INCLUDING ALL);
"""
COPY_OUT = f"""
COPY (SELECT {COLUMNS} FROM lethe.event WHERE tenant_id = %s AND position BETWEEN %s AND %s ORDER BY position)
TO STDOUT (FORMAT BINARY)
"""
COPY_IN = f"COPY {RAW_SCHEMA}.event ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
INSERT_ONE = f"INSERT INTO {RAW_SCHEMA}.single ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
SELECT_LAST = f"SELECT {COLUMNS} FROM lethe.event WHERE tenant_id = %s ORDER BY position DESC LIMIT 1"
BLOCK_BYTES = 1 << 18


class RawPostgres:
    """The same table, rows and indexes as the ledger's, in a schema of its own, and nothing else."""

    def __init__(self, stand: Stand) -> None:
        self._url = stand.owner_url
        self._connection: Connection[Any] = psycopg.connect(self._url, autocommit=True)
        self._connection.execute(CREATE_RAW)
        self._position = 0

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def rows_of(self, tenant: UUID, first: int, last: int) -> list[bytes]:
        """The rows of a section of the log in binary COPY format, in blocks as the ledger sends them."""
        blocks, block, size = [], [], 0
        with self._connection.cursor().copy(COPY_OUT, (tenant, first, last)) as copy:
            for piece in copy:
                block.append(bytes(piece))
                size += len(piece)
                if size >= BLOCK_BYTES:
                    blocks.append(b"".join(block))
                    block, size = [], 0
        return [*blocks, b"".join(block)]

    def copy(self, blocks: Sequence[bytes]) -> None:
        """One COPY, one commit."""
        with self._connection.cursor().copy(COPY_IN) as copy:
            for block in blocks:
                copy.write(block)

    def commits(self, tenant: UUID, count: int) -> float:
        """Single-row commits per second from this one connection, of rows like the last one of the log."""
        row = self._connection.execute(SELECT_LAST, (tenant,), binary=True).fetchone()
        assert row is not None
        _, _, _, version, topic, recorded_at, entry, sealed = row
        rows = []
        for _ in range(count):
            self._position += 1
            stream = UUID(bytes=os.urandom(16))
            rows.append((tenant, self._position, stream, version, topic, recorded_at, entry, sealed))

        def commit_each() -> None:
            for values in rows:
                self._connection.execute(INSERT_ONE, values, prepare=True, binary=True)

        return rate(count, commit_each)


@dataclass(frozen=True)
class BareSendAuthorised(DomainEvent):
    """What a send authorised says, as a plain event of stock `eventsourcing`: nothing sealed, looked up or decided."""

    campaign: str
    expires_at: str
    rule: str
    basis: str


class StockEventsourcing:
    """A stock application with `PostgresApplicationRecorder`."""

    def __init__(self, stand: Stand, schema: str = STOCK_SCHEMA) -> None:
        with psycopg.connect(stand.owner_url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        self.environment = stand.stock_environment(schema)
        self.application: Application[UUID] = StockApplication(env=self.environment)
        self.campaign = uuid4().hex

    def close(self) -> None:
        """Close its connections."""
        self.application.close()

    def put(self, batches: int, batch: int) -> float:
        """Events per second, constructed and handed to the event store in batches: stock's fastest way."""

        def construct_and_put() -> None:
            for _ in range(batches):
                self.application.events.put(self.construct(batch))

        return rate(batches * batch, construct_and_put)

    def save(self, batches: int, batch: int) -> float:
        """Events per second, constructed and saved in batches the documented way, by `Application.save`."""

        def construct_and_save() -> None:
            for _ in range(batches):
                self.application.save(*self.construct(batch))

        return rate(batches * batch, construct_and_save)

    def construct(self, count: int) -> list[BareSendAuthorised]:
        """New events, each the first of its stream."""
        return [
            BareSendAuthorised(
                originator_id=uuid4(),
                originator_version=1,
                timestamp=datetime.now(UTC),
                campaign=self.campaign,
                expires_at="2026-11-22T20:15:00.000000Z",
                rule="consent",
                basis="consent",
            )
            for _ in range(count)
        ]


class StockApplication(Application[UUID]):
    """A stock application; its name names its tables."""
