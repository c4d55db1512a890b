"""Holds fold to the union of what they were placed on and widened by, and nothing but a release ends one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.facts import Fact, personal_fields
from domain.hold import (
    HELD_CLASSES,
    TARGETS_MAX,
    WORDS_CHARACTERS_MAX,
    Hold,
    HoldClosed,
    HoldPlaced,
    HoldRefused,
    HoldReleased,
    HoldTargets,
    HoldWidened,
    Period,
    PersonReference,
    PlaceHold,
    WidenHold,
    decide_close,
    decide_place,
    decide_release,
    decide_widen,
    evolve,
    fold,
)

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
ACCOUNT = HoldTargets("account")

ids = st.binary(min_size=16, max_size=16)
persons = st.builds(PersonReference, ids, ids, ids)
campaigns = st.uuids()
periods = st.builds(Period, st.sampled_from(sorted(HELD_CLASSES)), st.sampled_from(["2026-11", "2026-12-31"]))
targets = st.one_of(
    st.builds(lambda found: HoldTargets("person", persons=tuple(found)), st.lists(persons, min_size=1, max_size=4)),
    st.builds(lambda found: HoldTargets("campaign", campaigns=tuple(found)), st.lists(campaigns, min_size=1)),
    st.builds(lambda found: HoldTargets("period", periods=tuple(found)), st.lists(periods, min_size=1)),
    st.just(ACCOUNT),
)
reviews = st.dates(TODAY + timedelta(days=1), date(2040, 1, 1))


def place(on: HoldTargets = ACCOUNT, review_on: date = date(2027, 1, 1), **words: str) -> PlaceHold:
    said: dict[str, Any] = {"matter": "Acme v. Example", "reason": "a claim was announced", "owner": "Legal"} | words
    return PlaceHold(on, review_on=review_on, **said)


def after(hold: Hold | None, facts: list[Fact]) -> Hold:
    """The hold after these facts, numbered and dated as the ledger does."""
    version = hold.version if hold else 0
    for number, fact in enumerate(facts, version + 1):
        hold = evolve(hold, fact.model_copy(update={"originator_version": number, "occurred_at": NOW}))
    assert hold is not None
    return hold


def holds(hold: Hold, on: HoldTargets) -> bool:
    """Whether a hold speaks of all of these targets."""
    if on.kind == "account":
        return hold.account
    return set(on.persons) <= hold.persons and set(on.campaigns) <= hold.campaigns and set(on.periods) <= hold.periods


@given(targets, st.lists(targets, max_size=5), reviews)
def test_a_hold_speaks_of_all_that_it_was_ever_widened_by(
    first: HoldTargets, others: list[HoldTargets], review_on: date
) -> None:
    """Given a hold and wider ones, when they are folded, then it holds the union, and nothing was let go of."""
    hold = after(None, decide_place(place(first, review_on), TODAY))
    said = [first]
    for other in others:
        hold = after(hold, decide_widen(hold, WidenHold(other), TODAY))
        said.append(other)
        assert all(holds(hold, one) for one in said)
    assert hold.account == any(one.kind == "account" for one in said)
    assert hold.persons == {p for one in said for p in one.persons}
    assert hold.campaigns == {c for one in said for c in one.campaigns}
    assert hold.periods == {p for one in said for p in one.periods}
    assert hold.review_on == review_on


@given(targets)
def test_widening_by_what_is_held_already_changes_nothing(on: HoldTargets) -> None:
    """Given a hold, when it is widened by its own targets, then there is no fact."""
    hold = after(None, decide_place(place(on), TODAY))
    assert decide_widen(hold, WidenHold(on), TODAY) == []
    assert decide_widen(hold, WidenHold(on, hold.review_on), TODAY) == []


@given(targets)
def test_no_fact_names_a_person_in_the_clear(on: HoldTargets) -> None:
    """Given a hold on persons, when its fact is printed or taken apart, then no plain field has an id of theirs."""
    (fact,) = decide_place(place(on), TODAY)
    assert set(personal_fields(type(fact))) == {"matter", "reason", "owner", "persons", "too_late"}
    plain = str([getattr(fact, name) for name in ("target", "campaigns", "periods", "review_on")]) + repr(fact)
    assert not any(part.hex() in plain for person in on.persons for part in person)
    assert "Acme" not in plain


def test_a_hold_is_released_once_and_closed_once() -> None:
    """Given a hold, when it is released and closed twice, then there is one fact of each, and its state follows."""
    hold = after(None, decide_place(place(), TODAY))
    assert hold.state == "active"
    hold = after(hold, decide_release(hold, "settled"))
    assert (hold.state, decide_release(hold)) == ("released", [])
    hold = after(hold, decide_close(hold, erasures=2, escrowed=5))
    assert (hold.state, decide_close(hold, erasures=0, escrowed=0)) == ("closed", [])
    assert hold.version == 3


def test_the_review_date_can_be_moved_without_more_targets() -> None:
    """Given a hold, when only its review date is moved, then the fact has no targets."""
    hold = after(None, decide_place(place(), TODAY))
    (fact,) = decide_widen(hold, WidenHold(review_on=date(2028, 1, 1), reason="the appeal is open"), TODAY)
    assert isinstance(fact, HoldWidened)
    assert (fact.target, fact.persons, fact.review_on) == (None, None, "2028-01-01")
    assert after(hold, [fact]).review_on == date(2028, 1, 1)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (place(matter="  "), "no_matter"),
        (place(reason=""), "no_reason"),
        (place(owner=""), "no_owner"),
        (place(matter="x" * (WORDS_CHARACTERS_MAX + 1)), "too_long"),
        (place(review_on=TODAY), "review_in_the_past"),
        (place(review_on=date(2020, 1, 1)), "review_in_the_past"),
        (place(HoldTargets("person")), "no_target"),
        (place(HoldTargets("campaign")), "no_target"),
        (place(HoldTargets("period")), "no_target"),
        (place(HoldTargets("account", campaigns=(UUID(int=1),))), "other_targets"),
        (place(HoldTargets("campaign", periods=(Period("usage", "2026-11"),))), "other_targets"),
        (
            place(HoldTargets("campaign", campaigns=tuple(UUID(int=n) for n in range(TARGETS_MAX + 1)))),
            "too_many_targets",
        ),
    ],
)
def test_what_is_no_hold_is_refused(command: PlaceHold, reason: str) -> None:
    """Given a command without words, targets or a day ahead, when it is decided, then it is refused by name."""
    with pytest.raises(HoldRefused) as refused:
        decide_place(command, TODAY)
    assert refused.value.reason == reason


def test_a_released_hold_is_not_widened_and_an_active_one_not_closed() -> None:
    """Given a hold in the wrong state, when a command comes, then it is refused by name."""
    hold = after(None, decide_place(place(), TODAY))
    with pytest.raises(HoldRefused) as refused:
        decide_close(hold, erasures=0, escrowed=0)
    assert refused.value.reason == "hold_active"
    released = after(hold, decide_release(hold))
    with pytest.raises(HoldRefused) as refused:
        decide_widen(released, WidenHold(ACCOUNT), TODAY)
    assert refused.value.reason == "hold_released"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("engagement", "unknown_period"),
        ("engagement 2026-13", "unknown_period"),
        ("engagement 2026-02-30", "unknown_period"),
        ("engagement 26-02", "unknown_period"),
        ("engagement 2026-02 ", "unknown_period"),
        ("engagement 2026-02\n", "unknown_period"),
        ("suppression 2026-11-22", "unknown_class"),
        ("feed 2026-11-22", "unknown_class"),
        ("hold ever", "unknown_class"),
        ("", "unknown_class"),
    ],
)
def test_what_is_no_period_is_refused(text: str, reason: str) -> None:
    """Given a text that names no period of a class that can be held, when it is parsed, then it is refused by name."""
    with pytest.raises(HoldRefused) as refused:
        Period.parse(text)
    assert refused.value.reason == reason


@given(persons)
def test_a_reference_comes_back_from_its_text(person: PersonReference) -> None:
    """Given a person's ids, when they are written and parsed, then they are the same."""
    assert PersonReference.parse(person.text()) == person


@given(periods)
def test_a_period_comes_back_from_its_text(period: Period) -> None:
    """Given a period, when it is written and parsed, then it is the same."""
    assert Period.parse(period.text()) == period


def test_the_fold_of_nothing_is_nothing() -> None:
    """Given facts without a placing, when they are folded, then there is no hold."""
    facts: list[Any] = [HoldReleased(), HoldClosed(erasures=0, escrowed=0)]
    assert fold(facts) is None
    assert isinstance(decide_place(place(), TODAY)[0], HoldPlaced)
