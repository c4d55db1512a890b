"""Lost keys: what a vault that was restored from an older backup does not have, and nobody destroyed on purpose.

Somebody accepts the loss, and each of these names gets a tombstone, so that no new key is made under an old name: what
the lost key sealed would look tampered with (I6). Such a tombstone destroys nothing. Where the key turns up again, in
a newer backup, it counts for nothing: nobody asked for that key to go (docs/adr/0025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import Connection

from ledger.keys.names import Tombstone

LOST_CAUSE: Final = "lost in a restore"

SELECT_PRESENT = """
SELECT n.number FROM unnest(%s::int[], %s::uuid[], %s::bytea[], %s::text[], %s::text[], %s::smallint[])
    AS n(number, tenant_id, holder, class, period, generation), LATERAL (
    SELECT 1 FROM lethe_vault.wrapped_key k WHERE k.tenant_id = n.tenant_id AND k.holder = n.holder
        AND k.class = n.class AND k.period = n.period AND k.generation = n.generation OFFSET 0
) AS k
"""


def present(connection: Connection[Any], tombstones: Sequence[Tombstone]) -> list[bool]:
    """Whether the very key that each of these names is in the vault, in the order given."""
    if not tombstones:
        return []
    columns = [list(column) for column in zip(*(t[:5] for t in tombstones), strict=True)]
    rows = connection.execute(SELECT_PRESENT, (list(range(len(tombstones))), *columns))
    there = {row[0] for row in rows}
    return [number in there for number in range(len(tombstones))]


def found_again(connection: Connection[Any], tombstones: Sequence[Tombstone]) -> set[Tombstone]:
    """Those that only say that a key was lost, and whose key is here."""
    lost = [tombstone for tombstone in tombstones if tombstone.cause == LOST_CAUSE]
    return {t for t, there in zip(lost, present(connection, lost), strict=True) if there}
