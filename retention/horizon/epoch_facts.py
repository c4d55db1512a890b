"""What each account's log is told of epochs: opened, rolled, key destroyed.

An epoch is shared by every account of an installation, and a log knows its own account only: so each is told, in a
stream of its own per epoch, and nothing in it counts or names what others hold. Told once: the stream and its newest
version are noted in the transaction that writes the facts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.facts import Fact
from domain.ids import unix_ms, uuid7
from domain.keys import EpochKeyDestroyed, EpochOpened, EpochRolled
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.keys.epochs import Epoch
from ledger.mapper import Draft

ACTOR = "retention"

SELECT_TOLD = "SELECT epoch, stream_id, version FROM lethe.epoch_told WHERE tenant_id = %s"
UPSERT_TOLD = """
INSERT INTO lethe.epoch_told (tenant_id, epoch, stream_id, version) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant_id, epoch) DO UPDATE SET version = excluded.version
"""

Told = dict[int, tuple[UUID, int]]
"""By epoch: the stream of its facts, and how many of them there are."""


def tell(ledger: Ledger, epochs: Sequence[Epoch]) -> int:
    """Tell one account's log what it does not know yet; returns how many facts that were. Idempotent.

    Raises `UnknownAccount`.
    """
    since = ledger.account().opened_at
    with ledger.services.writer.transaction() as connection:
        if not any(_missing(epochs, _told(connection, ledger.tenant), since)):
            return 0
    with ledger.appender.locked() as locked:
        told = _told(locked.connection, ledger.tenant)
        drafts = [
            draft
            for epoch, facts in _missing(epochs, told, since)
            for draft in _drafts(ledger, locked, epoch, facts, told.get(epoch.number))
        ]
        locked.record(drafts, restricts=False)
        return len(drafts)


def _missing(epochs: Sequence[Epoch], told: Told, since: datetime) -> Iterator[tuple[Epoch, list[Fact]]]:
    """Of which epochs something is to be told: those that anything of an account opened at `since` was ever under."""
    for epoch in epochs:
        known = told.get(epoch.number)
        if known is None and epoch.verified_at is not None and epoch.verified_at < since:
            continue
        facts = list(_facts(epoch, epochs))[known[1] if known else 0 :]
        if facts:
            yield epoch, facts


def _facts(epoch: Epoch, epochs: Sequence[Epoch]) -> Iterator[Fact]:
    """Everything there is to tell of an epoch, in the order in which it happens."""
    yield EpochOpened(epoch=epoch.number, destroy_on=epoch.destroy_on.isoformat(), occurred_at=epoch.opened_at)
    if epoch.verified_at is None:
        return
    into = min(other.number for other in epochs if other.number > epoch.number)
    yield EpochRolled(epoch=epoch.number, into=into, occurred_at=epoch.verified_at)
    if epoch.destroyed_at is None or epoch.destruction is None:
        return
    copies = epoch.destruction["copies"]
    gone_on = epoch.destroyed_at + timedelta(days=max(copy["gone_after_days"] for copy in copies))
    yield EpochKeyDestroyed(
        epoch=epoch.number,
        methods=tuple(copy["method"] for copy in copies),
        gone_on=gone_on.date().isoformat(),
        occurred_at=epoch.destroyed_at,
    )


def _drafts(
    ledger: Ledger, locked: LockedTenant, epoch: Epoch, facts: Sequence[Fact], known: tuple[UUID, int] | None
) -> Iterator[tuple[Draft, int]]:
    stream, version = known or (_new_id(locked.now), 0)
    for number, fact in enumerate(facts, version + 1):
        header: dict[str, Any] = {
            "originator_id": stream,
            "originator_version": number,
            "event_id": _new_id(locked.now),
            "actor": ACTOR,
            "command": UUID(bytes=os.urandom(16), version=4),
        }
        yield ledger.sealing.draft(fact.model_copy(update=header)), number
    locked.connection.execute(UPSERT_TOLD, (ledger.tenant, epoch.number, stream, version + len(facts)))


def _told(connection: Connection[Any], tenant: UUID) -> Told:
    return {row[0]: (row[1], row[2]) for row in connection.execute(SELECT_TOLD, (tenant,))}


def _new_id(now: datetime) -> UUID:
    return uuid7(unix_ms(now), os.urandom(10))
