"""Suppressing addresses: in the subject's own stream where the person is known, on the list where not (I7)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.address import InvalidAddress
from domain.ids import day_of, unix_ms, uuid7
from domain.personal import Personal
from domain.scope import Cause, InvalidScope, checked_scope
from domain.standing import Suppression
from domain.subject_commands import LiftByHand, SayNo
from domain.suppression import SuppressionImposed, SuppressionLifted
from ledger.append import LockedTenant, Receipt
from ledger.desk import Desk, DeskTools
from ledger.mapper import Draft
from ledger.ports import SuppressionRow
from ledger.standing_row import StandingRow
from ledger.subjects import Act, SubjectDesk


@dataclass(frozen=True, slots=True)
class SuppressionRequest:
    """One address not to be mailed, why, in which scope and since when."""

    email: str
    cause: Cause
    scope: str
    since: datetime | None = None
    campaign: str | None = None


@dataclass(slots=True)
class SuppressionAnswer:
    """How many entries were added, how many stood already, and which rows were not taken."""

    added: int
    known: int
    rejected: list[tuple[int, str]]
    receipts: list[Receipt]


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands against one address: entries of scope, cause and day (or month)."""

    email: str
    entries: list[tuple[str, str, str]]


class SuppressionDesk(Desk):
    """The suppression list of one tenant."""

    def __init__(self, tools: DeskTools, *, subjects: SubjectDesk) -> None:
        super().__init__(tools)
        self._subjects = subjects

    def impose(self, requests: Sequence[SuppressionRequest], *, actor: str) -> SuppressionAnswer:
        """Suppress addresses, known or not. Bad rows are named; the others are kept."""
        answer = SuppressionAnswer(0, 0, [], [])
        probes: dict[int, tuple[bytes, ...]] = {}
        for index, request in enumerate(requests):
            try:
                checked_scope(request.scope)
                probes[index] = self._fingerprint.every(request.email)
            except (InvalidAddress, InvalidScope) as error:
                answer.rejected.append((index, str(error)))
        while probes:
            acts = self._impose_on_known_or_not(requests, probes, actor, answer)
            # Who was erased in the meantime is a stranger now, and goes through the list.
            erased = self._impose_on_subjects(acts, answer)
            probes = {index: probes[index] for index in erased}
        return answer

    def _impose_on_known_or_not(
        self,
        requests: Sequence[SuppressionRequest],
        probes: dict[int, tuple[bytes, ...]],
        actor: str,
        answer: SuppressionAnswer,
    ) -> list[tuple[int, Act]]:
        """Put the addresses of strangers on the list; returns what is to be said in the streams of the others."""
        acts: list[tuple[int, Act]] = []
        with self._appender.locked() as locked:
            every = [f for fingerprints in probes.values() for f in fingerprints]
            known = self._book.resolve(locked.connection, self._tenant, locked.generation, every)
            strangers = []
            for index, fingerprints in probes.items():
                request = requests[index]
                if any(f in known for f in fingerprints):
                    command = SayNo(request.cause, request.scope, request.since, request.campaign)
                    acts.append((index, Act(command, address=request.email, actor=actor)))
                else:
                    strangers.append((request, fingerprints))
            self._impose_on_strangers(locked, strangers, actor, answer)
            receipt = locked.receipt()
        if receipt is not None:
            answer.receipts.append(receipt)
        return acts

    def lift(self, email: str, scope: str, *, actor: str) -> None:
        """Take back what staff imposed by hand, on the list and in the person's stream. Raises `CommandRefused`."""
        fingerprints = self._fingerprint.every(email)
        with self._appender.locked() as locked:
            known = self._book.resolve(locked.connection, self._tenant, locked.generation, fingerprints)
            listed = self._book.suppressions(locked.connection, self._tenant, locked.generation, fingerprints)
            by_hand = any(e.cause == "manual" and e.scope == scope for es in listed.values() for e in es)
            if by_hand:
                fact = SuppressionLifted(
                    fingerprints=_hex_list(fingerprints), scope=scope, reason="manual", address=Personal(email)
                )
                locked.record([self._draft(fact, locked, actor)], restricts=True)
                self._book.lift(locked.connection, self._tenant, locked.generation, fingerprints, scope)
        if known or not by_hand:
            outcomes, _ = self._subjects.act([Act(LiftByHand(scope), address=email, actor=actor)])
            if outcomes[0].refused is not None and not by_hand:
                raise outcomes[0].refused

    def look_up(self, emails: Sequence[str]) -> list[Looked]:
        """What stands against these addresses, on the list and in persons' streams. Raises `InvalidAddress`."""
        probes = [self._fingerprint.every(email) for email in emails]
        every = [f for fingerprints in probes for f in fingerprints]
        with self._appender.pool.transaction() as connection:
            generation = self._appender.read_head(connection).generation
            rows = self._book.resolve(connection, self._tenant, generation, every)
            listed = self._book.suppressions(connection, self._tenant, generation, every)
        return [
            Looked(email, [*_listed(listed, fingerprints), *_said(rows, fingerprints)])
            for email, fingerprints in zip(emails, probes, strict=True)
        ]

    def _impose_on_strangers(
        self,
        locked: LockedTenant,
        strangers: Sequence[tuple[SuppressionRequest, tuple[bytes, ...]]],
        actor: str,
        answer: SuppressionAnswer,
    ) -> None:
        every = [f for _, fingerprints in strangers for f in fingerprints]
        listed = self._book.suppressions(locked.connection, self._tenant, locked.generation, every)
        drafts: list[tuple[Draft, int]] = []
        entries: dict[tuple[bytes, str, str], SuppressionRow] = {}
        for request, fingerprints in strangers:
            since = day_of(min(request.since or locked.now, locked.now))
            key = (fingerprints[0], request.scope, request.cause)
            said = {e.since_text() for f in fingerprints for e in listed.get(f, ()) if (e.scope, e.cause) == key[1:]}
            if key in entries:
                said.add(entries[key].since)
            if any(day >= since for day in said):  # A later "no" renews the entry: a grant must be later than it.
                answer.known += 1
                continue
            fact = SuppressionImposed(
                fingerprints=_hex_list(fingerprints),
                scope=request.scope,
                reason=request.cause,
                since=since,
                address=Personal(request.email),
            )
            drafts.append(self._draft(fact, locked, actor))
            entries[key] = SuppressionRow(fingerprints[0], request.scope, request.cause, since)
            answer.added += 1
        locked.record(drafts, restricts=True)
        self._book.suppress(locked.connection, self._tenant, locked.generation, list(entries.values()))

    def _impose_on_subjects(self, acts: Sequence[tuple[int, Act]], answer: SuppressionAnswer) -> list[int]:
        """Say it in the persons' own streams; returns the indexes of those who are not there any more."""
        if not acts:
            return []
        outcomes, receipt = self._subjects.act([act for _, act in acts])
        if receipt is not None:
            answer.receipts.append(receipt)
        gone = []
        for (index, _), outcome in zip(acts, outcomes, strict=True):
            if outcome.refused is not None:
                gone.append(index)
            elif outcome.facts:
                answer.added += 1
            else:
                answer.known += 1
        return gone

    def _draft(
        self, fact: SuppressionImposed | SuppressionLifted, locked: LockedTenant, actor: str
    ) -> tuple[Draft, int]:
        stamp = unix_ms(locked.now)
        headed = fact.model_copy(
            update={
                "originator_id": uuid7(stamp, os.urandom(10)),
                "originator_version": 1,
                "event_id": uuid7(stamp, os.urandom(10)),
                "occurred_at": locked.now,
                "actor": actor,
                "command": UUID(bytes=os.urandom(16), version=4),
            }
        )
        return self._mapper.draft(headed), 1


def _hex_list(fingerprints: Sequence[bytes]) -> Any:
    return Personal(tuple(f.hex() for f in fingerprints))


def _listed(listed: dict[bytes, list[Suppression]], fingerprints: Sequence[bytes]) -> list[tuple[str, str, str]]:
    return [(e.scope, e.cause, e.since_text()) for f in fingerprints for e in listed.get(f, ())]


def _said(rows: dict[bytes, StandingRow], fingerprints: Sequence[bytes]) -> list[tuple[str, str, str]]:
    row = next((rows[f] for f in fingerprints if f in rows), None)
    return row.standing.noes_said() if row else []
