"""Restores and the published log: what was signed is never signed otherwise, and a loss opens another series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import psycopg
import pytest

from api.bootstrap import Instance, running
from api.settings import Settings
from audit.log.errors import LogContradiction
from audit.log.store import all_series, latest_checkpoint, log_keys
from ledger.application import Ledger
from ledger.backup.gate import keep_heads, look
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.errors import GateShut, TamperError
from projections.standing import InlineStanding
from retention.restoring.reopening import Gatekeeper, LossNotAccepted, Opening
from tests.acts import add, emails
from tests.audit.test_sequencer import check_all
from tests.drills import databases, installation
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class Drill:
    """A published installation, its backup, and what came after it."""

    source: Instance
    ledger: Ledger
    file: Path
    data_dir: Path

    def back_up(self) -> None:
        instance = self.source
        write_backup(
            self.file, both(instance), instance.services.vault.provider, now=NOON, notes=instance.custody.count()
        )


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


@pytest.fixture
def drill(server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock) -> Iterator[Drill]:
    """Given a log published at 103 events and backed up."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = new_account(source)
        add(ledger, emails(100))
        source.sequencer.publish()
        drill = Drill(source, ledger, tmp_path / "b.lethe", tmp_path / "keys")
        drill.back_up()
        yield drill


@pytest.fixture
def settings(server: EmbeddedPostgres, drill: Drill) -> Iterator[Settings]:
    """Two more databases with the same keys and custody."""
    with databases(server, drill.data_dir) as found:
        yield found


def put_back(drill: Drill, settings: Settings, clock: SettableClock, *, by_hand: bool = False) -> None:
    """Restore the backup; `by_hand`: without the row that shuts the gate."""
    with running(settings, clock=clock, gated=False) as target:
        restore(drill.file, both(target), target.services.vault.provider, now=clock())
    if by_hand:
        for url, schema in ((settings.ledger_owner_url, "lethe"), (settings.vault_owner_url, "lethe_vault")):
            assert url is not None
            with psycopg.connect(url, autocommit=True) as hand:
                hand.execute(f"DELETE FROM {schema}.restore_gate".encode())


def open_gate(instance: Instance, reason: str | None = None) -> Opening:
    services = instance.services
    book = InlineStanding(services.vault.provider)
    keeper = Gatekeeper(services.writer, services.vault, instance.custody, book, instance.ledger)
    return keeper.open(reason=reason, actor="cli")


def test_a_restored_log_goes_on_where_nothing_was_lost(drill: Drill, settings: Settings, clock: SettableClock) -> None:
    """Given a backup of today, when it is restored and opened, then tiles and checkpoints are there, and it goes on."""
    put_back(drill, settings, clock)
    with running(settings, clock=clock, gated=False) as target:
        ledger = target.ledger(drill.ledger.tenant)
        add(ledger, emails(1, "too-early"))
        with pytest.raises(GateShut, match="Nothing is published"):
            target.sequencer.publish_tenant(ledger)
        assert open_gate(target).loses is False
    with running(settings, clock=clock) as target:
        ledger = target.ledger(drill.ledger.tenant)
        add(ledger, emails(10, "later"))
        target.sequencer.publish()
        assert check_all(target, ledger) == [103, 115]
        with target.services.writer.transaction() as connection:
            assert len(all_series(connection, ledger.tenant)) == 1


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_log_behind_what_was_signed_shuts_the_gate(
    drill: Drill, settings: Settings, clock: SettableClock, by_hand: bool
) -> None:
    """Given events that were signed after the backup, when it is put back, then no process serves, and none signs."""
    add(drill.ledger, emails(10, "later"))
    drill.source.sequencer.publish()
    put_back(drill, settings, clock, by_hand=by_hand)
    with pytest.raises(GateShut, match="are missing"), running(settings, clock=clock):
        pytest.fail("It serves.")
    with running(settings, clock=clock, gated=False) as target:
        state = look(target.services.writer, target.vault_pool, target.custody)
        assert [(log.kept.position, log.position, log.rewritten, log.unreached) for log in state.behind] == [
            (113, 103, False, True)
        ]
        ledger = target.ledger(drill.ledger.tenant)
        add(ledger, emails(30, "other"))
        with pytest.raises((GateShut, LogContradiction)):
            target.sequencer.publish_tenant(ledger)
        with pytest.raises((LossNotAccepted, TamperError)):
            open_gate(target)


