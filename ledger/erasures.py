"""Erasure, first half: the intent, one append under the head lock (DESIGN section 6).

From its commit on, nothing seals or opens for the person: contact point and standing are gone, every address of
theirs is unmailable, and a later import makes a new subject with new keys. Destroying the keys follows, in
`retention/`, from the bookmark that is written here in the same transaction.

A person of whom a legal hold speaks is not erased: the request is written down in the state `held`, processing is
restricted, and the intent follows when the last hold has ended (`take_up`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from domain.facts import EPOCH, NIL, Fact
from domain.ids import day_of, month_of, unix_ms, uuid7
from domain.personal import Feed, Identity, Personal, SuppressionData
from domain.scope import ALL
from domain.subject import ACCOUNT_CLOSURE, ErasureIntended, erasure_reason, noes_kept
from domain.suppression import SuppressionImposed
from ledger.append import LockedTenant
from ledger.desk import Desk, DeskTools
from ledger.entry import entry_time
from ledger.errors import KeyDestroyed, PeriodDestroyed
from ledger.fingerprints import NO_ADDRESS_LEADS
from ledger.hold_book import HoldBook
from ledger.intents import class_intended, note_erasure
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER, KeyName
from ledger.links import handle_of
from ledger.mapper import Draft, Holder
from ledger.ports import SuppressionRow
from ledger.postponing import postpone_erasures
from ledger.sealing import open_box, scope_key, seal_box
from ledger.standing_row import StandingRow

ERASED_CAUSE = "erased"
RETENTION_ACTOR = "retention"
"""Who writes erased persons to the suppression list, once a day."""

RESTORED_REASON = "other"
"""Why a person is forgotten again after a restore: the ledger that knew the reason is gone."""

STATE_HELD = "held"
STATE_INTENDED = "intended"
STATE_KEYS_DESTROYED = "keys_destroyed"
STATE_NOTHING_HELD = "nothing_held"

STEP_ADDRESSES = "addresses"
"""The step that the intent itself is: contact points, standing and former addresses are let go of."""

INSERT_ERASURE = """
INSERT INTO lethe.erasure
    (tenant_id, erasure_id, deletion_id, state, cause, reference, requested_at, finished_at, certificate_id)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
SELECT_ERASURE = """
SELECT erasure_id, deletion_id, state, cause, requested_at, finished_at, certificate_id, progress FROM lethe.erasure
WHERE tenant_id = %s AND (erasure_id = %s OR deletion_id = %s) ORDER BY erasure_id
"""
SELECT_UNFINISHED = """
SELECT erasure_id, cause, reference, requested_at, certificate_id FROM lethe.erasure
WHERE tenant_id = %s AND finished_at IS NULL AND state <> 'held' ORDER BY requested_at, erasure_id LIMIT %s
"""
SELECT_POSTPONED = """
SELECT erasure_id, cause, reference, requested_at, certificate_id FROM lethe.erasure
WHERE tenant_id = %s AND finished_at IS NULL AND state = 'held' AND (requested_at, erasure_id) > (%s, %s)
ORDER BY requested_at, erasure_id LIMIT %s
"""
TAKE_UP = """
UPDATE lethe.erasure SET state = 'intended'
WHERE tenant_id = %s AND erasure_id = %s AND finished_at IS NULL AND state = 'held'
"""
# Times of the day only: the moment of the request stands in the stream of a person who is forgotten.
END_REPEATED = """
UPDATE lethe.erasure SET state = 'nothing_held', reference = NULL, certificate_id = NULL,
    requested_at = date_trunc('day', requested_at, 'UTC'), finished_at = date_trunc('day', %s::timestamptz, 'UTC')
WHERE tenant_id = %s AND erasure_id = %s AND finished_at IS NULL AND state = 'held'
"""
# What was acknowledged first stands: a step that is repeated finds nothing left to do.
ACKNOWLEDGE = """
UPDATE lethe.erasure SET progress = coalesce(progress, '{}') || jsonb_build_object('steps',
    jsonb_build_object(%s::text, jsonb_build_array(%s::text, %s::bigint)) || coalesce(progress -> 'steps', '{}'))
WHERE tenant_id = %s AND erasure_id = %s
"""
COUNT_OF_BATCH = "SELECT count(*) FROM lethe.erasure WHERE tenant_id = %s AND deletion_id = %s"
REMEMBER = """
UPDATE lethe.erasure SET progress = jsonb_build_object(%s::text, %s::jsonb) || coalesce(progress, '{}')
WHERE tenant_id = %s AND erasure_id = %s RETURNING progress -> %s
"""
FINISH_ERASURE = """
UPDATE lethe.erasure
SET state = %s, reference = NULL, finished_at = %s, progress = coalesce(progress, '{}') || %s, certificate_id = %s
WHERE tenant_id = %s AND erasure_id = %s AND finished_at IS NULL
"""


