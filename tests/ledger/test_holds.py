"""Holds under the head lock: who is held and by what, too late or in time, and a table that the log can build again."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance, running
from api.settings import Settings
from audit.fsck import require_whole_log
from domain.address import InvalidAddress
from domain.hold import HoldRefused, Period
from domain.personal import Erased, Personal
from domain.subject_commands import CommandRefused, CorrectContact, Restrict
from ledger.application import Ledger
from ledger.erasures import STATE_HELD, STATE_INTENDED, STATE_NOTHING_HELD
from ledger.errors import HoldTooLate, UnknownCampaign, UnknownHold, UnknownSubject
from ledger.hold_book import HoldRow
from ledger.holds import HoldOn
from ledger.subjects import Act
from projections.holds import rebuild_holds
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from retention.holds.releasing import finish_holds
from tests import workers
from tests.acts import add, ask, emails, person, register, stream_of, topics, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT, CLEO = "anna@example.com", "bert@example.com", "cleo@example.com"
WORDS: dict[str, Any] = {"matter": "Example v. Acme", "reason": "a claim was announced", "owner": "Legal department"}
ACCOUNT = HoldOn("account")
WAIT_SECONDS_MAX = 60


def on(*addresses: str) -> HoldOn:
    """Persons as a target."""
    return HoldOn("person", addresses=addresses)


def place(ledger: Ledger, target: HoldOn, **more: Any) -> UUID:
    """A new hold that is looked at again in ninety days."""
    review_on = ledger.clock().date() + timedelta(days=90)
    return ledger.holds.place(target, **(WORDS | more), review_on=review_on, actor="cli").hold_id


def release(ledger: Ledger, hold_id: UUID) -> HoldRow:
    """End a hold."""
    return ledger.holds.release(hold_id, actor="cli")


def erase(ledger: Ledger, *addresses: str) -> list[str]:
    """Ask for erasures; returns their states."""
    return [s.state for s in ledger.erasures.intend(list(addresses), reason="subject_request", actor="cli")]


def kids(ledger: Ledger, address: str) -> list[bytes]:
    """What a person's keys are held under."""
    row = person(ledger, address)
    return [row.person.kid, row.person.records_kid]


def holding(ledger: Ledger, holders: list[bytes], **more: Any) -> dict[bytes, list[UUID]]:
    """What the book says of these holders."""
    with ledger.services.writer.transaction() as connection:
        return ledger.hold_book.holding(connection, ledger.tenant, holders, **more)


def rows(ledger: Ledger, table: str) -> list[tuple[Any, ...]]:
    """Every row of the account in a table, in a fixed order."""
    with psycopg.connect(ledger.services.writer.url) as connection:
        select = f"SELECT * FROM lethe.{table} WHERE tenant_id = %s ORDER BY 1, 2, 3, 4".encode()
        return connection.execute(select, (ledger.tenant,)).fetchall()


# Who is held ---------------------------------------------------------------------------------------------------------


def test_a_person_is_held_under_both_kids_and_named_by_neither(ledger: Ledger) -> None:
    """Given a hold on a person, when book, tables and log are read, then both kids are held, and nothing shows them."""
    willing(ledger, [ANNA, BERT])
    hold = place(ledger, on(ANNA))
    held = holding(ledger, kids(ledger, ANNA) + kids(ledger, BERT))
    assert held == {kid: [hold] for kid in kids(ledger, ANNA)}
    row = person(ledger, ANNA)
    ids = [row.person.subject, *kids(ledger, ANNA), row.person.handle, row.fingerprint]
    (event,) = ledger.log.select_streams([hold])
    shown = event.state + (event.sealed or b"") + repr(rows(ledger, "legal_hold_target")).encode()
    shown += b"".join(bytes(target[2]) for target in rows(ledger, "legal_hold_target"))
    assert not any(found in shown or found.hex().encode() in shown for found in ids)
    assert not any(word.encode() in shown for word in WORDS.values())


