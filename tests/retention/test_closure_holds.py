"""Holds and the end of an account: what is held opens after everything around it went, and goes with the hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.campaign import CampaignRegistered
from domain.facts import personal_fields
from domain.personal import Erased, Personal
from ledger.application import Ledger
from ledger.errors import KeyDestroyed
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.standing_row import StandingRow
from retention.erasure.erasing import finish_erasures
from retention.holds.releasing import finish_holds
from retention.plans import carrying_out
from retention.plans.apply import finish_open_plans
from retention.plans.closure import Swept, sweep_closed_classes
from retention.plans.held import CAMPAIGN_HELD, ERASURES_WAIT
from retention.plans.schedule import run_retention
from tests.acts import person, stream_of, willing
from tests.kills import killed_at
from tests.ledger.test_holds import erase
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
)
from tests.retention.test_holds import clicks, escrowed, mail
from tests.support import SettableClock

pytestmark = pytest.mark.store

GONE = datetime(2040, 4, 14, tzinfo=UTC)
"""Every class of a Mailkai account that ended on 2040-01-15 is due, but billing."""

PURGED = ("identity", "consent", "engagement", "engagement_technical", "link", "support", "usage")


def own_parts(ledger: Ledger, row: StandingRow) -> set[type]:
    """What the parts of a person's own stream open as."""
    ledger.keyring.forget_all()
    values = [getattr(fact, name) for fact in stream_of(ledger, row) for name in personal_fields(type(fact))]
    return {type(value) for value in values if value is not None}


def of_persons(ledger: Ledger) -> int:
    """How many keys of persons of the classes that went are in the vault."""
    with ledger.services.vault.pool.transaction() as connection:
        select = (
            "SELECT count(*) FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder <> '' AND class = ANY(%s)"
        )
        row = connection.execute(select, (ledger.tenant, list(PURGED))).fetchone()
    assert row is not None
    return int(row[0])


def ended(ledger: Ledger, clock: SettableClock) -> None:
    """The account ends now, in January 2040, and the clock goes on to when everything is due."""
    ledger.accounts.terminate(actor="cli")
    clock.set(GONE)


@pytest.mark.parametrize("kind", ["person", "campaign"])
def test_what_is_held_of_a_closed_account_opens_until_the_hold_ends(
    ledger: Ledger, clock: SettableClock, kind: str
) -> None:
    """Given a person held by themselves or by a campaign, when the account closes, theirs opens; released, all goes."""
    clock.set(JANUARY)
    willing(ledger, [ANNA, BERT])
    campaign = mail(ledger, ANNA)
    mail(ledger, BERT)
    held = hold(ledger, ANNA) if kind == "person" else hold(ledger, kind="campaign", campaigns=(campaign,))
    anna, bert = person(ledger, ANNA), person(ledger, BERT)
    ended(ledger, clock)
    run_retention(ledger)
    assert ledger.accounts.state().status == "closed"
    assert own_parts(ledger, anna) == {Personal}
    assert own_parts(ledger, bert) == {Erased}
    assert [fact.url.reveal() for fact in clicks(ledger, ANNA)] == ["https://example.com/a"]  # type: ignore[attr-defined]
    kept = escrowed(ledger)
    assert kept
    assert {name.holder for name in kept} <= {anna.person.kid, anna.person.records_kid}
    keys = of_persons(ledger)
    assert sweep_closed_classes(ledger) == Swept(), "Nothing is swept while somebody is held."
    assert (of_persons(ledger), own_parts(ledger, anna)) == (keys, {Personal})
    for retention_class in PURGED:  # Not even a sweep that asked nobody takes what was kept.
        ledger.services.vault.purge_class(ledger.tenant, retention_class)
    assert escrowed(ledger) == kept
    assert own_parts(ledger, anna) == {Personal}
    ledger.holds.release(held.hold_id, actor="cli")
    assert sweep_closed_classes(ledger) == Swept(), "What had waited for the hold comes first."
    finish_holds(ledger)
    run_retention(ledger)
    assert own_parts(ledger, anna) == {Erased}
    assert escrowed(ledger) == set()
    assert of_persons(ledger) == 0
    gone = ledger.services.vault.find(ledger.tenant, sorted(kept)).tombstones
    assert set(gone) == kept, "What was kept leaves a tombstone; what is swept was useless."


