"""The registers' desk: what an account states about its processing is declared, amended and retired (GDPR Art. 30).

All entries stand in one stream, whose id follows from the account's: registers are small, are read whole, and have no
index that could differ from the log. A statement may say since when it has been true; it is never about the future.
A terminated account goes on stating, because its record is owed for as long as something of it is held.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.facts import Fact
from domain.ids import unix_ms, uuid7, uuid7_bytes
from domain.register import NOTHING, Decide, Register, RegisterRefused, fold, require_in_order
from ledger.append import LockedTenant
from ledger.desk import Desk, DeskTools
from ledger.recorder import ReaderPool, ledger_event

REGISTER_EVENTS_MAX: Final = 20_000
"""Who needs it: a register that is read whole; an account that amends every day reaches it after fifty years."""

REGISTER_ENTRIES_MAX: Final = 1_000
"""Who needs it: whoever reads a register whole, with all its words. Retired entries count."""

STATEMENTS_PER_READ: Final = 200
"""Statements in memory at once; what they say is at most `ENTRY_CHARACTERS_MAX` each."""

SELECT_REGISTER = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = %s AND version > %s ORDER BY tenant_id, stream_id, version LIMIT %s
"""
READ_REGISTER = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe_read.event
WHERE tenant_id = %s AND stream_id = %s AND version > %s ORDER BY version LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Changed:
    """What came of a change: the registers after it, and the facts that were recorded; none where nothing changed."""

    register: Register
    facts: tuple[Fact, ...]


def register_stream(tenant: UUID) -> UUID:
    """The stream of an account's registers: the account's time, and a hash of its id, which names nobody."""
    tail = blake2b(tenant.bytes, digest_size=10, person=b"lethe.register").digest()
    return UUID(bytes=uuid7_bytes(int.from_bytes(tenant.bytes[:6], "big"), tail))


class RegisterDesk(Desk):
    """Keeps the registers of one tenant."""

    def __init__(self, tools: DeskTools, *, reader: ReaderPool) -> None:
        super().__init__(tools)
        self._reader = reader
        self.stream = register_stream(tools.tenant)

    def facts(self, *, words: bool = True) -> Iterator[Fact]:
        """Everything that was ever stated, in the order in which the ledger learnt it; its words opened or not."""

        def read(*page: Any) -> Sequence[tuple[Any, ...]]:
            with self._reader.tenant(self._tenant) as connection:
                return connection.execute(READ_REGISTER, page, binary=True).fetchall()

        return self._told(read, words=words)

    def state(self, *, words: bool = True) -> Register:
        """The registers as they stand."""
        return fold(self.facts(words=words))

    def change(
        self,
        decide: Decide,
        *,
        actor: str,
        since: date | None = None,
        before: Callable[[LockedTenant], None] | None = None,
        also: Callable[[LockedTenant, Changed], None] | None = None,
    ) -> Changed:
        """Record what `decide` says of the registers, under the lock. `since`: the day from which on it is true.

        `before` and `also` as in `SubjectDesk.act`. Raises `RegisterRefused`.
        """
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            held = self._read(locked.connection)
            facts = self._headed(decide(held), held.version, locked.now, since, actor)
            require_in_order(held, facts)
            locked.record([(self._mapper.draft(fact), fact.originator_version) for fact in facts], restricts=False)
            changed = Changed(_bounded(fold(facts, held), held), tuple(facts))
            if also is not None:
                also(locked, changed)
        return changed

    def _read(self, connection: Connection[Any]) -> Register:
        def read(*page: Any) -> Sequence[tuple[Any, ...]]:
            return connection.execute(SELECT_REGISTER, page, binary=True).fetchall()

        held = fold(self._told(read, words=True), NOTHING)
        if held.version >= REGISTER_EVENTS_MAX:
            raise RegisterRefused("too_many", f"The registers hold {REGISTER_EVENTS_MAX:,} statements, the most.")
        return held

    def _told(self, read: Callable[..., Sequence[tuple[Any, ...]]], *, words: bool) -> Iterator[Fact]:
        after = 0
        while True:
            rows = read(self._tenant, self.stream, after, STATEMENTS_PER_READ)
            yield from (self._mapper.open(ledger_event(row), personal=words) for row in rows)
            if len(rows) < STATEMENTS_PER_READ:
                return
            after = rows[-1][1]

    def _headed(self, facts: Sequence[Fact], version: int, now: datetime, since: date | None, actor: str) -> list[Fact]:
        moment = now if since is None else datetime.combine(since, time(), UTC)
        if moment > now:
            raise RegisterRefused("in_the_future", "since lies in the future. State it when it is true.")
        command = UUID(bytes=os.urandom(16), version=4)
        return [
            fact.model_copy(
                update={
                    "originator_id": self.stream,
                    "originator_version": version + number,
                    "event_id": uuid7(unix_ms(now), os.urandom(10)),
                    "occurred_at": moment,
                    "actor": actor,
                    "command": command,
                }
            )
            for number, fact in enumerate(facts, 1)
        ]


def _bounded(register: Register, before: Register) -> Register:
    if len(register.entries) > max(REGISTER_ENTRIES_MAX, len(before.entries)):
        raise RegisterRefused("too_many", f"The registers hold at most {REGISTER_ENTRIES_MAX:,} entries, ended or not.")
    return register
