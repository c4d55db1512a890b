"""The campaign view counts what became of a campaign, and names nobody."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from projections.campaign_view import KINDS, campaign_counts
from projections.worker import catch_up
from tests.projections.scenes import add, authorise, grant, register, report, withdraw
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = [f"person{number}@example.com" for number in range(12)]


def test_counts_by_kind_and_rule(ledger: Ledger) -> None:
    """Each kind of event is counted once, refusals by rule, strangers among them."""
    # given eleven people who agreed, one who did not, and a stranger
    add(ledger, *PEOPLE)
    grant(ledger, *PEOPLE[:11])
    campaign = register(ledger)
    # when all are asked for, and providers report
    tokens = authorise(ledger, campaign, [*PEOPLE, "stranger@example.org"])
    messages = [tokens[email] for email in PEOPLE[:11]]
    report(ledger, "dispatched", messages)
    report(ledger, "delivered", messages[:6])
    report(ledger, "deferred", messages[6:8])
    report(ledger, "bounced", messages[6:7], bounce_type="soft")
    report(ledger, "bounced", messages[7:8], bounce_type="hard")
    report(ledger, "opened", messages[:3], event_id="a")
    report(ledger, "opened", messages[:3], event_id="b")
    report(ledger, "clicked", messages[:1], url="https://example.com/")
    report(ledger, "complained", messages[4:5])
    report(ledger, "unsubscribed", messages[5:6])
    withdraw(ledger, PEOPLE[0])  # Not through the campaign: counted for none.
    catch_up(ledger)
    # then
    counts = campaign_counts(ledger.services.reader, ledger.tenant, campaign)
    assert counts.by_kind == {
        "authorised": 11,
        "refused": 2,
        "dispatched": 11,
        "delivered": 6,
        "deferred": 2,
        "soft_bounced": 1,
        "hard_bounced": 1,
        "complained": 1,
        "opened": 6,
        "first_opened": 3,
        "clicked": 1,
        "first_clicked": 1,
        "unsubscribed": 1,
        "finding": 0,
    }
    assert sum(counts.refused_by_rule.values()) == 2
    assert counts.refused_by_rule["unknown_recipient"] == 1
    assert counts.findings == {}
    assert counts.position == ledger.log.max_notification_id()


def test_a_dispatch_after_recall_is_a_finding(ledger: Ledger) -> None:
    """A message that left after its authorisation was recalled is shown by the rule it broke."""
    # given an authorisation that is recalled by a withdrawal
    add(ledger, PEOPLE[0])
    grant(ledger, PEOPLE[0])
    campaign = register(ledger)
    tokens = authorise(ledger, campaign, PEOPLE[:1])
    withdraw(ledger, PEOPLE[0])
    # when it is dispatched all the same
    report(ledger, "dispatched", tokens.values())
    catch_up(ledger)
    # then
    counts = campaign_counts(ledger.services.reader, ledger.tenant, campaign)
    assert counts.findings == {"dispatched_after_recall": 1}
    assert counts.by_kind["finding"] == counts.by_kind["dispatched"] == 1


def test_hours_are_those_in_which_it_happened(ledger: Ledger, clock: SettableClock) -> None:
    """A delivery that is reported late counts in the hour in which it happened."""
    # given a message authorised at half past eight
    morning = (clock() + timedelta(days=1)).replace(hour=8, minute=30)
    clock.set(morning)
    add(ledger, PEOPLE[0])
    grant(ledger, PEOPLE[0])
    campaign = register(ledger)
    tokens = authorise(ledger, campaign, PEOPLE[:1])
    # when its delivery of ten o'clock is reported at three
    clock.advance(timedelta(hours=7))
    report(ledger, "delivered", tokens.values(), occurred_at=morning + timedelta(hours=2))
    catch_up(ledger)
    # then
    counts = campaign_counts(ledger.services.reader, ledger.tenant, campaign)
    assert [(hour.hour.hour, dict(hour.by_kind)) for hour in counts.by_hour] == [
        (8, {"authorised": 1}),
        (10, {"delivered": 1}),
    ]


def test_batches_add_up(ledger: Ledger) -> None:
    """What is taken in batch by batch gives the same sums as what is taken in at once."""
    add(ledger, *PEOPLE)
    grant(ledger, *PEOPLE)
    campaign = register(ledger)
    for email in PEOPLE:
        authorise(ledger, campaign, [email])
        catch_up(ledger)
    counts = campaign_counts(ledger.services.reader, ledger.tenant, campaign)
    assert counts.by_kind["authorised"] == len(PEOPLE)
    assert catch_up(ledger).events == 0


def test_another_account_sees_nothing(ledger: Ledger, instance: Instance) -> None:
    """A campaign of one account is unknown to another, and so is one that does not exist (I10)."""
    add(ledger, PEOPLE[0])
    grant(ledger, PEOPLE[0])
    campaign = register(ledger)
    authorise(ledger, campaign, PEOPLE[:1])
    catch_up(ledger)
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    catch_up(other)
    nothing = dict.fromkeys(KINDS, 0)
    assert campaign_counts(other.services.reader, other.tenant, campaign).by_kind == nothing
    assert campaign_counts(ledger.services.reader, ledger.tenant, uuid4()).by_kind == nothing
    assert campaign_counts(ledger.services.reader, uuid4(), campaign).position == 0