def test_a_person_is_held_by_a_former_address_too(ledger: Ledger) -> None:
    """Given a person who has another address now, when the former one is held, then it is the same person."""
    willing(ledger, [ANNA])
    ledger.act(Act(CorrectContact(email=CLEO), address=ANNA))
    hold = place(ledger, on(ANNA, CLEO))
    assert holding(ledger, kids(ledger, CLEO)) == {kid: [hold] for kid in kids(ledger, CLEO)}
    assert ledger.holds.show(hold)[1].persons == 1


def test_a_campaign_holds_whoever_has_a_message_of_it(ledger: Ledger) -> None:
    """Given a campaign that asked about one of two persons, when it is held, then that one is, and only under a kid."""
    willing(ledger, [ANNA, BERT])
    for kind in ("one-off", "ongoing"):
        campaign = register(ledger, kind=kind)
        ask(ledger, campaign, [ANNA])
        hold = place(ledger, HoldOn("campaign", campaigns=(campaign,)))
        held = holding(ledger, kids(ledger, ANNA) + kids(ledger, BERT))
        assert held == {person(ledger, ANNA).person.kid: [hold]}
        release(ledger, hold)
        assert holding(ledger, kids(ledger, ANNA)) == {}


def test_a_campaign_holds_who_is_asked_about_later(ledger: Ledger) -> None:
    """Given a held campaign, when it asks about somebody after the hold was placed, then they are held as well."""
    willing(ledger, [ANNA])
    campaign = register(ledger, kind="ongoing")
    hold = place(ledger, HoldOn("campaign", campaigns=(campaign,)))
    assert holding(ledger, kids(ledger, ANNA)) == {}
    ask(ledger, campaign, [ANNA])
    assert holding(ledger, kids(ledger, ANNA)) == {person(ledger, ANNA).person.kid: [hold]}


def test_a_period_holds_its_key_and_whoever_has_a_key_of_its_class(ledger: Ledger) -> None:
    """Given a hold on a month of a class, when it is asked about, then the month, its days and the class are held."""
    willing(ledger, [ANNA])
    hold = place(ledger, HoldOn("period", periods=(Period("identity", "2026-11"), Period("usage", "2026-10"))))
    with ledger.services.writer.transaction() as connection:

        def held(retention_class: str, period: str) -> list[UUID]:
            return ledger.hold_book.holding_period(connection, ledger.tenant, retention_class, period)

        assert held("identity", "2026-11") == held("identity", "2026-11-22") == held("usage", "2026-10") == [hold]
        assert held("identity", "2026-1") == held("identity", "2026-12") == held("engagement", "2026-11") == []
    kid = person(ledger, ANNA).person.kid
    assert holding(ledger, kids(ledger, ANNA)) == {kid: [hold]}
    assert holding(ledger, [kid], retention_class="identity") == {kid: [hold]}
    assert holding(ledger, [kid], retention_class="consent") == holding(ledger, [kid], by_period=False) == {}


