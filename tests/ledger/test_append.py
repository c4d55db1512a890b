"""The append keeps its promises: a "no" is final, positions are gapless, and time never runs backwards (I1, I3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from audit.sends.after_no import check_no_send_after_no
from domain.account import RulesAdopted
from domain.ids import micros
from domain.message import SendAuthorised
from domain.permission import SendTerms, decide
from domain.standing import WITHDRAWN
from domain.subject import fold
from domain.subject_commands import LiftByHand, RecordConsent, Restrict, SayNo
from ledger.append import READ_HEAD, Appender, Head
from ledger.application import Ledger
from ledger.connections import Pool
from ledger.errors import SettingsRefused, UnknownAccount
from ledger.standing_row import StandingRow
from ledger.subjects import Act
from projections.standing import InlineStanding
from tests.acts import NEWSLETTER, add, ask, emails, person, plant_send, register, say, stream_of, topics, willing
from tests.support import SettableClock
from tests.workers import authorise_all, finish, start, withdraw_each

pytestmark = pytest.mark.store

WAIT_SECONDS_MAX = 60

BROKEN_LOCK_AND_READ = """
WITH locked AS MATERIALIZED (SELECT generation FROM lethe.head WHERE tenant_id = %s FOR UPDATE)
SELECT s.fingerprint, s.epoch, s.sealed, 0 AS rolled FROM locked JOIN lethe.standing AS s USING (generation)
WHERE s.tenant_id = %s AND s.fingerprint = ANY(%s)
"""
"""The control: it locks and reads in one statement, so the read is from before the wait."""
SELECT_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


Read = Callable[[Ledger, StandingRow, Connection[Any]], StandingRow]


def read_in_one_statement(ledger: Ledger, row: StandingRow, connection: Connection[Any]) -> StandingRow:
    values = (ledger.tenant, ledger.tenant, [row.fingerprint])
    found = connection.execute(BROKEN_LOCK_AND_READ, values, binary=True).fetchall()
    book = ledger.services.book
    assert isinstance(book, InlineStanding)
    return book._rows(ledger.tenant, found)[row.fingerprint]


def read_after_the_lock(ledger: Ledger, row: StandingRow, connection: Connection[Any]) -> StandingRow:
    locked = ledger.appender.lock(connection)
    found = ledger.services.book.read(connection, ledger.tenant, locked.generation, [row.fingerprint])
    return found[row.fingerprint]


def authorise_by(read: Read, ledger: Ledger, row: StandingRow, campaign: UUID) -> bool:
    """A bare authorisation: hold the lock, read standing in this form, and record a send if it is allowed."""
    with ledger.services.writer.transaction() as connection:
        held = read(ledger, row, connection)
        terms = SendTerms.of(NEWSLETTER, "email", "DE", 16)
        rules = ledger.services.rules(datetime.now(UTC).date())
        allowed = decide(held.standing, (), terms, rules, micros(datetime.now(UTC))).allowed
    if allowed:
        plant_send(ledger, row, campaign)
    return allowed


@pytest.mark.parametrize(("read", "breaks"), [(read_in_one_statement, True), (read_after_the_lock, False)])
def test_only_a_lock_of_its_own_makes_a_no_final(ledger: Ledger, read: Read, breaks: bool) -> None:
    """Given a withdrawal that holds the lock, when a send waits behind it, then the one-statement form allows it."""
    people = emails(1)
    willing(ledger, people)
    campaign = register(ledger)
    row = person(ledger, people[0])
    holding, release = Event(), Event()

    def hold(*_: Any) -> None:
        holding.set()
        assert release.wait(WAIT_SECONDS_MAX)

    with ThreadPoolExecutor(2) as threads:
        no = Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=people[0])
        withdrawal = threads.submit(ledger.subjects.act, [no], also=hold)
        assert holding.wait(WAIT_SECONDS_MAX)
        sending = threads.submit(authorise_by, read, ledger, row, campaign)
        wait_for_a_waiter(ledger)
        release.set()
        withdrawal.result(WAIT_SECONDS_MAX)
        allowed = sending.result(WAIT_SECONDS_MAX)
    assert allowed is breaks
    assert bool(check_no_send_after_no(ledger)) is breaks


def wait_for_a_waiter(ledger: Ledger) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    with psycopg.connect(ledger.services.writer.url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute(SELECT_WAITING).fetchone()
            if row is not None and row[0]:
                return
            time.sleep(0.01)
    raise AssertionError("Nobody came to wait for the lock.")


def test_no_send_after_no_across_processes(instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given two processes that authorise, when two others withdraw meanwhile, then I1 and I3 hold."""
    people = emails(300)
    willing(ledger, people)
    campaigns = [register(ledger) for _ in range(6)]
    half = len(people) // 2
    children = [
        *(start(authorise_all, instance.settings, ledger.tenant, campaigns, people, 25, tmp_path) for _ in range(2)),
        *(
            start(withdraw_each, instance.settings, ledger.tenant, part, tmp_path)
            for part in (people[:half], people[half:])
        ),
    ]
    finish(children)
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert check_no_send_after_no(ledger) == []
    told = topics_of_sends(ledger)
    assert told["send.authorised.v1"] > 0
    assert told["send.refused.v1"] > 0, "The processes did not overlap, so nothing was tried."
    assert all(person(ledger, p).standing.permissions["newsletter|email"].status == WITHDRAWN for p in people[:5])


