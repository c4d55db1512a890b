"""Records are decided purely: what has no class, no shape or no past is refused, and no refusal repeats a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.category import CATEGORIES, UnknownCategory, checked_category
from domain.facts import opened, personal_fields, plain_fields
from domain.records import (
    CONTENT_CHARACTERS_MAX,
    CONTENT_FIELDS_MAX,
    FACT_OF_CLASS,
    FIELD_CHARACTERS_MAX,
    FIELD_NAME_CHARACTERS_MAX,
    RECORD_CLASSES,
    Record,
    RecordFact,
    RecordRefused,
    decide,
    period_of,
)

NOW = datetime(2026, 11, 21, 20, 15, tzinfo=UTC)
SECRET = "Anna Musterfrau"


@pytest.mark.parametrize("retention_class", RECORD_CLASSES)
def test_each_class_has_a_fact_of_its_own_sealed_by_it_alone(retention_class: str) -> None:
    """Given a class, when a record of it is decided, then its content is sealed by just that class."""
    fact = decide(Record(retention_class, {"note": SECRET}, "ticket", "anna@example.com"), NOW)
    assert type(fact) is FACT_OF_CLASS[retention_class]
    assert personal_fields(type(fact)) == {"content": retention_class, "at": retention_class}
    assert set(type(fact).SEALED_BY) == {retention_class}
    assert opened(getattr(fact, "content")) == {"note": SECRET}  # noqa: B009  The base has no content.
    assert (fact.about_person, fact.kind) == (True, "ticket")


@pytest.mark.parametrize("retention_class", RECORD_CLASSES)
def test_the_moment_is_sealed_and_only_the_day_is_plain(retention_class: str) -> None:
    """Given two records of one moment, then nothing finer than their day ties them (I11)."""
    offset = timezone(timedelta(hours=5))
    fact = decide(Record(retention_class, {"a": "b"}, occurred_at=datetime(2026, 11, 21, 3, 0, 0, 7, offset)), NOW)
    assert fact.occurred_at == datetime(2026, 11, 20, tzinfo=UTC)
    assert opened(getattr(fact, "at")) == "2026-11-20T22:00:00.000007+00:00"  # noqa: B009  The base has none.


def test_nothing_plain_can_hold_a_person() -> None:
    """Given every fact of a record, then its plain fields are a flag and a code."""
    for fact_class in FACT_OF_CLASS.values():
        assert set(plain_fields(fact_class)) == {"about_person", "kind"}
        assert issubclass(fact_class, RecordFact)


def test_logs_have_days_and_the_others_months() -> None:
    """Given a moment, then a log's line belongs to its day and everything else to its month."""
    periods = {c: period_of(c, NOW) for c in RECORD_CLASSES}
    assert periods == {
        "support": "2026-11",
        "billing": "2026-11",
        "usage": "2026-11",
        "access_log": "2026-11-21",
        "error_log": "2026-11-21",
    }


def test_a_record_about_nobody_says_so() -> None:
    """Given no address, then the fact is about nobody; without a time it happened now."""
    fact = decide(Record("error_log", {"line": "out of memory"}), NOW)
    assert (fact.about_person, fact.kind) == (False, None)
    assert opened(getattr(fact, "at")) == NOW.isoformat()  # noqa: B009  The base has none.


def test_the_present_is_no_future() -> None:
    """Given a record of this very moment it is taken, and one a microsecond later is not."""
    assert decide(Record("usage", {"a": "b"}, occurred_at=NOW), NOW).occurred_at.date() == NOW.date()
    with pytest.raises(RecordRefused) as refused:
        decide(Record("usage", {"a": "b"}, occurred_at=NOW + timedelta(microseconds=1)), NOW)
    assert refused.value.reason == "in_the_future"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (Record("identity", {"note": SECRET}), "unknown_class"),
        (Record("engagement", {"note": SECRET}), "unknown_class"),
        (Record("", {"note": SECRET}), "unknown_class"),
        (Record("support", {"note": SECRET}, kind=SECRET), "unknown_kind"),
        (Record("support", {"note": SECRET}, kind="anna@example.com"), "unknown_kind"),
        (Record("support", {"note": SECRET}, kind="a" * 33), "unknown_kind"),
        (Record("support", {"note": SECRET}, kind="ticket\n"), "unknown_kind"),
        (Record("support", {}), "no_content"),
        (Record("support", {f"{SECRET}{n}": "" for n in range(CONTENT_FIELDS_MAX + 1)}), "too_long"),
        (Record("support", {"": SECRET}), "too_long"),
        (Record("support", {SECRET.ljust(FIELD_NAME_CHARACTERS_MAX + 1): ""}), "too_long"),
        (Record("support", {"note": SECRET.ljust(FIELD_CHARACTERS_MAX + 1)}), "too_long"),
        (
            Record("support", {f"{n}": SECRET.ljust(FIELD_CHARACTERS_MAX) for n in range(4)}),
            "too_long",
        ),
    ],
)
def test_what_is_no_record_is_refused_by_name(record: Record, reason: str) -> None:
    """Given what is no record, then the refusal has a code, and neither it nor the record's repr shows a value."""
    with pytest.raises(RecordRefused) as refused:
        decide(record, NOW)
    assert refused.value.reason == reason
    assert SECRET not in f"{refused.value} {record!r} {refused.value!r}"


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=50), min_size=1, max_size=CONTENT_FIELDS_MAX))
def test_any_content_within_the_limits_is_kept_as_it_is(content: dict[str, str]) -> None:
    """Given any fields within the limits, then the fact holds just these."""
    assert sum(map(len, [*content, *content.values()])) <= CONTENT_CHARACTERS_MAX
    fact = decide(Record("support", content, email="a@example.com"), NOW)
    assert opened(getattr(fact, "content")) == content  # noqa: B009  The base has no content.


def test_there_are_six_categories_of_persons() -> None:
    """Given Mailenium 1.1, then its six categories are known and a sentence is none; what was given is not repeated."""
    assert len(CATEGORIES) == 6
    assert [checked_category(category) for category in CATEGORIES] == list(CATEGORIES)
    with pytest.raises(UnknownCategory) as refused:
        checked_category(SECRET)
    assert SECRET not in str(refused.value)
