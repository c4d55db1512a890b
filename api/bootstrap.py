"""The composition root: the only place that wires the rooms together.

`running(settings)` gives an `Instance`: databases up (embedded or by URL), migrated where they are ours, pools open,
the vault and the projections plugged into the ledger.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from uuid import UUID

import psycopg
from psycopg import sql

from api.settings import Settings
from domain.law import rules_on
from ledger.application import Ledger, LedgerServices
from ledger.connections import Pool
from ledger.embedded import EmbeddedPostgres
from ledger.errors import SettingsRefused
from ledger.key_provider import FileKeyProvider
from ledger.migrate import migrate_ledger, migrate_vault
from ledger.ports import Clock
from ledger.recorder import ReaderPool
from ledger.sealing import require_aes_hardware
from ledger.vault import Vault
from projections.standing import InlineStanding
from projections.worker import Chore, Worker
from retention.daily import run_daily
from retention.erasing import finish_erasures

LEDGER_DATABASE = "lethe_ledger"
VAULT_DATABASE = "lethe_vault"
LEDGERS_HELD_MAX = 10_000
ERASING_EVERY_SECONDS = 1.0
DAILY_CHORES_EVERY_SECONDS = 60.0
COLLECTOR_THRESHOLDS = (50_000, 20, 50)


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """Where each role signs in."""

    writer: str
    reader: str
    rebuilder: str
    vault: str


@dataclass(slots=True)
class Instance:
    """A running Lethe: its services, and one ledger per account, made when first asked for."""

    settings: Settings
    services: LedgerServices
    rebuilder: Pool
    vault_pool: Pool
    urls: DatabaseUrls
    server: EmbeddedPostgres | None
    _ledgers: dict[UUID, Ledger] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def ledger(self, tenant: UUID) -> Ledger:
        """The ledger of one account."""
        with self._lock:
            held = self._ledgers.get(tenant)
            if held is None:
                if len(self._ledgers) >= LEDGERS_HELD_MAX:
                    self._ledgers.pop(next(iter(self._ledgers)))
                held = self._ledgers[tenant] = Ledger(tenant, self.services)
            return held

    def held_ledger(self, tenant: UUID) -> Ledger | None:
        """The ledger of one account if it was made before; asks no database and never waits."""
        return self._ledgers.get(tenant)


@contextmanager
def running(settings: Settings, *, clock: Clock | None = None, application: str = "lethe") -> Iterator[Instance]:
    """A running instance for the length of the block."""
    require_aes_hardware()
    spare_the_collector()
    with ExitStack() as stack:
        server = None
        if settings.ledger_url is None:
            server = stack.enter_context(embedded_server(settings))
            urls = embedded_urls(server)
        else:
            urls = given_urls(settings)
        yield stack.enter_context(_wired(settings, urls, server, clock or _utc_now, application))


def spare_the_collector() -> None:
    """Let the garbage collector look less often: bulk work makes millions of small objects and few cycles.

    Measured on bulk authorisation, the default thresholds cost a third of the processor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def make_worker(instance: Instance) -> Worker:
    """A worker for every account of an instance: projections, erasures under way, and the daily retention."""
    chores = (
        Chore("erasing", finish_erasures, ERASING_EVERY_SECONDS),
        Chore("daily", run_daily, DAILY_CHORES_EVERY_SECONDS),
    )
    poll_seconds = instance.settings.worker_poll_seconds
    return Worker(instance.services.writer, instance.ledger, chores=chores, poll_seconds=poll_seconds)


def embedded_server(settings: Settings) -> EmbeddedPostgres:
    """The laptop's server. Raises `SettingsRefused` in production."""
    if settings.environment == "production":
        raise SettingsRefused("In production LETHE_LEDGER_URL, LETHE_READER_URL and LETHE_VAULT_URL must be set.")
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return EmbeddedPostgres(settings.data_dir / "postgres")


def embedded_urls(server: EmbeddedPostgres) -> DatabaseUrls:
    """Create the two databases of an embedded server if needed, migrate them, and say where the roles sign in."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        for name in (LEDGER_DATABASE, VAULT_DATABASE):
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                try:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    continue  # Another process of ours was faster.
    migrate_ledger(server.url(LEDGER_DATABASE), login=True)
    migrate_vault(server.url(VAULT_DATABASE), login=True)
    return DatabaseUrls(
        writer=server.url(LEDGER_DATABASE, "lethe_writer"),
        reader=server.url(LEDGER_DATABASE, "lethe_reader"),
        rebuilder=server.url(LEDGER_DATABASE, "lethe_rebuilder"),
        vault=server.url(VAULT_DATABASE, "lethe_vault"),
    )


def given_urls(settings: Settings) -> DatabaseUrls:
    """The URLs from the settings. Raises `SettingsRefused` where one is missing."""
    if settings.ledger_url is None or settings.reader_url is None or settings.vault_url is None:
        raise SettingsRefused("LETHE_LEDGER_URL needs LETHE_READER_URL and LETHE_VAULT_URL beside it.")
    rebuilder = settings.rebuilder_url or settings.ledger_url
    return DatabaseUrls(settings.ledger_url, settings.reader_url, rebuilder, settings.vault_url)


@contextmanager
def _wired(
    settings: Settings, urls: DatabaseUrls, server: EmbeddedPostgres | None, clock: Clock, application: str
) -> Iterator[Instance]:
    size = settings.pool_connections_max
    writer = Pool(urls.writer, application=application, size_max=size)
    reader = Pool(urls.reader, application=application, size_max=size)
    rebuilder = Pool(urls.rebuilder, application=application, size_max=2)
    vault_pool = Pool(urls.vault, application=application, size_max=size, schema="lethe_vault")
    provider = FileKeyProvider(settings.folders_for_keys())
    services = LedgerServices(
        writer=writer,
        reader=ReaderPool(reader),
        vault=Vault(vault_pool, provider),
        book=InlineStanding(provider),
        clock=clock,
        rules=rules_on,
    )
    try:
        yield Instance(settings, services, rebuilder, vault_pool, urls, server)
    finally:
        for pool in (writer, reader, rebuilder, vault_pool):
            pool.close()


def _utc_now() -> datetime:
    return datetime.now(UTC)
