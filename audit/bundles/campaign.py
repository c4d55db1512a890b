"""A campaign: its own stream, every message of it, and what persons said no to through it.

A message's events name their campaign, and so does a "no" that came through one of its links; that is how they are
found, in one pass over the log from the campaign's registration on. Whose messages they are stands nowhere.
"""

from __future__ import annotations

from uuid import UUID

from audit.bundles.model import Collected, NothingToBundle, positions_of
from audit.bundles.reading import Progress, end_of, places_of, positions_naming
from ledger.application import Ledger


def collect_campaign(ledger: Ledger, campaign: UUID, progress: Progress | None = None) -> Collected:
    """Everything of a campaign. Raises `UnknownCampaign`, `NothingToBundle`."""
    ledger.campaign(campaign)
    end = end_of(ledger)
    own = places_of(ledger, [campaign], end)
    if not own.positions:
        raise NothingToBundle("This campaign has no events in the log.")
    needle = b'"campaign":"%b"' % campaign.hex.encode()
    found = positions_naming(ledger, campaign, needle, min(own.positions) - 1, end, progress)
    return Collected(
        kind="campaign",
        asked={"campaign": campaign.hex},
        positions=positions_of(found),
        claims={"kind": "campaign", "complete": {"streams": own.claimed(), "message_streams": True}},
        title="One campaign",
        words=(
            (
                "A campaign with each decision about each of its messages, what mail providers reported of them, and "
                "what was said no to through one of its links."
            ),
            "No event of a message names the person it was for.",
        ),
    )
