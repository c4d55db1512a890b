"""Every table of a tenant can be sharded by tenant, and the program's own roles cannot take back what is for ever."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from api.bootstrap import Instance

SELECT_KEYS = """
SELECT c.relname::text, (
    SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relkind = 'r' AND EXISTS (
    SELECT 1 FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped)
"""
FORBIDDEN = [
    ("ledger", "lethe_writer", "lethe.event", "UPDATE"),
    ("ledger", "lethe_writer", "lethe.event", "DELETE"),
    ("ledger", "lethe_writer", "lethe.event", "TRUNCATE"),
    ("ledger", "lethe_writer", "lethe.destruction_intent", "DELETE"),
    ("ledger", "lethe_writer", "lethe.published_aggregate", "UPDATE"),
    ("ledger", "lethe_writer", "lethe.published_aggregate", "DELETE"),
    ("ledger", "lethe_writer", "lethe.destruction_list", "UPDATE"),
    ("ledger", "lethe_writer", "lethe.commitment_day", "UPDATE"),
    ("vault", "lethe_vault", "lethe_vault.tombstone", "DELETE"),
    ("vault", "lethe_vault", "lethe_vault.tombstone", "TRUNCATE"),
    ("vault", "lethe_vault", "lethe_vault.key_commitment", "UPDATE"),
    ("vault", "lethe_vault", "lethe_vault.key_commitment", "DELETE"),
    ("vault", "lethe_vault", "lethe_vault.period_floor", "DELETE"),
    ("vault", "lethe_vault", "lethe_vault.epoch", "DELETE"),
]


def owner_of(instance: Instance, which: str) -> str:
    url = instance.settings.ledger_owner_url if which == "ledger" else instance.settings.vault_owner_url
    assert url is not None
    return url


@pytest.mark.parametrize(("which", "schema"), [("ledger", "lethe"), ("vault", "lethe_vault")])
def test_primary_keys_begin_with_the_tenant(instance: Instance, which: str, schema: str) -> None:
    """Given every table with a tenant, then its primary key begins with it (DESIGN section 4)."""
    with psycopg.connect(owner_of(instance, which)) as superuser:
        found: dict[str, str] = dict(superuser.execute(SELECT_KEYS, (schema,)).fetchall())
    assert found
    assert {table for table, first in found.items() if first != "tenant_id"} == set()


@pytest.mark.parametrize(("which", "role", "table", "right"), FORBIDDEN)
def test_what_is_for_ever_cannot_be_taken_back(
    instance: Instance, which: str, role: str, table: str, right: str
) -> None:
    """Given the roles that the program runs as, then none may change or delete what must stay."""
    with psycopg.connect(owner_of(instance, which)) as superuser:
        row = superuser.execute("SELECT has_table_privilege(%s, %s, %s)", (role, table, right)).fetchone()
    assert row == (False,)


def test_a_reader_sees_nothing_without_its_tenant(instance: Instance) -> None:
    """Given a reader that has set no tenant, when it reads any view, then there is nothing; tables are closed to it."""
    with psycopg.connect(owner_of(instance, "ledger")) as superuser:
        superuser.execute("SET ROLE lethe_reader")
        views = superuser.execute(
            "SELECT table_name::text FROM information_schema.views WHERE table_schema = 'lethe_read'"
        ).fetchall()
        assert views
        for (view,) in views:
            found = superuser.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("lethe_read", view)))
            assert found.fetchone() == (0,), view
        superuser.execute("RESET ROLE")
        tables = superuser.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'lethe'").fetchall()
        for (table,) in (row for row in tables if row[0] != "migration"):
            may = superuser.execute(
                "SELECT has_table_privilege('lethe_reader', %s, 'SELECT')", (f"lethe.{table}",)
            ).fetchone()
            assert may == (False,), table
