"""Inline projection: who an address belongs to and how that person stands, in one probe by fingerprint.

The row says nothing by itself. Subject, kid, link key and standing are sealed together under a key derived from the
epoch key, so that a dead tuple or an old backup is worthless once the epoch key is gone (DESIGN section 6). The
contact point and the standing of a living person share a row, because every recipient of every campaign is looked
up here and one probe is cheaper than two (docs/adr/0003).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import Connection

from domain.campaign import Campaign
from domain.standing import Suppression
from ledger.arrays import Bytes16Array, BytesArray
from ledger.custody.provider import EpochKeyProvider
from ledger.errors import UnknownAccount
from ledger.keys.wraps import refuse_rolled
from ledger.links import handle_tag
from ledger.ports import SuppressionRow
from ledger.sealing import NONCE_BYTES, aead_open
from ledger.standing_row import Person, StandingRow
from projections.campaigns import CampaignTable
from projections.row_keys import RowKeys, aad_prefix, row_aad, seal_row
from projections.suppression import SuppressionTable

# OFFSET 0 keeps each probe an index lookup of its own: without statistics the planner would join the other way round.
_ROLLED = "(SELECT epoch_rolled FROM lethe.head WHERE tenant_id = %s) AS rolled"
SELECT_STANDING = f"""
SELECT s.*, {_ROLLED} FROM unnest(%s) AS n(fingerprint), LATERAL (
    SELECT fingerprint, epoch, sealed FROM lethe.standing
    WHERE tenant_id = %s AND generation = %s AND fingerprint = n.fingerprint OFFSET 0
) AS s
"""
SELECT_PAGE = f"""
SELECT fingerprint, epoch, sealed, {_ROLLED} FROM lethe.standing
WHERE tenant_id = %s AND generation = %s AND fingerprint > %s ORDER BY fingerprint LIMIT %s
"""
SELECT_BY_HANDLE = f"""
SELECT s.fingerprint, s.epoch, s.sealed, {_ROLLED} FROM unnest(%s) AS n(handle_tag), LATERAL (
    SELECT * FROM lethe.standing WHERE handle_tag = n.handle_tag AND tenant_id = %s OFFSET 0
) AS s WHERE s.generation = %s
"""
SELECT_EPOCHS = "SELECT epoch_rolled, epoch FROM lethe.head WHERE tenant_id = %s"
# Under any other epoch than the head's, nothing is written. The head is locked by whoever writes, and by the roll when
# it opens an epoch, so that no row appears behind the roll's back.
_UPSERT = """
INSERT INTO lethe.standing (tenant_id, generation, fingerprint, handle_tag, epoch, sealed)
SELECT %(tenant)s, %(generation)s, n.fingerprint, n.handle_tag, %(epoch)s, n.sealed
FROM unnest(%(fingerprints)s, %(tags)s, %(sealed)s) AS n(fingerprint, handle_tag, sealed)
WHERE (SELECT epoch FROM lethe.head WHERE tenant_id = %(tenant)s) = %(epoch)s
ON CONFLICT (tenant_id, generation, fingerprint) DO UPDATE
    SET handle_tag = excluded.handle_tag, epoch = excluded.epoch, sealed = excluded.sealed
"""
UPSERT_STANDING = _UPSERT
# While a roll is under way, a row that is written anew may take the tag that its aliases are found by to a new epoch.
UPSERT_WHILE_ROLLING = f"""
WITH older AS (
    SELECT s.handle_tag AS old_tag, n.handle_tag AS new_tag
    FROM unnest(%(fingerprints)s, %(tags)s) AS n(fingerprint, handle_tag), LATERAL (
        SELECT handle_tag, epoch FROM lethe.standing
        WHERE tenant_id = %(tenant)s AND generation = %(generation)s AND fingerprint = n.fingerprint OFFSET 0
    ) AS s WHERE s.epoch < %(epoch)s
), renewed AS (
    UPDATE lethe.contact_alias a SET handle_tag = older.new_tag FROM older
    WHERE a.handle_tag = older.old_tag AND a.tenant_id = %(tenant)s AND a.generation = %(generation)s
)
{_UPSERT}
"""
DELETE_STANDING = """
DELETE FROM lethe.standing WHERE tenant_id = %s AND generation = %s AND fingerprint = ANY(%s) RETURNING handle_tag
"""
RENEW_ALIASES = """
UPDATE lethe.contact_alias SET handle_tag = %s
WHERE handle_tag = ANY(%s) AND tenant_id = %s AND generation = %s AND handle_tag <> %s
"""
INSERT_ALIAS = """
INSERT INTO lethe.contact_alias (tenant_id, generation, fingerprint, handle_tag) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant_id, generation, fingerprint) DO UPDATE SET handle_tag = excluded.handle_tag
"""
SELECT_BY_ALIAS = f"""
SELECT a.fingerprint, s.fingerprint, s.epoch, s.sealed, {_ROLLED}
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


