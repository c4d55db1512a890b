"""Nothing leads back (I11, FAULTS 6a): with everything that is left, an erased person's address leads to no event.

Nor does a living person's lead to what they did with mail whose time is over, by month or by person. Each test has its
control in itself: the same program finds the events before, and says by which steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance
from audit.attacks.links import Lead, LinksAttack
from domain.ids import month_of
from domain.subject_commands import CorrectContact, SayNo
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.idempotency import IdempotentPart
from ledger.keys.keyring import LINK
from ledger.links import link_scope, message_id, month_number
from ledger.standing_row import StandingRow
from ledger.subjects import Act
from projections.worker import catch_up
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from retention.plans.schedule import run_retention
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
    return attacker(server, ledger)


def attacker(server: EmbeddedPostgres, ledger: Ledger) -> LinksAttack:
    """An attacker of one account."""
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


# Living persons and engagement past its time --------------------------------------------------------------------------

CAME = datetime(2026, 1, 10, 9, tzinfo=UTC)
FEW = PEOPLE[:12]
ORDERS = [f"order {number}" for number in range(3)]


@pytest.fixture
def opened_under(instance: Instance, server: EmbeddedPostgres, clock: SettableClock) -> Callable[[str], Scene]:
    """An account under a policy pack, opened in January 2026, with a dozen people and one attacker."""

    def opened(pack: str) -> Scene:
        clock.set(CAME)
        ledger = instance.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack=pack, country="DE", minimum_age=16, actor="cli")
        willing(ledger, FEW)
        return Scene(ledger, attacker(server, ledger), clock, [register(ledger), register(ledger, kind="ongoing")])

    return opened


@dataclass
class Scene:
    """A ledger whose people are mailed and click, the attacker, and what a sender has kept of the victim's mail."""

    ledger: Ledger
    attack: LinksAttack
    clock: SettableClock
    campaigns: list[UUID]
    tokens: dict[str, list[str]] = field(default_factory=dict)

    def mail(self) -> set[UUID]:
        """Everybody is mailed by every campaign, and clicks; returns the streams of the victim's messages."""
        kept = self.tokens.setdefault(month_of(self.clock()), [])
        for campaign in self.campaigns:
            tokens = ask(self.ledger, campaign, FEW).allowed
            kept.append(tokens[VICTIM])
            for number, kind in enumerate(("dispatched", "delivered", "opened", "clicked")):
                moment = self.clock() - timedelta(minutes=4 - number)
                more = {"ip": "192.0.2.44", "url": "https://example.com/a/b"} if number > 1 else {}
                report(self.ledger, [(token, kind) for token in tokens.values()], at=moment, **more)
        ongoing = self.campaigns[-1]
        kept += [ask(self.ledger, ongoing, [(VICTIM, order)]).allowed[VICTIM] for order in ORDERS]
        row = person(self.ledger, VICTIM)
        month = month_of(self.clock())
        link = row.link_for(month_number(month))
        assert link is not None
        scope = link_scope(link[0], self.ledger.keyring.period_key(LINK, month))
        return {UUID(bytes=message_id(scope, campaign.bytes)) for campaign in self.campaigns}

    def retention_on(self, moment: datetime) -> None:
        """The worker's chores on that day, as the account's pack has them."""
        self.clock.set(moment)
        run_retention(self.ledger)
        self.ledger.keyring.forget_all()
        catch_up(self.ledger)

    def reached(self, *tokens: str) -> set[UUID]:
        """What the address leads to, with every token that a sender kept beside it."""
        kept = [token for of_month in self.tokens.values() for token in of_month]
        return found(self.attack.leads(VICTIM, [*kept, *tokens]))

    def own_stream(self) -> UUID:
        return UUID(bytes=person(self.ledger, VICTIM).person.subject)


