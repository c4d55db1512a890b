"""Commands about persons: one transaction for any number of them, each seeing the effects of those before it.

`SubjectDesk.act` is both the bulk path (a chunk of an import) and what group commit runs for single commands. What
can be made ready before the lock is (fingerprints, new persons' keys, period keys); standing is read, facts are
decided and sealed, and standing is written under it. A refusal of one command fails that one alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.address import InvalidAddress
from domain.facts import Fact
from domain.ids import month_of, unix_ms, uuid7
from domain.personal import ConsentEvidence, Identity
from domain.scope import InvalidScope
from domain.standing import Standing, Suppression
from domain.subject import evolve
from domain.subject_commands import (
    AddContact,
    AssignAccount,
    CommandRefused,
    CorrectContact,
    RecordConsent,
    SubjectCommand,
    decide,
)
from ledger.accounts import require_active
from ledger.append import LockedTenant, Receipt
from ledger.desk import Desk
from ledger.errors import KeyDestroyed, PeriodDestroyed
from ledger.keys.keyring import LINK
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.links import handle_of, records_kid_of
from ledger.mapper import Draft, Holder
from ledger.standing_row import Person, StandingRow

_ADDING = (AddContact, AssignAccount)
"""Commands that make a person of somebody who was none."""

REFUSALS = (CommandRefused, InvalidAddress, InvalidScope, PeriodDestroyed, KeyDestroyed)


@dataclass(frozen=True, slots=True)
class Act:
    """One command about one person, who is named by address, or by the handle of a message token."""

    command: SubjectCommand
    address: str | None = None
    handle: bytes | None = None
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an act: its facts with their positions, or the refusal. No facts means nothing changed."""

    facts: tuple[Fact, ...] = ()
    positions: tuple[int, ...] = ()
    refused: Exception | None = None

    @property
    def position(self) -> int | None:
        """Where the first fact stands."""
        return self.positions[0] if self.positions else None


@dataclass(slots=True)
class _Case:
    """One act on its way through the transaction."""

    act: Act
    fingerprints: tuple[bytes, ...] = ()
    facts: list[Fact] = field(default_factory=list)
    refused: Exception | None = None


class _Subject:
    """A person touched by this transaction: as read, and the facts that were decided since.

    `left` holds the fingerprints of addresses that this transaction corrected away.
    """

    __slots__ = ("_folded", "_standing", "before", "facts", "fingerprint", "left")

    def __init__(self, before: StandingRow) -> None:
        self.before = before
        self.fingerprint = before.fingerprint
        self.facts: list[tuple[Fact, Draft]] = []
        self.left: list[bytes] = []
        self._standing = before.standing
        self._folded = 0

    def standing(self, position: int) -> Standing:
        """How the person stands by now. Facts have no position yet, so they are taken to stand at this one.

        Folded when a later act of the same group asks, which few do: the position is only known when all are written.
        """
        for fact, _ in self.facts[self._folded :]:
            self._standing = evolve(self._standing, fact, position)
        self._folded = len(self.facts)
        return self._standing


LockedExtra = Callable[[LockedTenant, Sequence[Outcome]], Any]


