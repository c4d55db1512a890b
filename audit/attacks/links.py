"""An attack on invariant I11, nothing leads back: from an address, try every way to an event of its person.

The attacker has more than anybody should: both databases as a superuser, every secret that is still alive (epoch keys
and all that the vault's wraps open to), and the address. The program lays everything that can be read or opened out
as a graph. Entities are rows (the events of one stream and the keys of one holder are one entity each); two entities
touch where they share a value that few others have:

- ids, hashes, tags, envelopes' kids, command ids, causes, and any other text or bytes, in columns and inside entries;
- moments to the microsecond, positions, and the transaction that wrote the row (`xmin`);
- whatever the living keys open: sealed parts, standing, bookmarks of erasures, parked feedback, the feed, tokens
  (kept answers need the Idempotency-Key as well, which only the caller has);
- what the living link keys compute: the message ids of every campaign in every month;
- what living identity and record keys compute: handles, the kids of records, the streams of every period and those of
  exports.

It starts from the address, its fingerprints under every pepper, and hashes of it: plain and keyed with every living
secret, in the forms that requests have. An event that is reached, and is not about the suppression list, is a lead.
The kept suppression is found on purpose: it outlives the person (DESIGN section 3).

Four attacks are no graph, because they follow what is merely near. `guess_by_order` pairs the order of a list with the
order of the log, `guess_by_moment` takes the nearest moment; `guess_by_neighbours` and `guess_by_rank` go from a kept
bill by the vault's transactions and places to tombstones, and along the journal beside it.

What this does not deny. Statistics remain: who knows the day (later the month) of an erasure knows that the person is
one of those erased that day, and if there was one only, which; values that only say a day or a month are therefore no
edges here. What never was in the rows is not searched either: dead tuples and WAL hold earlier versions of rows until
they are overwritten, sealed or detached as they were, and are the business of the backup horizon (DESIGN section 6).

Everything is held in memory: use it on databases of up to about a hundred thousand rows.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from typing import Any
from uuid import UUID

import orjson
import psycopg
from psycopg import Connection, sql

from audit.bundles.model import EXPORT_KINDS, VIEWED
from audit.consents.acts import EXPORT_KINDS as CONSENT_KINDS
from audit.trail.export import LOOKED_AT
from domain.address import canonical_address
from domain.category import CATEGORIES
from domain.facts import TOPICS
from domain.ids import micros, month_of
from domain.personal import RETENTION_CLASSES, Feed, HoldReference, Identity, Personal, SuppressionData
from domain.records import RECORD_CLASSES
from domain.subject import ACCOUNT_CLOSURE, ERASURE_REASONS
from ledger.arrays import register_arrays
from ledger.connections import Pool
from ledger.custody.journal_lines import TombstoneNote
from ledger.custody.provider import EpochKeyProvider
from ledger.entry import parse_entry_time, unpack_sealed
from ledger.errors import InvalidToken, LedgerError, TamperError
from ledger.exports import export_stream_id
from ledger.hold_book import hold_tag
from ledger.keys.keyring import CLASSES_OF_MESSAGES, LINK, PEPPER, Keyring
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER, KeyName, Vault
from ledger.links import NO_OCCURRENCE, handle_of, link_scope, message_id, open_token, parse_token, records_kid_of
from ledger.mapper import Holder, LedgerEvent, SealingMapper
from ledger.record_streams import record_stream_id
from ledger.sealing import NONCE_BYTES, envelope_kid, open_box, scope_key
from ledger.standing_row import NO_KEY
from projections.standing import InlineStanding

ENTITIES_SHARING_MAX = 6
"""A value that more entities share points at a crowd, and is followed no further."""
BYTES_MIN = 8
TEXT_MIN = 12
NEAR_TRANSACTIONS = 3
"""How many transactions of the vault lie between two that are taken for neighbours."""
ID_BYTES = 16
UUID_OF_TIME = 7
ABOUT_NOBODY = ("suppression.", "certificate.", "keys.committed.")
"""Topics that are reached on purpose: the list outlives the person, and a receipt leads to its own certificate."""

_WORDS_OF_THE_PROGRAM = frozenset(
    {
        *TOPICS,
        *RETENTION_CLASSES,
        *ERASURE_REASONS,
        ACCOUNT_CLOSURE,
        *CATEGORIES,
        *EXPORT_KINDS.values(),
        *CONSENT_KINDS.values(),
        *VIEWED.values(),
        LOOKED_AT,
    }
)
_ONLY_A_DAY = re.compile(r"[a-z ]*\d{4}-\d{2}-\d{2}")
"""Such as the name of a day's erasures on a tombstone: who knows the day knows as much as the log says of it."""