def test_an_account_hold_holds_everything_and_no_other_account(ledger: Ledger, instance: Instance) -> None:
    """Given a hold on an account, when anything of it is asked about, then it is held, and of another nothing is."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailenium", country="DE", minimum_age=0, actor="cli")
    for one in (ledger, other):
        willing(one, [ANNA])
    hold = place(ledger, ACCOUNT)
    assert holding(ledger, kids(ledger, ANNA)) == {kid: [hold] for kid in kids(ledger, ANNA)}
    with ledger.services.writer.transaction() as connection:
        assert ledger.hold_book.holding_account(connection, ledger.tenant) == [hold]
        assert ledger.hold_book.holding_period(connection, ledger.tenant, "usage", "2026-11") == [hold]
        assert ledger.hold_book.holding_account(connection, other.tenant) == []
    assert holding(other, kids(other, ANNA)) == {}
    with pytest.raises(UnknownHold):
        release(other, hold)


def test_a_person_is_held_until_the_last_of_their_holds_ends(ledger: Ledger) -> None:
    """Given two holds on a person, when one is released, then the other one holds, and `ignoring` asks what if."""
    willing(ledger, [ANNA])
    first, second = place(ledger, on(ANNA)), place(ledger, on(ANNA))
    kid = person(ledger, ANNA).person.kid
    assert holding(ledger, [kid]) == {kid: [first, second]}
    assert holding(ledger, [kid], ignoring=first) == {kid: [second]}
    release(ledger, first)
    assert holding(ledger, [kid]) == {kid: [second]}
    assert holding(ledger, [kid], ignoring=second) == {}


def test_a_hold_is_widened_by_another_kind_and_looked_at_later(ledger: Ledger, clock: SettableClock) -> None:
    """Given a hold on a person, when it is widened by another and by a campaign, then it holds all of them."""
    clock.set(datetime(2040, 11, 22, 9, tzinfo=UTC))
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger)
    hold = place(ledger, on(ANNA))
    later = clock().date() + timedelta(days=400)
    ledger.holds.widen(hold, target=on(ANNA, BERT), reason="another witness", actor="cli")
    row = ledger.holds.widen(hold, target=HoldOn("campaign", campaigns=(campaign,)), review_on=later, actor="cli")
    assert (row.review_on, row.state) == (later, "active")
    (listed,) = ledger.holds.every()
    assert (listed.persons, listed.campaigns, listed.periods) == (2, 1, 0)
    assert set(holding(ledger, kids(ledger, BERT))) == set(kids(ledger, BERT))
    _, words = ledger.holds.show(hold)
    assert (words.matter, words.owner) == (WORDS["matter"], WORDS["owner"])
    assert words.reasons == (WORDS["reason"], "another witness")
    assert (words.persons, words.campaigns) == (2, (campaign,))
    end = len(topics(ledger))
    ledger.holds.widen(hold, target=on(BERT), actor="cli")
    assert len(topics(ledger)) == end, "What is held already is no news."
    assert not listed.overdue(later - timedelta(days=1))
    assert row.overdue(later + timedelta(days=1))


def test_what_cannot_be_held_is_refused_and_nothing_is_written(ledger: Ledger) -> None:
    """Given targets that are unknown or no targets, when they are to be held, then nothing is written."""
    willing(ledger, [ANNA])
    before = topics(ledger)
    refusals: list[tuple[HoldOn, type[Exception]]] = [
        (on("nobody@example.com"), UnknownSubject),
        (on(ANNA, "nobody@example.com"), UnknownSubject),
        (on("not an address"), InvalidAddress),
        (on(), HoldRefused),
        (HoldOn("campaign", campaigns=(uuid4(),)), UnknownCampaign),
    ]
    for target, refusal in refusals:
        with pytest.raises(refusal):
            place(ledger, target)
    with pytest.raises(UnknownHold):
        release(ledger, uuid4())
    assert topics(ledger) == before
    assert rows(ledger, "legal_hold") == rows(ledger, "legal_hold_target") == []


def test_what_fails_at_the_end_is_no_hold(ledger: Ledger) -> None:
    """Given a hold whose transaction fails at its end, when the book is asked, then nobody is held."""
    willing(ledger, [ANNA])
    with pytest.raises(ZeroDivisionError):
        place(ledger, on(ANNA), also=lambda *_: 1 // 0)
    assert holding(ledger, kids(ledger, ANNA)) == {}


# Erasure waits --------------------------------------------------------------------------------------------------------


def test_the_erasure_of_a_held_person_waits_and_nothing_is_sent_meanwhile(ledger: Ledger) -> None:
    """Given a held person, when their erasure is asked for, then it is written down, and they are not mailed."""
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger)
    assert ask(ledger, campaign, [ANNA]).allowed
    hold = place(ledger, on(ANNA))
    assert erase(ledger, ANNA, BERT, ANNA) == [STATE_HELD, STATE_INTENDED]
    assert finish_erasures(ledger)
    facts = stream_of(ledger, person(ledger, ANNA))
    assert [fact.TOPIC for fact in facts][-3:] == [
        "erasure.postponed.v1",
        "processing.restricted.v1",
        "authorisations.recalled.v1",
    ]
    assert not any(str(hold) in fact.model_dump_json(include={"actor", "command", "cause"}) for fact in facts)
    assert hold.hex.encode() not in b"".join(
        event.state for event in ledger.log.select_streams([facts[0].originator_id])
    )
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "restricted"}
    assert ask(ledger, register(ledger, purpose="transactional:receipts"), [ANNA]).refused == {ANNA: "restricted"}
    assert isinstance(facts[0].model_copy().email, Personal)  # type: ignore[attr-defined]  # It is a ContactAdded.
    with pytest.raises(CommandRefused) as refused:
        ledger.act(Act(Restrict(lift=True), address=ANNA))
    assert refused.value.reason == "erasure_postponed"
    require_whole_log(ledger.services.writer.url, ledger.tenant)


@pytest.mark.parametrize("kind", ["account", "campaign", "period"])
def test_every_kind_of_hold_makes_an_erasure_wait(ledger: Ledger, kind: str) -> None:
    """Given a hold of any kind that speaks of a person, when they are to be erased, then it waits, until it ends."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    ask(ledger, campaign, [ANNA])
    targets = {
        "account": ACCOUNT,
        "campaign": HoldOn("campaign", campaigns=(campaign,)),
        "period": HoldOn("period", periods=(Period("consent", "2026-11"),)),
    }
    hold = place(ledger, targets[kind])
    assert erase(ledger, ANNA) == [STATE_HELD]
    release(ledger, hold)
    assert [closing.erasures for closing in finish_holds(ledger)] == [1]
    assert ledger.person(ANNA) is None