class SubjectDesk(Desk):
    """Everything that is said about, or done to, the persons of one tenant."""

    def act(
        self,
        acts: Sequence[Act],
        *,
        before: Callable[[LockedTenant], None] | None = None,
        also: LockedExtra | None = None,
    ) -> tuple[list[Outcome], Receipt | None]:
        """Carry out acts in one transaction, in their order. Raises `InvalidAddress` before anything is written.

        `before` runs as soon as the lock is held, `also` when everything is written; both may raise to undo all.
        """
        cases = [self._case(act) for act in acts]
        fresh = self._prepare(cases)
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            subjects = self._decide(locked, cases, fresh)
            outcomes = self._write(locked, cases, subjects)
            if also is not None:
                also(locked, outcomes)
            receipt = locked.receipt()
        return outcomes, receipt

    def _case(self, act: Act) -> _Case:
        case = _Case(act)
        if act.address is not None:
            case.fingerprints = self._fingerprint.every(act.address)
        return case

    def _prepare(self, cases: Sequence[_Case]) -> dict[bytes, Person]:
        """Make durable, before the lock, the keys that this transaction will need as far as can be foreseen."""
        cases = [case for case in cases if _seals(case.act.command)]
        if not cases:
            return {}
        probes = [f for case in cases for f in case.fingerprints]
        with self._appender.pool.transaction() as connection:
            head = self._appender.read_head(connection)
            known = self._book.resolve(connection, self._tenant, head.generation, probes)
            handles = [case.act.handle for case in cases if case.act.handle is not None]
            by_handle = self._book.read_handles(connection, self._tenant, head.generation, handles) if handles else {}
        fresh = self._new_persons(
            {
                case.fingerprints[0]
                for case in cases
                if isinstance(case.act.command, _ADDING) and not any(f in known for f in case.fingerprints)
            }
        )
        now = self._clock()
        names: set[KeyName] = set()
        for case in cases:
            row = next((known[f] for f in case.fingerprints if f in known), None)
            if case.act.handle is not None:
                row = by_handle.get(case.act.handle)
            person = row.person if row else fresh.get(case.fingerprints[0]) if case.fingerprints else None
            if person is not None:
                names.update(_foreseen_keys(case.act.command, person.kid, now))
        # An act that needs a key which is gone is refused by name, under the lock.
        with suppress(PeriodDestroyed, KeyDestroyed):
            self._keyring.ensure(names)
        return fresh

    def _new_persons(self, fingerprints: set[bytes]) -> dict[bytes, Person]:
        """Persons with their identity and link keys. What they say first is sealed under the identity key, too."""
        kids = {fingerprint: os.urandom(16) for fingerprint in fingerprints}
        identities = self._keyring.subject_keys(Identity.name, kids.values()) if kids else {}
        links = self._keyring.subject_keys(LINK, kids.values()) if kids else {}
        stamp = unix_ms(self._clock())
        persons = {}
        for fingerprint, kid in kids.items():
            identity = identities[kid]
            subject = uuid7(stamp, os.urandom(10)).bytes
            persons[fingerprint] = Person(subject, kid, handle_of(identity), records_kid_of(identity), links[kid])
        return persons

    def _decide(
        self, locked: LockedTenant, cases: Sequence[_Case], fresh: dict[bytes, Person]
    ) -> dict[bytes, _Subject]:
        probes = [f for case in cases for f in case.fingerprints]
        rows = self._book.resolve(locked.connection, self._tenant, locked.generation, probes) if probes else {}
        handles = [case.act.handle for case in cases if case.act.handle is not None]
        by_handle: dict[bytes, StandingRow] = {}
        if handles:
            by_handle = self._book.read_handles(locked.connection, self._tenant, locked.generation, handles)
            probes = probes + [row.fingerprint for row in by_handle.values()]
        suppressions = self._book.suppressions(locked.connection, self._tenant, locked.generation, probes)
        subjects: dict[bytes, _Subject] = {}
        by_fingerprint: dict[bytes, _Subject] = {}
        for probe, row in [*rows.items(), *((r.fingerprint, r) for r in by_handle.values())]:
            known = subjects.get(row.subject)
            if known is None:
                known = subjects[row.subject] = _Subject(row)
            by_fingerprint[probe] = by_fingerprint[row.fingerprint] = known
        for case in cases:
            subject = self._find(case, by_fingerprint, by_handle)
            try:
                self._decide_one(locked, case, subject, subjects, by_fingerprint, suppressions, fresh)
            except REFUSALS as refusal:
                case.refused = refusal
        return subjects

    def _find(
        self, case: _Case, by_fingerprint: dict[bytes, _Subject], by_handle: dict[bytes, StandingRow]
    ) -> _Subject | None:
        if case.act.handle is not None:
            row = by_handle.get(case.act.handle)
            return by_fingerprint.get(row.fingerprint) if row else None
        return next((by_fingerprint[f] for f in case.fingerprints if f in by_fingerprint), None)

    def _decide_one(
        self,
        locked: LockedTenant,
        case: _Case,
        subject: _Subject | None,
        subjects: dict[bytes, _Subject],
        by_fingerprint: dict[bytes, _Subject],
        suppressions: dict[bytes, list[Suppression]],
        fresh: dict[bytes, Person],
    ) -> None:
        command = case.act.command
        if _takes_in(command):
            require_active(locked.head)
        probes = case.fingerprints or ((subject.fingerprint,) if subject else ())
        against = [entry for f in probes for entry in suppressions.get(f, ())]
        standing = subject.standing(locked.head.position + 1) if subject else None
        facts = decide(standing, command, against, locked.now)
        if not facts:
            return
        if subject is None:
            fingerprint = case.fingerprints[0]
            person = fresh.pop(fingerprint, None) or self._new_persons({fingerprint})[fingerprint]
            standing = Standing()
            subject = subjects[person.subject] = _Subject(StandingRow(fingerprint, person, standing))
            by_fingerprint[fingerprint] = subject
        assert standing is not None
        fingerprint = subject.fingerprint
        if isinstance(command, CorrectContact) and command.email is not None:
            fingerprint = self._new_address(locked, command.email, subject, by_fingerprint)
        headed = self._with_headers(facts, subject.before, standing.version, case.act.actor)
        subject.facts.extend(zip(headed, self._drafts(headed, subject.before), strict=True))
        if fingerprint != subject.fingerprint:
            subject.left.append(subject.fingerprint)
            by_fingerprint[fingerprint] = subject
            subject.fingerprint = fingerprint
        case.facts = headed

    def _new_address(
        self, locked: LockedTenant, email: str, subject: _Subject, by_fingerprint: dict[bytes, _Subject]
    ) -> bytes:
        probes = self._fingerprint.every(email)
        taken = self._book.resolve(locked.connection, self._tenant, locked.generation, probes)
        others = [by_fingerprint[f] for f in probes if f in by_fingerprint]
        others_read = [row for row in taken.values() if row.subject != subject.before.subject]
        if others_read or any(other is not subject for other in others):
            raise CommandRefused("address_taken", "Another contact of this account has that address already.")
        return probes[0]

    def _with_headers(self, facts: Sequence[Fact], row: StandingRow, version: int, actor: str) -> list[Fact]:
        """Ids of commands are fresh for each act, so that they tie a person's stream to nothing else."""
        random = os.urandom(16 + 10 * len(facts))
        header = {
            "originator_id": UUID(bytes=row.subject),
            "actor": actor,
            "command": UUID(bytes=random[:16], version=4),
        }
        stamp, headed = unix_ms(self._clock()), []
        for number, fact in enumerate(facts, 1):
            event_id = uuid7(stamp, random[6 + 10 * number : 16 + 10 * number])
            headed.append(fact.headed({**header, "originator_version": version + number, "event_id": event_id}))
        return headed

    def _drafts(self, facts: Sequence[Fact], row: StandingRow) -> list[Draft]:
        """Seal while deciding, so that a destroyed period refuses this act alone."""
        holder = Holder(row.kid)
        return [self._mapper.draft(fact, holder) for fact in facts]

    def _write(self, locked: LockedTenant, cases: Sequence[_Case], subjects: dict[bytes, _Subject]) -> list[Outcome]:
        touched = [subject for subject in subjects.values() if subject.facts]
        written = [(fact, draft) for subject in touched for fact, draft in subject.facts]
        drafts = [(draft, fact.originator_version) for fact, draft in written]
        positions = locked.record(drafts, restricts=True)
        position_of = {id(fact): position for (fact, _), position in zip(written, positions, strict=True)}
        rows = []
        for subject in touched:
            standing = subject.before.standing
            for fact, _ in subject.facts:
                standing = evolve(standing, fact, position_of[id(fact)])
            row = subject.before.restated(subject.fingerprint, standing)
            left = [fingerprint for fingerprint in dict.fromkeys(subject.left) if fingerprint != row.fingerprint]
            for fingerprint in left:
                self._book.move(locked.connection, self._tenant, locked.generation, fingerprint, row)
            if not left:
                rows.append(row)
        self._book.write(locked.connection, self._tenant, locked.generation, rows)
        return [
            Outcome(tuple(case.facts), tuple([position_of[id(fact)] for fact in case.facts]), case.refused)
            for case in cases
        ]


def _takes_in(command: SubjectCommand) -> bool:
    """Whether a command brings in somebody, or a permission to mail; what takes away or puts right does not."""
    return isinstance(command, _ADDING) or (
        isinstance(command, RecordConsent) and command.action not in ("withdraw", "refuse")
    )


def _seals(command: SubjectCommand) -> bool:
    """Whether a command leads to sealed parts, and so to keys."""
    return isinstance(command, AddContact | AssignAccount | CorrectContact) or (
        isinstance(command, RecordConsent) and bool(command.evidence)
    )


def _foreseen_keys(command: SubjectCommand, kid: bytes, now: datetime) -> set[KeyName]:
    """The person's and the period's key of the class that a command will seal."""
    if isinstance(command, RecordConsent):
        retention_class, moment = ConsentEvidence.name, min(command.occurred_at or now, now)
    else:
        retention_class, moment = Identity.name, now
    return {KeyName(kid, retention_class), KeyName(TENANT_HOLDER, retention_class, month_of(moment))}
