"""Erasure, second half: the keys are destroyed, and it is seen that nothing opens (DESIGN section 6).

The saga starts from the bookmark that the intent left, and every step can be repeated: killed anywhere, it is run
again and converges. Each step acknowledges when it was done and how much it took, in its own transaction where it
writes to the ledger's database. Intent (in `ledger/`) →

    keys         every key under the person's kid goes, leaving one tombstone
    records      the keys of their records go too; what the law keeps moves to a new random holder first
    leases       this process forgets the keys it had opened; any other one does within sixty seconds
    change_feed  the rows that name an address are emptied
    opening      the person's own stream is opened as a reader would: every part must come back as `Erased`

→ `KeysDestroyed` and the certificate's first stage, in one transaction in which the bookmark forgets whose erasure it
was. A tombstone names the day of the erasure and no certificate: one that did would lead from whoever keeps the
certificate's id to the kid, and from the kid to the person's events (invariant I11, docs/adr/0017).
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final
from uuid import UUID

from domain.facts import Fact, personal_fields
from domain.ids import unix_ms, uuid7
from domain.personal import Erased, Personal
from domain.records import RECORD_CLASSES
from domain.subject import KeysDestroyed
from ledger.application import Ledger
from ledger.erasures import UnfinishedErasure
from ledger.keys.names import DestroyedKey, KeyName
from ledger.streams import next_version
from projections.change_feed import forget_person
from retention.certificates.exports import ExportListed, exports_listed
from retention.certificates.issuing import erasure_certificate
from retention.certificates.store import insert_certificates
from retention.erasure.destroyed_lists import batch_of, told_of
from retention.policy.outcomes import PERSON_CLASSES, Kept, kept_classes

ERASURES_PER_RUN = 1000
ACTOR = "retention"

STEP_KEYS: Final = "keys"
STEP_RECORDS: Final = "records"
STEP_LEASES: Final = "leases"
STEP_FEED: Final = "change_feed"
STEP_OPENING: Final = "opening"


class ErasureIncomplete(Exception):
    """Something of an erased person could still be opened; the saga stays open and is tried again."""


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """One finished erasure: how many keys went, of which classes, and where that is certified."""

    erasure_id: UUID
    keys: int
    classes: tuple[str, ...]
    certificate_id: UUID


def finish_erasures(ledger: Ledger, *, limit: int = ERASURES_PER_RUN) -> list[ErasureOutcome]:
    """Destroy the keys of every person whose erasure was intended. Safe to kill and to run again.

    First the own keys of everybody, then those of their records, each time in an order of chance: the journal beside
    the vault is never rewritten, and who stand in it side by side need not be one person.
    """
    sagas = [_Saga(ledger, unfinished) for unfinished in ledger.erasures.unfinished(limit)]
    for saga in _by_lot(sagas):
        saga.destroy_own()
    outcomes = {id(saga): saga.finish() for saga in _by_lot(sagas)}
    return [outcomes[id(saga)] for saga in sagas]


def _by_lot(sagas: Sequence[_Saga]) -> list[_Saga]:
    return random.SystemRandom().sample(sagas, len(sagas))


class _Saga:
    """What follows one intent."""

    def __init__(self, ledger: Ledger, erasure: UnfinishedErasure) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._vault = ledger.services.vault
        self._erasure = erasure
        minimums = self._vault.minimums.months_of(self._tenant)
        self._kept: Mapping[str, Kept] = kept_classes(ledger.account(), erasure.cause, minimums)

        self._noted: list[str] = []
        self._exports: list[ExportListed] = []
        self._own: tuple[tuple[DestroyedKey, ...], date] = ((), date.min)

    def destroy_own(self) -> None:
        """The first half: from here on nothing of the person's own stream opens."""
        self._noted = self._note_kept()
        self._exports = self._note_exports()
        self._own = self._destroy_keys()

    def finish(self) -> ErasureOutcome:
        """The second half: their records, what others hold of them, and the certificate."""
        kept, (own, day) = self._noted, self._own
        went = own + self._destroy_records(day)
        self._forget_leases()
        self._empty_feed()
        self._require_unopenable()
        self._conclude(went, day, kept)
        classes = tuple(sorted({key.name.retention_class for key in went}))
        return ErasureOutcome(self._erasure.erasure_id, len(went), classes, self._erasure.certificate_id)

    def _destroy_keys(self) -> tuple[tuple[DestroyedKey, ...], date]:
        """The person's own keys; what went, and the day that their tombstone bears."""
        now = self._ledger.clock()
        keep = PERSON_CLASSES.intersection(self._kept)
        went = self._vault.destroy_holder(
            self._tenant,
            self._erasure.kid,
            keep=keep,
            when=now,
            cause=self._erasure.cause,
            certificate=batch_of(now.date()),
        )
        self._acknowledge(STEP_KEYS, len(went))
        # An earlier run may have destroyed them on an earlier day: the tombstone knows.
        gone = KeyName(self._erasure.kid, min(PERSON_CLASSES - keep))
        tombstone = self._vault.find(self._tenant, [gone]).tombstones.get(gone)
        return went, tombstone.when.date() if tombstone is not None else now.date()

    def _destroy_records(self, day: date) -> tuple[DestroyedKey, ...]:
        """The keys of the person's records; what went.

        Their tombstones bear the day only: with the person's own moment on them, the two kids would find each other.
        """
        if not self._erasure.records_kid:  # A bookmark from before there were records.
            return ()
        keep = frozenset(RECORD_CLASSES).intersection(self._kept)
        self._vault.rehome(self._tenant, self._erasure.records_kid, keep)
        went = self._vault.destroy_holder(
            self._tenant,
            self._erasure.records_kid,
            keep=keep,
            when=datetime.combine(day, time(), UTC),
            cause=self._erasure.cause,
            certificate=batch_of(day),
        )
        self._acknowledge(STEP_RECORDS, len(went))
        return went

    def _note_kept(self) -> list[str]:
        """The classes of which something outlives the person. Noted before it moves, or it could not be told later."""
        held: set[str] = set()
        for holder in (self._erasure.kid, self._erasure.records_kid):
            held |= self._vault.living_classes(self._tenant, holder) & self._kept.keys()
        noted: list[str] = self._ledger.erasures.remember(self._erasure.erasure_id, "kept", sorted(held))
        return noted

    def _note_exports(self) -> list[ExportListed]:
        """What left the house about this person alone. Only their identity key finds it, so it is noted before."""
        found = self._ledger.exports.of(self._erasure.kid, self._erasure.subject)
        noted: list[ExportListed] = self._ledger.erasures.remember(
            self._erasure.erasure_id, "exports", exports_listed(found)
        )
        return noted

    def _forget_leases(self) -> None:
        for holder in (self._erasure.kid, self._erasure.records_kid):
            self._ledger.keyring.forget(holder)
        self._acknowledge(STEP_LEASES, 1)

    def _empty_feed(self) -> None:
        with self._ledger.services.writer.transaction() as connection:
            rows = forget_person(connection, self._tenant, UUID(bytes=self._erasure.subject))
            self._ledger.erasures.acknowledge(
                connection, self._erasure.erasure_id, STEP_FEED, self._ledger.clock(), rows
            )

    def _require_unopenable(self) -> None:
        """Open the person's own stream: every part under their keys must come back erased."""
        seen = 0
        for stored in self._ledger.log.select_streams([UUID(bytes=self._erasure.subject)]):
            fact = self._ledger.sealing.open(stored)
            for name, retention_class in personal_fields(type(fact)).items():
                if retention_class in fact.SEALED_BY or retention_class in self._kept:
                    continue
                value = getattr(fact, name)
                if isinstance(value, Personal):
                    raise ErasureIncomplete(
                        f"A part of class {retention_class} still opens; the erasure is not finished."
                    )
                seen += isinstance(value, Erased)
        if self._ledger.records.streams.of(self._erasure.records_kid):
            raise ErasureIncomplete("Records of an erased person are still found; the erasure is not finished.")
        self._acknowledge(STEP_OPENING, seen)

    def _conclude(self, went: Sequence[DestroyedKey], day: date, kept: Sequence[str]) -> None:
        """Record the destruction, certify it and close the bookmark in one transaction, once."""
        ledger = self._ledger
        certificate = erasure_certificate(ledger, self._erasure, day, kept, self._exports)
        told = {"day": day.isoformat(), "destroyed": [told_of(key) for key in went]}
        with ledger.appender.locked() as locked:
            if not ledger.erasures.finish(locked.connection, self._erasure, locked.now, told):
                return  # Another run concluded it: the worker's, or the one that follows each request.
            insert_certificates(locked.connection, self._tenant, [certificate])
            stream = UUID(bytes=self._erasure.subject)
            version = next_version(locked.connection, self._tenant, stream)
            fact: Fact = KeysDestroyed(
                keys=len(went),
                classes=tuple(sorted({key.name.retention_class for key in went})),
                originator_id=stream,
                originator_version=version,
                event_id=uuid7(unix_ms(locked.now), os.urandom(10)),
                occurred_at=locked.now,
                actor=ACTOR,
                command=UUID(bytes=os.urandom(16), version=4),
            )
            locked.record([(ledger.sealing.draft(fact), version)], restricts=False)

    def _acknowledge(self, step: str, count: int) -> None:
        with self._ledger.services.writer.transaction() as connection:
            now = self._ledger.clock()
            self._ledger.erasures.acknowledge(connection, self._erasure.erasure_id, step, now, count)
