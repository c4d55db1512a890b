"""Feedback: what mail providers tell us happened to messages, matched to them by their opaque tokens.

Providers repeat, reorder and delay. Repeats are dropped by a keyed hash of the provider's event id; what becomes a
"no" (complaint, hard bounce, unsubscription) is a fact of the subject's stream and is never undone by a late
`delivered`; what cannot be matched is parked, sealed, and shown. Openings and clicks are taken only for campaigns
whose tracking was disclosed (Mailkai 5.5).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import Any, Literal
from uuid import UUID

import orjson
from psycopg import Connection

from domain import message as messages
from domain.campaign import Campaign
from domain.ids import day_of, from_micros, micros, month_of, unix_ms, uuid7_bytes
from domain.message import ALLOWED, Message, MessageStream
from domain.personal import Engagement, EngagementTechnical, Erased, Feed
from domain.scope import ALL, MARKETING
from domain.standing import Standing
from domain.subject import recalled_at
from domain.subject_commands import RecordConsent, SayNo, SubjectCommand
from ledger.append import Head, LockedTenant
from ledger.desk import Desk, DeskTools
from ledger.entry import ENTRY_VERSION, canonical, entry_time, pack_sealed, parse_entry_time
from ledger.errors import InvalidToken, PeriodDestroyed
from ledger.keyring import LINK
from ledger.links import (
    NO_OCCURRENCE,
    MessageToken,
    TokenOpener,
    link_scope,
    message_id,
    parse_token,
    provider_event_tag,
    recorded_occurrence,
)
from ledger.mapper import Draft
from ledger.overlap import OwnWrites
from ledger.sealing import length_prefixed, open_box, scope_key, seal_box, seal_with_aad
from ledger.standing_row import StandingRow
from ledger.streams import read_message_streams
from ledger.subjects import Act, SubjectDesk
from ledger.vault import TENANT_HOLDER, KeyName

CHUNK_EVENTS = 4096

FeedbackKind = Literal[
    "dispatched", "delivered", "deferred", "bounced", "complained", "opened", "clicked", "unsubscribed"
]

INSERT_PARKED = """
INSERT INTO lethe.parked_feedback (tenant_id, parked_id, reason, feed_day, sealed) VALUES (%s, %s, %s, %s, %s)
"""
SELECT_PARKED = """
SELECT parked_id, reason, feed_day, sealed, parked_at FROM lethe.parked_feedback
WHERE tenant_id = %s ORDER BY parked_id LIMIT %s
"""

_TOPICS: dict[str, type[messages.MessageFact]] = {
    "dispatched": messages.MessageDispatched,
    "delivered": messages.MessageDelivered,
    "deferred": messages.MessageDeferred,
    "bounced": messages.MessageSoftBounced,
    "opened": messages.MessageOpened,
    "clicked": messages.MessageClicked,
}


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """One thing a provider told us. `event_id` is the provider's own, by which repeats are dropped."""

    index: int
    message_id: str
    kind: FeedbackKind
    occurred_at: datetime
    event_id: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    url: str | None = None
    bounce_type: Literal["hard", "soft"] | None = None

    @property
    def becomes_a_no(self) -> bool:
        """Whether this is written in the subject's stream rather than the message's."""
        return self.kind in ("complained", "unsubscribed") or (self.kind == "bounced" and self.bounce_type != "soft")


@dataclass(slots=True)
class FeedbackAnswer:
    """What came of one chunk; `dropped` and `parked` hold index and reason."""

    recorded: int = 0
    duplicates: int = 0
    dropped: list[tuple[int, str]] = field(default_factory=list)
    parked: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Matched:
    """A feedback event with the message and the person it is about, sealed and ready but for its version."""

    event: FeedbackEvent
    token: MessageToken
    row: StandingRow
    campaign: Campaign
    stream: bytes
    occurrence: bytes
    provider_event: str
    occurred_at: datetime
    event_id: bytes = b""
    parts: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Prepared:
    head: Head
    matched: list[_Matched]
    noes: list[_Matched]
    answer: FeedbackAnswer
    streams: dict[bytes, MessageStream]
    ids: frozenset[bytes]
    unmatched: list[tuple[FeedbackEvent, str]]


