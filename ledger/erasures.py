"""Erasure, first half: the intent, one append under the head lock (DESIGN section 6).

From its commit on, nothing seals or opens for the person: contact point and standing are gone, every address of
theirs is unmailable, and a later import makes a new subject with new keys. Destroying the keys follows, in
`retention/`, from the bookmark that is written here in the same transaction.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.facts import Fact
from domain.ids import day_of, month_of, unix_ms, uuid7
from domain.personal import Feed, Personal, SuppressionData
from domain.scope import ALL
from domain.subject import ErasureIntended, erasure_reason, noes_kept
from domain.suppression import SuppressionImposed
from ledger.append import LockedTenant
from ledger.desk import Desk
from ledger.errors import PeriodDestroyed
from ledger.mapper import Draft, Holder
from ledger.ports import SuppressionRow
from ledger.sealing import open_box, scope_key, seal_box
from ledger.standing_row import StandingRow
from ledger.vault import FOR_EVER, TENANT_HOLDER, KeyName

ERASED_CAUSE = "erased"
RETENTION_ACTOR = "retention"
"""Who writes erased persons to the suppression list, once a day."""

STATE_INTENDED = "intended"
STATE_KEYS_DESTROYED = "keys_destroyed"
STATE_NOTHING_HELD = "nothing_held"

INSERT_ERASURE = """
INSERT INTO lethe.erasure (tenant_id, erasure_id, deletion_id, state, cause, reference, requested_at, finished_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
SELECT_ERASURE = """
SELECT erasure_id, deletion_id, state, cause, requested_at, finished_at FROM lethe.erasure
WHERE tenant_id = %s AND (erasure_id = %s OR deletion_id = %s) ORDER BY erasure_id
"""
SELECT_UNFINISHED = """
SELECT erasure_id, cause, reference FROM lethe.erasure
WHERE tenant_id = %s AND finished_at IS NULL ORDER BY erasure_id LIMIT %s
"""
FINISH_ERASURE = """
UPDATE lethe.erasure SET state = %s, reference = NULL, finished_at = %s
WHERE tenant_id = %s AND erasure_id = %s AND finished_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class ErasureStatus:
    """Where an erasure stands. `state` is intended, keys_destroyed or nothing_held."""

    erasure_id: UUID
    deletion_id: UUID | None
    state: str
    cause: str
    requested_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class UnfinishedErasure:
    """An erasure whose keys are still to be destroyed: the person's stream and kid."""

    erasure_id: UUID
    cause: str
    subject: bytes
    kid: bytes


class ErasureDesk(Desk):
    """Records intents and keeps the bookmarks of one tenant's erasures."""

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

    def finish(self, connection: Connection[Any], erasure_id: UUID, now: datetime) -> bool:
        """Note that the keys are gone, and forget whose they were; False if another run had done so already."""
        values = (STATE_KEYS_DESTROYED, now, self._tenant, erasure_id)
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
        drafts: list[tuple[Draft, int]] = []
        entries: list[SuppressionRow] = []
        detached: dict[bytes, StandingRow] = {}
        statuses = []
        month = month_of(locked.now)
        seen: set[bytes] = set()
        for address, probes in asked:
            if probes[0] in seen:
                continue
            seen.add(probes[0])
            row = next((rows[f] for f in probes if f in rows), None)
            if row is not None and row.person.subject in detached:
                continue
            if row is not None:
                fingerprints = self._all_fingerprints(locked, row, probes)
                intent = self._intent(row, fingerprints, address, reason, locked.now)
                drafts.append(self._headed_intent(intent, row, actor))
                detached[row.person.subject] = row
                entries.extend(SuppressionRow(bytes.fromhex(f), s, c, month) for f, s, c in intent.entries())
            else:
                drafts.append(self._imposed(locked, probes, address, actor))
                entries.extend(SuppressionRow(f, ALL, ERASED_CAUSE, month) for f in probes)
            statuses.append(self._bookmark(locked, row, reason, deletion_id))
        locked.record(drafts, restricts=True)
        self._book.detach(locked.connection, self._tenant, locked.generation, list(detached.values()))
        self._book.suppress(locked.connection, self._tenant, locked.generation, entries)
        return statuses

    def _all_fingerprints(self, locked: LockedTenant, row: StandingRow, probes: Sequence[bytes]) -> list[bytes]:
        aliases = self._book.aliases_of(locked.connection, self._tenant, locked.generation, row.person)
        return list(dict.fromkeys([row.fingerprint, *probes, *aliases]))

    def _intent(
        self, row: StandingRow, fingerprints: Sequence[bytes], address: str, reason: str, now: datetime
    ) -> ErasureIntended:
        kept = noes_kept(row.standing)
        return ErasureIntended(
            reason=reason,
            fingerprints=_sealed_list(fingerprints),
            kept=Personal(kept) if kept else None,
            address=Personal(address),
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

    def _bookmark(
        self, locked: LockedTenant, row: StandingRow | None, reason: str, deletion_id: UUID | None
    ) -> ErasureStatus:
        erasure_id = self._new_id()
        state = STATE_INTENDED if row else STATE_NOTHING_HELD
        finished_at = None if row else locked.now
        reference = self._seal_reference(erasure_id, row) if row else None
        values = (self._tenant, erasure_id, deletion_id, state, reason, reference, locked.now, finished_at)
        locked.connection.execute(INSERT_ERASURE, values)
        return ErasureStatus(erasure_id, deletion_id, state, reason, locked.now, finished_at)

    def _seal_reference(self, erasure_id: UUID, row: StandingRow) -> bytes:
        return seal_box(self._reference_key(), row.person.subject + row.person.kid, erasure_id.bytes)

    def _unfinished(self, erasure_id: UUID, cause: str, reference: bytes) -> UnfinishedErasure:
        held = open_box(self._reference_key(), bytes(reference), erasure_id.bytes)
        return UnfinishedErasure(erasure_id, cause, held[:16], held[16:])

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
