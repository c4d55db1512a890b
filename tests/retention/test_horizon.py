"""The backup horizon on schedule: rolled when it is time, destroyed on its day and never before (FAULTS 7, 10)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance, make_worker, running
from domain.keys import EpochKeyDestroyed, EpochOpened, EpochRolled
from ledger.application import Ledger
from ledger.custody.key_files import FileKeyProvider
from ledger.due_clock import DueClock
from ledger.embedded import EmbeddedPostgres
from ledger.errors import ClocksApart, EpochInUse, EpochNotDue, KeyMissing, RollIncomplete, TamperError, UnknownEpoch
from ledger.keys.epochs import EpochBook, EpochTerms
from projections.alone import alone
from retention.horizon import horizon as horizons
from retention.horizon.epoch_facts import tell
from retention.horizon.horizon import ROLL, Horizon, HorizonKeeper, RollRunning, horizon_of
from tests.acts import add, emails, topics
from tests.rolls import days, epochs_of_wraps, new_account, noon, roll, standing_rows
from tests.support import SettableClock
from tests.workers import see_killed, start

pytestmark = pytest.mark.store

DAY_ONE = noon(2026, 11, 1)
EPOCH_TOPICS = (EpochOpened.TOPIC, EpochRolled.TOPIC, EpochKeyDestroyed.TOPIC)


@pytest.fixture
def horizon(own_instance: Instance, clock: SettableClock) -> Horizon:
    """The horizon of an installation whose first day is 1 November 2026, with epochs of 7 days kept for 21."""
    clock.set(DAY_ONE)
    return Horizon(own_instance.services)


@pytest.fixture
def account(horizon: Horizon, own_instance: Instance) -> Ledger:
    """An account with people, opened on the first day."""
    opened = new_account(own_instance)
    add(opened, emails(7))
    horizon.state()
    return opened


@pytest.fixture
def hand(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody with full rights on the vault's database."""
    assert own_instance.settings.vault_owner_url is not None
    with psycopg.connect(own_instance.settings.vault_owner_url, autocommit=True) as connection:
        yield connection


def states(horizon: Horizon) -> list[str]:
    return [epoch.state for epoch in horizon.book.all()]


def told(ledger: Ledger) -> list[tuple[str, int]]:
    """What the log says of epochs, in order."""
    events = [e for e in ledger.log.select_log(1, 10_000) if e.topic in EPOCH_TOPICS]
    return [(type(fact).TOPIC, fact.epoch) for fact in map(ledger.sealing.open, events) if hasattr(fact, "epoch")]


# On schedule ---------------------------------------------------------------------------------------------------------


def test_epochs_roll_and_end_on_their_days(horizon: Horizon, account: Ledger, clock: SettableClock) -> None:
    """Given epochs of 7 days kept for 21, when days go by, then a roll begins after 7 and its key ends 21 later, to
    the day; and what is destroyed on any day can be had for 28 days at most."""
    opened, destroyed = dict[int, date](), dict[int, date]()
    for day in range(45):
        # when
        clock.set(DAY_ONE + days(day))
        stated = horizon_of(account, clock())
        horizon.run_due()
        # then
        assert clock().date() < stated <= clock().date() + days(28)
        for epoch in horizon.book.all():
            opened.setdefault(epoch.number, epoch.opened_at.date())
            if epoch.destroyed_at is not None:
                destroyed.setdefault(epoch.number, epoch.destroyed_at.date())
                assert epoch.destroy_on == epoch.destroyed_at.date()
    assert [(opened[n] - DAY_ONE.date()).days for n in sorted(opened)] == [0, 7, 14, 21, 28, 35, 42]
    assert [(destroyed[n] - DAY_ONE.date()).days for n in sorted(destroyed)] == [28, 35, 42]
    assert epochs_of_wraps_of(account) == {7}
    assert {row[3] for row in standing_rows(account)} == {7}
    assert account.person(emails(7)[0]) is not None


def epochs_of_wraps_of(ledger: Ledger) -> set[int]:
    with ledger.services.vault.pool.transaction() as connection:
        rows = connection.execute(
            "SELECT DISTINCT epoch FROM lethe_vault.wrapped_key WHERE tenant_id = %s", (ledger.tenant,)
        )
        return {row[0] for row in rows}


