"""Receipts lead nowhere (I11): who keeps an erasure's or a certificate's id beside the address finds no event by it.

Each test has its control in itself: the shapes that this program had, or could have had, are put back, and found.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from audit.attacks.links import Lead, LinksAttack
from domain.ids import unix_ms, uuid7
from domain.records import Record
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.keys.vault import Vault
from projections.worker import catch_up
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, report, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PEOPLE = emails(20)
VICTIM, OTHER = PEOPLE[7], PEOPLE[8]
STRANGER = "somebody.else@example.com"


@pytest.fixture
def clock(clock: SettableClock) -> SettableClock:
    """Noon of a day, standing still."""
    clock.set(NOON)
    return clock


@pytest.fixture
def attack(server: EmbeddedPostgres, clock: SettableClock, ledger: Ledger) -> LinksAttack:
    """An attacker of the test's account."""
    return LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )


@dataclass
class Erased:
    """What a controller keeps of an erasure, and what it must not lead to."""

    stream: UUID
    kid: bytes
    records_kid: bytes
    erasure_id: UUID
    certificate_id: UUID

    @property
    def receipts(self) -> list[UUID]:
        return [self.erasure_id, self.certificate_id]


def erase(ledger: Ledger, clock: SettableClock, address: str) -> Erased:
    """A person with a life is erased, in a transaction and a saga of its own."""
    who = person(ledger, address).person
    clock.advance(timedelta(seconds=1, microseconds=123_457))
    (status,) = ledger.erasures.intend([address], reason="subject_request", actor="cli")
    clock.advance(timedelta(milliseconds=7))
    (outcome,) = finish_erasures(ledger)
    return Erased(UUID(bytes=who.subject), who.kid, who.records_kid, status.erasure_id, outcome.certificate_id)


@pytest.fixture
def erased(ledger: Ledger, clock: SettableClock, attack: LinksAttack) -> Erased:
    """One of twenty persons, alone on the day of their erasure: the worst case."""
    willing(ledger, PEOPLE)
    tokens = ask(ledger, register(ledger), PEOPLE).allowed
    report(ledger, [(tokens[address], "clicked") for address in PEOPLE], at=clock(), ip="192.0.2.44")
    return erase(ledger, clock, VICTIM)


def days_later(ledger: Ledger, clock: SettableClock, days: int) -> None:
    clock.advance(timedelta(days=days))
    run_daily(ledger)
    catch_up(ledger)


def found(leads: list[Lead]) -> set[UUID]:
    return {lead.stream for lead in leads}


