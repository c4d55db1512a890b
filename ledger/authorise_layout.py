"""Laying out a decided chunk: message ids, tokens, entries and the answer. The hot loop of bulk authorisation.

Everything here is arithmetic on what was read; nothing is looked up or written. Entries of one chunk differ in
little but their ids, so each kind is laid out once, as an `EntryShape`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

import orjson

from domain.campaign import AUTHORISATION_LIFETIME, Campaign
from domain.ids import previous_month, unix_ms
from domain.message import ALLOWED, Message, MessageStream, SendAuthorised, SendRefused, is_open
from domain.permission import ALREADY_SENT, LINK_EXPIRED, UNKNOWN, Decision
from domain.subject import recalled_position
from ledger.append import EntryShape, ShapedRow
from ledger.entry import ENTRY_VERSION, around, entry_time, new_event_ids
from ledger.errors import PeriodDestroyed
from ledger.keys.keyring import LINK, Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.links import (
    NO_OCCURRENCE,
    TokenSealer,
    message_link,
    month_number,
    occurrence_tag,
    recorded_occurrence,
)
from ledger.sealing import scope_key
from ledger.standing_row import StandingRow


@dataclass(slots=True, unsafe_hash=True)
class Recipient:
    """One recipient as asked for. `occurrence` tells repeated messages of an ongoing campaign apart."""

    index: int
    email: str
    occurrence: str | None = None


@dataclass(slots=True)
class Answer:
    """What came of one chunk. `first` and `last` are the positions it took, 0 for none.

    `replayed` tells that the chunk was committed by an earlier request with the same Idempotency-Key.

    `allowed` holds recipient, message token, expiry (as entries write times) and whether it was answered before;
    `refused` recipient and rule; `rejected` index and reason.
    """

    allowed: list[tuple[Recipient, str, str, bool]] = field(default_factory=list)
    refused: list[tuple[Recipient, str]] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    first: int = 0
    last: int = 0
    replayed: bool = False

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
            replayed=True,
        )


class Asked:
    """A recipient on its way: whose message it would be, and what was decided."""

    __slots__ = ("decision", "fingerprint", "recipient", "row")

    def __init__(self, recipient: Recipient, fingerprint: bytes) -> None:
        self.recipient = recipient
        self.fingerprint = fingerprint
        self.row: StandingRow | None = None
        self.decision: Decision = UNKNOWN


@dataclass(frozen=True, slots=True)
class Sending:
    """What all messages of a chunk share: the campaign, who asked by which command, the rules of the day, the time."""

    tenant: UUID
    campaign_id: UUID
    campaign: Campaign
    actor: str
    command: str
    rules: str
    now: datetime


class _Place:
    """Where a recipient's message stands: its stream, its token's nonce, its occurrence, and the link month."""

    __slots__ = ("nonce", "occurrence", "sealer", "stream", "tag")

    def __init__(self, stream: bytes, nonce: bytes, occurrence: bytes, sealer: TokenSealer, tag: bytes) -> None:
        self.stream = stream
        self.nonce = nonce
        self.occurrence = occurrence
        self.tag = tag
        self.sealer = sealer


class Layout:
    """Lays out one chunk. Ongoing campaigns look into the month before as well, where its link key still lives."""

    def __init__(self, sending: Sending, keyring: Keyring) -> None:
        self._sending = sending
        month = sending.campaign.month(sending.now)
        self._months = _link_month(keyring, month)
        if self._months and sending.campaign.kind == "ongoing":
            before = KeyName(TENANT_HOLDER, LINK, previous_month(month))
            held = keyring.find([before]).keys.get(before)
            if held is not None:
                self._months.append((held, before.period))
        self._sealers = [(key, TokenSealer(name, key), month_number(name)) for key, name in self._months]
        self._campaign = sending.campaign_id.bytes
        self._expires_at = entry_time(sending.now + AUTHORISATION_LIFETIME)
        self._places: list[tuple[Asked, _Place, _Place | None]] = []
        self._unlinked: list[Asked] = []
        self._shapes: dict[tuple[str, int, bytes], EntryShape] = {}

    def identify(self, asked: Sequence[Asked]) -> frozenset[bytes]:
        """The message ids of this chunk, those of the month before included for ongoing campaigns.

        Who has no link key for the campaign's month any more has no message that could be found again. Nor has
        anybody, where the month's own key is gone.
        """
        campaign, places, ids = self._campaign, self._places, []
        if not self._sealers:
            self._unlinked.extend(one for one in asked if one.row is not None)
            return frozenset()
        (month_key, sealer, month), before = self._sealers[0], self._sealers[1:]
        for one in asked:
            row = one.row
            if row is None:
                continue
            link_key = row.link_key_for(month)
            if link_key is None:
                self._unlinked.append(one)
                continue
            occurrence = one.recipient.occurrence
            if occurrence is None and not before:
                stream, nonce = message_link(scope_key(link_key, month_key), campaign)
                places.append((one, _Place(stream, nonce, NO_OCCURRENCE, sealer, NO_OCCURRENCE), None))
                ids.append(stream)
                continue
            place, place_before = self._place(link_key, occurrence, month_key, sealer), None
            ids.append(place.stream)
            for key_before, sealer_before, month_before in before:
                link_key = row.link_key_for(month_before)
                if link_key is not None:
                    place_before = self._place(link_key, occurrence, key_before, sealer_before)
                    ids.append(place_before.stream)
            places.append((one, place, place_before))
        return frozenset(ids)

    def _place(self, link_key: bytes, occurrence: str | None, month_key: bytes, sealer: TokenSealer) -> _Place:
        scope = scope_key(link_key, month_key)
        stream, nonce = message_link(scope, self._campaign)
        tag = occurrence_tag(scope, occurrence)
        return _Place(stream, nonce, recorded_occurrence(scope, tag), sealer, tag)

    def count_strangers(self, asked: Sequence[Asked], answer: Answer) -> dict[str, int]:
        """Refuse recipients who have no message, for want of a subject or of a link: how many, by rule."""
        counts: dict[str, int] = {}
        refused = [(one, one.decision.rule) for one in asked if one.row is None]
        refused += [(one, LINK_EXPIRED if one.decision.allowed else one.decision.rule) for one in self._unlinked]
        for one, rule in refused:
            counts[rule] = counts.get(rule, 0) + 1
            answer.refused.append((one.recipient, rule))
        return counts

    def rows(self, streams: Mapping[bytes, MessageStream], answer: Answer) -> list[ShapedRow]:
        """The rows to record, in order of stream id, given what the message streams say; fills the answer."""
        events = new_event_ids(unix_ms(self._sending.now), len(self._places))
        rows: list[ShapedRow] = []
        decided: dict[bytes, tuple[str, str] | None] = {}
        versions: dict[bytes, int] = {}
        allowed, campaign, expires_at, shapes = answer.allowed, self._campaign, self._expires_at, self._shapes
        for one, place_now, place_before in self._places:
            decision, recipient = one.decision, one.recipient
            place, message = self._held(streams, place_now, place_before) if streams else (place_now, None)
            stream, occurrence = place.stream, place.occurrence
            key = stream if occurrence is NO_OCCURRENCE else stream + occurrence
            if key in decided:
                _repeat(one, decided[key], answer)
                continue
            if message is not None and self._answered(one, place, message, answer):
                continue
            if decision.allowed:
                assert one.row is not None
                token = place.sealer.seal(one.row.handle, campaign, place.nonce, place.tag)
                allowed.append((recipient, token, expires_at, False))
                decided[key] = (token, expires_at)
            else:
                answer.refused.append((recipient, decision.rule))
                decided[key] = None
                if message is not None and message.decision == decision.rule:
                    continue
            version = versions.get(stream) or (streams[stream].version if stream in streams else 0)
            version = versions[stream] = version + 1
            shape = shapes.get((decision.rule, version, occurrence)) or self._shape(decision, version, occurrence)
            rows.append((stream, events.pop(), shape))
        rows.sort(key=_BY_STREAM)
        return rows

    def _held(
        self, streams: Mapping[bytes, MessageStream], place: _Place, before: _Place | None
    ) -> tuple[_Place, Message | None]:
        """In which of its possible streams a message stands, and what is known of it."""
        for candidate in (place, before):
            held = streams.get(candidate.stream) if candidate is not None else None
            if held is not None and candidate is not None:
                occurrence = candidate.occurrence
                message = held.messages.get("" if occurrence == NO_OCCURRENCE else occurrence.hex())
                if message is not None:
                    return candidate, message
        return place, None

    def _answered(self, one: Asked, place: _Place, message: Message, answer: Answer) -> bool:
        """Answer again what was answered before: an open authorisation, or a message that was sent."""
        assert one.row is not None
        if message.decision == ALLOWED and message.dispatched:
            answer.refused.append((one.recipient, ALREADY_SENT))
            return True
        standing = one.row.standing
        recalled = recalled_position(standing, self._sending.campaign.purpose) if standing.recalls else 0
        if not one.decision.allowed or not is_open(message, entry_time(self._sending.now), recalled):
            return False
        token = place.sealer.seal(one.row.handle, self._campaign, place.nonce, place.tag)
        answer.allowed.append((one.recipient, token, message.expires_at, True))
        return True

    def _shape(self, decision: Decision, version: int, occurrence: bytes) -> EntryShape:
        sending = self._sending
        plain: dict[str, Any] = {"campaign": sending.campaign_id.hex, "rule": decision.rule}
        if decision.allowed:
            plain |= {"basis": decision.basis, "expires_at": self._expires_at}
        if occurrence != NO_OCCURRENCE:
            plain["occurrence"] = occurrence.hex()
        topic = SendAuthorised.TOPIC if decision.allowed else SendRefused.TOPIC
        entry = {
            "v": ENTRY_VERSION,
            "tenant": sending.tenant.hex,
            "id": "",
            "stream": "",
            "version": version,
            "topic": topic,
            "recorded_at": "",
            "occurred_at": entry_time(sending.now),
            "actor": sending.actor,
            "command": sending.command,
            "rules": sending.rules,
            "plain": plain,
        }
        shape = EntryShape(topic.encode(), version, *around(entry, "id", "recorded_at", "stream"))
        self._shapes[decision.rule, version, occurrence] = shape
        return shape


def _link_month(keyring: Keyring, month: str) -> list[tuple[bytes, str]]:
    """The link key of a month; none where it was destroyed, or lost with an old vault."""
    try:
        return [(keyring.period_key(LINK, month), month)]
    except PeriodDestroyed:
        return []


_BY_STREAM = itemgetter(0)
"""Stable, so that versions of one stream stay in the order in which they were decided."""


def _repeat(one: Asked, earlier: tuple[str, str] | None, answer: Answer) -> None:
    """The same recipient again in one chunk gets the same answer."""
    if earlier is None:
        answer.refused.append((one.recipient, one.decision.rule))
    else:
        answer.allowed.append((one.recipient, earlier[0], earlier[1], True))
