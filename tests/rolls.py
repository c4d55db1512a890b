"""What tests of the roll need: databases and epoch keys of their own, since a roll is about everything in a vault."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import sql

from api.bootstrap import Instance, running
from api.settings import Settings
from domain.ids import uuid7
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.keys.rolling import RollStep
from ledger.keys.vault import KeyName
from ledger.migrate import migrate_ledger, migrate_vault
from retention.horizon.horizon import Horizon

SELECT_WRAPS = """
SELECT holder, class, period, generation, epoch FROM lethe_vault.wrapped_key WHERE tenant_id = %s
ORDER BY holder, class, period, generation
"""
SELECT_ROWS = "SELECT generation, fingerprint, handle_tag, epoch FROM lethe.standing WHERE tenant_id = %s ORDER BY 1, 2"
SELECT_ALIASES = (
    "SELECT generation, fingerprint, handle_tag FROM lethe.contact_alias WHERE tenant_id = %s ORDER BY 1, 2"
)


def own_settings(server: EmbeddedPostgres, folder: Path) -> Settings:
    """Settings of an instance that shares the server with the other tests, and nothing else."""
    name = uuid4().hex[:12]
    ledger, vault = f"own_ledger_{name}", f"own_vault_{name}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for database in (ledger, vault):
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    migrate_ledger(server.url(ledger), login=True)
    migrate_vault(server.url(vault), login=True)
    return Settings(
        data_dir=folder,
        ledger_url=server.url(ledger, "lethe_writer"),
        reader_url=server.url(ledger, "lethe_reader"),
        rebuilder_url=server.url(ledger, "lethe_rebuilder"),
        vault_url=server.url(vault, "lethe_vault"),
        ledger_owner_url=server.url(ledger),
        vault_owner_url=server.url(vault),
    )


def new_account(instance: Instance) -> Ledger:
    """A German controller under the Mailkai policy."""
    ledger = instance.ledger(uuid7(0, os.urandom(10)))
    ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    return ledger


def persons_keys(instance: Instance, tenant: UUID, count: int, retention_class: str = "identity") -> dict[bytes, bytes]:
    """So many keys of persons who are nobody, by kid."""
    kids = [os.urandom(16) for _ in range(count)]
    return instance.services.vault.ensure_subject_keys(tenant, retention_class, kids)


def found_keys(instance: Instance, tenant: UUID, kids: Sequence[bytes], retention_class: str) -> dict[bytes, bytes]:
    """Those of the keys that open, by kid."""
    names = [KeyName(kid, retention_class) for kid in kids]
    return {name.holder: key for name, key in instance.services.vault.find(tenant, names).keys.items()}


def epochs_of_wraps(instance: Instance, tenant: UUID) -> set[int]:
    """Which epochs a tenant's wraps are under."""
    with instance.vault_pool.transaction() as connection:
        return {row[4] for row in connection.execute(SELECT_WRAPS, (tenant,))}


def standing_rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Generation, fingerprint, tag and epoch of each row."""
    with ledger.services.writer.transaction() as connection:
        return connection.execute(SELECT_ROWS, (ledger.tenant,)).fetchall()


def alias_rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Generation, fingerprint and tag of each superseded address."""
    with ledger.services.writer.transaction() as connection:
        return connection.execute(SELECT_ALIASES, (ledger.tenant,)).fetchall()


def roll(instance: Instance) -> list[RollStep]:
    """A whole roll, as the command line does it."""
    return list(Horizon(instance.services).roll())


def roll_and_be_killed(settings: Settings, steps: int) -> None:
    """For a process of its own: roll, and die by kill -9 after so many batches, with the next one not begun."""
    with running(settings) as instance:
        rolling = Horizon(instance.services).roll()
        for _ in range(steps):
            next(rolling)
        os.kill(os.getpid(), 9)


def roll_to_the_end(settings: Settings) -> None:
    """For a process of its own: a whole roll."""
    with running(settings) as instance:
        roll(instance)


def days(count: int) -> timedelta:
    """So many days."""
    return timedelta(days=count)


def noon(year: int, month: int, day: int) -> datetime:
    """The middle of a day, UTC."""
    return datetime(year, month, day, 12, tzinfo=UTC)
