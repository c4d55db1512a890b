"""Figures that outlive a month: groups of ten, nothing told by subtraction, published once (Mailkai 6.5 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.bootstrap import Instance
from domain.keys import AggregatePublished
from ledger.application import Ledger
from projections.campaign_view import campaign_counts
from projections.rebuild import rebuild
from projections.worker import catch_up
from retention.plans import aggregates
from retention.plans.aggregates import GROUP_MIN, NESTED, PARENTS, PARTS, PUBLISHED_KINDS, protected, publish_month
from tests.acts import ask, emails, register, report, topics, willing
from tests.retention.plans import DUE, JANUARY, applied, planned
from tests.support import SettableClock

pytestmark = pytest.mark.store


@st.composite
def funnels(draw: st.DrawFn) -> dict[str, int]:
    """Counts of one campaign as they really nest."""
    authorised = draw(st.integers(0, 400))
    dispatched = draw(st.integers(0, authorised))
    delivered = draw(st.integers(0, dispatched))
    soft = draw(st.integers(0, dispatched - delivered))
    hard = draw(st.integers(0, dispatched - delivered - soft))
    opened = draw(st.integers(0, delivered))
    return {
        "authorised": authorised,
        "dispatched": dispatched,
        "delivered": delivered,
        "soft_bounced": soft,
        "hard_bounced": hard,
        "first_opened": opened,
        "first_clicked": draw(st.integers(0, opened)),
        "unsubscribed": draw(st.integers(0, delivered)),
        "complained": draw(st.integers(0, delivered)),
    }


@given(funnels())
def test_no_small_group_is_told_or_left_over(counts: Mapping[str, int]) -> None:
    """Given any campaign, then no figure, no difference of nested ones and no rest of a whole is one to nine."""
    told, withheld = protected(counts)
    assert set(told) | set(withheld) == set(PUBLISHED_KINDS)
    assert not set(told) & set(withheld)
    assert all(counts[kind] == value >= GROUP_MIN for kind, value in told.items())
    for whole, part in NESTED:
        if whole in told and part in told:
            assert told[whole] - told[part] == 0 or told[whole] - told[part] >= GROUP_MIN
    for parent in PARENTS:
        parts = [told[kind] for kind in PARTS if kind in told]
        for number in range(1, len(parts) + 1):
            for some in combinations(parts, number):
                if parent in told:
                    assert not 0 < told[parent] - sum(some) < GROUP_MIN


@given(funnels())
def test_what_can_be_told_is_told(counts: Mapping[str, int]) -> None:
    """Given a campaign of at least ten, then its first figure is told: nothing is withheld without need."""
    told, _ = protected(counts)
    if counts["authorised"] >= GROUP_MIN:
        assert told["authorised"] == counts["authorised"]
    else:
        assert told == {}


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"authorised": 100, "dispatched": 100, "delivered": 97}, {"authorised", "dispatched"}),
        ({"authorised": 100, "dispatched": 100, "delivered": 90}, {"authorised", "dispatched", "delivered"}),
        (
            {"authorised": 100, "dispatched": 100, "delivered": 80, "hard_bounced": 15},
            {"authorised", "dispatched", "delivered"},
        ),
        ({"authorised": 9, "dispatched": 9}, set()),
        ({"authorised": 10, "first_opened": 3}, {"authorised"}),
        ({}, set()),
    ],
)
def test_examples(counts: Mapping[str, int], told: set[str]) -> None:
    """Given these campaigns, then these kinds are told: three that were not delivered are not found by subtraction."""
    assert set(protected(counts)[0]) == told


def a_campaign(ledger: Ledger, clock: SettableClock, people: int, opened: int, **more: Any) -> UUID:
    """A campaign of January, dispatched to so many people, of whom some opened."""
    clock.set(JANUARY)
    addresses = emails(people)
    willing(ledger, [a for a in addresses if ledger.person(a) is None])
    campaign = register(ledger, **more)
    tokens = list(ask(ledger, campaign, addresses).allowed.values())
    report(ledger, [(token, "dispatched") for token in tokens], at=clock())
    report(ledger, [(token, "opened") for token in tokens[:opened]], at=clock())
    return campaign


def published(ledger: Ledger) -> list[AggregatePublished]:
    events = [event for event in ledger.log.select_log(1, 10_000) if event.topic == AggregatePublished.TOPIC]
    facts = [ledger.sealing.open(event) for event in events]
    return [fact for fact in facts if isinstance(fact, AggregatePublished)]


def counts_of(ledger: Ledger, campaign: UUID) -> Any:
    catch_up(ledger)
    return campaign_counts(ledger.services.reader, ledger.tenant, campaign)


def test_figures_are_published_before_the_key_goes(ledger: Ledger, clock: SettableClock) -> None:
    """Given a campaign of 25 people of whom 12 opened, when its month goes, then the figures come first."""
    campaign = a_campaign(ledger, clock, 25, 12)
    clock.set(DUE)
    applied(ledger)
    (fact,) = published(ledger)
    assert (fact.month, fact.campaign) == ("2040-01", campaign.hex)
    assert fact.figures == {"authorised": 25, "dispatched": 25, "first_opened": 12}
    assert set(fact.withheld) == set(PUBLISHED_KINDS) - set(fact.figures)
    order = topics(ledger)
    assert order.index(AggregatePublished.TOPIC) < order.index("keys.period_destroyed.v1")


def test_a_small_campaign_is_not_told_of_at_all(ledger: Ledger, clock: SettableClock) -> None:
    """Given a campaign to nine people, when its month goes, then nothing of it is published."""
    campaign = a_campaign(ledger, clock, 9, 9)
    clock.set(DUE)
    applied(ledger)
    assert published(ledger) == []
    counts = counts_of(ledger, campaign)
    assert (counts.published, counts.by_hour) == ([], [])


def test_what_is_not_a_group_of_persons_is_not_told(ledger: Ledger, clock: SettableClock) -> None:
    """Given an ongoing campaign with forty messages to two people, then its forty are not published as a group."""
    clock.set(JANUARY)
    people = emails(2)
    willing(ledger, people)
    campaign = register(ledger, kind="ongoing")
    wanted = [(address, f"order-{number}") for number in range(20) for address in people]
    tokens = list(ask(ledger, campaign, wanted).allowed)
    assert tokens
    catch_up(ledger)
    assert counts_of(ledger, campaign).by_kind["authorised"] == 40
    clock.set(DUE)
    applied(ledger)
    assert published(ledger) == []


def test_an_ongoing_campaign_to_ten_people_is_told(ledger: Ledger, clock: SettableClock) -> None:
    """Given an ongoing campaign whose messages went to ten persons, then its figures are published."""
    a_campaign(ledger, clock, 10, 0, kind="ongoing")
    clock.set(DUE)
    applied(ledger)
    (fact,) = published(ledger)
    assert fact.figures["dispatched"] == 10


def test_a_month_is_published_once(ledger: Ledger, clock: SettableClock) -> None:
    """Given a published month, when it would be published again, with more counted meanwhile, then nothing is told."""
    campaign = a_campaign(ledger, clock, 25, 12)
    clock.set(DUE)
    plan = planned(ledger)
    applied(ledger, plan)
    before = topics(ledger)
    with ledger.services.writer.transaction() as connection:
        connection.execute(
            "INSERT INTO lethe.campaign_count (tenant_id, generation, campaign_id, hour, kind, rule, count) "
            "VALUES (%s, 1, %s, '2040-01-20', 'first_opened', '', 4)",
            (ledger.tenant, campaign),
        )
    assert publish_month(ledger, "2040-01", plan.plan_id) == 0
    assert topics(ledger) == before
    assert counts_of(ledger, campaign).by_kind["first_opened"] == 0


def test_hours_of_a_published_month_go_and_stay_away(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a published month, then the view tells its figures and no hours; a rebuild from the log gives the same."""
    campaign = a_campaign(ledger, clock, 25, 12)
    assert counts_of(ledger, campaign).by_hour
    clock.set(DUE)
    applied(ledger)
    live = counts_of(ledger, campaign)
    assert live.by_hour == []
    assert live.by_kind["dispatched"] == 0
    assert [(month.month, month.figures["dispatched"]) for month in live.published] == [("2040-01", 25)]
    rebuild(ledger, instance.rebuilder, "campaign_view", grace_seconds=0)
    assert counts_of(ledger, campaign) == live