Value = tuple[str, Any]
Entity = tuple[str, Any]

SELECT_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'"
SELECT_ERASED_LIST = """
SELECT fingerprint FROM lethe.suppression WHERE tenant_id = %s AND generation = %s AND cause = 'erased'
ORDER BY xmin::text::bigint, ctid
"""
SELECT_STANDING = "SELECT generation, fingerprint FROM lethe.standing WHERE tenant_id = %s"
SELECT_INTENTS = """
SELECT position, stream_id FROM lethe.event WHERE tenant_id = %s AND topic = 'erasure.intended.v1' ORDER BY position
"""
SELECT_INTENT_TIMES = """
SELECT recorded_at, stream_id FROM lethe.event WHERE tenant_id = %s AND topic = 'erasure.intended.v1'
"""
SELECT_WRITERS = """
SELECT DISTINCT xmin::text::bigint FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = ANY(%s)
"""
SELECT_MARKS = """
SELECT DISTINCT holder, xmin::text::bigint FROM lethe_vault.tombstone WHERE tenant_id = %s AND holder <> ''
"""
SELECT_RECORD_HOLDERS = """
SELECT holder FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder <> '' AND class = ANY(%s)
ORDER BY xmin::text::bigint, ctid
"""
SELECT_LISTED = """
SELECT position, stream_id, version, topic, entry, sealed FROM lethe.event
WHERE tenant_id = %s AND topic = 'suppression.imposed.v1' ORDER BY position
"""


@dataclass(frozen=True, slots=True)
class Lead:
    """An event that the address leads to, and by which steps."""

    position: int
    stream: UUID
    topic: str
    path: tuple[str, ...]


@dataclass(slots=True)
class _Event:
    position: int
    stream: UUID
    topic: str
    values: set[Value]


@dataclass(slots=True)
class _Graph:
    """Entities, the values that each shows, and the entities that show each value."""

    values: dict[Entity, set[Value]] = field(default_factory=lambda: defaultdict(set))
    entities: dict[Value, set[Entity]] = field(default_factory=lambda: defaultdict(set))
    events: dict[Entity, list[_Event]] = field(default_factory=lambda: defaultdict(list))

    def add(self, entity: Entity, values: Iterable[Value]) -> None:
        for value in values:
            self.values[entity].add(value)
            self.entities[value].add(entity)


