"""What holds keep back from a plan, asked of the book of holds (FAULTS 13).

A hold on a period or on the account keeps the key itself, so the whole item waits. A hold on persons or campaigns
takes these persons out of an item about persons' keys; where a key goes that everybody shares, their own keys of it
are set aside first. The book is read outside the lock here; under it, `holds_since` tells whether that still stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from domain.hold import HoldPlaced, HoldReleased, HoldWidened
from domain.personal import Content, Feed, SuppressionData
from ledger.application import Ledger
from ledger.keys.names import DueKey
from retention.plans.model import HeldBack

ACCOUNT_HELD: Final = "a hold on the account"
PERIOD_HELD: Final = "a hold on the period"
PERSONS_HELD: Final = "holds on persons"
CAMPAIGN_HELD: Final = "a hold on a campaign"
ANY_HELD: Final = "a hold, until which erasures wait"
ERASURES_WAIT: Final = "erasures that waited for a hold are taken up first"

CLASSES_OF_ERASURES: Final = (SuppressionData.name, Feed.name)
"""What an erasure is written with, besides the person's own keys."""

SELECT_HOLD_FACTS = """
SELECT 1 FROM lethe.event WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s) LIMIT 1
"""
SELECT_ACTIVE = "SELECT hold_id FROM lethe.legal_hold WHERE tenant_id = %s AND released_at IS NULL ORDER BY hold_id"
SELECT_PERIODS_HELD = """
SELECT DISTINCT t.hold_id FROM lethe.legal_hold_target t
WHERE t.tenant_id = %s AND t.kind = 'period' AND starts_with(convert_from(t.target, 'UTF8'), %s)
"""


class Held:
    """What is held of one account, as far as one plan has asked."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._book = ledger.hold_book

    def account(self) -> HeldBack | None:
        """The holds on the whole account."""
        with self._ledger.services.writer.transaction() as connection:
            return _kept(self._book.holding_account(connection, self._ledger.tenant), ACCOUNT_HELD)

    def period(self, retention_class: str, period: str) -> HeldBack | None:
        """The holds that keep the key of a period."""
        with self._ledger.services.writer.transaction() as connection:
            holds = self._book.holding_period(connection, self._ledger.tenant, retention_class, period)
        return _kept(holds, PERIOD_HELD)

    def retention_class(self, retention_class: str) -> HeldBack | None:
        """What keeps a whole class: holds on the account, and on any period of the class.

        What a campaign is called and says is the account's own content, so a hold on a campaign keeps that class. The
        suppression list waits for every hold, and after its release for the erasures that it had postponed: whom
        these are about is noted under the keys of that class. The feed waits with it, because it tells of erasures.
        """
        whole = self.account()
        if whole is not None:
            return whole
        if retention_class in CLASSES_OF_ERASURES:
            return self._erasures()
        with self._ledger.services.writer.transaction() as connection:
            if retention_class == Content.name:
                of_campaigns = self._book.campaigns_held(connection, self._ledger.tenant).values()
                holds = {hold for holds in of_campaigns for hold in holds}
                if holds:
                    return _kept(sorted(holds), CAMPAIGN_HELD)
            rows = connection.execute(SELECT_PERIODS_HELD, (self._ledger.tenant, f"{retention_class} ")).fetchall()
        return _kept([row[0] for row in rows], PERIOD_HELD)

    def _erasures(self) -> HeldBack | None:
        with self._ledger.services.writer.transaction() as connection:
            rows = connection.execute(SELECT_ACTIVE, (self._ledger.tenant,)).fetchall()
        if rows:
            return _kept([row[0] for row in rows], ANY_HELD)
        return HeldBack((), ERASURES_WAIT) if self._ledger.erasures.postponed(1) else None

    def not_held(self, retention_class: str, page: Sequence[DueKey], found: set[UUID]) -> list[DueKey]:
        """Those of these persons whom no hold protects; the holds on the others are added to `found`."""
        holders = sorted({key.holder for key in page})
        with self._ledger.services.writer.transaction() as connection:
            held = self._book.holding(connection, self._ledger.tenant, holders, retention_class=retention_class)
        found.update(hold for holds in held.values() for hold in holds)
        return [key for key in page if key.holder not in held]


def holds_since(connection: Connection[Any], tenant: UUID, after: int, last: int) -> bool:
    """Whether a hold was placed, widened or released at a position in (after, last]."""
    topics = [HoldPlaced.TOPIC, HoldWidened.TOPIC, HoldReleased.TOPIC]
    return connection.execute(SELECT_HOLD_FACTS, (tenant, after, last, topics)).fetchone() is not None


def _kept(holds: Sequence[UUID], why: str) -> HeldBack | None:
    return HeldBack(tuple(str(hold) for hold in sorted(holds)), why) if holds else None
