"""The plan: what is due, on which day, under which clause, what holds keep back; and asking destroys nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from api.bootstrap import Instance
from domain.hold import Period
from domain.ids import month_of
from ledger.application import Ledger
from ledger.entry import canonical
from ledger.errors import DestructionTooEarly
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.signing import sign
from retention.plans import counts as plan_counts
from retention.plans.file import (
    CONTEXT,
    PLAN_AGE_DAYS_MAX,
    PLAN_BYTES_MAX,
    PlanInvalid,
    PlanRefused,
    read_plan,
    read_plan_file,
    require_fresh,
    signed,
)
from retention.plans.plan import made_again
from retention.policy.adopting import pack_of
from retention.policy.clocks import Span
from retention.policy.pack import load_pack
from tests.acts import person, topics, willing
from tests.retention.plans import (
    ANNA,
    BERT,
    DUE,
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


def test_a_month_is_due_on_its_day_and_not_before(ledger: Ledger, clock: SettableClock) -> None:
    """Given engagement of January 2040, then it is due under its clause on 2042-01-01, and on no day before."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE - timedelta(microseconds=1))
    assert planned(ledger).items == ()
    clock.set(DUE)
    found = items(planned(ledger))
    assert set(found) == {"engagement:2040-01", "engagement_technical:2040-01", "link:2040-01"}
    engagement = found["engagement:2040-01"]
    assert (engagement.due_on, engagement.clause) == (date(2042, 1, 1), "8 usage & analytics")
    assert engagement.aggregate_first


def test_asking_destroys_nothing(ledger: Ledger, clock: SettableClock) -> None:
    """Given something due, when plans are made, then the log has not grown and every key lives."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    before = topics(ledger)
    planned(ledger)
    planned(ledger)
    assert topics(ledger) == before
    name = KeyName(TENANT_HOLDER, "engagement", "2040-01")
    assert name in ledger.services.vault.find(ledger.tenant, [name]).keys


def test_events_are_counted_and_what_is_not_is_said(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given two clicks, then two events are told for their classes; the link key's, and too long a log, are not."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    touched = planned(ledger).touched
    assert touched["engagement:2040-01"].events == 2
    assert touched["engagement_technical:2040-01"].events == 2
    assert touched["link:2040-01"].events is None
    monkeypatch.setattr(plan_counts, "EVENTS_COUNTED_MAX", 1)
    assert planned(ledger).touched["engagement:2040-01"].events is None


def test_events_of_other_months_are_not_counted(ledger: Ledger, clock: SettableClock) -> None:
    """Given clicks in January and in February, then each month's item counts its own."""
    a_month_of_engagement(ledger, clock, [ANNA])
    february = datetime(2040, 2, 10, tzinfo=UTC)
    clock.set(february)
    record(ledger, ANNA, february.date(), "usage")
    record(ledger, ANNA, february.date(), "usage")
    clock.set(datetime(2042, 2, 1, tzinfo=UTC))
    touched = planned(ledger).touched
    assert touched["engagement:2040-01"].events == 1
    assert touched["usage:2040-02"].events == 2


def test_a_person_is_due_by_their_own_clock(ledger: Ledger, clock: SettableClock) -> None:
    """Given two persons who wrote to support, then only the one whose three years are over is due."""
    clock.set(JANUARY)
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, date(2040, 1, 10), "support")
    record(ledger, BERT, date(2040, 1, 11), "support")
    clock.set(datetime(2043, 1, 9, tzinfo=UTC))
    assert "support:persons" not in items(planned(ledger))
    clock.set(datetime(2043, 1, 10, tzinfo=UTC))
    due = items(planned(ledger))["support:persons"]
    assert (due.persons, due.due_on, due.last_on) == (1, date(2043, 1, 10), date(2040, 1, 10))
    assert planned(ledger).touched["support:persons"].persons == 1


