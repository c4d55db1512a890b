"""Restore drills (FAULTS 3 and 4): the gate holds, and after it is opened nothing erased can be opened or mailed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance, make_worker, running
from domain.personal import Erased, Identity
from domain.restore import LedgerRestored
from domain.subject import ContactAdded
from ledger.application import Ledger
from ledger.backup.gate import HeadKeeper, keep_heads, look
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.errors import GateShut, KeyDestroyed, TamperError
from ledger.keys.vault import KeyName
from projections.rebuild import rebuild
from projections.standing import InlineStanding
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from retention.horizon.horizon import Horizon
from retention.restoring.reopening import Gatekeeper, LossNotAccepted, Opening
from tests.acts import ask, person, register, willing
from tests.drills import databases, installation
from tests.support import SettableClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
STAYS, GOES = "stays@example.com", "goes@example.com"


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


@dataclass
class Drill:
    """An installation with two willing persons, its backup, and what came after: one of them was erased."""

    source: Instance
    ledger: Ledger
    file: Path
    gone_stream: UUID
    data_dir: Path


@pytest.fixture
def drill(server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock) -> Iterator[Drill]:
    """Given a backup, and an erasure after it."""
    clock.set(NOON)
    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [STAYS, GOES])
        gone = UUID(bytes=person(ledger, GOES).person.subject)
        back_up(source, file)
        clock.advance(timedelta(hours=1))
        ledger.erasures.intend([GOES], reason="subject_request", actor="cli")
        finish_erasures(ledger)
        yield Drill(source, ledger, file, gone, tmp_path / "keys")


def back_up(instance: Instance, file: Path) -> None:
    write_backup(file, both(instance), instance.services.vault.provider, now=NOON, notes=instance.custody.count())


def keeper(instance: Instance) -> Gatekeeper:
    services = instance.services
    book = InlineStanding(services.vault.provider)
    return Gatekeeper(services.writer, services.vault, instance.custody, book, instance.ledger)


def open_gate(instance: Instance, reason: str | None = None) -> Opening:
    return keeper(instance).open(reason=reason, actor="cli")


@contextmanager
def restored(server: EmbeddedPostgres, drill: Drill, clock: SettableClock, *, only: str | None = None) -> Iterator[Any]:
    """Settings of databases that a backup was restored into; what was not lost is copied over as it is today."""
    with databases(server, drill.data_dir) as settings:
        with running(settings, clock=clock, gated=False) as target:
            provider = target.services.vault.provider
            chosen = [d for d in both(target) if only in (None, d.name)]
            others = [d for d in both(target) if d not in chosen]
            restore(drill.file, chosen, provider, now=clock())
            if others:
                today = drill.file.with_name("today.lethe")
                back_up(drill.source, today)
                restore(today, others, provider, now=clock())
        yield settings


def events_of(ledger: Ledger, stream: UUID) -> list[Any]:
    return [ledger.sealing.open(event) for event in ledger.log.select_streams([stream])]


def test_a_restored_ledger_serves_nothing_until_it_is_opened(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given both databases from before an erasure, when a process starts, then it refuses."""
    with restored(server, drill, clock) as settings:
        with pytest.raises(GateShut, match="restored from backup"), running(settings, clock=clock):
            pytest.fail("It serves.")
        with (
            running(settings, clock=clock, gated=False) as target,
            pytest.raises(LossNotAccepted, match="are missing"),
        ):
            open_gate(target)
        with pytest.raises(GateShut), running(settings, clock=clock):
            pytest.fail("It serves.")


