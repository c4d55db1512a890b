"""Key commitments are published once a day, whatever becomes of the keys, and by them a key is known (DESIGN 6)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from api.bootstrap import Instance
from domain.keys import KeyCommitmentsPublished
from domain.merkle import require_included, root_of
from ledger.application import Ledger
from ledger.keys.commitments import CommitmentBook
from ledger.keys.names import key_commitment
from ledger.keys.vault import TENANT_HOLDER, KeyName
from retention.certificates import commitments
from retention.certificates.commitments import inclusions, publish_commitments
from retention.erasure.erasing import finish_erasures
from tests.acts import add, emails, person, willing
from tests.kills import killed_at
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
TODAY = NOON.date()
PEOPLE = emails(5)


@pytest.fixture
def clock(clock: SettableClock) -> SettableClock:
    """Noon of a day, standing still."""
    clock.set(NOON)
    return clock


@pytest.fixture
def ledger(instance: Instance, clock: SettableClock, ledger: Ledger) -> Ledger:
    """An account that was opened at noon, with five persons."""
    willing(ledger, PEOPLE)
    return ledger


def living_commitments(instance: Instance, ledger: Ledger) -> list[bytes]:
    """The commitments that stand beside the living wraps, in order."""
    with instance.vault_pool.transaction() as connection:
        select = "SELECT commitment FROM lethe_vault.wrapped_key WHERE tenant_id = %s ORDER BY commitment"
        return [bytes(row[0]) for row in connection.execute(select, (ledger.tenant,))]


def facts(ledger: Ledger) -> list[KeyCommitmentsPublished]:
    found = [ledger.sealing.open(event) for event in ledger.log.select_log(1, 10_000)]
    return [fact for fact in found if isinstance(fact, KeyCommitmentsPublished)]


def test_a_day_is_published_when_it_is_over(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given keys made today, when the chore runs today and tomorrow, then only tomorrow it publishes count and root."""
    assert publish_commitments(ledger, clock()) == []
    clock.advance(timedelta(days=1))
    (day,) = publish_commitments(ledger, clock())
    every = living_commitments(instance, ledger)
    assert (day.day, day.keys, day.root) == (TODAY, len(every), root_of(every))
    (fact,) = facts(ledger)
    assert (fact.day, fact.count, fact.root) == (str(TODAY), len(every), day.root.hex())
    assert fact.position == day.position


def test_a_commitment_is_that_of_the_key(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a key, when its commitment is computed, then it is in the day's tree; one bit off, and it is nowhere."""
    name = KeyName(person(ledger, PEOPLE[0]).person.kid, "identity")
    key = ledger.services.vault.find(ledger.tenant, [name]).keys[name]
    clock.advance(timedelta(days=1))
    (day,) = publish_commitments(ledger, clock())
    commitment = key_commitment(key)
    stranger = key_commitment(bytes((key[0] ^ 1,)) + key[1:])
    found = inclusions(ledger, {commitment: TODAY, stranger: TODAY})
    assert found.keys() == {commitment}
    where = found[commitment]
    require_included(commitment, where.index, day.keys, where.path, day.root)


def test_keys_destroyed_on_the_day_they_were_made_are_published(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given persons erased within their first day, when it is published, then their keys are in it with the others."""
    before = living_commitments(instance, ledger)
    ledger.erasures.intend(PEOPLE[:2], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    assert set(before) - set(living_commitments(instance, ledger))
    name = KeyName(TENANT_HOLDER, "usage", "2026-11")
    key = ledger.keyring.ensure([name])[name]
    ledger.services.vault.destroy_keys(ledger.tenant, [name], when=clock(), cause="test")
    clock.advance(timedelta(days=1))
    (day,) = publish_commitments(ledger, clock())
    with CommitmentBook(ledger.services.vault, ledger.tenant).of_day(TODAY) as published:
        every = list(published)
    assert set(before) | {key_commitment(key)} <= set(every)
    assert (day.keys, day.root) == (len(every), root_of(every))


def test_publishing_again_changes_nothing(ledger: Ledger, clock: SettableClock) -> None:
    """Given a published day, when the chore runs again, then there is one fact, and a quiet day gives none."""
    for _ in range(4):
        clock.advance(timedelta(days=1))
        publish_commitments(ledger, clock())
        publish_commitments(ledger, clock())
    assert [fact.day for fact in facts(ledger)] == [str(TODAY)]


def test_days_that_were_missed_are_made_up_for(ledger: Ledger, clock: SettableClock) -> None:
    """Given days on which no worker ran, when one runs, then each day that made keys has its own fact, oldest first."""
    for number in (1, 4):
        clock.set(NOON + timedelta(days=number))
        add(ledger, [f"later{number}@example.com"])
    clock.set(NOON + timedelta(days=5))
    published = publish_commitments(ledger, clock())
    days = [TODAY, TODAY + timedelta(days=1), TODAY + timedelta(days=4)]
    assert [one.day for one in published] == days
    assert [fact.day for fact in facts(ledger)] == [str(day) for day in days]


@pytest.mark.parametrize("step", ["wait_for_writers", "collect", "of_day"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_it_publishes_once(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Given a chore that is cut off before or after a step, when it runs again, then the day stands there once."""
    clock.advance(timedelta(days=1))
    with killed_at(monkeypatch, CommitmentBook, step, after=after):
        publish_commitments(ledger, clock())
    assert len(publish_commitments(ledger, clock())) == 1
    assert publish_commitments(ledger, clock()) == []
    assert len(facts(ledger)) == 1


def test_killed_after_the_fact_it_is_not_published_again(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a chore whose last commit was not told to it, when it runs again, then it finds nothing to do."""
    clock.advance(timedelta(days=1))
    with killed_at(monkeypatch, commitments, "_record", after=True):
        publish_commitments(ledger, clock())
    assert publish_commitments(ledger, clock()) == []
    assert len(facts(ledger)) == 1


def test_the_rows_of_a_day_repeat_nobodys_order(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a published day, when its rows are read as they lie on disk, then they are in order of the commitments."""
    clock.advance(timedelta(days=1))
    publish_commitments(ledger, clock())
    with psycopg.connect(instance.urls.vault, autocommit=True) as connection:
        select = "SELECT commitment FROM lethe_vault.key_commitment WHERE tenant_id = %s ORDER BY ctid"
        rows = [bytes(row[0]) for row in connection.execute(select, (ledger.tenant,))]
        columns = connection.execute("SELECT * FROM lethe_vault.key_commitment LIMIT 0").description or []
    assert len(rows) > len(PEOPLE)
    assert rows == sorted(rows)
    assert {column.name for column in columns} == {"tenant_id", "created_on", "commitment"}


def test_a_key_from_before_there_were_commitments_is_passed_over(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given a day whose keys have no commitments, when the chore runs, then it publishes nothing of that day."""
    with instance.vault_pool.transaction() as connection:
        update = "UPDATE lethe_vault.wrapped_key SET commitment = NULL, created_on = %s WHERE tenant_id = %s"
        connection.execute(update, (date(2026, 1, 5), ledger.tenant))
    clock.advance(timedelta(days=1))
    assert publish_commitments(ledger, clock()) == []
