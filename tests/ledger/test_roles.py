"""What each role of the databases may not do: change an event, take a tombstone away, see another tenant (I2, I10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import Connection, sql

from api.bootstrap import Instance
from audit.fsck import LogLies, require_whole_log
from ledger.application import Ledger
from ledger.migrate import known_migrations
from ledger.recorder import SET_TENANT
from retention.erasure.erasing import finish_erasures
from tests.acts import add, ask, emails, register, willing

pytestmark = pytest.mark.store

VIEWS = (
    "head",
    "event",
    "standing",
    "contact_alias",
    "suppression",
    "campaign",
    "tracking",
    "campaign_count",
    "suppression_change",
    "parked_event",
    "parked_feedback",
    "erasure",
)


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """An account with events, standings, suppressions and an erasure."""
    people = emails(5)
    willing(ledger, people)
    ask(ledger, register(ledger), people)
    ledger.erasures.intend([people[0], "ghost@example.org"], reason="asked", actor="cli")
    finish_erasures(ledger)
    return ledger


@pytest.fixture
def writer(instance: Instance, filled: Ledger) -> Iterator[Connection[Any]]:
    """Somebody with the program's own role and nothing of its code."""
    with psycopg.connect(instance.urls.writer, autocommit=True) as connection:
        yield connection


@pytest.fixture
def reader(instance: Instance, filled: Ledger) -> Iterator[Connection[Any]]:
    """Somebody with the reader's role."""
    with psycopg.connect(instance.urls.reader, autocommit=True) as connection:
        yield connection


@pytest.fixture
def vault(instance: Instance, filled: Ledger) -> Iterator[Connection[Any]]:
    """Somebody with the program's role in the vault."""
    with psycopg.connect(instance.urls.vault, autocommit=True) as connection:
        yield connection


def refused(connection: Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.encode())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lethe.event SET topic = topic",
        "UPDATE lethe.event SET sealed = NULL WHERE false",
        "DELETE FROM lethe.event",
        "DELETE FROM lethe.event WHERE false",
        "TRUNCATE lethe.event",
        "INSERT INTO lethe.event SELECT * FROM lethe.event ON CONFLICT (tenant_id, position) DO UPDATE SET topic = ''",
        "SELECT 1 FROM lethe.event FOR UPDATE",
        "DROP TABLE lethe.event",
        "ALTER TABLE lethe.event ADD COLUMN more text",
        "ALTER TABLE lethe.event DISABLE TRIGGER ALL",
        "CREATE TRIGGER t BEFORE INSERT ON lethe.event EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE r AS ON INSERT TO lethe.event DO INSTEAD NOTHING",
        "DROP INDEX lethe.event_pkey",
        "DELETE FROM lethe.head",
        "TRUNCATE lethe.head",
        "DELETE FROM lethe.api_key",
        "UPDATE lethe.migration SET name = name",
        "CREATE TABLE lethe.mine (n int)",
        "SET session_replication_role = replica",
        "SET ROLE lethe_rebuilder",
    ],
)
def test_the_running_role_cannot_change_what_was_written(writer: Connection[Any], statement: str) -> None:
    """Given the program's role, when it tries to rewrite the log or its rules, then PostgreSQL refuses."""
    refused(writer, statement)


def test_what_the_running_role_can_do_is_add(writer: Connection[Any], filled: Ledger) -> None:
    """The refusals above are no accident of a role that may do nothing: it reads and adds."""
    assert writer.execute("SELECT count(*) FROM lethe.event WHERE tenant_id = %s", (filled.tenant,)).fetchone() != (0,)
    add(filled, ["one.more@example.com"])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lethe_vault.tombstone SET cause = cause",
        "DELETE FROM lethe_vault.tombstone",
        "DELETE FROM lethe_vault.tombstone WHERE false",
        "TRUNCATE lethe_vault.tombstone",
        "TRUNCATE lethe_vault.wrapped_key",
        "ALTER TABLE lethe_vault.tombstone DISABLE TRIGGER ALL",
        "DROP TABLE lethe_vault.tombstone",
    ],
)
def test_a_tombstone_stays(vault: Connection[Any], statement: str) -> None:
    """Given the vault's role, when it tries to change or take away a tombstone, then PostgreSQL refuses."""
    assert vault.execute("SELECT count(*) FROM lethe_vault.tombstone").fetchone() != (0,)
    refused(vault, statement)


@pytest.mark.parametrize("setting", [None, ""])
@pytest.mark.parametrize("view", VIEWS)
def test_a_reader_without_a_tenant_sees_nothing(reader: Connection[Any], view: str, setting: str | None) -> None:
    """Given no tenant in the session, or an empty one, when any view is read, then it is empty."""
    if setting is not None:
        reader.execute("SELECT set_config('lethe.tenant', %s, false)", (setting,))
    assert count(reader, view) == 0


