"""What an erasure would destroy, and what it would keep: the plan that `lethe erase --dry-run` shows (I9).

Read from what the erasure itself goes by: the person's stream, the keys that the vault holds for them, the messages
that their link key leads to, the addresses that lead to them. Nothing is written, and nothing personal is opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from api.bootstrap import Instance
from domain.campaign import Campaign
from domain.ids import month_of, previous_month
from ledger.application import Ledger
from ledger.keys.keyring import LINK
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.link_generations import PastLinks
from ledger.links import link_scope, message_id
from ledger.standing_row import StandingRow
from retention.policy.outcomes import Kept, kept_classes

SELECT_KEYS: Final = "SELECT class FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = ANY(%s)"
STREAMS_PER_READ: Final = 1000


@dataclass(slots=True)
class ErasePlan:
    """One person's part of a plan. `number` is the address's place in the list given: no address stands here."""

    number: int
    held: bool
    events: Counter[str] = field(default_factory=Counter)
    message_events: int = 0
    keys: Counter[str] = field(default_factory=Counter)
    suppressions: int = 0
    legal_holds: int = 0
    kept: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The plan for machines."""
        return {
            "number": self.number,
            "held": self.held,
            "events": dict(sorted(self.events.items())),
            "message_events": self.message_events,
            "keys": dict(sorted(self.keys.items())),
            "suppressions_kept": self.suppressions,
            "legal_holds": self.legal_holds,
            "kept_by_law": dict(sorted(self.kept.items())),
        }


def plan_erasure(instance: Instance, ledger: Ledger, emails: list[str], reason: str) -> list[ErasePlan]:
    """The plan for each address, in order. Raises `InvalidAddress`."""
    kept = kept_classes(ledger.account(), reason)
    probes = [ledger.fingerprint.every(email) for email in emails]
    book = ledger.services.book
    plans = []
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
        found = book.resolve(connection, ledger.tenant, generation, [f for every in probes for f in every])
        campaigns = dict(book.campaigns(connection, ledger.tenant, generation))
        aliases = {
            row.person.subject: book.aliases_of(connection, ledger.tenant, generation, row.person)
            for row in found.values()
        }
    seen: set[bytes] = set()
    for number, every in enumerate(probes, 1):
        row = next((found[f] for f in every if f in found), None)
        if row is None:
            plans.append(ErasePlan(number, held=False, suppressions=len(every)))
        elif row.person.subject not in seen:
            seen.add(row.person.subject)
            plan = _plan(instance, ledger, number, row, campaigns, {*every, *aliases[row.person.subject]})
            _keep(plan, kept)
            plans.append(plan)
    return plans


def _plan(
    instance: Instance,
    ledger: Ledger,
    number: int,
    row: StandingRow,
    campaigns: dict[UUID, Campaign],
    addresses: set[bytes],
) -> ErasePlan:
    plan = ErasePlan(number, held=True, suppressions=len(addresses | {row.fingerprint}))
    plan.events.update(stored.topic for stored in ledger.log.select_streams([UUID(bytes=row.person.subject)]))
    streams = list(_message_streams(ledger, row, campaigns))
    for start in range(0, len(streams), STREAMS_PER_READ):
        plan.message_events += len(ledger.log.select_streams(streams[start : start + STREAMS_PER_READ]))
    with ledger.services.writer.transaction() as connection:
        plan.legal_holds = len(ledger.hold_book.holding_person_row(connection, ledger.tenant, row))
    with instance.vault_pool.transaction() as connection:
        holders = [row.person.kid, row.person.records_kid]
        plan.keys.update(held for (held,) in connection.execute(SELECT_KEYS, (ledger.tenant, holders)))
    return plan


def _keep(plan: ErasePlan, kept: Mapping[str, Kept]) -> None:
    """Take out of the plan what the law keeps, and say under which limb."""
    for retention_class in plan.keys.keys() & kept.keys():
        del plan.keys[retention_class]
        one = kept[retention_class]
        plan.kept[retention_class] = f"{one.why} (GDPR Art. {one.limb})" if one.limb else one.why


def _message_streams(ledger: Ledger, row: StandingRow, campaigns: dict[UUID, Campaign]) -> Iterator[UUID]:
    """The streams that the person's messages would stand in, for every campaign and month."""
    now = month_of(ledger.clock())
    links = PastLinks(ledger.services.vault, ledger.tenant)
    for campaign_id, campaign in campaigns.items():
        for month in _months(campaign, now):
            name = KeyName(TENANT_HOLDER, LINK, month)
            key, link = ledger.keyring.find([name]).keys.get(name), links.link_for(row, month)
            if key is not None and link is not None:
                yield UUID(bytes=message_id(link_scope(link[0], key), campaign_id.bytes))


def _months(campaign: Campaign, now: str) -> Iterator[str]:
    first = month_of(campaign.registered_at)
    if campaign.kind != "ongoing":
        yield first
        return
    month = now
    while month >= first:
        yield month
        month = previous_month(month)
