"""The log's facts about itself. They stand in the account's stream: they are leaves of the log that they are about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from uuid import UUID

from domain.facts import Fact
from domain.ids import unix_ms, uuid7
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.streams import next_version


def record_facts(ledger: Ledger, locked: LockedTenant, facts: Sequence[Fact], actor: str) -> None:
    """Write these facts into the account's stream, under the lock that the caller holds."""
    version = next_version(locked.connection, ledger.tenant, ledger.tenant)
    command = UUID(bytes=os.urandom(16), version=4)
    drafts = []
    for number, fact in enumerate(facts, version):
        headed = fact.model_copy(
            update={
                "originator_id": ledger.tenant,
                "originator_version": number,
                "event_id": uuid7(unix_ms(locked.now), os.urandom(10)),
                "occurred_at": locked.now,
                "actor": actor,
                "command": command,
            }
        )
        drafts.append((ledger.sealing.draft(headed), number))
    locked.record(drafts, restricts=False)