def test_a_release_takes_up_what_waited_and_closes_the_hold(ledger: Ledger, clock: SettableClock) -> None:
    """Given an erasure that waits, when the hold is released, then it is intended under the same id and finished."""
    willing(ledger, [ANNA, BERT])
    first, second = place(ledger, on(ANNA, BERT)), place(ledger, on(BERT))
    rows_before = {address: person(ledger, address) for address in (ANNA, BERT)}
    ledger.act(Act(CorrectContact(email=CLEO), address=ANNA))
    statuses = ledger.erasures.intend([ANNA, BERT], reason="objection", actor="cli")
    repeated = ledger.erasures.intend([CLEO], reason="subject_request", actor="cli")
    assert [s.state for s in statuses + repeated] == [STATE_HELD] * 3
    clock.advance(timedelta(hours=1))
    release(ledger, first)
    assert finish_holds(ledger)[0].erasures == 1
    assert finish_holds(ledger) == []

    def state(number: int) -> str:
        return ledger.erasures.status((statuses + repeated)[number].erasure_id)[0].state

    assert (state(0), state(1), state(2)) == (STATE_INTENDED, STATE_HELD, STATE_NOTHING_HELD)
    finish_erasures(ledger)
    told = stream_of(ledger, rows_before[ANNA])
    assert [fact.TOPIC for fact in told].count("erasure.intended.v1") == 1
    assert told[-1].TOPIC == "keys.destroyed.v1"
    assert isinstance(told[0].email, Erased)  # type: ignore[attr-defined]  # It is a ContactAdded.
    add(ledger, [ANNA])
    assert ask(ledger, register(ledger), [ANNA, CLEO]).refused == {ANNA: "erased", CLEO: "erased"}
    assert person(ledger, BERT) is not None
    release(ledger, second)
    finish_holds(ledger)
    finish_erasures(ledger)
    assert ledger.person(BERT) is None
    assert [row.state for row in ledger.holds.every()] == ["closed", "closed"]
    require_whole_log(ledger.services.writer.url, ledger.tenant)


# Too late -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [False, True])
def test_a_hold_after_the_intent_is_too_late_and_names_the_certificate(ledger: Ledger, finished: bool) -> None:
    """Given an erasure that was intended, when any address of the person is to be held, then it is told under what."""
    willing(ledger, [ANNA, BERT])
    ledger.act(Act(CorrectContact(email=CLEO), address=ANNA))
    (status,) = ledger.erasures.intend([CLEO], reason="subject_request", actor="cli")
    if finished:
        finish_erasures(ledger)
    before = topics(ledger)
    for address in (ANNA, CLEO):
        with pytest.raises(HoldTooLate) as refused:
            place(ledger, on(BERT, address))
        assert refused.value.certificate == str(status.certificate_id or status.erasure_id)
        assert refused.value.certificate in str(refused.value)
    assert topics(ledger) == before
    assert holding(ledger, kids(ledger, BERT)) == {}


