"""Intents of destruction that stand already: for what a hold would come too late (invariant I9).

Whatever destroys records its intent first, under the head lock and after it has looked at the holds; whatever holds
looks here, under the same lock. So one of the two is first, and the other one sees it.

An erased person is found by address for as long as the key of the intent's day lives, by a tag under that key, like
the fingerprints in the intent itself. Afterwards nothing leads from the address to the erasure any more, on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.hold import HoldTargets, Period, TooLate
from domain.personal import SuppressionData
from ledger.arrays import Bytes16Array
from ledger.keys.condemned import condemned_of
from ledger.keys.keyring import CLASSES_OF_MESSAGES, Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.sealing import scope_key

TAG_PERSON = b"lethe.adr.v1"
AFTER_EVERY_DAY = "9999-12-31"

INSERT_ADDRESSES = """
INSERT INTO lethe.erasure_address (tenant_id, day, tag, erasure_id)
SELECT %s, %s, n.tag, %s FROM unnest(%s) AS n(tag) ON CONFLICT DO NOTHING
"""
SELECT_ERASURES = """
SELECT a.tag, coalesce(e.certificate_id, e.erasure_id) FROM lethe.erasure_address a
JOIN lethe.erasure e ON e.tenant_id = a.tenant_id AND e.erasure_id = a.erasure_id
WHERE a.tenant_id = %s AND a.day = %s AND a.tag = ANY(%s) ORDER BY e.requested_at
"""
DELETE_ADDRESSES = 'DELETE FROM lethe.erasure_address WHERE tenant_id = %s AND day < %s COLLATE "C"'
# A period is intended by itself, as a day of its month, or with its whole class (the item that a plan calls so).
SELECT_PERIODS = """
SELECT n.class, n.period, i.certificate FROM unnest(%s::text[], %s::text[]) AS n(class, period), LATERAL (
    SELECT certificate FROM lethe.destruction_intent
    WHERE tenant_id = %s AND class = n.class AND (
        period = n.period OR item = n.class || ':class' OR (period <> '' AND starts_with(n.period, period || '-'))
    ) ORDER BY intended_at LIMIT 1
) AS i
"""

# What plans that are not done yet destroy of a whole account: months, days and classes of everybody. Account holders
# are not among them: each is erased by an intent of their own, and until that a hold on them comes in time.
SELECT_UNDER_WAY = """
SELECT DISTINCT class, period, certificate FROM lethe.destruction_intent
WHERE tenant_id = %s AND done_at IS NULL AND (class = ANY(%s) OR %s) AND item <> class || ':account_holders'
"""
SELECT_OF_PERSONS = """
SELECT DISTINCT i.class, i.period, i.certificate FROM unnest(%s::uuid[], %s::text[]) AS n(plan_id, item), LATERAL (
    SELECT class, period, certificate FROM lethe.destruction_intent
    WHERE tenant_id = %s AND plan_id = n.plan_id AND item = n.item AND item <> class || ':account_holders'
) AS i
"""
SELECT_SHARED_UNDER_WAY = """
SELECT DISTINCT class, period, certificate FROM lethe.destruction_intent
WHERE tenant_id = %s AND done_at IS NULL AND class = ANY(%s)
    AND item NOT IN (class || ':persons', class || ':account_holders')