def test_other_months_are_left_alone(ledger: Ledger, clock: SettableClock) -> None:
    """Given opens in January and in February, when January goes, then February's hours are still told."""
    clock.set(JANUARY)
    willing(ledger, emails(25))
    campaign = register(ledger)
    tokens = list(ask(ledger, campaign, emails(25)).allowed.values())
    report(ledger, [(token, "dispatched") for token in tokens], at=clock())
    clock.set(datetime(2040, 2, 1, 9, tzinfo=UTC))
    report(ledger, [(tokens[0], "opened")], at=clock())
    clock.set(DUE)
    applied(ledger)
    counts = counts_of(ledger, campaign)
    assert [hour.hour for hour in counts.by_hour] == [datetime(2040, 2, 1, 9, tzinfo=UTC)]
    assert counts.by_kind["first_opened"] == 1


def test_killed_between_two_campaigns_it_publishes_each_once(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a process that died after the first campaigns, when it runs again, then each is published once."""
    for number in range(3):
        a_campaign(ledger, clock, 10 + number * 10, 0)
        clock.advance(timedelta(minutes=1))
    monkeypatch.setattr(aggregates, "CAMPAIGNS_PER_APPEND", 1)
    append, calls = aggregates._append, []

    def die_the_second_time(*arguments: Any) -> int:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return append(*arguments)

    clock.set(DUE)
    plan = planned(ledger)
    monkeypatch.setattr(aggregates, "_append", die_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        applied(ledger, plan)
    monkeypatch.undo()
    applied(ledger, plan)
    assert sorted(fact.figures["dispatched"] for fact in published(ledger)) == [10, 20, 30]