StillDue = Callable[[Connection[Any], Sequence[StandingRow]], list[StandingRow]]
"""Those of these persons whose time is over, as the transaction sees it."""


@dataclass(frozen=True, slots=True)
class ErasureStatus:
    """Where an erasure stands. `state` is held (by a legal hold), intended, keys_destroyed or nothing_held."""

    erasure_id: UUID
    deletion_id: UUID | None
    state: str
    cause: str
    requested_at: datetime
    finished_at: datetime | None
    certificate_id: UUID | None = None
    progress: dict[str, Any] | None = None

    @property
    def steps(self) -> dict[str, tuple[str, int]]:
        """What each step acknowledged, until the day is over: when, and how many rows or keys."""
        held = (self.progress or {}).get("steps", {})
        return {step: (at, count) for step, (at, count) in held.items()}


@dataclass(frozen=True, slots=True)
class UnfinishedErasure:
    """An erasure whose keys are still to be destroyed: the person's stream, kid, and the kid of their records."""

    erasure_id: UUID
    cause: str
    subject: bytes
    kid: bytes
    records_kid: bytes
    requested_at: datetime
    certificate_id: UUID


class ErasureDesk(Desk):
    """Records intents and keeps the bookmarks of one tenant's erasures."""

    def __init__(self, tools: DeskTools, *, holds: HoldBook) -> None:
        super().__init__(tools)
        self._holds = holds

    def intend(
        self,
        addresses: Sequence[str],
        *,
        reason: str,
        actor: str,
        deletion_id: UUID | None = None,
        before: Callable[[LockedTenant], None] | None = None,
        also: Callable[[LockedTenant, Sequence[ErasureStatus]], None] | None = None,
    ) -> list[ErasureStatus]:
        """Record the intent for each address, in one transaction. An address not held is suppressed all the same.

        `before` runs as soon as the lock is held, `also` when everything is written; both may raise to undo all.
        Raises `InvalidAddress` before anything is written.
        """
        probes = [self._fingerprint.every(address) for address in addresses]
        reason = erasure_reason(reason)
        now = self._clock()
        with suppress(PeriodDestroyed):  # A clock behind midnight; the time under the lock is what counts.
            self._keyring.ensure(_tenant_keys(now))
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            statuses = self._intend(locked, list(zip(addresses, probes, strict=True)), reason, actor, deletion_id)
            if also is not None:
                also(locked, statuses)
        return statuses

    def intend_again(self, rows: Sequence[StandingRow]) -> None:
        """Record the intents that a ledger lost with a restore, for persons whose keys are destroyed already.

        Their addresses are known by fingerprint only; they stay unmailable, and nothing leads to these persons again.
        """
        with suppress(PeriodDestroyed):
            self._keyring.ensure(_tenant_keys(self._clock()))
        with self._appender.locked() as locked:
            drafts: list[tuple[Draft, int]] = []
            entries: list[SuppressionRow] = []
            month = month_of(locked.now)
            for row in rows:
                fingerprints = self._all_fingerprints(locked, row, ())
                intent = self._intent(row, fingerprints, None, RESTORED_REASON, locked.now)
                drafts.append(self._headed_intent(intent, row, RETENTION_ACTOR))
                entries.extend(SuppressionRow(bytes.fromhex(f), s, c, month) for f, s, c in intent.entries())
            locked.record(drafts, restricts=True)
            self._book.detach(locked.connection, self._tenant, locked.generation, list(rows))
            self._book.suppress(locked.connection, self._tenant, locked.generation, entries)

    def status(self, erasure_or_deletion: UUID) -> list[ErasureStatus]:
        """The erasures of this id, or of this deletion; empty if there are none in this account."""
        with self._appender.pool.transaction() as connection:
            values = (self._tenant, erasure_or_deletion, erasure_or_deletion)
            return [ErasureStatus(*row) for row in connection.execute(SELECT_ERASURE, values)]

    def unfinished(self, limit: int) -> list[UnfinishedErasure]:
        """Erasures whose keys are still to be destroyed, oldest first."""
        with self._appender.pool.transaction() as connection:
            rows = connection.execute(SELECT_UNFINISHED, (self._tenant, limit)).fetchall()
        return [self._unfinished(*row) for row in rows]

    def postponed(self, limit: int, after: UnfinishedErasure | None = None) -> list[UnfinishedErasure]:
        """Erasures that wait for the end of a legal hold, oldest first, after one that was read before."""
        since = (after.requested_at, after.erasure_id) if after else (EPOCH, NIL)
        with self._appender.pool.transaction() as connection:
            rows = connection.execute(SELECT_POSTPONED, (self._tenant, *since, limit)).fetchall()
        return [self._unfinished(*row) for row in rows]

    def expire(self, kids: Sequence[bytes], due: StillDue, *, batch: UUID) -> int:
        """Record the intents for account holders whose accounts ended, in one transaction; returns for how many.

        Spared is who was erased or is held by now, and of whom `due` says that their time is not over after all.
        Their addresses stay mailable, but for what they had said no to. `batch` is what the erasures are found by.
        """
        names = {kid: KeyName(kid, Identity.name) for kid in kids}
        keys = self._keyring.find(names.values()).keys
        handles = {handle_of(keys[name]): kid for kid, name in names.items() if name in keys}
        with suppress(PeriodDestroyed):
            self._keyring.ensure(_tenant_keys(self._clock()))
        with self._appender.locked() as locked:
            found = self._book.read_handles(locked.connection, self._tenant, locked.generation, list(handles))
            rows = [row for handle, row in sorted(found.items()) if row.person.kid == handles.get(handle)]
            rows = due(locked.connection, self._not_held(locked, rows))
            drafts: list[tuple[Draft, int]] = []
            entries: list[SuppressionRow] = []
            month = month_of(locked.now)
            for row in rows:
                status = self._bookmark(locked, row, ACCOUNT_CLOSURE, batch)
                fingerprints = self._all_fingerprints(locked, row, ())
                intent = self._intent(row, fingerprints, None, ACCOUNT_CLOSURE, locked.now)
                drafts.append(self._headed_intent(intent, row, RETENTION_ACTOR))
                entries.extend(SuppressionRow(bytes.fromhex(f), s, c, month) for f, s, c in intent.entries())
                self._note(locked, status.erasure_id, fingerprints)
            locked.record(drafts, restricts=True)
            self._book.detach(locked.connection, self._tenant, locked.generation, rows)
            self._book.suppress(locked.connection, self._tenant, locked.generation, entries)
        return len(rows)

    def count_of(self, batch: UUID) -> int:
        """How many erasures have this deletion's or plan's id."""
        with self._appender.pool.transaction() as connection:
            row = connection.execute(COUNT_OF_BATCH, (self._tenant, batch)).fetchone()
        return int(row[0]) if row else 0

    def take_up(self, erasure: UnfinishedErasure, address: str | None) -> bool:
        """Record the intent of an erasure that was postponed; False if that was not to be done, or not yet.

        `address` is the one that the person has now, None where it opens no more: of a person who was erased on another
        request meanwhile nothing is held.
        """
        probes = self._fingerprint.every(address) if address is not None else ()
        with suppress(PeriodDestroyed):
            self._keyring.ensure(_tenant_keys(self._clock()))
        with self._appender.locked() as locked:
            rows = self._book.resolve(locked.connection, self._tenant, locked.generation, probes)
            row = next((r for r in rows.values() if r.person.subject == erasure.subject), None)
            if row is None:
                locked.connection.execute(END_REPEATED, (locked.now, self._tenant, erasure.erasure_id))
                return False
            if self._holds.holding_person_row(locked.connection, self._tenant, row):
                return False
            if locked.connection.execute(TAKE_UP, (self._tenant, erasure.erasure_id)).rowcount != 1:
                return False  # Another run took it up.
            fingerprints = self._all_fingerprints(locked, row, probes)
            intent = self._intent(row, fingerprints, address, erasure.cause, locked.now)
            locked.record([self._headed_intent(intent, row, RETENTION_ACTOR)], restricts=True)
            month = month_of(locked.now)
            entries = [SuppressionRow(bytes.fromhex(f), s, c, month) for f, s, c in intent.entries()]
            self._book.detach(locked.connection, self._tenant, locked.generation, [row])
            self._book.suppress(locked.connection, self._tenant, locked.generation, entries)
            self._note(locked, erasure.erasure_id, fingerprints)
        return True

    def acknowledge(self, connection: Connection[Any], erasure_id: UUID, step: str, at: datetime, count: int) -> None:
        """Note when a step was done and how many rows or keys it took; in the step's own transaction where it can."""
        connection.execute(ACKNOWLEDGE, (step, entry_time(at), count, self._tenant, erasure_id))

    def remember(self, erasure_id: UUID, name: str, value: Any) -> Any:
        """Note something that a later step needs and could not find out any more; returns what was noted first."""
        with self._appender.pool.transaction() as connection:
            row = connection.execute(REMEMBER, (name, Jsonb(value), self._tenant, erasure_id, name)).fetchone()
        return row[0] if row is not None else value

    def finish(
        self, connection: Connection[Any], erasure: UnfinishedErasure, now: datetime, told: Mapping[str, Any]
    ) -> bool:
        """Note that the keys are gone, and forget whose they were; False if another run had done so already.

        `told` is what the day's list is made of: kept with the bookmark until the day is over.
        """
        values = (
            STATE_KEYS_DESTROYED,
            now,
            Jsonb(dict(told)),
            erasure.certificate_id,
            self._tenant,
            erasure.erasure_id,
        )
        return connection.execute(FINISH_ERASURE, values).rowcount == 1

    def _intend(
        self,
        locked: LockedTenant,
        asked: Sequence[tuple[str, tuple[bytes, ...]]],
        reason: str,
        actor: str,
        deletion_id: UUID | None,
    ) -> list[ErasureStatus]:
        every = [f for _, probes in asked for f in probes]
        rows = self._book.resolve(locked.connection, self._tenant, locked.generation, every)
        holders = {kid for row in rows.values() for kid in (row.person.kid, row.person.records_kid)}
        held = self._holds.holding(locked.connection, self._tenant, sorted(holders))
        drafts: list[tuple[Draft, int]] = []
        entries: list[SuppressionRow] = []
        detached: dict[bytes, StandingRow] = {}
        postponed: dict[bytes, StandingRow] = {}
        statuses = []
        month = month_of(locked.now)
        seen: set[bytes] = set()
        for address, probes in asked:
            if probes[0] in seen:
                continue
            seen.add(probes[0])
            row = next((rows[f] for f in probes if f in rows), None)
            if row is not None and row.person.subject in detached | postponed:
                continue
            if row is not None and not held.keys().isdisjoint((row.person.kid, row.person.records_kid)):
                self._require_list(locked)
                postponed[row.person.subject] = row
                statuses.append(self._bookmark(locked, row, reason, deletion_id, held=True))
                continue
            statuses.append(self._bookmark(locked, row, reason, deletion_id))
            if row is not None:
                fingerprints = self._all_fingerprints(locked, row, probes)
                intent = self._intent(row, fingerprints, address, reason, locked.now)
                drafts.append(self._headed_intent(intent, row, actor))
                detached[row.person.subject] = row
                entries.extend(SuppressionRow(bytes.fromhex(f), s, c, month) for f, s, c in intent.entries())
                self._note(locked, statuses[-1].erasure_id, fingerprints)
            else:
                drafts.append(self._imposed(locked, probes, address, actor))
                entries.extend(SuppressionRow(f, ALL, ERASED_CAUSE, month) for f in probes)
        locked.record(drafts, restricts=True)
        waiting = list(postponed.values())
        postpone_erasures(locked, self._book, self._mapper, waiting, reason=reason, actor=actor)
        self._book.detach(locked.connection, self._tenant, locked.generation, list(detached.values()))
        self._book.suppress(locked.connection, self._tenant, locked.generation, entries)
        return statuses

    def _not_held(self, locked: LockedTenant, rows: Sequence[StandingRow]) -> list[StandingRow]:
        holders = {kid for row in rows for kid in (row.person.kid, row.person.records_kid)}
        held = self._holds.holding(locked.connection, self._tenant, sorted(holders)).keys()
        return [row for row in rows if held.isdisjoint((row.person.kid, row.person.records_kid))]

    def _require_list(self, locked: LockedTenant) -> None:
        """An erasure that waits is noted under the keys of the list: it cannot wait for one that is being destroyed."""
        if class_intended(locked.connection, self._tenant, SuppressionData.name):
            raise KeyDestroyed(NO_ADDRESS_LEADS)

    def _all_fingerprints(self, locked: LockedTenant, row: StandingRow, probes: Sequence[bytes]) -> list[bytes]:
        aliases = self._book.aliases_of(locked.connection, self._tenant, locked.generation, row.person)
        return list(dict.fromkeys([row.fingerprint, *probes, *aliases]))

    def _intent(
        self, row: StandingRow, fingerprints: Sequence[bytes], address: str | None, reason: str, now: datetime
    ) -> ErasureIntended:
        kept = noes_kept(row.standing, reason)
        return ErasureIntended(
            reason=reason,
            fingerprints=_sealed_list(fingerprints),
            kept=Personal(kept) if kept else None,
            address=Personal(address) if address is not None else None,
            occurred_at=now,
        )

    def _headed_intent(self, intent: ErasureIntended, row: StandingRow, actor: str) -> tuple[Draft, int]:
        stream = UUID(bytes=row.person.subject)
        return self._draft(intent, stream, row.standing.version + 1, actor, Holder(row.person.kid))

    def _imposed(
        self, locked: LockedTenant, fingerprints: Sequence[bytes], address: str, actor: str
    ) -> tuple[Draft, int]:
        fact = SuppressionImposed(
            fingerprints=_sealed_list(fingerprints),
            scope=ALL,
            reason=ERASED_CAUSE,
            since=month_of(locked.now),
            address=Personal(address),
            occurred_at=locked.now,
        )
        return self._draft(fact, self._new_id(), 1, actor, Holder())

    def _draft(self, fact: Fact, stream: UUID, version: int, actor: str, holder: Holder) -> tuple[Draft, int]:
        headed = fact.model_copy(
            update={
                "originator_id": stream,
                "originator_version": version,
                "event_id": self._new_id(),
                "actor": actor,
                "command": UUID(bytes=os.urandom(16), version=4),
            }
        )
        return self._mapper.draft(headed, holder), version

    def _note(self, locked: LockedTenant, erasure_id: UUID, fingerprints: Sequence[bytes]) -> None:
        """Who asks for a hold today is told that it comes too late, and under which certificate."""
        note_erasure(locked.connection, self._tenant, self._keyring, erasure_id, fingerprints, day_of(locked.now))
        self.acknowledge(locked.connection, erasure_id, STEP_ADDRESSES, locked.now, len(fingerprints))

    def _bookmark(
        self,
        locked: LockedTenant,
        row: StandingRow | None,
        reason: str,
        deletion_id: UUID | None,
        *,
        held: bool = False,
    ) -> ErasureStatus:
        # Both ids are random and hold no time: whoever keeps one beside an address has no way to the person's events.
        erasure_id = UUID(bytes=os.urandom(16), version=4)
        certificate_id = UUID(bytes=os.urandom(16), version=4) if row else None
        state = STATE_HELD if held else STATE_INTENDED if row else STATE_NOTHING_HELD
        finished_at = None if row else locked.now
        reference = self._seal_reference(erasure_id, row) if row else None
        times = (locked.now, finished_at)
        values = (self._tenant, erasure_id, deletion_id, state, reason, reference, *times, certificate_id)
        locked.connection.execute(INSERT_ERASURE, values)
        return ErasureStatus(erasure_id, deletion_id, state, reason, *times, certificate_id)

    def _seal_reference(self, erasure_id: UUID, row: StandingRow) -> bytes:
        person = row.person
        return seal_box(self._reference_key(), person.subject + person.kid + person.records_kid, erasure_id.bytes)

    def _unfinished(
        self, erasure_id: UUID, cause: str, reference: bytes, requested_at: datetime, certificate_id: UUID | None
    ) -> UnfinishedErasure:
        held = open_box(self._reference_key(), bytes(reference), erasure_id.bytes)
        # A bookmark from before there were certificates or records has neither.
        certificate = certificate_id or UUID(bytes=os.urandom(16), version=4)
        return UnfinishedErasure(erasure_id, cause, held[:16], held[16:32], held[32:], requested_at, certificate)

    def _reference_key(self) -> bytes:
        names = (KeyName(TENANT_HOLDER, SuppressionData.name), KeyName(TENANT_HOLDER, SuppressionData.name, FOR_EVER))
        keys = self._keyring.ensure(names)
        return scope_key(keys[names[0]], keys[names[1]])

    def _new_id(self) -> UUID:
        return uuid7(unix_ms(self._clock()), os.urandom(10))


def _sealed_list(fingerprints: Sequence[bytes]) -> Any:
    return Personal(tuple(f.hex() for f in fingerprints))


def _tenant_keys(now: datetime) -> list[KeyName]:
    return [
        KeyName(TENANT_HOLDER, retention_class, period)
        for retention_class in (SuppressionData.name, Feed.name)
        for period in ("", day_of(now), FOR_EVER)
        if (retention_class, period) != (Feed.name, FOR_EVER)
    ]