class LinksAttack:
    """One attacker of one tenant; both URLs are a superuser's. Read what the databases hold by `prepare`."""

    def __init__(self, *, ledger_url: str, vault_url: str, provider: EpochKeyProvider, tenant: UUID) -> None:
        self._ledger_url = ledger_url
        self._vault_url = vault_url
        self._provider = provider
        self._tenant = tenant
        self._graph = _Graph()
        self._keys: dict[KeyName, bytes] = {}

    def leads(self, address: str, tokens: Sequence[str] = (), receipts: Sequence[UUID] = ()) -> list[Lead]:
        """Every event that the address leads to, in order of position. Reads both databases anew.

        `tokens` are message ids that a sender has kept beside the address, `receipts` the ids of erasures and of
        certificates that a controller has.
        """
        self._read()
        start = self._start(address)
        for value in self._values_with_tokens(list(tokens)):
            start.setdefault(value, "a token kept by a sender")
        for value in _pairs_of_nonces(tokens):
            start.setdefault(value, "two tokens kept by a sender")
        for receipt in receipts:
            start["bytes", receipt.bytes] = "the id of an erasure or a certificate, kept by a controller"
        return self._follow(start)

    def leads_from(self, stream: UUID) -> list[Lead]:
        """Every event that a stream leads to, its own included: the way back from what is kept to what was erased."""
        self._read()
        entities, values = self._graph.entities, self._graph.values[("stream", stream)]
        fine = [value for value in values if len(entities[value]) <= ENTITIES_SHARING_MAX]
        return self._follow(dict.fromkeys(fine, "a value of the stream"))

    def guess_by_order(self, address: str) -> list[UUID]:
        """The subject streams that the order of the suppression list suggests for an erased address.

        The first is the guess by which transactions wrote the rows and where they lie on disk, the second by the
        order of the list's own events.
        """
        with psycopg.connect(self._vault_url, autocommit=True) as vault:
            self._read_vault(vault)
        with psycopg.connect(self._ledger_url, autocommit=True) as ledger:
            intents = [row[1] for row in ledger.execute(SELECT_INTENTS, (self._tenant,))]
            generation = self._generation(ledger)
            on_disk = [bytes(row[0]) for row in ledger.execute(SELECT_ERASED_LIST, (self._tenant, generation))]
            listed = self._listed_fingerprints(ledger)
        wanted = set(self._fingerprints(address))
        return [
            intents[rank]
            for order in (on_disk, listed)
            for rank, fingerprint in enumerate(order)
            if fingerprint in wanted and rank < len(intents)
        ]

    def guess_by_moment(self, receipt: UUID) -> list[UUID]:
        """The subject streams whose erasure is nearest in time to any moment that the rows of a receipt still hold.

        A moment is a time that is not a midnight, or the one in a UUIDv7. Empty where no row holds one.
        """
        with psycopg.connect(self._ledger_url, autocommit=True) as ledger:
            rows = [
                row
                for table, row in _rows(ledger, "lethe", self._tenant)
                if table in ("erasure", "certificate") and receipt in row.values()
            ]
            intents = ledger.execute(SELECT_INTENT_TIMES, (self._tenant,)).fetchall()
        moments = [moment for row in rows for value in row.values() for moment in _moments(value)]
        return [min(intents, key=lambda intent: abs(micros(intent[0]) - moment))[1] for moment in moments if intents]

    def guess_by_neighbours(self, bill: UUID, journal: Iterable[TombstoneNote]) -> set[UUID]:
        """The subject streams that a kept bill suggests by what stands beside it.

        The key of the bill was written by a transaction; tombstones that another one close to it wrote name holders;
        these and their neighbours in the journal may stand in the envelopes of a stream.
        """
        self._read()
        own = [e[1] for e in self._graph.entities["bytes", bill.bytes] if e[0] == "holder"]
        with psycopg.connect(self._vault_url, autocommit=True) as vault:
            writers = [row[0] for row in vault.execute(SELECT_WRITERS, (self._tenant, own))]
            marks = vault.execute(SELECT_MARKS, (self._tenant,)).fetchall()
        marked = {bytes(h) for h, xmin in marks for writer in writers if abs(xmin - writer) <= NEAR_TRANSACTIONS}
        told = self._told(journal)
        beside = {h for place, h in enumerate(told) if marked & set(told[max(0, place - 1) : place + 2])}
        return self._streams_of(marked | beside)

    def guess_by_rank(self, bill: UUID, journal: Iterable[TombstoneNote]) -> set[UUID]:
        """The subject stream that a kept bill suggests, if keys were kept in the order in which persons were erased."""
        self._read()
        gone = [self._streams_of({holder}) for holder in self._told(journal)]
        living = {records_kid_of(key) for name, key in self._keys.items() if name.retention_class == Identity.name}
        with psycopg.connect(self._vault_url, autocommit=True) as vault:
            rows = vault.execute(SELECT_RECORD_HOLDERS, (self._tenant, list(RECORD_CLASSES)))
            kept = list(dict.fromkeys(bytes(row[0]) for row in rows if bytes(row[0]) not in living))
        streams = [found for found in gone if found]
        own = [e[1] for e in self._graph.entities["bytes", bill.bytes] if e[0] == "holder"]
        ranks = [kept.index(holder) for holder in own if holder in kept]
        return {stream for rank in ranks for found in streams[rank : rank + 1] for stream in found}

    def _told(self, journal: Iterable[TombstoneNote]) -> list[bytes]:
        """The holders of persons that a journal names, in its order."""
        ours = (bytes.fromhex(note.holder) for note in journal if note.tenant == self._tenant)
        return list(dict.fromkeys(holder for holder in ours if holder != TENANT_HOLDER))

    def _streams_of(self, holders: Iterable[bytes]) -> set[UUID]:
        """The streams in whose envelopes one of these kids stands."""
        return {e[1] for h in holders for e in self._graph.entities.get(("bytes", h), ()) if e[0] == "stream"}

    # Reading everything ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._graph = _Graph()
        with psycopg.connect(self._vault_url, autocommit=True) as vault:
            self._read_vault(vault)
        with psycopg.connect(self._ledger_url, autocommit=True) as ledger:
            register_arrays(ledger)
            self._read_ledger(ledger)

    def _read_vault(self, vault: Connection[Any]) -> None:
        pool = Pool(self._vault_url, application="links-attack", size_max=2, schema="lethe_vault")
        names = []
        try:
            for table, row in _rows(vault, "lethe_vault", self._tenant):
                holder = row.get("holder")
                entity = ("holder", bytes(holder)) if holder else (table, _label(row))
                self._graph.add(entity, _values(row, "vault"))
                if table == "wrapped_key":
                    names.append(KeyName(bytes(row["holder"]), row["class"], row["period"], row["generation"]))
            self._keys = Vault(pool, self._provider).find(self._tenant, names).keys
        finally:
            pool.close()
        self._secrets = [*self._keys.values(), *(self._provider.key(e) for e in self._provider.living())]

    def _read_ledger(self, ledger: Connection[Any]) -> None:
        campaigns, months = [], set()
        pool = Pool(self._vault_url, application="links-attack", size_max=2, schema="lethe_vault")
        try:
            keyring = Keyring(Vault(pool, self._provider), self._tenant)
            mapper = SealingMapper(self._tenant, keyring)
            for table, row in _rows(ledger, "lethe", self._tenant):
                if table == "campaign":
                    campaigns.append(row["campaign_id"].bytes)
                if table == "event":
                    months.add(month_of(row["recorded_at"].astimezone(UTC)))
                    self._add_event(row, mapper)
                else:
                    values = set(_values(row, "ledger")) | set(self._opened_row(table, row))
                    self._graph.add((table, _label(row)), values)
        finally:
            pool.close()
        self._add_standing(ledger, campaigns)
        for name, key in self._keys.items():
            if name.retention_class == LINK and name.holder != TENANT_HOLDER:
                # Under a name with a month a legal hold keeps K_link itself.
                linked = _message_ids(key, campaigns) if name.period else self._linked(key, campaigns)
                self._graph.add(("holder", name.holder), linked)
            if name.retention_class == Identity.name and name.holder != TENANT_HOLDER:
                self._graph.add(("holder", name.holder), _derived(key, months))
            if name.retention_class in RECORD_CLASSES and name.holder != TENANT_HOLDER:
                self._graph.add(("holder", name.holder), self._record_streams(name, key))

    def _add_event(self, row: Mapping[str, Any], mapper: SealingMapper) -> None:
        stream: UUID = row["stream_id"]
        entry = orjson.loads(row["entry"])
        values = set(_values({k: v for k, v in row.items() if k not in ("entry", "sealed")}, "ledger"))
        values.update(_values_in(entry))
        values.add(("position", row["position"]))
        for envelope in unpack_sealed(row["sealed"]).values():
            kid = envelope_kid(envelope)
            values.update(_value(kid))
            values.update(self._hold_tag(kid))
        values.update(self._opened_parts(row, mapper))
        entity = ("stream", stream)
        self._graph.add(entity, values)
        self._graph.events[entity].append(_Event(row["position"], stream, row["topic"], values))

    def _opened_parts(self, row: Mapping[str, Any], mapper: SealingMapper) -> Iterator[Value]:
        """What living keys open of one event. A message's parts are tried with the keys of every living person."""
        if row["sealed"] is None:
            return
        stored = LedgerEvent(row["stream_id"], row["version"], row["topic"], row["entry"], row["sealed"])
        holders: list[Holder | None] = [None]
        if row["topic"].startswith("message."):
            names = [n for n in self._keys if n.holder and n.retention_class in CLASSES_OF_MESSAGES]
            holders += sorted({Holder(name.holder, name.generation) for name in names}, key=repr)
        if row["topic"].startswith("record."):
            holders += sorted({Holder(n.holder, n.generation) for n in self._keys if n.holder}, key=repr)
        for holder in holders:
            try:
                fact = mapper.open(stored, holder)
            except LedgerError:
                continue
            held = [
                value.reveal() for name in type(fact).model_fields if isinstance(value := getattr(fact, name), Personal)
            ]
            # A stream of records is tied to its kid by its computed id; that of a message only by what opens it.
            if held and holder is not None and row["topic"].startswith("message."):
                yield "bytes", holder.kid
            yield from _values_in(held)

    def _opened_row(self, table: str, row: Mapping[str, Any]) -> Iterator[Value]:
        """What living keys open of one row of another table."""
        if table in ("certificate", "destruction_list"):
            yield from _values_in(orjson.loads(row["document"]))
        box, aad, scope = None, b"", None
        if table == "erasure" and row["reference"]:
            box, aad, scope = row["reference"], row["erasure_id"].bytes, self._scope(SuppressionData.name, FOR_EVER)
        elif table == "parked_feedback":
            box, aad, scope = row["sealed"], row["parked_id"].bytes, self._scope(Feed.name, row["feed_day"])
        elif table == "suppression_change" and row["address"]:
            box, scope = row["address"], self._scope(Feed.name, row["feed_day"])
            aad = b"suppression_change" + self._tenant.bytes + row["position"].to_bytes(8, "big")
        if box is None or scope is None:
            return
        try:
            plaintext = open_box(scope, box, aad)
        except TamperError:
            return
        if table == "erasure":
            for at in range(0, len(plaintext), ID_BYTES):
                yield from _value(plaintext[at : at + ID_BYTES])
            return
        try:
            held = orjson.loads(plaintext)
        except ValueError:
            held = plaintext.decode(errors="replace")
        yield from self._values_with_tokens(held)

    def _values_with_tokens(self, held: Any) -> Iterator[Value]:
        yield from _values_in(held)
        for text in _texts(held):
            try:
                month, _ = parse_token(text)
                key = self._keys.get(KeyName(TENANT_HOLDER, LINK, month))
                if key is not None:
                    opened = open_token(text, key)
                    yield from _value(opened.handle)
                    if opened.occurrence != NO_OCCURRENCE:
                        yield "bytes", opened.occurrence
            except InvalidToken:
                continue

    def _add_standing(self, ledger: Connection[Any], campaigns: Sequence[bytes]) -> None:
        """Every row of every generation: also one that is being built, or was left behind."""
        book = InlineStanding(self._provider)
        found: dict[int, list[bytes]] = defaultdict(list)
        for generation, fingerprint in ledger.execute(SELECT_STANDING, (self._tenant,), binary=True):
            found[generation].append(bytes(fingerprint))
        for generation, fingerprints in found.items():
            rows = book.read(ledger, self._tenant, generation, fingerprints)
            for fingerprint, row in rows.items():
                person = row.person
                entity = ("standing", (generation, fingerprint))
                for held in (person.subject, person.kid, person.handle, person.records_kid, fingerprint):
                    self._graph.add(entity, _value(held))
                for kid in (person.kid, person.records_kid):
                    self._graph.add(entity, self._hold_tag(kid))
                for link_key in {person.link_key, person.link_key_before} - {NO_KEY}:
                    self._graph.add(entity, _value(link_key))
                    self._graph.add(entity, self._linked(link_key, campaigns))

    def _hold_tag(self, kid: bytes) -> Iterator[Value]:
        """What a legal hold's row would know the holder of these keys by."""
        key = self._keys.get(KeyName(TENANT_HOLDER, HoldReference.name))
        if key is not None and kid:
            yield "bytes", hold_tag(key, kid)

    def _linked(self, link_key: bytes, campaigns: Sequence[bytes]) -> Iterator[Value]:
        """Every message id that a person's link key gives with the living months' keys."""
        months = [k for n, k in self._keys.items() if n.retention_class == LINK and n.holder == TENANT_HOLDER]
        for month_key in months:
            yield from _message_ids(link_scope(link_key, month_key), campaigns)

    def _record_streams(self, name: KeyName, key: bytes) -> Iterator[Value]:
        """Every stream of records that a person's key of a class gives with the living periods' keys."""
        if name.period:  # What a legal hold keeps of one period.
            yield "bytes", record_stream_id(key, name.period)
            return
        for other, of_period in self._keys.items():
            if (other.holder, other.retention_class) == (TENANT_HOLDER, name.retention_class) and other.period:
                yield "bytes", record_stream_id(scope_key(key, of_period), other.period)

    def _scope(self, retention_class: str, period: str) -> bytes | None:
        subject = self._keys.get(KeyName(TENANT_HOLDER, retention_class))
        key = self._keys.get(KeyName(TENANT_HOLDER, retention_class, period))
        return scope_key(subject, key) if subject and key else None

    def _generation(self, ledger: Connection[Any]) -> int:
        row = ledger.execute("SELECT generation FROM lethe.head WHERE tenant_id = %s", (self._tenant,)).fetchone()
        return int(row[0]) if row else 1

    def _listed_fingerprints(self, ledger: Connection[Any]) -> list[bytes]:
        pool = Pool(self._vault_url, application="links-attack", size_max=2, schema="lethe_vault")
        found = []
        try:
            mapper = SealingMapper(self._tenant, Keyring(Vault(pool, self._provider), self._tenant))
            for _, stream, version, topic, entry, sealed in ledger.execute(SELECT_LISTED, (self._tenant,), binary=True):
                fact = mapper.open(LedgerEvent(stream, version, topic, bytes(entry), bytes(sealed)))
                held = getattr(fact, "fingerprints", None)
                if isinstance(held, Personal) and getattr(fact, "reason", None) == "erased":
                    found.append(bytes.fromhex(held.reveal()[0]))
        finally:
            pool.close()
        return found

    # Starting from the address --------------------------------------------------------------------------------------

    def _fingerprints(self, address: str) -> list[bytes]:
        peppers = [key for name, key in self._keys.items() if name.retention_class == PEPPER]
        canonical = canonical_address(address).encode()
        return [hashlib.blake2b(canonical, key=pepper, digest_size=16).digest() for pepper in peppers]

    def _start(self, address: str) -> dict[Value, str]:
        """Values to start from, each with how it was made."""
        canonical = canonical_address(address)
        start: dict[Value, str] = {
            ("text", text): "the address itself" for text in (address, address.strip(), canonical)
        }
        for fingerprint in self._fingerprints(address):
            start["bytes", fingerprint] = "its fingerprint"
        for guess, how in self._hashes(address, canonical):
            start.setdefault(guess, how)
        return start

    def _hashes(self, address: str, canonical: str) -> Iterator[tuple[Value, str]]:
        """Values of the graph that are some hash, plain or keyed, of the address or of a request that holds it."""
        heads, tails = defaultdict(list), defaultdict(list)
        for kind, held in self._graph.entities:
            if kind == "bytes":
                heads[held[:BYTES_MIN]].append(held)
                if len(held) == 16:
                    tails[held[-7:]].append(held)
        for digest, how in digests_of(address, canonical, [*self._secrets, self._tenant.bytes]):
            for held in heads.get(digest[:BYTES_MIN], ()):
                if held == digest[: len(held)]:
                    yield ("bytes", held), how
            # In a UUID the version and variant bits, and perhaps the time, took the place of some of the hash.
            for held in (*tails.get(digest[9:16], ()), *tails.get(digest[3:10], ())):
                yield ("bytes", held), f"{how}, as an id"

    # Following ------------------------------------------------------------------------------------------------------

    def _follow(self, start: Mapping[Value, str]) -> list[Lead]:
        reached: dict[Entity, tuple[str, ...]] = {}
        waiting: deque[Entity] = deque()
        for value, how in start.items():
            for entity in self._graph.entities.get(value, ()):
                if entity not in reached:
                    reached[entity] = (how, _name(entity))
                    waiting.append(entity)
        while waiting:
            entity = waiting.popleft()
            for value in self._graph.values[entity]:
                others = self._graph.entities[value]
                if len(others) > ENTITIES_SHARING_MAX:
                    continue
                for other in others:
                    if other not in reached:
                        reached[other] = (*reached[entity], f"shares {value[0]} with", _name(other))
                        waiting.append(other)
        found = [
            Lead(event.position, event.stream, event.topic, path)
            for entity, path in reached.items()
            for event in self._graph.events.get(entity, ())
            if not event.topic.startswith(ABOUT_NOBODY)
        ]
        return sorted(found, key=lambda lead: lead.position)


