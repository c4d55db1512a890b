"""Reading everything: both databases, and all that the living keys open and compute, laid out as a graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from psycopg import Connection

from audit.attacks.links.computed import hold_tag_of, linked, of_holder
from audit.attacks.links.files import pieces_of
from audit.attacks.links.graph import Entity, Event, Graph, Value
from audit.attacks.links.opening import opened_parts, opened_row
from audit.attacks.links.rows import label_of, rows_of
from audit.attacks.links.values import ID_BYTES, value_of, values_in, values_of
from domain.ids import month_of
from domain.merkle import leaf_hash
from domain.personal import Personal
from ledger.arrays import register_arrays
from ledger.connections import Pool
from ledger.custody.provider import EpochKeyProvider
from ledger.entry import unpack_sealed
from ledger.keys.keyring import PEPPER, Keyring
from ledger.keys.names import KeyName
from ledger.keys.vault import Vault
from ledger.mapper import LedgerEvent, SealingMapper
from ledger.sealing import envelope_kid
from ledger.standing_row import NO_KEY
from projections.standing import InlineStanding

SELECT_STANDING: Final = "SELECT generation, fingerprint FROM lethe.standing WHERE tenant_id = %s"
SELECT_LISTED: Final = """
SELECT position, stream_id, version, topic, entry, sealed FROM lethe.event
WHERE tenant_id = %s AND topic = 'suppression.imposed.v1' ORDER BY position
"""


class Reading:
    """One tenant as its attacker reads it; both URLs are a superuser's.

    `graph` is what was read last, `keys` are those of the vault that open, `secrets` these and the living epoch keys.
    `folders` are read as well: what custody keeps outside PostgreSQL, and what was exported.
    """

    def __init__(
        self,
        *,
        ledger_url: str,
        vault_url: str,
        provider: EpochKeyProvider,
        tenant: UUID,
        folders: Sequence[Path] = (),
    ) -> None:
        self.ledger_url = ledger_url
        self.vault_url = vault_url
        self.tenant = tenant
        self.graph = Graph()
        self.keys: dict[KeyName, bytes] = {}
        self.secrets: list[bytes] = []
        self._provider = provider
        self._folders = tuple(folders)

    def read(self) -> None:
        """Read both databases anew."""
        self.graph = Graph()
        self.read_vault()
        with psycopg.connect(self.ledger_url, autocommit=True) as ledger:
            register_arrays(ledger)
            self._read_ledger(ledger)
        for piece, values in pieces_of(self._folders):
            self.graph.add(("file", piece), values)

    def read_vault(self) -> None:
        """Read the vault, and open every key of it that lives."""
        names = []
        with psycopg.connect(self.vault_url, autocommit=True) as vault:
            for table, row in rows_of(vault, "lethe_vault", self.tenant):
                holder = row.get("holder")
                entity = ("holder", bytes(holder)) if holder else (table, label_of(row))
                self.graph.add(entity, values_of(row, "vault"))
                if table == "wrapped_key":
                    names.append(KeyName(bytes(row["holder"]), row["class"], row["period"], row["generation"]))
        with self._vault() as opener:
            self.keys = opener.find(self.tenant, names).keys
        self.secrets = [*self.keys.values(), *(self._provider.key(e) for e in self._provider.living())]

    def peppers(self) -> list[bytes]:
        """The keys under which addresses are fingerprinted."""
        return [key for name, key in self.keys.items() if name.retention_class == PEPPER]

    def listed_fingerprints(self, ledger: Connection[Any]) -> list[bytes]:
        """The fingerprints of erased addresses, in the order of the list's own events."""
        found = []
        with self._vault() as vault:
            mapper = SealingMapper(self.tenant, Keyring(vault, self.tenant))
            for _, stream, version, topic, entry, sealed in ledger.execute(SELECT_LISTED, (self.tenant,), binary=True):
                fact = mapper.open(LedgerEvent(stream, version, topic, bytes(entry), bytes(sealed)))
                held = getattr(fact, "fingerprints", None)
                if isinstance(held, Personal) and getattr(fact, "reason", None) == "erased":
                    found.append(bytes.fromhex(held.reveal()[0]))
        return found

    @contextmanager
    def _vault(self) -> Iterator[Vault]:
        pool = Pool(self.vault_url, application="links-attack", size_max=2, schema="lethe_vault")
        try:
            yield Vault(pool, self._provider)
        finally:
            pool.close()

    def _read_ledger(self, ledger: Connection[Any]) -> None:
        campaigns, months, blobs = list[bytes](), set[str](), list[tuple[Entity, bytes]]()
        with self._vault() as vault:
            mapper = SealingMapper(self.tenant, Keyring(vault, self.tenant))
            for table, row in rows_of(ledger, "lethe", self.tenant):
                if table == "campaign":
                    campaigns.append(row["campaign_id"].bytes)
                if table == "log_tile":
                    continue  # The leaves of the log in its order: it says what the log says (`lethe fsck`).
                if table == "event":
                    months.add(month_of(row["recorded_at"].astimezone(UTC)))
                    self._add_event(row, mapper)
                else:
                    values = set(values_of(row, "ledger")) | set(opened_row(self.keys, self.tenant, table, row))
                    self.graph.add((table, label_of(row)), values)
                    blobs += [((table, label_of(row)), held) for held in row.values() if isinstance(held, bytes)]
        for entity, blob in blobs:
            self.graph.add(entity, self._inside(blob))
        self._add_standing(ledger, campaigns)
        for holder, computed in of_holder(self.keys, campaigns, months):
            self.graph.add(("holder", holder), computed)

    def _inside(self, blob: bytes) -> Iterator[Value]:
        """Ids that anything else shows, anywhere in the bytes of a column: such as in a token of other people's."""
        for at in range(len(blob) - ID_BYTES + 1):
            if ("bytes", held := blob[at : at + ID_BYTES]) in self.graph.entities:
                yield "bytes", held

    def _add_event(self, row: Mapping[str, Any], mapper: SealingMapper) -> None:
        stream: UUID = row["stream_id"]
        values = set(values_of({k: v for k, v in row.items() if k not in ("entry", "sealed")}, "ledger"))
        values.update(values_in(orjson.loads(row["entry"])))
        # What the log, its proofs and its bundles know an event by.
        values.update(("bytes", digest) for digest in (leaf_hash(row["entry"]), sha256(row["entry"]).digest()))
        for envelope in unpack_sealed(row["sealed"]).values():
            kid = envelope_kid(envelope)
            values.update(value_of(kid))
            values.update(hold_tag_of(self.keys, kid))
        values.update(opened_parts(self.keys, row, mapper))
        entity = ("stream", stream)
        self.graph.add(entity, values)
        self.graph.events[entity].append(Event(row["position"], stream, row["topic"]))

    def _add_standing(self, ledger: Connection[Any], campaigns: Sequence[bytes]) -> None:
        """Every row of every generation: also one that is being built, or was left behind."""
        book = InlineStanding(self._provider)
        found: dict[int, list[bytes]] = defaultdict(list)
        for generation, fingerprint in ledger.execute(SELECT_STANDING, (self.tenant,), binary=True):
            found[generation].append(bytes(fingerprint))
        for generation, fingerprints in found.items():
            rows = book.read(ledger, self.tenant, generation, fingerprints)
            for fingerprint, row in rows.items():
                person = row.person
                entity = ("standing", (generation, fingerprint))
                for held in (person.subject, person.kid, person.handle, person.records_kid, fingerprint):
                    self.graph.add(entity, value_of(held))
                for kid in (person.kid, person.records_kid):
                    self.graph.add(entity, hold_tag_of(self.keys, kid))
                for link_key in {person.link_key, person.link_key_before} - {NO_KEY}:
                    self.graph.add(entity, value_of(link_key))
                    self.graph.add(entity, linked(self.keys, link_key, campaigns))
