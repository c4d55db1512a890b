"""Inline projection: who an address belongs to and how that person stands, in one probe by fingerprint.

The row says nothing by itself. Subject, kid, link key and standing are sealed together under a key derived from the
epoch key, so that a dead tuple or an old backup is worthless once the epoch key is gone (DESIGN section 6). The
contact point and the standing of a living person share a row, because every recipient of every campaign is looked
up here and one probe is cheaper than two (docs/adr/0003).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign
from domain.standing import Suppression
from ledger.arrays import Bytes16Array, BytesArray
from ledger.key_provider import EpochKeyProvider
from ledger.links import handle_tag
from ledger.ports import SuppressionRow
from ledger.sealing import KEY_BYTES, NONCE_BYTES, aead_open, aead_seal
from ledger.standing_row import Person, StandingRow
from projections.campaigns import CampaignTable
from projections.suppression import SuppressionTable

# OFFSET 0 keeps each probe an index lookup of its own: without statistics the planner would join the other way round.
SELECT_STANDING = """
SELECT s.* FROM unnest(%s) AS n(fingerprint), LATERAL (
    SELECT fingerprint, epoch, sealed FROM lethe.standing
    WHERE tenant_id = %s AND generation = %s AND fingerprint = n.fingerprint OFFSET 0
) AS s
"""
SELECT_BY_HANDLE = """
SELECT s.fingerprint, s.epoch, s.sealed FROM unnest(%s) AS n(handle_tag), LATERAL (
    SELECT * FROM lethe.standing WHERE handle_tag = n.handle_tag AND tenant_id = %s OFFSET 0
) AS s WHERE s.generation = %s
"""
UPSERT_STANDING = """
INSERT INTO lethe.standing (tenant_id, generation, fingerprint, handle_tag, epoch, sealed)
SELECT %s, %s, n.fingerprint, n.handle_tag, %s, n.sealed
FROM unnest(%s, %s, %s) AS n(fingerprint, handle_tag, sealed)
ON CONFLICT (tenant_id, generation, fingerprint) DO UPDATE SET epoch = excluded.epoch, sealed = excluded.sealed
"""
DELETE_STANDING = "DELETE FROM lethe.standing WHERE tenant_id = %s AND generation = %s AND fingerprint = ANY(%s)"
INSERT_ALIAS = """
INSERT INTO lethe.contact_alias (tenant_id, generation, fingerprint, handle_tag) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant_id, generation, fingerprint) DO UPDATE SET handle_tag = excluded.handle_tag
"""
SELECT_BY_ALIAS = """
SELECT a.fingerprint, s.fingerprint, s.epoch, s.sealed
FROM unnest(%s) AS n(fingerprint), LATERAL (
    SELECT * FROM lethe.contact_alias
    WHERE tenant_id = %s AND generation = %s AND fingerprint = n.fingerprint OFFSET 0
) AS a, LATERAL (
    SELECT * FROM lethe.standing WHERE handle_tag = a.handle_tag AND tenant_id = a.tenant_id OFFSET 0
) AS s WHERE s.generation = a.generation
"""
SELECT_ALIASES = """
SELECT a.* FROM unnest(%s) AS n(fingerprint), LATERAL (
    SELECT fingerprint FROM lethe.contact_alias
    WHERE tenant_id = %s AND generation = %s AND fingerprint = n.fingerprint OFFSET 0
) AS a
"""
SELECT_ALIASES_OF = """
SELECT fingerprint FROM lethe.contact_alias WHERE tenant_id = %s AND generation = %s AND handle_tag = ANY(%s)
"""
# Of every generation: neither one being built nor one left behind may know a person whose erasure is intended.
FORGET_STANDING = "DELETE FROM lethe.standing WHERE handle_tag = ANY(%s) AND tenant_id = %s"
FORGET_ALIASES = "DELETE FROM lethe.contact_alias WHERE handle_tag = ANY(%s) AND tenant_id = %s"
INSERT_ALIASES = """
INSERT INTO lethe.contact_alias (tenant_id, generation, fingerprint, handle_tag)
SELECT %s, %s, n.* FROM unnest(%s, %s) AS n(fingerprint, handle_tag)
ON CONFLICT (tenant_id, generation, fingerprint) DO UPDATE SET handle_tag = excluded.handle_tag
"""
DELETE_ALIAS = "DELETE FROM lethe.contact_alias WHERE tenant_id = %s AND generation = %s AND fingerprint = %s"


class InlineStanding:
    """The book of standings, suppressions and campaigns that the ledger writes with every append."""

    def __init__(self, provider: EpochKeyProvider) -> None:
        self._provider = provider
        self._row_keys: dict[tuple[UUID, int], bytes] = {}
        self._tag_keys: dict[tuple[UUID, int], bytes] = {}
        self._suppressions = SuppressionTable()
        self._campaigns = CampaignTable()

    def read(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, StandingRow]:
        """The standing rows of these fingerprints; an unknown one is absent."""
        return self.unseal(tenant, self.fetch(connection, tenant, generation, fingerprints))

    def fetch(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> Sequence[Any]:
        """The first half of `read`, which waits for the database: rows still sealed."""
        values = (Bytes16Array(fingerprints), tenant, generation)
        return connection.execute(SELECT_STANDING, values, binary=True).fetchall()

    def unseal(self, tenant: UUID, fetched: Sequence[Any]) -> dict[bytes, StandingRow]:
        """The second half of `read`, which computes."""
        return self._rows(tenant, fetched)

    def read_handles(
        self, connection: Connection[Any], tenant: UUID, generation: int, handles: Sequence[bytes]
    ) -> dict[bytes, StandingRow]:
        """The standing rows of these handles, by handle."""
        tags = [tag for handle in handles for tag in self._tags(tenant, handle)]
        rows = connection.execute(SELECT_BY_HANDLE, (Bytes16Array(tags), tenant, generation), binary=True).fetchall()
        return {row.handle: row for row in self._rows(tenant, rows).values()}

    def resolve(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, StandingRow]:
        """As `read`, and superseded addresses lead to their person as well."""
        found = self.read(connection, tenant, generation, fingerprints)
        rest = [f for f in fingerprints if f not in found]
        if rest:
            aliases = connection.execute(
                SELECT_BY_ALIAS, (Bytes16Array(rest), tenant, generation), binary=True
            ).fetchall()
            rows = self._rows(tenant, [row[1:] for row in aliases])
            found |= {row[0]: rows[row[1]] for row in aliases}
        return found

    def read_aliases(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> set[bytes]:
        """Which of these fingerprints are superseded addresses of living persons."""
        rows = connection.execute(SELECT_ALIASES, (Bytes16Array(fingerprints), tenant, generation), binary=True)
        return {bytes(row[0]) for row in rows}

    def aliases_of(self, connection: Connection[Any], tenant: UUID, generation: int, person: Person) -> list[bytes]:
        """The fingerprints of a person's superseded addresses."""
        values = (tenant, generation, self._tags(tenant, person.handle))
        return [bytes(row[0]) for row in connection.execute(SELECT_ALIASES_OF, values, binary=True)]

    def write(self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow]) -> None:
        """Insert or replace standing rows."""
        if not rows:
            return
        epoch = self._provider.current()
        key, tag_key = self._row_key(tenant, epoch), self._tag_key(tenant, epoch)
        fingerprints = [row.fingerprint for row in rows]
        tags = [handle_tag(tag_key, row.person.handle) for row in rows]
        sealed = [_seal(key, row.pack(), _aad(tenant, row.fingerprint, epoch)) for row in rows]
        columns = (Bytes16Array(fingerprints), Bytes16Array(tags), BytesArray(sealed))
        connection.execute(UPSERT_STANDING, (tenant, generation, epoch, *columns))

    def move(
        self, connection: Connection[Any], tenant: UUID, generation: int, old_fingerprint: bytes, row: StandingRow
    ) -> None:
        """A person's address changed: the old one stays as an alias that is never mailed."""
        tag = handle_tag(self._tag_key(tenant, self._provider.current()), row.person.handle)
        connection.execute(DELETE_STANDING, (tenant, generation, [old_fingerprint]))
        connection.execute(DELETE_ALIAS, (tenant, generation, row.fingerprint))
        connection.execute(INSERT_ALIAS, (tenant, generation, old_fingerprint, tag))
        self.write(connection, tenant, generation, [row])

    def detach(self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow]) -> None:
        """Forget persons: no address and no handle leads to them any more, in this generation or any other."""
        tags = [tag for row in rows for tag in self._tags(tenant, row.person.handle)]
        connection.execute(FORGET_STANDING, (tags, tenant))
        connection.execute(FORGET_ALIASES, (tags, tenant))

    def write_aliases(
        self, connection: Connection[Any], tenant: UUID, generation: int, aliases: Sequence[tuple[bytes, Person]]
    ) -> None:
        """Insert superseded addresses (fingerprints) of persons, each once."""
        tag_key = self._tag_key(tenant, self._provider.current())
        columns = (
            Bytes16Array(fingerprint for fingerprint, _ in aliases),
            Bytes16Array(handle_tag(tag_key, person.handle) for _, person in aliases),
        )
        connection.execute(INSERT_ALIASES, (tenant, generation, *columns))

    def suppressions(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, list[Suppression]]:
        """The suppression list's entries for these fingerprints."""
        return self._suppressions.read(connection, tenant, generation, fingerprints)

    def suppress(
        self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[SuppressionRow]
    ) -> None:
        """Add entries to the suppression list."""
        self._suppressions.write(connection, tenant, generation, rows)

    def lift(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes], scope: str
    ) -> None:
        """Take back entries that were made by hand."""
        self._suppressions.lift(connection, tenant, generation, fingerprints, scope)

    def campaigns(self, connection: Connection[Any], tenant: UUID, generation: int) -> Mapping[UUID, Campaign]:
        """Every campaign of the tenant."""
        return self._campaigns.all(connection, tenant, generation)

    def campaign(
        self, connection: Connection[Any], tenant: UUID, generation: int, campaign_id: UUID
    ) -> Campaign | None:
        """One campaign, None if it is not this tenant's."""
        return self._campaigns.read(connection, tenant, generation, campaign_id)

    def write_campaign(
        self, connection: Connection[Any], tenant: UUID, generation: int, campaign_id: UUID, campaign: Campaign
    ) -> None:
        """Insert or replace a campaign."""
        self._campaigns.write(connection, tenant, generation, campaign_id, campaign)

    def _rows(self, tenant: UUID, rows: Sequence[tuple[Any, ...]]) -> dict[bytes, StandingRow]:
        found = {}
        prefix, unpacked = _aad_prefix(tenant), StandingRow.unpacked
        epoch_before, key, suffix = 0, b"", b""
        for fingerprint, epoch, sealed in rows:
            if epoch != epoch_before:
                epoch_before, key, suffix = epoch, self._row_key(tenant, epoch), epoch.to_bytes(4, "big")
            packed = aead_open(key, sealed[NONCE_BYTES:], prefix + fingerprint + suffix, sealed[:NONCE_BYTES])
            found[fingerprint] = unpacked(fingerprint, packed)
        return found

    def _tags(self, tenant: UUID, handle: bytes) -> list[bytes]:
        return [handle_tag(self._tag_key(tenant, epoch), handle) for epoch in self._provider.living()]

    def _row_key(self, tenant: UUID, epoch: int) -> bytes:
        return self._derived(self._row_keys, tenant, epoch, b"lethe.row.v1")

    def _tag_key(self, tenant: UUID, epoch: int) -> bytes:
        return self._derived(self._tag_keys, tenant, epoch, b"lethe.tag.v1")

    def _derived(self, held: dict[tuple[UUID, int], bytes], tenant: UUID, epoch: int, person: bytes) -> bytes:
        key = held.get((tenant, epoch))
        if key is None:
            key = blake2b(tenant.bytes, key=self._provider.key(epoch), digest_size=KEY_BYTES, person=person).digest()
            held[(tenant, epoch)] = key
        return key


def _seal(key: bytes, packed: bytes, aad: bytes) -> bytes:
    """Nonce and ciphertext. Row keys live one epoch of one tenant, so random nonces stay far below 2^32 of them."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + aead_seal(key, packed, aad, nonce)


def _aad_prefix(tenant: UUID) -> bytes:
    return b"standing" + tenant.bytes


def _aad(tenant: UUID, fingerprint: bytes, epoch: int) -> bytes:
    return _aad_prefix(tenant) + fingerprint + epoch.to_bytes(4, "big")
