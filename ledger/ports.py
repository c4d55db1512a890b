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
from domain.standing import Standing, Suppression

Clock = Callable[[], datetime]


@dataclass(slots=True)
class Person:
    """The secrets that belong to one living subject: its stream, its kid, and its link key with the handle."""

    subject: bytes
    kid: bytes
    handle: bytes
    link_key: bytes
    link_generation: int


class StandingRow:
    """A subject as the inline projection knows it: who it is and how it stands.

    The standing of a row that was read is unpacked when it is first asked for: feedback needs it for few events.
    """

    __slots__ = ("_standing", "_unpack", "fingerprint", "person")

    def __init__(
        self,
        fingerprint: bytes,
        person: Person,
        standing: Standing | None,
        unpack: Callable[[], Standing] | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.person = person
        self._standing = standing
        self._unpack = unpack

    @property
    def standing(self) -> Standing:
        """How the subject stands."""
        if self._standing is None:
            assert self._unpack is not None
            self._standing = self._unpack()
        return self._standing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandingRow) and (
            (self.fingerprint, self.person, self.standing) == (other.fingerprint, other.person, other.standing)
        )

    __hash__ = None  # type: ignore[assignment]  # Rows are compared, never keyed by.


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

    def read_handles(
        self, connection: Connection[Any], tenant: UUID, generation: int, handles: Sequence[bytes]
    ) -> dict[bytes, StandingRow]: ...

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
