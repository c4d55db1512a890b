"""Access: every read of personal data by staff, and every refusal at the door, is itself a fact (I8)."""

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
