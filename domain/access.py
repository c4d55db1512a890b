"""Access: every read of personal data by staff, every export, and every refusal at the door is itself a fact (I8)."""

from __future__ import annotations

from typing import ClassVar, Final
from uuid import UUID

from domain.facts import Fact

ROUNDED_TO_MIN: Final = 16
"""Who needs it: persons with a short history, who are most; up to sixteen events they all look the same."""


def rounded_up(count: int) -> int:
    """A count of what is about one person, as the log may have it: none, or the next power of two from 16 on.

    The exact one would be compared with the streams of whoever was erased (invariant I11).
    """
    return max(ROUNDED_TO_MIN, 1 << (count - 1).bit_length()) if count else 0


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


class ExportOpened(Fact):
    """Sealed parts of many persons were opened for something that leaves the house: the first of them, and before it.

    It stands in a stream of its month that anybody can find, so that certificates of destruction list it: what left
    may hold something of whoever is erased later. How much was opened is told by `ExportProduced` and by the looks.
    """

    TOPIC: ClassVar[str] = "access.export_opened.v1"
    kind: str


class ExportProduced(Fact):
    """Something left the house as a file or a stream: a bundle, a receipt, a section of the audit trail.

    `what` says what was asked for, by ids and never by values; `entries` counts events and `opened` the sealed fields
    in it that were opened, both rounded up (`rounded_up`) where it is about one person. `digest` is the SHA-256 (hex)
    of the file; None for a stream, whose end nobody waits for, and for a file in which nothing is random, because a
    guess at what it holds could be tried on its digest.
    """

    TOPIC: ClassVar[str] = "access.export_produced.v1"
    kind: str
    what: str
    entries: int
    opened: int
    digest: str | None = None
