"""Authorising sends: may this campaign be sent to these recipients? Asked, decided and recorded in chunks.

A chunk is read and prepared while the chunk before it is being written: addresses are fingerprinted, standings
read, rules applied, message ids computed and entries laid out before the lock. Under the lock it is made sure that
nothing has changed since: `restrict_position` tells whether any standing or suppression did, and the head's
position whether anybody else wrote at all. If so, what was read is read again under the lock (invariant I1).

A message's stream is `UNIQUE (stream, version)`, so there is one decision per campaign and person; an allowed
answer is repeated until it expires or is recalled, and a refusal is decided afresh.

The first chunk by a version of the legal rules records what they say, in front of its decisions (`RulesAdopted`). What
this process has seen adopted it remembers, so that every other chunk costs a look into a set.
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
from domain.campaign import Campaign, RecipientsRefused
from domain.ids import micros, unix_ms, uuid7
from domain.law import RuleSet
from domain.permission import SUPERSEDED, TERMINATED, SendTerms, decide
from domain.standing import Suppression
from ledger.accounts import AccountDesk
from ledger.append import Head, LockedTenant, ShapedRow
from ledger.authorise_layout import Answer, Asked, Layout, Recipient, Sending
from ledger.desk import Desk, DeskTools
from ledger.errors import UnknownCampaign
from ledger.idempotency import IdempotentPart, PartStore, Replayed
from ledger.overlap import OwnWrites
from ledger.streams import next_version, read_message_streams

RulesOn = Callable[[date], RuleSet]

CHUNK_RECIPIENTS = 4096
"""Recipients per transaction: large enough to spread the round trips, small enough to let other commands in between."""

OCCURRENCE_CHARACTERS_MAX = 256
VALID_US_MAX = 3_600_000_000
"""A prepared chunk is decided again if it waited longer than an hour for the lock."""


@dataclass(slots=True)
class _Fetched:
    """A chunk with what the database says of it, and the head that was read before it."""

    chunk: Sequence[Recipient]
    head: Head
    campaign: Campaign
    asked: list[Asked] = field(default_factory=list)
    rejected: list[tuple[int, str]] = field(default_factory=list)
    standings: Sequence[Any] = ()
    against: Mapping[bytes, Sequence[Suppression]] = field(default_factory=dict)


@dataclass(slots=True)
class _Prepared:
    """A chunk made ready before the lock, and the head it was read behind."""

    chunk: Sequence[Recipient]
    head: Head
    now: datetime
    rules: RuleSet
    campaign: Campaign
    asked: list[Asked]
    answer: Answer
    valid_until_us: int
    ids: frozenset[bytes] = frozenset()
    rows: list[ShapedRow] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


class _Run:
    """One request to authorise: a campaign, who asks, and what this request has written so far."""

    def __init__(self, campaign_id: UUID, account: Account, actor: str) -> None:
        self.campaign_id = campaign_id
        self.account = account
        self.actor = actor
        self.command = os.urandom(16).hex()
        self.writes = OwnWrites()


class AuthorisationDesk(Desk):
    """Authorises sends for one tenant."""

    def __init__(
        self,
        tools: DeskTools,
        *,
        rules: RulesOn,
        parts: PartStore,
        accounts: AccountDesk,
        chunk_recipients: int = CHUNK_RECIPIENTS,
    ) -> None:
        super().__init__(tools)
        self._rules = rules
        self._accounts = accounts
        self._adopted: set[tuple[str, str]] = set()
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
        """Three chunks are under way at a time: one is read, one decided and laid out, one written."""
        with (
            ThreadPoolExecutor(1, thread_name_prefix="lethe-read") as reader,
            ThreadPoolExecutor(1, thread_name_prefix="lethe-append") as writer,
        ):
            fetching = self._start_fetching(reader, run, recipients)
            written: Future[Answer] | None = None
            number = 0
            while fetching is not None:
                fetched = fetching.result()
                fetching = self._start_fetching(reader, run, recipients)
                part = idempotency.numbered(number, _content(fetched.chunk)) if idempotency else None
                prepared = self._settle_unlocked(run, fetched)
                if written is not None:
                    yield written.result()
                written = writer.submit(self._write, run, prepared, part)
                number += 1
            if written is not None:
                yield written.result()

    def _start_fetching(
        self, reader: ThreadPoolExecutor, run: _Run, recipients: Iterator[Recipient]
    ) -> Future[_Fetched] | None:
        """Take the next chunk in the caller's own thread, and let the database be asked about it in another's."""
        chunk = list(islice(recipients, self._chunk_recipients))
        return reader.submit(self._fetch_unlocked, run, chunk) if chunk else None

    def _fetch_unlocked(self, run: _Run, chunk: Sequence[Recipient]) -> _Fetched:
        with self._appender.pool.transaction() as connection:
            return self._fetch(run, chunk, connection, self._appender.read_head(connection))

    def _settle_unlocked(self, run: _Run, fetched: _Fetched) -> _Prepared:
        with self._appender.pool.transaction() as connection:
            return self._settle(run, fetched, connection)

    def _campaign(self, run: _Run, connection: Connection[Any], generation: int) -> Campaign:
        campaign = self._book.campaign(connection, self._tenant, generation, run.campaign_id)
        if campaign is None:
            raise UnknownCampaign("There is no campaign with this id in this account. Register it first.")
        campaign.require_open(self._clock())
        return campaign

    def _prepare(self, run: _Run, chunk: Sequence[Recipient], connection: Connection[Any], head: Head) -> _Prepared:
        """Read, decide and lay out a chunk. The head must have been read before anything else is."""
        return self._settle(run, self._fetch(run, chunk, connection, head), connection)

    def _fetch(self, run: _Run, chunk: Sequence[Recipient], connection: Connection[Any], head: Head) -> _Fetched:
        """Fingerprint a chunk and read what is known of it, still sealed. This half waits for the database."""
        campaign = self._campaign(run, connection, head.generation)
        fetched = _Fetched(chunk, head, campaign)
        fingerprint, asked = self._fingerprint, fetched.asked
        for recipient in chunk:
            try:
                asked.append(Asked(recipient, fingerprint(recipient.email)))
            except InvalidAddress as error:
                fetched.rejected.append((recipient.index, str(error)))
        fingerprints = [one.fingerprint for one in asked]
        fetched.standings = self._book.fetch(connection, self._tenant, head.generation, fingerprints)
        fetched.against = self._book.suppressions(connection, self._tenant, head.generation, fingerprints)
        return fetched

    def _settle(self, run: _Run, fetched: _Fetched, connection: Connection[Any]) -> _Prepared:
        """Unseal, decide and lay out a chunk. This half computes."""
        head = fetched.head
        now = max(self._clock(), head.recorded_at)
        answer, rules = Answer(rejected=fetched.rejected), self._rules(now.date())
        prepared = _Prepared(
            fetched.chunk, head, now, rules, fetched.campaign, fetched.asked, answer, micros(now) + VALID_US_MAX
        )
        rows = self._book.unseal(self._tenant, fetched.standings)
        strangers = []
        for one in prepared.asked:
            one.row = rows.get(one.fingerprint)
            if one.row is None:
                strangers.append(one)
        if strangers:
            self._look_up_strangers(strangers, connection, head.generation)
        self._decide(run, prepared, fetched.against)
        self._lay_out(run, prepared, connection)
        return prepared

    def _look_up_strangers(self, strangers: Sequence[Asked], connection: Connection[Any], generation: int) -> None:
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

    def _decide(self, run: _Run, prepared: _Prepared, against: Mapping[bytes, Sequence[Suppression]]) -> None:
        rules = prepared.rules
        terms = SendTerms.of(
            prepared.campaign.purpose, prepared.campaign.channel, run.account.country, run.account.minimum_age
        )
        now_us, valid_until_us = micros(prepared.now), prepared.valid_until_us
        if prepared.head.terminated_at is not None:
            for asked in prepared.asked:
                asked.decision = TERMINATED
            return
        for asked in prepared.asked:
            row = asked.row
            if row is None and asked.decision is SUPERSEDED:
                continue
            entries = against.get(asked.fingerprint, ()) if against else ()
            decision = decide(row.standing if row else None, entries, terms, rules, now_us)
            asked.decision = decision
            until_us = decision.valid_until_us
            if until_us is not None and until_us < valid_until_us:
                valid_until_us = until_us
        prepared.valid_until_us = valid_until_us

    def _lay_out(self, run: _Run, prepared: _Prepared, connection: Connection[Any]) -> None:
        """Compute message ids, compare with what the streams say, and prepare the rows and the answer."""
        layout = Layout(
            Sending(
                tenant=self._tenant,
                campaign_id=run.campaign_id,
                campaign=prepared.campaign,
                actor=run.actor,
                command=run.command,
                rules=prepared.rules.version,
                now=prepared.now,
            ),
            self._keyring,
        )
        prepared.ids = layout.identify(prepared.asked)
        streams = read_message_streams(connection, self._tenant, list(prepared.ids))
        prepared.answer = Answer(rejected=prepared.answer.rejected)
        prepared.counts = layout.count_strangers(prepared.asked, prepared.answer)
        prepared.rows = layout.rows(streams, prepared.answer)

    def _write(self, run: _Run, prepared: _Prepared, part: IdempotentPart | None) -> Answer:
        try:
            return self._write_new(run, prepared, part)
        except Replayed as replayed:
            return Answer.from_stored(replayed.answer, prepared.chunk)

    def _write_new(self, run: _Run, prepared: _Prepared, part: IdempotentPart | None) -> Answer:
        with self._appender.locked() as locked:
            self._parts.require_new(locked.connection, part)
            prepared = self._still_true(run, prepared, locked)
            first = self._record(run, prepared, locked)
            answer = prepared.answer
            receipt = locked.receipt()
            if receipt is not None:
                answer.first, answer.last = first, receipt.last
            self._parts.save(locked, part, answer.stored())
        if prepared.rows:
            self._adopted.add(_words_of(prepared.rules))  # Known only now that it is durable.
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

    def _record(self, run: _Run, prepared: _Prepared, locked: LockedTenant) -> int:
        """Write a chunk; returns the position of its first decision, behind the adoption of its rules."""
        if prepared.rows and _words_of(prepared.rules) not in self._adopted:
            command = UUID(hex=run.command)
            self._accounts.adopt_rules(locked, prepared.rules, at=prepared.now, actor=run.actor, command=command)
        first = locked.record_shaped(prepared.rows)
        if prepared.counts:
            self._count_strangers(run, prepared, locked)
        return first

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


def _words_of(rules: RuleSet) -> tuple[str, str]:
    """What an account adopts: a version's name, and the digest of every word of its rows."""
    return rules.version, rules.digest


def _content(chunk: Sequence[Recipient]) -> bytes:
    return orjson.dumps([(recipient.email, recipient.occurrence) for recipient in chunk])
