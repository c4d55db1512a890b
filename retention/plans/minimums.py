"""Where a minimum is promised the log itself is asked, not only the clock that the vault keeps of a key.

A vault that was restored from a backup has forgotten the clocks that moved since; the ledger beside it may be newer.
So before a key of such a class is planned away or destroyed, the record streams that it leads to are computed, and
the newest record found there moves the key's clock forward. A clock never moves back, and nothing is destroyed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import orjson
from psycopg import Connection

from domain.records import RECORD_CLASSES
from ledger.application import Ledger
from ledger.arrays import Uuid16Array
from ledger.entry import parse_entry_time
from ledger.errors import UnknownAccount
from ledger.keys.minimums import STATUTORY
from ledger.keys.names import DueKey
from retention.policy.adopting import pack_of
from retention.policy.pack import PackError

SELECT_ENTRIES = """
SELECT e.* FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT entry FROM lethe.event WHERE tenant_id = %s AND stream_id = n.stream_id
    ORDER BY tenant_id, stream_id, version
) AS e
"""


def minimum_months(ledger: Ledger | None) -> Mapping[str, int]:
    """How many months this account's pack promises to keep a class at least, by class, for the guard of the vault.

    Where no pack is to be had, what both policies promise holds.
    """
    if ledger is None:
        return dict(STATUTORY)
    try:
        pack = pack_of(ledger.account())
    except (UnknownAccount, PackError):
        return dict(STATUTORY)
    return {name: rule.keep.months for name, rule in pack.rules.items() if rule.minimum and rule.keep is not None}


def correct_clocks(ledger: Ledger, retention_class: str, keys: Sequence[DueKey]) -> int:
    """Move the clocks of these keys to the newest record that they lead to; returns how many had stood behind it."""
    if retention_class not in RECORD_CLASSES:
        return 0
    moved = 0
    for key in keys:
        newest = _newest_record(ledger, retention_class, key)
        if newest is not None and newest > key.last_on:
            moved += ledger.services.vault.touch(
                ledger.tenant, retention_class, {key.holder: newest}, generation=key.generation
            )
    return moved


def _newest_record(ledger: Ledger, retention_class: str, key: DueKey) -> date | None:
    streams = [
        stream
        for stream, holder in ledger.records.streams.of(key.holder, [retention_class]).items()
        if holder.link_generation == key.generation
    ]
    if not streams:
        return None
    with ledger.services.writer.transaction() as connection:
        return max(_days(connection, ledger, [stream.bytes for stream in streams]), default=None)


def _days(connection: Connection[Any], ledger: Ledger, streams: Sequence[bytes]) -> Iterator[date]:
    for (entry,) in connection.execute(SELECT_ENTRIES, (Uuid16Array(streams), ledger.tenant), binary=True):
        yield parse_entry_time(orjson.loads(bytes(entry))["occurred_at"]).date()
