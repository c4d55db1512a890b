"""Holds are placed, widened, released and closed here, each in one append under the head lock.

The lock is what makes a hold and a destruction take turns (invariant I9). A hold that comes first is seen by every
intent after it; one that comes after an intent is refused, with the certificate under which the destruction goes.
The words of a hold and the persons that it names are sealed under a key of the hold's own, whose holder is a random
kid that stands in the hold's envelopes and belongs to no person.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.facts import Fact, opened
from domain.hold import (
    Hold,
    HoldFact,
    HoldKind,
    HoldPlaced,
    HoldTargets,
    HoldWidened,
    Period,
    PersonReference,
    PlaceHold,
    TooLate,
    WidenHold,
    decide_close,
    decide_place,
    decide_release,
    decide_widen,
    evolve,
    fold,
)
from domain.ids import unix_ms, uuid7
from domain.personal import HoldReference
from domain.scope import ALL
from ledger.append import LockedTenant
from ledger.desk import Desk, DeskTools
from ledger.errors import HoldTooLate, UnknownCampaign, UnknownHold, UnknownSubject
from ledger.hold_book import HoldBook, HoldId, HoldRow
from ledger.intents import intended_periods, intended_persons, under_way
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER, KeyName
from ledger.mapper import Holder
from ledger.recorder import ledger_event

__all__ = ["HoldBook", "HoldDesk", "HoldId", "HoldOn", "HoldRow", "HoldWords"]

ERASED = "erased"

SELECT_STREAM = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = %s ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class HoldOn:
    """What is to be held, as it is asked for: persons by address."""

    kind: HoldKind
    addresses: tuple[str, ...] = ()
    campaigns: tuple[UUID, ...] = ()
    periods: tuple[Period, ...] = ()


@dataclass(frozen=True, slots=True)
class HoldWords:
    """What a hold says in words, and of what; words are None once the hold's key is gone. Persons are only counted."""

    matter: str | None
    owner: str | None
    reasons: tuple[str, ...]
    persons: int
    campaigns: tuple[UUID, ...]
    periods: tuple[Period, ...]
    too_late: tuple[TooLate, ...] = ()


Extra = Callable[[LockedTenant, HoldRow], Any]