"""
SELECT_CLASS = "SELECT 1 FROM lethe.destruction_intent WHERE tenant_id = %s AND class = %s AND item = %s LIMIT 1"
# In the vault: the classes of which persons have keys.
SELECT_CLASSES = """
SELECT DISTINCT class FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = ANY(%s) AND period = ''
"""


def note_erasure(
    connection: Connection[Any],
    tenant: UUID,
    keyring: Keyring,
    erasure_id: UUID,
    fingerprints: Sequence[bytes],
    day: str,
) -> None:
    """Let an erasure whose intent is being recorded be found by the addresses of its person until the day is closed."""
    tags = Bytes16Array(_tags(_day_key(keyring, day), fingerprints))
    connection.execute(INSERT_ADDRESSES, (tenant, day, erasure_id, tags))


def intended_persons(
    connection: Connection[Any], tenant: UUID, keyring: Keyring, fingerprints: Sequence[bytes]
) -> dict[bytes, str]:
    """The certificates of erasures intended for these addresses, as far as anything still leads there."""
    found: dict[bytes, str] = {}
    if not fingerprints:
        return found
    for day in keyring.vault.living_periods(tenant, SuppressionData.name, AFTER_EVERY_DAY):
        tags = dict(zip(_tags(_day_key(keyring, day), fingerprints), fingerprints, strict=True))
        for tag, certificate in connection.execute(SELECT_ERASURES, (tenant, day, list(tags))):
            found[tags[bytes(tag)]] = str(certificate)
    return found


def forget_addresses(connection: Connection[Any], tenant: UUID, before_day: str) -> int:
    """Delete the tags of days that are over, whose keys are destroyed; returns how many."""
    return connection.execute(DELETE_ADDRESSES, (tenant, before_day)).rowcount


def intended_periods(connection: Connection[Any], tenant: UUID, periods: Iterable[Period]) -> Mapping[Period, str]:
    """The certificates of plans that intend, or have done, the destruction of these periods' keys."""
    wanted = list(periods)
    if not wanted:
        return {}
    columns = [list(column) for column in zip(*wanted, strict=True)]
    rows = connection.execute(SELECT_PERIODS, (*columns, tenant))
    return {Period(retention_class, period): certificate for retention_class, period, certificate in rows}


def under_way(connection: Connection[Any], tenant: UUID, keyring: Keyring, targets: HoldTargets) -> tuple[TooLate, ...]:
    """What of these targets plans whose intent is recorded are destroying: for that a hold comes too late.

    Asked under the head lock, as the intent is recorded under it. A person's keys that an item condemned are found by
    holder; a month or class that goes for everybody concerns whoever has a key of the class. What a campaign's
    messages are sealed under is told by class, because nobody knows without looking whom the campaign holds. Holds on
    periods are refused instead (`intended_periods`).
    """
    if targets.kind == "person":
        rows = _of_persons(connection, tenant, keyring, [k for p in targets.persons for k in (p.kid, p.records_kid)])
    elif targets.kind == "period":
        return ()
    else:
        values = (tenant, list(CLASSES_OF_MESSAGES), targets.kind == "account")
        rows = connection.execute(SELECT_UNDER_WAY, values).fetchall()
    return tuple(sorted({TooLate(*row) for row in rows}))


def _of_persons(
    connection: Connection[Any], tenant: UUID, keyring: Keyring, holders: Sequence[bytes]
) -> list[tuple[Any, ...]]:
    with keyring.vault.pool.transaction() as vault:
        condemned = condemned_of(vault, tenant, holders)
        classes = [row[0] for row in vault.execute(SELECT_CLASSES, (tenant, list(holders)))]
    columns = ([plan for plan, _ in condemned], [item for _, item in condemned])
    rows = connection.execute(SELECT_OF_PERSONS, (*columns, tenant)).fetchall()
    return rows + connection.execute(SELECT_SHARED_UNDER_WAY, (tenant, classes)).fetchall()


def class_intended(connection: Connection[Any], tenant: UUID, retention_class: str) -> bool:
    """Whether a plan destroys, or has destroyed, a whole class of this account."""
    values = (tenant, retention_class, f"{retention_class}:class")
    return connection.execute(SELECT_CLASS, values).fetchone() is not None


def _day_key(keyring: Keyring, day: str) -> bytes:
    names = (KeyName(TENANT_HOLDER, SuppressionData.name), KeyName(TENANT_HOLDER, SuppressionData.name, day))
    keys = keyring.ensure(names)
    return scope_key(keys[names[0]], keys[names[1]])


def _tags(key: bytes, fingerprints: Iterable[bytes]) -> list[bytes]:
    return [blake2b(f, key=key, digest_size=16, person=TAG_PERSON).digest() for f in fingerprints]
