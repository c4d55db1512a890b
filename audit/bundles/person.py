"""A person: everything that the ledger has of somebody who lives, found as the audit trail finds it.

Their own stream, every message and record whose id their keys compute, and the exports about them; and of each
campaign that they were asked for, its registration. Once they are erased nothing leads there from an address (I11).
"""

from __future__ import annotations

from uuid import UUID

from audit.bundles.model import STREAMS_CLAIMED_MAX, CannotBundle, Collected, NothingToBundle, positions_of
from audit.bundles.reading import end_of, events_at, places_of
from domain.campaign import CampaignRegistered
from ledger.application import Ledger
from ledger.mapper import NO_HOLDER
from projections.history import streams_of_person
from projections.log import every_version

NOBODY = (
    "No living contact of this account has this address. Of a person who was erased nothing leads from the address to "
    "their events; ask for the bundle of the destruction, by the id of the erasure."
)


def collect_person(ledger: Ledger, email: str) -> Collected:
    """Everything of the living person with this address. Raises `NothingToBundle`, `InvalidAddress`."""
    row = ledger.person(email)
    if row is None:
        raise NothingToBundle(NOBODY)
    subject, end = UUID(bytes=row.person.subject), end_of(ledger)
    holders = streams_of_person(ledger, row)
    exports = ledger.exports.streams_of(row.person.kid, row.person.subject)
    own = places_of(ledger, [subject, *holders, *exports], end)
    if len(own.last) > STREAMS_CLAIMED_MAX:
        raise CannotBundle(
            "too_many_streams", f"More than {STREAMS_CLAIMED_MAX:,} messages and records are of this person."
        )
    campaigns = {UUID(hex=c) for c in _campaigns_named(ledger, own.positions)}
    registered = [
        event.position
        for page in events_at(ledger, sorted(places_of(ledger, campaigns, end).positions))
        for event in page
        if event.topic in every_version([CampaignRegistered.TOPIC]) and event.position is not None
    ]
    found = {stream: holder for stream, holder in holders.items() if stream in own.last}
    return Collected(
        kind="person",
        asked={"subject": subject.hex},
        positions=positions_of([*own.positions, *registered]),
        claims={"kind": "person", "complete": {"streams": own.claimed()}},
        title="One person",
        words=(
            (
                "Everything that the ledger holds of one person: what they said and what was recorded about them, "
                "every message they were asked for, their records, and what was exported about them before."
            ),
            (
                "Nothing in the log says that these streams belong to one person. The ledger computed it from the "
                "person's keys; whoever has this bundle knows it from now on."
            ),
        ),
        holders=found | dict.fromkeys(exports, NO_HOLDER),
        person=row,
    )


def _campaigns_named(ledger: Ledger, positions: list[int]) -> set[str]:
    """The campaigns that these events name."""
    named = set()
    for page in events_at(ledger, sorted(positions)):
        for event in page:
            _, mark, rest = event.state.partition(b'"campaign":"')
            if mark:
                named.add(rest[:32].decode("ascii", "replace"))
    return named
