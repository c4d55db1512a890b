"""Records about nobody end as well: in classes with a person's clock, each on the day that its own day asks for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from domain.facts import opened
from domain.hold import Period
from domain.personal import Erased, Personal
from domain.records import Record
from ledger.application import Ledger
from ledger.entry import unpack_sealed
from ledger.errors import DestructionTooEarly, KeyMissing
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.record_streams import holder_of_day
from ledger.recording import DAY_OVER, RecordAnswer
from ledger.sealing import envelope_kid
from retention.plans.schedule import run_retention
from tests.acts import person, willing
from tests.retention.plans import ANNA, applied, hold, items, kept_back, planned, record
from tests.support import SettableClock

pytestmark = pytest.mark.store

FIRST, LAST = date(2040, 1, 3), date(2040, 1, 31)


def at(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def noted(ledger: Ledger, day: date, retention_class: str = "support", note: str = "x") -> RecordAnswer:
    """A record about nobody, of noon on a day."""
    return ledger.records.take([Record(retention_class, {"note": note}, "ticket", None, at(day))], actor="cli")


def notes(ledger: Ledger, *answers: RecordAnswer) -> list[str | None]:
    """What these records say to whoever holds every living key and knows nobody; None for one that is erased."""
    ledger.keyring.forget_all()
    facts: list[Any] = [ledger.sealing.open(ledger.log.select_log(answer.first, 1)[0]) for answer in answers]
    assert all(isinstance(fact.content, Personal | Erased) for fact in facts)
    return [held["note"] if (held := opened(fact.content)) else None for fact in facts]


def holder(ledger: Ledger, day: date, retention_class: str = "support") -> bytes:
    return holder_of_day(ledger.keyring.tenant_key(retention_class), day)


# When they end -------------------------------------------------------------------------------------------------------


def test_support_about_nobody_ends_three_years_after_its_day(ledger: Ledger, clock: SettableClock) -> None:
    """Given letters about nobody of two days of one month, then each is due three years after its own day."""
    clock.set(at(LAST))
    early, late = noted(ledger, FIRST, note="early"), noted(ledger, LAST, note="late")
    clock.set(datetime(2043, 1, 2, 23, tzinfo=UTC))
    assert items(planned(ledger)) == {}
    clock.set(datetime(2043, 1, 3, tzinfo=UTC))
    item = items(planned(ledger))["support:persons"]
    assert (item.persons, item.due_on, item.clause) == (1, date(2043, 1, 3), "8 support")
    applied(ledger)
    assert notes(ledger, early, late) == [None, "late"]
    clock.set(datetime(2043, 1, 30, 23, tzinfo=UTC))
    assert run_retention(ledger) is None
    clock.set(datetime(2043, 1, 31, tzinfo=UTC))
    applied(ledger)
    assert notes(ledger, early, late) == [None, None]
    assert run_retention(ledger) is None


def test_billing_about_nobody_ends_on_the_day_after_seven_years(ledger: Ledger, clock: SettableClock) -> None:
    """Given a transaction about nobody of 2040-02-29, then it is due on 2047-03-01, and on no day before."""
    leap = date(2040, 2, 29)
    clock.set(at(leap))
    answer = noted(ledger, leap, "billing", "invoice")
    clock.set(datetime(2047, 2, 28, 23, tzinfo=UTC))
    assert items(planned(ledger)) == {}
    clock.set(datetime(2047, 3, 1, tzinfo=UTC))
    assert items(planned(ledger))["billing:persons"].minimum
    applied(ledger)
    assert notes(ledger, answer) == [None]


def test_logs_about_nobody_end_with_their_period_as_before(ledger: Ledger, clock: SettableClock) -> None:
    """Given a line of a log about nobody, then no key but the period's is its end."""
    clock.set(at(FIRST))
    answer = noted(ledger, FIRST, "error_log", "line")
    assert notes(ledger, answer) == ["line"]
    clock.set(datetime(2042, 1, 3, tzinfo=UTC))
    assert set(items(planned(ledger))) == {"error_log:2040-01-03"}


def test_a_persons_letters_and_those_about_nobody_do_not_move_each_others_clock(
    ledger: Ledger, clock: SettableClock
) -> None:
    """Given a person who writes again, then what was noted about nobody on the first day ends all the same."""
    clock.set(at(LAST))
    willing(ledger, [ANNA])
    record(ledger, ANNA, FIRST, "support")
    record(ledger, ANNA, LAST, "support")
    about_nobody = noted(ledger, FIRST)
    clock.set(datetime(2043, 1, 3, tzinfo=UTC))
    assert items(planned(ledger))["support:persons"].persons == 1
    applied(ledger)
    assert notes(ledger, about_nobody) == [None]
    assert len(ledger.records.streams.of(person(ledger, ANNA).person.records_kid, ["support"])) == 1


# What must not happen ------------------------------------------------------------------------------------------------


