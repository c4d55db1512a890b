"""The daily chores: erasures' fingerprints move to the list, day keys die, short-lived rows go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.bootstrap import Instance
from domain.facts import opened
from domain.ids import day_of, month_of
from domain.personal import Erased
from domain.subject import ErasureIntended
from domain.suppression import SuppressionImposed, SuppressionKeyClosed
from ledger.application import Ledger
from ledger.errors import KeyMissing, PeriodDestroyed
from ledger.feedback import FeedbackEvent
from ledger.idempotency import IdempotentPart
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER, KeyName
from projections.rebuild import rebuild
from projections.worker import catch_up
from retention import daily
from retention.daily import (
    DayClosed,
    DayNotOver,
    close_suppression_days,
    expire_feed_keys,
    purge_idempotency,
    run_daily,
)
from retention.erasure.erasing import finish_erasures
from tests.projections.scenes import add, erase, feed, grant, inline_rows, serving_generation, withdraw
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = [f"person{number}@example.com" for number in range(8)]


class Killed(Exception):
    """Stands for a process that dies at this point."""


def listed(ledger: Ledger) -> list[Any]:
    """The suppression list as it serves."""
    return inline_rows(ledger, serving_generation(ledger))["suppressions"]


def of_topic(ledger: Ledger, topic: str) -> list[Any]:
    """Every fact of one topic, opened as far as it opens."""
    return [ledger.sealing.open(event) for event in ledger.log.select_log(1, 10_000, topics=[topic])]


def batch(ledger: Ledger) -> list[SuppressionImposed]:
    """The entries that the daily batch has written."""
    return [fact for fact in of_topic(ledger, SuppressionImposed.TOPIC) if fact.actor == "retention"]


def fingerprints(facts: list[Any]) -> list[bytes]:
    return [bytes.fromhex(f) for fact in facts for f in opened(fact.fingerprints) or ()]


@pytest.fixture
def erased(ledger: Ledger, clock: SettableClock) -> datetime:
    """Five of eight people were erased yesterday, one of them was known by two addresses; the time of it."""
    when = clock().replace(hour=10) + timedelta(days=1)
    clock.set(when)
    add(ledger, *PEOPLE)
    erase(ledger, *PEOPLE[:3], "stranger@example.com")
    erase(ledger, *PEOPLE[3:5])
    finish_erasures(ledger)
    clock.advance(timedelta(days=1))
    return when


def test_yesterdays_erasures_become_entries(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """One entry per fingerprint, of cause erased, all scopes, by month; the list serves the same rows as before."""
    # given
    before = listed(ledger)
    wanted = sorted(fingerprints(of_topic(ledger, ErasureIntended.TOPIC)))
    assert len(wanted) == 5
    # when
    closed = close_suppression_days(ledger, clock())
    # then
    assert closed == [DayClosed(day_of(erased), 5)]
    entries = batch(ledger)
    assert sorted(fingerprints(list(entries))) == wanted
    assert {(e.scope, e.reason, e.since, e.address) for e in entries} == {("all", "erased", month_of(erased), None)}
    assert listed(ledger) == before
    assert [(f.day, f.entries) for f in of_topic(ledger, SuppressionKeyClosed.TOPIC)] == [(day_of(erased), 5)]


def test_entries_stand_in_order_of_random_ids(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """Each entry has a stream of its own; their order is that of the ids, and no id or time is that of an intent."""
    close_suppression_days(ledger, clock())
    intents, entries = of_topic(ledger, ErasureIntended.TOPIC), batch(ledger)
    streams = [entry.originator_id for entry in entries]
    assert streams == sorted(set(streams))
    assert len({entry.command for entry in entries}) == len(entries)
    for attribute in ("originator_id", "event_id", "command", "occurred_at", "recorded_at"):
        of_intents = {getattr(intent, attribute) for intent in intents}
        assert not of_intents & {getattr(entry, attribute) for entry in entries}


def test_rows_are_written_anew(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """No row of the list keeps the transaction of an intent, which would name the erased stream beside it."""

    def transactions(table: str, where: str) -> set[int]:
        statement = f"SELECT xmin::text::bigint FROM lethe.{table} WHERE tenant_id = %s AND {where}"
        with ledger.services.writer.transaction() as connection:
            return {row[0] for row in connection.execute(statement, (ledger.tenant,))}

    intents = transactions("event", f"topic = '{ErasureIntended.TOPIC}'")
    assert intents & transactions("suppression", "cause = 'erased'")  # The control: before, it leads back.
    close_suppression_days(ledger, clock())
    stranger = transactions("event", f"topic = '{SuppressionImposed.TOPIC}'")
    rows = transactions("suppression", "cause = 'erased'")
    assert rows <= stranger
    # Inserted and not updated: an updated row is tied to its older version, which is that of the intent.
    with ledger.services.writer.transaction() as connection:
        updated = connection.execute(
            "SELECT count(*) FROM lethe.suppression "
            "WHERE tenant_id = %s AND fingerprint = ANY(%s) AND xmax::text <> '0'",
            (ledger.tenant, fingerprints(list(batch(ledger)))),
        ).fetchone()
    assert updated == (0,)


def test_no_key_that_is_left_opens_the_intents(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """Before the batch the intents open; after it they are erased, while the list's own events still open."""
    assert not any(isinstance(f.fingerprints, Erased) for f in of_topic(ledger, ErasureIntended.TOPIC))
    close_suppression_days(ledger, clock())
    ledger.keyring.forget_all()
    after = of_topic(ledger, ErasureIntended.TOPIC)
    assert after
    assert all(isinstance(f.fingerprints, Erased) for f in after)
    assert all(f.fingerprints.why == daily.KEY_CAUSE_CLOSED for f in after)
    assert len(fingerprints(list(batch(ledger)))) == 5


