"""Erasures that a legal hold does not allow yet (GDPR Art. 17(3)(e)): asked for, written down, and carried out later.

The request is kept as a bookmark in the state `held`, with whom it is about sealed, and as a fact in the person's own
stream, which names no hold. Processing is restricted in the same append, so that no send is authorised meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from uuid import UUID

from domain.facts import Fact
from domain.ids import unix_ms, uuid7
from domain.subject import evolve
from domain.subject_commands import postpone
from ledger.append import LockedTenant
from ledger.mapper import Holder, SealingMapper
from ledger.ports import StandingBook
from ledger.standing_row import StandingRow


def postpone_erasures(
    locked: LockedTenant,
    book: StandingBook,
    mapper: SealingMapper,
    rows: Sequence[StandingRow],
    *,
    reason: str,
    actor: str,
) -> None:
    """Record that the erasures of these persons wait, and restrict their processing."""
    told = [(row, _headed(locked, row, reason, actor)) for row in rows]
    drafts = [
        (mapper.draft(fact, Holder(row.person.kid)), fact.originator_version) for row, facts in told for fact in facts
    ]
    positions = iter(locked.record(drafts, restricts=True))
    written = []
    for row, facts in told:
        standing = row.standing
        for fact in facts:
            standing = evolve(standing, fact, next(positions))
        written.append(StandingRow(row.fingerprint, row.person, standing))
    book.write(locked.connection, locked.tenant, locked.generation, written)


def _headed(locked: LockedTenant, row: StandingRow, reason: str, actor: str) -> list[Fact]:
    command = UUID(bytes=os.urandom(16), version=4)
    return [
        fact.model_copy(
            update={
                "originator_id": UUID(bytes=row.person.subject),
                "originator_version": row.standing.version + number,
                "event_id": uuid7(unix_ms(locked.now), os.urandom(10)),
                "actor": actor,
                "command": command,
            }
        )
        for number, fact in enumerate(postpone(row.standing, reason, locked.now), 1)
    ]
