"""Access: every read of personal data by staff, every export, and every refusal at the door is itself a fact (I8)."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from domain.facts import Fact


class PersonalDataViewed(Fact):
    """Somebody opened sealed parts. `subject` is the stream whose parts were opened, where it was one person's."""

    TOPIC: ClassVar[str] = "access.viewed.v1"
    what: str
    subject: UUID | None = None
    parts_opened: int


class AccessRefused(Fact):
    """A request was turned away. `route` is a template without values."""

    TOPIC: ClassVar[str] = "access.refused.v1"
    route: str
    reason: str
    key_id: str | None = None


class ExportProduced(Fact):
    """Something left the house as a file or a stream: a bundle, a receipt, a section of the audit trail.

    `what` says what was asked for, by ids and never by values; `entries` counts events and `opened` the sealed fields
    in it that were opened. `digest` is the SHA-256 (hex) of the file; None for a stream, whose end nobody waits for,
    and for a file in which nothing is random, because a guess at what it holds could be tried on its digest.
    """

    TOPIC: ClassVar[str] = "access.export_produced.v1"
    kind: str
    what: str
    entries: int
    opened: int
    digest: str | None = None
