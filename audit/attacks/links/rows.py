"""Every row of every table, also of tables that nobody has heard of, with the transaction that wrote it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from uuid import UUID

from psycopg import Connection, sql

SELECT_TABLES: Final = (
    "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
)


def rows_of(connection: Connection[Any], schema: str, tenant: UUID) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of every table of a schema, as the tenant's or as nobody's, with the transaction that wrote it."""
    tables = [row[0] for row in connection.execute(SELECT_TABLES, (schema,))]
    for table in sorted(tables):
        name = sql.Identifier(schema, table)
        cursor = connection.execute(sql.SQL("SELECT xmin::text AS xmin, t.* FROM {} AS t").format(name))
        assert cursor.description is not None
        columns = [column.name for column in cursor.description]
        for row in cursor:
            held = dict(zip(columns, row, strict=True))
            if held.get("tenant_id", tenant) == tenant and table != "migration":
                yield table, held


def label_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What a row is called among those of its table."""
    return tuple(repr(value)[:80] for name, value in row.items() if name != "xmin")
