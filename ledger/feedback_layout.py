"""Laying out matched and sealed feedback: versions, repeats, first openings, findings, entries. A hot loop.

Everything here is arithmetic on what was read of the message streams. It is done before the lock, and done again
under it if anything was written in between. Entries of one kind differ in their ids, times and tags only, so the
bytes around those are laid out once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from domain.ids import from_micros
from domain.message import SendAuthorised, SendRefused
from domain.subject import recalled_at
from ledger.append import HalvedRow
from ledger.arrays import Uuid16Array
from ledger.entry import ENTRY_VERSION, around, parse_entry_time
from ledger.feedback_events import ENGAGEMENT_KINDS, TOPICS
from ledger.feedback_match import Matched
from ledger.links import NO_OCCURRENCE

# Decisions are only wanted where something was dispatched, and they are most of what a stream holds.
SELECT_TOLD = """
SELECT uuid_send(e.stream_id), version, topic, entry FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT stream_id, version, topic, CASE WHEN topic <> ALL(%s) THEN entry END AS entry FROM lethe.event
    WHERE tenant_id = %s AND stream_id = n.stream_id ORDER BY tenant_id, stream_id, version
) AS e
"""

_DECISIONS = (SendAuthorised.TOPIC, SendRefused.TOPIC)
_PROVIDER_EVENT = b'"provider_event":"'
_TAG_BYTES = 24


@dataclass(slots=True)
class Told:
    """What the message streams of a chunk say already.

    `versions` is by stream; `seen` holds stream and provider event, `firsts` stream and topic of engagement;
    `decisions` the plain fields of each stream's decisions, in order, if they were asked for.
    """

    versions: dict[bytes, int] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    firsts: set[bytes] = field(default_factory=set)
    decisions: dict[bytes, list[dict[str, Any]]] = field(default_factory=dict)


def read_told(connection: Connection[Any], tenant: UUID, items: Sequence[Matched]) -> Told:
    """What is written already in the streams that these events belong to."""
    told = Told()
    streams = {item.stream for item in items}
    if not streams:
        return told
    dispatched = any(item.event.kind == "dispatched" for item in items)
    values = (Uuid16Array(streams), [] if dispatched else list(_DECISIONS), tenant)
    versions, seen, firsts = told.versions, told.seen, told.firsts
    for stream, version, topic, entry in connection.execute(SELECT_TOLD, values, binary=True).fetchall():
        versions[stream] = version
        if topic in _DECISIONS:
            if entry is not None:
                told.decisions.setdefault(stream, []).append(orjson.loads(entry)["plain"])
            continue
        at = entry.find(_PROVIDER_EVENT) + len(_PROVIDER_EVENT)
        seen.add(stream + entry[at : at + _TAG_BYTES])
        firsts.add(stream + topic.encode())
    return told


@dataclass(slots=True)
class _Shape:
    """The bytes of an entry around what differs from event to event."""

    topic: bytes
    before_id: bytes
    before_moment: bytes
    before_tag: bytes
    before_time: bytes
    after_time: bytes
    before_stream: bytes
    after_stream: bytes


class FeedbackLayout:
    """Lays out the feedback of one request."""

    def __init__(self, tenant: UUID, actor: str, command: str) -> None:
        self._header = {"v": ENTRY_VERSION, "tenant": tenant.hex, "actor": actor, "command": command}
        self._shapes: dict[tuple[str, int, bytes, bool, bytes, bool, str], _Shape] = {}

    def rows(self, items: Sequence[Matched], told: Told) -> list[HalvedRow]:
        """The rows to record, in order of stream id; repeats have none. `told` is carried forward."""
        versions, seen, firsts, shapes = told.versions, told.seen, told.firsts, self._shapes
        rows: list[HalvedRow] = []
        join = b"".join
        for item in items:
            stream, tag, kind = item.stream, item.provider_event, item.event.kind
            mark = stream + tag
            if mark in seen:
                continue
            seen.add(mark)
            version = versions[stream] = versions.get(stream, 0) + 1
            first, finding = False, ""
            if kind in ENGAGEMENT_KINDS:
                mark = stream + _TOPIC_BYTES[kind]
                first = mark not in firsts
                firsts.add(mark)
            elif kind == "dispatched":
                finding = _finding(item, told) or ""
            digests = item.digests
            name = (kind, version, item.token.campaign, first, item.occurrence, not digests, finding)
            shape = shapes.get(name) or self._shape(name)
            before = join(
                (
                    *(shape.before_id, item.event_id.hex().encode(), shape.before_moment, item.moment.text),
                    *(shape.before_tag, tag, shape.before_time),
                )
            )
            after = join((shape.after_time, digests, shape.before_stream, stream.hex().encode(), shape.after_stream))
            rows.append((stream, version, shape.topic, before, after, item.sealed or None))
        rows.sort(key=_BY_STREAM)
        return rows

    def _shape(self, name: tuple[str, int, bytes, bool, bytes, bool, str]) -> _Shape:
        kind, version, campaign, first, occurrence, bare, finding = name
        plain: dict[str, Any] = {"campaign": campaign.hex(), "provider_event": ""}
        if occurrence != NO_OCCURRENCE:
            plain["occurrence"] = occurrence.hex()
        if kind in ENGAGEMENT_KINDS:
            plain["first"] = first
        if finding:
            plain["finding"] = finding
        topic = TOPICS[kind]
        ids = {"id": "", "stream": "", "version": version, "topic": topic, "recorded_at": "", "occurred_at": ""}
        entry: dict[str, Any] = {**self._header, **ids, "plain": plain}
        names = ("id", "occurred_at", "provider_event", "recorded_at")
        if bare:
            before_id, before_moment, before_tag, before_time, after_time, after_stream = around(
                entry, *names, "stream"
            )
            before_stream = b""
        else:
            entry["sealed"] = ""
            before_id, before_moment, before_tag, before_time, after_time, before_stream, after_stream = around(
                entry, *names, "sealed", "stream"
            )
            # An object stands there, and not a text.
            after_time, before_stream = after_time[:-1] + b"{", b"}" + before_stream[1:]
        shape = _Shape(
            *(topic.encode(), before_id, before_moment, before_tag, before_time),
            *(after_time, before_stream, after_stream),
        )
        if len(self._shapes) >= SHAPES_MAX:
            self._shapes.clear()
        self._shapes[name] = shape
        return shape


SHAPES_MAX = 4096
"""Occurrences differ from message to message, so that a long request would keep a shape for each."""

_BY_STREAM = itemgetter(0)
"""Stable, so that versions of one stream stay in the order in which they were given."""

_TOPIC_BYTES = {kind: topic.encode() for kind, topic in TOPICS.items()}


def _finding(item: Matched, told: Told) -> str | None:
    """What is wrong with a dispatch, if anything: it is recorded all the same, and shown."""
    occurrence = "" if item.occurrence == NO_OCCURRENCE else item.occurrence.hex()
    decisions = [d for d in told.decisions.get(item.stream, ()) if (d.get("occurrence") or "") == occurrence]
    expires_at = decisions[-1].get("expires_at") if decisions else None  # A refusal has none.
    if expires_at is None:
        return "dispatched_without_authorisation"
    recall_us = recalled_at(item.row.standing, item.campaign.purpose)
    if recall_us and from_micros(recall_us) < item.moment.at:
        return "dispatched_after_recall"
    if parse_entry_time(expires_at) < item.moment.at:
        return "dispatched_after_expiry"
    return None