@contextmanager
def by_hand(server: EmbeddedPostgres, database: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who may change everything."""
    with psycopg.connect(server.url(database), autocommit=True) as superuser:
        yield superuser


def test_receipts_lead_nowhere_once_the_day_is_over(
    ledger: Ledger, clock: SettableClock, attack: LinksAttack, erased: Erased
) -> None:
    """Given somebody who keeps both ids, when the day of the erasure is over, then nothing leads to the events.

    On the day itself they do, which is the control, and is named on the certificate; the address does for a week.
    """
    assert erased.stream in found(attack.leads(STRANGER, receipts=[erased.erasure_id]))
    assert erased.stream in found(attack.leads(STRANGER, receipts=[erased.certificate_id]))
    days_later(ledger, clock, 1)
    assert attack.leads(STRANGER, receipts=erased.receipts) == []
    days_later(ledger, clock, 8)
    assert attack.leads(VICTIM, receipts=erased.receipts) == []


def test_receipts_hold_no_time_to_go_by(
    ledger: Ledger, clock: SettableClock, attack: LinksAttack, erased: Erased
) -> None:
    """Given somebody who looks for the erasure nearest in time, when the day is over, then there is no time left."""
    erase(ledger, clock, OTHER)
    guesses = attack.guess_by_moment(erased.erasure_id)
    assert guesses
    assert set(guesses) == {erased.stream}, "On the day itself the rows tell the moment."
    days_later(ledger, clock, 1)
    assert attack.guess_by_moment(erased.erasure_id) == []
    assert attack.guess_by_moment(erased.certificate_id) == []


def test_a_tombstone_that_names_a_certificate_is_found(
    server: EmbeddedPostgres, ledger: Ledger, clock: SettableClock, attack: LinksAttack, erased: Erased
) -> None:
    """Given the shape that tombstones had, the erasure's id on them, then the attack goes from it to the events."""
    days_later(ledger, clock, 9)
    update = b"UPDATE lethe_vault.tombstone SET certificate = %s WHERE holder = %s"
    for receipt in erased.receipts:
        with by_hand(server, "lethe_vault") as vault:
            vault.execute(update, (str(receipt), erased.kid))
            try:
                (lead, *_) = attack.leads(STRANGER, receipts=erased.receipts)
                assert lead.stream == erased.stream
            finally:
                vault.execute(update, ("erasures of 2026-11-21", erased.kid))
    assert attack.leads(STRANGER, receipts=erased.receipts) == []


def test_a_tombstone_that_still_tells_which_keys_went_is_found(
    server: EmbeddedPostgres, ledger: Ledger, clock: SettableClock, attack: LinksAttack, erased: Erased
) -> None:
    """Given tombstones that keep the commitments of the day's list, then the attack goes from the list to the kid."""
    with by_hand(server, "lethe_vault") as vault:
        select = b"SELECT destroyed FROM lethe_vault.tombstone WHERE holder = %s"
        (told,) = vault.execute(select, (erased.kid,)).fetchone() or ([],)
        assert len(told) == 4
        days_later(ledger, clock, 9)
        assert attack.leads(STRANGER, receipts=erased.receipts) == []
        vault.execute(b"UPDATE lethe_vault.tombstone SET destroyed = %s WHERE holder = %s", (told, erased.kid))
        assert found(attack.leads(STRANGER, receipts=erased.receipts)) == {erased.stream}


def test_an_erasure_that_keeps_its_moment_is_found(
    server: EmbeddedPostgres, ledger: Ledger, clock: SettableClock, attack: LinksAttack, erased: Erased
) -> None:
    """Given an erasure's row with the microsecond of its intent, or an id with its time, then the attack finds it."""
    (status,) = ledger.erasures.status(erased.erasure_id)
    days_later(ledger, clock, 9)
    update = b"UPDATE lethe.erasure SET requested_at = %s WHERE erasure_id = %s"
    with by_hand(server, "lethe_ledger") as superuser:
        superuser.execute(update, (status.requested_at, erased.erasure_id))
        assert found(attack.leads(STRANGER, receipts=erased.receipts)) == {erased.stream}
        superuser.execute(update, (NOON.replace(hour=0), erased.erasure_id))
        assert attack.leads(STRANGER, receipts=erased.receipts) == []
        with_time = uuid7(unix_ms(status.requested_at), bytes(10))
        renamed = b"UPDATE lethe.erasure SET erasure_id = %s WHERE erasure_id = %s"
        superuser.execute(renamed, (with_time, erased.erasure_id))
        assert attack.guess_by_moment(with_time) == [erased.stream]


def test_a_kept_bill_leads_to_no_erased_event(
    ledger: Ledger, clock: SettableClock, attack: LinksAttack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given bills that name two erased persons, when one of them kept its holder, then only that one leads further."""
    willing(ledger, PEOPLE)
    for address in (VICTIM, OTHER):
        clock.advance(timedelta(seconds=3))
        for retention_class in ("billing", "support"):
            content = {"name": f"bill to {address}"}
            ledger.records.take([Record(retention_class, content, None, address, clock())], actor="cli")
    gone = erase(ledger, clock, VICTIM)
    days_later(ledger, clock, 9)
    with monkeypatch.context() as patched:
        patched.setattr(Vault, "rehome", lambda *_: 0)
        patched.setattr("ledger.record_streams.RecordStreams.of", lambda *_: {})
        left = erase(ledger, clock, OTHER)
    days_later(ledger, clock, 9)
    bills = {bill: attack.leads_from(bill) for bill in streams_of_bills(ledger)}
    assert len(bills) == 2
    assert all(gone.stream not in found(leads) for leads in bills.values())
    assert sum(left.stream in found(leads) for leads in bills.values()) == 1


def streams_of_bills(ledger: Ledger) -> list[UUID]:
    return [
        UUID(str(event.originator_id))
        for event in ledger.log.select_log(1, 10_000)
        if event.topic == "record.transaction.v1"
    ]
