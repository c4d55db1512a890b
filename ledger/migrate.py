"""Migrations: numbered `.sql` files, `pre` and `post`, applied in order in one transaction each.

They run as the owner of the databases (`LETHE_LEDGER_OWNER_URL`, `LETHE_VAULT_OWNER_URL`), which also makes the
roles; the program itself runs with roles that own nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from typing import Any

import psycopg
from psycopg import Connection, sql

LEDGER_ROLES = ("lethe_writer", "lethe_reader", "lethe_rebuilder")
VAULT_ROLES = ("lethe_vault",)
LEDGER_SCHEMA = "lethe"
VAULT_SCHEMA = "lethe_vault"
MIGRATION_LOCK = 0x1E74E

CREATE_MIGRATION = "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, applied_at timestamptz DEFAULT now())"
SELECT_APPLIED = "SELECT name FROM migration"
INSERT_APPLIED = "INSERT INTO migration (name) VALUES (%s)"


def migrate_ledger(owner_url: str, *, login: bool) -> list[str]:
    """Bring the ledger's database up to date; returns the migrations applied. `login` lets its roles sign in."""
    return _migrate(owner_url, "ledger", LEDGER_SCHEMA, LEDGER_ROLES, login)


def migrate_vault(owner_url: str, *, login: bool) -> list[str]:
    """Bring the vault's database up to date; returns the migrations applied."""
    return _migrate(owner_url, "vault", VAULT_SCHEMA, VAULT_ROLES, login)


def known_migrations(database: str) -> list[str]:
    """The names of the migrations this version brings, in order: `pre` before `post` of each number."""
    folder = resources.files("ledger") / "sql" / database
    names = [item.name for item in folder.iterdir() if item.name.endswith(".sql")]
    return sorted(names, key=lambda name: (name[:4], ".post." in name))


def pending(connection: Connection[Any], database: str) -> list[str]:
    """Migrations that this version knows and the database does not have."""
    schema = LEDGER_SCHEMA if database == "ledger" else VAULT_SCHEMA
    rows = connection.execute(sql.SQL("SELECT name FROM {}.migration").format(sql.Identifier(schema))).fetchall()
    applied = {row[0] for row in rows}
    return [name for name in known_migrations(database) if name not in applied]


def _migrate(owner_url: str, database: str, schema: str, roles: Iterable[str], login: bool) -> list[str]:
    applied = []
    with psycopg.connect(owner_url, autocommit=True, connect_timeout=10) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        for role in roles:
            _create_role(connection, role, login)
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
        connection.execute(CREATE_MIGRATION)
        done = {row[0] for row in connection.execute(SELECT_APPLIED)}
        for name in known_migrations(database):
            if name in done:
                continue
            script = (resources.files("ledger") / "sql" / database / name).read_text()
            with connection.transaction():
                connection.execute(script.encode())
                connection.execute(INSERT_APPLIED, (name,))
            applied.append(name)
    return applied


def _create_role(connection: Connection[Any], role: str, login: bool) -> None:
    exists = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone()
    kind = sql.SQL("LOGIN" if login else "NOLOGIN")
    if exists is None:
        connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(role), kind))
    elif login:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(role)))
