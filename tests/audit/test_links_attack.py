"""Nothing leads back (I11, FAULTS 6a): with everything that is left, an erased person's address leads to no event.

Each test has its control in itself: the same program finds the person's events before, and says by which steps.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from audit.links_attack import Lead, LinksAttack
from domain.subject_commands import CorrectContact, SayNo
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.idempotency import IdempotentPart
from ledger.keyring import LINK
from ledger.links import link_scope, message_id
from ledger.standing_row import StandingRow
from ledger.subjects import Act
from projections.worker import catch_up
from retention.daily import run_daily
from retention.erasing import finish_erasures
from tests.acts import ask, emails, person, register, report, say, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

PEOPLE = emails(40)
ERASED = PEOPLE[4:16]
VICTIM = PEOPLE[7]
FORMER = "former.address@example.com"


@pytest.fixture
def attack(server: EmbeddedPostgres, ledger: Ledger) -> LinksAttack:
    """An attacker of the test's account."""
    return LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )


def live(ledger: Ledger) -> tuple[UUID, ...]:
    """Some life: everybody is mailed twice and clicks; the victim does all that a person can do, and is asked alone."""
    willing(ledger, PEOPLE)
    once, ongoing, alone = register(ledger), register(ledger, kind="ongoing"), register(ledger)
    for campaign in (once, ongoing):
        tokens = ask(ledger, campaign, PEOPLE).allowed
        report(ledger, [(tokens[p], "delivered") for p in PEOPLE])
        report(ledger, [(tokens[p], "clicked") for p in PEOPLE], ip="192.0.2.44", url="https://example.com/a/b")
    ask(ledger, ongoing, [(VICTIM, "order 4711")])
    kept = IdempotentPart.of(ledger.tenant, "POST /v1/campaigns", "retry-1", b"")
    ask(ledger, alone, [VICTIM], idempotency=kept)
    report(ledger, [(ask(ledger, ongoing, [VICTIM]).allowed[VICTIM], "complained")])
    ledger.act(Act(SayNo("objection", "purpose:offers"), address=VICTIM))
    say(ledger, [VICTIM], "withdraw", purpose="offers")
    catch_up(ledger)
    return once, ongoing, alone


def streams_of(ledger: Ledger, row: StandingRow, campaigns: tuple[UUID, ...]) -> set[UUID]:
    """Every stream that tells of a person: their own, and that of each message."""
    month = ledger.campaign(campaigns[0]).month(ledger.clock())
    scope = link_scope(row.person.link_key, ledger.keyring.period_key(LINK, month))
    return {UUID(bytes=row.person.subject), *(UUID(bytes=message_id(scope, c.bytes)) for c in campaigns)}


def erase(ledger: Ledger, people: list[str]) -> None:
    """Erase people one after the other, each in a transaction and a saga of its own: the worst case."""
    for address in people:
        ledger.erasures.intend([address], reason="subject_request", actor="cli")
        finish_erasures(ledger)
    catch_up(ledger)


def days_later(ledger: Ledger, clock: SettableClock, days: int) -> None:
    """The worker's daily chores, that many days later."""
    clock.advance(timedelta(days=days))
    run_daily(ledger)
    catch_up(ledger)


def found(leads: list[Lead]) -> set[UUID]:
    return {lead.stream for lead in leads}


def test_before_an_erasure_the_attack_finds_everything(ledger: Ledger, attack: LinksAttack) -> None:
    """Given a living person, when the attack starts from their address, then it finds all of their streams."""
    campaigns = live(ledger)
    everything = streams_of(ledger, person(ledger, VICTIM), campaigns)
    leads = attack.leads(VICTIM)
    assert everything <= found(leads)
    own = [lead for lead in leads if lead.stream in everything]
    assert {"contact.added.v1", "send.authorised.v1", "message.clicked.v1", "contact.complained.v1"} <= {
        lead.topic for lead in own
    }
    assert all(lead.path for lead in own)


def test_after_an_erasure_nothing_leads_back(ledger: Ledger, attack: LinksAttack, clock: SettableClock) -> None:
    """Given an erasure, when the day's batch has run and the feed key's week is over, then the address leads nowhere.

    Until then the control shows what is left: the list's own neighbourhood for a day, the kept answer to a request
    about them alone for a day, and the address that senders must still be told for seven.
    """
    campaigns = live(ledger)
    row = person(ledger, VICTIM)
    everything = streams_of(ledger, row, campaigns)
    erase(ledger, ERASED)
    own = UUID(bytes=row.person.subject)
    reached = found(attack.leads(VICTIM)) & everything
    assert own in reached, "The suppression stands beside the intent until the batch."
    assert len(reached) == 2, "The kept answer to a request about them alone is found by its hash, for a day."
    days_later(ledger, clock, 2)
    assert found(attack.leads(VICTIM)) & everything == {own}, "The feed must still tell whom not to mail, for a week."
    days_later(ledger, clock, 8)
    assert attack.leads(VICTIM) == []
    living = streams_of(ledger, person(ledger, PEOPLE[0]), campaigns[:2])
    assert living <= found(attack.leads(PEOPLE[0]))


