"""The clock by which things fall due: the earlier of two, and none where they are far apart (FAULTS 14a, 27)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from ledger.due_clock import DueClock
from ledger.errors import ClocksApart
from retention.daily import run_daily
from retention.plans.apply import apply_plan
from retention.plans.plan import make_plan
from retention.plans.schedule import RetentionSchedule, run_retention
from retention.policy.adopting import pack_of
from tests.support import SettableClock

MINUTE = timedelta(minutes=1)


def clock_of(instance: Instance, off: timedelta, *, real_time: bool = True) -> DueClock:
    """The clock of a machine that is so far ahead of the vault's server."""
    return DueClock(lambda: datetime.now(UTC) + off, instance.vault_pool, real_time=real_time)


@pytest.mark.parametrize("off", [30 * MINUTE, -30 * MINUTE])
def test_the_earlier_clock_counts(instance: Instance, off: timedelta) -> None:
    """Given clocks that are half an hour apart, whichever is ahead, then the one that is behind is believed."""
    told = clock_of(instance, off)()
    assert abs(told - datetime.now(UTC) - min(off, timedelta())) < 5 * MINUTE


@pytest.mark.parametrize("off", [61 * MINUTE, -61 * MINUTE, timedelta(days=3_000)])
def test_clocks_far_apart_are_refused_by_name(instance: Instance, off: timedelta) -> None:
    """Given clocks more than an hour apart, then neither is believed; both times are said, and what to do."""
    clock = clock_of(instance, off)
    before = datetime.now(UTC)
    with pytest.raises(ClocksApart, match=r"NTP") as refused:
        clock()
    after = datetime.now(UTC)  # Midnight may have passed meanwhile, here or there.
    for days in ((before, after), (before + off, after + off)):
        assert any(f"{day:%Y-%m-%d}" in str(refused.value) for day in days)
    expected = datetime.now(UTC) + min(off, timedelta())
    assert abs(clock.earlier() - expected) < 5 * MINUTE, "Who only looks is told the earlier."


def test_a_simulated_clock_is_believed(instance: Instance) -> None:
    """Given time that is played, then no server is asked."""
    off = timedelta(days=3_000)
    assert abs(clock_of(instance, off, real_time=False)() - datetime.now(UTC) - off) < MINUTE


def apply_todays_plan(ledger: Ledger) -> None:
    pack = pack_of(ledger.accounts.state())
    apply_plan(ledger, pack, make_plan(ledger, pack, ledger.clock()))


@pytest.mark.parametrize("chore", [run_daily, run_retention, RetentionSchedule(), apply_todays_plan])
def test_no_chore_destroys_by_a_clock_that_jumped(
    ledger: Ledger, instance: Instance, clock: SettableClock, chore: Callable[[Ledger], object]
) -> None:
    """Given a program on real time whose clock jumps three years ahead, when a chore comes by that destroys what is
    due, then it is refused by name, and nothing was recorded."""
    clock.advance(timedelta(days=3 * 366))
    services = replace(instance.services, due_clock=DueClock(clock, instance.vault_pool, real_time=True))
    jumped = Ledger(ledger.tenant, services)
    end = ledger.log.max_notification_id()
    with pytest.raises(ClocksApart):
        chore(jumped)
    assert ledger.log.max_notification_id() == end


def test_a_day_is_not_skipped_by_a_clock_that_is_a_little_ahead(
    ledger: Ledger, instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a clock half an hour ahead, when its day begins before the server's, then the schedule runs for the day
    that both have reached, and again when the server's day begins."""
    ran: list[date] = []
    theirs = datetime(2030, 3, 1, 23, 45, tzinfo=UTC)
    due: DueClock = DueClock(clock, instance.vault_pool, real_time=True)
    monkeypatch.setattr("retention.plans.schedule.run_retention", lambda _: ran.append(due().date()))
    monkeypatch.setattr(DueClock, "_both", lambda _: (clock(), theirs))
    schedule = RetentionSchedule()
    jumped = Ledger(ledger.tenant, replace(instance.services, due_clock=due))
    for minutes in (0, 10, 20, 30):
        theirs = datetime(2030, 3, 1, 23, 45, tzinfo=UTC) + minutes * MINUTE
        clock.set(theirs + 30 * MINUTE)
        schedule(jumped)
    assert ran == [date(2030, 3, 1), date(2030, 3, 2)]
