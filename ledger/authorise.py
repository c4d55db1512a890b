"""Authorising sends: may this campaign be sent to these recipients? Asked, decided and recorded in chunks.

A chunk is read and prepared while the chunk before it is being written: addresses are fingerprinted, standings
read, rules applied, message ids computed and entries laid out before the lock. Under the lock it is made sure that
nothing has changed since: `restrict_position` tells whether any standing or suppression did, and the head's
position whether anybody else wrote at all. If so, what was read is read again under the lock (invariant I1).

A message's stream is `UNIQUE (stream, version)`, so there is one decision per campaign and person; an allowed
answer is repeated until it expires or is recalled, and a refusal is decided afresh.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import islice
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from domain.account import Account
from domain.address import InvalidAddress
from domain.campaign import AUTHORISATION_LIFETIME, Campaign, RecipientsRefused
from domain.ids import micros, previous_month, unix_ms, uuid7
from domain.law import RuleSet
from domain.message import ALLOWED, Message, MessageStream, SendAuthorised, SendRefused, is_open
from domain.permission import ALREADY_SENT, SUPERSEDED, UNKNOWN, Decision, SendTerms, decide
from domain.subject import recalled_position
from ledger.append import Appender, Head, LockedTenant, Row
from ledger.entry import ENTRY_VERSION, canonical, entry_time
from ledger.errors import UnknownCampaign
from ledger.fingerprints import Fingerprinter
from ledger.idempotency import IdempotentPart, PartStore, Replayed
from ledger.keyring import LINK, Keyring
from ledger.links import NO_OCCURRENCE, TokenSealer, link_scope, message_id, occurrence_tag
from ledger.mapper import SealingMapper
from ledger.overlap import OwnWrites
from ledger.ports import Clock, StandingBook, StandingRow
from ledger.streams import next_version, read_message_streams
from ledger.vault import TENANT_HOLDER, KeyName

RulesOn = Callable[[date], RuleSet]

CHUNK_RECIPIENTS = 4096
"""Recipients per transaction: large enough to spread the round trips, small enough to let other commands in between."""

OCCURRENCE_CHARACTERS_MAX = 256
SHAPES_MAX = 10_000
VALID_US_MAX = 3_600_000_000
"""A prepared chunk is decided again if it waited longer than an hour for the lock."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient as asked for. `occurrence` tells repeated messages of an ongoing campaign apart."""

    index: int
    email: str
    occurrence: str | None = None


@dataclass(slots=True)
class Answer:
    """What came of one chunk. `first` and `last` are the positions it took, 0 for none.

    `allowed` holds recipient, message token, expiry (as entries write times) and whether it was answered before;
    `refused` recipient and rule; `rejected` index and reason.
    """

    allowed: list[tuple[Recipient, str, str, bool]] = field(default_factory=list)
    refused: list[tuple[Recipient, str]] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    first: int = 0
    last: int = 0

    def stored(self) -> bytes:
        """The answer without addresses, for repetitions of the request."""
        allowed = [(r.index, token, expires_at, repeated) for r, token, expires_at, repeated in self.allowed]
        refused = [(r.index, rule) for r, rule in self.refused]
        return orjson.dumps([allowed, refused, self.rejected, self.first, self.last])

    @staticmethod
    def from_stored(stored: bytes, chunk: Sequence[Recipient]) -> Answer:
        """The answer again, with the addresses of the repeated request."""
        allowed, refused, rejected, first, last = orjson.loads(stored)
        by_index = {recipient.index: recipient for recipient in chunk}
        return Answer(
            [(by_index[index], token, expires_at, repeated) for index, token, expires_at, repeated in allowed],
            [(by_index[index], rule) for index, rule in refused],
            [(index, reason) for index, reason in rejected],
            first,
            last,
        )


class _Asked:
    """A recipient on its way: whose message it would be, and what was decided."""

    __slots__ = ("decision", "fingerprint", "recipient", "row")

    def __init__(self, recipient: Recipient, fingerprint: bytes) -> None:
        self.recipient = recipient
        self.fingerprint = fingerprint
        self.row: StandingRow | None = None
        self.decision: Decision = UNKNOWN


@dataclass(frozen=True, slots=True)
class _Shape:
    """The bytes of an entry around its ids and its time of recording."""

    topic: bytes
    version: int
    before_id: bytes
    before_time: bytes
    before_stream: bytes
    after_stream: bytes