class FeedbackDesk(Desk):
    """Takes feedback for one tenant."""

    def __init__(self, tools: DeskTools, *, subjects: SubjectDesk, chunk_events: int = CHUNK_EVENTS) -> None:
        super().__init__(tools)
        self._subjects = subjects
        self._chunk_events = chunk_events

    def take(self, events: Iterable[FeedbackEvent], *, actor: str) -> Iterator[FeedbackAnswer]:
        """Record feedback chunk by chunk; each answer is durable when it is yielded."""
        source = iter(events)
        writes = OwnWrites()
        command = os.urandom(16).hex()
        with ThreadPoolExecutor(1, thread_name_prefix="lethe-append") as writer:
            pending: Future[FeedbackAnswer] | None = None
            while chunk := list(islice(source, self._chunk_events)):
                prepared = self._prepare(chunk)
                if pending is not None:
                    yield pending.result()
                pending = writer.submit(self._write, prepared, writes, command, actor)
            if pending is not None:
                yield pending.result()

    def parked(self, limit: int) -> list[dict[str, Any]]:
        """Feedback that could not be matched, oldest first, as far as its feed key still lives."""
        with self._appender.pool.transaction() as connection:
            rows = connection.execute(SELECT_PARKED, (self._tenant, limit)).fetchall()
        found = []
        for parked_id, reason, day, sealed, parked_at in rows:
            scope = self._keyring.opening_scope(TENANT_HOLDER, Feed.name, day)
            held = None if isinstance(scope, Erased) else orjson.loads(open_box(scope, bytes(sealed), parked_id.bytes))
            found.append({"parked_id": str(parked_id), "reason": reason, "parked_at": parked_at, "event": held})
        return found

    def _prepare(self, chunk: Sequence[FeedbackEvent]) -> _Prepared:
        answer = FeedbackAnswer()
        unmatched: list[tuple[FeedbackEvent, str]] = []
        with self._appender.pool.transaction() as connection:
            head = self._appender.read_head(connection)
            matched = self._match(chunk, connection, head, answer, unmatched)
            about_messages = [m for m in matched if not m.event.becomes_a_no]
            ids = frozenset(m.stream for m in about_messages)
            streams = read_message_streams(connection, self._tenant, list(ids))
        self._seal(about_messages, answer)
        noes = [m for m in matched if m.event.becomes_a_no]
        return _Prepared(head, about_messages, noes, answer, streams, ids, unmatched)

    def _match(
        self,
        chunk: Sequence[FeedbackEvent],
        connection: Connection[Any],
        head: Head,
        answer: FeedbackAnswer,
        unmatched: list[tuple[FeedbackEvent, str]],
    ) -> list[_Matched]:
        opened = self._open_tokens(chunk, unmatched)
        handles = list({token.handle for _, token, _ in opened})
        rows = self._book.read_handles(connection, self._tenant, head.generation, handles)
        campaigns = self._book.campaigns(connection, self._tenant, head.generation)
        now = max(self._clock(), head.recorded_at)
        matched = []
        for event, token, link_key in opened:
            row = rows.get(token.handle)
            if row is None:
                unmatched.append((event, ERASED_PERSON))
                continue
            campaign = campaigns.get(UUID(bytes=token.campaign))
            if campaign is None:
                unmatched.append((event, UNKNOWN_CAMPAIGN))
                continue
            if event.kind in ("opened", "clicked") and not campaign.tracking_disclosed:
                answer.dropped.append((event.index, TRACKING_NOT_DISCLOSED))
                continue
            scope = link_scope(row.link_key, link_key)
            tag = provider_event_tag(scope, event.event_id or _without_event_id(event))
            stream = message_id(scope, token.campaign)
            occurrence = recorded_occurrence(scope, token.occurrence)
            happened = min(event.occurred_at, now)
            matched.append(_Matched(event, token, row, campaign, stream, occurrence, tag, happened))
        return matched

    def _open_tokens(
        self, chunk: Sequence[FeedbackEvent], unmatched: list[tuple[FeedbackEvent, str]]
    ) -> list[tuple[FeedbackEvent, MessageToken, bytes]]:
        openers: dict[str, TokenOpener | None] = {}
        opened = []
        for event in chunk:
            try:
                month, raw = parse_token(event.message_id)
                if month not in openers:
                    name = KeyName(TENANT_HOLDER, LINK, month)
                    key = self._keyring.find([name]).keys.get(name)
                    openers[month] = None if key is None else TokenOpener(month, key)
                opener = openers[month]
                if opener is None:
                    unmatched.append((event, UNKNOWN_MONTH))
                else:
                    opened.append((event, opener.open(raw), opener.link_period_key))
            except InvalidToken as error:
                unmatched.append((event, str(error)))
        return opened

    def _seal(self, matched: list[_Matched], answer: FeedbackAnswer) -> None:
        """Seal what is personal, before the lock. What comes after its period was destroyed is dropped by name."""
        stamp = unix_ms(self._clock())
        randoms = os.urandom(10 * len(matched))
        for number, item in enumerate(matched):
            item.event_id = uuid7_bytes(stamp, randoms[10 * number : 10 * number + 10])
        for retention_class, personal_part in _PERSONAL_PARTS:
            wanted = [(item, values) for item in matched if (values := personal_part(item.event))]
            if wanted:
                self._seal_class(retention_class, wanted, matched, answer)

    def _seal_class(
        self,
        retention_class: str,
        wanted: list[tuple[_Matched, dict[str, str]]],
        matched: list[_Matched],
        answer: FeedbackAnswer,
    ) -> None:
        periods: dict[str, bytes | PeriodDestroyed] = {}
        keys = self._keyring.subject_keys(retention_class, {item.row.person.kid for item, _ in wanted})
        scopes: dict[tuple[bytes, str], bytes] = {}
        endings: dict[tuple[str, str, int], bytes] = {}
        tenant, name = length_prefixed(self._tenant.bytes), retention_class.encode()
        for item, values in wanted:
            person, month = item.row.person, month_of(item.occurred_at)
            if month not in periods:
                periods[month] = self._period_key(retention_class, month)
            period_key = periods[month]
            if isinstance(period_key, PeriodDestroyed):
                if item in matched:
                    matched.remove(item)
                    answer.dropped.append((item.event.index, str(period_key)))
                continue
            key = keys.get(person.kid)
            if key is None:
                continue  # Destroyed since it was read; the fence under the lock drops the event.
            scope = scopes.get((person.kid, month))
            if scope is None:
                scope = scopes[person.kid, month] = scope_key(key, period_key)
            ending = (item.event.kind, month, person.link_generation)
            after = endings.get(ending)
            if after is None:
                topic = _TOPICS[item.event.kind].TOPIC.encode()
                binding = person.link_generation.to_bytes(2, "big")
                after = endings[ending] = length_prefixed(name, topic, name, month.encode(), binding)
            aad = b"".join((tenant, _SIXTEEN_BYTES, item.stream, _SIXTEEN_BYTES, item.event_id, after))
            item.parts[retention_class] = seal_with_aad(scope, canonical(values), aad, item.event_id)

    def _period_key(self, retention_class: str, month: str) -> bytes | PeriodDestroyed:
        try:
            return self._keyring.period_key(retention_class, month)
        except PeriodDestroyed as error:
            return error

    def _write(self, prepared: _Prepared, writes: OwnWrites, command: str, actor: str) -> FeedbackAnswer:
        answer = prepared.answer
        with self._appender.locked() as locked:
            if not self._still_true(prepared, writes, locked):
                living = self._still_living(prepared, locked)
                prepared.matched = [m for m in prepared.matched if m.row.handle in living]
                prepared.streams = read_message_streams(locked.connection, self._tenant, list(prepared.ids))
            drafts = self._drafts(prepared, command, actor)
            locked.record(drafts, restricts=False)
            receipt = locked.receipt()
        if receipt is not None:
            writes.add(receipt.first, receipt.last, prepared.ids)
        answer.recorded += len(drafts)
        self._say_noes(prepared.noes, answer, actor)
        self._park(prepared.unmatched, answer)
        return answer

    def _still_true(self, prepared: _Prepared, writes: OwnWrites, locked: LockedTenant) -> bool:
        seen, head = prepared.head, locked.head
        if (seen.restrict_position, seen.generation) != (head.restrict_position, head.generation):
            return False
        return writes.alone_since(seen.position, head.position, prepared.ids)

    def _still_living(self, prepared: _Prepared, locked: LockedTenant) -> set[bytes]:
        """The fence: nothing is written for a person whose erasure was intended in the meantime."""
        handles = list({m.row.handle for m in prepared.matched})
        rows = self._book.read_handles(locked.connection, self._tenant, locked.generation, handles)
        prepared.unmatched.extend((m.event, ERASED_PERSON) for m in prepared.matched if m.row.handle not in rows)
        return set(rows)

    def _drafts(self, prepared: _Prepared, command: str, actor: str) -> list[tuple[Draft, int]]:
        drafts = []
        tenant = self._tenant.hex
        for item in prepared.matched:
            stream = prepared.streams.get(item.stream)
            if stream is None:
                stream = prepared.streams[item.stream] = MessageStream()
            if item.provider_event in stream.seen:
                prepared.answer.duplicates += 1
                continue
            fact_class = _TOPICS[item.event.kind]
            plain = _plain(item, stream, fact_class.TOPIC)
            entry: dict[str, Any] = {
                "v": ENTRY_VERSION,
                "tenant": tenant,
                "id": item.event_id.hex(),
                "stream": item.stream.hex(),
                "topic": fact_class.TOPIC,
                "occurred_at": entry_time(item.occurred_at),
                "actor": actor,
                "command": command,
                "plain": plain,
            }
            if item.parts:
                entry["sealed"] = {name: sha256(envelope).hexdigest() for name, envelope in item.parts.items()}
            version = stream.version + 1
            stream.apply(fact_class.TOPIC, plain, version, 0)
            drafts.append((Draft(item.stream, fact_class.TOPIC, entry, pack_sealed(item.parts)), version))
        return drafts

    def _say_noes(self, noes: Sequence[_Matched], answer: FeedbackAnswer, actor: str) -> None:
        if not noes:
            return
        acts = [Act(_no_command(item), handle=item.token.handle, actor=actor) for item in noes]
        outcomes, _ = self._subjects.act(acts)
        for item, outcome in zip(noes, outcomes, strict=True):
            if outcome.refused is not None:
                answer.dropped.append((item.event.index, str(outcome.refused)))
            elif outcome.facts:
                answer.recorded += 1
            else:
                answer.duplicates += 1

    def _park(self, unmatched: Sequence[tuple[FeedbackEvent, str]], answer: FeedbackAnswer) -> None:
        if not unmatched:
            return
        day = day_of(self._clock())
        names = (KeyName(TENANT_HOLDER, Feed.name), KeyName(TENANT_HOLDER, Feed.name, day))
        keys = self._keyring.ensure(names)
        scope = scope_key(keys[names[0]], keys[names[1]])
        rows = []
        for event, reason in unmatched:
            parked_id = uuid7_bytes(unix_ms(self._clock()), os.urandom(10))
            sealed = seal_box(scope, _parked_form(event), parked_id)
            rows.append((self._tenant, UUID(bytes=parked_id), reason, day, sealed))
            answer.parked.append((event.index, reason))
        with self._appender.pool.transaction() as connection:
            connection.cursor().executemany(INSERT_PARKED, rows)


