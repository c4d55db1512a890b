"""Due days: a promise is never broken by a day, at month ends and leap days neither, and plans find all that is due."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retention.policy.clocks import Clock, NeverDue, Span, Unit, due_on, first_day_of, last_anchor_due, last_day_of

DAYS = st.dates(date(1990, 1, 1), date(2090, 12, 31))
SPANS = st.builds(Span, months=st.integers(0, 240), days=st.integers(0, 400)).filter(lambda span: span != Span())


@dataclass(frozen=True)
class Rule:
    """A rule as a pack gives it, with nothing but what counts."""

    keep: Span | None
    clock: Clock = "last_engagement"
    unit: Unit | None = None
    minimum: bool = False


RULES = st.one_of(
    st.builds(Rule, SPANS, st.just("last_engagement"), st.none(), st.booleans()),
    st.builds(Rule, SPANS, st.just("calendar"), st.sampled_from(["day", "month"]), st.booleans()),
    st.builds(Rule, SPANS, st.just("account_closed")),
)


@pytest.mark.parametrize(
    ("rule", "anchor", "due"),
    [
        (Rule(Span(24), "calendar", "month"), "2026-01-01", "2028-01-01"),
        (Rule(Span(days=90), "calendar", "day"), "2026-03-01", "2026-05-30"),
        (Rule(Span(days=30), "calendar", "day"), "2026-02-01", "2026-03-03"),
        (Rule(Span(24)), "2026-02-28", "2028-02-28"),
        (Rule(Span(24)), "2024-02-29", "2026-02-28"),
        (Rule(Span(6)), "2026-08-31", "2027-02-28"),
        (Rule(Span(36), "last_interaction"), "2026-11-21", "2029-11-21"),
        (Rule(Span(84), "last_transaction", None, minimum=True), "2026-11-21", "2033-11-22"),
        (Rule(Span(84), "last_transaction", None, minimum=True), "2024-02-29", "2031-03-01"),
        (Rule(Span(84), "last_transaction", None, minimum=True), "2025-12-31", "2033-01-01"),
        (Rule(Span(84), "calendar", "month", minimum=True), "2026-02-01", "2033-03-01"),
        (Rule(Span(days=60), "account_closed"), "2026-11-21", "2027-01-20"),
        (Rule(Span(days=90), "account_closed"), "2026-11-21", "2027-02-19"),
    ],
)
def test_due_days_of_the_policies(rule: Rule, anchor: str, due: str) -> None:
    """Given a rule and the day its clock stood still on, then it is due on exactly this day."""
    assert due_on(rule, date.fromisoformat(anchor)) == date.fromisoformat(due)


@given(SPANS, DAYS)
@example(Span(24), date(2024, 2, 29))
@example(Span(1), date(2026, 1, 31))
def test_a_maximum_is_never_kept_longer_and_a_minimum_never_shorter(span: Span, day: date) -> None:
    """Given one span as a maximum and as a minimum, then the maximum ends with it and the minimum on the day after."""
    most, least = Rule(span), Rule(span, minimum=True)
    assert due_on(most, day) == span.after(day)
    assert due_on(least, day) == span.after(day) + timedelta(days=1)


@given(st.integers(1, 240), DAYS)
@example(12, date(2024, 2, 29))
@example(24, date(2024, 2, 29))
def test_months_land_on_the_same_day_or_the_last_of_the_month(months: int, day: date) -> None:
    """Given a span of months, then the due day has the anchor's number, or is the last of a month that has none."""
    due = due_on(Rule(Span(months)), day)
    assert (due.year * 12 + due.month) - (day.year * 12 + day.month) == months
    assert due.day == day.day or (due.day < day.day and (due + timedelta(days=1)).day == 1)


@given(DAYS, SPANS)
def test_no_day_of_a_month_outlives_its_maximum(day: date, span: Span) -> None:
    """Given data of any day of a month, when its month's key is destroyed, then no day of it was kept too long."""
    first = day.replace(day=1)
    assert due_on(Rule(span, "calendar", "month"), first) <= span.after(day)


@given(DAYS, SPANS)
def test_every_day_of_a_month_lives_its_minimum(day: date, span: Span) -> None:
    """Given data of any day of a month, when its month's key may go, then each day of it has lived the minimum."""
    assert due_on(Rule(span, "calendar", "month", minimum=True), day.replace(day=1)) > span.after(day)


@given(RULES, DAYS, st.integers(0, 70))
def test_what_came_later_is_never_due_earlier(rule: Rule, day: date, later: int) -> None:
    """Given two anchors, then the later one is due on the same day or later."""
    assert due_on(rule, day) <= due_on(rule, day + timedelta(days=later))


@given(RULES, DAYS)
@example(Rule(Span(1)), date(2026, 2, 28))
@example(Rule(Span(1), minimum=True), date(2024, 3, 1))
@example(Rule(Span(12)), date(2025, 2, 28))
def test_a_plan_asks_for_all_that_is_due_and_for_nothing_else(rule: Rule, today: date) -> None:
    """Given a day, then the last anchor due is due by then, and the day after it is not."""
    anchor = last_anchor_due(rule, today)
    assert anchor is not None
    assert due_on(rule, anchor) <= today
    assert due_on(rule, anchor + timedelta(days=1)) > today


def test_what_is_kept_for_ever_has_no_due_day() -> None:
    """Given a rule without an end, when it is asked for a day, then it refuses to name one."""
    rule = Rule(None, "for_ever")
    with pytest.raises(NeverDue):
        due_on(rule, date(2026, 1, 1))
    with pytest.raises(NeverDue):
        last_anchor_due(rule, date(2026, 1, 1))


def test_beyond_the_calendar_nothing_is_due() -> None:
    """Given a span longer than the years there are, then nothing was due, and an anchor too late is refused."""
    rule = Rule(Span(months=12 * 100))
    assert last_anchor_due(rule, date(50, 1, 1)) is None
    with pytest.raises(OverflowError):
        due_on(rule, date(9999, 1, 1))


def test_periods_are_read_as_keys_name_them() -> None:
    """Given a month or a day as keys name it, then its first and last days are found."""
    assert (first_day_of("2024-02"), last_day_of("2024-02")) == (date(2024, 2, 1), date(2024, 2, 29))
    assert first_day_of("2026-11-21") == last_day_of("2026-11-21") == date(2026, 11, 21)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (Span(24), "24 months"),
        (Span(36), "3 years"),
        (Span(84), "7 years"),
        (Span(1), "1 month"),
        (Span(days=90), "90 days"),
        (Span(18, 1), "18 months and 1 day"),
    ],
)
def test_spans_are_said_in_words(span: Span, said: str) -> None:
    """Given a span, then it is said in the unit that people use."""
    assert str(span) == said


def test_a_span_changes_with_its_rule() -> None:
    """Given a longer span, then what it governs is due later: the due day follows the rule, not a constant."""
    rule = Rule(Span(24))
    assert due_on(replace(rule, keep=Span(25)), date(2026, 1, 31)) == date(2028, 2, 29)