def test_what_arrives_after_the_days_end_is_refused_and_makes_no_key(ledger: Ledger, clock: SettableClock) -> None:
    """Given a day whose key was destroyed, when a record of it arrives, then it is refused by name (FAULTS 14a)."""
    clock.set(at(LAST))
    noted(ledger, FIRST)
    clock.set(datetime(2043, 1, 3, tzinfo=UTC))
    applied(ledger)
    end = ledger.log.max_notification_id()
    answer = noted(ledger, FIRST)
    assert (answer.recorded, answer.rejected) == (0, [(0, DAY_OVER)])
    assert noted(ledger, LAST).recorded == 1
    name = KeyName(holder(ledger, FIRST), "support")
    assert name not in ledger.services.vault.find(ledger.tenant, [name]).keys
    assert ledger.log.max_notification_id() == (end or 0) + 1


def test_no_path_destroys_billing_about_nobody_before_its_time(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given billing about nobody that is not seven years old, when any method of the vault is told to, it refuses."""
    clock.set(at(FIRST))
    answer = noted(ledger, FIRST, "billing", "invoice")
    kid = holder(ledger, FIRST, "billing")
    vault, early = ledger.services.vault, KeyName(kid, "billing")
    clock.set(datetime(2047, 1, 3, tzinfo=UTC))
    with pytest.raises(DestructionTooEarly):
        vault.destroy_keys(ledger.tenant, [early], when=clock(), cause="test")
    with pytest.raises(DestructionTooEarly):
        vault.destroy_holder(ledger.tenant, kid, when=clock(), cause="test", certificate=None)
    with pytest.raises(DestructionTooEarly):
        vault.destroy_class(ledger.tenant, "billing", when=clock(), cause="test")
    assert notes(ledger, answer) == ["invoice"]
    # A vault that was made to believe in an older day is corrected from the log before anything is planned.
    with instance.vault_pool.transaction() as connection:
        connection.execute(
            "UPDATE lethe_vault.wrapped_key SET last_on = '2039-01-01' WHERE tenant_id = %s AND holder = %s",
            (ledger.tenant, kid),
        )
    assert items(planned(ledger)) == {}
    clock.set(datetime(2047, 1, 4, tzinfo=UTC))
    assert items(planned(ledger))["billing:persons"].persons == 1


def test_a_hold_on_the_account_or_the_period_keeps_them(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on a month of support, then what was noted about nobody waits for its release (FAULTS 13)."""
    clock.set(at(FIRST))
    answer = noted(ledger, FIRST)
    held = hold(ledger, kind="period", periods=(Period("support", "2040-01"),))
    clock.set(datetime(2043, 1, 3, tzinfo=UTC))
    assert set(kept_back(planned(ledger))) == {"support:persons"}
    assert run_retention(ledger) is None
    ledger.holds.release(held.hold_id, actor="cli")
    applied(ledger)
    assert notes(ledger, answer) == [None]


def test_an_erasure_and_another_account_leave_them_alone(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given the same day in two accounts, then their holders differ, and ending one ends nothing of the other."""
    clock.set(at(FIRST))
    answer = noted(ledger, FIRST)
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=0, actor="cli")
    others = noted(other, FIRST)
    assert holder(ledger, FIRST) != holder(other, FIRST)
    clock.set(datetime(2043, 1, 3, tzinfo=UTC))
    applied(ledger)
    assert (notes(ledger, answer), notes(other, others)) == ([None], ["x"])


def test_a_lost_key_is_missing_and_not_erased(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a day's key that was lost without a tombstone, when its record is opened, then that is an incident (I6)."""
    clock.set(at(FIRST))
    answer = noted(ledger, FIRST)
    with instance.vault_pool.transaction() as connection:
        gone = connection.execute(
            "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s",
            (ledger.tenant, holder(ledger, FIRST)),
        )
        assert gone.rowcount == 1
    with pytest.raises(KeyMissing):
        notes(ledger, answer)


# How they stand ------------------------------------------------------------------------------------------------------


def test_the_envelope_names_the_day_and_nobody(ledger: Ledger, clock: SettableClock) -> None:
    """Given records of one day about nobody and somebody, then only the former name a holder, which is the day's."""
    clock.set(at(FIRST) + timedelta(hours=1))
    willing(ledger, [ANNA])
    one, two = noted(ledger, FIRST), noted(ledger, FIRST)
    record(ledger, ANNA, FIRST, "support")
    kids = []
    for event in ledger.log.select_log(one.first, 3):
        kids += [envelope_kid(envelope) for envelope in unpack_sealed(event.sealed).values()]
        needed = ledger.sealing.keys_needed(event)
        assert KeyName(TENANT_HOLDER, "support", "2040-01") in needed
        assert len(needed) == (2 if kids[-1] else 1)
    assert kids == [holder(ledger, FIRST), holder(ledger, FIRST), b""]
    assert two.last == one.first + 1
