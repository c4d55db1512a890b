"""A standing row packs and unpacks; which link key is whose in which month; and what an identity key gives."""

from __future__ import annotations

import os

import pytest

from domain.ids import next_month, previous_month
from domain.standing import Standing
from ledger.errors import RowOutdated, Unavailable
from ledger.links import handle_of, month_number, records_kid_of
from ledger.standing_row import ALWAYS, NO_KEY, ROW_FORMAT, Person, StandingRow

FINGERPRINT = os.urandom(16)
OLD, NEW = os.urandom(32), os.urandom(32)
MONTHS = ["2019-12", "2026-01", "2026-12", "2027-01", "2027-10", "2027-11", "2027-12", "2031-07"]


def person(**links: object) -> Person:
    secrets = {name: os.urandom(16) for name in ("subject", "kid", "handle", "records_kid")}
    return Person(**secrets, **{"link_key": NEW} | links)  # type: ignore[arg-type]  # Links are named by the tests.


def rows(held: Person) -> list[StandingRow]:
    """The row as it is made, and as it is read."""
    made = StandingRow(FINGERPRINT, held, Standing())
    return [made, StandingRow.unpacked(FINGERPRINT, made.pack())]


def test_a_row_is_read_as_it_was_written() -> None:
    """Given a person with two generations, when their row is packed and unpacked, then nothing of it has changed."""
    held = person(
        link_generation=7,
        link_from=month_number("2027-11"),
        link_key_before=OLD,
        link_from_before=month_number("2026-02"),
    )
    made, read = rows(held)
    assert read == made
    assert read.person == held
    assert read.handle == held.handle
    assert read.pack() == made.pack()


def test_a_restated_row_is_the_same_person() -> None:
    """Given a row, read or made, when it gets another standing and address, then all else of it has stayed."""
    held, elsewhere = person(link_generation=3, link_key_before=OLD), os.urandom(16)
    for row in rows(held):
        restated = row.restated(elsewhere, Standing(version=8))
        assert restated == StandingRow(elsewhere, held, Standing(version=8))
        assert StandingRow.unpacked(elsewhere, restated.pack()) == restated
        assert (restated.subject, restated.kid, restated.handle) == (held.subject, held.kid, held.handle)
        assert restated.link_for(month_number("2027-01")) == row.link_for(month_number("2027-01"))


def test_rows_of_an_older_form_are_told_by_their_first_byte() -> None:
    """Given a row of the first form, which began with a subject's id, when it is read, then it says what to do."""
    old = bytes.fromhex("019a0000") + os.urandom(78) + b"[]"
    with pytest.raises(RowOutdated, match="lethe rebuild standing") as refused:
        StandingRow.unpacked(FINGERPRINT, old)
    assert isinstance(refused.value, Unavailable)
    assert rows(person())[1].pack()[0] == ROW_FORMAT


@pytest.mark.parametrize("month", MONTHS)
def test_a_first_generation_serves_every_month(month: str) -> None:
    """Given one generation, when any month is asked for, then it is its key."""
    for row in rows(person()):
        assert row.link_for(month_number(month)) == (NEW, 1)


@pytest.mark.parametrize("month", MONTHS)
def test_the_month_alone_says_which_generation(month: str) -> None:
    """Given generations from February 2026 and November 2027, each month has one of them, and none before."""
    held = person(
        link_generation=3,
        link_from=month_number("2027-11"),
        link_key_before=OLD,
        link_from_before=month_number("2026-02"),
    )
    expected = (NEW, 3) if month >= "2027-11" else (OLD, 2) if month >= "2026-02" else None
    for row in rows(held):
        assert row.link_for(month_number(month)) == expected
        assert row.link_key_for(month_number(month)) == (expected[0] if expected else None)


def test_a_destroyed_key_is_nobodys() -> None:
    """Given a generation whose key went, the newest or the one before, its months have none."""
    november = month_number("2027-11")
    gone_before = person(link_generation=2, link_from=november)
    gone_newest = person(link_generation=2, link_from=november, link_key=NO_KEY, link_key_before=OLD)
    for held, early, late in ((gone_before, None, (NEW, 2)), (gone_newest, (OLD, 1), None)):
        for row in rows(held):
            assert row.link_for(month_number("2027-10")) == early
            assert row.link_for(november) == late


def test_link_months_sort_as_two_bytes() -> None:
    """Given consecutive months over a century, their numbers rise, and none is that of a first generation."""
    month = "1999-12"
    while month < "2100-01":
        following = next_month(month)
        assert previous_month(following) == month
        assert ALWAYS < month_number(month) < month_number(following)
        assert len(month_number(month)) == 2
        month = following


def test_what_an_identity_key_gives_is_apart() -> None:
    """Given one identity key, its handle and its records' kid tell nothing of each other, and are always the same."""
    key = os.urandom(32)
    assert handle_of(key) == handle_of(key) != records_kid_of(key) == records_kid_of(key)
    assert len(handle_of(key)) == len(records_kid_of(key)) == 16
    assert not {handle_of(key), records_kid_of(key)} & {handle_of(OLD), records_kid_of(OLD), key[:16]}
