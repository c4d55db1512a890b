"""Records of an erased person lead nowhere (I11): nothing from the address or from their events to what the law keeps
of them, nothing from there back. The same program finds all of it before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from api.bootstrap import Instance
from audit.attacks.links import LinksAttack
from domain.facts import opened
from domain.records import RECORD_CLASSES, Record
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.keys.vault import TENANT_HOLDER, KeyName
from projections.worker import catch_up
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(20)
ERASED = PEOPLE[4:12]
VICTIM = PEOPLE[7]


@pytest.fixture
def attack(server: EmbeddedPostgres, ledger: Ledger) -> LinksAttack:
    """An attacker of the test's account."""
    return LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )


def live(ledger: Ledger) -> None:
    """Everybody is mailed, and has records of every class; the victim's come alone and all at once: the worst case."""
    willing(ledger, PEOPLE)
    ask(ledger, register(ledger), PEOPLE)
    for address in PEOPLE:
        now = ledger.clock()
        others = [Record(c, {"of": address.partition("@")[0]}, "entry", address, now) for c in RECORD_CLASSES]
        ledger.records.take(others if address == VICTIM else others[:3], actor="cli")
    ledger.records.take([Record("billing", {"invoice": "2026-17"}, "invoice", VICTIM)], actor="cli")


def streams_of(ledger: Ledger, *classes: str) -> set[UUID]:
    """The victim's record streams of these classes that were written to, while their keys live."""
    wanted = ledger.records.streams.of(person(ledger, VICTIM).person.records_kid, classes)
    return {UUID(bytes=e.originator_id.bytes) for e in ledger.log.select_streams(list(wanted))}  # type: ignore[union-attr]  # Ours are UUIDs.


def erase_and_wait(ledger: Ledger, clock: SettableClock, people: Sequence[str] = ERASED) -> None:
    """Erase people, and let the day's batch and the week of the feed pass."""
    for address in people:
        ledger.erasures.intend([address], reason="subject_request", actor="cli")
        finish_erasures(ledger)
    for days in (1, 8):
        clock.advance(timedelta(days=days))
        run_daily(ledger)
        catch_up(ledger)


def reached(leads: Sequence[object]) -> set[UUID]:
    return {lead.stream for lead in leads}  # type: ignore[attr-defined]  # Leads.


def test_before_an_erasure_everything_is_found_both_ways(ledger: Ledger, attack: LinksAttack) -> None:
    """Given a living person, when the attack starts from address or invoice, then it finds all (control)."""
    live(ledger)
    own = UUID(bytes=person(ledger, VICTIM).person.subject)
    records = streams_of(ledger, *RECORD_CLASSES)
    assert len(records) == len(RECORD_CLASSES)
    assert {own, *records} <= reached(attack.leads(VICTIM))
    for stream in records:
        assert {own, *records} <= reached(attack.leads_from(stream))


def test_after_an_erasure_nothing_leads_to_what_is_kept_nor_back(
    ledger: Ledger, attack: LinksAttack, clock: SettableClock
) -> None:
    """Given an erasure, when its day and week are over, then the invoice opens, and nothing leads there or back."""
    live(ledger)
    own = UUID(bytes=person(ledger, VICTIM).person.subject)
    (billing,) = streams_of(ledger, "billing")
    gone = streams_of(ledger, *RECORD_CLASSES) - {billing}
    erase_and_wait(ledger, clock)
    assert attack.leads(VICTIM) == []
    assert reached(attack.leads_from(own)) & {billing, *gone} == set()
    assert reached(attack.leads_from(billing)) & {own, *gone} == set()
    for stream in gone:
        assert reached(attack.leads_from(stream)) & {own, billing} == set()
    assert "2026-17" in kept_invoices(ledger)
    living = PEOPLE[0]
    assert UUID(bytes=person(ledger, living).person.subject) in reached(attack.leads(living)), (
        "The control still finds."
    )