def test_what_is_promised_when_an_epoch_opens_holds_though_its_roll_is_late(
    horizon: Horizon, account: Ledger, clock: SettableClock
) -> None:
    """Given certificates that state a day, when the roll comes five days late, then the key still ends on that day."""
    stated = horizon_of(account, clock())
    clock.set(DAY_ONE + days(12))
    assert horizon_of(account, clock()) == stated
    horizon.run_due()
    assert horizon.book.all()[0].destroy_on == stated == (DAY_ONE + days(28)).date()
    clock.set(DAY_ONE + days(28))
    horizon.run_due()
    assert states(horizon)[0] == "destroyed"


def test_no_day_that_is_past_is_ever_promised(horizon: Horizon, account: Ledger, clock: SettableClock) -> None:
    """Given an installation that nobody looked after for two months, then what is destroyed is promised for a day to
    come, and the late key goes as soon as its roll is verified."""
    clock.set(DAY_ONE + days(60))
    stated = horizon_of(account, clock())
    assert clock().date() < stated <= clock().date() + days(28)
    horizon.run_due()
    assert states(horizon) == ["destroyed", "open"]
    assert horizon_of(account, clock()) >= stated


def test_a_vault_older_than_its_book_begins_on_the_day_of_its_oldest_key(
    horizon: Horizon, own_instance: Instance, clock: SettableClock
) -> None:
    """Given keys of 40 days ago and no book yet, when it is begun, then the roll is overdue at once, and the key is
    kept from then on for its 21 days."""
    new_account(own_instance)
    clock.set(DAY_ONE + days(40))
    state = horizon.state()
    assert state.epochs[0].age_days == 40
    assert state.overdue == ["epoch 1 should have been rolled 33 days ago"]
    assert state.horizon == (DAY_ONE + days(61)).date()
    horizon.run_due()
    first = horizon.book.all()[0]
    assert (first.state, first.destroy_on) == ("verified", (DAY_ONE + days(61)).date())


def test_the_delay_of_the_keys_place_is_part_of_the_horizon(
    horizon: Horizon, account: Ledger, own_instance: Instance
) -> None:
    """Given a place that takes 7 days to let a key go, then the day stated is 7 days later."""
    book = EpochBook(own_instance.vault_pool, account.services.vault.provider, EpochTerms(7, 14, 7))
    assert book.horizon(DAY_ONE) == horizon.book.all()[0].destroy_on + days(7)


# Too early ------------------------------------------------------------------------------------------------------------


def test_an_epoch_key_is_not_destroyed_early(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock
) -> None:
    """Given an epoch that is current, then not verified, then not due, when its key is to go, then it is refused by
    name each time, and the key still opens everything (FAULTS 10)."""
    provider = own_instance.services.vault.provider
    with pytest.raises(EpochInUse, match="current"):
        horizon.destroy(1)
    rolling = horizon.roll()
    next(rolling)
    with pytest.raises(EpochInUse, match="not rolled and verified"):
        horizon.destroy(1)
    list(rolling)
    with pytest.raises(EpochNotDue, match="2026-11-22"):
        horizon.destroy(1)
    clock.set(noon(2026, 11, 21))
    assert horizon.due_for_destruction() == []
    with pytest.raises(EpochNotDue):
        horizon.destroy(1)
    with pytest.raises(UnknownEpoch, match="1, 2"):
        horizon.destroy(9)
    assert provider.key(1)
    clock.set(noon(2026, 11, 22))
    destruction = horizon.destroy(1)
    assert len(destruction.copies) == 2
    with pytest.raises(KeyMissing):
        provider.key(1)
    assert horizon.destroy(1) == destruction
    assert account.person(emails(7)[3]) is not None


