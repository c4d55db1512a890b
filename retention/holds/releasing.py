"""What had waited for a hold is taken up once it was released (FAULTS 13).

The erasures that it postponed are intended, unless another hold speaks of the person; the keys that were kept for
held persons only are destroyed; then the hold's own key, so that nothing leads from its facts to anybody (I11), and
the hold is closed. Every step can be killed and run again: the hold stays `released` until the last is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from domain.facts import opened
from domain.ids import day_of
from domain.subject import ContactAdded, ContactCorrected
from ledger.application import Ledger
from ledger.erasures import UnfinishedErasure
from ledger.holds import HoldId, HoldRow
from ledger.intents import forget_addresses
from retention.holds.escrow import destroy_unheld, escrowed_count

POSTPONED_PER_PAGE = 1_000
ACTOR = "retention"
KEY_CAUSE = "legal hold closed"


@dataclass(frozen=True, slots=True)
class HoldClosing:
    """A hold that was closed: erasures taken up, and kept keys destroyed, while it was."""

    hold_id: HoldId
    erasures: int
    escrowed: int


@dataclass(frozen=True, slots=True)
class DueOnRelease:
    """What a release makes due: these erasures are carried out, and so many kept keys destroyed."""

    erasures: tuple[UUID, ...]
    escrowed: int


def due_on_release(ledger: Ledger, hold_id: HoldId) -> DueOnRelease:
    """What waits for this hold and for no other one. Nothing is changed by asking."""
    waiting = [e.erasure_id for e in _postponed(ledger) if not _held(ledger, e, ignoring=hold_id)]
    return DueOnRelease(tuple(waiting), escrowed_count(ledger, ignoring=hold_id))


def finish_holds(ledger: Ledger) -> list[HoldClosing]:
    """Take up what waited for holds that were released, and close them. Cheap where there is none."""
    with ledger.services.writer.transaction() as connection:
        released = ledger.hold_book.to_finish(connection, ledger.tenant)
    if not released:
        return []
    erasures = sum(_take_up(ledger, erasure) for erasure in _postponed(ledger) if not _held(ledger, erasure))
    escrowed = destroy_unheld(ledger)
    closed = []
    for hold in released:
        if _close(ledger, hold, erasures, escrowed):
            closed.append(HoldClosing(hold.hold_id, erasures, escrowed))
            erasures = escrowed = 0  # What two holds kept together is told with the first.
    return closed


def forget_closed_days(ledger: Ledger, now: datetime) -> int:
    """Delete what found an erasure by address on days that are over; their keys are gone or about to be."""
    with ledger.services.writer.transaction() as connection:
        return forget_addresses(connection, ledger.tenant, day_of(now))


def _take_up(ledger: Ledger, erasure: UnfinishedErasure) -> bool:
    return ledger.erasures.take_up(erasure, current_address(ledger, erasure.subject))


def current_address(ledger: Ledger, subject: bytes) -> str | None:
    """The address that a person has now, opened from their own stream; None where it does not open any more."""
    address: str | None = None
    for stored in ledger.log.select_streams([UUID(bytes=subject)]):
        if stored.topic in (ContactAdded.TOPIC, ContactCorrected.TOPIC):
            fact = ledger.sealing.open(stored)
            assert isinstance(fact, ContactAdded | ContactCorrected)
            address = opened(fact.email) or address
    return address


def _close(ledger: Ledger, hold: HoldRow, erasures: int, escrowed: int) -> bool:
    """Destroy the hold's own key, by the day, and note it."""
    day = ledger.clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    ledger.services.vault.destroy_holder(ledger.tenant, hold.holder, when=day, cause=KEY_CAUSE, certificate=None)
    ledger.keyring.forget(hold.holder)
    return ledger.holds.close(hold.hold_id, erasures=erasures, escrowed=escrowed, actor=ACTOR)


def _postponed(ledger: Ledger) -> Iterator[UnfinishedErasure]:
    last: UnfinishedErasure | None = None
    while page := ledger.erasures.postponed(POSTPONED_PER_PAGE, last):
        yield from page
        last = page[-1]


def _held(ledger: Ledger, erasure: UnfinishedErasure, *, ignoring: HoldId | None = None) -> bool:
    """Whether a hold still speaks of the person whose erasure waits; asked once more under the lock."""
    holders = [erasure.kid, erasure.records_kid]
    with ledger.services.writer.transaction() as connection:
        return bool(ledger.hold_book.holding(connection, ledger.tenant, holders, ignoring=ignoring))