def test_once_the_day_is_closed_nothing_leads_from_the_address_to_the_certificate(
    ledger: Ledger, clock: SettableClock
) -> None:
    """Given an erasure of yesterday, when the address is to be held, then it is too late, and nobody can say why."""
    willing(ledger, [ANNA])
    erase(ledger, ANNA)
    finish_erasures(ledger)
    assert len(rows(ledger, "erasure_address")) == 1
    clock.advance(timedelta(days=1))
    run_daily(ledger)
    assert rows(ledger, "erasure_address") == []
    with pytest.raises(HoldTooLate) as refused:
        place(ledger, on(ANNA))
    assert refused.value.certificate is None


def test_a_hold_on_a_period_that_is_being_destroyed_is_too_late(ledger: Ledger) -> None:
    """Given a plan's intent, or a key that is gone, when its period is to be held, then it is told under what."""
    willing(ledger, [ANNA])
    month, certificate = ledger.clock().strftime("%Y-%m"), str(uuid4())
    insert = """
        INSERT INTO lethe.destruction_intent (tenant_id, plan_id, item, class, period, certificate, intended_at)
        VALUES (%s, %s, 'identity', 'identity', %s, %s, %s)
    """
    with ledger.services.writer.transaction() as connection:
        connection.execute(insert.encode(), (ledger.tenant, uuid4(), month, certificate, ledger.clock()))
    vault = ledger.services.vault
    vault.destroy_period(ledger.tenant, "consent", month, when=ledger.clock(), cause="test", certificate="done before")
    for retention_class, told in (("identity", certificate), ("consent", "done before")):
        with pytest.raises(HoldTooLate) as refused:
            place(ledger, HoldOn("period", periods=(Period("usage", month), Period(retention_class, month))))
        assert refused.value.certificate == told
    place(ledger, HoldOn("period", periods=(Period("usage", month),)))


@pytest.mark.parametrize(
    ("item", "intended", "asked", "late"),
    [
        ("usage:2026-10", "2026-10", "2026-10", True),
        ("usage:2026-10", "2026-10", "2026-10-05", True),
        ("usage:class", "", "2026-10", True),
        ("usage", "", "2026-10", False),
        ("usage:2026-10-05", "2026-10-05", "2026-10", False),
        ("usage:2026-10", "2026-10", "2026-11", False),
    ],
)
def test_a_period_is_intended_by_itself_as_a_day_of_its_month_or_with_its_class(
    ledger: Ledger, item: str, intended: str, asked: str, late: bool
) -> None:
    """Given a plan's intent, when a period is to be held, then it is too late where the intent takes all of it."""
    with ledger.services.writer.transaction() as connection:
        values = (ledger.tenant, uuid4(), item, intended, ledger.clock())
        connection.execute(
            "INSERT INTO lethe.destruction_intent (tenant_id, plan_id, item, class, period, certificate, intended_at) "
            "VALUES (%s, %s, %s, 'usage', %s, 'a plan', %s)",
            values,
        )
    target = HoldOn("period", periods=(Period("usage", asked),))
    if not late:
        place(ledger, target)
        return
    with pytest.raises(HoldTooLate) as refused:
        place(ledger, target)
    assert refused.value.certificate == "a plan"