def test_an_epoch_key_is_kept_while_anything_is_under_it(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock, hand: Connection[Any]
) -> None:
    """Given a rolled epoch, when wraps or an account's rows are there again, then its key is kept past its day."""
    hand.execute("CREATE TEMP TABLE kept AS SELECT * FROM lethe_vault.wrapped_key LIMIT 1")
    roll(own_instance)
    clock.set(DAY_ONE + days(60))
    hand.execute("DELETE FROM lethe_vault.wrapped_key w USING kept k WHERE w.holder = k.holder AND w.class = k.class")
    hand.execute("INSERT INTO lethe_vault.wrapped_key SELECT * FROM kept")
    with pytest.raises(EpochInUse, match="came back"):
        horizon.destroy(1)
    hand.execute("DELETE FROM lethe_vault.wrapped_key w USING kept k WHERE w.holder = k.holder AND w.class = k.class")
    with own_instance.services.writer.transaction() as connection:
        connection.execute("UPDATE lethe.head SET epoch_rolled = 0")
    with pytest.raises(EpochInUse, match="1 accounts"):
        horizon.destroy(1)
    assert own_instance.services.vault.provider.key(1)


def test_a_roll_that_fails_keeps_the_key_and_says_so(
    horizon: Horizon, account: Ledger, clock: SettableClock, hand: Connection[Any]
) -> None:
    """Given a wrap that does not open, when the roll comes by, then it fails each time, the epoch stays unverified and
    is told as overdue, and its key is never destroyed."""
    hand.execute("UPDATE lethe_vault.wrapped_key SET wrap = set_byte(wrap, 20, get_byte(wrap, 20) # 1)")
    clock.set(DAY_ONE + days(7))
    for _ in range(2):
        with pytest.raises((TamperError, RollIncomplete)):
            horizon.run_due()
    clock.set(DAY_ONE + days(40))
    assert horizon.due_for_destruction() == []
    assert horizon.state().overdue == [
        "the key of epoch 1 should have been destroyed 12 days ago",
        "epoch 2 should have been rolled 26 days ago",
    ]


# Killed and twice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(5))
def test_killed_anywhere_the_horizon_is_kept(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock, steps: int
) -> None:
    """Given a process killed by -9 after so many steps of a roll, when the next one keeps the horizon, then one epoch
    was opened, everything is in it, and the key goes on its day."""
    child = start(_roll_and_be_killed, own_instance.settings, steps)
    see_killed(child, own_instance)
    assert states(horizon) == [["open"], ["open", "open"], ["rolled", "open"]][(steps > 0) + (steps > 2)]
    clock.set(DAY_ONE + days(7))
    horizon.run_due()
    assert states(horizon) == ["verified", "open"]
    assert epochs_of_wraps(own_instance, account.tenant) == {2}
    clock.set(DAY_ONE + days(28))
    horizon.run_due()
    assert states(horizon)[0] == "destroyed"
    assert [own for own in emails(7) if account.person(own)] == emails(7)


