"""A hold that comes while a plan is at work: before the intent it wins, after it the answer names what was too late."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from api.bootstrap import Instance
from domain.hold import Period, TooLate
from ledger.application import Ledger
from ledger.errors import HoldTooLate
from ledger.holds import HoldOn, HoldRow
from ledger.keys.condemned import condemn, condemned_of
from ledger.keys.names import DueKey
from retention.holds.releasing import finish_holds
from retention.plans import carrying_out, intending, intents
from retention.plans.apply import finish_open_plans
from retention.plans.file import PlanRefused
from tests.acts import add, person, register, topics, willing
from tests.kills import killed_at
from tests.ledger.test_holds import WORDS, erase, until_waiting
from tests.retention.plans import (
    ANNA,
    BERT,
    CLEO,
    DUE,
    JANUARY,
    a_month_of_engagement,
    applied,
    hold,
    items,
    planned,
    record,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store

SUPPORT_IS_OVER = datetime(2043, 2, 1, tzinfo=UTC)
WAIT_SECONDS_MAX = 60


def letters(ledger: Ledger, clock: SettableClock) -> None:
    """Two persons who wrote to support in January 2040, and one who never did; the clock stands where that is over."""
    clock.set(JANUARY)
    willing(ledger, [ANNA, BERT])
    add(ledger, [CLEO])
    for address in (ANNA, BERT):
        record(ledger, address, JANUARY.date(), "support")
    clock.set(SUPPORT_IS_OVER)


def support_key(ledger: Ledger, address: str) -> bool:
    """Whether a person has a key of their letters still."""
    kid = person(ledger, address).person.records_kid
    return "support" in ledger.services.vault.living_classes(ledger.tenant, kid)


def cut_off(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let today's plan die right after its intent; returns its certificate."""
    plan = planned(ledger)
    with killed_at(monkeypatch, carrying_out.CarryingOut, "run"):
        applied(ledger, plan)
    return str(plan.plan_id)


def place(ledger: Ledger, target: HoldOn, **more: Any) -> HoldRow:
    """A hold, as the desk answers it."""
    review_on = ledger.clock().date() + timedelta(days=365)
    return ledger.holds.place(target, **WORDS, review_on=review_on, actor="cli", **more)