@dataclass(slots=True)
class _Prepared:
    """A chunk made ready before the lock, and the head it was read behind."""

    chunk: Sequence[Recipient]
    head: Head
    now: datetime
    campaign: Campaign
    asked: list[_Asked]
    answer: Answer
    valid_until_us: int
    ids: frozenset[bytes] = frozenset()
    rows: list[tuple[bytes, bytes, _Shape]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class _Run:
    """One request to authorise: a campaign, who asks, and what this request has written so far."""

    def __init__(self, campaign_id: UUID, account: Account, actor: str) -> None:
        self.campaign_id = campaign_id
        self.account = account
        self.actor = actor
        self.command = os.urandom(16).hex()
        self.writes = OwnWrites()
        self.shapes: dict[tuple[str, str | None, int, bytes, str, str], _Shape] = {}


class AuthorisationDesk:
    """Authorises sends for one tenant."""

    def __init__(
        self,
        tenant: UUID,
        *,
        appender: Appender,
        book: StandingBook,
        keyring: Keyring,
        mapper: SealingMapper,
        fingerprinter: Fingerprinter,
        clock: Clock,
        rules: RulesOn,
        parts: PartStore,
        chunk_recipients: int = CHUNK_RECIPIENTS,
    ) -> None:
        self._tenant = tenant
        self._appender = appender
        self._book = book
        self._keyring = keyring
        self._mapper = mapper
        self._fingerprint = fingerprinter
        self._clock = clock
        self._rules = rules
        self._parts = parts
        self._chunk_recipients = chunk_recipients

    def authorise(
        self,
        campaign_id: UUID,
        recipients: Iterable[Recipient],
        *,
        account: Account,
        actor: str,
        idempotency: IdempotentPart | None = None,
    ) -> Iterator[Answer]:
        """Answers chunk by chunk, each durable when it is yielded. Memory does not grow with the recipients.

        Raises `UnknownCampaign` and `CampaignNotOpen` before anything is written.
        """
        run = _Run(campaign_id, account, actor)
        with self._appender.pool.transaction() as connection:
            self._campaign(run, connection, self._appender.read_head(connection).generation)
        return self._chunks(run, iter(recipients), idempotency)

    def _chunks(
        self, run: _Run, recipients: Iterator[Recipient], idempotency: IdempotentPart | None
    ) -> Iterator[Answer]:
        with ThreadPoolExecutor(1, thread_name_prefix="lethe-append") as writer:
            pending: Future[Answer] | None = None
            number = 0
            while chunk := list(islice(recipients, self._chunk_recipients)):
                part = idempotency.numbered(number, _content(chunk)) if idempotency else None
                prepared = self._prepare_unlocked(run, chunk)
                if pending is not None:
                    yield pending.result()
                pending = writer.submit(self._write, run, prepared, part)
                number += 1
            if pending is not None:
                yield pending.result()

    def _campaign(self, run: _Run, connection: Connection[Any], generation: int) -> Campaign:
        campaign = self._book.campaign(connection, self._tenant, generation, run.campaign_id)
        if campaign is None:
            raise UnknownCampaign("There is no campaign with this id in this account. Register it first.")
        campaign.require_open(self._clock())
        return campaign

    def _prepare_unlocked(self, run: _Run, chunk: Sequence[Recipient]) -> _Prepared:
        with self._appender.pool.transaction() as connection:
            return self._prepare(run, chunk, connection, self._appender.read_head(connection))

    def _prepare(self, run: _Run, chunk: Sequence[Recipient], connection: Connection[Any], head: Head) -> _Prepared:
        """Read, decide and lay out a chunk. The head must have been read before anything else is."""
        now = max(self._clock(), head.recorded_at)
        campaign = self._campaign(run, connection, head.generation)
        prepared = _Prepared(chunk, head, now, campaign, [], Answer(), micros(now) + VALID_US_MAX)
        self._identify(prepared)
        self._look_up(prepared, connection)
        self._decide(run, prepared, connection)
        self._lay_out(run, prepared, connection)
        return prepared

    def _identify(self, prepared: _Prepared) -> None:
        fingerprint, asked = self._fingerprint, prepared.asked
        for recipient in prepared.chunk:
            try:
                asked.append(_Asked(recipient, fingerprint(recipient.email)))
            except InvalidAddress as error:
                prepared.answer.rejected.append((recipient.index, str(error)))

    def _look_up(self, prepared: _Prepared, connection: Connection[Any]) -> None:
        generation = prepared.head.generation
        rows = self._book.read(connection, self._tenant, generation, [a.fingerprint for a in prepared.asked])
        strangers = []
        for asked in prepared.asked:
            asked.row = rows.get(asked.fingerprint)
            if asked.row is None:
                strangers.append(asked)
        if strangers:
            self._look_up_strangers(strangers, connection, generation)

    def _look_up_strangers(self, strangers: Sequence[_Asked], connection: Connection[Any], generation: int) -> None:
        """Probe older peppers, and tell superseded addresses from unknown ones."""
        if self._fingerprint.generations > 1:
            probes = {a: self._fingerprint.every(a.recipient.email) for a in strangers}
            known = self._book.read(connection, self._tenant, generation, [f for p in probes.values() for f in p])
            for asked, fingerprints in probes.items():
                asked.row = next((known[f] for f in fingerprints if f in known), None)
                asked.fingerprint = asked.row.fingerprint if asked.row else asked.fingerprint
        unknown = [a.fingerprint for a in strangers if a.row is None]
        aliases = self._book.read_aliases(connection, self._tenant, generation, unknown)
        for asked in strangers:
            if asked.fingerprint in aliases:
                asked.decision = SUPERSEDED

    def _decide(self, run: _Run, prepared: _Prepared, connection: Connection[Any]) -> None:
        fingerprints = [asked.fingerprint for asked in prepared.asked]
        against = self._book.suppressions(connection, self._tenant, prepared.head.generation, fingerprints)
        rules = self._rules(prepared.now.date())
        terms = SendTerms.of(
            prepared.campaign.purpose, prepared.campaign.channel, run.account.country, run.account.minimum_age
        )
        now_us = micros(prepared.now)
        for asked in prepared.asked:
            row = asked.row
            if row is None and asked.decision is SUPERSEDED:
                continue
            entries = against.get(asked.fingerprint, ())
            decision = decide(row.standing if row else None, entries, terms, rules, now_us)
            asked.decision = decision
            if decision.valid_until_us is not None and decision.valid_until_us < prepared.valid_until_us:
                prepared.valid_until_us = decision.valid_until_us

    def _lay_out(self, run: _Run, prepared: _Prepared, connection: Connection[Any]) -> None:
        """Compute message ids, compare with what the streams say, and prepare the rows and the answer."""
        layout = _Layout(self._tenant, run, prepared, self._keyring, self._rules(prepared.now.date()).version)
        prepared.ids = layout.identify()
        layout.fill(read_message_streams(connection, self._tenant, list(prepared.ids)))

    def _write(self, run: _Run, prepared: _Prepared, part: IdempotentPart | None) -> Answer:
        try:
            return self._write_new(run, prepared, part)
        except Replayed as replayed:
            return Answer.from_stored(replayed.answer, prepared.chunk)

    def _write_new(self, run: _Run, prepared: _Prepared, part: IdempotentPart | None) -> Answer:
        with self._appender.locked() as locked:
            self._parts.require_new(locked.connection, part)
            prepared = self._still_true(run, prepared, locked)
            self._record(run, prepared, locked)
            answer = prepared.answer
            receipt = locked.receipt()
            if receipt is not None:
                answer.first, answer.last = receipt.first, receipt.last
            self._parts.save(locked, part, answer.stored())
        if receipt is not None:
            run.writes.add(receipt.first, receipt.last, prepared.ids)
        return answer

    def _still_true(self, run: _Run, prepared: _Prepared, locked: LockedTenant) -> _Prepared:
        """Under the lock: read again whatever may have changed since the chunk was prepared."""
        seen, head = prepared.head, locked.head
        restricted = (head.restrict_position, head.generation) != (seen.restrict_position, seen.generation)
        if restricted or micros(locked.now) >= prepared.valid_until_us:
            return self._prepare(run, prepared.chunk, locked.connection, head)
        if not run.writes.alone_since(seen.position, head.position, prepared.ids):
            self._lay_out(run, prepared, locked.connection)
        return prepared

    def _record(self, run: _Run, prepared: _Prepared, locked: LockedTenant) -> None:
        recorded_at = locked.recorded_at.encode()
        middles: dict[int, bytes] = {}
        rows = []
        for stream, event, shape in prepared.rows:
            middle = middles.get(id(shape))
            if middle is None:
                middle = middles[id(shape)] = shape.before_time + recorded_at + shape.before_stream
            entry = b"".join((shape.before_id, event, middle, stream.hex().encode(), shape.after_stream))
            rows.append(Row(stream, shape.version, shape.topic, entry, None))
        locked.record_rows(rows, restricts=False)
        if prepared.counts:
            self._count_strangers(run, prepared, locked)

    def _count_strangers(self, run: _Run, prepared: _Prepared, locked: LockedTenant) -> None:
        fact = RecipientsRefused(
            counts=prepared.counts,
            originator_id=run.campaign_id,
            originator_version=next_version(locked.connection, self._tenant, run.campaign_id),
            event_id=uuid7(unix_ms(locked.now), os.urandom(10)),
            occurred_at=prepared.now,
            actor=run.actor,
            command=UUID(hex=run.command),
        )
        locked.record([(self._mapper.draft(fact), fact.originator_version)], restricts=False)


class _Layout:
    """Lays a decided chunk out: message ids, tokens, rows and the answer. The hot loop of the ledger."""

    def __init__(self, tenant: UUID, run: _Run, prepared: _Prepared, keyring: Keyring, rules: str) -> None:
        self._tenant = tenant
        self._run = run
        self._prepared = prepared
        self._rules_version = rules
        campaign, now = prepared.campaign, prepared.now
        self._months = [campaign.month(now)]
        self._link_keys = [keyring.period_key(LINK, self._months[0])]
        if campaign.kind == "ongoing":
            before = KeyName(TENANT_HOLDER, LINK, previous_month(self._months[0]))
            held = keyring.find([before]).keys.get(before)
            if held is not None:
                self._months.append(before.period)
                self._link_keys.append(held)
        self._sealers = [TokenSealer(m, k) for m, k in zip(self._months, self._link_keys, strict=True)]
        self._campaign_bytes = run.campaign_id.bytes
        self._places: list[tuple[_Asked, list[tuple[bytes, bytes]]]] = []
        self._expires_at = entry_time(now + AUTHORISATION_LIFETIME)

    def identify(self) -> frozenset[bytes]:
        """The message ids of this chunk, those of the month before included for ongoing campaigns."""
        campaign, ids = self._campaign_bytes, []
        for asked in self._prepared.asked:
            if asked.row is None:
                continue
            places = []
            for link_key in self._link_keys:
                scope = link_scope(asked.row.person.link_key, link_key)
                stream = message_id(scope, campaign)
                occurrence = asked.recipient.occurrence
                places.append((stream, NO_OCCURRENCE if occurrence is None else occurrence_tag(scope, occurrence)))
                ids.append(stream)
            self._places.append((asked, places))
        return frozenset(ids)

    def fill(self, streams: Mapping[bytes, MessageStream]) -> None:
        """Rows and answer, given what the message streams say."""
        prepared = self._prepared
        answer = Answer(rejected=prepared.answer.rejected)
        counts: dict[str, int] = {}
        for asked in prepared.asked:
            if asked.row is None:
                rule = asked.decision.rule
                counts[rule] = counts.get(rule, 0) + 1
                answer.refused.append((asked.recipient, rule))
        rows = self._rows(streams, answer)
        rows.sort(key=_by_stream)
        prepared.answer, prepared.counts, prepared.rows = answer, counts, rows

    def _rows(self, streams: Mapping[bytes, MessageStream], answer: Answer) -> list[tuple[bytes, bytes, _Shape]]:
        rows: list[tuple[bytes, bytes, _Shape]] = []
        decided: dict[tuple[bytes, bytes], tuple[str, str] | None] = {}
        versions: dict[bytes, int] = {}
        events = _EventIds(unix_ms(self._prepared.now), len(self._places))
        now, purpose = entry_time(self._prepared.now), self._prepared.campaign.purpose
        for asked, places in self._places:
            decision, row = asked.decision, asked.row
            assert row is not None
            index, message = _held_message(streams, places)
            stream, occurrence = place = places[index]
            if place in decided:
                self._repeat(asked, decided[place], answer)
                continue
            if message is not None:
                if message.decision == ALLOWED and message.dispatched:
                    answer.refused.append((asked.recipient, ALREADY_SENT))
                    continue
                recalled = recalled_position(row.standing, purpose) if row.standing.recalls else 0
                if decision.allowed and is_open(message, now, recalled):
                    token = self._sealers[index].seal(row.person.handle, self._campaign_bytes, occurrence)
                    answer.allowed.append((asked.recipient, token, message.expires_at, True))
                    continue
            if decision.allowed:
                token = self._sealers[index].seal(row.person.handle, self._campaign_bytes, occurrence)
                answer.allowed.append((asked.recipient, token, self._expires_at, False))
                decided[place] = (token, self._expires_at)
            else:
                answer.refused.append((asked.recipient, decision.rule))
                decided[place] = None
                if message is not None and message.decision == decision.rule:
                    continue
            held = streams.get(stream)
            version = versions.get(stream, held.version if held else 0) + 1
            versions[stream] = version
            rows.append((stream, events.take(), self._shape(decision, version, occurrence)))
        return rows

    def _repeat(self, asked: _Asked, earlier: tuple[str, str] | None, answer: Answer) -> None:
        if earlier is None:
            answer.refused.append((asked.recipient, asked.decision.rule))
        else:
            answer.allowed.append((asked.recipient, earlier[0], earlier[1], True))

    def _shape(self, decision: Decision, version: int, occurrence: bytes) -> _Shape:
        key = (decision.rule, decision.basis, version, occurrence, self._expires_at, self._rules_version)
        shape = self._run.shapes.get(key)
        if shape is None:
            if len(self._run.shapes) >= SHAPES_MAX:
                self._run.shapes.clear()
            shape = self._run.shapes[key] = self._new_shape(decision, version, occurrence)
        return shape

    def _new_shape(self, decision: Decision, version: int, occurrence: bytes) -> _Shape:
        plain: dict[str, Any] = {"campaign": self._run.campaign_id.hex, "rule": decision.rule}
        if decision.allowed:
            plain |= {"basis": decision.basis, "expires_at": self._expires_at}
        if occurrence != NO_OCCURRENCE:
            plain["occurrence"] = occurrence.hex()
        topic = SendAuthorised.TOPIC if decision.allowed else SendRefused.TOPIC
        entry = canonical(
            {
                "v": ENTRY_VERSION,
                "tenant": self._tenant.hex,
                "id": _ID_MARK,
                "stream": _STREAM_MARK,
                "version": version,
                "topic": topic,
                "recorded_at": _TIME_MARK,
                "occurred_at": entry_time(self._prepared.now),
                "actor": self._run.actor,
                "command": self._run.command,
                "rules": self._rules_version,
                "plain": plain,
            }
        )
        before_id, rest = entry.split(_ID_MARK.encode())
        before_time, rest = rest.split(_TIME_MARK.encode())
        before_stream, after_stream = rest.split(_STREAM_MARK.encode())
        return _Shape(topic.encode(), version, before_id, before_time, before_stream, after_stream)


class _EventIds:
    """UUIDv7 event ids in hexadecimal, drawn from one block of random bytes."""

    def __init__(self, stamp_ms: int, count: int) -> None:
        self._stamp = f"{stamp_ms:012x}7".encode()
        self._random = os.urandom(9 * count).hex().encode()
        self._at = 0

    def take(self) -> bytes:
        """The next id: 32 hexadecimal digits, 72 of its bits random."""
        random = self._random[self._at : self._at + 18]
        self._at += 18
        return self._stamp + random[:3] + b"8" + random[3:]


def _held_message(
    streams: Mapping[bytes, MessageStream], places: Sequence[tuple[bytes, bytes]]
) -> tuple[int, Message | None]:
    """In which of its possible streams a message stands, and what is known of it."""
    for index, (stream, occurrence) in enumerate(places):
        held = streams.get(stream)
        if held is not None:
            message = held.messages.get("" if occurrence == NO_OCCURRENCE else occurrence.hex())
            if message is not None:
                return index, message
    return 0, None


def _content(chunk: Sequence[Recipient]) -> bytes:
    return orjson.dumps([(recipient.email, recipient.occurrence) for recipient in chunk])


def _by_stream(row: tuple[bytes, bytes, _Shape]) -> tuple[bytes, int]:
    return row[0], row[2].version


_ID_MARK = "\u00abid\u00bb"
_TIME_MARK = "\u00abtime\u00bb"
_STREAM_MARK = "\u00abstream\u00bb"