class HoldDesk(Desk):
    """Everything that is done to the holds of one tenant."""

    def __init__(self, tools: DeskTools, *, book: HoldBook) -> None:
        super().__init__(tools)
        self.book = book

    def place(
        self,
        target: HoldOn,
        *,
        matter: str,
        reason: str,
        owner: str,
        review_on: date,
        actor: str,
        before: Callable[[LockedTenant], None] | None = None,
        also: Extra | None = None,
    ) -> HoldRow:
        """Place a hold. Raises `HoldTooLate`, `HoldRefused`, `UnknownSubject`, `UnknownCampaign`, `InvalidAddress`.

        Where a plan is destroying a part of what is to be held, the hold is placed on everything else, and the row
        says for what it was too late (`too_late`): to refuse it would leave the rest to be destroyed as well.

        `before` runs as soon as the lock is held, `also` when everything is written; both may raise to undo all.
        """
        probes = [self._fingerprint.every(address) for address in target.addresses]
        holder = os.urandom(16)
        self._keyring.ensure(_key_names(holder))
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            targets = self._targets(locked, target, probes)
            late = under_way(locked.connection, self._tenant, self._keyring, targets)
            command = PlaceHold(targets, matter, reason, owner, review_on, late)
            facts = decide_place(command, locked.now.date())
            row = replace(self._record(locked, self._new_id(locked), holder, None, facts, actor), too_late=late)
            if also is not None:
                also(locked, row)
        return row

    def widen(
        self,
        hold_id: HoldId,
        *,
        target: HoldOn | None = None,
        review_on: date | None = None,
        reason: str | None = None,
        actor: str,
        before: Callable[[LockedTenant], None] | None = None,
        also: Extra | None = None,
    ) -> HoldRow:
        """Hold more, or look at it again later. Raises as `place`, and `UnknownHold`."""
        probes = [self._fingerprint.every(address) for address in (target.addresses if target else ())]
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            held, hold = self._read(locked.connection, hold_id)
            targets = self._targets(locked, target, probes) if target else None
            late = under_way(locked.connection, self._tenant, self._keyring, targets) if targets else ()
            facts = decide_widen(hold, WidenHold(targets, review_on, reason, late), locked.now.date())
            row = self._record(locked, hold_id, held.holder, hold, facts, actor) if facts else held
            row = replace(row, too_late=late)
            if also is not None:
                also(locked, row)
        return row

    def release(
        self,
        hold_id: HoldId,
        *,
        reason: str | None = None,
        actor: str,
        before: Callable[[LockedTenant], None] | None = None,
        also: Extra | None = None,
    ) -> HoldRow:
        """End a hold; what had waited for it is taken up afterwards. Releasing twice is releasing once.

        Raises `UnknownHold`.
        """
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            held, hold = self._read(locked.connection, hold_id)
            facts = decide_release(hold, reason)
            row = self._record(locked, hold_id, held.holder, hold, facts, actor) if facts else held
            if also is not None:
                also(locked, row)
        return row

    def close(self, hold_id: HoldId, *, erasures: int, escrowed: int, actor: str) -> bool:
        """Note that all that had waited was taken up and the hold's key is gone; False if that was noted before."""
        with self._appender.locked() as locked:
            held, hold = self._read(locked.connection, hold_id)
            facts = decide_close(hold, erasures=erasures, escrowed=escrowed)
            if facts:
                self._record(locked, hold_id, held.holder, hold, facts, actor)
        return bool(facts)

    def every(self) -> list[HoldRow]:
        """Every hold, oldest first."""
        with self._appender.pool.transaction() as connection:
            return self.book.holds(connection, self._tenant)

    def show(self, hold_id: HoldId) -> tuple[HoldRow, HoldWords]:
        """One hold with its words opened; whoever shows them records that. Raises `UnknownHold`."""
        with self._appender.pool.transaction() as connection:
            row = self._row(connection, hold_id)
            facts = self._facts(connection, hold_id)
        return row, _words(facts)

    def targets(self, connection: Connection[Any], hold_id: HoldId, *, as_of: datetime | None = None) -> Hold | None:
        """A hold with its persons opened, as far as its key lives; with `as_of` as it was then, None before it.

        Raises `UnknownHold`.
        """
        if as_of is None:
            return self._read(connection, hold_id)[1]
        return fold(self._facts(connection, hold_id, until=as_of))

    def _read(self, connection: Connection[Any], hold_id: HoldId) -> tuple[HoldRow, Hold]:
        row = self._row(connection, hold_id)
        hold = fold(self._facts(connection, hold_id))
        assert hold is not None, "A hold's row is written with its first fact."
        return row, hold

    def _row(self, connection: Connection[Any], hold_id: HoldId) -> HoldRow:
        row = self.book.hold(connection, self._tenant, hold_id)
        if row is None:
            raise UnknownHold("There is no hold with this id in this account. See lethe hold list.")
        return row

    def _facts(self, connection: Connection[Any], hold_id: HoldId, *, until: datetime | None = None) -> list[Fact]:
        rows = connection.execute(SELECT_STREAM, (self._tenant, hold_id), binary=True).fetchall()
        events = [ledger_event(row) for row in rows]
        return [
            self._mapper.open(event)
            for event in events
            if until is None or event.recorded_at is None or event.recorded_at <= until
        ]

    def _targets(self, locked: LockedTenant, target: HoldOn, probes: Sequence[Sequence[bytes]]) -> HoldTargets:
        """What is asked for, found and not yet intended for destruction."""
        persons = self._persons(locked, probes)
        campaigns = tuple(dict.fromkeys(target.campaigns))
        for campaign_id in campaigns:
            if self._book.campaign(locked.connection, self._tenant, locked.generation, campaign_id) is None:
                raise UnknownCampaign("There is no campaign with this id in this account. Nothing is held.")
        periods = tuple(dict.fromkeys(target.periods))
        self._require_periods(locked, periods)
        return HoldTargets(target.kind, persons, campaigns, periods)

    def _persons(self, locked: LockedTenant, probes: Sequence[Sequence[bytes]]) -> tuple[PersonReference, ...]:
        every = [f for fingerprints in probes for f in fingerprints]
        if not every:
            return ()
        rows = self._book.resolve(locked.connection, self._tenant, locked.generation, every)
        found = []
        for fingerprints in probes:
            row = next((rows[f] for f in fingerprints if f in rows), None)
            if row is None:
                raise self._not_held(locked, fingerprints)
            person = row.person
            found.append(PersonReference(person.subject, person.kid, person.records_kid))
        return tuple(dict.fromkeys(found))

    def _not_held(self, locked: LockedTenant, fingerprints: Sequence[bytes]) -> Exception:
        """Why an address has no person: erased before the hold, or never known."""
        intended = intended_persons(locked.connection, self._tenant, self._keyring, fingerprints)
        if intended:
            return HoldTooLate(_ERASED_BEFORE, next(iter(intended.values())))
        listed = self._book.suppressions(locked.connection, self._tenant, locked.generation, fingerprints)
        if any((entry.scope, entry.cause) == (ALL, ERASED) for entries in listed.values() for entry in entries):
            return HoldTooLate(_ERASED_LONG_BEFORE, None)
        return UnknownSubject("No person of this account has this address. Nothing is held.")

    def _require_periods(self, locked: LockedTenant, periods: Sequence[Period]) -> None:
        if not periods:
            return
        intended = intended_periods(locked.connection, self._tenant, periods)
        gone = self._keyring.vault.find(self._tenant, [KeyName(TENANT_HOLDER, *period) for period in periods])
        for period in periods:
            tombstone = gone.tombstones.get(KeyName(TENANT_HOLDER, *period))
            if period in intended or tombstone is not None:
                certificate = intended.get(period) or (tombstone.certificate if tombstone else None)
                raise HoldTooLate(
                    f"The destruction of {period.text()} was recorded before this hold. Nothing is held.", certificate
                )

    def _record(
        self,
        locked: LockedTenant,
        hold_id: HoldId,
        holder: bytes,
        hold: Hold | None,
        facts: Sequence[Fact],
        actor: str,
    ) -> HoldRow:
        command = UUID(bytes=os.urandom(16), version=4)
        drafts = []
        for fact in facts:
            version = hold.version + 1 if hold else 1
            headed = fact.model_copy(
                update={
                    "originator_id": hold_id,
                    "originator_version": version,
                    "event_id": self._new_id(locked),
                    "occurred_at": locked.now,
                    "actor": actor,
                    "command": command,
                }
            )
            drafts.append((self._mapper.draft(headed, Holder(holder)), version))
            hold = evolve(hold, headed)
        assert hold is not None
        locked.record(drafts, restricts=False)
        self.book.write(locked.connection, self._tenant, hold_id, holder, hold)
        row = self.book.hold(locked.connection, self._tenant, hold_id)
        assert row is not None
        return row

    def _new_id(self, locked: LockedTenant) -> UUID:
        return uuid7(unix_ms(locked.now), os.urandom(10))


