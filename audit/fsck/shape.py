"""Whether the tables are the tables: real ones, with the columns that they were made with, whose rows everybody sees.

A superuser can put a view in a table's place, give a column another type, or hide rows from some roles. What would then
be read is not what is stored. The catalog can be forged as well; whoever does that has left PostgreSQL.
"""

from __future__ import annotations

from typing import Any, Final

from psycopg import Connection

from audit.fsck.lies import Lie, LogLies, shown

COLUMNS: Final[dict[str, dict[str, str]]] = {
    "event": {
        "tenant_id": "uuid",
        "position": "bigint",
        "stream_id": "uuid",
        "version": "integer",
        "topic": "text",
        "recorded_at": "timestamp with time zone",
        "entry": "bytea",
        "sealed": "bytea",
    },
    "head": {"tenant_id": "uuid", "position": "bigint", "recorded_at": "timestamp with time zone"},
    "log_series": {"tenant_id": "uuid", "series": "smallint", "origin": "text", "size": "bigint"},
    "log_key": {
        "tenant_id": "uuid",
        "generation": "smallint",
        "series": "smallint",
        "key_id": "text",
        "verifier_key": "text",
        "retired_at": "timestamp with time zone",
    },
    "log_tile": {"tenant_id": "uuid", "series": "smallint", "level": "smallint", "number": "bigint", "hashes": "bytea"},
    "log_checkpoint": {"tenant_id": "uuid", "series": "smallint", "size": "bigint", "root": "bytea", "note": "bytea"},
    "log_cosignature": {
        "tenant_id": "uuid",
        "series": "smallint",
        "size": "bigint",
        "witness": "text",
        "line": "text",
        "cosigned_at": "timestamp with time zone",
    },
    "log_timestamp": {
        "tenant_id": "uuid",
        "series": "smallint",
        "size": "bigint",
        "authority": "text",
        "token": "bytea",
        "stamped_at": "timestamp with time zone",
    },
}
"""What is read, by table."""

SELECT_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, NULL)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'lethe'::regnamespace AND c.relname = ANY(%s) AND c.relkind = 'r' AND NOT c.relrowsecurity
    AND a.attnum > 0 AND NOT a.attisdropped
"""


def require_tables(connection: Connection[Any]) -> None:
    """Raise `LogLies` unless every table that is read is there, as it was made."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(SELECT_COLUMNS, (list(COLUMNS),)):
        found.setdefault(table, {})[column] = kind
    for table, columns in COLUMNS.items():
        if table not in found:
            text = f"There is no table {table}, or one whose rows not everybody sees."
            raise LogLies(Lie(0, "tables", text))
        for column, kind in columns.items():
            if found[table].get(column) != kind:
                text = f"The column {column} of the table {table} is not what it was made as."
                raise LogLies(Lie(0, "tables", text, None, kind, shown(found[table].get(column, "nothing"))))
