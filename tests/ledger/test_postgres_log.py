"""What PostgreSQL itself writes down when things fail: never a personal value (FAULTS 6b, 26; I4).

These tests have a server of their own, so that its log is theirs and it can be stopped in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance, running
from audit.attacks.clear_text import search_clear_text
from audit.fsck import require_whole_log
from audit.sends.after_no import check_no_send_after_no
from domain.subject_commands import AddContact, RecordConsent
from ledger.append import COPY_EVENTS, COPY_HEADER, LockedTenant, Row
from ledger.application import Ledger
from ledger.connections import ACQUIRE_TIMEOUT_SECONDS
from ledger.embedded import EmbeddedPostgres
from ledger.errors import Unavailable
from ledger.mapper import LedgerEvent
from ledger.subjects import Act
from tests.acts import NEWSLETTER, add, ask, emails, register, report, say, topics, willing
from tests.support import chosen_bin_dir, settings_for

pytestmark = pytest.mark.store

WAIT_SECONDS_MAX = 60
GONE_SECONDS = 1.0
"""How long a test's pools wait for a server that it has stopped; the program's wait ten times as long."""

CANARY = "canary.person.4711@example.com"
NAME, NOTE, LINK = "Kanarina Vogelsang", "likes-millet-and-mirrors", "https://example.com/very/personal/link"
NEEDLES = [CANARY, NAME, NOTE, LINK]


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("lone"), chosen_bin_dir(), fsync=False) as server:
        yield server


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its epoch keys, as long-lived as its databases."""
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def lone(lone_server: EmbeddedPostgres, keys: Path) -> Iterator[Instance]:
    """An instance on that server; `restart` may be called under it."""
    with running(settings_for(lone_server, keys)) as instance:
        yield instance


@contextmanager
def giving_up_soon(instance: Instance) -> Iterator[None]:
    """Let its pools wait for a server that is gone for a short time only. A busy one may keep them longer than that."""
    pools = (instance.services.writer, instance.services.reader._pool, instance.vault_pool)
    for pool in pools:
        pool._pool.timeout = GONE_SECONDS
    yield
    for pool in pools:
        pool._pool.timeout = ACQUIRE_TIMEOUT_SECONDS


@pytest.fixture
def ledger(lone: Instance) -> Ledger:
    """A fresh account on that server."""
    opened = lone.ledger(uuid4())
    opened.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    return opened


def everything_of(server: EmbeddedPostgres) -> Path:
    """Log and data of the server, with what it still holds in memory written out."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    return server.data_dir


def live(ledger: Ledger) -> str:
    """A life full of canaries; returns the token of their message."""
    add(ledger, [CANARY, *emails(3)], first_name=NAME, custom={NOTE: NOTE}, country="DE")
    say(ledger, [CANARY], "grant", evidence={"form": NOTE, "method": "form"})
    token = ask(ledger, register(ledger), [CANARY]).allowed[CANARY]
    report(ledger, [(token, "clicked")], url=LINK, user_agent=NOTE)
    return token


def test_a_life_leaves_nothing_in_the_clear(lone_server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Given a person's life and erasure, when every file of the server is searched, then no value of theirs is found.

    The control plants the canary in a table and sees it found, in the table's file and in the log of changes.
    """
    live(ledger)
    ledger.erasures.intend([CANARY], reason="other", actor="cli")
    assert search_clear_text([everything_of(lone_server)], NEEDLES) == []
    with psycopg.connect(lone_server.url("lethe_ledger"), autocommit=True) as superuser:
        superuser.execute("CREATE TABLE planted (value text)")
        superuser.execute("INSERT INTO planted VALUES (%s)", (CANARY,))
    hits = search_clear_text([everything_of(lone_server)], NEEDLES)
    assert {hit.needle for hit in hits} == {0}
    assert any("pg_wal" in hit.path.parts for hit in hits)
    assert any("base" in hit.path.parts for hit in hits)


Failure = Callable[[LockedTenant, LedgerEvent], object]
"""Something that PostgreSQL refuses inside an append; it is given an event that stands in the log already."""


def row_twice(locked: LockedTenant, stored: LedgerEvent) -> None:
    assert isinstance(stored.originator_id, UUID)
    row = Row(stored.originator_id.bytes, stored.originator_version, stored.topic.encode(), stored.state, stored.sealed)
    locked.record_rows([row], restricts=False)


def bad_text_in_copy(locked: LockedTenant, stored: LedgerEvent) -> None:
    locked.record_rows([Row(uuid4().bytes, 1, b"\xff\xfe" + CANARY.encode(), stored.state, None)], restricts=False)


def missing_column(locked: LockedTenant, stored: LedgerEvent) -> None:
    statement = "INSERT INTO lethe.campaign VALUES (%s, 1, %s, %s, NULL, 'one-off', false, now())"
    locked.connection.execute(statement, (locked.tenant, uuid4(), CANARY))