def digests_of(address: str, canonical: str, secrets: Sequence[bytes]) -> Iterator[tuple[bytes, str]]:
    """Every hash, plain or keyed with one of these secrets, that somebody could have made of an address."""
    spellings = list(dict.fromkeys([address, address.lower(), canonical]))
    inputs = [text.encode() for text in spellings]
    for text in spellings:
        shapes: tuple[Any, ...] = ([[text, None]], [text], {"email": text}, {"emails": [text]}, {"recipients": [text]})
        inputs += [orjson.dumps(shape) for shape in shapes]
    for data in inputs:
        for algorithm in ("sha256", "sha1", "md5", "sha512", "sha3_256", "blake2s"):
            yield hashlib.new(algorithm, data, usedforsecurity=False).digest(), f"{algorithm} of the address"
        for size in (10, 12, 16, 20, 32, 64):
            yield hashlib.blake2b(data, digest_size=size).digest(), "BLAKE2b of the address"
            for secret in secrets:
                yield hashlib.blake2b(data, key=secret, digest_size=size).digest(), "keyed BLAKE2b of the address"
        for secret in secrets:
            yield hmac.digest(secret, data, "sha256"), "HMAC of the address"
        for body in (b"", *inputs):  # A part of a request is hashed under the hash of the whole of it.
            whole = hashlib.blake2b(body, digest_size=32).digest()
            request = hashlib.blake2b(data, key=whole, digest_size=32).digest()
            for digest in (
                request,
                *(_kept_request(whole, s) for s in secrets),
                *(_kept_request(request, s) for s in secrets),
            ):
                yield digest, "the hash of a request with the address"
    for text in spellings:
        for space in (uuid.NAMESPACE_DNS, uuid.NAMESPACE_URL, uuid.NAMESPACE_OID, uuid.NAMESPACE_X500):
            yield uuid.uuid5(space, text).bytes, "UUIDv5 of the address"
            yield uuid.uuid3(space, text).bytes, "UUIDv3 of the address"


