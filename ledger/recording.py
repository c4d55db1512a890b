"""Recording: what happened between a person and an account besides mail, taken in bulk and sealed by class.

One transaction takes records of one class and one period only. What shares a transaction shares its moment, and
nothing of one retention class, or of a period that goes earlier, may lead to what another keeps (invariant I11): so
the invoice that tax law keeps does not stand beside the letter to support that was sent in with it.

Keys are made before the lock, and the person's clock is moved before the append: a clock that moved without a record
keeps something a little longer, a record without its clock could be destroyed before its time. Under the lock it is
seen that the person was not erased meanwhile and that no key has gone since; what cannot be taken is named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

import orjson

from domain.address import InvalidAddress
from domain.ids import unix_ms, uuid7, uuid7_bytes
from domain.records import CLOCKED_CLASSES, Record, RecordFact, RecordRefused, decide, period_of
from ledger.accounts import require_active
from ledger.append import LockedTenant
from ledger.desk import Desk, DeskTools
from ledger.errors import KeyDestroyed, PeriodDestroyed
from ledger.idempotency import IdempotentPart, PartStore, Replayed
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.mapper import NO_HOLDER, Draft, Holder
from ledger.record_streams import RecordStreams, holder_of_day, record_stream_id
from ledger.sealing import scope_key
from ledger.standing_row import StandingRow
from ledger.streams import read_versions

CHUNK_RECORDS = 1000
"""Records per transaction: what one account's lock is held for while other commands of the account wait."""

SORTED_AT_ONCE = 4000
"""Records held while they are sorted by class and period: the memory of an import, at most 128 million characters."""

GENERATIONS_MAX = 32
"""Generations of one person's key of a class: each lives for years, so a life has fewer."""

NO_SUCH_CONTACT = "unknown_recipient: There is no such contact. Add the contact first, then this record again."
CONTACT_CHANGED = "contact_changed: This contact was erased and added again just now. Send this record again."
KEYS_GONE = "keys_destroyed: The keys of this contact's records of that class were destroyed."
DAY_OVER = "past_its_time: The key of that day's records about nobody was destroyed, and no new one is made."
KEY_WENT = "key_destroyed: The key for this record was destroyed while it was written. Send this record again."

Numbered = tuple[int, Record]


@dataclass(slots=True)
class RecordAnswer:
    """What came of records: how many were written, which were not and why, and the positions taken."""

    recorded: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list)
    first: int = 0
    last: int = 0
    repeated: bool = False
    """Whether this is the answer of an earlier time, and nothing was done now."""

    def stored(self) -> bytes:
        """What is kept for repetitions of the request: no address, records by number only."""
        return orjson.dumps([self.recorded, self.rejected, self.first, self.last])

    @staticmethod
    def again(stored: bytes) -> RecordAnswer:
        """The answer that was stored."""
        recorded, rejected, first, last = orjson.loads(stored)
        return RecordAnswer(recorded, [(number, reason) for number, reason in rejected], first, last, repeated=True)


@dataclass(slots=True)
class _Ready:
    """One record on its way: decided, then given its person, its keys and its draft."""

    index: int
    fact: RecordFact
    probes: tuple[bytes, ...] = ()
    row: StandingRow | None = None
    subject_key: KeyName | None = None
    draft: Draft | None = None

    @property
    def day(self) -> date:
        """The day that moves the person's clock."""
        return self.fact.occurred_at.date()


def in_chunks(records: Iterable[Numbered]) -> Iterator[list[Numbered]]:
    """Records sorted by class and period into chunks of one transaction each, the same way each time.

    Records without a time are a group of their own: they happen when they are written. At most `SORTED_AT_ONCE` are
    held at a time.
    """
    groups: dict[tuple[str, str], list[Numbered]] = {}
    held = 0
    for index, record in records:
        moment = record.occurred_at
        key = (record.retention_class, "" if moment is None else period_of(record.retention_class, moment))
        group = groups.setdefault(key, [])
        group.append((index, record))
        held += 1
        if len(group) < CHUNK_RECORDS and held >= SORTED_AT_ONCE:
            key = max(groups, key=lambda k: (len(groups[k]), k))
        if len(groups[key]) >= CHUNK_RECORDS or held >= SORTED_AT_ONCE:
            chunk = groups.pop(key)
            held -= len(chunk)
            yield chunk
    yield from (groups[key] for key in sorted(groups))


