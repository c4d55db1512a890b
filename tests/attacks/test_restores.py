"""Attacks on restores: what an older vault forgets, and what opening the gate must say and not bring back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from api.bootstrap import Instance, make_worker, running
from domain.personal import Identity
from domain.records import Record
from domain.restore import LedgerRestored
from ledger.application import Ledger
from ledger.backup.gate import keep_heads
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.keys.names import KeyName
from projections.standing import InlineStanding
from projections.worker import catch_up
from retention.erasure.erasing import finish_erasures
from retention.plans.schedule import run_retention
from retention.restoring.reopening import Gatekeeper, LossNotAccepted, Opening
from tests.acts import ask, person, register, report, willing
from tests.drills import databases, installation
from tests.retention.plans import DUE, a_month_of_engagement, hold
from tests.support import SettableClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ANNA, BERT = "anna@example.com", "bert@example.com"

HOLDERS_OF_BILLING = """
SELECT DISTINCT holder FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'billing' AND holder <> ''
"""
MARKED = "SELECT DISTINCT holder FROM lethe_vault.tombstone WHERE tenant_id = %s"


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def open_gate(instance: Instance, reason: str | None = None) -> Opening:
    services = instance.services
    book = InlineStanding(services.vault.provider)
    return Gatekeeper(services.writer, services.vault, instance.custody, book, instance.ledger).open(
        reason=reason, actor="cli"
    )


@dataclass
class Drill:
    source: Instance
    ledger: Ledger
    file: Path
    data_dir: Path

    def back_up(self, file: Path) -> None:
        """As `lethe backup` does."""
        keep_heads(self.source.services.writer, self.source.custody, [self.ledger.tenant])
        now, notes = self.source.services.clock(), self.source.custody.count()
        write_backup(file, both(self.source), self.source.services.vault.provider, now=now, notes=notes)


@pytest.fixture
def drill(server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock) -> Iterator[Drill]:
    """Given an installation with two willing persons."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [ANNA, BERT])
        yield Drill(source, ledger, tmp_path / "b.lethe", tmp_path / "keys")


@contextmanager
def old_vault_new_ledger(server: EmbeddedPostgres, drill: Drill, clock: SettableClock) -> Iterator[Any]:
    """Settings of databases with the vault of the drill's backup and the ledger of today."""
    with databases(server, drill.data_dir) as settings:
        with running(settings, clock=clock, gated=False) as target:
            provider = target.services.vault.provider
            restore(drill.file, [both(target)[1]], provider, now=clock())
            today = drill.file.with_name("today.lethe")
            drill.back_up(today)
            restore(today, [both(target)[0]], provider, now=clock())
        yield settings


def bill(ledger: Ledger, email: str | None, at: datetime) -> None:
    assert ledger.records.take([Record("billing", {"note": "x"}, "invoice", email, at)], actor="cli").recorded == 1


