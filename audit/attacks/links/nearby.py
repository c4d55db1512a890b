"""What is merely near: guesses by order, moment, neighbourhood and rank, which no value of a graph shows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg
from psycopg import Connection

from audit.attacks.links.reading import Reading
from audit.attacks.links.rows import rows_of
from audit.attacks.links.tried import fingerprints_of
from audit.attacks.links.values import moments_of
from domain.access import rounded_up
from domain.ids import micros, month_of
from domain.personal import Identity
from domain.records import RECORD_CLASSES
from ledger.custody.journal_lines import TombstoneNote
from ledger.keys.names import TENANT_HOLDER
from ledger.links import records_kid_of

NEAR_TRANSACTIONS: Final = 3
"""How many transactions of the vault lie between two that are taken for neighbours."""

SELECT_ERASED_LIST: Final = """
SELECT fingerprint FROM lethe.suppression WHERE tenant_id = %s AND generation = %s AND cause = 'erased'
ORDER BY xmin::text::bigint, ctid
"""
SELECT_INTENTS: Final = """
SELECT position, stream_id FROM lethe.event WHERE tenant_id = %s AND topic = 'erasure.intended.v1' ORDER BY position
"""
SELECT_INTENT_TIMES: Final = """
SELECT recorded_at, stream_id FROM lethe.event WHERE tenant_id = %s AND topic = 'erasure.intended.v1'
"""
SELECT_WRITERS: Final = """
SELECT DISTINCT xmin::text::bigint FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = ANY(%s)
"""
SELECT_MARKS: Final = """
SELECT DISTINCT holder, xmin::text::bigint FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder <> ''
"""
SELECT_RECORD_HOLDERS: Final = """
SELECT holder FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder <> '' AND class = ANY(%s)
ORDER BY xmin::text::bigint, ctid
"""
SELECT_CERTIFICATE: Final = "SELECT document FROM lethe.certificate WHERE tenant_id = %s AND certificate_id = %s"
SELECT_ERASED_ON: Final = """
SELECT DISTINCT stream_id FROM lethe.event
WHERE tenant_id = %s AND topic = 'erasure.intended.v1' AND (recorded_at AT TIME ZONE 'UTC')::date = %s::date
"""
SELECT_EXPORTS: Final = """
SELECT position, recorded_at, entry FROM lethe.event
WHERE tenant_id = %s AND topic = 'access.export_produced.v1' ORDER BY position
"""
SELECT_BEFORE: Final = "SELECT topic FROM lethe.event WHERE tenant_id = %s AND stream_id = %s AND position < %s"
SELECT_GENERATION: Final = "SELECT generation FROM lethe.head WHERE tenant_id = %s"


def by_order(reading: Reading, address: str) -> list[UUID]:
    """The subject streams that the order of the suppression list suggests for an erased address.

    The first is the guess by which transactions wrote the rows and where they lie on disk, the second by the
    order of the list's own events.
    """
    reading.read_vault()
    with psycopg.connect(reading.ledger_url, autocommit=True) as ledger:
        intents = [row[1] for row in ledger.execute(SELECT_INTENTS, (reading.tenant,))]
        generation = _generation(reading, ledger)
        on_disk = [bytes(row[0]) for row in ledger.execute(SELECT_ERASED_LIST, (reading.tenant, generation))]
        listed = reading.listed_fingerprints(ledger)
    wanted = set(fingerprints_of(address, reading.peppers()))
    return [
        intents[rank]
        for order in (on_disk, listed)
        for rank, fingerprint in enumerate(order)
        if fingerprint in wanted and rank < len(intents)
    ]


def by_moment(reading: Reading, receipt: UUID) -> list[UUID]:
    """The subject streams whose erasure is nearest in time to any moment that the rows of a receipt still hold.

    A moment is a time that is not a midnight, or the one in a UUIDv7. Empty where no row holds one.
    """
    with psycopg.connect(reading.ledger_url, autocommit=True) as ledger:
        rows = [
            row
            for table, row in rows_of(ledger, "lethe", reading.tenant)
            if table != "event" and receipt in row.values()
        ]
        intents = ledger.execute(SELECT_INTENT_TIMES, (reading.tenant,)).fetchall()
    moments = [moment for row in rows for value in row.values() for moment in moments_of(value)]
    return [min(intents, key=lambda intent: abs(micros(intent[0]) - moment))[1] for moment in moments if intents]


def by_neighbours(reading: Reading, bill: UUID, journal: Iterable[TombstoneNote]) -> set[UUID]:
    """The subject streams that a kept bill suggests by what stands beside it.

    The key of the bill was written by a transaction; tombstones that another one close to it wrote name holders;
    these and their neighbours in the journal may stand in the envelopes of a stream.
    """
    reading.read()
    own = [e[1] for e in reading.graph.entities["bytes", bill.bytes] if e[0] == "holder"]
    with psycopg.connect(reading.vault_url, autocommit=True) as vault:
        writers = [row[0] for row in vault.execute(SELECT_WRITERS, (reading.tenant, own))]
        marks = vault.execute(SELECT_MARKS, (reading.tenant,)).fetchall()
    marked = {bytes(h) for h, xmin in marks for writer in writers if abs(xmin - writer) <= NEAR_TRANSACTIONS}
    told = _told(reading, journal)
    beside = {h for place, h in enumerate(told) if marked & set(told[max(0, place - 1) : place + 2])}
    return _streams_of(reading, marked | beside)


def by_rank(reading: Reading, bill: UUID, journal: Iterable[TombstoneNote]) -> set[UUID]:
    """The subject stream that a kept bill suggests, if keys were kept in the order in which persons were erased."""
    reading.read()
    gone = [_streams_of(reading, {holder}) for holder in _told(reading, journal)]
    living = {records_kid_of(key) for name, key in reading.keys.items() if name.retention_class == Identity.name}
    with psycopg.connect(reading.vault_url, autocommit=True) as vault:
        rows = vault.execute(SELECT_RECORD_HOLDERS, (reading.tenant, list(RECORD_CLASSES)))
        kept = list(dict.fromkeys(bytes(row[0]) for row in rows if bytes(row[0]) not in living))
    streams = [found for found in gone if found]
    own = [e[1] for e in reading.graph.entities["bytes", bill.bytes] if e[0] == "holder"]
    ranks = [kept.index(holder) for holder in own if holder in kept]
    return {stream for rank in ranks for found in streams[rank : rank + 1] for stream in found}


def _told(reading: Reading, journal: Iterable[TombstoneNote]) -> list[bytes]:
    """The holders of persons that a journal names, in its order."""
    ours = (bytes.fromhex(note.holder) for note in journal if note.tenant == reading.tenant)
    return list(dict.fromkeys(holder for holder in ours if holder != TENANT_HOLDER))


def _streams_of(reading: Reading, holders: Iterable[bytes]) -> set[UUID]:
    """The streams in whose envelopes one of these kids stands."""
    return {e[1] for h in holders for e in reading.graph.entities.get(("bytes", h), ()) if e[0] == "stream"}


def _generation(reading: Reading, ledger: Connection[Any]) -> int:
    row = ledger.execute(SELECT_GENERATION, (reading.tenant,)).fetchone()
    return int(row[0]) if row else 1


def by_exports(reading: Reading, receipt: UUID) -> list[set[UUID]]:
    """The subject streams that a certificate's own exports suggest, by what the log counts in them.

    The certificate says in which month what was exported about its person. An export of that kind and month says how
    many events were in it; of the persons erased on that day some had as many by then. One set for each such export.
    """
    with psycopg.connect(reading.ledger_url, autocommit=True) as ledger:
        row = ledger.execute(SELECT_CERTIFICATE, (reading.tenant, receipt)).fetchone()
        if row is None:
            return []
        said = orjson.loads(bytes(row[0]))
        values = (reading.tenant, said["about"].get("asked_on"))
        erased = [stream for (stream,) in ledger.execute(SELECT_ERASED_ON, values)]
        listed = {(one["kind"], one["month"]) for one in said.get("exports", ()) if one.get("about") != "many"}
        made = ledger.execute(SELECT_EXPORTS, (reading.tenant,)).fetchall()
        return [
            {stream for stream in erased if _fits(ledger, reading.tenant, stream, position, entry)}
            for position, recorded_at, entry in made
            if (orjson.loads(entry)["plain"]["kind"], month_of(recorded_at.astimezone(UTC))) in listed
        ]


def _fits(ledger: Connection[Any], tenant: UUID, stream: UUID, position: int, entry: bytes) -> bool:
    """Whether a stream had as many events before a position as an export counts; a consent record has consents only."""
    said = orjson.loads(entry)["plain"]
    of_kind = "consent." if said["kind"].startswith("consent.") else ""
    topics = ledger.execute(SELECT_BEFORE, (tenant, stream, position)).fetchall()
    count = sum(topic.startswith(of_kind) for (topic,) in topics)
    return said["entries"] in (count, rounded_up(count))
