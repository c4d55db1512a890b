"""Rehoming: keys that the law keeps from an erased person move to a new random holder, inside a vault transaction.

The tombstones of an erased person's records stand in the vault and in the journal beside it, next to those of the
person's own kid. Were a key that is kept, such as billing, to stay under the same holder, then whoever reads what it
opens, a name on an invoice, would be led from there to the erased events (invariant I11). The key itself does not
change, so what it opens, and the streams computed from it, stay as they were; nor do its first day and its clock.

A row keeps the number of the transaction that wrote it, and the one that moves a key comes just before the one that
writes the tombstones. So when the day is over the keys moved on it are taken out and put back in an order of chance,
together with others that were moved before: then neither transaction nor place says of whose erasure they are.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection
from datetime import date
from typing import Any, Final
from uuid import UUID

from psycopg import Connection, sql

from ledger.custody.provider import EpochKeyProvider
from ledger.keys.epochs import ROLLED, newest_epoch
from ledger.keys.names import KeyName
from ledger.keys.wraps import refuse_rolled, wrap_aad
from ledger.sealing import open_box, seal_box

KEYS_PER_MIX: Final = 500
"""Keys written anew in one transaction, and as many that were moved before: enough to hide among."""

MIXED: Final = date(1970, 1, 1)
"""In place of the day on which a key was moved, once that day is over and nobody needs it any more."""

HOLDER_BYTES: Final = 16

SELECT_KEPT = f"""
SELECT class, period, generation, epoch, wrap, {ROLLED} FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = %s AND class = ANY(%s) ORDER BY class, period, generation FOR UPDATE
"""
SELECT_CLASSES = "SELECT DISTINCT class FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s"
# A whole class of a holder, or several, went by an erasure; what is left of the records there was kept from it.
SELECT_UNDER_TOMBSTONES = """
SELECT DISTINCT k.holder, k.class FROM lethe_vault.wrapped_key k
WHERE k.tenant_id = %s AND k.holder <> '' AND k.class = ANY(%s) AND EXISTS (
    SELECT 1 FROM lethe_vault.tombstone t WHERE t.tenant_id = k.tenant_id AND t.holder = k.holder AND t.period = '*'
        AND t.class NOT IN (k.class, '*'))
ORDER BY k.holder, k.class
"""
MOVE = """
UPDATE lethe_vault.wrapped_key SET holder = %s, epoch = %s, wrap = %s, moved_on = %s
WHERE tenant_id = %s AND holder = %s AND class = %s AND period = %s AND generation = %s
"""

_PLACE = "holder, class, period, generation"
TAKE_OUT = f"""
WITH chosen AS (
    (SELECT {_PLACE} FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND moved_on > %s AND moved_on < %s ORDER BY random() LIMIT %s)
    UNION ALL
    (SELECT {_PLACE} FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND moved_on = %s ORDER BY random() LIMIT %s)
)
DELETE FROM lethe_vault.wrapped_key k USING chosen AS n
WHERE k.tenant_id = %s AND k.holder = n.holder AND k.class = n.class AND k.period = n.period
    AND k.generation = n.generation
RETURNING k.*, {ROLLED}
"""
SELECT_UNMIXED = """
SELECT 1 FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND moved_on > %s AND moved_on < %s LIMIT 1
"""


def living_classes(connection: Connection[Any], tenant: UUID, holder: bytes) -> frozenset[str]:
    """The classes of which a holder has a key."""
    return frozenset(row[0] for row in connection.execute(SELECT_CLASSES, (tenant, holder)))


def kept_under_tombstones(
    connection: Connection[Any], tenant: UUID, classes: Collection[str]
) -> dict[bytes, frozenset[str]]:
    """Holders at which whole classes were destroyed, and the classes that were kept there."""
    found: dict[bytes, set[str]] = {}
    for holder, retention_class in connection.execute(SELECT_UNDER_TOMBSTONES, (tenant, sorted(classes))):
        found.setdefault(bytes(holder), set()).add(retention_class)
    return {holder: frozenset(kept) for holder, kept in found.items()}


def rehome(
    connection: Connection[Any],
    provider: EpochKeyProvider,
    tenant: UUID,
    holder: bytes,
    classes: Collection[str],
    today: date,
) -> int:
    """Move a holder's keys of these classes to a new random holder; returns how many there were. Idempotent."""
    new_holder = os.urandom(HOLDER_BYTES)
    rows = connection.execute(SELECT_KEPT, (tenant, holder, sorted(classes))).fetchall()
    epoch = newest_epoch(connection, provider)
    for retention_class, period, generation, old_epoch, wrap, rolled in rows:
        old = KeyName(holder, retention_class, period, generation)
        new = old._replace(holder=new_holder)
        refuse_rolled(old_epoch, rolled)
        key = open_box(provider.key(old_epoch), bytes(wrap), wrap_aad(tenant, old, old_epoch))
        moved = seal_box(provider.key(epoch), key, wrap_aad(tenant, new, epoch))
        connection.execute(MOVE, (new_holder, epoch, moved, today, tenant, *old))
    return len(rows)


def mix_rehomed(connection: Connection[Any], provider: EpochKeyProvider, tenant: UUID, before: date) -> int:
    """Write some of the keys moved before a day anew, among as many moved earlier; returns how many, 0 if none is left.

    The caller holds the right to write under the newest epoch: what is put back under an older one, a roll could miss.
    """
    if connection.execute(SELECT_UNMIXED, (tenant, MIXED, before)).fetchone() is None:
        return 0
    epoch = newest_epoch(connection, provider)
    values = (tenant, MIXED, before, KEYS_PER_MIX, tenant, MIXED, KEYS_PER_MIX, tenant)
    cursor = connection.execute(TAKE_OUT, values)
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    rows = [_renewed(dict(zip(names, row, strict=True)), epoch, provider) for row in cursor]
    lately = sum(1 for row in rows if row["moved_on"] != MIXED)
    random.SystemRandom().shuffle(rows)
    columns = [name for name in names if name != "rolled"]
    put_back = sql.SQL("INSERT INTO lethe_vault.wrapped_key ({}) VALUES ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(", ").join(map(sql.Placeholder, columns))
    )
    connection.cursor().executemany(put_back, [row | {"moved_on": MIXED} for row in rows])
    return lately


def _renewed(row: dict[str, Any], epoch: int, provider: EpochKeyProvider) -> dict[str, Any]:
    """The row of a key with its wrap under this epoch."""
    old_epoch = row["epoch"]
    refuse_rolled(old_epoch, row["rolled"])
    name = KeyName(bytes(row["holder"]), row["class"], row["period"], row["generation"])
    key = open_box(provider.key(old_epoch), bytes(row["wrap"]), wrap_aad(row["tenant_id"], name, old_epoch))
    return row | {"epoch": epoch, "wrap": seal_box(provider.key(epoch), key, wrap_aad(row["tenant_id"], name, epoch))}
