"""What child processes of the tests do: authorise, withdraw and write on the same databases as the test itself.

Each runs in a process of its own, started fresh (`spawn`), with an instance of its own on the given settings.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from api.bootstrap import Instance, running
from api.settings import Settings
from domain.subject_commands import AddContact, RecordConsent
from ledger.connections import Pool
from ledger.subjects import Act
from tests.acts import NEWSLETTER, ask

STOP_SECONDS_MAX = 120
SELECT_UNDER_WAY = """
SELECT (
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
) + (
    SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = current_database()
        AND usename = current_user AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
)
"""


def start(target: Any, *arguments: Any) -> BaseProcess:
    """A started child process."""
    child = multiprocessing.get_context("spawn").Process(target=target, args=arguments, daemon=True)
    child.start()
    return child


def finish(children: Sequence[BaseProcess]) -> None:
    """Wait for children that end by themselves, and see that they ended well."""
    for child in children:
        child.join(STOP_SECONDS_MAX)
    assert [child.exitcode for child in children] == [0] * len(children)


def see_killed(child: BaseProcess, instance: Instance) -> None:
    """Wait for a child that is killed, and until both databases have noticed: they drop its locks only then.

    What passes rows by that somebody holds would do nothing before, and end well.
    """
    child.join(STOP_SECONDS_MAX)
    assert child.exitcode == -signal.SIGKILL, "The child ended by itself."
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for pool in (instance.services.writer, instance.vault_pool):
        while _under_way(pool):
            assert time.monotonic() < deadline, "The server did not notice that the child is dead."
            time.sleep(0.01)


def _under_way(pool: Pool) -> int:
    """How many advisory locks and transactions of the pool's role others have in its database."""
    with pool.connection() as connection:
        row = connection.execute(SELECT_UNDER_WAY).fetchone()
    assert row is not None
    return int(row[0])


def authorise_all(
    settings: Settings, tenant: UUID, campaigns: Sequence[UUID], people: Sequence[str], chunk: int, folder: Path
) -> None:
    """Ask for every campaign and person in small chunks: each campaign once one more group of people has withdrawn."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        ledger.authorisations._chunk_recipients = chunk
        for number, campaign in enumerate(campaigns):
            _wait_for(folder, "withdrawn-*", number)
            ask(ledger, campaign, people)
            (folder / f"asked-{os.getpid()}-{number}").touch()


def withdraw_each(settings: Settings, tenant: UUID, people: Sequence[str], folder: Path) -> None:
    """Withdraw consent for one person after the other, once a campaign was asked for; note each group that is done."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        _wait_for(folder, "asked-*", 1)
        for number, address in enumerate(people, 1):
            ledger.act(Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=address, actor="cli"))
            if number % CHUNK == 0:
                (folder / f"withdrawn-{os.getpid()}-{number}").touch()


def _wait_for(folder: Path, pattern: str, count: int) -> None:
    """Until so many files are there, which other processes leave as they get on."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while len(list(folder.glob(pattern))) < count:
        assert time.monotonic() < deadline, "The other processes did not get on."
        time.sleep(0.01)


def write_until_killed(settings: Settings, tenant: UUID, campaign: UUID, name: str, acknowledged: str) -> None:
    """Write for ever, and note each acknowledgement in a file at once: positions, or the tokens of a chunk."""
    out = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        for number in range(1_000_000):
            group = [f"{name}-{number}-{n}@example.com" for n in range(CHUNK)]
            added = ledger.subjects.act([Act(AddContact(a, {"country": "DE"}), address=a, actor="cli") for a in group])
            _note(out, positions=[p for outcome in added[0] for p in outcome.positions])
            for address in group:
                grant = RecordConsent(NEWSLETTER, "email", "grant", evidence={"method": "form"})
                _note(out, positions=ledger.act(Act(grant, address=address, actor="cli")).positions)
            asked = ask(ledger, campaign, group)
            _note(out, tokens=list(asked.allowed.values()))
            no = RecordConsent(NEWSLETTER, "email", "withdraw")
            _note(out, positions=ledger.act(Act(no, address=group[0], actor="cli")).positions)


CHUNK = 20


def _note(out: int, **said: Any) -> None:
    os.write(out, orjson.dumps(said) + b"\n")
