"""The condemned: whose keys a plan destroys, by random holder, in the vault beside the keys themselves.

They are written before the plan's intent is recorded, so that a plan that is killed half-way knows whom it meant and
nobody has to be asked again. Whether a key's time is really over is looked at once more in the transaction that
destroys it: whoever did something in the meantime is spared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.keys.names import DestroyedKey, DueKey, KeyName

WAITING, DESTROYED, SPARED = 0, 1, 2

INSERT_CONDEMNED = """
INSERT INTO lethe_vault.condemned (tenant_id, plan_id, item, class, holder, generation)
SELECT %s, %s, %s, %s, n.holder, n.generation FROM unnest(%s::bytea[], %s::smallint[]) AS n(holder, generation)
ON CONFLICT DO NOTHING
"""
SELECT_WAITING = """
SELECT c.holder, c.generation, c.class, k.last_on FROM lethe_vault.condemned c LEFT JOIN LATERAL (
    SELECT last_on FROM lethe_vault.wrapped_key
    WHERE tenant_id = c.tenant_id AND holder = c.holder AND class = c.class AND period = ''
        AND generation = c.generation FOR UPDATE
) AS k ON true
WHERE c.tenant_id = %s AND c.plan_id = %s AND c.item = %s AND (c.holder, c.generation) > (%s, %s) AND c.fate = 0
ORDER BY c.holder, c.generation LIMIT %s
"""
SET_FATES = """
UPDATE lethe_vault.condemned c SET fate = n.fate
FROM unnest(%s::bytea[], %s::smallint[], %s::smallint[]) AS n(holder, generation, fate)
WHERE c.tenant_id = %s AND c.plan_id = %s AND c.item = %s AND c.holder = n.holder AND c.generation = n.generation
"""
SELECT_FATES = """
SELECT fate, count(*) FROM lethe_vault.condemned WHERE tenant_id = %s AND plan_id = %s AND item = %s GROUP BY fate
"""
SELECT_DESTROYED = """
SELECT holder, generation FROM lethe_vault.condemned
WHERE tenant_id = %s AND plan_id = %s AND item = %s AND fate = 1 AND (holder, generation) > (%s, %s)
ORDER BY holder, generation LIMIT %s
"""
SELECT_HOLDERS = """
SELECT holder FROM lethe_vault.condemned
WHERE tenant_id = %s AND plan_id = %s AND item = %s AND holder > %s ORDER BY holder LIMIT %s
"""
DELETE_CONDEMNED = """
DELETE FROM lethe_vault.condemned WHERE (tenant_id, plan_id, item, holder, generation) IN (
    SELECT tenant_id, plan_id, item, holder, generation FROM lethe_vault.condemned
    WHERE tenant_id = %s AND plan_id = %s LIMIT %s)
"""
SELECT_PLANS = "SELECT DISTINCT plan_id FROM lethe_vault.condemned WHERE tenant_id = %s"
SELECT_CONDEMNED_OF = """
SELECT DISTINCT plan_id, item FROM lethe_vault.condemned WHERE tenant_id = %s AND holder = ANY(%s) AND fate <> 2
"""


@dataclass(frozen=True, slots=True)
class Sentence:
    """Which condemned are meant: those of one item of one plan, and the last day on which nothing kept them alive."""

    tenant: UUID
    plan: UUID
    item: str
    last_on: date


@dataclass(frozen=True, slots=True)
class Executed:
    """What one batch came to: the keys that went, how many were spared, and after whom the next batch begins."""

    went: tuple[DestroyedKey, ...]
    spared: int
    after: tuple[bytes, int] | None


def condemn(
    connection: Connection[Any], tenant: UUID, plan: UUID, item: str, retention_class: str, keys: Sequence[DueKey]
) -> None:
    """Note whose keys an item is about; harmless when it was noted before."""
    columns = ([key.holder for key in keys], [key.generation for key in keys])
    connection.execute(INSERT_CONDEMNED, (tenant, plan, item, retention_class, *columns))


def waiting(
    connection: Connection[Any], sentence: Sentence, after: tuple[bytes, int], limit: int
) -> tuple[list[KeyName], list[KeyName]]:
    """The next condemned, in order: those whose time is over still (or whose key is gone), and those to be spared."""
    values = (sentence.tenant, sentence.plan, sentence.item, *after, limit)
    doomed: list[KeyName] = []
    spared: list[KeyName] = []
    for holder, generation, retention_class, last_on in connection.execute(SELECT_WAITING, values):
        name = KeyName(bytes(holder), retention_class, "", generation)
        (doomed if last_on is None or last_on <= sentence.last_on else spared).append(name)
    return doomed, spared


def set_fates(
    connection: Connection[Any], sentence: Sentence, doomed: Sequence[KeyName], spared: Sequence[KeyName]
) -> None:
    """Note what became of condemned keys."""
    names = [*doomed, *spared]
    fates = [DESTROYED] * len(doomed) + [SPARED] * len(spared)
    columns = ([name.holder for name in names], [name.generation for name in names], fates)
    connection.execute(SET_FATES, (*columns, sentence.tenant, sentence.plan, sentence.item))


def fates(connection: Connection[Any], tenant: UUID, plan: UUID, item: str) -> tuple[int, int]:
    """How many keys of an item went so far, and how many were spared."""
    found = dict(connection.execute(SELECT_FATES, (tenant, plan, item)).fetchall())
    return found.get(DESTROYED, 0), found.get(SPARED, 0)


def destroyed_of(
    connection: Connection[Any], tenant: UUID, plan: UUID, item: str, after: tuple[bytes, int], limit: int
) -> list[tuple[bytes, int]]:
    """Holders and generations whose keys an item destroyed, in order, after one of them."""
    rows = connection.execute(SELECT_DESTROYED, (tenant, plan, item, *after, limit))
    return [(bytes(holder), generation) for holder, generation in rows]


def holders_of(
    connection: Connection[Any], tenant: UUID, plan: UUID, item: str, after: bytes, limit: int
) -> list[bytes]:
    """Whom an item is about, in order, after one of them."""
    rows = connection.execute(SELECT_HOLDERS, (tenant, plan, item, after, limit))
    return [bytes(row[0]) for row in rows]


def absolve(connection: Connection[Any], tenant: UUID, plan: UUID, limit: int) -> int:
    """Forget some of a plan's condemned; 0 when none is left."""
    return connection.execute(DELETE_CONDEMNED, (tenant, plan, limit)).rowcount


def plans_with_condemned(connection: Connection[Any], tenant: UUID) -> list[UUID]:
    """The plans that condemned are noted of."""
    return [row[0] for row in connection.execute(SELECT_PLANS, (tenant,))]


def condemned_of(connection: Connection[Any], tenant: UUID, holders: Sequence[bytes]) -> list[tuple[UUID, str]]:
    """The plans and items by which a key of one of these holders is condemned, or went just now.

    Whether a plan's intent was recorded at all the ledger's database knows.
    """
    rows = connection.execute(SELECT_CONDEMNED_OF, (tenant, list(holders)))
    return [(plan, item) for plan, item in rows]
