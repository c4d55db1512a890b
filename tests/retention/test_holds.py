"""Held persons survive the end of a period; when the hold is over what was kept goes, and nothing leads back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from audit.attacks.links import LinksAttack
from domain.facts import Fact
from domain.ids import month_of
from domain.message import MessageClicked
from domain.personal import Erased, Personal
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import KeyDestroyed
from ledger.hold_book import HoldBook
from ledger.holds import HoldDesk, HoldOn
from ledger.keys.keyring import LINK
from ledger.keys.names import KeyName
from ledger.keys.vault import Vault
from projections.history import Question, search
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from retention.holds import releasing as chores
from retention.holds.escrow import destroy_unheld, escrow_held, escrowed_count
from retention.holds.releasing import due_on_release, finish_holds
from tests.acts import ask, emails, person, register, report, stream_of, topics, willing
from tests.kills import killed_at
from tests.ledger.test_holds import WORDS, erase, holding, kids, on, place, release
from tests.retention.test_erasing import everything_of
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT, CLEO = "anna@example.com", "bert@example.com", "cleo@example.com"
CLASSES = ("engagement", "engagement_technical", LINK)


def live(ledger: Ledger, *people: str) -> UUID:
    """Persons who were sent a campaign and clicked; returns the campaign."""
    willing(ledger, people)
    return mail(ledger, *people)


def mail(ledger: Ledger, *people: str) -> UUID:
    """A campaign that is sent and clicked."""
    campaign = register(ledger)
    tokens = ask(ledger, campaign, people).allowed
    report(
        ledger, [(tokens[p], "clicked") for p in people], ip="192.0.2.1", url="https://example.com/a", at=ledger.clock()
    )
    return campaign


def end_month(ledger: Ledger, month: str) -> int:
    """What a plan does to a month that nothing holds: keep what is held of it, then destroy its keys."""
    kept = 0
    for retention_class in CLASSES:
        kept += escrow_held(ledger, retention_class, month)
        ledger.services.vault.destroy_period(ledger.tenant, retention_class, month, when=ledger.clock(), cause="test")
        ledger.keyring.forget_period(retention_class, month)
    return kept


def clicks(ledger: Ledger, address: str) -> list[Fact]:
    """What a search for a person finds of their clicks, opened."""
    page = search(ledger, Question(email=address, kinds=["message.clicked"]), opened=True)
    return [found for event in page.events if (found := _opened(ledger, event.stream, address))]


def _opened(ledger: Ledger, stream: UUID, address: str) -> Fact | None:
    from ledger.mapper import Holder

    row = person(ledger, address)
    for event in ledger.log.select_streams([stream]):
        if event.topic == MessageClicked.TOPIC:
            return ledger.sealing.open(event, Holder(row.person.kid, row.person.link_generation))
    return None


def escrowed(ledger: Ledger) -> set[KeyName]:
    """The keys in the vault that are kept for persons."""
    with ledger.services.vault.pool.transaction() as connection:
        rows = connection.execute(
            "SELECT holder, class, period, generation FROM lethe_vault.wrapped_key "
            "WHERE tenant_id = %s AND holder <> '' AND period <> ''",
            (ledger.tenant,),
        ).fetchall()
    return {KeyName(bytes(row[0]), *row[1:]) for row in rows}


@pytest.fixture
def november(clock: SettableClock) -> str:
    """A month that the clock stands in."""
    clock.set(datetime(2040, 11, 10, 9, tzinfo=UTC))
    return "2040-11"


# Escrow ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["person", "campaign"])
def test_a_held_person_survives_the_end_of_a_month_and_nobody_else_does(
    ledger: Ledger, clock: SettableClock, november: str, kind: str
) -> None:
    """Given one held person of two, when a month's keys go, then only the held one's messages are found and opened."""
    willing(ledger, [ANNA, BERT])
    everybody = mail(ledger, ANNA, BERT)
    alone = mail(ledger, ANNA)
    hold = place(ledger, on(ANNA) if kind == "person" else HoldOn("campaign", campaigns=(alone,)))
    assert len(clicks(ledger, ANNA)) == 2
    assert len(clicks(ledger, BERT)) == 1
    assert end_month(ledger, november) == 3
    assert end_month(ledger, november) == 0, "A month that is gone has nothing more to keep."
    clock.advance(timedelta(days=40))
    found = clicks(ledger, ANNA)
    assert [fact.url.reveal() for fact in found] == ["https://example.com/a"] * 2  # type: ignore[attr-defined]
    assert all(isinstance(fact.ip, Personal) for fact in found)  # type: ignore[attr-defined]
    assert clicks(ledger, BERT) == []
    assert everybody != alone
    assert holding(ledger, kids(ledger, ANNA))[person(ledger, ANNA).person.kid] == [hold], "Found by the kept key."
    assert {name.retention_class for name in escrowed(ledger)} == set(CLASSES)


def test_what_was_kept_goes_with_the_last_hold(ledger: Ledger, clock: SettableClock, november: str) -> None:
    """Given two holds on a person, when both have ended, then the kept keys go, under tombstones of a day."""
    live(ledger, ANNA)
    first, second = place(ledger, on(ANNA)), place(ledger, on(ANNA))
    end_month(ledger, november)
    assert (due_on_release(ledger, first).escrowed, escrowed_count(ledger)) == (0, 0)
    release(ledger, first)
    assert [closing.escrowed for closing in finish_holds(ledger)] == [0]
    kept = escrowed(ledger)
    assert len(kept) == 3
    assert len(clicks(ledger, ANNA)) == 1
    assert due_on_release(ledger, second).escrowed == 3
    release(ledger, second)
    assert [closing.escrowed for closing in finish_holds(ledger)] == [3]
    assert escrowed(ledger) == set()
    assert clicks(ledger, ANNA) == []
    gone = ledger.services.vault.find(ledger.tenant, sorted(kept)).tombstones
    assert set(gone) == kept
    assert {(g.when.hour, g.when.minute, g.when.microsecond, g.certificate) for g in gone.values()} == {(0, 0, 0, None)}
    with pytest.raises(KeyDestroyed):
        ledger.services.vault.escrow(ledger.tenant, dict.fromkeys(kept, bytes(32)))
    assert isinstance(stream_of(ledger, person(ledger, ANNA))[0].email, Personal)  # type: ignore[attr-defined]


def test_a_hold_placed_before_what_was_kept_goes_keeps_it(
    ledger: Ledger, november: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a released hold, when another is placed before its keys went, then they stay, and the hold is closed."""
    live(ledger, ANNA)
    hold = place(ledger, on(ANNA))
    end_month(ledger, november)
    release(ledger, hold)
    place(ledger, on(ANNA))
    assert [closing.escrowed for closing in finish_holds(ledger)] == [0]
    assert len(escrowed(ledger)) == 3
    assert len(clicks(ledger, ANNA)) == 1


