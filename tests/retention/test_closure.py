"""The end of an account: nothing is sent, nothing new is taken in, and its data goes on the days that were promised."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from audit.sends.after_end import check_no_send_after_end
from audit.sends.after_no import check_no_send_after_no
from domain.account import AccountRefused
from domain.facts import personal_fields
from domain.personal import Erased, Personal
from domain.subject_commands import AddContact, CommandRefused, RecordConsent, SayNo
from ledger.application import Ledger
from ledger.errors import KeyDestroyed
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.subjects import Act
from projections.rebuild import rebuild
from projections.worker import catch_up
from retention.daily import run_daily
from retention.holds.releasing import finish_holds
from retention.plans import carrying_out, intending
from retention.plans.apply import finish_open_plans
from retention.plans.closure import closing_days, sweep_closed_classes
from retention.plans.file import PlanRefused
from retention.plans.schedule import run_retention
from retention.policy.adopting import pack_of
from tests.acts import NEWSLETTER, add, ask, person, plant_send, register, topics, willing
from tests.retention.plans import (
    ANNA,
    BERT,
    CLEO,
    JANUARY,
    a_month_of_engagement,
    applied,
    hold,
    items,
    kept_back,
    planned,
    record,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store

SUBSCRIBER_CLASSES = {
    *("identity", "consent", "suppression", "engagement", "engagement_technical", "link", "feed"),
    *("usage", "access_log", "error_log", "support"),
}
"""What Mailkai promises gone within 60 days of the account's end."""


def a_life(ledger: Ledger, clock: SettableClock) -> None:
    """An account with people, a campaign, a superseded address, an erased person, support and billing; in January."""
    a_month_of_engagement(ledger, clock, [ANNA, BERT])
    add(ledger, [CLEO])
    ledger.erasures.intend([CLEO], reason="subject_request", actor="cli")
    record(ledger, ANNA, JANUARY.date(), "support")
    record(ledger, ANNA, JANUARY.date(), "billing")
    catch_up(ledger)


def values(ledger: Ledger) -> dict[str, set[type]]:
    """For each retention class: what its parts open as, over the whole log, as far as envelopes tell whose they are."""
    ledger.keyring.forget_all()
    found: dict[str, set[type]] = {}
    for event in ledger.log.select_log(1, 10_000):
        fact = ledger.sealing.open(event)
        for name, retention_class in personal_fields(type(fact)).items():
            value = getattr(fact, name)
            if value is not None:
                found.setdefault(retention_class, set()).add(type(value))
    return found


# Terminated ----------------------------------------------------------------------------------------------------------


def test_a_terminated_account_authorises_nothing(ledger: Ledger, clock: SettableClock) -> None:
    """Given willing people, when the account is terminated, then every send is refused by a rule of its own."""
    clock.set(JANUARY)
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger)
    assert set(ask(ledger, campaign, [ANNA]).allowed) == {ANNA}
    ledger.accounts.terminate(actor="cli")
    asked = ask(ledger, campaign, [ANNA, BERT, "stranger@example.com"])
    assert asked.allowed == {}
    assert set(asked.refused.values()) == {"account_terminated"}
    assert ledger.check([(BERT, NEWSLETTER, "email")])[0].rule == "account_terminated"
    ledger.accounts.reactivate(actor="cli")
    assert set(ask(ledger, campaign, [BERT]).allowed) == {BERT}