def test_tokens_kept_by_senders_lead_nowhere(ledger: Ledger, attack: LinksAttack) -> None:
    """Given message ids that a sender kept beside the address, when the person is erased, then they open nothing."""
    willing(ledger, PEOPLE)
    campaign = register(ledger, kind="ongoing")
    orders = [f"order {number}" for number in range(3)]
    tokens = [ask(ledger, campaign, [(VICTIM, order)]).allowed[VICTIM] for order in orders]
    tokens.append(ask(ledger, campaign, [VICTIM]).allowed[VICTIM])
    report(ledger, [(token, "dispatched") for token in tokens])
    everything = streams_of(ledger, person(ledger, VICTIM), (campaign,))
    assert everything <= found(attack.leads("somebody.else@example.com", tokens))
    erase(ledger, ERASED)
    assert found(attack.leads("somebody.else@example.com", tokens)) & everything == set()


def test_a_superseded_address_leads_nowhere_either(ledger: Ledger, attack: LinksAttack, clock: SettableClock) -> None:
    """Given a person who changed addresses, when they are erased by the old one, then neither address leads back."""
    willing(ledger, [*PEOPLE, FORMER])
    ledger.act(Act(CorrectContact(email="current@example.com"), address=FORMER))
    assert attack.leads(FORMER)
    assert attack.leads("current@example.com")
    erase(ledger, [*ERASED, FORMER])
    days_later(ledger, clock, 1)
    days_later(ledger, clock, 8)
    assert attack.leads(FORMER) == []
    assert attack.leads("current@example.com") == []


def test_who_comes_back_is_not_tied_to_who_they_were(ledger: Ledger, attack: LinksAttack, clock: SettableClock) -> None:
    """Given an erased person who registers again, when they are attacked, then only the new is found."""
    campaigns = live(ledger)
    before = streams_of(ledger, person(ledger, VICTIM), campaigns)
    erase(ledger, ERASED)
    days_later(ledger, clock, 1)
    days_later(ledger, clock, 8)
    willing(ledger, [VICTIM])
    after = streams_of(ledger, person(ledger, VICTIM), (campaigns[0],))
    assert UUID(bytes=person(ledger, VICTIM).person.subject) in found(attack.leads(VICTIM))
    assert found(attack.leads(VICTIM)) & before == set()
    assert before & after == set()


def test_the_order_of_the_list_says_nothing(ledger: Ledger, attack: LinksAttack, clock: SettableClock) -> None:
    """Given twelve erased in a row, when lists are paired with the log, then the batch has made that a guess."""
    willing(ledger, PEOPLE)
    subjects = {p: UUID(bytes=person(ledger, p).person.subject) for p in ERASED}
    erase(ledger, ERASED)
    assert right_guesses(attack, subjects) >= len(ERASED) - 1
    days_later(ledger, clock, 1)
    assert right_guesses(attack, subjects) < len(ERASED)


def right_guesses(attack: LinksAttack, subjects: dict[str, UUID]) -> int:
    """How many guesses are right, over both orders; by chance it is one of each."""
    return sum(
        subject in attack.guess_by_order(address)[n : n + 1] for address, subject in subjects.items() for n in (0, 1)
    )


def test_a_hash_that_somebody_leaves_behind_is_found(
    server: EmbeddedPostgres, ledger: Ledger, attack: LinksAttack, clock: SettableClock
) -> None:
    """Given a clean erasure, when a table keeps a hash of the address beside the stream, then the attack finds it."""
    willing(ledger, PEOPLE)
    own = UUID(bytes=person(ledger, VICTIM).person.subject)
    erase(ledger, ERASED)
    days_later(ledger, clock, 1)
    days_later(ledger, clock, 8)
    assert attack.leads(VICTIM) == []
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as superuser:
        for digest in ("sha256(%s::bytea)", "decode(md5(%s::bytea), 'hex')", "substr(sha512(%s::bytea), 1, 12)"):
            superuser.execute(
                f"CREATE TABLE lethe.forgotten AS SELECT {digest} AS mark, %s AS stream".encode(),
                (VICTIM.encode(), own.hex),
            )
            try:
                assert found(attack.leads(VICTIM)) == {own}
            finally:
                superuser.execute("DROP TABLE lethe.forgotten")
    assert attack.leads(VICTIM) == []