_SIXTEEN_BYTES = (16).to_bytes(2, "big")

ERASED_PERSON = "The person this message was for is not held any more; nothing is recorded for them."
UNKNOWN_CAMPAIGN = "The campaign of this message is not known to this account."
UNKNOWN_MONTH = "No message of that month is known to this account any more."
TRACKING_NOT_DISCLOSED = "The campaign was registered without tracking_disclosed, so openings and clicks are not kept."


def _technical_part(event: FeedbackEvent) -> dict[str, str]:
    if event.kind not in ("opened", "clicked"):
        return {}
    return {k: v for k, v in (("ip", event.ip), ("user_agent", event.user_agent)) if v is not None}


def _clicked_part(event: FeedbackEvent) -> dict[str, str]:
    return {"url": event.url} if event.kind == "clicked" and event.url is not None else {}


_PERSONAL_PARTS: tuple[tuple[str, Callable[[FeedbackEvent], dict[str, str]]], ...] = (
    (EngagementTechnical.name, _technical_part),
    (Engagement.name, _clicked_part),
)


def _plain(item: _Matched, stream: MessageStream, topic: str) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "campaign": item.token.campaign.hex(),
        "provider_event": item.provider_event,
    }
    occurrence = "" if item.occurrence == NO_OCCURRENCE else item.occurrence.hex()
    if occurrence:
        plain["occurrence"] = occurrence
    if topic in messages.ENGAGEMENT_TOPICS:
        plain["first"] = topic not in stream.firsts
    if topic == messages.MessageDispatched.TOPIC:
        message = stream.messages.get(occurrence)
        finding = _finding(message, item.row.standing, item.campaign.purpose, item.occurred_at)
        if finding is not None:
            plain["finding"] = finding
    return plain


