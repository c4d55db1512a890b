"""Erasure, second half: the keys are destroyed, and it is seen that nothing opens (DESIGN section 6).

The saga starts from the bookmark that the intent left, and every step can be repeated: killed anywhere, it is run
again and converges. Intent (in `ledger/`) → purge what knows the person → delete the wraps, leaving a tombstone →
see that opening gives `Erased` → `KeysDestroyed` → the bookmark forgets whose erasure it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from uuid import UUID

from domain.facts import Fact, personal_fields
from domain.ids import unix_ms, uuid7
from domain.personal import Personal
from domain.subject import KeysDestroyed
from ledger.application import Ledger
from ledger.erasures import UnfinishedErasure
from ledger.streams import next_version
from projections.change_feed import forget_person

ERASURES_PER_RUN = 1000
ACTOR = "retention"


class ErasureIncomplete(Exception):
    """Something of an erased person could still be opened; the saga stays open and is tried again."""


@dataclass(frozen=True, slots=True)
class ErasureOutcome:
    """One finished erasure: how many keys went, of which classes."""

    erasure_id: UUID
    keys: int
    classes: tuple[str, ...]


def finish_erasures(ledger: Ledger, *, limit: int = ERASURES_PER_RUN) -> list[ErasureOutcome]:
    """Destroy the keys of every person whose erasure was intended. Safe to kill and to run again."""
    return [_finish(ledger, unfinished) for unfinished in ledger.erasures.unfinished(limit)]


def _finish(ledger: Ledger, unfinished: UnfinishedErasure) -> ErasureOutcome:
    destroyed = ledger.services.vault.destroy_holder(
        ledger.tenant,
        unfinished.kid,
        when=ledger.clock(),
        cause=unfinished.cause,
        certificate=str(unfinished.erasure_id),
    )
    classes = tuple(sorted(key.name.retention_class for key in destroyed))
    ledger.keyring.forget(unfinished.kid)
    with ledger.services.writer.transaction() as connection:
        forget_person(connection, ledger.tenant, UUID(bytes=unfinished.subject))
    _require_unopenable(ledger, unfinished)
    _conclude(ledger, unfinished, classes)
    return ErasureOutcome(unfinished.erasure_id, len(classes), tuple(sorted(set(classes))))


def _require_unopenable(ledger: Ledger, unfinished: UnfinishedErasure) -> None:
    """Open the person's own stream, as a reader would: every part under their keys must come back erased."""
    for stored in ledger.log.select_streams([UUID(bytes=unfinished.subject)]):
        fact = ledger.sealing.open(stored)
        for name, retention_class in personal_fields(type(fact)).items():
            if retention_class in fact.SEALED_BY:
                continue
            if isinstance(getattr(fact, name), Personal):
                raise ErasureIncomplete(f"A part of class {retention_class} still opens; the erasure is not finished.")


def _conclude(ledger: Ledger, unfinished: UnfinishedErasure, classes: tuple[str, ...]) -> None:
    """Record the destruction and close the bookmark in one transaction, once."""
    stream = UUID(bytes=unfinished.subject)
    with ledger.appender.locked() as locked:
        if not ledger.erasures.finish(locked.connection, unfinished.erasure_id, locked.now):
            return  # Another run concluded it: the worker's, or the one that follows each request.
        version = next_version(locked.connection, ledger.tenant, stream)
        stamp = unix_ms(locked.now)
        fact: Fact = KeysDestroyed(
            keys=len(classes),
            classes=tuple(sorted(set(classes))),
            originator_id=stream,
            originator_version=version,
            event_id=uuid7(stamp, os.urandom(10)),
            occurred_at=locked.now,
            actor=ACTOR,
            command=UUID(bytes=os.urandom(16), version=4),
        )
        locked.record([(ledger.sealing.draft(fact), version)], restricts=False)
