"""Attacks on records of processing: odd orders of declarations, what is gone or not counted yet, races, odd dates.

Each asks whether the record claims something that is not so.
"""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from typing import Any

import openpyxl
import pytest

from audit.records.as_xlsx import record_xlsx
from audit.records.difference import difference
from audit.records.observing import retained
from audit.records.record import records_of_processing
from audit.records.terms import Surroundings
from domain.countries import ASSIGNED
from domain.law.rows import CountryRow, read_rows
from domain.records import Record
from domain.register import RegisterRefused, retire
from domain.register_shape import statement, values_of
from ledger.application import Ledger
from projections.observed import NAME
from projections.tracking import park, take
from retention.erasure.erasing import finish_erasures
from tests.acts import emails, willing
from tests.audit.test_processing_records import (
    CONTROLLER,
    NOW,
    change,
    end,
    found,
    in_order,
    made,
    state,
    terms,
)
from tests.support import SettableClock

pytestmark = pytest.mark.store

AROUND = Surroundings(lambda _: terms(), lambda _: None)
RAFFLE: dict[str, Any] = {
    "key": "raffle",
    "role": "controller",
    "name": "Raffle",
    "purposes": ["To draw a winner"],
    "subjects": ["contact"],
    "categories": ["support"],
    "limits": {"support": "calendar:P12M"},
}


def names(ledger: Ledger, on: date, meaning: Any) -> dict[str, tuple[str | None, date]]:
    """The activities in force as of a day: their names, and since when they are declared."""
    record = made(ledger, on, meaning)
    return {activity.key: (activity.name, activity.declared_on) for activity in record.activities}


# Orders of declarations ---------------------------------------------------------------------------------------------


def test_of_several_changes_on_one_day_the_last_stands(ledger: Ledger, clock: SettableClock) -> None:
    """Given an entry declared and amended twice within a minute, then the day's record has the last words, as known
    and as true, and the difference to the day before is one declaration."""
    clock.set(NOW)
    state(ledger, "activity", RAFFLE)
    for name in ("Second", "Third"):
        clock.advance(timedelta(seconds=20))
        change(ledger, "activity", "raffle", name=name)
    for meaning in ("recorded", "occurred"):
        assert names(ledger, NOW.date(), meaning) == {"raffle": ("Third", NOW.date())}
    clock.set(NOW + timedelta(days=1))
    end(ledger, "activity", "raffle")
    state(ledger, "activity", RAFFLE)
    later = made(ledger)
    (only,) = [c for c in difference(made(ledger, NOW.date()), later).changes if c.register == "activity"]
    assert (only.part, only.before, only.after) == ("name", "Third", "Raffle")
    assert later.activities[0].declared_on == NOW.date() + timedelta(days=1)
    assert later.retired == ()


def test_nothing_ends_before_it_began(ledger: Ledger, clock: SettableClock) -> None:
    """Given an activity of the first of March, when its end is dated in February, then that is refused with the day
    that is possible; on the day itself it is taken, and no record shows it ended before it was declared."""
    clock.set(NOW)
    state(ledger, "activity", RAFFLE, since=date(2040, 3, 1))
    for since in (date(2040, 2, 29), date(2039, 3, 1)):
        with pytest.raises(RegisterRefused, match="2040-03-01") as refused:
            ledger.registers.change(lambda r: retire(r, "activity", "raffle", "ended"), actor="cli", since=since)
        assert refused.value.reason == "before_it_began"
    ledger.registers.change(lambda r: retire(r, "activity", "raffle", "ended"), actor="cli", since=date(2040, 3, 1))
    for meaning in ("recorded", "occurred"):
        (ended,) = made(ledger, meaning=meaning).retired
        assert (ended.declared_on, ended.retired_on) == (date(2040, 3, 1), date(2040, 3, 1))


def test_an_entry_declared_again_for_a_time_before_its_end(ledger: Ledger, clock: SettableClock) -> None:
    """Given an entry that ended on the 4th and is declared again as of the 2nd, then what is true of the 5th has it in
    force in the new words, and what was known on the 5th has not."""
    clock.set(datetime(2040, 3, 1, 9, tzinfo=UTC))
    state(ledger, "activity", RAFFLE)
    clock.set(datetime(2040, 3, 4, 9, tzinfo=UTC))
    end(ledger, "activity", "raffle")
    clock.set(NOW)
    state(ledger, "activity", RAFFLE | {"name": "Again"}, since=date(2040, 3, 2))
    the_5th = date(2040, 3, 5)
    assert names(ledger, the_5th, "recorded") == {}
    assert names(ledger, the_5th, "occurred") == {"raffle": ("Again", date(2040, 3, 2))}
    assert names(ledger, date(2040, 3, 1), "occurred") == {"raffle": ("Raffle", date(2040, 3, 1))}


def test_days_before_spreadsheets_began_are_readable(ledger: Ledger, clock: SettableClock) -> None:
    """Given an activity since 1873, then the workbook says so in words: its dates begin in 1900."""
    clock.set(NOW)
    state(ledger, "activity", RAFFLE, since=date(1873, 5, 9))
    book = openpyxl.load_workbook(io.BytesIO(record_xlsx(made(ledger))))
    head, row = book["activities"].iter_rows(max_row=2, values_only=True)
    assert dict(zip(head, row, strict=True))["Declared on"] == "1873-05-09"