def test_an_accepted_loss_opens_another_series(drill: Drill, settings: Settings, clock: SettableClock) -> None:
    """Given published events that are lost, when somebody accepts that, then another origin goes on, and says why."""
    add(drill.ledger, emails(10, "later"))
    drill.source.sequencer.publish()
    lost = drill.source.custody.kept_checkpoints()[drill.ledger.tenant]
    clock.advance(timedelta(hours=1))
    put_back(drill, settings, clock)
    with running(settings, clock=clock, gated=False) as target:
        open_gate(target, "The disks burnt.")
        kept = target.custody.kept_checkpoints()[drill.ledger.tenant]
        assert (kept.size, kept.root, kept.abandoned) == (113, lost.root, True)
    with running(settings, clock=clock) as target:
        ledger = target.ledger(drill.ledger.tenant)
        add(ledger, emails(50, "other"))
        target.sequencer.publish()
        sizes = check_all(target, ledger, series=2)
        with target.services.writer.transaction() as connection:
            series = all_series(connection, ledger.tenant)
            old = latest_checkpoint(connection, ledger.tenant, series=1)
            new = latest_checkpoint(connection, ledger.tenant)
            keys = log_keys(connection, ledger.tenant)
        assert [one.origin.removeprefix("lethe.localhost/log/") for one in series] == [
            ledger.tenant.hex,
            f"{ledger.tenant.hex}/2",
        ]
        assert old is not None
        assert new is not None
        assert (old.size, new.size) == (103, sizes[-1])
        assert [(key.series, key.retired_at is None) for key in keys] == [(1, False), (2, True)]
        opened = [e for e in ledger.log.select_log(0, 500, inclusive_of_start=False) if e.topic.startswith("log.")]
        assert [event.topic for event in opened][-3:] == [
            "log.key_retired.v1",
            "log.series_opened.v1",
            "log.key_opened.v1",
        ]
        said = orjson.loads(opened[-2].state)["plain"]
        assert (said["lost_size"], said["lost_root"]) == (113, lost.root.hex())
        # and: the next process serves, and the series goes on.
        add(ledger, emails(1, "more"))
        target.sequencer.publish()
        assert check_all(target, ledger, series=2)[-1] == sizes[-1] + 1
    with running(settings, clock=clock) as target:
        assert not look(target.services.writer, target.vault_pool, target.custody).shut


def test_a_loss_that_was_not_signed_keeps_the_series(drill: Drill, settings: Settings, clock: SettableClock) -> None:
    """Given events that were lost before they were published, when that is accepted, then the series goes on."""
    add(drill.ledger, emails(10, "later"))
    keep_heads(drill.source.services.writer, drill.source.custody, [drill.ledger.tenant])
    put_back(drill, settings, clock)
    with running(settings, clock=clock, gated=False) as target:
        assert open_gate(target, "The disks burnt.").loses
    with running(settings, clock=clock) as target:
        ledger = target.ledger(drill.ledger.tenant)
        target.sequencer.publish()
        assert check_all(target, ledger)[0] == 103
        with target.services.writer.transaction() as connection:
            assert len(all_series(connection, ledger.tenant)) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE lethe.event SET entry = entry || ' ' WHERE position = 50",
        "UPDATE lethe.log_checkpoint SET root = sha256('x')",
        "DELETE FROM lethe.log_checkpoint; UPDATE lethe.log_tile SET hashes = overlay(hashes placing 'x' from 9)",
        "DELETE FROM lethe.event WHERE position = 60",
    ],
)
def test_a_restored_log_that_was_rewritten_is_never_opened(
    drill: Drill, settings: Settings, clock: SettableClock, damage: str
) -> None:
    """Given a restored log that was changed in its middle, when it is opened, then it is refused, for any reason."""
    put_back(drill, settings, clock)
    assert settings.ledger_owner_url is not None
    with running(settings, clock=clock, gated=False) as target:
        assert look(target.services.writer, target.vault_pool, target.custody, thoroughly=True).behind == ()
        with psycopg.connect(settings.ledger_owner_url, autocommit=True) as hand:
            hand.execute(damage.encode())
        with pytest.raises(TamperError, match="not those that were signed"):
            open_gate(target, "It must be.")


def test_a_crash_before_the_commit_does_not_shut_the_gate(
    drill: Drill, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a checkpoint kept and not committed, when the gate is looked at, then the events speak for it."""
    add(drill.ledger, emails(300, "later"))
    real = drill.source.custody.keep_checkpoints

    def keeps_and_dies(checkpoints: object, **_: object) -> None:
        real(checkpoints)  # type: ignore[arg-type]
        raise TamperError("The process died here.")

    monkeypatch.setattr(drill.source.custody, "keep_checkpoints", keeps_and_dies)
    assert drill.source.sequencer.publish().checkpoints == ()
    assert drill.source.custody.kept_checkpoints()[drill.ledger.tenant].size == 403
    assert not look(drill.source.services.writer, drill.source.vault_pool, drill.source.custody).shut
    monkeypatch.undo()
    drill.source.sequencer._left_alone.clear()
    add(drill.ledger, emails(1, "last"))
    drill.source.sequencer.publish()
    assert check_all(drill.source, drill.ledger) == [103, 404]


def test_a_reopening_that_is_cut_off_is_run_again(
    drill: Drill, settings: Settings, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a reopening killed between its steps, when it is run again, then it ends as one that was not (FAULTS 7)."""
    add(drill.ledger, emails(2, "later"))
    drill.source.sequencer.publish()
    put_back(drill, settings, clock)
    with running(settings, clock=clock, gated=False) as target:

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(target.custody, "abandon_checkpoints", dies)
        with pytest.raises(KeyboardInterrupt):
            open_gate(target, "The disks burnt.")
        monkeypatch.undo()
        assert look(target.services.writer, target.vault_pool, target.custody).shut
        open_gate(target, "The disks burnt.")
    with running(settings, clock=clock) as target:
        ledger = target.ledger(drill.ledger.tenant)
        target.sequencer.publish()
        check_all(target, ledger, series=2)
