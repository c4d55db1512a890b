"""The suppression list: strangers on the list, persons in their streams, and nobody in between (I7)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.subject_commands import CommandRefused
from ledger.application import Ledger
from ledger.suppressing import SuppressionRequest
from retention.erasure.erasing import finish_erasures
from tests.acts import add, ask, person, register, say, topics, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"
NOON = datetime(2027, 11, 21, 12, tzinfo=UTC)


def test_strangers_go_on_the_list_and_persons_say_it_themselves(ledger: Ledger) -> None:
    """Given a known and an unknown address, when both are suppressed, then each is recorded where it belongs."""
    willing(ledger, [ANNA])
    before = len(topics(ledger))
    requests = [SuppressionRequest(a, "complaint", "marketing") for a in (ANNA, BERT, BERT, "no address")]
    answer = ledger.suppressions.impose([*requests, SuppressionRequest(BERT, "manual", "nonsense")], actor="cli")
    assert (answer.added, answer.known) == (2, 1)
    assert [index for index, _ in answer.rejected] == [3, 4]
    assert topics(ledger)[before:] == [
        "suppression.imposed.v1",
        "contact.complained.v1",
        "authorisations.recalled.v1",
    ]
    assert [[entry[:2] for entry in found.entries] for found in ledger.suppressions.look_up([ANNA, BERT])] == [
        [("marketing", "complaint")],
        [("marketing", "complaint")],
    ]
    add(ledger, [BERT])
    assert ask(ledger, register(ledger), [ANNA, BERT]).refused == {ANNA: "complaint", BERT: "complaint"}


def test_an_erasure_in_between_loses_no_suppression(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a suppression about a known person, when they are erased before it is said, then the list has it."""
    willing(ledger, [ANNA])
    real = ledger.suppressions._impose_on_subjects

    def erased_meanwhile(*arguments: Any) -> Any:
        if ledger.person(ANNA) is not None:
            ledger.erasures.intend([ANNA], reason="other", actor="cli")
            finish_erasures(ledger)
        return real(*arguments)

    monkeypatch.setattr(ledger.suppressions, "_impose_on_subjects", erased_meanwhile)
    answer = ledger.suppressions.impose([SuppressionRequest(ANNA, "legal", "all")], actor="cli")
    assert (answer.added, answer.known) == (1, 0)
    assert {entry[1] for entry in ledger.suppressions.look_up([ANNA])[0].entries} == {"erased", "legal"}
    willing(ledger, [ANNA])
    assert ask(ledger, register(ledger), [ANNA]).refused == {ANNA: "legal"}


def test_a_later_no_renews_the_entry(ledger: Ledger, clock: SettableClock) -> None:
    """Given an address that complained twice, when a consent from between comes late, then it lifts nothing (I7)."""
    clock.set(NOON)
    first, between, last = (NOON.replace(month=month) for month in (1, 5, 9))
    for since, added in ((first, 1), (first, 0), (last, 1), (between, 0)):
        request = SuppressionRequest(ANNA, "complaint", "marketing", since=since)
        answer = ledger.suppressions.impose([request], actor="cli")
        assert (answer.added, answer.known) == (added, 1 - added)
    assert ledger.suppressions.look_up([ANNA])[0].entries == [("marketing", "complaint", "2027-09-21")]
    add(ledger, [ANNA])
    (late,) = say(ledger, [ANNA], "grant", at=between)
    assert [getattr(fact, "effective", None) for fact in late.facts] == [False]
    (now,) = say(ledger, [ANNA], "grant", at=NOON)
    assert [getattr(fact, "effective", None) for fact in now.facts] == [True]


def test_a_later_no_in_one_request_counts_as_well(ledger: Ledger, clock: SettableClock) -> None:
    """Given a list that names an address twice, when the later time comes second, then the later one stands."""
    clock.set(NOON)
    requests = [SuppressionRequest(ANNA, "complaint", "all", since=NOON.replace(month=m)) for m in (2, 8, 3)]
    answer = ledger.suppressions.impose(requests, actor="cli")
    assert (answer.added, answer.known) == (2, 1)
    assert ledger.suppressions.look_up([ANNA])[0].entries == [("all", "complaint", "2027-08-21")]


def test_only_what_staff_imposed_is_lifted_by_hand(ledger: Ledger) -> None:
    """Given a complaint and a manual entry, when staff lift, then the manual one goes and the complaint stays."""
    for cause in ("complaint", "manual"):
        ledger.suppressions.impose([SuppressionRequest(ANNA, cause, "all")], actor="cli")
    ledger.suppressions.lift(ANNA, "all", actor="cli")
    assert [entry[1] for entry in ledger.suppressions.look_up([ANNA])[0].entries] == ["complaint"]
    with pytest.raises(CommandRefused):
        ledger.suppressions.lift(ANNA, "all", actor="cli")
    with pytest.raises(CommandRefused):
        ledger.suppressions.lift(BERT, "marketing", actor="cli")


def test_a_manual_entry_made_before_the_person_is_lifted_from_the_list(ledger: Ledger) -> None:
    """Given a stranger suppressed by hand who is then added, when staff lift it, then sends are allowed."""
    ledger.suppressions.impose([SuppressionRequest(ANNA, "manual", "all")], actor="cli")
    willing(ledger, [ANNA])
    campaign = register(ledger)
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "manual"}
    ledger.suppressions.lift(ANNA, "all", actor="cli")
    assert ask(ledger, campaign, [ANNA]).allowed
    assert person(ledger, ANNA).standing.noes == ()