def test_a_lost_month_of_billing_does_not_keep_the_gate_shut_for_ever(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a vault from before the month's first bill, when the loss is accepted, then the gate opens."""
    drill.back_up(drill.file)
    clock.advance(timedelta(hours=2))
    bill(drill.ledger, ANNA, clock())
    with old_vault_new_ledger(server, drill, clock) as settings:
        with running(settings, clock=clock, gated=False) as target:
            with pytest.raises(LossNotAccepted):
                open_gate(target)
            open_gate(target, "The disks burnt.")
        with running(settings, clock=clock):
            pass


def test_kept_billing_of_an_erased_person_is_moved_again_after_a_restore_of_the_vault(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a vault from before an erasure, when it is opened again, then kept bills stand at no holder with a
    tombstone: the journal names that holder beside the kid of the erased person's stream (I11)."""
    bill(drill.ledger, ANNA, clock())
    drill.back_up(drill.file)
    clock.advance(timedelta(hours=2))
    drill.ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")
    finish_erasures(drill.ledger)
    assert not _marked_holders_of_billing(drill.source, drill.ledger)
    with old_vault_new_ledger(server, drill, clock) as settings:
        with running(settings, clock=clock, gated=False) as target:
            open_gate(target, "The disks burnt.")
        with running(settings, clock=clock) as target:
            finish_erasures(target.ledger(drill.ledger.tenant))
            assert not _marked_holders_of_billing(target, drill.ledger)


def _marked_holders_of_billing(instance: Instance, ledger: Ledger) -> set[bytes]:
    with instance.vault_pool.transaction() as connection:
        holders = {bytes(row[0]) for row in connection.execute(HOLDERS_OF_BILLING, (ledger.tenant,))}
        marked = {bytes(row[0]) for row in connection.execute(MARKED, (ledger.tenant,))}
    assert holders
    return holders & marked


def test_a_lost_link_month_is_told_and_nobody_is_asked_twice(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a vault from before the month's first send, when it is opened, then the loss of the link key is told, and
    a campaign that was sent does not go out to the same person again."""
    drill.back_up(drill.file)
    clock.advance(timedelta(hours=2))
    campaign = register(drill.ledger)
    token = ask(drill.ledger, campaign, [ANNA]).allowed[ANNA]

    report(drill.ledger, [(token, "dispatched")], at=clock())
    again = ask(drill.ledger, campaign, [ANNA])
    assert again.refused == {ANNA: "already_sent"} or again.repeated == {ANNA} or not again.allowed
    with old_vault_new_ledger(server, drill, clock) as settings:
        with running(settings, clock=clock, gated=False) as target:
            try:
                told = open_gate(target).loses
            except LossNotAccepted:
                told = True
                open_gate(target, "The disks burnt.")
        with running(settings, clock=clock) as target:
            asked = ask(target.ledger(drill.ledger.tenant), campaign, [ANNA])
            assert (told, asked.allowed) == (True, {})


def test_an_accepted_loss_is_in_the_log_also_after_a_kill(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an opening killed after lost keys were written off, when it is run again, then the log says the loss."""
    drill.back_up(drill.file)
    clock.advance(timedelta(hours=2))
    willing(drill.ledger, ["cleo@example.com"])
    with old_vault_new_ledger(server, drill, clock) as settings, running(settings, clock=clock, gated=False) as target:
        real: Callable[..., None] = Gatekeeper._write_off

        def killed(self: Gatekeeper, *arguments: Any) -> None:
            real(self, *arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Gatekeeper, "_write_off", killed)
            with pytest.raises(KeyboardInterrupt):
                open_gate(target, "The disks burnt.")
        try:
            open_gate(target)
        except LossNotAccepted:
            open_gate(target, "The disks burnt.")
        ledger = target.ledger(drill.ledger.tenant)
        facts = [ledger.sealing.open(event) for event in ledger.log.select_log(1, 10_000)]
        said = [fact for fact in facts if isinstance(fact, LedgerRestored)]
        assert sum(fact.keys_missing for fact in said) > 0


def test_a_vault_that_falls_back_under_a_running_process_is_noticed(
    own_instance: Instance, own_ledger: Ledger, clock: SettableClock
) -> None:
    """Given a process that serves, when its vault falls back to before an erasure (a standby that lagged behind takes
    over), then the worker notices and nothing erased opens."""
    willing(own_ledger, [ANNA])
    kid = person(own_ledger, ANNA).person.kid

    owner = own_instance.settings.vault_owner_url
    assert owner is not None
    with psycopg.connect(owner, autocommit=True) as hand:
        hand.execute("CREATE TABLE public.before AS SELECT * FROM lethe_vault.wrapped_key")
        own_ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")
        finish_erasures(own_ledger)
        hand.execute("DELETE FROM lethe_vault.tombstone")
        hand.execute("INSERT INTO lethe_vault.wrapped_key SELECT * FROM public.before ON CONFLICT DO NOTHING")
    make_worker(own_instance).run_once()
    own_ledger.keyring.forget_all()
    name = KeyName(kid, Identity.name)
    assert name not in own_instance.services.vault.find(own_ledger.tenant, [name]).keys


def test_a_gate_that_is_shut_under_a_running_process_stops_it(own_instance: Instance, own_ledger: Ledger) -> None:
    """Given a process that serves, when a backup is restored into its databases, then it answers nothing more."""
    willing(own_ledger, [ANNA])
    with own_instance.services.writer.transaction() as connection:
        connection.execute("INSERT INTO restore_gate (shut_at, backup_id, taken_at) VALUES (now(), 'x', now())")
    with pytest.raises(Exception, match="restored"):
        ask(own_ledger, register(own_ledger), [ANNA])


def test_a_hold_wins_over_the_replay_of_tombstones(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a person held before a backup, and a month that a plan destroyed after it, with the person's own key set
    aside, when both databases are restored and opened, then the held person's data of that month still opens (I9)."""

    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys", clock=clock) as source:
        clock.set(datetime(2040, 1, 15, 12, tzinfo=UTC))
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        a_month_of_engagement(ledger, clock)
        hold(ledger, ANNA)
        kid = person(ledger, ANNA).person.kid
        write_backup(file, both(source), source.services.vault.provider, now=clock(), notes=source.custody.count())
        clock.set(DUE)
        run_retention(ledger)
        ledger.keyring.forget_all()
        assert isinstance(ledger.keyring.opening_scope(kid, "engagement", "2040-01"), bytes)
        with databases(server, tmp_path / "keys") as settings:
            with running(settings, clock=clock, gated=False) as target:
                restore(file, both(target), target.services.vault.provider, now=clock())
                open_gate(target, "The disks burnt.")
            with running(settings, clock=clock) as target:
                again = target.ledger(ledger.tenant)
                assert isinstance(again.keyring.opening_scope(kid, "engagement", "2040-01"), bytes)


def test_a_person_whose_keys_were_lost_can_be_added_again(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a person whose keys an accepted loss wrote off, when they are added again, then they are a new person."""
    drill.back_up(drill.file)
    clock.advance(timedelta(hours=2))
    willing(drill.ledger, ["cleo@example.com"])
    with old_vault_new_ledger(server, drill, clock) as settings:
        with running(settings, clock=clock, gated=False) as target:
            open_gate(target, "The disks burnt.")
        with running(settings, clock=clock) as target:
            ledger = target.ledger(drill.ledger.tenant)
            willing(ledger, ["cleo@example.com"])
            assert set(ask(ledger, register(ledger), ["cleo@example.com"]).allowed) == {"cleo@example.com"}


def test_a_newer_backup_after_an_accepted_loss_makes_nobody_erased(
    server: EmbeddedPostgres, drill: Drill, clock: SettableClock
) -> None:
    """Given a loss that was accepted, when a newer backup that has the keys turns up and is restored, then the persons
    whose keys are in it were not erased: nobody asked for that."""
    drill.back_up(drill.file)
    clock.advance(timedelta(hours=2))
    willing(drill.ledger, ["cleo@example.com"])
    newer = drill.file.with_name("newer.lethe")
    drill.back_up(newer)
    with old_vault_new_ledger(server, drill, clock) as settings, running(settings, clock=clock, gated=False) as target:
        open_gate(target, "The disks burnt.")
    with databases(server, drill.data_dir) as settings, running(settings, clock=clock, gated=False) as target:
        restore(newer, both(target), target.services.vault.provider, now=clock())
        open_gate(target, "A newer backup was found.")
        ledger = target.ledger(drill.ledger.tenant)
        topics = [event.topic for event in ledger.log.select_log(1, 10_000)]
        assert "erasure.intended.v1" not in topics


COUNTS = "SELECT count(*) FROM lethe.campaign_count WHERE tenant_id = %s"
STANDING = "SELECT count(*) FROM lethe.standing WHERE tenant_id = %s"


def test_hourly_counts_of_a_month_that_was_destroyed_go_again_after_a_restore(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a month destroyed after a backup, with its hourly counts, when both databases are restored, opened and
    retention has run, then the counts are gone again."""

    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys", clock=clock) as source:
        clock.set(datetime(2040, 1, 15, 12, tzinfo=UTC))
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        a_month_of_engagement(ledger, clock)
        catch_up(ledger)
        write_backup(file, both(source), source.services.vault.provider, now=clock(), notes=source.custody.count())
        clock.set(DUE)
        run_retention(ledger)
        assert _counted(source, COUNTS, ledger) == 0
        with databases(server, tmp_path / "keys") as settings:
            with running(settings, clock=clock, gated=False) as target:
                restore(file, both(target), target.services.vault.provider, now=clock())
                open_gate(target, "The disks burnt.")
            with running(settings, clock=clock) as target:
                again = target.ledger(ledger.tenant)
                catch_up(again)
                run_retention(again)
                assert _counted(target, COUNTS, ledger) == 0


def test_a_closed_account_stays_closed_after_a_restore(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given an account whose subscriber data was destroyed after a backup, when both databases are restored and opened
    and retention has run, then nobody stands in it any more and it cannot be taken up again."""

    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys", clock=clock) as source:
        clock.set(NOON)
        ledger = source.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailenium", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [ANNA, BERT])
        ledger.accounts.terminate(actor="cli")
        clock.advance(timedelta(days=10))
        write_backup(file, both(source), source.services.vault.provider, now=clock(), notes=source.custody.count())
        clock.advance(timedelta(days=21))
        run_retention(ledger)
        assert ledger.accounts.state().closed_at is not None
        assert _counted(source, STANDING, ledger) == 0
        with databases(server, tmp_path / "keys") as settings:
            with running(settings, clock=clock, gated=False) as target:
                restore(file, both(target), target.services.vault.provider, now=clock())
                open_gate(target, "The disks burnt.")
            with running(settings, clock=clock) as target:
                again = target.ledger(ledger.tenant)
                run_retention(again)
                closed = again.accounts.state().closed_at is not None
                assert (closed, _counted(target, STANDING, ledger)) == (True, 0)


def _counted(instance: Instance, statement: str, ledger: Ledger) -> int:
    with instance.services.writer.transaction() as connection:
        row = connection.execute(statement.encode(), (ledger.tenant,)).fetchone()
    assert row is not None
    return int(row[0])


def test_an_account_closed_long_ago_does_not_keep_the_gate_shut(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given an account closed long before the backup and another one that goes on after it, when the loss of what came
    after the backup is accepted, then the gate opens."""

    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys", clock=clock) as source:
        clock.set(NOON)
        closed, living = source.ledger(uuid4()), source.ledger(uuid4())
        for ledger in (closed, living):
            ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
        closed.accounts.terminate(actor="cli")
        clock.advance(timedelta(days=120))
        run_retention(closed)

        write_backup(file, both(source), source.services.vault.provider, now=clock(), notes=source.custody.count())
        willing(living, [ANNA])
        keep_heads(source.services.writer, source.custody, [closed.tenant, living.tenant])
        with databases(server, tmp_path / "keys") as settings:
            with running(settings, clock=clock, gated=False) as target:
                restore(file, both(target), target.services.vault.provider, now=clock())
                open_gate(target, "The disks burnt.")
            with running(settings, clock=clock):
                pass
