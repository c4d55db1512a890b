"""Inline projection: the suppression list, by fingerprint, with scope, cause and day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.ids import micros
from domain.standing import Suppression
from ledger.arrays import Bytes16Array
from ledger.ports import SuppressionRow

SELECT_SUPPRESSIONS = """
SELECT s.* FROM unnest(%s) AS n(fingerprint), LATERAL (
    SELECT fingerprint, scope, cause, since FROM lethe.suppression
    WHERE tenant_id = %s AND generation = %s AND fingerprint = n.fingerprint OFFSET 0
) AS s
"""
UPSERT_SUPPRESSIONS = """
INSERT INTO lethe.suppression (tenant_id, generation, fingerprint, scope, cause, since)
SELECT %s, %s, n.* FROM unnest(%s::bytea[], %s::text[], %s::text[], %s::date[]) AS n(fingerprint, scope, cause, since)
ON CONFLICT (tenant_id, generation, fingerprint, scope, cause) DO UPDATE
SET since = greatest(suppression.since, excluded.since)
"""
DELETE_BY_HAND = """
DELETE FROM lethe.suppression
WHERE tenant_id = %s AND generation = %s AND fingerprint = ANY(%s) AND scope = %s AND cause = 'manual'
"""
DELETE_ENTRIES = """
DELETE FROM lethe.suppression s USING unnest(%s::bytea[], %s::text[], %s::text[]) AS n(fingerprint, scope, cause)
WHERE s.tenant_id = %s AND s.generation = %s AND s.fingerprint = n.fingerprint AND s.scope = n.scope
    AND s.cause = n.cause
RETURNING s.fingerprint, s.scope, s.cause, s.since
"""


class SuppressionTable:
    """Reads and writes of the list. `since` comes back as microseconds since 1970, at the day's end."""

    def read(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, list[Suppression]]:
        """The entries of these fingerprints; an address without one is absent."""
        found: dict[bytes, list[Suppression]] = {}
        values = (Bytes16Array(fingerprints), tenant, generation)
        for fingerprint, scope, cause, since in connection.execute(SELECT_SUPPRESSIONS, values, binary=True):
            entry = Suppression(scope, cause, end_of_day_us(since))
            found.setdefault(bytes(fingerprint), []).append(entry)
        return found

    def write(self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[SuppressionRow]) -> None:
        """Add or renew entries; of the same entry twice in one call the last one counts."""
        unique = list({(row.fingerprint, row.scope, row.cause): row for row in rows}.values())
        if not unique:
            return
        columns = (
            [row.fingerprint for row in unique],
            [row.scope for row in unique],
            [row.cause for row in unique],
            [since_date(row.since) for row in unique],
        )
        connection.execute(UPSERT_SUPPRESSIONS, (tenant, generation, *columns))

    def rewrite(
        self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[SuppressionRow]
    ) -> None:
        """Write entries anew, in this order: neither their transaction nor their place is that of an older version."""
        columns = ([r.fingerprint for r in rows], [r.scope for r in rows], [r.cause for r in rows])
        deleted = connection.execute(DELETE_ENTRIES, (*columns, tenant, generation)).fetchall()
        held = {(bytes(fingerprint), scope, cause): since for fingerprint, scope, cause, since in deleted}
        renewed = []
        for row in rows:
            since = held.get((row.fingerprint, row.scope, row.cause))
            later = since is not None and since > since_date(row.since)
            renewed.append(replace(row, since=since.isoformat()) if since is not None and later else row)
        self.write(connection, tenant, generation, renewed)

    def lift(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes], scope: str
    ) -> None:
        """Remove entries made by hand; nothing else is ever removed."""
        connection.execute(DELETE_BY_HAND, (tenant, generation, list(fingerprints), scope))


def since_date(since: str) -> date:
    """The first day of a day (`2026-11-21`) or of a month (`2026-11`)."""
    return date.fromisoformat(since if len(since) > 7 else f"{since}-01")


def end_of_day_us(day: date) -> int:
    """The last microsecond of a day (UTC), in microseconds since 1970: the finest time that the list keeps."""
    return micros(datetime(day.year, day.month, day.day, 23, 59, 59, 999_999, tzinfo=UTC))