def test_a_hold_placed_before_an_erasure_is_taken_up_keeps_it_waiting(
    ledger: Ledger, november: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a released hold, when another comes before the erasure is taken up, also at the last moment, it waits."""
    live(ledger, ANNA)
    hold = place(ledger, on(ANNA))
    erase(ledger, ANNA)
    release(ledger, hold)
    second = place(ledger, on(ANNA))
    monkeypatch.setattr(chores, "_held", lambda *_, **__: False)
    assert [closing.erasures for closing in finish_holds(ledger)] == [0]
    monkeypatch.undo()
    assert [waiting.kid for waiting in ledger.erasures.postponed(10)] == [person(ledger, ANNA).person.kid]
    assert len(due_on_release(ledger, second).erasures) == 1


def test_records_are_kept_for_persons_and_periods_are_kept_whole(ledger: Ledger, november: str) -> None:
    """Given a person's records, when the person is held, then K of their records is kept under their records kid."""
    willing(ledger, [ANNA, BERT])
    for address in (ANNA, BERT):
        kid = person(ledger, address).person.records_kid
        ledger.keyring.subject_keys("usage", [kid])
    ledger.keyring.period_key("usage", november)
    campaign = mail(ledger, ANNA, BERT)
    place(ledger, on(ANNA))
    place(ledger, HoldOn("campaign", campaigns=(campaign,)))
    assert escrow_held(ledger, "usage", november) == 1
    assert {name.holder for name in escrowed(ledger)} == {person(ledger, ANNA).person.records_kid}
    scope = ledger.keyring.opening_scope(person(ledger, ANNA).person.records_kid, "usage", november)
    ledger.services.vault.destroy_period(ledger.tenant, "usage", november, when=ledger.clock(), cause="test")
    ledger.keyring.forget_all()
    assert ledger.keyring.opening_scope(person(ledger, ANNA).person.records_kid, "usage", november) == scope
    gone = ledger.keyring.opening_scope(person(ledger, BERT).person.records_kid, "usage", november)
    assert isinstance(gone, Erased)
    assert escrow_held(ledger, "content", november) == 0, "What is the account's own is nobody's."


def test_an_erased_person_leaves_no_kept_key_behind(ledger: Ledger, november: str) -> None:
    """Given a held person whose erasure waits, when the hold ends, then the saga destroys the kept keys as well."""
    live(ledger, ANNA)
    row = person(ledger, ANNA)
    hold = place(ledger, on(ANNA))
    end_month(ledger, november)
    erase(ledger, ANNA)
    release(ledger, hold)
    finish_holds(ledger)
    finish_erasures(ledger)
    assert escrowed(ledger) == set()
    assert not any(isinstance(value, Personal) for value in everything_of(ledger, row))


# Killed anywhere ------------------------------------------------------------------------------------------------------


BOUNDARIES: list[tuple[Any, str, bool]] = [
    (HoldBook, "to_finish", True),
    (chores, "current_address", True),
    (chores, "_take_up", False),
    (chores, "_take_up", True),
    (Vault, "destroy_keys", False),
    (Vault, "destroy_keys", True),
    (chores, "destroy_unheld", True),
    (Vault, "destroy_holder", False),
    (Vault, "destroy_holder", True),
    (HoldDesk, "close", True),
]


@pytest.mark.parametrize(("owner", "step", "after"), BOUNDARIES)
def test_a_release_killed_at_any_step_converges(
    ledger: Ledger, november: str, monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, after: bool
) -> None:
    """Given a release killed before or after a step, when it is run again, then all is done, and done once."""
    live(ledger, ANNA, BERT)
    row = person(ledger, ANNA)
    hold = place(ledger, on(ANNA, BERT))
    end_month(ledger, november)
    erase(ledger, ANNA)
    release(ledger, hold)
    with killed_at(monkeypatch, owner, step, after=after):
        finish_holds(ledger)
    finish_holds(ledger)
    finish_erasures(ledger)
    assert [held.state for held in ledger.holds.every()] == ["closed"]
    assert [fact.TOPIC for fact in stream_of(ledger, row)].count("erasure.intended.v1") == 1
    assert ledger.person(ANNA) is None
    assert escrowed(ledger) == set()
    assert topics(ledger).count("hold.closed.v1") == 1
    assert ledger.holds.show(hold)[1].matter is None
    assert finish_holds(ledger) == []


# Nothing leads back ---------------------------------------------------------------------------------------------------


PEOPLE = emails(30)
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


def test_after_release_and_erasure_nothing_leads_from_the_hold_to_the_person(
    ledger: Ledger, attack: LinksAttack, clock: SettableClock, server: EmbeddedPostgres
) -> None:
    """Given a hold on two persons, when it ended and one was erased, then address, hold and the other lead nowhere.

    Control: while the hold stands, the person's address leads to it, and it leads to both persons.
    """
    campaign = live(ledger, *PEOPLE)
    row, other = person(ledger, VICTIM), PEOPLE[8]
    own = UUID(bytes=row.person.subject)
    hold = place(ledger, on(VICTIM, other))
    ledger.erasures.intend([VICTIM], reason="subject_request", actor="cli")
    assert {hold, own} <= {lead.stream for lead in attack.leads(VICTIM)}
    assert own in reached_from(attack, hold)
    clock.advance(timedelta(hours=2))
    release(ledger, hold)
    clock.advance(timedelta(hours=1))
    finish_holds(ledger)
    clock.advance(timedelta(hours=1))
    for address in PEOPLE[10:15]:
        erase(ledger, address)
    finish_erasures(ledger)
    for days in (1, 1, 8):
        clock.advance(timedelta(days=days))
        run_daily(ledger)
    assert attack.leads(VICTIM) == []
    about_others = reached_from(attack, hold)
    assert own not in about_others
    assert UUID(bytes=person(ledger, other).person.subject) not in about_others
    assert own not in {lead.stream for lead in attack.leads(other)}
    assert campaign is not None
    shown = dump(server, ledger)
    assert not any(str(word).encode() in shown for word in WORDS.values())
    assert rows_of(server, ledger, "legal_hold_target") == []
    (held,) = ledger.holds.every()
    own_key = KeyName(held.holder, "hold")
    gone = ledger.services.vault.find(ledger.tenant, [own_key]).tombstones[own_key]
    assert (gone.when.hour, gone.when.minute, gone.when.microsecond) == (0, 0, 0), "It ties the hold to no other key."


def test_a_held_campaign_and_kept_keys_lead_nowhere_either(
    ledger: Ledger, attack: LinksAttack, clock: SettableClock
) -> None:
    """Given keys kept for two persons of a campaign, when they are gone, then one person's lead to no other person."""
    campaign = live(ledger, *PEOPLE)
    row, other = person(ledger, VICTIM), PEOPLE[8]
    hold = place(ledger, HoldOn("campaign", campaigns=(campaign,)))
    end_month(ledger, month_of(clock()))
    assert len(escrowed(ledger)) == 3 * len(PEOPLE)
    ledger.erasures.intend([VICTIM], reason="subject_request", actor="cli")
    clock.advance(timedelta(hours=2))
    release(ledger, hold)
    finish_holds(ledger)
    finish_erasures(ledger)
    for days in (1, 1, 8):
        clock.advance(timedelta(days=days))
        run_daily(ledger)
    assert attack.leads(VICTIM) == []
    own = UUID(bytes=row.person.subject)
    assert own not in {lead.stream for lead in attack.leads(other)}
    assert destroy_unheld(ledger) == 0


def reached_from(attack: LinksAttack, stream: UUID) -> set[UUID]:
    """The streams that the attack reaches when it starts from everything that one stream shows."""
    return {lead.stream for lead in attack.leads_from(stream)} - {stream}


def dump(server: EmbeddedPostgres, ledger: Ledger) -> bytes:
    """Everything of the account in the ledger's tables, as bytes."""
    with psycopg.connect(server.url("lethe_ledger")) as connection:
        rows = connection.execute("SELECT entry, sealed FROM lethe.event WHERE tenant_id = %s", (ledger.tenant,))
        return b"".join(bytes(part) for row in rows for part in row if part is not None)


def rows_of(server: EmbeddedPostgres, ledger: Ledger, table: str) -> list[Any]:
    """The rows of one table of the account."""
    with psycopg.connect(server.url("lethe_ledger")) as connection:
        return connection.execute(
            f"SELECT * FROM lethe.{table} WHERE tenant_id = %s".encode(), (ledger.tenant,)
        ).fetchall()
