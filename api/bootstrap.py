"""The composition root: the only place that wires the rooms together.

`running(settings)` gives an `Instance`: databases up (embedded or by URL), migrated where they are ours, pools open,
the vault and the projections plugged into the ledger.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Lock
from uuid import UUID

import psycopg
from psycopg import sql

from api.settings import Settings
from audit.log.attesting import ask_witnesses
from audit.log.calls import Caller
from audit.log.rounds import Rounds
from audit.log.sequencer import Sequencer
from audit.log.timestamps import Stamping, TimestampAuthority
from audit.log.witness_policy import WitnessPolicy
from domain.law import rules_on
from ledger.application import Ledger, LedgerServices
from ledger.backup.gate import (
    KEEP_EVERY_SECONDS,
    WATCH_EVERY_SECONDS,
    CustodyJournal,
    GateWatch,
    HeadKeeper,
    require_open,
)
from ledger.connections import Pool
from ledger.custody.journal import Custody
from ledger.custody.journal_check import require_current, require_journal
from ledger.custody.key_files import FileKeyProvider
from ledger.custody.provider import EpochKeyProvider
from ledger.due_clock import DueClock
from ledger.embedded import EmbeddedPostgres
from ledger.errors import SettingsRefused
from ledger.keys.epochs import EpochBook, EpochTerms
from ledger.keys.horizon import require_horizon
from ledger.keys.minimums import Minimums
from ledger.keys.vault import Vault
from ledger.migrate import migrate_ledger, migrate_vault
from ledger.ports import Clock
from ledger.recorder import ReaderPool
from ledger.sealing import require_aes_hardware
from projections.standing import InlineStanding
from projections.worker import Chore, Worker
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from retention.holds.releasing import finish_holds
from retention.holds.setting_aside import SettingAside
from retention.horizon.horizon import Horizon, HorizonKeeper
from retention.plans.minimums import minimum_months
from retention.plans.schedule import RetentionSchedule
from retention.policy.pack import use_packs_of
from retention.policy.promised_horizon import promised_horizon_days

LEDGER_DATABASE = "lethe_ledger"
VAULT_DATABASE = "lethe_vault"
LEDGERS_HELD_MAX = 10_000
ERASING_EVERY_SECONDS = 1.0
DAILY_CHORES_EVERY_SECONDS = 60.0
HORIZON_EVERY_SECONDS = 1.0
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
    custody: Custody
    watch: GateWatch
    sequencer: Sequencer
    witnesses: WitnessPolicy
    timestamp_authority: TimestampAuthority | None
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
def running(
    settings: Settings, *, clock: Clock | None = None, application: str = "lethe", gated: bool = True
) -> Iterator[Instance]:
    """A running instance for the length of the block.

    Raises `GateShut` where the databases were restored and not opened again, `KeyMissing`, `TamperError` and
    `JournalLost` where the epoch keys or the journal are not those of this vault; `gated=False` is for what mends that.
    """
    require_aes_hardware()
    use_packs_of(settings.packs_dir)
    spare_the_collector()
    with ExitStack() as stack:
        server = None
        if settings.ledger_url is None:
            server = stack.enter_context(embedded_server(settings))
            urls = embedded_urls(server)
        else:
            urls = given_urls(settings)
        instance = stack.enter_context(_wired(settings, urls, server, clock or _utc_now, application, gated=gated))
        if gated:
            require_journal(instance.vault_pool, instance.custody)
            require_current(instance.services.writer, instance.custody)
            set_aside = SettingAside(instance.services.writer, instance.ledger)
            require_open(instance.services.writer, instance.services.vault, instance.custody, set_aside)
            _require_promised_horizon(instance)
            instance.services.epochs.require_keys()
            instance.services.epochs.enter(instance.services.due_clock.earlier())
        yield instance


def spare_the_collector() -> None:
    """Let the garbage collector look less often: bulk work makes millions of small objects and few cycles.

    Measured on bulk authorisation, the default thresholds cost a third of the processor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def make_worker(instance: Instance) -> Worker:
    """A worker for every account of an instance: projections, erasures under way, and the daily retention."""
    chores: tuple[Chore, ...] = (
        Chore("gate", lambda _: instance.watch.look(), WATCH_EVERY_SECONDS),
        Chore("holds", finish_holds, ERASING_EVERY_SECONDS),
        Chore("erasing", finish_erasures, ERASING_EVERY_SECONDS),
        Chore("daily", run_daily, DAILY_CHORES_EVERY_SECONDS),
    )
    if instance.settings.retention_schedule == "daily":
        chores = (*chores, Chore("retention", RetentionSchedule(), DAILY_CHORES_EVERY_SECONDS))
    keeper = HorizonKeeper(Horizon(instance.services))
    heads = HeadKeeper(instance.services.writer, instance.custody)
    chores = (
        *chores,
        Chore("horizon", keeper.keep, HORIZON_EVERY_SECONDS),
        Chore("heads", heads, KEEP_EVERY_SECONDS),
    )
    poll_seconds = instance.settings.worker_poll_seconds
    return Worker(instance.services.writer, instance.ledger, chores=chores, poll_seconds=poll_seconds)


