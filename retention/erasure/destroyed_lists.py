"""Lists of destroyed keys: commitments in their order, each with the day that made it and its path to that day's root.

A list is made for the keys of several erasures together, so that no line of it is anybody's, or for the keys of a
plan. Anybody can check it without us: `ledger/certificate_format.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

from ledger.application import Ledger
from ledger.certificate_format import digest_of
from ledger.keys.names import DestroyedKey
from retention.certificates.commitments import Inclusion, PublishedDay, inclusions, published_days

BATCH: Final = "erasures of "
"""How the tombstones of persons begin to name what they belong to."""

Told = list[str]
"""What a bookmark keeps of a destroyed key until its day is over: class, the day that made it, commitment (hex)."""


@dataclass(frozen=True, slots=True)
class DestroyedList:
    """A list as it is stored, and how a certificate names it."""

    document: dict[str, Any]
    named: dict[str, Any]


def batch_of(day: date) -> str:
    """What tombstones of persons name in place of a certificate: the day, and nobody."""
    return f"{BATCH}{day.isoformat()}"


def told_of(key: DestroyedKey) -> Told:
    """What is kept of a destroyed key for the list."""
    return [key.name.retention_class, key.created_on.isoformat(), key.commitment.hex()]


def destroyed_list(ledger: Ledger, day: date, keys: Iterable[Told], erasures: int) -> DestroyedList | None:
    """The list of these keys, destroyed on `day`; None where none of them has a commitment."""
    told = sorted((key for key in keys if key[2]), key=lambda key: key[2])
    if not told:
        return None
    made_on = {bytes.fromhex(commitment): date.fromisoformat(made) for _, made, commitment in told}
    with ledger.services.writer.transaction() as connection:
        published = published_days(connection, ledger.tenant, set(made_on.values()))
    found = inclusions(ledger, {c: made for c, made in made_on.items() if made in published})
    document = {
        "id": str(UUID(bytes=os.urandom(16), version=4)),
        "day": day.isoformat(),
        "erasures": erasures,
        "keys": [_line(key, found.get(bytes.fromhex(key[2]))) for key in told],
        "published": {made.isoformat(): _published(one) for made, one in sorted(published.items())},
    }
    named = {name: document[name] for name in ("id", "day", "erasures")}
    return DestroyedList(document, named | {"keys": len(told), "digest": digest_of(document)})


def _line(key: Told, inclusion: Inclusion | None) -> dict[str, Any]:
    retention_class, made_on, commitment = key
    return {
        "class": retention_class,
        "made_on": made_on,
        "commitment": commitment,
        "index": inclusion.index if inclusion else None,
        "path": [step.hex() for step in inclusion.path] if inclusion else [],
    }


def _published(one: PublishedDay) -> Mapping[str, Any]:
    return {"count": one.keys, "root": one.root.hex(), "position": one.position}