def cancelled(locked: LockedTenant, stored: LedgerEvent) -> None:
    locked.connection.execute("SET LOCAL statement_timeout = '20ms'")
    locked.connection.execute("SELECT pg_sleep(5), %s", (CANARY,))


def bad_number(locked: LockedTenant, stored: LedgerEvent) -> None:
    locked.connection.execute("SELECT convert_from(%s, 'UTF8')::json", (NOTE.encode(),))


FAILURES: dict[str, tuple[Failure, type[Exception]]] = {
    "duplicate key value": (row_twice, psycopg.errors.UniqueViolation),
    "invalid byte sequence": (bad_text_in_copy, psycopg.errors.CharacterNotInRepertoire),
    "null value in column": (missing_column, psycopg.errors.NotNullViolation),
    "canceling statement": (cancelled, Unavailable),
    "invalid input syntax": (bad_number, psycopg.errors.InvalidTextRepresentation),
}


@pytest.mark.parametrize("said", FAILURES)
def test_failures_inside_the_server_leave_nothing_in_its_log(
    lone_server: EmbeddedPostgres, ledger: Ledger, said: str
) -> None:
    """Given a failed COPY, constraint, cast or cancelled statement, when the log is read, then it names no value."""
    live(ledger)
    before = topics(ledger)
    fail, error = FAILURES[said]

    def append() -> None:
        with ledger.appender.locked() as locked:
            fail(locked, ledger.log.select_log(2, 1)[0])

    with pytest.raises(error):
        append()
    assert topics(ledger) == before
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert said in lone_server.log_path.read_text()
    assert search_clear_text([lone_server.log_path], NEEDLES) == []


def test_a_log_that_is_not_silent_is_found_out(lone_server: EmbeddedPostgres, ledger: Ledger) -> None:
    """The control: given a session that logs its statements, when one fails, then the search finds the value."""
    assert search_clear_text([lone_server.log_path], NEEDLES) == []
    with psycopg.connect(lone_server.url("lethe_ledger"), autocommit=True) as loud:
        loud.execute("SET log_min_error_statement = error")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            loud.execute(f"SELECT '{CANARY}'::int".encode())
    assert search_clear_text([lone_server.log_path], NEEDLES)
    lone_server.log_path.write_text("")


def test_a_server_stopped_in_the_middle(lone_server: EmbeddedPostgres, lone: Instance, ledger: Ledger) -> None:
    """Given commands on their way, when the server crashes, then each is done or Unavailable, and all goes on after."""
    people = emails(30)
    willing(ledger, people)
    campaign = register(ledger)
    go, down = Event(), Event()
    done: list[str] = []

    def withdraw(part: list[str]) -> str:
        for address in part:
            try:
                ledger.act(Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=address))
            except Unavailable as error:
                return str(error)
            done.append(address)
            if len(done) > 3:
                go.set()
                down.wait(WAIT_SECONDS_MAX)
        return ""

    attempts: tuple[Callable[[], object], ...] = (
        lambda: ask(ledger, campaign, people),
        lambda: add(ledger, [CANARY]),
        lambda: ledger.check([(CANARY, NEWSLETTER, "email")]),
    )
    with giving_up_soon(lone), ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(withdraw, people[n::3]) for n in range(3)]
        assert go.wait(WAIT_SECONDS_MAX)
        lone_server.stop_immediately()
        down.set()
        errors = [run.result(WAIT_SECONDS_MAX) for run in runs]
        for attempt in attempts:
            with pytest.raises(Unavailable, match="again"):
                attempt()
    assert any(errors)
    assert not any(address in error for error in errors for address in people)
    lone_server.start()
    works_again(ledger)
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    asked = ask(ledger, campaign, people)
    assert set(done) <= set(asked.refused)
    assert check_no_send_after_no(ledger) == []
    assert search_clear_text([everything_of(lone_server) / "log"], [*people[:1], CANARY, NAME]) == []


def works_again(ledger: Ledger) -> None:
    """Connections broken by the crash are thrown away at their first use; after that, all is as before."""
    for attempt in range(50):
        address = f"after{attempt}@example.org"
        with suppress(Unavailable):
            ledger.act(Act(AddContact(address), address=address))
            return
    raise AssertionError("The ledger did not come back.")


def test_a_copy_cut_off_by_the_client_leaves_nothing(lone_server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Given a COPY that the program gives up half-way, when the log is checked, then not a row of it is there."""
    before = topics(ledger)

    def cut(*_: Any) -> None:
        raise RuntimeError("given up")

    acts = [Act(AddContact(address, {"first_name": NAME}), address=address) for address in emails(500)]
    with pytest.raises(RuntimeError):
        ledger.subjects.act(acts, also=cut)

    def copy_half() -> None:
        with ledger.appender.locked() as locked, locked.connection.cursor().copy(COPY_EVENTS) as copy:
            copy.write(COPY_HEADER)
            raise RuntimeError("given up inside the COPY")

    with pytest.raises(RuntimeError):
        copy_half()
    assert topics(ledger) == before
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert search_clear_text([lone_server.log_path], [NAME]) == []
