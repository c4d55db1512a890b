"""The check for sends after a "no" finds them, and finds nothing in a log that is whole (FAULTS 14)."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from audit.sends.after_no import check_no_send_after_no
from domain.subject_commands import LiftByHand, Restrict, SayNo
from ledger.application import Ledger
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from tests.acts import add, ask, emails, person, plant_send, register, report, say, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store


def lived_in(ledger: Ledger) -> tuple[list[str], UUID]:
    """A ledger with some of everything."""
    people = emails(20)
    willing(ledger, people)
    campaign = register(ledger)
    tokens = ask(ledger, campaign, people).allowed
    report(ledger, [(tokens[p], "delivered") for p in people[:10]])
    report(ledger, [(tokens[people[3]], "complained"), (tokens[people[4]], "unsubscribed")])
    ledger.erasures.intend([people[5]], reason="asked", actor="cli")
    return people, campaign


def test_a_log_that_is_whole_has_no_findings(ledger: Ledger) -> None:
    """Given a lived-in ledger, when it is checked, then nothing is found."""
    lived_in(ledger)
    assert check_no_send_after_no(ledger) == []


NOES: dict[str, Callable[[Ledger, str], object]] = {
    "withdrawal": lambda ledger, who: say(ledger, [who], "withdraw"),
    "refusal": lambda ledger, who: say(ledger, [who], "refuse"),
    "objection": lambda ledger, who: ledger.act(Act(SayNo("objection", "marketing"), address=who)),
    "complaint": lambda ledger, who: ledger.act(Act(SayNo("complaint", "marketing"), address=who)),
    "hard bounce": lambda ledger, who: ledger.act(Act(SayNo("hard_bounce", "all"), address=who)),
    "unsubscribed": lambda ledger, who: ledger.act(Act(SayNo("unsubscribed", "purpose:newsletter"), address=who)),
    "manual": lambda ledger, who: ledger.act(Act(SayNo("manual", "all"), address=who)),
    "legal": lambda ledger, who: ledger.act(Act(SayNo("legal", "all"), address=who)),
    "restriction": lambda ledger, who: ledger.act(Act(Restrict(), address=who)),
}


@pytest.mark.parametrize("no", NOES)
def test_a_send_after_a_no_is_found(ledger: Ledger, no: str) -> None:
    """Given each kind of "no", when a send is planted behind it, then it is found; one planted before is not."""
    people = emails(3)
    willing(ledger, people)
    campaign = register(ledger)
    plant_send(ledger, people[0], campaign)
    NOES[no](ledger, people[0])
    assert check_no_send_after_no(ledger) == []
    planted = plant_send(ledger, people[0], campaign)
    assert [found.position for found in check_no_send_after_no(ledger)] == [planted]


def test_a_send_after_an_erasure_is_found_for_a_remembered_person(ledger: Ledger) -> None:
    """A message of an erased person is found only by who remembers them; then it is a finding."""
    people = emails(2)
    willing(ledger, people)
    campaign = register(ledger)
    remembered = person(ledger, people[0])
    ledger.erasures.intend([people[0]], reason="asked", actor="cli")
    assert check_no_send_after_no(ledger, also=[remembered]) == []
    planted = plant_send(ledger, remembered, campaign)
    assert check_no_send_after_no(ledger) == []
    assert {found.position for found in check_no_send_after_no(ledger, also=[remembered])} == {planted}


def test_a_later_evidenced_grant_allows_its_purpose_again(ledger: Ledger) -> None:
    """Given a "no", when the person agrees again with evidence, then sends for that purpose alone are no findings."""
    people = emails(1)
    willing(ledger, people)
    news, offers = register(ledger), register(ledger, purpose="offers")
    ledger.act(Act(SayNo("objection", "marketing"), address=people[0]))
    say(ledger, people, "grant")
    plant_send(ledger, people[0], news)
    assert check_no_send_after_no(ledger) == []
    planted = plant_send(ledger, people[0], offers)
    assert [found.position for found in check_no_send_after_no(ledger)] == [planted]


def test_what_does_not_lift_a_no_is_no_excuse(ledger: Ledger, clock: SettableClock) -> None:
    """Given a complaint, when a grant comes without evidence or with an import, then a send behind it is found."""
    people = emails(2)
    willing(ledger, people)
    campaign = register(ledger)
    for who in people:
        ledger.act(Act(SayNo("complaint", "marketing"), address=who))
    say(ledger, people[:1], "grant", evidence=None)
    say(ledger, people[1:], "grant", imported=True)
    planted = [plant_send(ledger, who, campaign) for who in people]
    assert sorted(found.position for found in check_no_send_after_no(ledger)) == planted


def test_a_suppression_by_hand_counts_until_it_is_lifted(ledger: Ledger) -> None:
    """Given a manual suppression, when it is lifted, then sends behind the lifting are no findings."""
    people = emails(1)
    willing(ledger, people)
    campaign = register(ledger)
    ledger.act(Act(SayNo("manual", "all"), address=people[0]))
    first = plant_send(ledger, people[0], campaign)
    ledger.act(Act(LiftByHand("all"), address=people[0]))
    plant_send(ledger, people[0], campaign)
    assert [found.position for found in check_no_send_after_no(ledger)] == [first]


def test_the_list_counts_for_who_is_added_later(ledger: Ledger) -> None:
    """Given an address suppressed before it had a person, when a send is planted for that person, then it is found."""
    ledger.suppressions.impose([SuppressionRequest("person0@example.com", "complaint", "marketing")], actor="cli")
    add(ledger, emails(1))
    planted = plant_send(ledger, "person0@example.com", register(ledger))
    assert [found.position for found in check_no_send_after_no(ledger)] == [planted]
