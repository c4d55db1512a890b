"""The person behind an account is forgotten when the account has ended and its days have run, and not a day earlier."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.bootstrap import Instance
from audit.attacks.links import LinksAttack
from audit.fsck import require_whole_log
from audit.sends.after_no import check_no_send_after_no
from domain.account import AccountRefused
from domain.category import ACCOUNT_HOLDER
from domain.facts import personal_fields
from domain.personal import Erased
from domain.subject_commands import ACCOUNTS_HELD_MAX, AssignAccount, CommandRefused, SayNo
from ledger.account_holders import NOT_THE_OPERATOR
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.erasures import STATE_KEYS_DESTROYED, ErasureDesk
from ledger.errors import UnknownAccount
from ledger.subjects import Act
from projections.change_feed import changes_after
from projections.rebuild import rebuild
from projections.worker import catch_up
from retention.certificates.store import read_certificates
from retention.daily import run_daily
from retention.plans import account_holders
from retention.plans.apply import apply_plan, finish_open_plans
from retention.plans.carrying_out import CarryingOut
from retention.plans.file import PlanRefused
from retention.plans.model import Plan
from retention.plans.schedule import run_retention
from tests.acts import NEWSLETTER, add, ask, person, register, say, stream_of, topics
from tests.retention.plans import (
    ANNA,
    BERT,
    CLEO,
    applied,
    assert_done_once,
    facts_of_plan,
    hold,
    items,
    kept_back,
    of_pack,
    planned,
    record,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store

ENDED = datetime(2040, 1, 15, 12, tzinfo=UTC)
DUE = datetime(2040, 4, 14, tzinfo=UTC)
"""Mailkai: 90 days after 2040-01-15, which is 16 days of January, 29 of February, 31 of March and 14 of April."""

HOLDERS = "identity:account_holders"


@pytest.fixture
def operator(instance: Instance, clock: SettableClock) -> Ledger:
    """The platform's own account, under Mailkai."""
    clock.set(ENDED - timedelta(days=100))
    return opened(instance, "mailkai", operator=True)


@pytest.fixture
def customer(instance: Instance, operator: Ledger) -> Ledger:
    """A customer's account that Anna holds."""
    ledger = opened(instance, "mailkai")
    assign(operator, ANNA, ledger)
    return ledger


def opened(instance: Instance, pack: str, *, operator: bool = False) -> Ledger:
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Acme", pack=pack, country="DE", minimum_age=0, actor="cli", operator=operator)
    return ledger


def assign(operator: Ledger, email: str, *accounts: Ledger) -> None:
    for account in accounts:
        operator.act(operator.holders.assignment(account.tenant, email, actor="cli"))


def end(clock: SettableClock, *accounts: Ledger, on: datetime = ENDED) -> None:
    """These accounts are terminated; the clock stands there."""
    clock.set(on)
    for account in accounts:
        account.accounts.terminate(actor="cli")


def personal_values(ledger: Ledger, stream: UUID) -> list[Any]:
    """What a person's own stream holds of them, as anybody with all living keys finds it."""
    ledger.keyring.forget_all()
    facts = [ledger.sealing.open(event) for event in ledger.log.select_streams([stream])]
    return [
        getattr(fact, name)
        for fact in facts
        for name, retention_class in personal_fields(type(fact)).items()
        if retention_class not in fact.SEALED_BY and getattr(fact, name) is not None
    ]


def assert_forgotten(ledger: Ledger, stream: UUID) -> None:
    held = personal_values(ledger, stream)
    assert held
    assert all(isinstance(value, Erased) for value in held)


# The link ------------------------------------------------------------------------------------------------------------


def test_a_stranger_becomes_an_account_holder(operator: Ledger, customer: Ledger) -> None:
    """Given an address nobody knew, when it is said to hold an account, then it is a subject of that category."""
    row = person(operator, ANNA)
    assert (row.standing.category, row.standing.accounts) == (ACCOUNT_HOLDER, (customer.tenant.hex,))
    assert [fact.TOPIC for fact in stream_of(operator, row)] == ["contact.added.v1", "contact.account_assigned.v1"]


def test_a_prospect_who_takes_an_account_becomes_its_holder(operator: Ledger, customer: Ledger) -> None:
    """Given a known contact, when they take an account, then nobody new is made and their category changes."""
    add(operator, [BERT])
    subject = person(operator, BERT).person.subject
    assign(operator, BERT, customer)
    row = person(operator, BERT)
    assert (row.person.subject, row.standing.category) == (subject, ACCOUNT_HOLDER)