class Epochs(NamedTuple):
    """Which epochs a tenant's rows may be under: later than `rolled`, up to `newest`, which new ones are written under.

    They are more than one only while a roll is under way.
    """

    rolled: int
    newest: int

    @property
    def rolling(self) -> bool:
        """Whether rows of an older epoch may be left."""
        return self.rolled < self.newest - 1

    def all(self) -> range:
        """Every epoch of these."""
        return range(self.rolled + 1, self.newest + 1)


class InlineStanding:
    """The book of standings, suppressions and campaigns that the ledger writes with every append."""

    def __init__(self, provider: EpochKeyProvider) -> None:
        self._keys = RowKeys(provider)
        self._epochs: dict[UUID, Epochs] = {}
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
        values = (tenant, Bytes16Array(fingerprints), tenant, generation)
        return connection.execute(SELECT_STANDING, values, binary=True).fetchall()

    def page(
        self, connection: Connection[Any], tenant: UUID, generation: int, after: bytes, rows_max: int
    ) -> list[StandingRow]:
        """The standing rows behind a fingerprint, in order of fingerprint, at most so many."""
        values = (tenant, tenant, generation, after, rows_max)
        fetched = connection.execute(SELECT_PAGE, values, binary=True).fetchall()
        return list(self.unseal(tenant, fetched).values())

    def unseal(self, tenant: UUID, fetched: Sequence[Any]) -> dict[bytes, StandingRow]:
        """The second half of `read`, which computes."""
        return self._rows(tenant, fetched)

    def read_handles(
        self, connection: Connection[Any], tenant: UUID, generation: int, handles: Sequence[bytes]
    ) -> dict[bytes, StandingRow]:
        """The standing rows of these handles, by handle."""
        found = self._by_handle(connection, tenant, generation, handles)
        if len(found) < len(set(handles)):
            before = self._epochs[tenant]
            if self._look(connection, tenant) != before:  # A roll began or ended since this process looked.
                found = self._by_handle(connection, tenant, generation, handles)
        return found

    def resolve(
        self, connection: Connection[Any], tenant: UUID, generation: int, fingerprints: Sequence[bytes]
    ) -> dict[bytes, StandingRow]:
        """As `read`, and superseded addresses lead to their person as well."""
        found = self.read(connection, tenant, generation, fingerprints)
        rest = [f for f in fingerprints if f not in found]
        if rest:
            aliases = connection.execute(
                SELECT_BY_ALIAS, (tenant, Bytes16Array(rest), tenant, generation), binary=True
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
        values = (tenant, generation, self._tags(tenant, person.handle, self._look(connection, tenant)))
        return [bytes(row[0]) for row in connection.execute(SELECT_ALIASES_OF, values, binary=True)]

    def write(self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow]) -> None:
        """Insert or replace standing rows."""
        if not rows:
            return
        epochs = self._known(connection, tenant)
        if not self._write(connection, tenant, generation, rows, epochs):
            epochs = self._look(connection, tenant)  # A new epoch was opened since this process looked.
            if not self._write(connection, tenant, generation, rows, epochs):
                raise AssertionError(
                    "Standing is written under the head lock, which the opening of an epoch waits for."
                )

    def move(
        self, connection: Connection[Any], tenant: UUID, generation: int, old_fingerprint: bytes, row: StandingRow
    ) -> None:
        """A person's address changed: the old one stays as an alias that is never mailed."""
        tag = self._keys.tag(tenant, self._look(connection, tenant).newest, row.person.handle)
        tags = [r[0] for r in connection.execute(DELETE_STANDING, (tenant, generation, [old_fingerprint]))]
        connection.execute(DELETE_ALIAS, (tenant, generation, row.fingerprint))
        connection.execute(INSERT_ALIAS, (tenant, generation, old_fingerprint, tag))
        connection.execute(RENEW_ALIASES, (tag, tags, tenant, generation, tag))
        self.write(connection, tenant, generation, [row])

    def detach(self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow]) -> None:
        """Forget persons: no address and no handle leads to them any more, in this generation or any other."""
        epochs = self._look(connection, tenant)
        tags = [tag for row in rows for tag in self._tags(tenant, row.person.handle, epochs)]
        connection.execute(FORGET_STANDING, (tags, tenant))
        connection.execute(FORGET_ALIASES, (tags, tenant))

    def write_aliases(
        self, connection: Connection[Any], tenant: UUID, generation: int, aliases: Sequence[tuple[bytes, Person]]
    ) -> None:
        """Insert superseded addresses (fingerprints) of persons, each once."""
        epoch = self._look(connection, tenant).newest
        columns = (
            Bytes16Array(fingerprint for fingerprint, _ in aliases),
            Bytes16Array(self._keys.tag(tenant, epoch, person.handle) for _, person in aliases),
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
        prefix, unpacked = aad_prefix(tenant), StandingRow.unpacked
        epoch_before, key, suffix = 0, b"", b""
        for fingerprint, epoch, sealed, rolled in rows:
            if epoch != epoch_before:
                refuse_rolled(epoch, rolled)
                epoch_before, key, suffix = epoch, self._keys.row_key(tenant, epoch), epoch.to_bytes(4, "big")
            packed = aead_open(key, sealed[NONCE_BYTES:], prefix + fingerprint + suffix, sealed[:NONCE_BYTES])
            found[fingerprint] = unpacked(fingerprint, packed)
        return found

    def _by_handle(
        self, connection: Connection[Any], tenant: UUID, generation: int, handles: Sequence[bytes]
    ) -> dict[bytes, StandingRow]:
        tag_keys = [self._keys.tag_key(tenant, epoch) for epoch in self._known(connection, tenant).all()]
        tags = [handle_tag(tag_key, handle) for tag_key in tag_keys for handle in handles]
        values = (tenant, Bytes16Array(tags), tenant, generation)
        rows = connection.execute(SELECT_BY_HANDLE, values, binary=True).fetchall()
        return {row.handle: row for row in self._rows(tenant, rows).values()}

    def _write(
        self, connection: Connection[Any], tenant: UUID, generation: int, rows: Sequence[StandingRow], epochs: Epochs
    ) -> bool:
        """Whether the rows were written; nothing is where a newer epoch is open than the one they were sealed for."""
        epoch = epochs.newest
        key, tag_key = self._keys.row_key(tenant, epoch), self._keys.tag_key(tenant, epoch)
        values = {
            "tenant": tenant,
            "generation": generation,
            "epoch": epoch,
            "fingerprints": Bytes16Array(row.fingerprint for row in rows),
            "tags": Bytes16Array(handle_tag(tag_key, row.handle) for row in rows),
            "sealed": BytesArray(seal_row(key, row.pack(), row_aad(tenant, row.fingerprint, epoch)) for row in rows),
        }
        statement = UPSERT_WHILE_ROLLING if epochs.rolling else UPSERT_STANDING
        return connection.execute(statement, values).rowcount == len(rows)

    def _tags(self, tenant: UUID, handle: bytes, epochs: Epochs) -> list[bytes]:
        return [self._keys.tag(tenant, epoch, handle) for epoch in epochs.all()]

    def _known(self, connection: Connection[Any], tenant: UUID) -> Epochs:
        return self._epochs.get(tenant) or self._look(connection, tenant)

    def _look(self, connection: Connection[Any], tenant: UUID) -> Epochs:
        """The epochs of a tenant as its head says; keys of epochs that are over are forgotten."""
        row = connection.execute(SELECT_EPOCHS, (tenant,)).fetchone()
        if row is None:
            raise UnknownAccount("There is no account with this id here, so it has no standing.")
        epochs = Epochs(*row)
        if epochs != self._epochs.get(tenant):
            self._keys.forget(tenant, epochs.rolled)
            self._epochs[tenant] = epochs
        return epochs
