"""Installations of their own for drills: two fresh databases on the session's server, with the keys of a folder.

A drill backs one installation up and restores it into another that shares its keys and its journal, as a real one would
after its database was lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg import sql

from api.bootstrap import Instance, running
from api.settings import Settings
from ledger.embedded import EmbeddedPostgres
from ledger.migrate import migrate_ledger, migrate_vault

DROP = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")


@contextmanager
def databases(server: EmbeddedPostgres, data_dir: Path, *, packs_dir: Path | None = None) -> Iterator[Settings]:
    """Settings of an installation on two new databases, dropped at the end. Its keys and journal are in `data_dir`."""
    mark = os.urandom(4).hex()
    names = f"drill_{mark}_ledger", f"drill_{mark}_vault"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for name in names:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        ledger, vault = names
        try:
            migrate_ledger(server.url(ledger), login=True)
            migrate_vault(server.url(vault), login=True)
            yield Settings(
                data_dir=data_dir,
                packs_dir=packs_dir,
                ledger_url=server.url(ledger, "lethe_writer"),
                reader_url=server.url(ledger, "lethe_reader"),
                rebuilder_url=server.url(ledger, "lethe_rebuilder"),
                vault_url=server.url(vault, "lethe_vault"),
                ledger_owner_url=server.url(ledger),
                vault_owner_url=server.url(vault),
            )
        finally:
            for name in names:
                connection.execute(DROP.format(sql.Identifier(name)))


@contextmanager
def installation(
    server: EmbeddedPostgres,
    data_dir: Path,
    *,
    clock: Callable[[], datetime] | None = None,
    gated: bool = True,
    packs_dir: Path | None = None,
) -> Iterator[Instance]:
    """A running instance on two new databases."""
    with (
        databases(server, data_dir, packs_dir=packs_dir) as settings,
        running(settings, clock=clock, gated=gated) as instance,
    ):
        yield instance