def _message_ids(scope: bytes, campaigns: Sequence[bytes]) -> Iterator[Value]:
    return (("bytes", message_id(scope, campaign)) for campaign in campaigns)


def _derived(identity_key: bytes, months: Iterable[str]) -> Iterator[Value]:
    """What an identity key gives: the handle, the kid of the person's records, the streams of exports about them."""
    yield from (("bytes", export_stream_id(identity_key, month)) for month in months)
    yield from _value(handle_of(identity_key))
    yield from _value(records_kid_of(identity_key))


def _pairs_of_nonces(tokens: Sequence[str]) -> Iterator[Value]:
    """What two tokens of one message stream give without any key: the sum of their nonces."""
    nonces = []
    for token in tokens:
        with suppress(InvalidToken):
            nonces.append(parse_token(token)[1][3 : 3 + NONCE_BYTES])
    for one, other in combinations(nonces, 2):
        total = bytes(a ^ b for a, b in zip(one, other, strict=True))
        yield from (("bytes", total[:size]) for size in range(BYTES_MIN, NONCE_BYTES + 1))


def _kept_request(request: bytes, secret: bytes) -> bytes:
    """What `ledger/idempotency.py` keeps of a request, if this is the tenant's key for it."""
    return hashlib.blake2b(request, key=secret[:64], digest_size=32, person=b"lethe.idr.v1").digest()


