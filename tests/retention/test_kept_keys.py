"""Keys that the law keeps from erased persons are mixed in the night, and are the same keys afterwards (I11)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.records import Record
from ledger.application import Ledger
from ledger.keys import rehoming
from ledger.keys.rehoming import MIXED
from retention.erasure.days import mix_kept_keys
from retention.erasure.erasing import finish_erasures
from tests.acts import emails, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(5)
SELECT = """
SELECT holder, class, period, generation, created_at, created_on, last_on, commitment, moved_on, xmin::text, epoch
FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND moved_on IS NOT NULL ORDER BY holder
"""
UNCHANGED = slice(0, 8)
MOVED_ON, XMIN = 8, 9


@pytest.fixture
def erased(ledger: Ledger, clock: SettableClock) -> Ledger:
    """An account with five persons, erased one after the other, whose bills are kept."""
    clock.set(datetime(2040, 1, 15, 12, tzinfo=UTC))
    willing(ledger, PEOPLE)
    for email in PEOPLE:
        ledger.records.take([Record("billing", {"of": email}, "invoice", email, None)], actor="cli")
        ledger.erasures.intend([email], reason="subject_request", actor="cli")
        finish_erasures(ledger)
    return ledger


def rows(ledger: Ledger) -> list[tuple[Any, ...]]:
    with ledger.services.vault.pool.transaction() as connection:
        return connection.execute(SELECT, (ledger.tenant,)).fetchall()


def bills_that_open(ledger: Ledger) -> int:
    streams = [stream for row in rows(ledger) for stream in ledger.records.streams.of(bytes(row[0]), ["billing"])]
    return len(ledger.log.select_streams(streams))


def test_nothing_is_mixed_before_its_day_is_over(erased: Ledger, clock: SettableClock) -> None:
    """Given kept keys of today, when the chore runs, then they stay; a day later they are written together, once."""
    before = rows(erased)
    assert {row[MOVED_ON] for row in before} == {clock().date()}
    assert len({row[XMIN] for row in before}) == len(PEOPLE)
    assert mix_kept_keys(erased, clock()) == 0
    assert rows(erased) == before

    clock.advance(timedelta(days=1))
    assert mix_kept_keys(erased, clock()) == len(PEOPLE)
    after = rows(erased)
    assert {row[MOVED_ON] for row in after} == {MIXED}
    assert len({row[XMIN] for row in after}) == 1
    assert [row[UNCHANGED] for row in after] == [row[UNCHANGED] for row in before]
    assert bills_that_open(erased) == len(PEOPLE)
    assert mix_kept_keys(erased, clock()) == 0
    assert rows(erased) == after


def test_what_was_mixed_before_is_the_crowd_of_the_next(erased: Ledger, clock: SettableClock) -> None:
    """Given kept keys that were mixed, when one more is mixed, then all are written again beside it."""
    clock.advance(timedelta(days=1))
    mix_kept_keys(erased, clock())
    willing(erased, ["late@example.com"])
    erased.records.take([Record("billing", {"of": "late"}, "invoice", "late@example.com", None)], actor="cli")
    erased.erasures.intend(["late@example.com"], reason="subject_request", actor="cli")
    finish_erasures(erased)
    clock.advance(timedelta(days=1))
    assert mix_kept_keys(erased, clock()) == 1
    assert len({row[XMIN] for row in rows(erased)}) == 1
    assert bills_that_open(erased) == len(PEOPLE) + 1


def test_more_than_one_batch_are_all_mixed(
    erased: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more keys than a batch takes, when the chore runs, then each is mixed, and the keys are the same."""
    monkeypatch.setattr(rehoming, "KEYS_PER_MIX", 2)
    before = rows(erased)
    clock.advance(timedelta(days=1))
    assert mix_kept_keys(erased, clock()) == len(PEOPLE)
    assert {row[MOVED_ON] for row in rows(erased)} == {MIXED}
    assert [row[UNCHANGED] for row in rows(erased)] == [row[UNCHANGED] for row in before]
    assert bills_that_open(erased) == len(PEOPLE)
