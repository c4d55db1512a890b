"""Key commitments in the vault: which were made on a day, written down once the day is over.

A commitment is made with its key and stands beside the wrap. The rows here are all that is left of it when the key
goes: by them a certificate shows that what was destroyed had been known before. There is no holder, and a day's rows
are written in order of the commitments themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg import Connection

from ledger.keys.vault import LOCK_EXCLUSIVE, Vault

ROWS_PER_FETCH: Final = 10_000
"""Commitments held in memory while a day's are read, whatever their number."""

NEXT_DAY_OF_KEYS: Final = """
SELECT min(created_on) FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND created_on > %s AND created_on < %s
"""
# What a tombstone tells of a key: class, period, generation, first day and commitment (`ledger/keys/shredding.py`).
NEXT_DAY_OF_TOMBSTONES: Final = """
SELECT min(split_part(told, '|', 4)::date) FROM lethe_vault.tombstone, unnest(destroyed) AS told
WHERE tenant_id = %s AND destroyed <> '{}' AND destroyed_at > %s
    AND split_part(told, '|', 4)::date > %s AND split_part(told, '|', 4)::date < %s
"""
# One statement, so that a key that is destroyed meanwhile is seen in one of the two places.
INSERT_DAY: Final = """
INSERT INTO lethe_vault.key_commitment (tenant_id, created_on, commitment)
SELECT %s, %s, made.commitment FROM (
    SELECT commitment FROM lethe_vault.wrapped_key
    WHERE tenant_id = %s AND created_on = %s AND commitment IS NOT NULL
    UNION
    SELECT decode(split_part(told, '|', 5), 'hex') FROM lethe_vault.tombstone, unnest(destroyed) AS told
    WHERE tenant_id = %s AND destroyed <> '{}' AND destroyed_at >= %s
        AND split_part(told, '|', 4) = %s AND split_part(told, '|', 5) <> ''
) AS made ORDER BY made.commitment
ON CONFLICT DO NOTHING
"""
SELECT_DAY: Final = """
SELECT commitment FROM lethe_vault.key_commitment WHERE tenant_id = %s AND created_on = %s ORDER BY commitment
"""
SILENCE: Final = """
UPDATE lethe_vault.tombstone SET destroyed = '{}'
WHERE tenant_id = %s AND starts_with(certificate, %s) AND destroyed <> '{}' AND destroyed_at < %s
"""
SILENCE_PERSONS_OF: Final = """
UPDATE lethe_vault.tombstone SET destroyed = '{}'
WHERE tenant_id = %s AND certificate = ANY(%s) AND holder <> '' AND destroyed <> '{}'
"""
SELECT_TELLING: Final = """
SELECT DISTINCT certificate FROM lethe_vault.tombstone
WHERE tenant_id = %s AND holder <> '' AND destroyed <> '{}' AND certificate ~ '^[0-9a-f-]{36}$'
LIMIT %s
"""
SELECT_TOLD_UNDER: Final = """
SELECT told FROM lethe_vault.tombstone, unnest(destroyed) AS told
WHERE tenant_id = %s AND certificate = %s AND destroyed <> '{}' AND destroyed_at >= %s
ORDER BY split_part(told, '|', 5) LIMIT %s
"""


class CommitmentBook:
    """The commitments of one tenant's keys, by the day that made them."""

    def __init__(self, vault: Vault, tenant: UUID) -> None:
        self._pool = vault.pool
        self._tenant = tenant

    def next_day(self, after: date, before: date) -> date | None:
        """The first day between these two, both excluded, that made a key; None if none did."""
        with self._pool.transaction() as connection:
            keys = connection.execute(NEXT_DAY_OF_KEYS, (self._tenant, after, before)).fetchone()
            values = (self._tenant, _midnight(after), after, before)
            tombstones = connection.execute(NEXT_DAY_OF_TOMBSTONES, values).fetchone()
        days = [row[0] for row in (keys, tombstones) if row is not None and row[0] is not None]
        return min(days, default=None)

    def wait_for_writers(self) -> None:
        """Return when whoever was making keys has committed; who comes later reads the clock anew."""
        with self._pool.transaction() as connection:
            connection.execute(LOCK_EXCLUSIVE, (str(self._tenant),))

    def collect(self, day: date) -> None:
        """Write down every commitment of a day, of keys that live and of those destroyed since. Idempotent."""
        tenant = self._tenant
        values = (tenant, day, tenant, day, tenant, _midnight(day), day.isoformat())
        with self._pool.transaction() as connection:
            connection.execute(INSERT_DAY, values)

    @contextmanager
    def of_day(self, day: date) -> Iterator[Iterator[bytes]]:
        """A day's commitments in order, streamed, for the length of the block."""
        with self._pool.transaction() as connection:
            yield _streamed(connection, (self._tenant, day))

    def told_under(self, certificate: str, since: date, limit: int) -> list[tuple[str, date, bytes]]:
        """Class, first day and commitment of keys destroyed under this certificate, in order of the commitments."""
        with self._pool.transaction() as connection:
            values = (self._tenant, certificate, _midnight(since), limit)
            told = [row[0].split("|") for row in connection.execute(SELECT_TOLD_UNDER, values)]
        return [(key[0], date.fromisoformat(key[3]), bytes.fromhex(key[4])) for key in told]

    def telling(self, limit: int) -> list[str]:
        """The certificates that tombstones of persons name which still tell which keys went."""
        with self._pool.transaction() as connection:
            return [row[0] for row in connection.execute(SELECT_TELLING, (self._tenant, limit))]

    def silence_persons_of(self, certificates: Sequence[str]) -> int:
        """Let tombstones of persons that name one of these certificates forget which keys went."""
        with self._pool.transaction() as connection:
            return connection.execute(SILENCE_PERSONS_OF, (self._tenant, list(certificates))).rowcount

    def silence_tombstones(self, batch: str, before: date) -> int:
        """Let tombstones of this kind, of earlier days, forget which keys went; returns how many did.

        What they forbid stays for ever.
        """
        with self._pool.transaction() as connection:
            return connection.execute(SILENCE, (self._tenant, batch, _midnight(before))).rowcount


def _streamed(connection: Connection[Any], values: Sequence[Any]) -> Iterator[bytes]:
    with connection.cursor(f"commitments_{uuid4().hex}") as cursor:
        cursor.itersize = ROWS_PER_FETCH
        cursor.execute(SELECT_DAY, values, binary=True)
        for (commitment,) in cursor:
            yield bytes(commitment)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
