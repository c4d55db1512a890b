"""Applying a plan: exactly what it says, once, and only while it is what would be planned (FAULTS 7, 13, 14a)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from audit.fsck import require_whole_log
from domain.facts import Fact
from domain.hold import Period
from domain.keys import PeriodKeyDestroyed, PlanApplied, SubjectKeysExpired
from domain.message import MessageClicked
from domain.personal import Erased, Personal
from domain.subject_commands import SayNo
from ledger.application import Ledger
from ledger.errors import HoldTooLate, PeriodDestroyed
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.keys.vault import Vault
from ledger.mapper import Holder
from ledger.subjects import Act
from projections.alone import alone
from projections.worker import catch_up
from retention.holds.releasing import finish_holds
from retention.plans import apply, carrying_out, intending
from retention.plans.apply import PlanBusy, PlanIncomplete, apply_plan, finish_open_plans
from retention.plans.file import PLAN_AGE_DAYS_MAX, PlanRefused
from retention.plans.intents import close_item
from retention.plans.schedule import RetentionSchedule, run_retention
from retention.policy.adopting import pack_of
from tests.acts import person, say, topics, willing
from tests.kills import Killed, kill, killed_at
from tests.retention.plans import (
    ANNA,
    BERT,
    DUE,
    JANUARY,
    a_month_of_engagement,
    applied,
    assert_done_once,
    facts_of_plan,
    hold,
    items,
    planned,
    record,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store


def clicks(ledger: Ledger, *addresses: str) -> list[Any]:
    """The URLs of every click in the log, opened with these persons' keys in turn; `Erased` where they are gone."""
    ledger.keyring.forget_all()
    events = [event for event in ledger.log.select_log(1, 10_000) if event.topic == MessageClicked.TOPIC]
    found = []
    for address in addresses:
        row = person(ledger, address)
        for event in events:
            with suppress(Exception):
                fact = ledger.sealing.open(event, Holder(row.person.kid, 1))
                found.append(getattr(fact, "url"))  # noqa: B009  The base of facts has none.
    return found


def of_plan(ledger: Ledger, plan: Any, kind: type[Fact]) -> list[Any]:
    return [fact for fact in facts_of_plan(ledger, plan.plan_id) if isinstance(fact, kind)]


def test_a_month_goes_for_everybody(ledger: Ledger, clock: SettableClock) -> None:
    """Given two persons' clicks of January, when the plan is applied, then none opens, and who they are still does."""
    a_month_of_engagement(ledger, clock)
    assert any(isinstance(value, Personal) for value in clicks(ledger, ANNA, BERT))
    clock.set(DUE)
    plan = planned(ledger)
    done = applied(ledger, plan)
    assert (done.items, done.keys, done.again) == (3, 3, False)
    after = clicks(ledger, ANNA, BERT)
    assert after
    assert all(isinstance(value, Erased) for value in after)
    assert {value.why for value in after} == {"retention: 8 usage & analytics"}
    assert {value.certificate for value in after} == {done.certificate}
    assert ledger.person(ANNA) is not None
    assert_done_once(ledger, plan)
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_each_key_is_named_by_its_commitment(ledger: Ledger, clock: SettableClock) -> None:
    """Given a period key, when it is destroyed, then the fact names the commitment that was noted when it was made."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    applied(ledger, plan)
    facts = of_plan(ledger, plan, PeriodKeyDestroyed)
    names = [KeyName(TENANT_HOLDER, fact.retention_class, fact.period) for fact in facts]
    destroyed = ledger.services.vault.told_of(ledger.tenant, names)
    assert len(destroyed) == 3
    assert all(len(key.commitment) == 32 for key in destroyed)
    told = {fact.retention_class: fact.commitment for fact in facts}
    assert told == {key.name.retention_class: key.commitment.hex() for key in destroyed}


def test_a_plan_applied_twice_changes_nothing_the_second_time(ledger: Ledger, clock: SettableClock) -> None:
    """Given an applied plan, when it is applied again, at once or later, then nothing is recorded and it says so."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    first = applied(ledger, plan)
    end = topics(ledger)
    again = applied(ledger, plan)
    assert (again.again, again.keys, again.certificate) == (True, first.keys, first.certificate)
    clock.advance(timedelta(days=PLAN_AGE_DAYS_MAX + 30))
    assert applied(ledger, plan).again
    assert topics(ledger) == end