def topics_of_sends(ledger: Ledger) -> dict[str, int]:
    with psycopg.connect(ledger.services.writer.url) as connection:
        rows = connection.execute(
            "SELECT topic, count(*) FROM lethe.event WHERE tenant_id = %s AND topic LIKE 'send.%%' GROUP BY topic",
            (ledger.tenant,),
        ).fetchall()
    return {"send.authorised.v1": 0, "send.refused.v1": 0} | dict(rows)


def test_appends_are_read_committed(ledger: Ledger) -> None:
    """Given any append, when its transaction is asked, then it is READ COMMITTED."""
    with ledger.appender.locked() as locked:
        row = locked.connection.execute("SHOW transaction_isolation").fetchone()
    assert row == ("read committed",)


def test_another_isolation_level_is_refused(ledger: Ledger) -> None:
    """Given a server that hands out another isolation level, when a pool is set up on it, then it refuses."""
    pool = Pool(ledger.services.writer.url, application="test")
    serializable = psycopg.connect(pool.url, options="-c default_transaction_isolation=serializable")
    with serializable as connection, pytest.raises(SettingsRefused, match="READ COMMITTED"):
        pool._configure(connection)


def test_a_tenant_nobody_opened_cannot_be_locked(ledger: Ledger) -> None:
    """Given no head row, when an append is tried, then the error says to open the account."""
    stranger = Appender(UUID(int=7), ledger.services.writer, ledger.clock)
    with pytest.raises(UnknownAccount, match="account open"), stranger.locked():
        pass


def test_time_never_runs_backwards_along_the_log(ledger: Ledger, clock: SettableClock) -> None:
    """Given a clock that jumps back an hour, when more is written, then recorded_at stands still (FAULTS 14a)."""
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC) + timedelta(days=400)
    clock.set(noon)
    add(ledger, ["first@example.com"])
    clock.advance(timedelta(hours=-1))
    add(ledger, ["second@example.com"])
    clock.advance(timedelta(hours=2))
    add(ledger, ["third@example.com"])
    times = [event.recorded_at for event in ledger.log.select_log(1, 100)][-3:]
    assert times == [noon, noon, noon + timedelta(hours=1)]
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_a_chunk_takes_its_positions_in_order_of_stream_id(ledger: Ledger) -> None:
    """Given a list in some order, when it is imported and asked for, then the log repeats the order of neither."""
    people = emails(60)
    add(ledger, people)
    added = [event.originator_id for event in ledger.log.select_log(2, 60)]
    assert added == sorted(added)
    say(ledger, people, "grant")
    campaign = register(ledger)
    before = len(topics(ledger))
    ask(ledger, campaign, [*people, "nobody@example.org"])
    assert topics(ledger)[before] == RulesAdopted.TOPIC
    sends = ledger.log.select_log(before + 2, 60)
    assert {event.topic for event in sends} == {SendAuthorised.TOPIC}
    assert [event.originator_id for event in sends] == sorted(event.originator_id for event in sends)


def test_an_append_that_fails_leaves_nothing(ledger: Ledger) -> None:
    """Given an append, when it raises after the rows were copied, then neither log nor standing nor head moved."""
    people = emails(3)
    add(ledger, people)
    before = topics(ledger)

    def fail(*_: Any) -> None:
        raise RuntimeError("power cut")

    no = [Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=p) for p in people]
    with pytest.raises(RuntimeError, match="power cut"):
        ledger.subjects.act(no, also=fail)
    assert topics(ledger) == before
    assert all(not person(ledger, p).standing.permissions for p in people)
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_restrict_position_moves_with_standing_only(ledger: Ledger) -> None:
    """Given a head, when standing changes it says where; when only sends are recorded it does not."""
    people = emails(2)
    willing(ledger, people)
    campaign = register(ledger)
    seen = read_head(ledger)
    ask(ledger, campaign, people)
    after_sends = read_head(ledger)
    assert after_sends.restrict_position == seen.restrict_position
    assert after_sends.position > seen.position
    say(ledger, people[:1], "withdraw")
    after_no = read_head(ledger)
    assert after_no.restrict_position == after_no.position


def read_head(ledger: Ledger) -> Head:
    with ledger.services.writer.transaction() as connection:
        row = connection.execute(READ_HEAD, (ledger.tenant,)).fetchone()
        assert row is not None
        return ledger.appender.read_head(connection)


def test_standing_is_the_fold_of_the_stream(ledger: Ledger) -> None:
    """Given everything a person can say, when their stream is folded, then it is what the inline projection holds."""
    people = emails(4)
    willing(ledger, people)
    for command in (
        SayNo("objection", "marketing"),
        SayNo("manual", "all"),
        LiftByHand("all"),
        Restrict(),
        RecordConsent("offers", "email", "refuse"),
    ):
        ledger.subjects.act([Act(command, address=p, actor="cli") for p in people])
    for address in people:
        row = person(ledger, address)
        assert fold(None, stream_of(ledger, row)) == row.standing