_ERASED_BEFORE = "The erasure of this person was recorded before this hold. Nothing is held."
_ERASED_LONG_BEFORE = (
    "An erasure was recorded for this address before this hold, and nothing leads from the address to it any more: "
    "its certificate is with whoever asked for it. Nothing is held."
)


def _key_names(holder: bytes) -> list[KeyName]:
    """The keys that a hold's facts are sealed under, and the one that tags persons."""
    name = HoldReference.name
    return [KeyName(holder, name), KeyName(TENANT_HOLDER, name), KeyName(TENANT_HOLDER, name, FOR_EVER)]


def _words(facts: Sequence[Fact]) -> HoldWords:
    placed = facts[0]
    assert isinstance(placed, HoldPlaced)
    hold = fold(facts)
    assert hold is not None
    reasons = [opened(getattr(fact, "reason", None)) for fact in facts if isinstance(fact, HoldFact)]
    named = {
        text for fact in facts if isinstance(fact, HoldPlaced | HoldWidened) for text in opened(fact.persons) or ()
    }
    late = {
        TooLate.parse(t) for f in facts if isinstance(f, HoldPlaced | HoldWidened) for t in opened(f.too_late) or ()
    }
    return HoldWords(
        matter=opened(placed.matter),
        owner=opened(placed.owner),
        reasons=tuple(reason for reason in reasons if reason is not None),
        persons=len(named),
        campaigns=tuple(sorted(hold.campaigns)),
        periods=tuple(sorted(hold.periods)),
        too_late=tuple(sorted(late)),
    )
