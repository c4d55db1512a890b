"""What the ledger needs from the rooms above it, named as small protocols; `api/bootstrap.py` plugs them in.

The inline projections are written in the transaction of the append, so the ledger calls them; their tables and
queries belong to `projections/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign
from domain.standing import Suppression
from ledger.standing_row import Person, StandingRow

Clock = Callable[[], datetime]


@dataclass(slots=True)
class SuppressionRow:
    """One line of the suppression list, as it is written: an address by fingerprint."""

    fingerprint: bytes
    scope: str
    cause: str
    since: str


class StandingBook(Protocol):
    """Contact points, standing, suppressions and campaigns: the inline projections, read and written."""

    def read(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, StandingRow]: ...

    def page(
        self, connection: Connection[Any], tenant: UUID, generation: int, after: bytes, rows_max: int
    ) -> list[StandingRow]: ...

    def read_handles(
        self, connection: Connection[Any], tenant: UUID, generation: int, handles: Sequence[bytes]
    ) -> dict[bytes, StandingRow]: ...

    def fetch(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> Sequence[Any]: ...

    def unseal(self, tenant: UUID, fetched: Sequence[Any]) -> dict[bytes, StandingRow]: ...

    def resolve(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, StandingRow]: ...

    def read_aliases(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> set[bytes]: ...

    def aliases_of(self, connection: Connection[Any], tenant: UUID, generation: int, person: Person) -> list[bytes]: ...

    def write(
        self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow]
    ) -> None: ...

    def move(
        self, connection: Connection[Any], tenant: UUID, generation: int, old_fingerprint: bytes, row: StandingRow
    ) -> None: ...

    def detach(
        self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow]
    ) -> None: ...

    def suppressions(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, list[Suppression]]: ...

    def suppress(
        self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[SuppressionRow]
    ) -> None: ...

    def lift(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes], scope: str
    ) -> None: ...

    def campaigns(self, connection: Connection[Any], tenant: UUID, generation: int) -> Mapping[UUID, Campaign]: ...

    def campaign(
        self, connection: Connection[Any], tenant: UUID, generation: int, campaign_id: UUID
    ) -> Campaign | None: ...

    def write_campaign(
        self, connection: Connection[Any], tenant: UUID, generation: int, campaign_id: UUID, campaign: Campaign
    ) -> None: ...