def test_billing_is_due_on_the_day_after_its_seven_years(ledger: Ledger, clock: SettableClock) -> None:
    """Given a transaction of 2040-01-15, then its key is due on 2047-01-16, because seven years are a minimum."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date())
    clock.set(datetime(2047, 1, 15, tzinfo=UTC))
    assert "billing:persons" not in items(planned(ledger))
    clock.set(datetime(2047, 1, 16, tzinfo=UTC))
    assert items(planned(ledger))["billing:persons"].minimum


def test_the_log_corrects_a_clock_that_a_restored_vault_forgot(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given a vault that has forgotten a later transaction, then the log is asked and the key is not due."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, date(2040, 1, 15))
    clock.set(datetime(2042, 6, 1, tzinfo=UTC))
    record(ledger, ANNA, date(2042, 6, 1))
    with instance.vault_pool.transaction() as connection:
        moved = connection.execute(
            "UPDATE lethe_vault.wrapped_key SET last_on = '2040-01-15' "
            "WHERE tenant_id = %s AND class = 'billing' AND holder <> ''",
            (ledger.tenant,),
        )
        assert moved.rowcount == 1
    clock.set(datetime(2047, 1, 16, tzinfo=UTC))
    assert "billing:persons" not in items(planned(ledger))
    clock.set(datetime(2049, 6, 2, tzinfo=UTC))
    assert items(planned(ledger))["billing:persons"].persons == 1


def test_no_path_destroys_billing_before_its_time(ledger: Ledger, clock: SettableClock) -> None:
    """Given a key of billing that is six years old, when each method of the vault is told to destroy it, it refuses."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date())
    kid = person(ledger, ANNA).person.records_kid
    clock.set(datetime(2047, 1, 15, tzinfo=UTC))
    vault, when = ledger.services.vault, clock()
    early = KeyName(kid, "billing")
    month = KeyName(TENANT_HOLDER, "billing", month_of(JANUARY))
    with pytest.raises(DestructionTooEarly):
        vault.destroy_keys(ledger.tenant, [early], when=when, cause="test")
    with pytest.raises(DestructionTooEarly):
        vault.destroy_holder(ledger.tenant, kid, when=when, cause="test", certificate=None)
    with pytest.raises(DestructionTooEarly):
        vault.destroy_period(ledger.tenant, "billing", month.period, when=when, cause="test")
    with pytest.raises(DestructionTooEarly):
        vault.destroy_class(ledger.tenant, "billing", when=when, cause="test")
    assert set(vault.find(ledger.tenant, [early, month]).keys) == {early, month}
    # The control: on the day after its time the same call destroys it; the month's key is kept until its end has aged.
    clock.set(datetime(2047, 1, 16, tzinfo=UTC))
    assert len(vault.destroy_keys(ledger.tenant, [early], when=clock(), cause="test")) == 1