def test_said_twice_it_is_recorded_once(operator: Ledger, customer: Ledger) -> None:
    """Given an assignment, when it is repeated, then nothing is written."""
    before = topics(operator)
    assign(operator, ANNA, customer)
    assert topics(operator) == before


def test_only_the_operator_knows_holders_and_only_of_accounts_that_are_here(operator: Ledger, customer: Ledger) -> None:
    """Given another account than the operator's, or an account that is nowhere, then the assignment is refused."""
    with pytest.raises(AccountRefused) as refused:
        customer.holders.assignment(operator.tenant, ANNA, actor="cli")
    assert refused.value.reason == NOT_THE_OPERATOR
    with pytest.raises(UnknownAccount):
        operator.holders.assignment(uuid4(), ANNA, actor="cli")


def test_nobody_holds_more_accounts_than_a_standing_can_name(operator: Ledger) -> None:
    """Given a person with as many accounts as there may be, then one more is refused by name."""
    acts = [Act(AssignAccount(uuid4(), BERT), address=BERT, actor="cli") for _ in range(ACCOUNTS_HELD_MAX)]
    assert all(outcome.facts for outcome in operator.subjects.act(acts)[0])
    with pytest.raises(CommandRefused) as refused:
        operator.act(Act(AssignAccount(uuid4(), BERT), address=BERT, actor="cli"))
    assert refused.value.reason == "too_many_accounts"


def test_no_plain_byte_of_the_operators_log_names_the_account(operator: Ledger, customer: Ledger) -> None:
    """Given a holder, then neither entry nor sealed bytes show the account's id: two holders cannot be joined (I11)."""
    for event in operator.log.select_log(1, 100):
        for stored in (event.state, event.sealed or b""):
            assert customer.tenant.bytes not in stored
            assert customer.tenant.hex.encode() not in stored


def test_a_rebuild_finds_the_accounts_again(instance: Instance, operator: Ledger, customer: Ledger) -> None:
    """Given holders, when the standing is built again from the log, then it equals the one that served."""
    before = person(operator, ANNA)
    rebuild(operator, instance.rebuilder, "standing", grace_seconds=0)
    assert person(operator, ANNA) == before


# Due -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "due", "clause"),
    [("mailkai", date(2040, 4, 14), "8 account"), ("mailenium", date(2040, 2, 14), "5.1 terminated")],
)
def test_a_holder_is_due_on_the_day_that_the_policy_promises(
    instance: Instance, clock: SettableClock, pack: str, due: date, clause: str
) -> None:
    """Given an account that ended on 2040-01-15, then its holder is due on that day of the policy, not before."""
    clock.set(ENDED - timedelta(days=1))
    operator, customer = opened(instance, pack, operator=True), opened(instance, pack)
    assign(operator, ANNA, customer)
    end(clock, customer)
    midnight = datetime(due.year, due.month, due.day, tzinfo=UTC)
    clock.set(midnight - timedelta(microseconds=1))
    assert HOLDERS not in items(planned(operator))
    clock.set(midnight)
    item = items(planned(operator))[HOLDERS]
    assert (item.action, item.persons, item.due_on, item.clause) == ("erase_holders", 1, due, clause)
    assert HOLDERS not in items(planned(customer)), "The customer's own plan is about the customer's contacts."