@pytest.mark.parametrize("country", ["UK", "EL", "EU", "ZZ", "de"])
def test_a_country_is_one_that_there_is(country: str) -> None:
    """Given a code that looks like a country's and is none, then no entry takes it: its transfers would be judged as
    those to a country of which nothing is known."""
    for kind, values in (
        ("party", CONTROLLER | {"country": country}),
        ("recipient", {"key": "x", "recipient_kind": "partner", "name": "X", "countries": ["DE", country]}),
        ("safeguard", {"key": "x", "mechanism": "scc", "name": "X", "countries": [country]}),
    ):
        with pytest.raises(RegisterRefused, match="ISO 3166-1"):
            statement(kind, values)
    written = (resources.files("domain.law") / CountryRow.FILE).read_text()
    for there in ("GB", "XK", *(country for row in read_rows(CountryRow, written) for country in row.countries)):
        assert values_of(statement("party", CONTROLLER | {"country": there}))["country"] == there
    assert len(ASSIGNED) == 249


# What is gone, and what is not counted yet --------------------------------------------------------------------------


def test_what_only_erased_persons_had_is_no_undeclared_data(ledger: Ledger, clock: SettableClock) -> None:
    """Given letters to support that nobody declared, then they are found; when the last of those who wrote is erased,
    nothing of it can be read any more, and the finding is gone (GDPR Art. 30(1)(c))."""
    clock.set(NOW)
    in_order(ledger)
    people = emails(2)
    willing(ledger, people)
    for email in people:
        ledger.records.take([Record("support", {"letter": "x"}, "ticket", email)], actor="cli")
    for email in people:
        assert found(made(ledger), "undeclared_category")
        ledger.erasures.intend([email], reason="subject_request", actor="cli")
        finish_erasures(ledger)
    record = made(ledger)
    assert [seen.events for seen in record.observed.categories if seen.category.code == "support"] == [2]
    assert not found(record, "undeclared_category")


def test_nothing_is_called_never_seen_that_was_not_counted(ledger: Ledger, clock: SettableClock) -> None:
    """Given a log that goes on behind what was counted, then no category is said to have never been seen: it may well
    stand in the part that was not."""
    clock.set(NOW)
    in_order(ledger)
    assert found(made(ledger), "never_seen")
    willing(ledger, emails(1))
    behind = records_of_processing(ledger, AROUND)
    assert found(behind, "not_counted")
    assert not found(behind, "never_seen")


def test_an_event_that_was_put_aside_is_a_gap(ledger: Ledger, clock: SettableClock) -> None:
    """Given an event that could not be counted, then a record that reaches it says how far the counts are whole; one of
    the day before is as it was."""
    clock.set(NOW)
    in_order(ledger)
    clock.set(NOW + timedelta(days=1))
    willing(ledger, emails(1))
    before, whole = made(ledger, NOW.date()), made(ledger)
    assert not found(whole, "not_counted")
    with ledger.services.writer.transaction() as connection:
        tracked = take(connection, ledger.tenant, NAME, wait=True)
        assert tracked is not None
        park(connection, tracked, whole.position, "contact.added.v1: ValueError")
    record = made(ledger)
    assert record.observed.counted_to == whole.position - 1
    assert found(record, "not_counted")
    assert not found(record, "never_seen")
    assert made(ledger, NOW.date()).findings == before.findings


def test_a_record_takes_in_all_that_it_says(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a declaration that arrives while a record is made, then the position that the record names lies before it,
    or the record has it."""
    clock.set(NOW)
    state(ledger, "activity", RAFFLE)

    def meanwhile(*given: Any) -> Any:
        state(ledger, "recipient", {"key": "late", "recipient_kind": "partner", "name": "Late"})
        return retained(*given)

    monkeypatch.setattr("audit.records.record.retained", meanwhile)
    record = records_of_processing(ledger, AROUND)
    position = ledger.log.max_notification_id()
    assert position is not None
    assert "late" in {recipient.key for recipient in record.recipients} or record.position < position


def test_a_recipient_used_once_is_found_until_it_is_declared(ledger: Ledger, clock: SettableClock) -> None:
    """Given one export that left the house long ago, then it is found on every later day, and not before it."""
    clock.set(NOW)
    state(ledger, "activity", RAFFLE)
    clock.set(NOW + timedelta(days=1))
    ledger.record_export("spreadsheet", "everybody", entries=1, opened=0, actor="cli")
    clock.set(NOW + timedelta(days=400))
    assert [f.about for f in found(made(ledger), "undeclared_recipient")] == ["export:spreadsheet"]
    assert not found(made(ledger, NOW.date()), "undeclared_recipient")
    state(ledger, "recipient", {"key": "b", "recipient_kind": "partner", "name": "B", "seen_as": ["export:spread*"]})
    assert not found(made(ledger), "undeclared_recipient")