def test_late_arrivals_are_refused(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """The key of a closed day is never made again, so nothing of that day is sealed any more (FAULTS 14a)."""
    close_suppression_days(ledger, clock())
    with pytest.raises(PeriodDestroyed):
        ledger.keyring.ensure([KeyName(TENANT_HOLDER, "suppression", day_of(erased))])
    # A clock that runs behind does not put an erasure into the day that is over: the log's own time has moved on.
    clock.set(erased)
    erase(ledger, PEOPLE[6])
    assert ledger.person(PEOPLE[6]) is None
    assert day_of(of_topic(ledger, ErasureIntended.TOPIC)[-1].occurred_at) > day_of(erased)


def test_a_second_run_does_nothing(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """A closed day stays closed, and today is not touched."""
    close_suppression_days(ledger, clock())
    erase(ledger, PEOPLE[7])
    end = ledger.log.max_notification_id()
    assert close_suppression_days(ledger, clock()) == []
    assert ledger.log.max_notification_id() == end
    assert not isinstance(of_topic(ledger, ErasureIntended.TOPIC)[-1].fingerprints, Erased)


def test_several_days_are_closed_in_order(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """After a pause of the worker every day is closed by itself, the oldest first."""
    erase(ledger, PEOPLE[5])
    clock.advance(timedelta(days=3))
    erase(ledger, "another-stranger@example.com")  # A day with a key and without an intent.
    clock.advance(timedelta(days=2))
    days = [day_of(erased + timedelta(days=number)) for number in (0, 1, 4)]
    assert close_suppression_days(ledger, clock()) == [
        DayClosed(days[0], 5),
        DayClosed(days[1], 1),
        DayClosed(days[2], 0),
    ]


def test_a_person_erased_twice_is_listed_for_each_day(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """Who came back and was erased again keeps one row, of the later month."""
    close_suppression_days(ledger, clock())
    clock.advance(timedelta(days=40))
    add(ledger, PEOPLE[0])
    erase(ledger, PEOPLE[0])
    again = clock()
    clock.advance(timedelta(days=1))
    assert close_suppression_days(ledger, clock()) == [DayClosed(day_of(again), 1)]
    entries = ledger.suppressions.look_up([PEOPLE[0]])[0].entries
    assert entries == [("all", "erased", f"{month_of(again)}-01")]


def test_an_intent_that_comes_while_the_day_is_closed_is_listed_too(
    ledger: Ledger, clock: SettableClock, erased: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process, whose clock is a moment behind, erases somebody after the intents were read."""
    read = daily._Day._intents

    def read_and_let_one_in(self: Any) -> Any:
        found = read(self)
        clock.set(erased + timedelta(minutes=1))
        erase(ledger, PEOPLE[6])
        clock.set(erased + timedelta(days=1))
        return found

    monkeypatch.setattr(daily._Day, "_intents", read_and_let_one_in)
    assert close_suppression_days(ledger, clock()) == [DayClosed(day_of(erased), 6)]
    assert ledger.fingerprint(PEOPLE[6]) in fingerprints(list(batch(ledger)))


def test_two_workers_do_not_list_anybody_twice(
    ledger: Ledger, clock: SettableClock, erased: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one worker closes the day, another passes by."""
    read = daily._Day._intents
    others: list[list[DayClosed]] = []

    def read_while_another_comes(self: Any) -> Any:
        monkeypatch.undo()
        others.append(close_suppression_days(ledger, clock()))
        return read(self)

    monkeypatch.setattr(daily._Day, "_intents", read_while_another_comes)
    assert close_suppression_days(ledger, clock()) == [DayClosed(day_of(erased), 5)]
    assert others == [[]]
    assert len(fingerprints(list(batch(ledger)))) == 5


def after_the_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(daily, "_destroy", die)


def between_two_appends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily, "ENTRIES_PER_APPEND", 2)
    append, calls = daily._Day._append, []

    def die_the_second_time(self: Any, *args: Any) -> None:
        calls.append(args)
        if len(calls) > 1:
            raise Killed
        append(self, *args)

    monkeypatch.setattr(daily._Day, "_append", die_the_second_time)


def inside_the_first_append(monkeypatch: pytest.MonkeyPatch) -> None:
    append = daily._Day._append

    def die(self: Any, *args: Any) -> None:
        append(self, *args)
        raise Killed

    monkeypatch.setattr(daily._Day, "_append", die)


def after_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(daily._Day, "_conclude", die)


@pytest.mark.parametrize(
    "killed", [inside_the_first_append, between_two_appends, after_the_entries, after_the_key], ids=lambda f: f.__name__
)
def test_killed_anywhere_it_converges(
    ledger: Ledger,
    clock: SettableClock,
    erased: datetime,
    monkeypatch: pytest.MonkeyPatch,
    instance: Instance,
    killed: Callable[[pytest.MonkeyPatch], None],
) -> None:
    """Run again after a kill, each fingerprint is listed once, the day is closed once, and the key is gone."""
    # given
    wanted = sorted(fingerprints(of_topic(ledger, ErasureIntended.TOPIC)))
    before = listed(ledger)
    killed(monkeypatch)
    with pytest.raises(Killed):
        close_suppression_days(ledger, clock())
    monkeypatch.undo()
    # when
    clock.advance(timedelta(hours=1))
    assert close_suppression_days(ledger, clock()) == [DayClosed(day_of(erased), 5)]
    # then
    assert sorted(fingerprints(list(batch(ledger)))) == wanted
    assert [fact.entries for fact in of_topic(ledger, SuppressionKeyClosed.TOPIC)] == [5]
    assert all(isinstance(f.fingerprints, Erased) for f in of_topic(ledger, ErasureIntended.TOPIC))
    assert listed(ledger) == before
    assert close_suppression_days(ledger, clock()) == []
    rebuild(ledger, instance.rebuilder, "standing", grace_seconds=0)
    assert listed(ledger) == before


def test_a_day_that_is_not_over_is_left_alone(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """Asked with a time ahead of the ledger's own clock, it writes nothing and destroys nothing."""
    clock.set(erased + timedelta(minutes=1))
    end = ledger.log.max_notification_id()
    with pytest.raises(DayNotOver):
        close_suppression_days(ledger, clock() + timedelta(days=1))
    assert ledger.log.max_notification_id() == end
    assert fingerprints(of_topic(ledger, ErasureIntended.TOPIC))


def test_a_lost_day_key_is_an_incident(
    ledger: Ledger, clock: SettableClock, erased: datetime, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key without tombstone stops the closing (I6): the entries could not be written, so the day stays open."""
    after_the_entries(monkeypatch)
    with pytest.raises(Killed):
        close_suppression_days(ledger, clock())
    monkeypatch.undo()
    with instance.vault_pool.transaction() as connection:
        connection.execute(
            "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'suppression' AND period = %s",
            (ledger.tenant, day_of(erased)),
        )
    ledger.keyring.forget_all()
    with pytest.raises(KeyMissing):
        close_suppression_days(ledger, clock())
    assert of_topic(ledger, SuppressionKeyClosed.TOPIC) == []


# What is kept for days only ------------------------------------------------------------------------------------------


def test_feed_keys_and_what_hangs_on_them_live_seven_days(ledger: Ledger, clock: SettableClock) -> None:
    """On the eighth day the keys, lines, parked feedback and kept answers of a day go, and not on the seventh."""
    # given a day with a line, parked feedback and a kept answer
    today = day_of(clock())
    add(ledger, PEOPLE[0])
    withdraw(ledger, PEOPLE[0])
    catch_up(ledger)
    unknown = FeedbackEvent(0, "nonsense", "opened", clock())
    assert [len(answer.parked) for answer in ledger.feedback.take([unknown], actor="cli")] == [1]
    part = IdempotentPart.of(ledger.tenant, "POST /v1/contacts", uuid4().hex, b"{}")
    with ledger.appender.locked() as locked:
        ledger.parts.save(locked, part, b"answer")
    # when
    clock.advance(timedelta(days=7))
    on_the_seventh = expire_feed_keys(ledger, clock())
    clock.advance(timedelta(days=1))
    on_the_eighth = expire_feed_keys(ledger, clock())
    # then
    assert (on_the_seventh.days, on_the_seventh.changes, on_the_seventh.parked) == ((), 0, 0)
    assert on_the_eighth.days == (today,)
    assert (on_the_eighth.changes, on_the_eighth.parked, on_the_eighth.answers) == (2, 1, 1)
    assert feed(ledger)[0] == []
    assert isinstance(ledger.keyring.opening_scope(TENANT_HOLDER, "feed", today), Erased)
    with pytest.raises(PeriodDestroyed):
        ledger.keyring.ensure([KeyName(TENANT_HOLDER, "feed", today)])


def test_a_kill_after_the_feed_key_leaves_lines_without_address(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key goes first: a line that outlives it says what happened and no longer to whom, until the next run."""
    add(ledger, PEOPLE[0])
    withdraw(ledger, PEOPLE[0])
    catch_up(ledger)
    clock.advance(timedelta(days=8))

    def die(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(daily, "purge_changes", die)
    with pytest.raises(Killed):
        expire_feed_keys(ledger, clock())
    monkeypatch.undo()
    assert [(change.kind, change.email) for change in feed(ledger)[0]] == [
        ("consent_withdrawn", None),
        ("recalled", None),
    ]
    assert expire_feed_keys(ledger, clock()).changes == 2


def test_answers_are_forgotten_after_a_day(ledger: Ledger, clock: SettableClock) -> None:
    """The answer to a request under an Idempotency-Key is kept for 24 hours."""
    part = IdempotentPart.of(ledger.tenant, "POST /v1/contacts", uuid4().hex, b"{}")
    with ledger.appender.locked() as locked:
        ledger.parts.save(locked, part, b"answer")
    clock.advance(timedelta(hours=23))
    assert purge_idempotency(ledger, clock()) == 0
    clock.advance(timedelta(hours=2))
    assert purge_idempotency(ledger, clock()) == 1


def test_all_chores_together(ledger: Ledger, clock: SettableClock, erased: datetime) -> None:
    """The worker's daily chore does all three, and does nothing on an account where nothing is due."""
    grant(ledger, PEOPLE[6])
    run_daily(ledger)
    end = ledger.log.max_notification_id()
    assert of_topic(ledger, SuppressionKeyClosed.TOPIC)
    run_daily(ledger)
    assert ledger.log.max_notification_id() == end
    assert ledger.services.vault.living_periods(ledger.tenant, "suppression", day_of(clock())) == []
    assert KeyName(TENANT_HOLDER, "suppression", FOR_EVER) in ledger.keyring.ensure(
        [KeyName(TENANT_HOLDER, "suppression", FOR_EVER)]
    )
    assert UUID(int=0) not in {fact.originator_id for fact in batch(ledger)}