def test_what_arrives_late_is_refused_and_makes_no_key(ledger: Ledger, clock: SettableClock) -> None:
    """Given a destroyed month, when data of it, or of any month before, arrives, then it is refused (FAULTS 14a)."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    applied(ledger)
    for month in ("2040-01", "2039-12", "2033-03"):
        with pytest.raises(PeriodDestroyed):
            ledger.keyring.period_key("engagement", month)
    name = KeyName(TENANT_HOLDER, "engagement", "2039-12")
    assert not ledger.services.vault.find(ledger.tenant, [name]).keys
    ledger.keyring.period_key("engagement", "2040-02")


def test_a_clock_that_jumps_back_makes_no_destroyed_month_again(ledger: Ledger, clock: SettableClock) -> None:
    """Given a destroyed month, when the clock falls back into it, then its key stays gone and the log's time stays."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    applied(ledger)
    clock.set(JANUARY)
    with pytest.raises(PeriodDestroyed):
        ledger.keyring.period_key("engagement", "2040-01")
    willing(ledger, ["late@example.com"])
    times = [event.recorded_at for event in ledger.log.select_log(1, 10_000)]
    assert times == sorted(t for t in times if t is not None)
    require_whole_log(ledger.services.writer.url, ledger.tenant)


# Persons -------------------------------------------------------------------------------------------------------------