def test_whichever_takes_the_lock_first_wins(ledger: Ledger) -> None:
    """Given a hold and an erasure that meet at the head, when either has the lock, then the other one sees it."""
    willing(ledger, [ANNA, BERT])

    def meet(first: Callable[..., Any], second: Callable[[], Any]) -> tuple[Any, Any]:
        """Run both; the second begins while the first holds the lock."""
        inside, go_on = Event(), Event()

        def pause(*_: Any) -> None:
            inside.set()
            assert go_on.wait(WAIT_SECONDS_MAX)

        with ThreadPoolExecutor(2) as threads:
            begun = threads.submit(first, also=pause)
            assert inside.wait(WAIT_SECONDS_MAX)
            waiting = threads.submit(second)
            until_waiting(ledger)
            go_on.set()
            return begun.result(WAIT_SECONDS_MAX), waiting.exception(WAIT_SECONDS_MAX) or waiting.result(20)

    def intend(address: str, **more: Any) -> Any:
        return ledger.erasures.intend([address], reason="subject_request", actor="cli", **more)[0]

    hold, erasure = meet(lambda **more: place(ledger, on(ANNA), **more), lambda: intend(ANNA))
    assert isinstance(hold, UUID)
    assert erasure.state == STATE_HELD
    erasure, refused = meet(lambda **more: intend(BERT, **more), lambda: place(ledger, on(BERT)))
    assert erasure.state == STATE_INTENDED
    assert isinstance(refused, HoldTooLate)
    assert refused.certificate == str(erasure.certificate_id or erasure.erasure_id)


def until_waiting(ledger: Ledger) -> None:
    """Until somebody waits for a row that another transaction has locked."""
    select = b"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'"
    with psycopg.connect(ledger.services.writer.url, autocommit=True) as connection:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not ((found := connection.execute(select).fetchone()) and found[0]):
            assert time.monotonic() < deadline, "Nobody came to wait."
            time.sleep(0.01)


def test_holds_and_erasures_from_two_processes_never_both_happen(ledger: Ledger, instance: Instance) -> None:
    """Given processes that hold and erase the same persons, when both are done, then each person was first one or the
    other: held and the erasure waits, or erased and the hold came too late."""
    people = emails(60)
    willing(ledger, people)
    children = [
        workers.start(erase_each, instance.settings, ledger.tenant, people),
        workers.start(hold_each, instance.settings, ledger.tenant, list(reversed(people))),
    ]
    workers.finish(children)
    living = [address for address in people if ledger.person(address) is not None]
    holders = {address: kids(ledger, address) for address in living}
    held = holding(ledger, [kid for found in holders.values() for kid in found])
    assert set(held) == {kid for found in holders.values() for kid in found}
    assert len(ledger.holds.every()) == len(living)
    told = topics(ledger)
    assert told.count("erasure.postponed.v1") == len(living)
    assert told.count("erasure.intended.v1") == len(people) - len(living)
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def erase_each(settings: Settings, tenant: UUID, people: list[str]) -> None:
    """Ask for one erasure after the other."""
    with running(settings) as instance:
        for address in people:
            instance.ledger(tenant).erasures.intend([address], reason="other", actor="cli")


def hold_each(settings: Settings, tenant: UUID, people: list[str]) -> None:
    """Hold one person after the other; who is erased already cannot be."""
    with running(settings) as instance:
        for address in people:
            with suppress(HoldTooLate):
                place(instance.ledger(tenant), on(address))


# Built again ----------------------------------------------------------------------------------------------------------


def test_the_book_built_from_the_log_is_the_book_that_served(ledger: Ledger, instance: Instance) -> None:
    """Given holds in every state, when their tables are lost or spoilt and built again, then they are as they were."""
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger)
    widened = place(ledger, on(ANNA))
    ledger.holds.widen(widened, target=HoldOn("campaign", campaigns=(campaign,)), actor="cli")
    place(ledger, ACCOUNT)
    place(ledger, HoldOn("period", periods=(Period("usage", "2026-11"),)))
    closed = place(ledger, on(BERT))
    release(ledger, closed)
    finish_holds(ledger)
    release(ledger, place(ledger, on(BERT)))
    assert {row.state for row in ledger.holds.every()} == {"active", "released", "closed"}
    before = [rows(ledger, table) for table in ("legal_hold", "legal_hold_target")]
    assert all(before)
    with ledger.services.writer.transaction() as connection:
        connection.execute("DELETE FROM lethe.legal_hold_target WHERE tenant_id = %s", (ledger.tenant,))
        connection.execute("UPDATE lethe.legal_hold SET account = true WHERE tenant_id = %s", (ledger.tenant,))
    assert rebuild_holds(ledger, instance.rebuilder) == len(topics(ledger))
    assert [rows(ledger, table) for table in ("legal_hold", "legal_hold_target")] == before