class RecordDesk(Desk):
    """Takes the records of one tenant, and finds them again."""

    def __init__(self, tools: DeskTools, *, parts: PartStore) -> None:
        super().__init__(tools)
        self._parts = parts
        self.streams = RecordStreams(tools.tenant, tools.keyring)

    def take(self, records: Iterable[Record], *, actor: str) -> RecordAnswer:
        """Write records, in as many transactions as they have classes and periods; each is durable by itself."""
        total = RecordAnswer()
        for chunk in in_chunks(enumerate(records)):
            answer = self.record(chunk, actor=actor)
            total.recorded += answer.recorded
            total.rejected += answer.rejected
            total.first, total.last = total.first or answer.first, answer.last or total.last
        total.rejected.sort()
        return total

    def record(self, records: Sequence[Numbered], *, actor: str, part: IdempotentPart | None = None) -> RecordAnswer:
        """Write one chunk of `in_chunks` in one transaction, once per part.

        A record that cannot be taken is named by its number, and the others are written.
        """
        answer = RecordAnswer()
        ready = self._prepare(records, actor, answer)
        if not ready and part is None:
            return answer
        try:
            with self._appender.locked() as locked:
                self._parts.require_new(locked.connection, part)
                require_active(locked.head)
                ready = self._still_living(locked, ready, answer)
                ready = self._still_keyed(ready, answer)
                self._write(locked, ready, answer)
                self._parts.save(locked, part, answer.stored())
        except Replayed as replayed:
            return RecordAnswer.again(replayed.answer)
        return answer

    # Before the lock ------------------------------------------------------------------------------------------------

    def _prepare(self, records: Sequence[Numbered], actor: str, answer: RecordAnswer) -> list[_Ready]:
        now = self._clock()
        ready = self._with_persons(self._decided(records, now, answer), answer)
        if not ready:
            return []
        retention_class, period = _one_kind(ready)
        named = len(answer.rejected)
        try:
            return self._sealed(retention_class, period, ready, now, actor, answer)
        except (PeriodDestroyed, KeyDestroyed) as error:
            del answer.rejected[named:]
            _reject(answer, ready, f"past_its_time: {error}")
            return []

    def _sealed(
        self,
        retention_class: str,
        period: str,
        ready: Sequence[_Ready],
        now: datetime,
        actor: str,
        answer: RecordAnswer,
    ) -> list[_Ready]:
        """Give each record its keys and its draft. Raises `PeriodDestroyed` for what comes after its time."""
        period_key = self._keyring.period_key(retention_class, period)
        keys = self._keys_of(retention_class, ready, answer)
        kept = [item for item in ready if item.subject_key in keys]
        self._move_clocks(retention_class, kept)
        # The mapper asks for one key after the other; here they come in one question.
        self._keyring.find(keys)
        command = UUID(bytes=os.urandom(16), version=4)
        for item in kept:
            assert item.subject_key is not None
            scope = scope_key(keys[item.subject_key], period_key)
            self._draft(item, scope, period, now, command, actor)
        return kept

    def _decided(self, records: Sequence[Numbered], now: datetime, answer: RecordAnswer) -> list[_Ready]:
        ready = []
        for index, record in records:
            try:
                item = _Ready(index, decide(record, now))
                if record.email is not None:
                    item.probes = self._fingerprint.every(record.email)
            except (RecordRefused, InvalidAddress) as refusal:
                answer.rejected.append((index, str(refusal)))
            else:
                ready.append(item)
        return ready

    def _with_persons(self, ready: Sequence[_Ready], answer: RecordAnswer) -> list[_Ready]:
        probes = [f for item in ready for f in item.probes]
        known: dict[bytes, StandingRow] = {}
        if probes:
            with self._appender.pool.transaction() as connection:
                generation = self._appender.read_head(connection).generation
                known = self._book.resolve(connection, self._tenant, generation, probes)
        found = []
        for item in ready:
            item.row = next((known[f] for f in item.probes if f in known), None)
            if item.probes and item.row is None:
                answer.rejected.append((item.index, NO_SUCH_CONTACT))
            else:
                found.append(item)
        return found

    def _keys_of(self, retention_class: str, ready: Sequence[_Ready], answer: RecordAnswer) -> dict[KeyName, bytes]:
        """The keys that seal these records, by name, made durably; each item is told its own.

        A person's key whose clock ran out stays destroyed (I5): who comes back later gets one of the next generation.
        """
        keys = self._keys_of_nobody(retention_class, [item for item in ready if item.row is None], answer)
        persons = [item for item in ready if item.row is not None]
        if not persons:
            return keys
        kids = {_kid(item) for item in persons}
        since = min(item.day for item in persons)
        names: dict[bytes, KeyName] = {}
        for generation, of_generation in self._generations(retention_class, kids, since):
            for kid, key in of_generation.items():
                names[kid] = KeyName(kid, retention_class, "", generation)
                keys[names[kid]] = key
        for item in persons:
            item.subject_key = names.get(_kid(item))
        _reject(answer, [item for item in persons if item.subject_key is None], KEYS_GONE)
        return keys

    def _keys_of_nobody(
        self, retention_class: str, nobody: Sequence[_Ready], answer: RecordAnswer
    ) -> dict[KeyName, bytes]:
        """The keys of records about nobody: the account's own, or one for each day where the class has a clock.

        The clock of a day's key never moves, so its records end neither early nor late; what comes after is refused.
        """
        if not nobody:
            return {}
        own = KeyName(TENANT_HOLDER, retention_class)
        keys = self._keyring.ensure([own])
        if retention_class not in CLOCKED_CLASSES:
            for item in nobody:
                item.subject_key = own
            return keys
        days = {holder_of_day(keys[own], item.day): item.day for item in nobody}
        found = self._keyring.subject_keys(retention_class, days, used_on=days)
        names = {days[holder]: KeyName(holder, retention_class) for holder in found}
        for item in nobody:
            item.subject_key = names.get(item.day)
        _reject(answer, [item for item in nobody if item.subject_key is None], DAY_OVER)
        return {name: found[name.holder] for name in names.values()}

    def _generations(
        self, retention_class: str, kids: set[bytes], since: date
    ) -> Iterator[tuple[int, dict[bytes, bytes]]]:
        """The living keys of these kids by generation; a kid that was erased has none."""
        found = self._keyring.subject_keys(retention_class, kids, used_on=since)
        yield 1, found
        gone = kids - found.keys()
        if not gone:
            return
        later = range(2, GENERATIONS_MAX + 1)
        names = [KeyName(kid, retention_class, "", generation) for kid in gone for generation in later]
        tombstones = self._keyring.vault.find(self._tenant, names).tombstones
        by_generation: dict[int, set[bytes]] = {}
        for name in names:
            if name not in tombstones:
                by_generation.setdefault(name.generation, set()).add(name.holder)
        for generation in later:
            mine = by_generation.get(generation, set()) & gone
            gone -= mine
            if mine:
                keys = self._keyring.subject_keys(retention_class, mine, generation=generation, used_on=since)
                yield generation, keys

    def _move_clocks(self, retention_class: str, ready: Sequence[_Ready]) -> None:
        if retention_class not in CLOCKED_CLASSES:
            return
        used: dict[int, dict[bytes, date]] = {}
        for item in ready:
            name = item.subject_key
            if item.row is not None and name is not None:
                days = used.setdefault(name.generation, {})
                days[name.holder] = max(item.day, days.get(name.holder, item.day))
        for generation, days in used.items():
            self._keyring.vault.touch(self._tenant, retention_class, days, generation=generation)

    def _draft(self, item: _Ready, scope: bytes, period: str, now: datetime, command: UUID, actor: str) -> None:
        stamp = unix_ms(now)
        assert item.subject_key is not None
        if item.subject_key.holder == TENANT_HOLDER:
            stream, holder = uuid7_bytes(stamp, os.urandom(10)), NO_HOLDER
        else:
            stream = record_stream_id(scope, period)
            holder = Holder(item.subject_key.holder, item.subject_key.generation)
        headed = item.fact.model_copy(
            update={
                "originator_id": UUID(bytes=stream),
                "event_id": uuid7(stamp, os.urandom(10)),
                "actor": actor,
                "command": command,
            }
        )
        item.draft = self._mapper.draft(headed, holder)

    # Under the lock -------------------------------------------------------------------------------------------------

    def _still_living(self, locked: LockedTenant, ready: Sequence[_Ready], answer: RecordAnswer) -> list[_Ready]:
        """The fence: who was erased since they were looked up gets nothing more."""
        probes = [f for item in ready for f in item.probes]
        rows = self._book.resolve(locked.connection, self._tenant, locked.generation, probes) if probes else {}
        living = []
        for item in ready:
            row = next((rows[f] for f in item.probes if f in rows), None)
            if item.row is None or (row is not None and row.person.subject == item.row.person.subject):
                living.append(item)
            else:
                answer.rejected.append((item.index, NO_SUCH_CONTACT if row is None else CONTACT_CHANGED))
        return living

    def _still_keyed(self, ready: Sequence[_Ready], answer: RecordAnswer) -> list[_Ready]:
        """No record is written under a key that another process has destroyed while a lease was held on it."""
        if not ready:
            return []
        retention_class, period = _one_kind(ready)
        of_period = KeyName(TENANT_HOLDER, retention_class, period)
        names = {of_period, *(item.subject_key for item in ready if item.subject_key is not None)}
        living = self._keyring.vault.find(self._tenant, sorted(names)).keys
        if names <= living.keys():
            return list(ready)
        for name in names - living.keys():
            if name.holder == TENANT_HOLDER:
                self._keyring.forget_period(retention_class, name.period)
            else:
                self._keyring.forget(name.holder)
        kept = [item for item in ready if of_period in living and item.subject_key in living]
        _reject(answer, [item for item in ready if item not in kept], KEY_WENT)
        return kept

    def _write(self, locked: LockedTenant, ready: Sequence[_Ready], answer: RecordAnswer) -> None:
        drafts = [item.draft for item in ready if item.draft is not None]
        versions = read_versions(locked.connection, self._tenant, list({draft.stream for draft in drafts}))
        numbered = []
        for draft in drafts:
            version = versions[draft.stream] = versions.get(draft.stream, 0) + 1
            numbered.append((draft, version))
        locked.record(numbered, restricts=False)
        receipt = locked.receipt()
        answer.recorded = len(numbered)
        if receipt is not None:
            answer.first, answer.last = receipt.first, receipt.last


def _kid(item: _Ready) -> bytes:
    assert item.row is not None
    return item.row.person.records_kid


def _reject(answer: RecordAnswer, items: Iterable[_Ready], reason: str) -> None:
    answer.rejected.extend((item.index, reason) for item in items)


def _one_kind(ready: Sequence[_Ready]) -> tuple[str, str]:
    """The class and period that all records of a transaction share. Raises `ValueError` for more than one."""
    kinds = {_kind_of(item.fact) for item in ready}
    if len(kinds) != 1:
        raise ValueError("One transaction takes records of one class and one period; see in_chunks.")
    return kinds.pop()


def _kind_of(fact: RecordFact) -> tuple[str, str]:
    retention_class = next(iter(fact.SEALED_BY))
    return retention_class, period_of(retention_class, fact.occurred_at)
