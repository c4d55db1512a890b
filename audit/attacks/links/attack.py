"""The attacker: from an address, tokens and receipts, by the graph and by what is near."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from uuid import UUID

from audit.attacks.links import nearby
from audit.attacks.links.graph import ENTITIES_SHARING_MAX, Lead
from audit.attacks.links.opening import values_with_tokens
from audit.attacks.links.reading import Reading
from audit.attacks.links.tried import fingerprints_of, pairs_of_nonces, start_of
from ledger.custody.journal_lines import TombstoneNote
from ledger.custody.provider import EpochKeyProvider


class LinksAttack:
    """One attacker of one tenant; both URLs are a superuser's. `folders` hold what stands outside PostgreSQL."""

    def __init__(
        self,
        *,
        ledger_url: str,
        vault_url: str,
        provider: EpochKeyProvider,
        tenant: UUID,
        folders: Sequence[Path] = (),
    ) -> None:
        self._reading = Reading(
            ledger_url=ledger_url, vault_url=vault_url, provider=provider, tenant=tenant, folders=folders
        )

    def leads(self, address: str, tokens: Sequence[str] = (), receipts: Sequence[UUID] = ()) -> list[Lead]:
        """Every event that the address leads to, in order of position. Reads both databases anew.

        `tokens` are message ids that a sender has kept beside the address, `receipts` the ids of erasures and of
        certificates that a controller has.
        """
        reading = self._reading
        reading.read()
        fingerprints = fingerprints_of(address, reading.peppers())
        start = start_of(address, fingerprints, reading.graph.entities, [*reading.secrets, reading.tenant.bytes])
        for value in values_with_tokens(reading.keys, list(tokens)):
            start.setdefault(value, "a token kept by a sender")
        for value in pairs_of_nonces(tokens):
            start.setdefault(value, "two tokens kept by a sender")
        for receipt in receipts:
            start["bytes", receipt.bytes] = "the id of an erasure or a certificate, kept by a controller"
        return reading.graph.follow(start)

    def leads_from(self, stream: UUID) -> list[Lead]:
        """Every event that a stream leads to, its own included: the way back from what is kept to what was erased."""
        self._reading.read()
        graph = self._reading.graph
        fine = [value for value in graph.values["stream", stream] if len(graph.entities[value]) <= ENTITIES_SHARING_MAX]
        return graph.follow(dict.fromkeys(fine, "a value of the stream"))

    def guess_by_order(self, address: str) -> list[UUID]:
        """See `nearby.by_order`."""
        return nearby.by_order(self._reading, address)

    def guess_by_moment(self, receipt: UUID) -> list[UUID]:
        """See `nearby.by_moment`."""
        return nearby.by_moment(self._reading, receipt)

    def guess_by_exports(self, receipt: UUID) -> list[set[UUID]]:
        """See `nearby.by_exports`."""
        return nearby.by_exports(self._reading, receipt)

    def guess_by_neighbours(self, bill: UUID, journal: Iterable[TombstoneNote]) -> set[UUID]:
        """See `nearby.by_neighbours`."""
        return nearby.by_neighbours(self._reading, bill, journal)

    def guess_by_rank(self, bill: UUID, journal: Iterable[TombstoneNote]) -> set[UUID]:
        """See `nearby.by_rank`."""
        return nearby.by_rank(self._reading, bill, journal)
