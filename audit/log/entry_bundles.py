"""Bundles of entries, as C2SP tlog-tiles has them: the entries under one tile of level 0, made from the events' rows.

Entries hold no personal value, but they do hold ids, kinds and times of everything: they are for auditors. A bundle is
handed out only if its entries hash to the tile that was published.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from audit.log.errors import LogContradiction, TileMissing
from audit.log.store import all_series, tile
from audit.verify.merkle import leaf_hash
from audit.verify.tiles import TILE_WIDTH, pack_entries

SELECT_ENTRIES = """
SELECT entry FROM event WHERE tenant_id = %s AND position > %s AND position <= %s ORDER BY position
"""


def entry_bundle(connection: Connection[Any], tenant: UUID, number: int, width: int, *, series: int) -> bytes:
    """The first `width` entries of bundle `number`, packed.

    Raises `TileMissing` where the series does not go so far, or where events of an older series were lost, and
    `LogContradiction` where the rows are not those that were published.
    """
    hashes = tile(connection, tenant, 0, number, width, series=series)
    first = number * TILE_WIDTH
    rows = connection.execute(SELECT_ENTRIES, (tenant, first, first + width), binary=True).fetchall()
    if b"".join([leaf_hash(entry) for (entry,) in rows]) == hashes:
        return pack_entries(entry for (entry,) in rows)
    if series != all_series(connection, tenant)[-1].series:
        raise TileMissing("Events of this bundle were lost in a restore that was accepted; their hashes remain.")
    raise LogContradiction(
        f"The events from position {first + 1} on are not those that were published. Run: lethe fsck"
    )