def _rows(connection: Connection[Any], schema: str, tenant: UUID) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row of every table of a schema, as the tenant's or as nobody's, with the transaction that wrote it."""
    tables = [row[0] for row in connection.execute(SELECT_TABLES, (schema,))]
    for table in sorted(tables):
        name = sql.Identifier(schema, table)
        cursor = connection.execute(sql.SQL("SELECT xmin::text AS xmin, t.* FROM {} AS t").format(name))
        assert cursor.description is not None
        columns = [column.name for column in cursor.description]
        for row in cursor:
            held = dict(zip(columns, row, strict=True))
            if held.get("tenant_id", tenant) == tenant and table != "migration":
                yield table, held


def _label(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(repr(value)[:80] for name, value in row.items() if name != "xmin")


def _values(row: Mapping[str, Any], database: str) -> Iterator[Value]:
    for name, held in row.items():
        if name == "xmin":
            yield f"{database} transaction", held
        elif name == "position":
            yield "position", held
        elif name not in ("tenant_id", "topic"):
            yield from _values_in(held)


def _values_in(held: Any) -> Iterator[Value]:
    """Every value inside a column or a JSON structure that is fine enough to point at something."""
    if isinstance(held, Mapping):
        for inner in held.values():
            yield from _values_in(inner)
    elif isinstance(held, list | tuple | set):
        for inner in held:
            yield from _values_in(inner)
    else:
        yield from _value(held)


def _value(held: Any) -> Iterator[Value]:
    if isinstance(held, UUID):
        yield "bytes", held.bytes
    elif isinstance(held, bytes | bytearray | memoryview):
        if len(held) >= BYTES_MIN:
            yield "bytes", bytes(held)
    elif isinstance(held, datetime):
        if (held.hour, held.minute, held.second, held.microsecond) != (0, 0, 0, 0):
            yield "moment", micros(held)
    elif isinstance(held, str):
        yield from _text_value(held)


def _moments(value: Any) -> Iterator[int]:
    """Every moment in a value, in microseconds since 1970."""
    if isinstance(value, UUID) and value.version == UUID_OF_TIME:
        yield (value.int >> 80) * 1000
    for kind, held in _values_in(value):
        if kind == "moment":
            yield held


def _text_value(text: str) -> Iterator[Value]:
    if "|" in text:  # What a tombstone tells of a key.
        for part in text.split("|"):
            yield from _text_value(part)
    for read in (bytes.fromhex, lambda t: UUID(t).bytes):
        try:
            found = read(text)
        except ValueError:
            continue
        if len(found) >= BYTES_MIN:
            yield "bytes", found
            if len(found) > ID_BYTES and len(found) % ID_BYTES == 0:  # Ids written one behind the other.
                yield from (("bytes", found[at : at + ID_BYTES]) for at in range(0, len(found), ID_BYTES))
            return
    try:
        if len(text) == 27 and text.endswith("Z"):
            yield from _value(parse_entry_time(text))
            return
    except ValueError:
        pass
    if len(text) >= TEXT_MIN and text not in _WORDS_OF_THE_PROGRAM and not _ONLY_A_DAY.fullmatch(text):
        yield "text", text


def _texts(held: Any) -> Iterator[str]:
    if isinstance(held, str):
        yield held
    elif isinstance(held, Mapping):
        for inner in held.values():
            yield from _texts(inner)
    elif isinstance(held, list | tuple):
        for inner in held:
            yield from _texts(inner)


def _name(entity: Entity) -> str:
    return f"{entity[0]} {entity[1]}" if entity[0] == "stream" else entity[0]