def test_a_kept_bill_stands_beside_its_tombstones_on_the_day_only(
    own_instance: Instance, own_ledger: Ledger, clock: SettableClock
) -> None:
    """Given persons erased one after the other, when the vault's transactions, its rows and the journal are read in
    order, then on the day a kept bill leads to its erased person, and a day later to nobody more than to another."""
    ledger, custody = own_ledger, own_instance.custody
    vault_url, ledger_url = own_instance.settings.vault_owner_url, own_instance.settings.ledger_owner_url
    assert vault_url is not None
    assert ledger_url is not None
    attack = LinksAttack(
        ledger_url=ledger_url,
        vault_url=vault_url,
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )
    clock.set(datetime(2026, 11, 21, 12, tzinfo=UTC))
    willing(ledger, PEOPLE)
    for address in PEOPLE:
        ledger.records.take([Record("billing", {"invoice": address}, "invoice", address, None)], actor="cli")
    subjects = {}
    for address in ERASED:
        row = person(ledger, address).person
        (bill,) = ledger.records.streams.of(row.records_kid, ["billing"])
        subjects[bill] = UUID(bytes=row.subject)
    for address in ERASED:
        ledger.erasures.intend([address], reason="subject_request", actor="cli")
        finish_erasures(ledger)
    journal = list(custody.notes())
    for bill, subject in subjects.items():
        guessed = attack.guess_by_neighbours(bill, journal)
        assert subject in guessed
        assert len(guessed) < len(ERASED) // 2
        assert attack.guess_by_rank(bill, journal) == {subject}

    clock.advance(timedelta(days=1))
    run_daily(ledger)
    journal = list(custody.notes())
    guesses = {frozenset(attack.guess_by_neighbours(bill, journal)) for bill in subjects}
    assert len(guesses) == 1
    assert guesses <= {frozenset(), frozenset(subjects.values())}
    right = [bill for bill, subject in subjects.items() if attack.guess_by_rank(bill, journal) == {subject}]
    assert len(right) < len(ERASED)
    assert set(ERASED) <= kept_invoices(ledger)


def test_one_tombstone_that_names_both_kids_would_be_found(
    ledger: Ledger, attack: LinksAttack, clock: SettableClock
) -> None:
    """Given keys destroyed as no saga may, under one certificate, then the attack leads from one to the other."""
    live(ledger)
    row = person(ledger, VICTIM).person
    own = UUID(bytes=row.subject)
    (billing,) = streams_of(ledger, "billing")
    ledger.erasures.intend([VICTIM], reason="subject_request", actor="cli")
    for kid, keep in ((row.kid, frozenset[str]()), (row.records_kid, frozenset({"billing"}))):
        ledger.services.vault.destroy_holder(
            ledger.tenant, kid, keep=keep, when=ledger.clock(), cause="subject_request", certificate="one-certificate"
        )
    assert own in reached(attack.leads_from(billing))


def test_log_lines_past_their_day_are_not_tied_to_their_living_person(
    ledger: Ledger, attack: LinksAttack, clock: SettableClock
) -> None:
    """Given two days of a person's log sent in together, when the older day goes, then nothing leads to it."""
    willing(ledger, PEOPLE)
    now = ledger.clock()
    days = [now - timedelta(days=n) for n in (0, 40)]
    ledger.records.take([Record("access_log", {"path": "/a"}, None, VICTIM, day) for day in days], actor="cli")
    streams = ledger.records.streams.of(person(ledger, VICTIM).person.records_kid, ["access_log"])
    events = ledger.log.select_streams(list(streams))
    newer, older = sorted((e.originator_id for e in events), key=str, reverse=True)
    assert {newer, older} <= reached(attack.leads(VICTIM))
    name = KeyName(TENANT_HOLDER, "access_log", f"{days[1]:%Y-%m-%d}")
    ledger.services.vault.destroy_keys(ledger.tenant, [name], when=now, cause="retention")
    ledger.keyring.forget_all()
    found = reached(attack.leads(VICTIM))
    assert newer in found
    assert older not in found


def kept_invoices(ledger: Ledger) -> set[str]:
    """What opens of billing, by way of the vault's rows alone."""
    found = set()
    for due in ledger.services.vault.keys_due(ledger.tenant, "billing", ledger.clock().date()):
        streams = ledger.records.streams.of(due.holder, ["billing"])
        for event in ledger.log.select_streams(list(streams)):
            fact = ledger.sealing.open(event, streams[UUID(str(event.originator_id))])
            found.add((opened(getattr(fact, "content")) or {}).get("invoice"))  # noqa: B009  The base has no content.
    return {invoice for invoice in found if invoice is not None}