def test_a_hold_on_somebody_whose_key_is_condemned_names_the_certificate(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given an intent to destroy two persons' letters, when one is held, then it is told, and all else is held."""
    letters(ledger, clock)
    certificate = cut_off(ledger, monkeypatch)
    late = (TooLate("support", "", certificate),)
    row = hold(ledger, ANNA)
    assert row.too_late == late
    assert ledger.holds.show(row.hold_id)[1].too_late == late, "It is among what the hold says, sealed."
    (placed,) = ledger.log.select_streams([row.hold_id])
    assert certificate.encode() not in placed.state + (placed.sealed or b"")
    assert hold(ledger, CLEO).too_late == (), "Nothing of hers is being destroyed."
    assert erase(ledger, ANNA) == ["held"], "What is left of the person is held."
    (done,) = finish_open_plans(ledger)
    assert done.certificate == certificate
    assert not support_key(ledger, ANNA)
    assert hold(ledger, BERT).too_late == (), "What was destroyed is past, and its certificate tells it."


def test_a_condemned_person_of_no_intent_is_held_whole(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan that was killed before its intent, when somebody it was about is held, then nothing is too late."""
    letters(ledger, clock)
    kid = person(ledger, ANNA).person.records_kid
    with ledger.services.vault.pool.transaction() as connection:
        due = [DueKey(kid, 1, JANUARY.date())]
        condemn(connection, ledger.tenant, UUID(int=7), "support:persons", "support", due)
        assert condemned_of(connection, ledger.tenant, [kid]) == [(UUID(int=7), "support:persons")]
    assert hold(ledger, ANNA).too_late == ()
    applied(ledger)
    assert support_key(ledger, ANNA)
    assert not support_key(ledger, BERT)


def test_whichever_takes_the_lock_first_wins(
    ledger: Ledger, instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a hold and a plan about persons that meet at the head, then the first of them is seen by the other."""
    letters(ledger, clock)
    other = Ledger(ledger.tenant, instance.services)

    def meet(first: Callable[[Callable[..., Any]], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
        inside, go_on = Event(), Event()

        def pause(*_: Any) -> None:
            inside.set()
            assert go_on.wait(WAIT_SECONDS_MAX)

        with ThreadPoolExecutor(2) as threads:
            begun = threads.submit(first, pause)
            assert inside.wait(WAIT_SECONDS_MAX)
            waiting = threads.submit(second)
            until_waiting(ledger)
            go_on.set()
            return begun.result(WAIT_SECONDS_MAX), waiting.exception(WAIT_SECONDS_MAX) or waiting.result()

    plan = planned(other)
    placed, refused = meet(lambda pause: place(ledger, on(ANNA), also=pause), lambda: applied(other, plan))
    assert placed.too_late == ()
    assert isinstance(refused, PlanRefused)
    assert support_key(ledger, ANNA)

    intend = intents.record_intents

    def intend_slowly(pause: Callable[..., Any]) -> Any:
        def and_pause(*arguments: Any) -> None:
            intend(*arguments)
            pause()

        with monkeypatch.context() as patched:
            patched.setattr(intending, "record_intents", and_pause)
            return applied(other)

    done, late = meet(intend_slowly, lambda: hold(ledger, BERT))
    assert [found.certificate for found in late.too_late] == [done.certificate]
    assert not support_key(ledger, BERT)
    assert support_key(ledger, ANNA)


def on(*addresses: str) -> HoldOn:
    """Persons as a target."""
    return HoldOn("person", addresses)


def test_a_month_that_is_going_is_told_to_whoever_has_something_of_it(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a month's intent, when persons, a campaign or the account are held, then what is going of it is told."""
    campaign = a_month_of_engagement(ledger, clock, [ANNA])
    add(ledger, [CLEO])
    clock.set(DUE)
    certificate = cut_off(ledger, monkeypatch)
    month = tuple(TooLate(c, "2040-01", certificate) for c in ("engagement", "engagement_technical", "link"))
    assert hold(ledger, CLEO).too_late == month[2:], "She was never mailed, and has a key that messages would need."
    held = hold(ledger, ANNA)
    assert held.too_late == month
    assert hold(ledger, kind="campaign", campaigns=(campaign,)).too_late == month
    assert hold(ledger, kind="account").too_late == month
    with pytest.raises(HoldTooLate):
        hold(ledger, kind="period", periods=(Period("engagement", "2040-01"),))
    later = hold(ledger, kind="period", periods=(Period("usage", "2042-01"),))
    widened = ledger.holds.widen(later.hold_id, target=on(ANNA), actor="cli")
    assert widened.too_late == ledger.holds.show(later.hold_id)[1].too_late == month
    finish_open_plans(ledger)
    assert hold(ledger, kind="account").too_late == ()
    for row in ledger.holds.every():
        ledger.holds.release(row.hold_id, actor="cli")
    finish_holds(ledger)
    assert ledger.holds.show(held.hold_id)[1].too_late == (), "It goes with the hold's key."


def test_a_hold_just_before_the_intent_keeps_the_person_out_of_the_plan(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan whose condemned are noted, when one is held before the intent, then it is refused, and told whom."""
    letters(ledger, clock)
    plan = planned(ledger)
    noted = intending.Intending._condemn

    def note_and_let_a_hold_in(self: Any, item: Any) -> None:
        noted(self, item)
        assert hold(ledger, ANNA).too_late == ()

    with monkeypatch.context() as patched:
        patched.setattr(intending.Intending, "_condemn", note_and_let_a_hold_in)
        with pytest.raises(PlanRefused, match="hold"):
            applied(ledger, plan)
    assert "keys.destruction_intended.v1" not in topics(ledger)
    assert items(planned(ledger))["support:persons"].persons == 1
    applied(ledger)
    assert support_key(ledger, ANNA)
    assert not support_key(ledger, BERT)


def test_nothing_is_too_late_while_no_plan_is_at_work(ledger: Ledger, clock: SettableClock) -> None:
    """Given persons, campaigns and a quiet account, when they are held, then nothing is said to be too late."""
    clock.set(JANUARY)
    willing(ledger, [ANNA])
    campaign = register(ledger)
    for row in (hold(ledger, ANNA), hold(ledger, kind="campaign", campaigns=(campaign,)), hold(ledger, kind="account")):
        assert row.too_late == ()