def test_a_month_past_its_time_cannot_be_tied_to_a_living_person(opened_under: Callable[[str], Scene]) -> None:
    """Given Mailkai, when the plan of the day has destroyed a month, then nothing leads from the living to its mail."""
    scene = opened_under("mailkai")
    past = scene.mail()
    scene.clock.set(datetime(2026, 3, 3, 9, tzinfo=UTC))
    scene.campaigns[0] = register(scene.ledger)
    later = scene.mail()
    before = scene.reached()
    assert past | later <= before
    scene.retention_on(datetime(2027, 12, 31, 23, tzinfo=UTC))
    assert past <= scene.reached(), "A day early the program still finds all of it."
    scene.retention_on(datetime(2028, 1, 1, 1, tzinfo=UTC))
    after = scene.reached()
    assert after & past == set()
    assert later | {scene.own_stream()} <= after


def test_a_generation_past_its_time_cannot_be_tied_to_a_living_person(opened_under: Callable[[str], Scene]) -> None:
    """Given Mailenium, when two years have passed since the last click, then nothing leads from the living to it."""
    scene = opened_under("mailenium")
    past = scene.mail()
    scene.retention_on(datetime(2027, 10, 20, 9, tzinfo=UTC))
    scene.clock.set(datetime(2027, 11, 5, 9, tzinfo=UTC))
    scene.campaigns[0] = register(scene.ledger)
    later = scene.mail()
    assert past | later <= scene.reached()
    scene.retention_on(datetime(2028, 1, 9, 9, tzinfo=UTC))
    assert past <= scene.reached(), "A day early the program still finds all of it."
    scene.retention_on(datetime(2028, 1, 10, 1, tzinfo=UTC))
    after = scene.reached()
    assert after & past == set()
    assert later | {scene.own_stream()} <= after
    # and a "no" through an old mail, which is still heard, does not point at it either
    report(scene.ledger, [(scene.tokens["2026-01"][0], "unsubscribed")], at=scene.clock())
    catch_up(scene.ledger)
    assert ledger_says_no(scene.ledger)
    assert scene.reached() & past == set()


def ledger_says_no(ledger: Ledger) -> bool:
    (decision,) = ledger.check([(VICTIM, "newsletter", "email")])
    return not decision.allowed


def test_who_clicked_last_week_is_found_while_the_others_are_past(opened_under: Callable[[str], Scene]) -> None:
    """Given one reader among sleepers, when the sleepers' time is over, then only the reader's mail is found."""
    scene = opened_under("mailenium")
    past = scene.mail()
    token = scene.tokens["2026-01"][0]
    scene.clock.set(datetime(2027, 5, 1, 9, tzinfo=UTC))
    report(scene.ledger, [(token, "clicked")], at=scene.clock(), ip="192.0.2.44", url="https://example.com/c")
    scene.retention_on(datetime(2027, 10, 20, 9, tzinfo=UTC))
    scene.retention_on(datetime(2028, 1, 10, 1, tzinfo=UTC))
    assert past <= scene.reached()
    sleeper = found(scene.attack.leads(PEOPLE[0]))
    own = UUID(bytes=person(scene.ledger, PEOPLE[0]).person.subject)
    assert sleeper == {own}
    scene.retention_on(datetime(2029, 5, 1, 1, tzinfo=UTC))
    assert scene.reached() & past == set()


def test_a_key_left_in_a_stale_row_is_found(opened_under: Callable[[str], Scene], server: EmbeddedPostgres) -> None:
    """Given rows of a rebuild that was killed, when they keep a destroyed link key, then the attack finds the mail."""
    scene = opened_under("mailenium")
    past = scene.mail()
    scene.retention_on(datetime(2027, 10, 20, 9, tzinfo=UTC))
    select = "SELECT tenant_id, (generation + 7)::smallint, fingerprint, handle_tag, epoch, sealed FROM lethe.standing"
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as superuser:
        superuser.execute(f"INSERT INTO lethe.standing {select} WHERE tenant_id = %s".encode(), (scene.ledger.tenant,))
    scene.retention_on(datetime(2028, 1, 10, 1, tzinfo=UTC))
    assert past <= scene.reached()
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as superuser:
        superuser.execute("DELETE FROM lethe.standing WHERE tenant_id = %s AND generation > 7", (scene.ledger.tenant,))
    assert scene.reached() & past == set()