def test_a_chunk_prepared_before_the_end_is_refused_under_the_lock(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a send that was decided before the termination and commits after it, then it is refused (I1)."""
    clock.set(JANUARY)
    willing(ledger, [ANNA])
    campaign = register(ledger)
    desk = ledger.authorisations
    write = desk._write_new

    def terminated_meanwhile(*arguments: Any) -> Any:
        ledger.accounts.terminate(actor="cli")
        return write(*arguments)

    monkeypatch.setattr(desk, "_write_new", terminated_meanwhile)
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "account_terminated"}
    assert check_no_send_after_end(ledger) == []
    # The control: a send that the program never wrote is found, and one after a reactivation is none.
    planted = plant_send(ledger, ANNA, campaign)
    assert [finding.position for finding in check_no_send_after_end(ledger)] == [planted]
    ledger.accounts.reactivate(actor="cli")
    plant_send(ledger, ANNA, campaign)
    assert [finding.position for finding in check_no_send_after_end(ledger)] == [planted]


def test_a_terminated_account_takes_nothing_new_in(ledger: Ledger, clock: SettableClock) -> None:
    """Given a terminated account, then contacts, grants and campaigns are refused, and every no is still taken."""
    clock.set(JANUARY)
    willing(ledger, [ANNA, BERT])
    ledger.accounts.terminate(actor="cli")
    for refused in (
        Act(AddContact(CLEO), address=CLEO, actor="cli"),
        Act(RecordConsent(NEWSLETTER, "email", "grant", evidence={"method": "form"}), address=ANNA, actor="cli"),
    ):
        with pytest.raises(CommandRefused) as error:
            ledger.act(refused)
        assert error.value.reason == "account_terminated"
    with pytest.raises(CommandRefused):
        register(ledger)
    assert ledger.act(Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=ANNA, actor="cli")).facts
    assert ledger.act(Act(SayNo("objection", "marketing"), address=BERT, actor="cli")).facts
    assert ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")[0].state == "intended"


def test_reading_and_exporting_go_on(ledger: Ledger, clock: SettableClock) -> None:
    """Given a terminated account, then all that it holds still opens."""
    a_life(ledger, clock)
    before = values(ledger)
    ledger.accounts.terminate(actor="cli")
    assert values(ledger) == before
    assert ledger.person(ANNA) is not None


def test_terminating_twice_ends_once_and_reactivating_leaves_no_trace(ledger: Ledger, clock: SettableClock) -> None:
    """Given an account, when it is ended twice and taken up, then nothing of it is ever due for closure."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    end = topics(ledger)
    clock.advance(timedelta(days=5))
    assert ledger.accounts.terminate(actor="cli").terminated_at == JANUARY
    assert topics(ledger) == end
    ledger.accounts.reactivate(actor="cli")
    clock.set(JANUARY + timedelta(days=400))
    assert not any(item.action == "destroy_class" for item in planned(ledger).items)


def test_another_process_sees_the_end_at_once(ledger: Ledger, clock: SettableClock, instance: Instance) -> None:
    """Given two processes with ledgers of their own, when one terminates the account, then the other refuses."""
    clock.set(JANUARY)
    willing(ledger, [ANNA])
    campaign = register(ledger)
    other = Ledger(ledger.tenant, instance.services)
    other.account()
    ledger.accounts.terminate(actor="cli")
    assert ask(other, campaign, [ANNA]).refused == {ANNA: "account_terminated"}


# Closed --------------------------------------------------------------------------------------------------------------


def test_mailkai_keeps_subscriber_data_sixty_days_and_account_data_ninety(ledger: Ledger, clock: SettableClock) -> None:
    """Given a Mailkai account ended on 2040-01-15, then classes go on 2040-03-15 and 2040-04-14, and not before."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    days = closing_days(ledger.accounts.state(), pack_of(ledger.accounts.state()))
    by_day: dict[date, set[str]] = {}
    for rule, due in days:
        by_day.setdefault(due, set()).add(rule.retention_class)
    assert by_day == {date(2040, 3, 15): SUBSCRIBER_CLASSES, date(2040, 4, 14): {"content"}}
    for moment, expected in (
        (datetime(2040, 3, 14, 23, tzinfo=UTC), set()),
        (datetime(2040, 3, 15, tzinfo=UTC), SUBSCRIBER_CLASSES),
        (datetime(2040, 4, 13, 23, tzinfo=UTC), SUBSCRIBER_CLASSES),
        (datetime(2040, 4, 14, tzinfo=UTC), SUBSCRIBER_CLASSES | {"content"}),
    ):
        clock.set(moment)
        assert {item.retention_class for item in planned(ledger).items} == expected


def test_mailenium_keeps_thirty_days(instance: Instance, clock: SettableClock) -> None:
    """Given a Mailenium account ended on 2040-01-15, then everything but billing is due on 2040-02-14."""

    clock.set(JANUARY)
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Acme", pack="mailenium", country="DE", minimum_age=0, actor="cli")
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 2, 13, 23, tzinfo=UTC))
    assert planned(ledger).items == ()
    clock.set(datetime(2040, 2, 14, tzinfo=UTC))
    due = {item.retention_class for item in planned(ledger).items}
    assert {"identity", "consent", "engagement", "link", "suppression", "content"} <= due
    assert "billing" not in due


def test_a_closed_account_opens_billing_and_nothing_else(ledger: Ledger, clock: SettableClock) -> None:
    """Given a closed account, then every class is erased by tombstone, and its billing opens as before."""
    a_life(ledger, clock)
    kid = person(ledger, ANNA).person.records_kid
    invoices = ledger.records.streams.of(kid, ["billing"])
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 4, 14, tzinfo=UTC))
    done = run_retention(ledger)
    assert done is not None
    assert ledger.accounts.state().status == "closed"
    found = values(ledger)
    assert {c for c, types in found.items() if Personal in types} == set()
    assert {c for c, types in found.items() if Erased in types} >= {"identity", "consent", "suppression", "content"}
    assert ledger.records.streams.of(kid, ["billing"]) == invoices
    (stream,) = invoices
    (event,) = ledger.log.select_streams([stream])
    fact: Any = ledger.sealing.open(event, invoices[stream])
    assert fact.content.reveal() == {"note": "x"}
    assert ledger.records.streams.of(kid, ["support"]) == {}
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert check_no_send_after_no(ledger) == []


def test_what_is_left_lying_about_is_swept_up(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a closed account, then no row of a projection and no person's key of a gone class is left."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 4, 14, tzinfo=UTC))
    run_retention(ledger)
    with instance.services.writer.transaction() as connection:
        for table in ("standing", "contact_alias", "suppression", "suppression_change", "parked_feedback"):
            left = connection.execute(f"SELECT count(*) FROM lethe.{table} WHERE tenant_id = %s", (ledger.tenant,))
            assert left.fetchone() == (0,), table
    with instance.vault_pool.transaction() as connection:
        rows = connection.execute(
            "SELECT DISTINCT class FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = ANY(%s)",
            (ledger.tenant, sorted(SUBSCRIBER_CLASSES | {"content", "pepper"})),
        )
        assert rows.fetchall() == []
    assert sweep_closed_classes(ledger).rows == 0


def test_no_address_leads_anywhere_in_a_closed_account(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given a closed account, when it is asked by address, here or in a new process, then the key for that is gone."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 4, 14, tzinfo=UTC))
    run_retention(ledger)
    for asked in (ledger, Ledger(ledger.tenant, instance.services)):
        with pytest.raises(KeyDestroyed, match="closed"):
            asked.person(ANNA)
        with pytest.raises(KeyDestroyed):
            asked.erasures.intend([ANNA], reason="other", actor="cli")
        assert asked.accounts.state().status == "closed"
        assert asked.log.select_log(1, 10)


def test_the_rest_of_the_program_goes_on(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a closed account, when the worker projects, does its chores and rebuilds, then nothing stumbles."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 4, 14, tzinfo=UTC))
    run_retention(ledger)
    clock.advance(timedelta(days=1))
    assert catch_up(ledger).parked == 0
    run_daily(ledger)
    assert run_retention(ledger) is None
    for name in ("campaign_view", "change_feed"):
        rebuild(ledger, instance.rebuilder, name, grace_seconds=0)
    with instance.services.writer.transaction() as connection:
        left = connection.execute("SELECT count(*) FROM lethe.standing WHERE tenant_id = %s", (ledger.tenant,))
        assert left.fetchone() == (0,)


def test_billing_goes_after_its_seven_years_also_in_a_closed_account(ledger: Ledger, clock: SettableClock) -> None:
    """Given a closed account with a transaction of 2040-01-15, then its billing is due on 2047-01-16."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 4, 14, tzinfo=UTC))
    run_retention(ledger)
    clock.set(datetime(2047, 1, 15, tzinfo=UTC))
    assert planned(ledger).items == ()
    clock.set(datetime(2047, 1, 16, tzinfo=UTC))
    done = run_retention(ledger)
    assert done is not None
    assert done.keys == 1


def test_reactivation_is_possible_until_destruction_began(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan whose intent is recorded and no key is gone yet, when the account is reactivated, it is too late."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 3, 15, tzinfo=UTC))
    plan = planned(ledger)
    assert all(item.closes_account for item in plan.items if item.action == "destroy_class")

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(carrying_out.CarryingOut, "_do", die)
    with pytest.raises(KeyboardInterrupt):
        applied(ledger, plan)
    monkeypatch.undo()
    with pytest.raises(AccountRefused) as refused:
        ledger.accounts.reactivate(actor="cli")
    assert refused.value.reason == "account_closed"
    (done,) = finish_open_plans(ledger)
    assert done.items == len(plan.items)


def test_a_reactivation_before_the_intent_wins(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan that would close the account, when it is reactivated first, then the plan is refused."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 3, 15, tzinfo=UTC))
    plan = planned(ledger)
    ledger.accounts.reactivate(actor="cli")
    with pytest.raises(PlanRefused):
        applied(ledger, plan)
    assert ledger.person(ANNA) is not None
    assert ledger.accounts.state().status == "active"


def test_a_reactivation_between_the_look_and_the_intent_wins(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a reactivation that comes after the look, when the intent is to be recorded, then it is refused."""
    a_life(ledger, clock)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 3, 15, tzinfo=UTC))
    plan = planned(ledger)
    looked = intending.Intending._require_same

    def look_and_reactivate(self: Any) -> None:
        looked(self)
        ledger.accounts.reactivate(actor="cli")

    monkeypatch.setattr(intending.Intending, "_require_same", look_and_reactivate)
    with pytest.raises(PlanRefused, match="reactivated"):
        applied(ledger, plan)
    assert "keys.destruction_intended.v1" not in topics(ledger)


def test_a_hold_outlives_the_account(ledger: Ledger, clock: SettableClock) -> None:
    """Given a held person, when the account is closed, then theirs alone opens, until the hold ends (FAULTS 13)."""
    a_life(ledger, clock)
    held = hold(ledger, ANNA)
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 4, 14, tzinfo=UTC))
    anna, bert = person(ledger, ANNA).person, person(ledger, BERT).person
    assert set(kept_back(planned(ledger))) == {"feed:class", "suppression:class"}
    run_retention(ledger)
    ledger.keyring.forget_all()
    assert not isinstance(ledger.keyring.opening_scope(anna.kid, "identity", "2040-01"), Erased)
    assert isinstance(ledger.keyring.opening_scope(bert.kid, "identity", "2040-01"), Erased)
    ledger.holds.release(held.hold_id, actor="cli")
    finish_holds(ledger)
    assert set(items(planned(ledger))) == {"feed:class", "suppression:class"}
    run_retention(ledger)
    ledger.keyring.forget_all()
    assert isinstance(ledger.keyring.opening_scope(anna.kid, "identity", "2040-01"), Erased)
    name = KeyName(TENANT_HOLDER, "suppression")
    assert name in ledger.services.vault.find(ledger.tenant, [name]).tombstones


def test_a_hold_on_the_account_stops_its_closure(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on a terminated account, then nothing of it goes, and it can still be taken up again."""
    a_life(ledger, clock)
    hold(ledger, kind="account")
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2041, 1, 1, tzinfo=UTC))
    assert run_retention(ledger) is None
    assert ledger.accounts.reactivate(actor="cli").status == "active"
