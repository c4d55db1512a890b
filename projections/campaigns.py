"""Inline projection: the campaigns of a tenant, as far as a decision needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign

_COLUMNS = "campaign_id, purpose, channel, kind, tracking_disclosed, registered_at, closed"
SELECT_CAMPAIGN = f"""
SELECT {_COLUMNS} FROM lethe.campaign WHERE tenant_id = %s AND generation = %s AND campaign_id = %s
"""
SELECT_CAMPAIGNS = f"SELECT {_COLUMNS} FROM lethe.campaign WHERE tenant_id = %s AND generation = %s"
UPSERT_CAMPAIGN = f"""
INSERT INTO lethe.campaign (tenant_id, generation, {_COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, generation, campaign_id) DO UPDATE SET closed = excluded.closed
"""


class CampaignTable:
    """Reads and writes of campaigns."""

    def read(self, connection: Connection[Any], tenant: UUID, generation: int, campaign_id: UUID) -> Campaign | None:
        """One campaign, None if the tenant has no such."""
        row = connection.execute(SELECT_CAMPAIGN, (tenant, generation, campaign_id)).fetchone()
        return _campaign(row) if row else None

    def all(self, connection: Connection[Any], tenant: UUID, generation: int) -> dict[UUID, Campaign]:
        """Every campaign by id."""
        rows = connection.execute(SELECT_CAMPAIGNS, (tenant, generation)).fetchall()
        return {row[0]: _campaign(row) for row in rows}

    def write(
        self, connection: Connection[Any], tenant: UUID, generation: int, campaign_id: UUID, campaign: Campaign
    ) -> None:
        """Insert a campaign, or note that it was closed."""
        values = (
            campaign_id,
            campaign.purpose,
            campaign.channel,
            campaign.kind,
            campaign.tracking_disclosed,
            campaign.registered_at,
            campaign.closed,
        )
        connection.execute(UPSERT_CAMPAIGN, (tenant, generation, *values))


def _campaign(row: Sequence[Any]) -> Campaign:
    return Campaign(row[1], row[2], row[3], row[4], row[5], row[6])
