"""Reading what was published with the reader's role: views that show one tenant, and nothing else (I10)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.recorder import ReaderPool

# The functions of this folder name no schema, so that they run on tables and on views alike.
USE_VIEWS = "SELECT set_config('search_path', 'lethe_read', true)"


@contextmanager
def reading(reader: ReaderPool, tenant: UUID) -> Iterator[Connection[Any]]:
    """A transaction in which this folder's functions see one tenant's log."""
    with reader.tenant(tenant) as connection:
        connection.execute(USE_VIEWS)
        yield connection