def test_what_was_erased_since_the_backup_stays_erased(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given both databases from before an erasure, when the gate is opened, then they are unknown, unmailable."""
    with restored(server, drill, clock) as settings:
        with running(settings, clock=clock, gated=False) as target:
            ledger = target.ledger(drill.ledger.tenant)
            control = events_of(ledger, drill.gone_stream)[0]
            assert isinstance(control, ContactAdded)
            shown = keeper(target).look()
            assert (shown.tombstones > 0, shown.loses) == (True, True)
            opening = open_gate(target, "The disks burnt.")
            assert sum(len(account.to_forget) for account in opening.accounts) == 1
            assert open_gate(target).state.shut is False
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            assert ledger.person(GOES) is None
            assert isinstance(events_of(ledger, drill.gone_stream)[0].email, Erased)
            asked = ask(ledger, register(ledger), [STAYS, GOES])
            assert (set(asked.allowed), set(asked.refused)) == ({STAYS}, {GOES})
            restored_facts = [f for f in events_of(ledger, ledger.tenant) if isinstance(f, LedgerRestored)]
            assert [f.persons_forgotten for f in restored_facts] == [1]
            assert restored_facts[0].lost_from is not None


def test_the_backup_alone_would_have_opened_them(server: EmbeddedPostgres, drill: Drill, clock: SettableClock) -> None:
    """Given the same restore, when the journal is not replayed, then the person opens: the gate is what stops it."""
    with restored(server, drill, clock) as settings, running(settings, clock=clock, gated=False) as target:
        ledger = target.ledger(drill.ledger.tenant)
        added = events_of(ledger, drill.gone_stream)[0]
        assert added.email.reveal() == GOES


def test_an_old_vault_with_a_new_ledger(server: EmbeddedPostgres, drill: Drill, clock: SettableClock) -> None:
    """Given only the vault from before an erasure, when it is opened, then the keys stay destroyed, the lost are named.

    Lost are the keys of the day on which the person was erased: the vault is older than they are. The address stays
    on the list all the same, also after the list is built again.
    """
    with restored(server, drill, clock, only=VAULT) as settings:
        with running(settings, clock=clock, gated=False) as target:
            with pytest.raises(LossNotAccepted, match="older than the ledger"):
                open_gate(target)
            opening = open_gate(target, "The vault's disk burnt.")
            lost = {name.retention_class for account in opening.accounts for name in account.lost_keys}
            assert lost == {"feed", "suppression"}
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            assert isinstance(events_of(ledger, drill.gone_stream)[0].email, Erased)
            assert ledger.person(GOES) is None
            clock.advance(timedelta(days=1))
            run_daily(ledger)
            rebuild(ledger, target.rebuilder, "standing", grace_seconds=0)
            assert ask(ledger, register(ledger), [STAYS, GOES]).refused == {GOES: "erased"}
            assert person(ledger, STAYS).standing.permissions
            ledger.erasures.intend([STAYS], reason="subject_request", actor="cli")
            assert len(finish_erasures(ledger)) == 1, "Erasures go on, the next day."


def test_a_new_vault_with_an_old_ledger(server: EmbeddedPostgres, drill: Drill, clock: SettableClock) -> None:
    """Given only the ledger from before an erasure, when it is opened, then the person is forgotten and unmailable."""
    with restored(server, drill, clock, only=LEDGER) as settings:
        with running(settings, clock=clock, gated=False) as target:
            assert target.ledger(drill.ledger.tenant).person(GOES) is not None
            open_gate(target, "The ledger's disk burnt.")
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            assert ledger.person(GOES) is None
            assert set(ask(ledger, register(ledger), [STAYS, GOES]).refused) == {GOES}


def test_persons_whose_keys_an_old_vault_lacks_are_named_as_a_loss(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a vault older than a person, when the loss is accepted, then they read as erased and get no new key."""
    willing(drill.ledger, ["new@example.com"])
    kid = person(drill.ledger, "new@example.com").person.kid
    stream = UUID(bytes=person(drill.ledger, "new@example.com").person.subject)
    with restored(server, drill, clock, only=VAULT) as settings, running(settings, clock=clock, gated=False) as target:
        lost = {name for account in keeper(target).look().accounts for name in account.lost_keys}
        assert KeyName(kid, Identity.name) in lost
        open_gate(target, "The vault's disk burnt.")
        ledger = target.ledger(drill.ledger.tenant)
        assert events_of(ledger, stream)[0].email == Erased(clock(), "lost in a restore", None)
        with pytest.raises(KeyDestroyed):
            ledger.keyring.ensure([KeyName(kid, Identity.name)])


def test_a_log_that_says_something_else_is_never_opened(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a restored log whose event at the kept head was rewritten, when it is opened, then it is a TamperError."""
    keep_heads(drill.source.services.writer, drill.source.custody, [drill.ledger.tenant])
    back_up(drill.source, again := drill.file.with_name("again.lethe"))
    drill.file = again
    with restored(server, drill, clock) as settings:
        with psycopg.connect(settings.ledger_owner_url, autocommit=True) as hand:
            hand.execute(
                "UPDATE lethe.event SET entry = entry || ' ' WHERE position = "
                "(SELECT position FROM lethe.head WHERE tenant_id = event.tenant_id)"
            )
        with running(settings, clock=clock, gated=False) as target:
            with pytest.raises(TamperError, match="another event"):
                open_gate(target, "It must be.")
            assert look(target.services.writer, target.vault_pool, target.custody).shut


def test_databases_put_back_by_hand_are_noticed(server: EmbeddedPostgres, drill: Drill, clock: SettableClock) -> None:
    """Given a ledger brought back without a word, when a process starts, then the missing events shut the gate."""
    with restored(server, drill, clock) as settings:
        for url, schema in ((settings.ledger_owner_url, "lethe"), (settings.vault_owner_url, "lethe_vault")):
            with psycopg.connect(url, autocommit=True) as hand:
                hand.execute(f"DELETE FROM {schema}.restore_gate")
        with pytest.raises(GateShut, match="are missing"), running(settings, clock=clock):
            pytest.fail("It serves.")
        with psycopg.connect(settings.vault_url) as hand:
            kids = hand.execute("SELECT count(*) FROM lethe_vault.tombstone WHERE class = '*'").fetchone()
        assert kids is not None
        assert kids[0] == 1


def test_a_restore_without_anything_lost_opens_by_itself(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a backup of today, when it is restored and opened, then no reason is asked for and everything serves."""
    back_up(drill.source, today := drill.file.with_name("now.lethe"))
    drill.file = today
    with restored(server, drill, clock) as settings:
        with running(settings, clock=clock, gated=False) as target:
            assert open_gate(target).loses is False
        with running(settings, clock=clock) as target:
            assert person(target.ledger(drill.ledger.tenant), STAYS).standing.permissions


def test_the_worker_keeps_the_heads(drill: Drill) -> None:
    """Given a worker, when it has its turn, then the end of every log is kept outside the databases."""
    willing(drill.ledger, ["later@example.com"])
    with drill.source.services.writer.transaction() as connection:
        head = drill.ledger.appender.read_head(connection)
    assert drill.source.custody.kept_heads()[drill.ledger.tenant].position < head.position
    HeadKeeper(drill.source.services.writer, drill.source.custody)(drill.ledger)
    assert drill.source.custody.kept_heads()[drill.ledger.tenant].position == head.position
    assert "heads" in {chore.name for chore in make_worker(drill.source)._chores}


def roll(instance: Instance, clock: SettableClock) -> None:
    """Renew everything into the next epoch, a week later."""
    clock.advance(timedelta(days=7))
    for _ in Horizon(instance.services).roll():
        pass


@pytest.mark.parametrize("only", [None, VAULT, LEDGER])
def test_a_backup_of_an_older_epoch_is_restored_and_rolled_on(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock, only: str | None
) -> None:
    """Given a backup from before a roll, when it is restored, then it serves, rolls on, and the erased stay erased."""
    roll(drill.source, clock)
    with restored(server, drill, clock, only=only) as settings:
        with running(settings, clock=clock, gated=False) as target:
            open_gate(target, "The disks burnt.")
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            roll(target, clock)
            roll(target, clock)
            newest = 4 if only == LEDGER else 3  # A restored vault goes on from the epoch that it knows.
            assert {state.epoch.number for state in Horizon(target.services).state().epochs if state.wraps} == {newest}
            ledger.keyring.forget_all()
            assert ledger.person(GOES) is None
            assert isinstance(events_of(ledger, drill.gone_stream)[0].email, Erased)
            assert set(ask(ledger, register(ledger), [STAYS, GOES]).allowed) == {STAYS}
