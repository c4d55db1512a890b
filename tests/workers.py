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
    """Wait for a child that kills itself, and until both databases have noticed: they drop its locks only then."""
    child.join(STOP_SECONDS_MAX)
    assert child.exitcode == -signal.SIGKILL, "The child ended by itself."
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for pool in (instance.services.writer, instance.vault_pool):
        while _advisory_locks(pool):
            assert time.monotonic() < deadline, "The server did not notice that the child is dead."
            time.sleep(0.01)


def _advisory_locks(pool: Pool) -> int:
    """How many are held in the pool's database, by anybody."""
    with pool.transaction() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).fetchone()
    assert row is not None
    return int(row[0])


def authorise_all(
    settings: Settings, tenant: UUID, campaigns: Sequence[UUID], people: Sequence[str], chunk: int
) -> None:
    """Ask for every campaign and person at full speed, in small chunks."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        ledger.authorisations._chunk_recipients = chunk
        for campaign in campaigns:
            ask(ledger, campaign, people)


def withdraw_each(settings: Settings, tenant: UUID, people: Sequence[str], pause_seconds: float) -> None:
    """Withdraw consent for one person after the other."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        for address in people:
            ledger.act(Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=address, actor="cli"))
            time.sleep(pause_seconds)


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
