"""Holds win over a replay too: what they keep is set aside before a restored vault loses a month or a class again (I9).

The vault of a backup has no keys of held persons for months that a plan destroyed after it: they were set aside then,
from keys that are there again now. Only a hold that stood when that plan recorded its intent counts. One that came
later was too late for what the plan destroyed, and a restore does not make it early.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from ledger.application import Ledger, tenants
from ledger.connections import Pool
from ledger.keys.lost import LOST_CAUSE
from ledger.keys.names import FOR_EVER, TENANT_HOLDER, TOMBSTONE_ALL, KeyName, Tombstone
from retention.holds.escrow import CLASSES_OF_ONE, escrow_held

AFTER_EVERY_PERIOD = "9999-99"

SELECT_INTENDED_AT = "SELECT min(intended_at) FROM lethe.destruction_intent WHERE tenant_id = %s AND plan_id = %s"


class SettingAside:
    """Called with the shared tombstones that are about to be replayed. `ledger_of` gives the ledger of an account.

    A hold whose own key is lost cannot say whom it speaks of: `KeyMissing`, or with `loss_accepted` it is passed over.
    """

    def __init__(self, writer: Pool, ledger_of: Callable[[UUID], Ledger], *, loss_accepted: bool = False) -> None:
        self._writer = writer
        self._ledger_of = ledger_of
        self._loss_accepted = loss_accepted

    def __call__(self, tombstones: Sequence[Tombstone]) -> None:
        """Keep what holds protect of these months and classes. Safe to run again."""
        destroyed = [t for t in tombstones if t.retention_class in CLASSES_OF_ONE and t.cause != LOST_CAUSE]
        known = set(tenants(self._writer)) if destroyed else set()
        for tombstone in destroyed:
            if tombstone.tenant in known:
                self._set_aside(self._ledger_of(tombstone.tenant), tombstone)

    def _set_aside(self, ledger: Ledger, tombstone: Tombstone) -> None:
        as_of = self._intended_at(ledger, tombstone)
        for period in _periods(ledger, tombstone):
            escrow_held(ledger, tombstone.retention_class, period, as_of=as_of, loss_accepted=self._loss_accepted)

    def _intended_at(self, ledger: Ledger, tombstone: Tombstone) -> datetime | None:
        """When the plan recorded its intent; None where the ledger ends before it, so that all its holds were first."""
        try:
            plan_id = UUID(tombstone.certificate or "")
        except ValueError:
            return tombstone.when
        with ledger.services.writer.transaction() as connection:
            row = connection.execute(SELECT_INTENDED_AT, (ledger.tenant, plan_id)).fetchone()
        return row[0] if row is not None else None


def _periods(ledger: Ledger, tombstone: Tombstone) -> list[str]:
    """The months or days whose key is there again."""
    if tombstone.period == TOMBSTONE_ALL:
        return ledger.services.vault.living_periods(ledger.tenant, tombstone.retention_class, AFTER_EVERY_PERIOD)
    if tombstone.period in ("", FOR_EVER):
        return []
    name = KeyName(TENANT_HOLDER, tombstone.retention_class, tombstone.period)
    return [tombstone.period] if name in ledger.services.vault.find(ledger.tenant, [name]).keys else []
