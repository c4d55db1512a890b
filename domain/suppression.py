"""Suppressions of addresses without a subject: imported lists and erased persons.

Each stands in a stream of its own with a random id, and names its address only by a sealed fingerprint.
Nothing but a later, evidenced act of the subject overrides one (I7); an entry made by hand can be lifted by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from domain.facts import BY_TENANT_AND_DAY, BY_TENANT_FOR_EVER, Fact, SealedBy
from domain.personal import Feed, Personal, SuppressionData

_SEALED_BY: Mapping[str, SealedBy] = {SuppressionData.name: BY_TENANT_FOR_EVER, Feed.name: BY_TENANT_AND_DAY}


class SuppressionImposed(Fact):
    """An address must not be mailed. `since` is a day or a month (ISO 8601), never finer."""

    TOPIC: ClassVar[str] = "suppression.imposed.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = _SEALED_BY
    fingerprints: Personal[tuple[str, ...], SuppressionData]
    scope: str
    reason: str
    since: str
    address: Personal[str, Feed] | None = None


class SuppressionLifted(Fact):
    """An entry that was made by hand was taken back by hand."""

    TOPIC: ClassVar[str] = "suppression.lifted.v1"
    SEALED_BY: ClassVar[Mapping[str, SealedBy]] = _SEALED_BY
    fingerprints: Personal[tuple[str, ...], SuppressionData]
    scope: str
    reason: str
    address: Personal[str, Feed] | None = None


class SuppressionKeyClosed(Fact):
    """The day key of erased persons' fingerprints was destroyed, after they were written to the list.

    From here on nothing in the kept suppressions points at an erased stream (DESIGN section 3).
    """

    TOPIC: ClassVar[str] = "suppression.day_closed.v1"
    day: str
    entries: int