def test_a_clock_that_runs_ahead_of_the_server_destroys_no_billing(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a clock that jumped ten years ahead, when billing is to be destroyed, then the server's clock objects."""
    clock.reset()
    a_transaction_of_yesterday(ledger, clock)
    kid = person(ledger, ANNA).person.records_kid
    monkeypatch.setattr(ledger.services.vault.minimums, "real_time", True)
    ahead = datetime.now(UTC) + timedelta(days=3653)
    with pytest.raises(DestructionTooEarly):
        ledger.services.vault.destroy_keys(ledger.tenant, [KeyName(kid, "billing")], when=ahead, cause="test")


def a_transaction_of_yesterday(ledger: Ledger, clock: SettableClock) -> None:
    clock.set(datetime.now(UTC))
    willing(ledger, [ANNA])
    record(ledger, ANNA, (clock() - timedelta(days=1)).date())


# Holds ---------------------------------------------------------------------------------------------------------------


def test_a_hold_on_a_period_keeps_it_back_and_says_why(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on January's engagement, then that item is kept back by name and the others are due (FAULTS 13)."""
    a_month_of_engagement(ledger, clock)
    held = hold(ledger, kind="period", periods=(Period("engagement", "2040-01"),))
    clock.set(DUE)
    plan = planned(ledger)
    assert set(items(plan)) == {"engagement_technical:2040-01", "link:2040-01"}
    back = kept_back(plan)["engagement:2040-01"].held
    assert back is not None
    assert (back.holds, back.why, back.persons) == ((str(held.hold_id),), "a hold on the period", None)


def test_a_hold_on_the_account_keeps_everything_back(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on the account, then nothing is due; released, all of it is."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    held = hold(ledger, kind="account")
    clock.set(datetime(2043, 6, 1, tzinfo=UTC))
    plan = planned(ledger)
    assert plan.items == ()
    assert {"engagement:2040-01", "link:2040-01", "support:persons"} <= set(kept_back(plan))
    ledger.holds.release(held.hold_id, actor="cli")
    assert {"engagement:2040-01", "link:2040-01", "support:persons"} <= set(items(planned(ledger)))


def test_a_hold_on_a_person_takes_them_out_of_an_item(ledger: Ledger, clock: SettableClock) -> None:
    """Given two persons due for support and a hold on one, then one is due and the other told as held."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    record(ledger, BERT, JANUARY.date(), "support")
    held = hold(ledger, ANNA)
    clock.set(datetime(2043, 6, 1, tzinfo=UTC))
    due = items(planned(ledger))["support:persons"]
    assert due.persons == 1
    assert due.held is not None
    assert (due.held.persons, due.held.holds) == (1, (str(held.hold_id),))


# The digest ----------------------------------------------------------------------------------------------------------


def test_the_same_facts_give_the_same_digest(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan, when it is made again for its day, even on a later one, then its digest is the same."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    clock.set(datetime(2043, 6, 1, tzinfo=UTC))
    plan = planned(ledger)
    clock.advance(timedelta(days=40))
    assert made_again(ledger, pack_of(ledger.accounts.state()), plan).digest == plan.digest
    assert planned(ledger).digest != plan.digest


def test_other_persons_give_another_digest(ledger: Ledger, clock: SettableClock) -> None:
    """Given as many persons as before and one of them another, then the digest says that it is another plan."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    clock.set(datetime(2043, 6, 1, tzinfo=UTC))
    before = planned(ledger)
    record(ledger, ANNA, date(2043, 5, 1), "support")
    record(ledger, BERT, date(2040, 1, 15), "support")
    after = planned(ledger)
    assert items(before)["support:persons"].persons == items(after)["support:persons"].persons == 1
    assert before.digest != after.digest


def test_a_plan_names_nobody(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan about persons, then its file has no kid, handle, subject or fingerprint of theirs."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    clock.set(datetime(2043, 6, 1, tzinfo=UTC))
    who = person(ledger, ANNA)
    raw = signed(ledger, planned(ledger))
    assert b"support:persons" in raw
    for secret in (who.person.kid, who.person.records_kid, who.person.subject, who.person.handle, who.fingerprint):
        assert secret.hex().encode() not in raw
        assert secret not in raw


# The file ------------------------------------------------------------------------------------------------------------


def test_a_signed_plan_comes_back_as_it_was(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan, when it is written and read, then it is the same plan, also with holds and persons in it."""
    a_month_of_engagement(ledger, clock)
    record(ledger, ANNA, JANUARY.date(), "support")
    record(ledger, BERT, JANUARY.date(), "support")
    hold(ledger, ANNA)
    hold(ledger, kind="period", periods=(Period("engagement", "2040-01"),))
    clock.set(datetime(2043, 6, 1, tzinfo=UTC))
    plan = planned(ledger)
    read = read_plan(ledger, signed(ledger, plan))
    assert (read.items, read.kept_back, read.digest, read.touched) == (
        plan.items,
        plan.kept_back,
        plan.digest,
        dict(plan.touched),
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row["items"].pop(),
        lambda row: row["items"][0].update(period="2040-02"),
        lambda row: row["items"][0].update(due_on="2041-01-01"),
        lambda row: row["items"][0].update(events_touched=0),
        lambda row: row.update(as_of="2042-02-01"),
        lambda row: row.update(made_at="2043-01-01T00:00:00.000000Z"),
        lambda row: row.update(digest="0" * 64),
        lambda row: row.update(signature="0" * 128),
        lambda row: row.update(signature="zz"),
        lambda row: row.pop("signature"),
        lambda row: row.update(more=True),
    ],
)
def test_a_plan_edited_by_hand_is_refused(ledger: Ledger, clock: SettableClock, change: object) -> None:
    """Given a signed plan, when any part of it is changed, then it is refused before anything is looked at."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    row = orjson.loads(signed(ledger, planned(ledger)))
    assert callable(change)
    change(row)
    with pytest.raises(PlanInvalid):
        read_plan(ledger, canonical(row))


def test_a_plan_signed_for_something_else_is_refused(ledger: Ledger, clock: SettableClock) -> None:
    """Given the account's own signature over the same bytes in another context, then it is none over a plan."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    row = orjson.loads(signed(ledger, planned(ledger)))
    del row["signature"]
    elsewhere = sign(ledger.keyring, b"lethe.certificate.v1", canonical(row))
    with pytest.raises(PlanInvalid):
        read_plan(ledger, canonical(row | {"signature": elsewhere.hex()}))
    here = sign(ledger.keyring, CONTEXT, canonical(row))
    assert read_plan(ledger, canonical(row | {"signature": here.hex()})).items


def test_a_plan_of_another_account_is_refused(ledger: Ledger, instance: Instance, clock: SettableClock) -> None:
    """Given a plan, when another account reads it, then it says whose it is not."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    raw = signed(other, planned(other))
    with pytest.raises(PlanRefused, match="another account") as refused:
        read_plan(ledger, raw)
    assert refused.value.reason == "plan_of_another_account"


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format":"lethe-retention-plan"'])
def test_what_is_no_plan_is_refused(ledger: Ledger, raw: bytes) -> None:
    """Given bytes that are no plan, then they are refused by name, not by a traceback."""
    with pytest.raises(PlanInvalid):
        read_plan(ledger, raw)


def test_a_file_that_is_far_too_large_is_not_read(ledger: Ledger, tmp_path: Path) -> None:
    """Given a file of a size that no plan has, then it is refused unread."""
    path = tmp_path / "plan.json"
    with path.open("wb") as sparse:
        sparse.truncate(PLAN_BYTES_MAX + 1)
    with pytest.raises(PlanInvalid, match="at most"):
        read_plan_file(ledger, path)


def test_an_old_plan_and_one_of_another_pack_are_refused(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan, then it can be applied for seven days, under its own pack, and not before its day."""
    clock.set(DUE)
    pack = load_pack("mailkai")
    plan = planned(ledger)
    require_fresh(plan, pack, DUE + timedelta(days=PLAN_AGE_DAYS_MAX))
    reasons = []
    for other_pack, moment in (
        (pack, DUE + timedelta(days=PLAN_AGE_DAYS_MAX, seconds=1)),
        (pack, DUE - timedelta(days=1)),
        (load_pack("mailenium"), DUE),
        (replace(pack, version=2), DUE),
        (replace(pack, rules=dict(pack.rules, usage=replace(pack.rules["usage"], keep=Span(months=1)))), DUE),
    ):
        with pytest.raises(PlanRefused) as refused:
            require_fresh(plan, other_pack, moment)
        reasons.append(refused.value.reason)
    assert reasons == ["plan_too_old", "plan_from_the_future", *["pack_changed"] * 3]


def test_a_plan_of_an_account_with_nothing_due_does_nothing(ledger: Ledger, clock: SettableClock) -> None:
    """Given nothing due, when the empty plan is applied, then nothing is recorded."""
    clock.set(DUE)
    before = topics(ledger)
    done = applied(ledger)
    assert (done.items, done.keys) == (0, 0)
    assert topics(ledger) == before