def test_after_a_pools_first_use_the_setting_is_empty_and_still_nothing_shows(reader: Connection[Any]) -> None:
    """Given a transaction that named a tenant, when the next one names none, then it sees nothing, without an error."""
    with reader.transaction():
        reader.execute(SET_TENANT, (str(uuid4()),))
    assert reader.execute("SELECT current_setting('lethe.tenant', true)").fetchone() == ("",)
    assert count(reader, "event") == 0


def test_a_reader_sees_one_tenant(instance: Instance, reader: Connection[Any], filled: Ledger) -> None:
    """Given two accounts, when a reader names one, then every row it sees is that one's, however it asks."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailenium", country="SE", minimum_age=16, actor="cli")
    willing(other, emails(3, "other"))
    seen = 0
    with reader.transaction():
        reader.execute(SET_TENANT, (str(filled.tenant),))
        for view in VIEWS:
            tenants = {
                row[0]
                for row in reader.execute(sql.SQL("SELECT tenant_id FROM lethe_read.{}").format(sql.Identifier(view)))
            }
            assert tenants <= {filled.tenant}
            seen += bool(tenants)
        asked = reader.execute("SELECT count(*) FROM lethe_read.event WHERE tenant_id = %s", (other.tenant,))
        assert asked.fetchone() == (0,)
    assert seen >= 5
    assert other.log.select_log(1, 100)[0].topic == "account.opened.v1"


@pytest.mark.parametrize("table", [*VIEWS, "idempotency", "api_key"])
def test_a_reader_cannot_read_base_tables(reader: Connection[Any], table: str) -> None:
    """Given the reader's role, when it goes past the views, then PostgreSQL refuses."""
    refused(reader, f"SELECT 1 FROM lethe.{table}")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM lethe_read.event",
        "UPDATE lethe_read.head SET position = 0",
        "INSERT INTO lethe_read.event DEFAULT VALUES",
    ],
)
def test_a_reader_cannot_write(reader: Connection[Any], statement: str) -> None:
    """Views that look updatable are not, for the reader."""
    refused(reader, statement)


def test_every_view_filters_by_tenant(server: Any, filled: Ledger) -> None:
    """Given the list of views that the tests go through, when the schema is read, then none is missing from it."""
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as connection:
        views = connection.execute(
            "SELECT viewname, definition FROM pg_views WHERE schemaname = 'lethe_read'"
        ).fetchall()
        barriers = connection.execute(
            "SELECT relname FROM pg_class WHERE 'security_barrier=true' = ANY(reloptions)"
        ).fetchall()
    assert {name for name, _ in views} >= set(VIEWS)
    assert all("lethe.tenant" in definition for _, definition in views)
    assert {name for name, _ in views} <= {row[0] for row in barriers}


def test_roles_stay_in_their_database(instance: Instance, filled: Ledger) -> None:
    """Given the writer's sign-in, when it turns to the vault, and the vault's to the ledger, then both are refused."""
    crossed = (
        (instance.urls.writer.replace("lethe_ledger", "lethe_vault"), "SELECT 1 FROM lethe_vault.wrapped_key"),
        (instance.urls.reader.replace("lethe_ledger", "lethe_vault"), "SELECT 1 FROM lethe_vault.wrapped_key"),
        (instance.urls.vault.replace("/lethe_vault?", "/lethe_ledger?"), "SELECT 1 FROM lethe.event"),
    )
    for url, statement in crossed:
        with psycopg.connect(url, autocommit=True) as connection:
            refused(connection, statement)


def test_a_superusers_damage_shows(server: Any, filled: Ledger) -> None:
    """Given rights that no role can withhold, when a superuser deletes an event, then the check of the log shows it."""
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as connection:
        require_whole_log(connection, filled.tenant)
        connection.execute("DELETE FROM lethe.event WHERE tenant_id = %s AND position = 3", (filled.tenant,))
        with pytest.raises(LogLies, match="gapless at position 3"):
            require_whole_log(connection, filled.tenant)


def test_migrations_are_applied_once(instance: Instance) -> None:
    """Given databases that are up to date, when their migrations are listed, then they are this version's."""
    for url, schema, database in (
        (instance.urls.writer, "lethe", "ledger"),
        (instance.urls.vault, "lethe_vault", "vault"),
    ):
        with psycopg.connect(url, autocommit=True) as connection:
            rows = connection.execute(sql.SQL("SELECT name FROM {}.migration").format(sql.Identifier(schema)))
            assert sorted(row[0] for row in rows) == sorted(known_migrations(database))


def count(connection: Connection[Any], view: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM lethe_read.{}").format(sql.Identifier(view))).fetchone()
    assert row is not None
    return int(row[0])
