"""Feedback: what mail providers tell us happened to messages, matched to them by their opaque tokens.

Providers repeat, reorder and delay. Repeats are dropped by a keyed hash of the provider's event id; what becomes a
"no" (complaint, hard bounce, unsubscription) is a fact of the subject's stream and is never undone by a late
`delivered`; what cannot be matched is parked, sealed, and shown. Openings and clicks are taken only for campaigns
whose tracking was disclosed (Mailkai 5.5).

A chunk is matched, sealed and laid out while the chunk before it is being written. Under the lock it is only made
sure that nothing was written in between that this chunk depends on; if so, the message streams are read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.ids import unix_ms
from domain.scope import ALL, MARKETING
from domain.subject_commands import RecordConsent, SayNo, SubjectCommand
from ledger.append import HalvedRow, Head, LockedTenant
from ledger.desk import Desk, DeskTools
from ledger.entry import new_event_ids
from ledger.feedback_events import (
    ERASED_PERSON,
    MESSAGE_PAST_ITS_TIME,
    MONTH_PAST_ITS_TIME,
    TRACKING_NOT_DISCLOSED,
    FeedbackAnswer,
    FeedbackEvent,
    FeedbackKind,
)
from ledger.feedback_layout import FeedbackLayout, read_told
from ledger.feedback_match import Matched, Matcher, Matching, Unmatched
from ledger.feedback_parked import park, read_parked, sealed_rows
from ledger.feedback_seal import DaysOfUse, days_of_use, seal_parts
from ledger.overlap import OwnWrites
from ledger.subjects import Act, SubjectDesk

__all__ = [
    "CHUNK_EVENTS",
    "ERASED_PERSON",
    "MESSAGE_PAST_ITS_TIME",
    "MONTH_PAST_ITS_TIME",
    "TRACKING_NOT_DISCLOSED",
    "FeedbackAnswer",
    "FeedbackDesk",
    "FeedbackEvent",
    "FeedbackKind",
]

CHUNK_EVENTS = 4096


class _Run:
    """One request: who tells, by which command, how its entries look, and what it has written so far."""

    def __init__(self, tenant: UUID, actor: str) -> None:
        self.actor = actor
        self.layout = FeedbackLayout(tenant, actor, os.urandom(16).hex())
        self.writes = OwnWrites()


@dataclass(slots=True)
class _Prepared:
    """A chunk made ready before the lock, and the head it was read behind."""

    head: Head
    matched: list[Matched]
    rows: list[HalvedRow]
    ids: frozenset[bytes]
    noes: list[Matched]
    unmatched: list[Unmatched]
    answer: FeedbackAnswer


class FeedbackDesk(Desk):
    """Takes feedback for one tenant."""

    def __init__(self, tools: DeskTools, *, subjects: SubjectDesk, chunk_events: int = CHUNK_EVENTS) -> None:
        super().__init__(tools)
        self._subjects = subjects
        self._chunk_events = chunk_events
        self._matcher = Matcher(tools.tenant, tools.keyring, tools.book)

    def take(self, events: Iterable[FeedbackEvent], *, actor: str) -> Iterator[FeedbackAnswer]:
        """Record feedback chunk by chunk; each answer is durable when it is yielded."""
        run, source = _Run(self._tenant, actor), iter(events)
        with ThreadPoolExecutor(1, thread_name_prefix="lethe-append") as writer:
            written: Future[FeedbackAnswer] | None = None
            while chunk := list(islice(source, self._chunk_events)):
                prepared = self._prepare(run, chunk)
                if written is not None:
                    yield written.result()
                written = writer.submit(self._write, run, prepared)
            if written is not None:
                yield written.result()

    def parked(self, limit: int) -> list[dict[str, Any]]:
        """Feedback that could not be matched, oldest first, as far as its feed key still lives."""
        with self._appender.pool.transaction() as connection:
            return read_parked(connection, self._keyring, self._tenant, limit)

    def _prepare(self, run: _Run, chunk: Sequence[FeedbackEvent]) -> _Prepared:
        with self._appender.pool.transaction() as connection:
            head = self._appender.read_head(connection)
            matching = self._match(chunk, connection, head)
            told = read_told(connection, self._tenant, matching.about_messages)
        answer = FeedbackAnswer(dropped=matching.dropped)
        matched = self._sealed(matching.about_messages, answer)
        ids = frozenset([item.stream for item in matched])
        rows = run.layout.rows(matched, told)
        return _Prepared(head, matched, rows, ids, matching.noes, matching.unmatched, answer)

    def _match(self, chunk: Sequence[FeedbackEvent], connection: Connection[Any], head: Head) -> Matching:
        return self._matcher.match(chunk, connection, head, max(self._clock(), head.recorded_at))

    def _sealed(self, matched: Sequence[Matched], answer: FeedbackAnswer) -> list[Matched]:
        """Those that are taken, sealed. Sealing drops by name what comes after its period was destroyed."""
        days = days_of_use(matched)
        self._seal(matched, days)
        taken = [item for item in matched if not item.late]
        if len(taken) < len(matched):  # What is refused at the door keeps nothing alive.
            answer.dropped += [(item.event.index, item.late) for item in matched if item.late]
            days = days_of_use(taken)
        for generation, used in days.items():  # The vault knows before the log does who keeps which keys alive.
            self._keyring.engaged(used, generation=generation)
        return taken

    def _seal(self, matched: Sequence[Matched], days: DaysOfUse) -> None:
        for item, event_id in zip(matched, new_event_ids(unix_ms(self._clock()), len(matched)), strict=True):
            item.event_id = bytes.fromhex(event_id.decode())
        seal_parts(self._keyring, self._tenant, matched, days)

    def _write(self, run: _Run, prepared: _Prepared) -> FeedbackAnswer:
        answer = prepared.answer
        with self._appender.locked() as locked:
            self._make_true(run, prepared, locked)
            locked.record_halved(prepared.rows)
            receipt = locked.receipt()
        if receipt is not None:
            run.writes.add(receipt.first, receipt.last, prepared.ids)
        answer.recorded += len(prepared.rows)
        answer.duplicates += len(prepared.matched) - len(prepared.rows)
        self._say_noes(prepared.noes, answer, run.actor)
        self._park(prepared.unmatched, answer)
        return answer

    def _make_true(self, run: _Run, prepared: _Prepared, locked: LockedTenant) -> None:
        """Under the lock: read again what may have changed since the chunk was prepared, and lay out what is left."""
        matched = prepared.matched
        changed = not self._still_true(run, prepared, locked)
        if changed:
            living = self._still_living(prepared, locked)
            matched = [item for item in matched if item.row.handle in living]
        keyless = [item for item in matched if item.keyless]
        if changed or keyless:
            prepared.answer.dropped += [(item.event.index, MESSAGE_PAST_ITS_TIME) for item in keyless]
            prepared.matched = [item for item in matched if not item.keyless]
            told = read_told(locked.connection, self._tenant, prepared.matched)
            prepared.rows = run.layout.rows(prepared.matched, told)

    def _still_true(self, run: _Run, prepared: _Prepared, locked: LockedTenant) -> bool:
        seen, head = prepared.head, locked.head
        if (seen.restrict_position, seen.generation) != (head.restrict_position, head.generation):
            return False
        return run.writes.alone_since(seen.position, head.position, prepared.ids)

    def _still_living(self, prepared: _Prepared, locked: LockedTenant) -> set[bytes]:
        """The fence: nothing is written for a person whose erasure was intended in the meantime."""
        handles = list({m.row.handle for m in prepared.matched})
        rows = self._book.read_handles(locked.connection, self._tenant, locked.generation, handles)
        prepared.unmatched.extend((m.event, ERASED_PERSON) for m in prepared.matched if m.row.handle not in rows)
        return set(rows)

    def _say_noes(self, noes: Sequence[Matched], answer: FeedbackAnswer, actor: str) -> None:
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

    def _park(self, unmatched: Sequence[Unmatched], answer: FeedbackAnswer) -> None:
        if not unmatched:
            return
        rows = sealed_rows(self._keyring, self._tenant, unmatched, self._clock())
        with self._appender.pool.transaction() as connection:
            park(connection, rows)
        answer.parked += [(event.index, reason) for event, reason in unmatched]


def _no_command(item: Matched) -> SubjectCommand:
    campaign = item.token.campaign.hex()
    if item.event.kind == "complained":
        return SayNo("complaint", MARKETING, item.moment.at, campaign)
    if item.event.kind == "bounced":
        return SayNo("hard_bounce", ALL, item.moment.at, campaign)
    return RecordConsent(
        item.campaign.purpose,
        item.campaign.channel,
        "withdraw",
        item.moment.at,
        {"method": "unsubscribe_link"},
        campaign=campaign,
    )
