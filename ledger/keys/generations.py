"""Generations of a person's keys: which of them live, and which link months each of them served.

A link key has generations, because a person who reads mail for ten years must not keep ten years of mail connected to
them (Mailenium 5.2). Each serves a run of link months: from the month after it was opened until the next one opens.
The runs stand beside the keys, so that they are known for exactly as long as there is something to find with them.
A generation without a first month was made and is not in use yet. Engagement keys follow the link key's generations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from ledger.arrays import Bytes16Array

SELECT_GENERATIONS = """
SELECT k.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder, generation, serves_from, serves_until FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND holder = n.holder AND class = %s AND period = '' OFFSET 0
) AS k
"""
SELECT_DESTROYED = """
SELECT t.* FROM unnest(%s) AS n(holder), LATERAL (
    SELECT holder, generation FROM lethe_vault.tombstone
    WHERE tenant_id = %s AND holder = n.holder AND class IN (%s, '*') AND period IN ('', '*') OFFSET 0
) AS t
"""
# The run of the one before ends where that of the next begins: both are said at once, or neither.
SERVE = """
UPDATE lethe_vault.wrapped_key k
SET serves_from = CASE WHEN k.generation = n.next THEN %s ELSE k.serves_from END,
    serves_until = CASE WHEN k.generation = n.next THEN NULL ELSE %s END,
    last_on = CASE WHEN k.generation = n.next THEN greatest(k.last_on, %s) ELSE k.last_on END
FROM unnest(%s::bytea[], %s::smallint[], %s::smallint[]) AS n(holder, before, next)
WHERE k.tenant_id = %s AND k.holder = n.holder AND k.class = %s AND k.period = ''
    AND k.generation IN (n.before, n.next)
RETURNING k.holder, k.generation = n.next
"""

FIRST_GENERATION = 1
ALL_MONTHS = ""
"""The first link month of a first generation: it sorts before every month."""


class GenerationKey(NamedTuple):
    """A living key of one generation. It serves months from `serves_from` (None: not in use) up to `serves_until`.

    The month that `serves_until` names is the first of the next generation; None while there is none.
    """

    generation: int
    key: bytes
    serves_from: str | None
    serves_until: str | None


@dataclass(frozen=True, slots=True)
class Generations:
    """The living keys of one person and class, by generation, and the newest generation that was ever made."""

    newest: int
    living: Mapping[int, GenerationKey]

    @property
    def in_use(self) -> list[GenerationKey]:
        """The living keys that serve or served some month, oldest first."""
        return [self.living[number] for number in sorted(self.living) if self.living[number].serves_from is not None]

    def for_month(self, month: str) -> tuple[bytes, int] | None:
        """The key that serves a month and its generation; None where that was destroyed."""
        for held in self.in_use:
            assert held.serves_from is not None
            if held.serves_from <= month and (held.serves_until is None or month < held.serves_until):
                return held.key, held.generation
        return None


class Served(NamedTuple):
    """One living generation as the vault names it, before its key is opened."""

    holder: bytes
    generation: int
    serves_from: str | None
    serves_until: str | None


def read(
    connection: Connection[Any], tenant: UUID, retention_class: str, kids: Sequence[bytes]
) -> tuple[list[Served], dict[bytes, int]]:
    """The living generations of these persons (kids of 16 bytes), and the newest of each that was ever made."""
    values = (Bytes16Array(kids), tenant, retention_class)
    rows = connection.execute(SELECT_GENERATIONS, values, binary=True).fetchall()
    # Tombstones are read after the keys, and win (I5).
    gone = {(bytes(row[0]), row[1]) for row in connection.execute(SELECT_DESTROYED, values, binary=True)}
    forgotten = {holder for holder, generation in gone if generation == 0}
    newest: dict[bytes, int] = {}
    living = []
    for holder, generation, serves_from, serves_until in rows:
        newest[holder] = max(newest.get(holder, 0), generation)
        if holder not in forgotten and (holder, generation) not in gone:
            first = ALL_MONTHS if generation == FIRST_GENERATION else serves_from
            living.append(Served(holder, generation, first, serves_until))
    for holder, generation in gone:
        newest[holder] = max(newest.get(holder, 0), generation, FIRST_GENERATION)
    return living, newest


def serve(
    connection: Connection[Any],
    tenant: UUID,
    retention_class: str,
    changes: Iterable[tuple[bytes, int, int]],
    month: str,
    today: date,
) -> set[bytes]:
    """Let a generation take over from another in a month: kid, the one before, the next. Returns whose lives."""
    columns = [list(column) for column in zip(*changes, strict=True)]
    values = (month, month, today, *columns, tenant, retention_class)
    return {bytes(holder) for holder, is_next in connection.execute(SERVE, values) if is_next}
