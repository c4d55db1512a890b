"""Connections to PostgreSQL: pools with a checked isolation level, and a clear error when the database is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg_pool import ConnectionPool, PoolTimeout

from ledger.arrays import register_arrays
from ledger.errors import SettingsRefused, Unavailable

POOL_SIZE_MAX = 16
CONNECT_TIMEOUT_SECONDS = 5
ACQUIRE_TIMEOUT_SECONDS = 10.0
RECONNECT_SECONDS_MAX = 4.0
"""How long a pool tries to replace a broken connection, ever more slowly, before the next request starts anew."""

UNAVAILABILITY = (
    PoolTimeout,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)

SESSION = (
    "plan_cache_mode = force_generic_plan",
    "enable_seqscan = off",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "enable_bitmapscan = off",
    "jit = off",
    # A writer that stops answering must not hold a tenant's head for ever.
    "idle_in_transaction_session_timeout = '60s'",
    "lock_timeout = '30s'",
)
"""Every query of the program probes an index; young tables have no statistics, and a plan made for them is kept."""

UNAVAILABLE = "The database does not answer. Nothing of this request was done; send it again in a few seconds."


class Pool:
    """Connections for one role of one database. Sessions are UTC and READ COMMITTED, which the append relies on."""

    def __init__(self, url: str, *, application: str, size_max: int = POOL_SIZE_MAX, schema: str = "lethe") -> None:
        self._schema = schema
        self._pool: ConnectionPool[Connection[Any]] = ConnectionPool(
            url,
            min_size=1,
            max_size=size_max,
            open=False,
            timeout=ACQUIRE_TIMEOUT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS_MAX,
            configure=self._configure,
            kwargs={"application_name": application, "connect_timeout": CONNECT_TIMEOUT_SECONDS},
            check=None,
        )
        self.url = url

    def open(self) -> None:
        """Start filling the pool; returns at once."""
        self._pool.open()

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """A connection outside any transaction. Raises `Unavailable` when the database does not answer."""
        if self._pool.closed:
            self._pool.open()
        try:
            with self._pool.connection() as connection:
                yield connection
        except UNAVAILABILITY as error:
            self._pool.check()
            raise Unavailable(UNAVAILABLE) from error

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """A connection inside one READ COMMITTED transaction, committed at the end of the block."""
        with self.connection() as connection, connection.transaction():
            yield connection

    def _configure(self, connection: Connection[Any]) -> None:
        connection.autocommit = True
        connection.isolation_level = IsolationLevel.READ_COMMITTED
        connection.prepare_threshold = 3
        connection.execute("SELECT set_config('search_path', %s, false)", (self._schema,))
        connection.execute("SET TIME ZONE 'UTC'")
        for setting in SESSION:
            connection.execute(f"SET {setting}")
        register_arrays(connection)
        row = connection.execute("SHOW transaction_isolation").fetchone()
        if row is None or row[0] != "read committed":
            raise SettingsRefused("Appends rely on READ COMMITTED; this server gave another isolation level.")
