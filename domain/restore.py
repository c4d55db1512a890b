"""Restores: a log that was brought back from a backup says so itself, and what it lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from domain.facts import BY_TENANT_AND_MONTH, Fact, SealedBy
from domain.personal import Content, Personal


class LedgerRestored(Fact):
    """The account's data was restored from backups and serves again.

    `lost_from` to `lost_to` are the positions that had been recorded and are missing, where there are any; their
    numbers are given again to other events from here on. `journal_lost`: the list of what was destroyed was lost as
    well, so that what was destroyed since the backup may have come back. `reason` is what the officer said who accepted
    the loss.
    """

    TOPIC: ClassVar[str] = "ledger.restored.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = {Content.name: BY_TENANT_AND_MONTH}
    backups: tuple[str, ...]
    lost_from: int | None = None
    lost_to: int | None = None
    tombstones_replayed: int = 0
    persons_forgotten: int = 0
    keys_missing: int = 0
    journal_lost: bool = False
    reason: Personal[str, Content] | None = None