def make_work(instance: Instance) -> dict[str, Callable[[Event], None]]:
    """What a worker process does until it is stopped, each in a thread of its own: nothing of it waits for the rest."""
    return {
        "worker": make_worker(instance).run,
        "sequencer": lambda stop: instance.sequencer.run(stop, gate=instance.watch.look),
        **{rounds.name: rounds.run for rounds in make_rounds(instance)},
    }


def make_rounds(instance: Instance) -> list[Rounds]:
    """What is asked of others about checkpoints: of witnesses, and of a timestamp authority, where any is named."""
    writer, policy, authority = instance.services.writer, instance.witnesses, instance.timestamp_authority
    rounds = []
    if policy.witnesses:
        post = Caller()
        rounds.append(Rounds("witnesses", writer, instance.ledger, lambda ledger: ask_witnesses(ledger, policy, post)))
    if authority is not None:
        rounds.append(Rounds("timestamps", writer, instance.ledger, Stamping(authority, Caller())))
    return rounds


def one_day_of_work(instance: Instance) -> Callable[[Sequence[Ledger]], None]:
    """What workers do for some accounts in the course of a day, all at once: for simulated time."""
    horizon, schedule = Horizon(instance.services), RetentionSchedule()

    def work(ledgers: Sequence[Ledger]) -> None:
        if horizon.roll_is_due():
            for _ in horizon.roll():
                pass
        for number in horizon.due_for_destruction():
            horizon.destroy(number)
        for ledger in ledgers:
            finish_holds(ledger)
            finish_erasures(ledger)
            run_daily(ledger)
            schedule(ledger)
            instance.sequencer.publish_tenant(ledger)

    return work


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


def _require_promised_horizon(instance: Instance) -> None:
    """What was destroyed is gone from backups as soon as every account here was promised."""
    with instance.services.writer.transaction() as connection:
        promised = promised_horizon_days(connection)
    settings, delay_days = instance.settings, instance.services.vault.provider.delay_days
    require_horizon(settings.epoch_days, settings.epoch_kept_days, delay_days, promised)


def make_provider(settings: Settings) -> EpochKeyProvider:
    """Where the epoch keys are. Raises `SettingsRefused` for copies that are too few, and where boto3 is missing."""
    if settings.key_provider == "file":
        return FileKeyProvider(settings.folders_for_keys())
    try:
        from ledger.custody.kms import KmsKeyProvider  # noqa: PLC0415  an extra: whoever keeps keys in files needs no boto3
    except ImportError:
        raise SettingsRefused("LETHE_KEY_PROVIDER=aws-kms needs boto3. Install it: pip install 'lethe[aws]'") from None
    return KmsKeyProvider(settings.kms_regions, settings.kms_alias_prefix, settings.kms_pending_days)


@contextmanager
def _wired(
    settings: Settings,
    urls: DatabaseUrls,
    server: EmbeddedPostgres | None,
    clock: Clock,
    application: str,
    *,
    gated: bool,
) -> Iterator[Instance]:
    provider = make_provider(settings)
    require_horizon(settings.epoch_days, settings.epoch_kept_days, provider.delay_days)
    witnesses = WitnessPolicy.parse(settings.witnesses, settings.witnesses_needed)
    authority = TimestampAuthority.parse(settings.timestamp_url, settings.timestamp_roots)
    custody = Custody(settings.folders_for_custody())
    size = settings.pool_connections_max
    writer = Pool(urls.writer, application=application, size_max=size)
    reader = Pool(urls.reader, application=application, size_max=size)
    rebuilder = Pool(urls.rebuilder, application=application, size_max=2)
    vault_pool = Pool(urls.vault, application=application, size_max=size, schema="lethe_vault")
    terms = EpochTerms(settings.epoch_days, settings.epoch_kept_days, provider.delay_days)
    services = LedgerServices(
        writer=writer,
        reader=ReaderPool(reader),
        vault=Vault(vault_pool, provider, clock=clock, journal=CustodyJournal(custody, writer)),
        book=InlineStanding(provider),
        clock=clock,
        rules=rules_on,
        epochs=EpochBook(vault_pool, provider, terms),
        due_clock=DueClock(clock, vault_pool, real_time=clock is _utc_now),
        gated=gated,
    )
    set_aside = SettingAside(writer, lambda tenant: instance.ledger(tenant))  # noqa: PLW0108  made after the watch
    watch = GateWatch(writer, services.vault, custody, set_aside)
    sequencer = Sequencer(writer, custody, lambda tenant: instance.ledger(tenant), settings.log_origin)  # noqa: PLW0108
    try:
        instance = Instance(
            settings, services, rebuilder, vault_pool, urls, server, custody, watch, sequencer, witnesses, authority
        )
        services.vault.minimums = Minimums(
            lambda tenant: minimum_months(instance.held_ledger(tenant)), real_time=clock is _utc_now
        )
        yield instance
    finally:
        for pool in (writer, reader, rebuilder, vault_pool):
            pool.close()


def _utc_now() -> datetime:
    return datetime.now(UTC)