def test_persons_whose_time_is_over_lose_their_keys_and_others_keep_theirs(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given many persons of whom some are due, when the plan is applied in batches, then exactly those are gone."""
    monkeypatch.setattr(carrying_out, "KEYS_PER_BATCH", 3)
    people = [f"p{number}@example.com" for number in range(10)]
    clock.set(JANUARY)
    willing(ledger, people)
    for address in people:
        record(ledger, address, JANUARY.date(), "support")
    clock.set(datetime(2042, 3, 1, tzinfo=UTC))
    for address in people[:3]:
        record(ledger, address, date(2042, 3, 1), "support")
    clock.set(datetime(2043, 1, 15, tzinfo=UTC))
    plan = planned(ledger)
    assert items(plan)["support:persons"].persons == 7
    done = applied(ledger, plan)
    (fact,) = of_plan(ledger, plan, SubjectKeysExpired)
    assert (fact.keys, fact.spared) == (7, 0)
    assert done.keys == sum(1 for item in plan.items if item.period) + 7
    names = {a: KeyName(person(ledger, a).person.records_kid, "support") for a in people}
    found = ledger.services.vault.find(ledger.tenant, list(names.values()))
    assert {a for a, name in names.items() if name in found.keys} == set(people[:3])
    assert {a for a, name in names.items() if name in found.tombstones} == set(people[3:])
    assert_done_once(ledger, plan)


def test_who_was_active_after_the_intent_is_spared(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan killed after its intent, when a person it meant writes again, then their key lives on."""
    a_month_of_engagement(ledger, clock)
    for address in (ANNA, BERT):
        record(ledger, address, JANUARY.date(), "support")
    clock.set(datetime(2043, 1, 15, tzinfo=UTC))
    plan = planned(ledger)
    with killed_at(monkeypatch, Vault, "destroy_condemned"):
        applied(ledger, plan)
    record(ledger, ANNA, date(2043, 1, 14), "support")
    (done,) = finish_open_plans(ledger)
    assert done.spared == 1
    name = KeyName(person(ledger, ANNA).person.records_kid, "support")
    assert name in ledger.services.vault.find(ledger.tenant, [name]).keys
    assert_done_once(ledger, plan)


def test_billing_whose_clock_lies_is_spared_at_the_last_moment(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan whose clocks were wound back after its intent, when it goes on, then the log saves the person."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date())
    clock.set(datetime(2044, 6, 1, tzinfo=UTC))
    record(ledger, BERT, date(2044, 6, 1))
    wind_back(ledger)
    monkeypatch.setattr("retention.plans.plan.correct_clocks", lambda *_: 0)
    clock.set(datetime(2047, 1, 16, tzinfo=UTC))
    plan = planned(ledger)
    assert items(plan)["billing:persons"].persons == 2
    done = applied(ledger, plan)
    assert done.spared == 1
    name = KeyName(person(ledger, BERT).person.records_kid, "billing")
    assert name in ledger.services.vault.find(ledger.tenant, [name]).keys


def wind_back(ledger: Ledger) -> None:
    with ledger.services.vault.pool.transaction() as connection:
        connection.execute(
            "UPDATE lethe_vault.wrapped_key SET last_on = '2040-01-15' "
            "WHERE tenant_id = %s AND class = 'billing' AND holder <> ''",
            (ledger.tenant,),
        )


# Facts that changed --------------------------------------------------------------------------------------------------


def a_new_hold(ledger: Ledger) -> None:
    hold(ledger, ANNA)


def a_hold_on_the_period(ledger: Ledger) -> None:
    hold(ledger, kind="period", periods=(Period("engagement", "2040-01"),))


def a_new_record(ledger: Ledger) -> None:
    record(ledger, ANNA, ledger.clock().date(), "support")


def a_destroyed_key(ledger: Ledger) -> None:
    ledger.services.vault.destroy_period(ledger.tenant, "link", "2040-01", when=ledger.clock(), cause="by hand")


def an_erasure(ledger: Ledger) -> None:
    kid = person(ledger, ANNA).person.records_kid
    ledger.services.vault.destroy_keys(ledger.tenant, [KeyName(kid, "support")], when=ledger.clock(), cause="erased")


@pytest.mark.parametrize(
    "change", [a_new_hold, a_hold_on_the_period, a_new_record, a_destroyed_key, an_erasure], ids=lambda f: f.__name__
)
def test_a_plan_is_refused_when_facts_changed_under_it(
    ledger: Ledger, clock: SettableClock, change: Callable[[Ledger], None]
) -> None:
    """Given a plan, when anything it rests on has changed, then it is refused and nothing was done."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    clock.set(datetime(2043, 2, 1, tzinfo=UTC))
    plan = planned(ledger)
    change(ledger)
    before = topics(ledger)
    with pytest.raises(PlanRefused) as refused:
        applied(ledger, plan)
    assert refused.value.reason == "facts_changed"
    assert topics(ledger) == before
    assert applied(ledger).keys > 0


def test_a_month_that_became_due_since_does_not_spoil_a_plan(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan of yesterday, when more is due today, then it does what it says, and the rest is another plan's."""
    a_month_of_engagement(ledger, clock)
    clock.set(datetime(2040, 2, 1, tzinfo=UTC))
    record(ledger, ANNA, date(2040, 2, 1), "usage")
    clock.set(datetime(2042, 1, 31, tzinfo=UTC))
    plan = planned(ledger)
    clock.set(datetime(2042, 2, 1, tzinfo=UTC))
    assert applied(ledger, plan).items == 3
    assert "usage:2040-02" in items(planned(ledger))


def test_the_intent_refuses_a_hold_that_came_after_the_look(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a hold that is placed between the look and the intent, then the hold wins (must-show 7)."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    real = intending.Intending._require_account
    looked = intending.Intending._require_same

    def look_and_let_a_hold_in(self: Any) -> None:
        looked(self)
        a_hold_on_the_period(ledger)

    monkeypatch.setattr(intending.Intending, "_require_same", look_and_let_a_hold_in)
    with pytest.raises(PlanRefused, match="hold"):
        applied(ledger, plan)
    assert real is intending.Intending._require_account
    assert "keys.destruction_intended.v1" not in topics(ledger)
    ledger.keyring.period_key("engagement", "2040-01")


def test_a_hold_placed_after_the_intent_is_too_late(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a recorded intent, when a hold on its period is placed, then it is told the certificate (must-show 7)."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    with killed_at(monkeypatch, carrying_out.CarryingOut, "_destroy"):
        applied(ledger, plan)
    with pytest.raises(HoldTooLate) as late:
        a_hold_on_the_period(ledger)
    (done,) = finish_open_plans(ledger)
    assert late.value.certificate == done.certificate


# Holds on persons ----------------------------------------------------------------------------------------------------


def test_a_held_person_survives_the_month_and_goes_with_the_hold(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on one of two persons, when the month goes, then theirs alone opens, until the hold is released."""
    a_month_of_engagement(ledger, clock)
    held = hold(ledger, ANNA)
    clock.set(DUE)
    applied(ledger)
    assert any(isinstance(value, Personal) for value in clicks(ledger, ANNA))
    assert not any(isinstance(value, Personal) for value in clicks(ledger, BERT))
    ledger.holds.release(held.hold_id, actor="cli")
    finish_holds(ledger)
    assert not any(isinstance(value, Personal) for value in clicks(ledger, ANNA))


def test_what_a_hold_kept_back_runs_when_it_is_released(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on the account, when it is released, then the next plan does what had been due (FAULTS 13)."""
    a_month_of_engagement(ledger, clock)
    held = hold(ledger, kind="account")
    clock.set(DUE)
    assert run_retention(ledger) is None
    ledger.keyring.period_key("engagement", "2040-01")
    ledger.holds.release(held.hold_id, actor="cli")
    done = run_retention(ledger)
    assert done is not None
    assert done.items == 3


# Killed and run again ------------------------------------------------------------------------------------------------


STEPS: list[tuple[Any, str]] = [
    (intending.Intending, "_condemn"),
    (intending, "record_intents"),
    (carrying_out, "publish_month"),
    (carrying_out, "escrow_held"),
    (Vault, "destroy_keys"),
    (Vault, "destroy_condemned"),
    (carrying_out.CarryingOut, "_require_gone"),
    (carrying_out, "close_item"),
    (carrying_out.CarryingOut, "_conclude"),
    (carrying_out, "record_in_plan"),
    (carrying_out, "absolve"),
    (carrying_out, "issue_for_plan"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "step"), STEPS, ids=lambda value: value if isinstance(value, str) else "")
def test_killed_at_any_step_it_converges(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
) -> None:
    """Given a plan killed before or after a step, twice, when it is applied again, then it is done, and done once."""
    a_month_of_engagement(ledger, clock)
    for address in (ANNA, BERT):
        record(ledger, address, JANUARY.date(), "support")
    hold(ledger, ANNA)
    clock.set(datetime(2043, 2, 1, tzinfo=UTC))
    plan = planned(ledger)
    with killed_at(monkeypatch, owner, step, after=after):
        applied(ledger, plan)
    with monkeypatch.context() as patched, suppress(Killed):  # It may be past this step.
        kill(patched, owner, step, after=after)
        applied(ledger, plan)
    applied(ledger, plan)
    assert_done_once(ledger, plan)
    assert {fact.escrowed for fact in of_plan(ledger, plan, PeriodKeyDestroyed)} == {1}
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert any(isinstance(value, Personal) for value in clicks(ledger, ANNA))
    assert not any(isinstance(value, Personal) for value in clicks(ledger, BERT))
    name = KeyName(person(ledger, BERT).person.records_kid, "support")
    assert name in ledger.services.vault.find(ledger.tenant, [name]).tombstones
    end = topics(ledger)
    assert applied(ledger, plan).again
    assert topics(ledger) == end


def test_a_worker_takes_up_what_was_cut_off(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan killed after its intent, whose file is lost, when the worker comes by, then it is finished."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    with killed_at(monkeypatch, carrying_out.CarryingOut, "_destroy"):
        applied(ledger, plan)
    clock.advance(timedelta(days=60))
    RetentionSchedule()(ledger)
    assert_done_once(ledger, plan)


def test_a_new_plan_waits_for_one_that_was_cut_off(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given two plans for the same month and the first cut off, when the second is applied, the first is finished."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    first, second = planned(ledger), planned(ledger)
    with killed_at(monkeypatch, carrying_out.CarryingOut, "_destroy"):
        applied(ledger, first)
    with pytest.raises(PlanRefused):
        applied(ledger, second)
    assert_done_once(ledger, first)
    assert topics(ledger).count(PlanApplied.TOPIC) == 1


def test_several_at_once_apply_it_once(ledger: Ledger, clock: SettableClock) -> None:
    """Given threads that apply one plan at once, then it is done once, and the others are told so."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan, pack = planned(ledger), pack_of(ledger.accounts.state())

    def one(_: int) -> str:
        try:
            return "again" if apply_plan(ledger, pack, plan).again else "done"
        except PlanBusy:
            return "busy"

    with ThreadPoolExecutor(6) as threads:
        came = sorted(threads.map(one, range(6)))
    assert came.count("done") == 1
    assert_done_once(ledger, plan)


def test_an_item_is_recorded_once_whoever_comes_twice(ledger: Ledger, clock: SettableClock) -> None:
    """Given an item that is done, when a second run would record it, then its row refuses and nothing is written."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    applied(ledger, plan)
    end = topics(ledger)
    again = of_plan(ledger, plan, PeriodKeyDestroyed)[0]
    with ledger.appender.locked() as locked:
        assert not close_item(locked, ledger, plan.plan_id, again.item, again)
    assert topics(ledger) == end


def test_a_key_that_is_still_found_stops_the_plan(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a vault that only says it destroyed, when the plan looks, then it stops and stays open."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    monkeypatch.setattr(Vault, "destroy_keys", lambda *_, **__: ())
    with pytest.raises(PlanIncomplete):
        applied(ledger, plan)
    monkeypatch.undo()
    assert PeriodKeyDestroyed.TOPIC not in topics(ledger)
    applied(ledger, plan)
    assert_done_once(ledger, plan)


# On schedule ---------------------------------------------------------------------------------------------------------


def test_the_worker_applies_what_is_due_each_day_once(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a worker, when it comes by again on the same day, then it plans nothing; on the next day it plans again."""
    made: list[date] = []

    def noted(of: Ledger) -> None:
        made.append(of.clock().date())

    monkeypatch.setattr("retention.plans.schedule.run_retention", noted)
    chore = RetentionSchedule()
    clock.set(DUE)
    for _ in range(3):
        chore(ledger)
    clock.advance(timedelta(days=1))
    chore(ledger)
    assert made == [DUE.date(), DUE.date() + timedelta(days=1)]


def test_a_worker_that_comes_second_tries_again_later(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an account that another worker is at, when this one comes by, then it waits, and runs the next time."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    chore = RetentionSchedule()
    with alone(ledger.services.writer, apply._work(ledger)) as ours:
        assert ours
        chore(ledger)
    assert PlanApplied.TOPIC not in topics(ledger)
    chore(ledger)
    assert topics(ledger).count(PlanApplied.TOPIC) == 1


def test_the_schedule_does_what_a_person_would_do(ledger: Ledger, clock: SettableClock) -> None:
    """Given January's engagement, when the worker runs, then it goes on its day, by a recorded plan."""
    a_month_of_engagement(ledger, clock)
    chore = RetentionSchedule()
    clock.set(DUE - timedelta(days=1))
    chore(ledger)
    assert PlanApplied.TOPIC not in topics(ledger)
    clock.set(DUE)
    chore(ledger)
    assert topics(ledger).count(PlanApplied.TOPIC) == 1
    assert all(isinstance(value, Erased) for value in clicks(ledger, ANNA, BERT))


def test_the_rest_of_the_program_goes_on(ledger: Ledger, clock: SettableClock) -> None:
    """Given destroyed months, when the log is projected and persons speak, then nothing stumbles over them."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    applied(ledger)
    assert catch_up(ledger).parked == 0
    (outcome,) = say(ledger, [ANNA], "withdraw")
    assert outcome.refused is None
    assert ledger.act(Act(SayNo("objection", "marketing"), address=BERT, actor="cli")).refused is None