def test_an_erasure_that_waits_is_not_lost_with_the_list(ledger: Ledger, clock: SettableClock) -> None:
    """Given a held person whose erasure waits, when the account closes, then the list waits for it, and says so."""
    a_month_of_engagement(ledger, clock, [ANNA, BERT])
    held = hold(ledger, ANNA)
    anna = person(ledger, ANNA)
    assert erase(ledger, ANNA) == ["held"]
    ended(ledger, clock)
    run_retention(ledger)
    assert set(kept_back(planned(ledger))) == {"feed:class", "suppression:class"}
    ledger.holds.release(held.hold_id, actor="cli")
    plan = planned(ledger)
    waiting = kept_back(plan)["suppression:class"].held
    assert waiting is not None
    assert (waiting.why, waiting.holds) == (ERASURES_WAIT, ())
    assert type(plan).from_row(plan.to_row()) == plan
    assert run_retention(ledger) is None
    assert [erasure.kid for erasure in ledger.erasures.postponed(10)] == [anna.person.kid]
    (closing,) = finish_holds(ledger)
    assert closing.erasures == 1
    (done,) = finish_erasures(ledger)
    assert done.keys > 0
    assert set(items(planned(ledger))) == {"feed:class", "suppression:class"}
    run_retention(ledger)
    assert kept_back(planned(ledger)) == {}
    assert of_persons(ledger) == 0
    assert {status.state for status in ledger.erasures.status(done.erasure_id)} == {"keys_destroyed"}


def test_an_erasure_does_not_wait_for_a_list_that_is_being_destroyed(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given the intent to destroy the list, when one held since is to be erased, no address leads anywhere."""
    a_month_of_engagement(ledger, clock, [ANNA, BERT])
    ended(ledger, clock)
    plan = planned(ledger)
    with killed_at(monkeypatch, carrying_out.CarryingOut, "run"):
        applied(ledger, plan)
    late = {found.retention_class for found in hold(ledger, ANNA).too_late}
    assert late >= {"identity", "consent", "engagement", "link"}
    with pytest.raises(KeyDestroyed, match="closed"):
        erase(ledger, ANNA)
    assert ledger.erasures.postponed(1) == []
    assert erase(ledger, BERT) == ["intended"], "Whoever is not held is still erased by themselves."
    finish_open_plans(ledger)
    list_key = KeyName(TENANT_HOLDER, "suppression")
    assert list_key in ledger.services.vault.find(ledger.tenant, [list_key]).tombstones
    assert ledger.erasures.unfinished(10) == []


def test_a_held_campaign_keeps_what_it_is_called(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on a campaign, when the account's data is due, then its content stays until the hold is released."""
    campaign = a_month_of_engagement(ledger, clock, [ANNA])
    held = hold(ledger, kind="campaign", campaigns=(campaign,))
    ended(ledger, clock)
    run_retention(ledger)
    back = kept_back(planned(ledger))
    assert set(back) == {"content:class", "feed:class", "suppression:class"}
    assert back["content:class"].held is not None
    assert back["content:class"].held.why == CAMPAIGN_HELD
    assert type(name_of(ledger, campaign)) is Personal
    ledger.holds.release(held.hold_id, actor="cli")
    finish_holds(ledger)
    run_retention(ledger)
    assert type(name_of(ledger, campaign)) is Erased


def name_of(ledger: Ledger, campaign: UUID) -> Any:
    """What a campaign's name opens as."""
    ledger.keyring.forget_all()
    (fact,) = [ledger.sealing.open(event) for event in ledger.log.select_streams([campaign])]
    assert isinstance(fact, CampaignRegistered)
    return fact.name


def test_a_hold_that_ends_while_keys_are_set_aside_leaves_none_behind(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a hold that is released and closed while a plan sets aside, when it is done, then nothing is kept."""
    a_month_of_engagement(ledger, clock, [ANNA, CLEO])
    held = hold(ledger, ANNA)
    clock.set(datetime(2042, 1, 1, tzinfo=UTC))
    real = ledger.services.vault.escrow
    ended_once: list[int] = []

    def end_the_hold_first(*arguments: Any) -> None:
        if not ended_once:
            ended_once.append(1)
            ledger.holds.release(held.hold_id, actor="cli")
            finish_holds(ledger)
        real(*arguments)

    monkeypatch.setattr(ledger.services.vault, "escrow", end_the_hold_first)
    applied(ledger)
    assert ended_once
    assert escrowed(ledger) == set()
