"""How keys are named, and what is said of them: found, due, destroyed.

A key is named by holder, class, period and generation within a tenant. The holder is a random kid, or empty for the
tenant itself; a person's key has no period, a calendar key has a month or a day. A name with both a kid and a period
is the two-key K of a person whom a legal hold keeps readable after the period's key went (DESIGN section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol
from uuid import UUID

from domain.personal import Erased

TENANT_HOLDER = b""
FOR_EVER = "ever"
TOMBSTONE_ALL = "*"
EVERY_GENERATION = 0
COMMITMENT_PERSON = b"lethe.kcm.v1"


class KeyName(NamedTuple):
    """What a key is for. `period` is '' for a person's key; generations count from 1."""

    holder: bytes
    retention_class: str
    period: str = ""
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What the vault knows of the names asked for: keys that open, and tombstones of those destroyed."""

    keys: dict[KeyName, bytes]
    tombstones: dict[KeyName, Erased]


class DueKey(NamedTuple):
    """A person's key, and the last day (UTC) that keeps it alive."""

    holder: bytes
    generation: int
    last_on: date


@dataclass(frozen=True, slots=True)
class DestroyedKey:
    """A key that went: its name, its commitment (32 bytes, or empty for keys older than commitments), its first day."""

    name: KeyName
    commitment: bytes
    created_on: date


class Tombstone(NamedTuple):
    """What is written when keys go. Class, period may be `*`, generation 0: all of them."""

    tenant: UUID
    holder: bytes
    retention_class: str
    period: str
    generation: int
    when: datetime
    cause: str
    certificate: str | None


class TombstoneJournal(Protocol):
    """Where tombstones are kept outside the database, so that a restored vault can be told of them."""

    def note(self, entries: Sequence[Tombstone]) -> None:
        """Keep these durably; returns when they are safe. Called before the vault commits."""
        ...


def key_commitment(key: bytes) -> bytes:
    """The 32 bytes that a key is known by in public: they tell nothing of it, and fit no other key."""
    return blake2b(key, digest_size=32, person=COMMITMENT_PERSON).digest()