def _finding(message: Message | None, standing: Standing, purpose: str, dispatched_at: datetime) -> str | None:
    """What is wrong with a dispatch, if anything: it is recorded all the same, and shown."""
    if message is None or message.decision != ALLOWED:
        return "dispatched_without_authorisation"
    recall_us = recalled_at(standing, purpose)
    if recall_us and from_micros(recall_us) < dispatched_at:
        return "dispatched_after_recall"
    if parse_entry_time(message.expires_at) < dispatched_at:
        return "dispatched_after_expiry"
    return None


def _no_command(item: _Matched) -> SubjectCommand:
    campaign = item.token.campaign.hex()
    if item.event.kind == "complained":
        return SayNo("complaint", MARKETING, item.occurred_at, campaign)
    if item.event.kind == "bounced":
        return SayNo("hard_bounce", ALL, item.occurred_at, campaign)
    return RecordConsent(
        item.campaign.purpose,
        item.campaign.channel,
        "withdraw",
        item.occurred_at,
        {"method": "unsubscribe_link"},
        campaign=campaign,
    )


def _without_event_id(event: FeedbackEvent) -> str:
    return f"{event.kind}|{micros(event.occurred_at)}|{event.url or ''}"


def _parked_form(event: FeedbackEvent) -> bytes:
    held: Mapping[str, Any] = {
        "message_id": event.message_id,
        "kind": event.kind,
        "occurred_at": entry_time(event.occurred_at),
        "event_id": event.event_id,
        "bounce_type": event.bounce_type,
    }
    return orjson.dumps(held)
