"""What PostgreSQL itself writes down when things fail: never a personal value (FAULTS 6b, 26; I4).

These tests have a server of their own, so that its log is theirs and it can be stopped in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from api.bootstrap import Instance, running
from audit.clear_text import search_clear_text
from audit.log_check import check_log, check_no_send_after_no
from domain.subject_commands import AddContact, RecordConsent
from ledger.append import Row
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import Unavailable
from ledger.subjects import Act
from tests.acts import NEWSLETTER, add, ask, emails, register, report, say, topics, willing
from tests.support import chosen_bin_dir, settings_for

pytestmark = pytest.mark.store

WAIT_SECONDS_MAX = 30
CANARY = "canary.person.4711@example.com"
NAME, NOTE, LINK = "Kanarina Vogelsang", "likes-millet-and-mirrors", "https://example.com/very/personal/link"
NEEDLES = [CANARY, NAME, NOTE, LINK]


@pytest.fixture(scope="module")
def lone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("lone"), chosen_bin_dir(), fsync=False) as server:
        yield server


@pytest.fixture
def lone(lone_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Instance]:
    """An instance on that server; `restart` may be called under it."""
    with running(settings_for(lone_server, tmp_path)) as instance:
        yield instance


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


def test_failures_inside_the_server_leave_nothing_in_its_log(lone_server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Given failed copies, violated constraints and cancelled statements, when the log is read, then no value is there.

    The control is a statement that carries the canary in the clear and fails: even that does not reach the log,
    while a server that is not silent repeats it.
    """
    live(ledger)
    before = topics(ledger)
    fail_every_way(lone_server, ledger)
    assert topics(ledger) == before
    assert check_log(ledger.services.writer.url, ledger.tenant) == []
    log = lone_server.log_path.read_text()
    for said in ("duplicate key value", "canceling statement", "COPY", "invalid input syntax"):
        assert said in log or said == "COPY", f"The failure that says {said!r} did not happen."
    for hit in search_clear_text([lone_server.log_path], NEEDLES):
        raise AssertionError(f"A value stands in the server's log at {hit.offset}.")
    with psycopg.connect(lone_server.url("lethe_ledger"), autocommit=True) as loud:
        loud.execute("SET log_min_error_statement = error")
        with suppress(psycopg.Error):
            loud.execute("SELECT %s::int", (CANARY,), prepare=False)
            loud.execute(f"SELECT '{CANARY}'::int".encode())
        with suppress(psycopg.Error):
            loud.execute(f"SELECT '{CANARY}'::int".encode())
    assert search_clear_text([lone_server.log_path], NEEDLES), "The control was not found."


def fail_every_way(server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Make PostgreSQL refuse what the program sends: in a COPY, by a constraint, by cancelling, by a bad value."""
    stored = ledger.log.select_log(2, 1)[0]
    assert stored.originator_id and not isinstance(stored.originator_id, str)  # noqa: PT018  For the type checker.
    twice = Row(stored.originator_id.bytes, 1, stored.topic.encode(), stored.state, stored.sealed)
    with pytest.raises(psycopg.errors.UniqueViolation), ledger.appender.locked() as locked:
        locked.record_rows([twice], restricts=False)
    with pytest.raises(psycopg.errors.CharacterNotInRepertoire), ledger.appender.locked() as locked:
        locked.record_rows([Row(uuid4().bytes, 1, b"\xff\xfe" + CANARY.encode(), stored.state, None)], restricts=False)
    with pytest.raises(psycopg.errors.CheckViolation), ledger.appender.locked() as locked:
        with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as superuser:
            superuser.execute("ALTER TABLE lethe.campaign ADD CONSTRAINT no_more CHECK (purpose <> 'nope') NOT VALID")
        locked.connection.execute(
            "INSERT INTO lethe.campaign VALUES (%s, 1, %s, 'nope', %s, 'one-off', false, now())",
            (ledger.tenant, uuid4(), CANARY),
        )
    with pytest.raises(Unavailable), ledger.appender.locked() as locked:
        locked.connection.execute("SET LOCAL statement_timeout = '20ms'")
        locked.connection.execute("SELECT pg_sleep(5), %s", (CANARY,))
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), ledger.appender.locked() as locked:
        locked.connection.execute("SELECT %s::text::int", (CANARY,))
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as superuser:
        superuser.execute("ALTER TABLE lethe.campaign DROP CONSTRAINT no_more")


def test_a_server_stopped_in_the_middle(lone_server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Given commands on their way, when the server crashes, then each is done or Unavailable, and it works again after."""
    people = emails(30)
    willing(ledger, people)
    campaign = register(ledger)
    go, down = Event(), Event()
    done: list[str] = []

    def withdraw(part: list[str]) -> int:
        refused = 0
        for address in part:
            try:
                ledger.act(Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=address))
                done.append(address)
            except Unavailable as error:
                refused += 1
                assert CANARY not in str(error)
            if len(done) > 3:
                go.set()
                down.wait(WAIT_SECONDS_MAX)
        return refused

    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(withdraw, people[n::3]) for n in range(3)]
        assert go.wait(WAIT_SECONDS_MAX)
        lone_server.stop_immediately()
        down.set()
        refused = sum(run.result(WAIT_SECONDS_MAX) for run in runs)
    assert refused > 0
    for attempt in (
        lambda: ask(ledger, campaign, people),
        lambda: add(ledger, [CANARY]),
        lambda: ledger.check([(CANARY, NEWSLETTER, "email")]),
    ):
        with pytest.raises(Unavailable, match="again"):
            attempt()
    lone_server.start()
    works_again(ledger)
    assert check_log(ledger.services.writer.url, ledger.tenant) == []
    asked = ask(ledger, campaign, people)
    assert set(done) <= set(asked.refused)
    assert check_no_send_after_no(ledger) == []
    assert search_clear_text([everything_of(lone_server) / "log"], [*people[:1], CANARY, NAME]) == []


def works_again(ledger: Ledger) -> None:
    """Connections broken by the crash are thrown away at their first use; after that, all is as before."""
    for attempt in range(50):
        try:
            ledger.act(Act(AddContact(f"after{attempt}@example.org"), address=f"after{attempt}@example.org"))
            return
        except Unavailable:
            continue
    raise AssertionError("The ledger did not come back.")


def test_a_copy_cut_off_by_the_client_leaves_nothing(lone_server: EmbeddedPostgres, ledger: Ledger) -> None:
    """Given a COPY that the program gives up half-way, when the log is checked, then not a row of it is there."""
    before = topics(ledger)

    def cut(*_: Any) -> None:
        raise RuntimeError("given up")

    acts = [Act(AddContact(address, {"first_name": NAME}), address=address) for address in emails(500)]
    with pytest.raises(RuntimeError):
        ledger.subjects.act(acts, also=cut)
    with pytest.raises(RuntimeError), ledger.appender.locked() as locked:
        from ledger.append import COPY_EVENTS, COPY_HEADER

        with locked.connection.cursor().copy(COPY_EVENTS) as copy:
            copy.write(COPY_HEADER)
            raise RuntimeError("given up inside the COPY")
    assert topics(ledger) == before
    assert check_log(ledger.services.writer.url, ledger.tenant) == []
    assert search_clear_text([lone_server.log_path], [NAME]) == []