def test_a_holder_whose_account_runs_is_never_due(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given two holders and one ended account, then only its holder is due, however late it gets."""
    assign(operator, BERT, operator)
    end(clock, customer)
    clock.set(DUE + timedelta(days=1000))
    assert items(planned(operator))[HOLDERS].persons == 1


def test_a_holder_of_two_accounts_is_due_after_the_later_end(
    instance: Instance, operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given two accounts of one person that end 40 days apart, then nothing is due before the second one's days ran."""
    second = opened(instance, "mailkai")
    assign(operator, ANNA, second)
    end(clock, customer)
    clock.set(DUE + timedelta(days=10))
    assert HOLDERS not in items(planned(operator)), "One account of hers still runs."
    end(clock, second, on=ENDED + timedelta(days=40))
    clock.set(DUE + timedelta(days=40) - timedelta(microseconds=1))
    assert HOLDERS not in items(planned(operator))
    clock.set(DUE + timedelta(days=40))
    assert items(planned(operator))[HOLDERS].due_on == date(2040, 5, 24)


def test_a_reactivation_takes_it_back(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given an ended account whose termination is taken back, then its days begin anew with the next end."""
    end(clock, customer)
    clock.set(ENDED + timedelta(days=59))
    customer.accounts.reactivate(actor="cli")
    clock.set(DUE)
    assert HOLDERS not in items(planned(operator))
    end(clock, customer, on=DUE)
    clock.set(DUE + timedelta(days=89))
    assert HOLDERS not in items(planned(operator))
    clock.set(DUE + timedelta(days=90))
    assert HOLDERS in items(planned(operator))


def test_a_reactivation_after_the_plan_makes_it_another_plan(
    operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given a plan that names a holder, when the account is taken up again, then the plan is refused."""
    end(clock, customer)
    clock.set(DUE)
    plan = planned(operator)
    customer.accounts.reactivate(actor="cli")
    with pytest.raises(PlanRefused, match=HOLDERS):
        applied(operator, plan)
    assert operator.person(ANNA) is not None
    assert "keys.destruction_intended.v1" not in topics(operator)


def test_a_reactivation_after_the_intent_spares_the_holder(
    operator: Ledger, customer: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan cut off after its intent, when the account comes back before it ends, its holder is spared."""
    end(clock, customer)
    clock.set(DUE)
    plan = planned(operator)
    cut_off(operator, plan, monkeypatch)
    customer.accounts.reactivate(actor="cli")
    (done,) = finish_open_plans(operator)
    assert (done.erased, done.spared) == (0, 1)
    assert operator.person(ANNA) is not None
    assert_done_once(operator, plan)


def cut_off(operator: Ledger, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply a plan up to its intent, and no further."""

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CarryingOut, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            applied(operator, plan)


# Held ----------------------------------------------------------------------------------------------------------------


def test_a_held_holder_waits_and_is_told(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given two due holders and a hold on one, then the other goes; released, the held one does too (FAULTS 13)."""
    assign(operator, BERT, customer)
    held = hold(operator, ANNA)
    end(clock, customer)
    clock.set(DUE)
    item = items(planned(operator))[HOLDERS]
    assert item.held is not None
    assert (item.persons, item.held.persons, item.held.holds) == (1, 1, (str(held.hold_id),))
    applied(operator)
    assert operator.person(BERT) is None
    assert operator.person(ANNA) is not None
    assert set(kept_back(planned(operator))) == {HOLDERS}
    assert run_retention(operator) is None
    operator.holds.release(held.hold_id, actor="cli")
    applied(operator)
    assert operator.person(ANNA) is None


def test_a_hold_between_the_plans_intent_and_the_persons_own_wins(
    operator: Ledger, customer: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan cut off after its intent, when its holder is held, they are spared and the hold is not too late."""
    end(clock, customer)
    clock.set(DUE)
    cut_off(operator, planned(operator), monkeypatch)
    placed = hold(operator, ANNA)
    assert not getattr(placed, "too_late", ())
    (done,) = finish_open_plans(operator)
    assert (done.erased, done.spared) == (0, 1)
    assert operator.person(ANNA) is not None


def test_a_hold_on_the_operators_account_keeps_all_of_them(
    operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given a hold on the whole account, then its due holders are told as kept back and nobody goes."""
    hold(operator, kind="account")
    end(clock, customer)
    clock.set(DUE)
    back = kept_back(planned(operator))[HOLDERS]
    assert back.held is not None
    assert back.held.persons == 1
    assert run_retention(operator) is None


# Forgotten -----------------------------------------------------------------------------------------------------------


def test_a_holder_is_erased_billing_stays_and_the_certificate_says_so(
    operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given a holder with invoices and letters, when the plan is applied, then only the invoices outlive them."""
    row = person(operator, ANNA)
    stream, kid = UUID(bytes=row.person.subject), row.person.records_kid
    record(operator, ANNA, clock().date())
    record(operator, ANNA, clock().date(), "support")
    (invoice,) = operator.records.streams.of(kid, ["billing"])
    end(clock, customer)
    clock.set(DUE)
    plan = planned(operator)
    done = applied(operator, plan)
    assert (done.items, done.erased, done.spared) == (1, 1, 0)
    assert operator.person(ANNA) is None
    assert_forgotten(operator, stream)
    assert operator.records.streams.of(kid) == {}, "Kept billing has another holder, which nothing leads to."
    with operator.services.vault.pool.transaction() as connection:
        left = connection.execute(
            "SELECT class FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND length(holder) = 16 AND period = ''",
            (operator.tenant,),
        ).fetchall()
    assert left == [("billing",)]
    assert operator.log.select_streams([invoice])
    (status,) = operator.erasures.status(plan.plan_id)
    assert (status.state, status.cause) == (STATE_KEYS_DESTROYED, "account_closure")
    assert status.certificate_id is not None
    with operator.services.writer.transaction() as connection:
        certificates = read_certificates(connection, operator.tenant, [status.certificate_id, plan.plan_id])
    of_person = certificates[status.certificate_id].document
    assert of_person["about"]["clauses"] == ["8 account"]
    assert of_person["about"]["cause"] == "account_closure"
    assert {kept["class"] for kept in of_person["kept"]} == {"suppression", "billing"}
    assert "said no" in of_person["kept"][0]["why"]
    (item,) = certificates[plan.plan_id].document["about"]["items"]
    assert (item["item"], item["persons_erased"], item["keys"]) == (HOLDERS, 1, 0)
    assert_done_once(operator, plan)
    require_whole_log(operator.services.writer.url, operator.tenant)


def test_a_plan_applied_twice_changes_nothing_the_second_time(
    operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given an applied plan, when it is applied again, then it says so, and a holder who came back is left alone."""
    end(clock, customer)
    clock.set(DUE)
    plan = planned(operator)
    applied(operator, plan)
    assign(operator, ANNA, operator)
    before = topics(operator)
    again = applied(operator, plan)
    assert (again.again, again.erased) == (True, 1)
    assert topics(operator) == before
    assert operator.person(ANNA) is not None


def test_who_was_erased_before_is_in_no_plan(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given a holder who asked to be forgotten, when the account's days have run, then nobody is due."""
    operator.erasures.intend([ANNA], reason="subject_request", actor="cli")
    end(clock, customer)
    clock.set(DUE)
    assert HOLDERS not in items(planned(operator))


def test_who_is_erased_after_the_intent_is_erased_once(
    operator: Ledger, customer: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan cut off after its intent, when the holder is erased on request first, then the plan spares them."""
    row = person(operator, ANNA)
    end(clock, customer)
    clock.set(DUE)
    cut_off(operator, planned(operator), monkeypatch)
    operator.erasures.intend([ANNA], reason="subject_request", actor="cli")
    (done,) = finish_open_plans(operator)
    assert (done.erased, done.spared) == (0, 1)
    told = [fact.TOPIC for fact in stream_of(operator, row)]
    assert told.count("erasure.intended.v1") == told.count("keys.destroyed.v1") == 1


@pytest.mark.parametrize("step", ["expire", "remember", "acknowledge", "finish", "count_of"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_it_converges(
    operator: Ledger, customer: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Given a plan killed before or after a step, when a worker goes on, then each holder is erased once (FAULTS 7)."""
    assign(operator, BERT, customer)
    streams = [UUID(bytes=person(operator, who).person.subject) for who in (ANNA, BERT)]
    end(clock, customer)
    clock.set(DUE)
    plan = planned(operator)
    real = getattr(ErasureDesk, step)

    def killed(*arguments: Any, **more: Any) -> Any:
        if after:
            real(*arguments, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ErasureDesk, step, killed)
        with pytest.raises(KeyboardInterrupt):
            applied(operator, plan)
    (done,) = finish_open_plans(operator)
    assert (done.erased, done.spared) == (2, 0)
    for stream in streams:
        assert_forgotten(operator, stream)
        told = [event.topic for event in operator.log.select_streams([stream])]
        assert told.count("erasure.intended.v1") == told.count("keys.destroyed.v1") == 1
    assert_done_once(operator, plan)


def test_many_holders_go_in_pages(
    operator: Ledger, customer: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more holders than a page, an append or a plan takes, then all of them go, in as many plans as it takes."""
    people = [f"holder{number}@example.com" for number in range(11)]
    for email in people:
        assign(operator, email, customer)
    end(clock, customer)
    clock.set(DUE)
    monkeypatch.setattr(account_holders, "ROWS_PER_PAGE", 4)
    monkeypatch.setattr(account_holders, "HOLDERS_PER_PLAN", 7)
    monkeypatch.setattr("retention.plans.carrying_out.HOLDERS_PER_APPEND", 3)
    assert applied(operator).erased == 7
    assert applied(operator).erased == 5
    assert all(operator.person(email) is None for email in (ANNA, *people))
    assert HOLDERS not in items(planned(operator))


# What is left --------------------------------------------------------------------------------------------------------


def test_who_said_nothing_can_come_back_and_who_said_no_is_remembered(
    operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given holders with and without a no, when they are forgotten, then only the no outlives its address (I7)."""
    assign(operator, BERT, customer)
    assign(operator, CLEO, customer)
    say(operator, [ANNA, BERT, CLEO], "grant")
    say(operator, [BERT], "withdraw")
    operator.subjects.act([Act(SayNo("objection", "marketing"), address=CLEO, actor="cli")])
    end(clock, customer)
    clock.set(DUE)
    applied(operator)
    looked = operator.suppressions.look_up([ANNA, BERT, CLEO])
    assert [[entry[:2] for entry in one.entries] for one in looked] == [
        [],
        [(f"purpose:{NEWSLETTER}", "withdrawal")],
        [("marketing", "objection")],
    ]
    clock.advance(timedelta(days=1))
    run_daily(operator)
    add(operator, [ANNA, BERT, CLEO])
    say(operator, [ANNA, BERT, CLEO], "grant", evidence=None)
    asked = ask(operator, register(operator), [ANNA, BERT, CLEO])
    assert set(asked.allowed) == {ANNA}
    assert check_no_send_after_no(operator) == []


def test_senders_are_not_told_to_stop(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given a holder who is forgotten because the account ended, then the change feed tells of no suppression."""
    end(clock, customer)
    clock.set(DUE)
    applied(operator)
    catch_up(operator)
    changes, _ = changes_after(operator.services.reader, operator.keyring, operator.tenant, None, 100)
    assert changes == []


def test_who_comes_back_is_somebody_new(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given a forgotten holder, when they take an account again, then the old events stay closed (I5)."""
    old = person(operator, ANNA)
    end(clock, customer)
    clock.set(DUE)
    applied(operator)
    clock.advance(timedelta(days=1))
    assign(operator, ANNA, operator)
    new = person(operator, ANNA)
    assert new.person.subject != old.person.subject
    assert new.standing.accounts == (operator.tenant.hex,)
    assert_forgotten(operator, UUID(bytes=old.person.subject))
    assert HOLDERS not in items(planned(operator))


def test_nothing_leads_back_to_a_forgotten_holder(
    server: EmbeddedPostgres, operator: Ledger, customer: Ledger, clock: SettableClock
) -> None:
    """Given a forgotten holder who holds the same account again, then nobody gets from there to who they were (I11)."""
    old = UUID(bytes=person(operator, ANNA).person.subject)
    assign(operator, BERT, customer)
    assign(operator, CLEO, customer)
    end(clock, customer)
    clock.set(DUE)
    attack = LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=operator.services.vault.provider,
        tenant=operator.tenant,
    )
    assert old in {lead.stream for lead in attack.leads(ANNA)}, "The control: before, the address leads there."
    applied(operator)
    clock.advance(timedelta(days=1))
    run_daily(operator)
    clock.advance(timedelta(days=1))
    assign(operator, ANNA, customer)  # The same account's id stands in the new stream as stood in the old one.
    found = {lead.stream for lead in attack.leads(ANNA)}
    assert UUID(bytes=person(operator, ANNA).person.subject) in found
    assert old not in found


def test_the_plans_facts_count_and_name_nobody(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given an applied plan, then its facts say how many were erased, and hold no id of person or account."""
    row = person(operator, ANNA)
    end(clock, customer)
    clock.set(DUE)
    plan = planned(operator)
    applied(operator, plan)
    said = str([fact.model_dump() for fact in facts_of_plan(operator, plan.plan_id)])
    assert "'erased': 1" in said
    for secret in (row.person.subject, row.person.kid, customer.tenant.bytes):
        assert secret.hex() not in said
        assert str(UUID(bytes=secret)) not in said


def test_the_operators_own_end_takes_everybody(operator: Ledger, customer: Ledger, clock: SettableClock) -> None:
    """Given an operator that ends as well, then whole classes go, and no item about holders is made beside them."""
    end(clock, customer, operator)
    clock.set(DUE)
    plan = planned(operator)
    assert "identity:class" in items(plan)
    assert HOLDERS not in items(plan)
    apply_plan(operator, of_pack("mailkai"), plan)
    assert HOLDERS not in items(planned(operator))