def _roll_and_be_killed(settings: Any, steps: int) -> None:
    with running(settings, clock=lambda: DAY_ONE) as instance:
        rolling = Horizon(instance.services).roll()
        for _ in range(steps):
            next(rolling)
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_between_the_last_copy_and_the_book(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an epoch key that is gone while the book does not say so yet, when it is tried again, then it is noted."""
    roll(own_instance)
    clock.set(DAY_ONE + days(21))

    def die(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(EpochBook, "close_destroyed", die)
        with pytest.raises(RuntimeError):
            horizon.destroy(1)
    assert states(horizon) == ["verified", "open"]
    assert horizon.due_for_destruction() == [1]
    horizon.destroy(1)
    found = horizon.book.all()[0]
    assert found.state == "destroyed"
    assert found.destruction is not None
    assert len(found.destruction["copies"]) == 2


def test_one_rolls_at_a_time(horizon: Horizon, account: Ledger, own_instance: Instance) -> None:
    """Given a roll under way, when another is begun, then it is refused by name; when the first ends, it may."""
    first = horizon.roll()
    next(first)
    with pytest.raises(RollRunning):
        next(Horizon(own_instance.services).roll())
    list(first)
    with alone(own_instance.vault_pool, ROLL) as ours:
        assert ours
    assert states(horizon) == ["verified", "open"]


# The worker -----------------------------------------------------------------------------------------------------------


def test_the_worker_keeps_the_horizon_and_tells_every_log_once(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given two accounts, when a worker comes by day after day, then each log holds each fact of each epoch that was
    ever theirs once, in order, in a stream per epoch, and nothing about anybody else."""
    # given
    monkeypatch.setattr(horizons, "LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(horizons, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(horizons, "STEPS_PER_TURN", 1)
    keeper, later = HorizonKeeper(horizon), None
    # when
    for day in range(36):
        clock.set(DAY_ONE + days(day))
        if day == 10:
            later = new_account(own_instance)
        for _ in range(12):
            for ledger in filter(None, (account, later)):
                keeper.keep(ledger)
    # then
    opened, rolled, gone = EPOCH_TOPICS
    assert later is not None
    assert sorted(told(account)) == sorted(
        [(opened, n) for n in range(1, 7)] + [(rolled, n) for n in range(1, 6)] + [(gone, 1), (gone, 2)]
    )
    assert sorted(told(later)) == sorted(
        [(opened, n) for n in range(2, 7)] + [(rolled, n) for n in range(2, 6)] + [(gone, 2)]
    )
    events = [e for e in account.log.select_log(1, 10_000) if e.topic in EPOCH_TOPICS]
    assert len({e.originator_id for e in events}) == 6
    of_first = [account.sealing.open(e) for e in events if e.originator_id == events[0].originator_id]
    assert [type(fact).TOPIC for fact in of_first] == list(EPOCH_TOPICS)
    assert [fact.originator_version for fact in of_first] == [1, 2, 3]
    end = of_first[-1]
    assert isinstance(end, EpochKeyDestroyed)
    assert (end.gone_on, len(end.methods)) == ("2026-11-29", 2)
    assert tell(account, horizon.book.all()) == 0


def test_the_real_worker_does_it(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock
) -> None:
    """Given an epoch that has lasted its days, when a worker takes a turn, then it is rolled and the log is told."""
    clock.set(DAY_ONE + days(8))
    worker = make_worker(own_instance)
    assert worker.run_once().failed == 0
    assert states(horizon) == ["verified", "open"]
    assert {EpochOpened.TOPIC, EpochRolled.TOPIC} <= set(topics(account))


def test_a_worker_that_meets_another_roller_or_a_fault_tries_again_later(
    horizon: Horizon, account: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, hand: Connection[Any]
) -> None:
    """Given a roll elsewhere, then the worker leaves it alone; given one that fails, then it says so and waits."""
    monkeypatch.setattr(horizons, "LOOK_EVERY_SECONDS", 0.0)
    clock.set(DAY_ONE + days(8))
    keeper = HorizonKeeper(horizon)
    with alone(account.services.vault.pool, ROLL):
        keeper.keep(account)
    assert states(horizon) == ["open"]
    hand.execute("UPDATE lethe_vault.wrapped_key SET wrap = set_byte(wrap, 20, get_byte(wrap, 20) # 1)")
    with pytest.raises(TamperError):
        keeper.keep(account)
    keeper.keep(account)  # Not at once: it is ten minutes until the next try.
    assert states(horizon) == ["open", "open"]


def test_an_account_that_is_opened_during_a_roll_is_in_the_new_epoch(
    horizon: Horizon, account: Ledger, own_instance: Instance
) -> None:
    """Given a roll under way, when an account is opened and people are added, then they are never renewed: they are
    where everything goes."""
    rolling = horizon.roll()
    next(rolling)
    newcomer = new_account(own_instance)
    add(newcomer, emails(3))
    list(rolling)
    assert {row[3] for row in standing_rows(newcomer)} == epochs_of_wraps(own_instance, newcomer.tenant) == {2}
    assert states(horizon) == ["verified", "open"]


def test_an_account_that_was_opened_by_a_process_that_knew_only_the_old_epoch_is_renewed_before_the_end(
    horizon: Horizon, account: Ledger, own_instance: Instance
) -> None:
    """Given an account whose head says the old epoch though the roll had passed, when the roll ends, then it is not
    verified before that account is renewed as well."""
    rolling = horizon.roll()
    next(step for step in rolling if step.stage == "verify keys")
    newcomer = new_account(own_instance)
    with own_instance.services.writer.transaction() as connection:
        connection.execute("UPDATE lethe.head SET epoch = 1, epoch_rolled = 0 WHERE tenant_id = %s", (newcomer.tenant,))
    with running(own_instance.settings, clock=own_instance.services.clock) as elsewhere:
        add(elsewhere.ledger(newcomer.tenant), emails(3))
    assert {row[3] for row in standing_rows(newcomer)} == {1}
    list(rolling)
    assert {row[3] for row in standing_rows(newcomer)} == {2}
    assert states(horizon) == ["verified", "open"]
    assert newcomer.person(emails(3)[1]) is not None


def test_the_folders_hold_the_keys_of_living_epochs_only(
    server: EmbeddedPostgres, horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock
) -> None:
    """Given epochs that came and went, then a fresh provider finds just those that the book calls alive."""
    for day in range(0, 43, 7):
        clock.set(DAY_ONE + timedelta(days=day))
        horizon.run_due()
    fresh = FileKeyProvider(own_instance.settings.folders_for_keys())
    alive = [epoch.number for epoch in horizon.book.all() if epoch.destroyed_at is None]
    assert list(fresh.living()) == alive == [4, 5, 6, 7]
    assert fresh.destroyed() == (1, 2, 3)


def test_an_epoch_key_that_came_back_to_all_its_places_is_destroyed_again(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock
) -> None:
    """Given key folders that were all put back to an older state, when the horizon is kept, then the book, which is in
    the vault, knows that this epoch is over, and its key goes again."""
    # given
    folders = own_instance.settings.folders_for_keys()
    kept = [(folder, (folder / "epoch-000001.key").read_bytes()) for folder in folders]
    roll(own_instance)
    clock.set(DAY_ONE + days(21))
    horizon.destroy(1)
    for folder, key in kept:
        (folder / "epoch-000001.destroyed").unlink()
        path = folder / "epoch-000001.key"
        path.write_bytes(key)
        path.chmod(0o600)
    provider = own_instance.services.vault.provider
    provider.forget_cached()
    assert provider.living()[0] == 1
    # when
    horizon.run_due()
    # then
    assert 1 not in provider.living()
    assert not any((folder / "epoch-000001.key").exists() for folder in folders)


def test_one_copy_that_came_back_is_destroyed_again_by_the_worker(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a destroyed epoch of which one folder holds a copy again, when the worker looks, then the copy goes; it
    looks again an hour later, and not at every turn."""
    # given
    monkeypatch.setattr(horizons, "LOOK_EVERY_SECONDS", 0.0)
    path = own_instance.settings.folders_for_keys()[0] / "epoch-000001.key"
    key = path.read_bytes()
    roll(own_instance)
    clock.set(DAY_ONE + days(21))
    horizon.destroy(1)
    first = horizon.book.all()[0]
    keeper = HorizonKeeper(horizon)

    def come_back() -> None:
        path.write_bytes(key)
        path.chmod(0o600)

    # when
    come_back()
    assert horizon.due_for_destruction() == []
    keeper.keep(account)
    # then
    assert not path.exists()
    assert horizon.book.all()[0] == first, "When and how it was destroyed first is not written over."
    come_back()
    keeper.keep(account)
    assert path.exists()
    horizon.run_due()
    assert not path.exists()
    assert horizon.returned() == []


# By two clocks --------------------------------------------------------------------------------------------------------


def test_neither_a_roll_nor_an_end_of_a_key_by_a_clock_that_jumped(
    horizon: Horizon, account: Ledger, own_instance: Instance, clock: SettableClock
) -> None:
    """Given a program on real time whose clock jumps, when anything is to be rolled or destroyed, then it is refused by
    name; looking goes on."""
    clock.reset()
    clock.advance(days(40))
    services = replace(own_instance.services, due_clock=DueClock(clock, own_instance.vault_pool, real_time=True))
    jumped = Horizon(services)
    for act in (jumped.roll_is_due, jumped.due_for_destruction, lambda: list(jumped.roll()), lambda: jumped.destroy(1)):
        with pytest.raises(ClocksApart):
            act()
    assert states(horizon) == ["open"]
    assert jumped.state().epochs[0].epoch.number == 1
