"""Attacks on the records for auditors: the past told wrongly, looks and exports that leave no record, odd words, and
numbers that an independent count from the bare rows of events does not give."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree

import orjson
import psycopg
import pytest

from api.bootstrap import Instance
from api.consent_documents import consent_document
from api.processing import difference_of, record_of
from api.record_forms import FORMS
from audit.asof import past_sends
from audit.asof.decision import view_at
from audit.asof.moments import Meaning, Moment, MomentRefused, parse_moment
from audit.asof.past_sends import PastDecision, campaigns_of, living, past_decisions
from audit.asof.replay import Replay, Scope
from audit.asof.suppressions import read_suppressions
from audit.attacks.links import LinksAttack
from audit.records.difference import difference
from audit.records.model import Finding, RecordsOfProcessing
from audit.records.record import RecordRefused
from audit.trail.export import TrailExport
from audit.trail.section import OPENED_POSITIONS, read, section_of
from domain.access import ExportProduced
from domain.law import rules_on
from domain.records import Record
from domain.register import RegisterRefused, retire
from domain.register_shape import statement
from domain.subject_commands import AddContact, CommandRefused, CorrectContact, RecordConsent, Restrict, SayNo
from ledger import registers
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import KeyDestroyed, UnknownSubject
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from projections.worker import catch_up
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from retention.plans.schedule import run_retention
from tests.acts import EVIDENCE, NEWSLETTER, add, ask, emails, person, register, report, say, topics, willing
from tests.audit.test_processing_records import CONTROLLER, NOW, change, in_order, made, mailed, state
from tests.retention.plans import JANUARY
from tests.support import SettableClock

pytestmark = pytest.mark.store

ADA = "ada@example.com"
NOON = datetime(2040, 3, 10, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALWAYS = Scope(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))

MAILED = "send.authorised.v1", "send.refused.v1"


def rule_at(ledger: Ledger, address: str, moment: datetime, meaning: Meaning = "recorded") -> str:
    """The rule that would have decided a newsletter to this person at a moment."""
    row = person(ledger, address)
    view = view_at(ledger, UUID(bytes=row.subject), (row.fingerprint,), Moment(moment, meaning))
    return view.decide(NEWSLETTER, "email", rules_on)[0].rule


def rule_now(ledger: Ledger, address: str) -> str:
    """The rule that decides a newsletter now."""
    return ledger.check([(address, NEWSLETTER, "email")])[0].rule


def no(ledger: Ledger, address: str, since: datetime | None = None) -> None:
    """Staff suppress a known person by hand."""
    ledger.subjects.act([Act(SayNo("manual", "all", since), address=address, actor="cli")])


def moved(ledger: Ledger, old: str, new: str) -> None:
    """A person's address is corrected."""
    ledger.subjects.act([Act(CorrectContact({}, new), address=old, actor="cli")])


def replayed(ledger: Ledger) -> Replay:
    """A replay under the rules of the day, gone through."""
    replay = Replay(ledger, rules_on, ALWAYS)
    assert list(replay.differences()) == []
    replay.count()
    return replay


def decisions(ledger: Ledger) -> list[PastDecision]:
    """Every decision about a living person."""
    generation, campaigns = campaigns_of(ledger)
    pages = living(ledger, generation)
    return [d for page in pages for _, of_one in past_decisions(ledger, campaigns, page) for d in of_one]


# The past of a person -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_what_was_answered_then_is_told_now(ledger: Ledger, clock: SettableClock, seed: int) -> None:
    """Given histories by chance (words of all kinds and days, lists, corrections, erasures), when every moment is
    asked about again, then the answers are those that were given, and every decision follows from its own rules."""
    chance, now = Random(seed), clock()
    people, campaigns = emails(5, f"p{seed}x"), list[UUID]()
    clock.set(now)
    add(ledger, people[:3], country="DE")
    answered: list[tuple[datetime, UUID, str]] = []
    for _ in range(30):
        now += timedelta(minutes=chance.choice((1, 50, 700, 3_000)))
        clock.set(now)
        _something_happens(ledger, chance, now, people)
        if chance.random() < 0.2:
            campaigns.append(register(ledger, kind=chance.choice(("one-off", "ongoing"))))
        if campaigns:
            ask(ledger, chance.choice(campaigns), people)
        for address in people:
            row = ledger.person(address)
            if row is not None and row.fingerprint == ledger.fingerprint(address):
                answered.append((now, UUID(bytes=row.subject), rule_now(ledger, address)))
    clock.set(now + 2 * DAY)
    run_daily(ledger)
    rows = {UUID(bytes=row.subject): row for row in map(ledger.person, people) if row is not None}
    for moment, subject, rule in answered:
        if subject in rows:
            view = view_at(ledger, subject, (rows[subject].fingerprint,), Moment(moment))
            assert view.decide(NEWSLETTER, "email", rules_on)[0].rule == rule
    counted = replayed(ledger).counted
    assert counted.not_reproduced == []
    assert counted.decided_again > 0
    assert counted.not_found >= 0


def _something_happens(ledger: Ledger, chance: Random, now: datetime, people: list[str]) -> None:
    address, back = chance.choice(people), now - timedelta(hours=chance.choice((0, 0, 1, 30, 300)))
    evidence = chance.choice((EVIDENCE, EVIDENCE, None))
    commands: list[Any] = [
        AddContact(address, {"country": chance.choice(("DE", "US"))}),
        *(RecordConsent(NEWSLETTER, "email", word, back, evidence) for word in ("grant", "grant", "withdraw")),
        *(RecordConsent(NEWSLETTER, "email", word, back, evidence) for word in ("refuse", "request")),
        RecordConsent(NEWSLETTER, "email", "grant", back, EVIDENCE, imported=True),
        RecordConsent(NEWSLETTER, "email", "grant", back, basis="soft-opt-in"),
        RecordConsent(NEWSLETTER, "email", "grant", now + DAY, EVIDENCE),
        *(SayNo(cause, chance.choice(("all", "marketing")), back) for cause in ("manual", "objection", "complaint")),
        SayNo("hard_bounce", "all", back),
        *(Restrict(lift) for lift in (False, True)),
        CorrectContact({}, chance.choice(people)),
        *("impose", "impose", "lift", "lift", "erase"),
    ]
    chosen = chance.choice(commands)
    if chosen == "impose":
        ledger.suppressions.impose([SuppressionRequest(address, "manual", "all", back)], actor="cli")
    elif chosen == "erase" and ledger.person(address) is not None:
        ledger.erasures.intend([address], reason="subject_request", actor="cli")
        finish_erasures(ledger)
    elif chosen == "lift":
        _perhaps(lambda: ledger.suppressions.lift(address, "all", actor="cli"))
    elif chosen != "erase":
        _perhaps(lambda: ledger.subjects.act([Act(chosen, address=address, actor="cli")]))


def _perhaps(act: Any) -> None:
    with suppress(CommandRefused):
        act()


def test_the_list_is_asked_for_the_address_of_the_time(ledger: Ledger, clock: SettableClock) -> None:
    """Given a suppressed address that its person has left since, then at the time it stood against them, and what was
    refused then follows from its own rules."""
    start = clock()
    clock.set(start)
    ledger.suppressions.impose([SuppressionRequest("old@example.com", "manual", "all")], actor="cli")
    clock.set(start + HOUR)
    willing(ledger, ["old@example.com"])
    assert ask(ledger, register(ledger), ["old@example.com"]).refused == {"old@example.com": "manual"}
    clock.set(start + 2 * HOUR)
    moved(ledger, "old@example.com", "new@example.com")
    assert rule_at(ledger, "new@example.com", start + HOUR) == "manual"
    assert rule_at(ledger, "new@example.com", start + 2 * HOUR) == rule_now(ledger, "new@example.com") == "consent"
    counted = replayed(ledger).counted
    assert (counted.decided_again, counted.not_reproduced) == (1, [])


def test_an_imported_no_was_true_from_the_day_that_it_names(ledger: Ledger, clock: SettableClock) -> None:
    """Given a list of today with a "no" of last year, then it was true last year, and nobody knew it here."""
    start = clock()
    request = SuppressionRequest(ADA, "manual", "all", start - 300 * DAY)
    ledger.suppressions.impose([request], actor="cli")
    clock.set(start + HOUR)
    willing(ledger, [ADA])
    assert rule_at(ledger, ADA, start - 200 * DAY, "occurred") == "manual"
    assert rule_at(ledger, ADA, start - 200 * DAY) == "unknown_recipient"
    assert rule_at(ledger, ADA, start - 301 * DAY, "occurred") == "unknown_recipient"


def test_a_grant_from_the_future_never_becomes_true(ledger: Ledger, clock: SettableClock) -> None:
    """Given a grant that was recorded days before it is said to have happened, when its day has passed, then it counts
    in neither meaning."""
    start = clock()
    clock.set(start)
    add(ledger, [ADA], country="DE")
    say(ledger, [ADA], "grant", at=start + 3 * DAY)
    clock.set(start + 5 * DAY)
    assert rule_now(ledger, ADA) == "no_consent"
    assert rule_at(ledger, ADA, clock(), "occurred") == "no_consent"


def test_lifting_does_not_lift_what_is_said_afterwards_of_before(ledger: Ledger, clock: SettableClock) -> None:
    """Given a suppression by hand that was lifted, when staff say later that one stood from an earlier day on, then it
    stands, in both meanings, in the person's stream and on the list."""
    start = clock()
    clock.set(start)
    willing(ledger, [ADA])
    listed = "listed@example.com"
    for days, since in ((0, None), (4, start + DAY)):
        clock.set(start + days * DAY)
        no(ledger, ADA, since)
        ledger.suppressions.impose([SuppressionRequest(listed, "manual", "all", since)], actor="cli")
        if days == 0:
            clock.set(start + 2 * DAY)
            ledger.suppressions.lift(ADA, "all", actor="cli")
            ledger.suppressions.lift(listed, "all", actor="cli")
    willing(ledger, [listed])
    for address in (ADA, listed):
        assert rule_now(ledger, address) == "manual"
        assert rule_at(ledger, address, clock(), "occurred") == "manual"


def test_who_came_back_on_the_day_of_their_erasure_was_erased(ledger: Ledger, clock: SettableClock) -> None:
    """Given somebody who was erased and added again within the hour, when the day is over, then what was refused in
    between is told as it was, although the list's fact is younger."""
    clock.set(NOON)
    willing(ledger, [ADA])
    ledger.erasures.intend([ADA], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    clock.set(NOON + HOUR)
    willing(ledger, [ADA])
    say(ledger, [ADA], "withdraw")
    assert ask(ledger, register(ledger), [ADA]).refused == {ADA: "erased"}
    clock.set(NOON + 2 * DAY)
    run_daily(ledger)
    assert rule_at(ledger, ADA, NOON + HOUR) == "erased"
    assert rule_at(ledger, ADA, NOON - DAY) == "unknown_recipient"
    assert replayed(ledger).counted.not_reproduced == []


def test_one_question_holds_no_more_of_the_list_than_it_asks_for(ledger: Ledger) -> None:
    """Given a long list, when one address is asked about, then the others are not held in memory."""
    listed = emails(50, "listed")
    ledger.suppressions.impose([SuppressionRequest(a, "manual", "all") for a in listed], actor="cli")
    wanted = ledger.fingerprint(listed[7])
    held = read_suppressions(ledger, [wanted])
    asked = Moment(ledger.clock() + HOUR)
    assert [e.cause for e in held.at([wanted], asked, known=False)] == ["manual"]
    assert held.at([ledger.fingerprint(listed[8])], asked, known=False) == []


@pytest.mark.parametrize("odd", ["20261121", "2026-W47-6", "2026W476", "2026-11-21T", "0001-01-01T00:00:00+14:00"])
def test_a_day_in_another_form_is_not_taken_for_another_moment(odd: str) -> None:
    """Given forms that Python reads, and in which a day would be its first instant, then they are refused."""
    with pytest.raises(MomentRefused):
        parse_moment(odd)
    assert parse_moment("9999-12-31").at.year == 9999


# Replay ---------------------------------------------------------------------------------------------------------------


def test_a_dispatch_uses_one_authorisation(ledger: Ledger, clock: SettableClock) -> None:
    """Given an authorisation that expired and a second one on which the message went, then one message went out."""
    start = clock()
    clock.set(start)
    willing(ledger, [ADA])
    campaign = register(ledger)
    ask(ledger, campaign, [ADA])
    clock.set(start + 2 * DAY)
    token = ask(ledger, campaign, [ADA]).allowed[ADA]
    report(ledger, [(token, "dispatched")], at=clock())
    assert [decision.dispatched_at is not None for decision in decisions(ledger)] == [False, True]


def test_occurrences_have_dispatches_of_their_own(ledger: Ledger, clock: SettableClock) -> None:
    """Given two messages of one ongoing campaign to one person, when one went out, then the other did not."""
    willing(ledger, [ADA])
    campaign = register(ledger, kind="ongoing")
    ask(ledger, campaign, [(ADA, "first")])
    token = ask(ledger, campaign, [(ADA, "second")]).allowed[ADA]
    report(ledger, [(token, "dispatched")], at=ledger.clock())
    assert [decision.dispatched_at is not None for decision in decisions(ledger)] == [False, True]


def test_what_is_decided_while_a_replay_runs_is_left_to_the_next(ledger: Ledger, clock: SettableClock) -> None:
    """Given a replay that was counted, when more is decided before it comes to it, then its numbers still agree."""
    willing(ledger, emails(4))
    ask(ledger, register(ledger), emails(2))
    replay = Replay(ledger, rules_on, ALWAYS)
    replay.count()
    ask(ledger, register(ledger), emails(4))
    assert list(replay.differences()) == []
    assert (replay.counted.decisions, replay.counted.decided_again, replay.counted.not_found) == (2, 2, 0)


def test_every_decision_of_the_rows_is_found(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given campaigns of both kinds over a year, an occurrence, and few message ids at once, when decisions are looked
    for, then they are exactly the rows that the log holds of living persons, and the count says the rest."""
    monkeypatch.setattr(past_sends, "PROBES_MAX", 7)
    clock.set(datetime(2026, 11, 30, 23, 59, tzinfo=UTC) if clock() < datetime(2026, 11, 30, tzinfo=UTC) else clock())
    people = emails(6)
    willing(ledger, people)
    ongoing = register(ledger, kind="ongoing")
    for month in range(12):
        ask(ledger, ongoing, [(people[0], f"order {month}"), people[1]])
        ask(ledger, register(ledger), people[month % 3 :])
        clock.advance(31 * DAY)
    ledger.erasures.intend([people[5]], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    in_rows = [e.position for e in ledger.log.select_log(1, 10_000) if e.topic in MAILED]
    found = [decision.position for decision in decisions(ledger)]
    assert len(found) == len(set(found))
    counted = replayed(ledger).counted
    assert counted.decisions == len(in_rows)
    assert counted.not_found == len(in_rows) - len(found) == 12
    assert set(found) < set(in_rows)


# Registers and records of processing ----------------------------------------------------------------------------------


def test_an_entry_that_was_retired_today_is_retired_in_both_meanings(ledger: Ledger, clock: SettableClock) -> None:
    """Given an entry of this noon, when it is retired since this day, which began before it, then it is gone."""
    clock.set(NOW)
    state(ledger, "party", CONTROLLER)
    clock.advance(HOUR)
    ledger.registers.change(lambda held: retire(held, "party", "acme", "mistake"), actor="cli", since=NOW.date())
    for meaning in ("recorded", "occurred"):
        assert made(ledger, meaning=meaning).parties == ()


@pytest.mark.parametrize("seed", range(6))
def test_of_today_both_meanings_tell_the_same_registers(ledger: Ledger, clock: SettableClock, seed: int) -> None:
    """Given statements in any order about any days, when the record is made as of today, then what is true by all that
    is known is what was said last."""
    chance = Random(seed)
    clock.set(NOW)
    for step in range(12):
        clock.advance(timedelta(hours=chance.choice((1, 5, 30))))
        since = chance.choice((None, clock().date(), clock().date() - timedelta(days=chance.randrange(40))))
        held = ledger.registers.state().entry("party", "acme")
        if held is None or not held.in_force:
            state(ledger, "party", CONTROLLER | {"name": f"Acme {step}"}, since=since)
        elif chance.random() < 0.3:
            ended = None if since is None else max(since, held.declared_at.date())  # Nothing ends before it began.
            ledger.registers.change(lambda r: retire(r, "party", "acme", "ended"), actor="cli", since=ended)
        else:
            change(ledger, "party", "acme", since=since, name=f"Acme {step}")
        entry = ledger.registers.state().entry("party", "acme")
        assert entry is not None
        assert entry.declared_at <= entry.changed_at
        recorded, occurred = made(ledger), made(ledger, meaning="occurred")
        assert recorded.parties == occurred.parties
        assert recorded.activities == occurred.activities


def test_a_difference_names_every_part_that_was_amended(ledger: Ledger, clock: SettableClock) -> None:
    """Given an amendment of each part of each kind of entry, then each is a change of its own."""
    clock.set(NOW)
    state(ledger, "safeguard", {"key": "scc-us", "mechanism": "scc", "name": "Clauses", "countries": ["US"]})
    state(ledger, "recipient", {"key": "mailer", "recipient_kind": "partner", "name": "Mailer"})
    state(ledger, "party", CONTROLLER)
    before = made(ledger)
    amended: dict[Any, dict[str, Any]] = {
        "safeguard": {"note": "n", "where": "w", "document_sha256": "ab" * 32},
        "recipient": {"note": "n", "contact": "c", "category": "k", "seen_as": ["sender:*"], "safeguards": ["scc-us"]},
        "party": {"note": "n", "phone": "p", "address": "a", "person": "Ada", "country": "DE"},
    }
    for kind, key in (("safeguard", "scc-us"), ("recipient", "mailer"), ("party", "acme")):
        for name, value in amended[kind].items():
            change(ledger, kind, key, **{name: value})  # type: ignore[arg-type]  # A loop's text.
    changes = difference(before, made(ledger)).changes
    told = Counter(c.register for c in changes if c.what == "amended")
    assert told == {kind: len(parts) for kind, parts in amended.items()}


def test_a_new_policy_is_a_difference(ledger: Ledger, clock: SettableClock) -> None:
    """Given another version of the policy, then the difference says so first."""
    before = made(ledger)
    (found,) = difference(before, made(ledger, version=before.pack_version + 1)).changes
    assert (found.register, found.before, found.after) == ("policy", "mailkai 1", "mailkai 2")


def test_what_only_today_can_tell_is_no_news_of_today(ledger: Ledger, clock: SettableClock) -> None:
    """Given an overdue key and an untrue measure, when yesterday is compared with today, then the key is told only if
    it fell due since, and the measure not at all: yesterday's record could not know it."""
    clock.set(NOW)
    in_order(ledger)
    clock.set(NOW + DAY)
    yesterday, today = made(ledger, NOW.date()), made(ledger)
    due = {"old": NOW.date() - DAY, "new": NOW.date() + DAY}
    more = [_overdue(about, day) for about, day in due.items()]
    more.append(Finding("measure_untrue", "finding", "campaigns", "untrue", "mend"))
    changes = difference(yesterday, _with_findings(today, more)).changes
    assert [(c.part, c.key) for c in changes if c.register == "finding"] == [("overdue_key", "new")]
    both = difference(_with_findings(today, more[:1]), _with_findings(today, more)).changes
    assert [(c.part, c.key) for c in both] == [("measure_untrue", "campaigns"), ("overdue_key", "new")]


def _overdue(about: str, day: date) -> Finding:
    return Finding("overdue_key", "finding", about, "overdue", "destroy", since=day)


def _with_findings(record: RecordsOfProcessing, more: list[Finding]) -> RecordsOfProcessing:
    values = {name: getattr(record, name) for name in RecordsOfProcessing.__dataclass_fields__}
    return RecordsOfProcessing(**values | {"findings": (*record.findings, *more)})


def test_days_in_the_wrong_order_are_refused_before_anything_is_opened(instance: Instance, ledger: Ledger) -> None:
    """Given a later and then an earlier day, then nothing is told backwards, and no look is recorded."""
    state(ledger, "party", CONTROLLER | {"person": "Ada Lovelace"})
    before = topics(ledger)
    today = ledger.clock().date()
    with pytest.raises(RecordRefused) as refused:
        difference_of(instance, ledger, today, today - DAY, meaning="recorded", actor="cli")
    assert refused.value.reason == "wrong_order"
    assert topics(ledger) == before


CATEGORY_OF_TOPIC = {
    **dict.fromkeys(("send", "message"), "link"),
    **dict.fromkeys(("consent", "permission"), "consent"),
    **dict.fromkeys(("objection", "processing"), "suppression"),
}
NOES = ("complained", "hard_bounced", "unsubscribed", "suppressed", "suppression_lifted")


@pytest.mark.parametrize("meaning", ["recorded", "occurred"])
def test_the_numbers_are_those_of_the_bare_rows(
    server: EmbeddedPostgres, ledger: Ledger, clock: SettableClock, meaning: Meaning
) -> None:
    """Given weeks of acts, some dated back, when each day's record is asked for, then every number of it is what a
    count of the rows of events gives that shares no code with it."""
    clock.set(NOW)
    in_order(ledger)
    for week in range(3):
        people = emails(3, f"week{week}x")
        mailed(ledger, people)
        say(ledger, people[:2], "withdraw", at=clock() - timedelta(days=5 * week, hours=13))
        no(ledger, people[1], clock() - DAY)
        consent_like = TrailExport(ledger, section_of(ledger), "csv", opened=True, actor="cli")
        assert list(consent_like.blocks())
        ledger.erasures.intend(people[2:], reason="subject_request", actor="cli")
        finish_erasures(ledger)
        clock.advance(timedelta(days=7, hours=5))
    run_daily(ledger)
    catch_up(ledger)
    for days in range(0, 24, 3):
        day = NOW.date() + timedelta(days=days)
        if day > clock().date():
            continue
        categories, recipients, first_last, last = _counted_by_hand(server, ledger, day, meaning)
        record = made(ledger, day, meaning)
        assert {c.category.code: c.events for c in record.observed.categories} == categories
        assert {r.code: r.events for r in record.observed.recipients} == recipients
        assert {c.category.code: (c.first_on, c.last_on) for c in record.observed.categories} == first_last
        if meaning == "recorded":
            assert record.position == last


def _counted_by_hand(
    server: EmbeddedPostgres, ledger: Ledger, day: date, meaning: str
) -> tuple[dict[str, int], dict[str, int], dict[str, tuple[date, date]], int]:
    categories, recipients = Counter[str](), Counter[str]()
    days: dict[str, list[date]] = {}
    last = 0
    select = b"SELECT position, entry FROM lethe.event WHERE tenant_id = %s ORDER BY position"
    with psycopg.connect(server.url("lethe_ledger")) as superuser:
        rows = superuser.execute(select, (ledger.tenant,)).fetchall()
    for position, raw in rows:
        entry = orjson.loads(bytes(raw))
        happened = date.fromisoformat(entry["occurred_at"][:10])
        counts_on = date.fromisoformat(entry[f"{meaning}_at"][:10])
        if counts_on > day:
            continue
        last = position
        stream, _, name = entry["topic"].removesuffix(".v1").partition(".")
        about = set(entry.get("sealed", ()))
        about |= {CATEGORY_OF_TOPIC[stream]} if stream in CATEGORY_OF_TOPIC else set()
        about |= {"suppression"} if stream == "contact" and name in NOES else set()
        for category in about:
            categories[category] += 1
            days.setdefault(category, []).append(happened)
        if entry["topic"] == "message.dispatched.v1":
            recipients[f"sender:{entry['actor']}"] += 1
        if entry["topic"] == "access.export_produced.v1":
            recipients[f"export:{entry['plain']['kind']}"] += 1
        if "feed" in entry.get("sealed", ()):
            recipients["feed:senders"] += 1
    return dict(categories), dict(recipients), {c: (min(of), max(of)) for c, of in days.items()}, last


@pytest.mark.parametrize("character", list("\x00\x7f\x85\u2028\u202e\u2066\ufffe\U0001ffff\ud800"))
def test_a_word_with_characters_that_are_no_letters_is_refused(character: str) -> None:
    """Given controls, halves of characters, or signs that turn what follows, then the field is named, not its value."""
    with pytest.raises(RegisterRefused) as refused:
        statement("party", CONTROLLER | {"name": f"Acme{character}GmbH"})
    assert refused.value.reason == "control_character"
    assert "Acme" not in str(refused.value)


def test_registers_are_bounded_in_words_and_in_entries(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given an entry longer than twenty pages, or one entry more than registers hold, then it is refused and nothing is
    recorded; what stands there can still be amended and is read in pieces."""
    with pytest.raises(RegisterRefused) as refused:
        statement("activity", {"key": "a", "role": "controller", "name": "A", "purposes": ["x" * 4_000] * 13})
    assert refused.value.reason == "too_long"
    monkeypatch.setattr(registers, "REGISTER_ENTRIES_MAX", 2)
    monkeypatch.setattr(registers, "STATEMENTS_PER_READ", 2)
    state(ledger, "party", CONTROLLER, CONTROLLER | {"key": "second"})
    end = topics(ledger)
    with pytest.raises(RegisterRefused) as refused:
        state(ledger, "party", CONTROLLER | {"key": "third"})
    assert refused.value.reason == "too_many"
    assert topics(ledger) == end
    for number in range(3):
        change(ledger, "party", "acme", name=f"Acme {number}")
    assert [fact.originator_version for fact in ledger.registers.facts()] == [1, 2, 3, 4, 5]


def test_words_of_every_script_and_length_can_be_had_in_every_form(ledger: Ledger, clock: SettableClock) -> None:
    """Given names from right to left, formulas and as many words as an entry takes, then every form can be made, and
    every part of a workbook is XML."""
    clock.set(NOW)
    state(
        ledger,
        "party",
        CONTROLLER | {"name": "\u200fעברית \u200f=1+1", "person": '=HYPERLINK("x")', "note": "🧾" * 4_000},
    )
    words = ["@" + "ж" * 390] * 60
    activity = {"key": "all", "role": "controller", "name": "'=x", "purposes": words, "measures_said": words}
    state(ledger, "activity", activity)
    record = made(ledger)
    for form in FORMS.values():
        content = form.render(record)
        assert content
        if form.suffix == "xlsx":
            with zipfile.ZipFile(io.BytesIO(content)) as book:
                for name in book.namelist():
                    ElementTree.fromstring(book.read(name))  # noqa: S314  Our own file.


def test_an_account_that_has_ended_still_has_its_record(instance: Instance, ledger: Ledger) -> None:
    """Given an account that was terminated, then its record and the words of its persons can still be had."""
    in_order(ledger)
    willing(ledger, [ADA])
    ledger.accounts.terminate(actor="cli")
    assert record_of(instance, ledger, actor="cli").parties
    assert consent_document(instance, ledger, "record", ADA, opened=False, actor="cli").acts == 1


def test_a_closed_account_has_its_record_without_words(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given an account whose time after its end is over, then its record, a replay and an export can still be made:
    codes and counts are there, words are not, and nobody is found by an address."""
    clock.set(JANUARY)
    in_order(ledger)
    willing(ledger, [ADA])
    ask(ledger, register(ledger), [ADA])
    ledger.accounts.terminate(actor="cli")
    clock.set(JANUARY + 120 * DAY)
    run_retention(ledger)
    ledger.keyring.forget_all()
    record = record_of(instance, ledger, actor="cli")
    assert (record.account_name, record.parties[0].name, record.parties[0].erased) == (None, None, True)
    assert record.activities
    for form in FORMS.values():
        assert form.render(record)
    with pytest.raises(KeyDestroyed):
        consent_document(instance, ledger, "record", ADA, opened=True, actor="cli")
    counted = replayed(ledger).counted
    assert (counted.decisions, counted.decided_again, counted.not_found) == (1, 0, 1)
    exported = b"".join(TrailExport(ledger, section_of(ledger), "ndjson", opened=True, actor="cli").blocks())
    assert b"ada@" not in exported
    assert b"Acme" not in exported


def test_one_account_learns_nothing_of_another(instance: Instance, ledger: Ledger) -> None:
    """Given the same address and the ids of another account, when they are asked about, then nothing is there (I10)."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    willing(ledger, [ADA])
    campaign = register(ledger)
    ask(ledger, campaign, [ADA])
    state(ledger, "party", CONTROLLER)
    row = person(ledger, ADA)
    seen = view_at(other, UUID(bytes=row.subject), (row.fingerprint,), Moment(ledger.clock() + DAY))
    assert (seen.person.standing, seen.person.opened) == (None, 0)
    replay = Replay(other, rules_on, Scope(ALWAYS.start, ALWAYS.end, campaign))
    assert (replay.count(), list(replay.differences())) == (0, [])
    assert made(other).parties == ()
    with pytest.raises(UnknownSubject):
        consent_document(instance, other, "record", ADA, opened=True, actor="cli")


STATES = {
    "dpv:ConsentRequested": "requested",
    "dpv:ConsentGiven": "granted",
    "dpv:RenewedConsentGiven": "granted",
    "dpv:ConsentRefused": "refused",
    "dpv:ConsentWithdrawn": "withdrawn",
}


@pytest.mark.parametrize("seed", range(10))
def test_the_last_state_of_a_consent_record_is_what_stands(
    instance: Instance, ledger: Ledger, clock: SettableClock, seed: int
) -> None:
    """Given words of all kinds in any order, late, imported, without evidence or from the future, then the last state
    of the record that is not marked as without effect is what stands, and it says what would be answered now."""
    chance = Random(seed)
    clock.set(clock() + DAY)
    add(ledger, [ADA], country="DE")
    for _ in range(12):
        clock.advance(HOUR)
        word: Any = chance.choice(("request", "grant", "grant", "withdraw", "refuse"))
        at = chance.choice((None, clock() - 30 * HOUR, clock() + HOUR))
        evidence = chance.choice((EVIDENCE, None))
        say(ledger, [ADA], word, at=at, evidence=evidence, imported=chance.random() < 0.2)
        if chance.random() < 0.2:
            no(ledger, ADA)
        if chance.random() < 0.2:
            _perhaps(lambda: say(ledger, [ADA], "grant", basis="soft-opt-in"))
    content = consent_document(instance, ledger, "record", ADA, opened=True, actor="cli").content
    (record,) = orjson.loads(content)["@graph"]
    effective = [status for status in record["dpv:hasConsentStatus"] if "lethe:withoutEffect" not in status]
    held = person(ledger, ADA).standing.permissions.get(f"{NEWSLETTER}|email")
    if held is None:
        assert effective == []
    elif held.basis == "consent":
        last = effective[-1]["@type"]
        assert STATES[last if isinstance(last, str) else last[0]] == held.status
        assert effective[-1]["lethe:position"] == held.position
    assert record["lethe:ruleNow"] == rule_now(ledger, ADA)


# Looks and exports ----------------------------------------------------------------------------------------------------


def test_asking_who_looked_at_what_leaves_a_record(ledger: Ledger) -> None:
    """Given looks by staff, when the trail is exported for these alone, then that is recorded as every export is."""
    ledger.record_view("subject show", subject=None, parts_opened=1, actor="key:1")
    asked = section_of(ledger, kinds=["access"])
    assert list(TrailExport(ledger, asked, "ndjson", opened=False, actor="key:2").blocks())
    assert topics(ledger)[-1] == ExportProduced.TOPIC
    end = len(topics(ledger))
    for actor in ("key:2", "key:3"):
        follows = section_of(ledger, after=asked.last)
        assert list(TrailExport(ledger, follows, "ndjson", opened=True, actor=actor).blocks())
    assert len(topics(ledger)) == end


@pytest.mark.parametrize("topic", [(), ("record", "contact")])
def test_a_window_holds_few_parts_and_only_those_that_are_opened(ledger: Ledger, topic: tuple[str, ...]) -> None:
    """Given records with large contents, when the trail is exported closed, then no sealed part is read at all; where
    parts are opened few are held at once, and both forms have the same events."""
    willing(ledger, [ADA])
    content = {f"field{number}": "x" * 3_000 for number in range(10)}
    ledger.records.take([Record("support", content, "ticket", ADA)] * 250, actor="cli")
    section = section_of(ledger, kinds=topic)
    closed = list(read(ledger, section, opened=False))
    opened = list(read(ledger, section, opened=True))
    assert all(event.sealed is None for window in closed for event in window)
    assert max(map(len, opened)) <= OPENED_POSITIONS < len(closed[0])
    assert [e.position for w in closed for e in w] == [e.position for w in opened for e in w]
    assert [e.state for w in closed for e in w] == [e.state for w in opened for e in w]


# Nothing leads back ---------------------------------------------------------------------------------------------------


def test_no_record_made_about_an_erased_person_leads_to_them(
    server: EmbeddedPostgres, instance: Instance, clock: SettableClock, ledger: Ledger
) -> None:
    """Given consent documents, looks at the past, exports with open parts and counted days of somebody, when they were
    erased and the day and the week are over, then nothing leads from the address, or between what was recorded and
    their events; before, the same program finds it (control)."""
    people = emails(12)
    victim = people[5]
    willing(ledger, people)
    tokens = ask(ledger, register(ledger), people).allowed
    report(ledger, [(tokens[address], "dispatched") for address in people], at=ledger.clock())
    clock.advance(timedelta(minutes=3))
    state(ledger, "party", CONTROLLER | {"person": "Ada Lovelace"})
    row = person(ledger, victim)
    own, mail = UUID(bytes=row.subject), {UUID(str(d.stream)) for d in decisions(ledger)}
    handed_out = set()
    for kind in ("record", "receipt"):
        end = len(topics(ledger))
        consent_document(instance, ledger, kind, victim, opened=True, actor="cli")
        handed_out |= {UUID(str(e.originator_id)) for e in ledger.log.select_log(end + 1, 100)}
    view_at(ledger, own, (row.fingerprint,), Moment(ledger.clock()))
    assert list(TrailExport(ledger, section_of(ledger), "ndjson", opened=True, actor="cli").blocks())
    replayed(ledger)
    catch_up(ledger)
    attack = LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )
    assert own in {lead.stream for lead in attack.leads(victim)}
    (status,) = ledger.erasures.intend([victim], reason="subject_request", actor="cli")
    (outcome,) = finish_erasures(ledger)
    for days in (1, 8):
        clock.advance(timedelta(days=days))
        run_daily(ledger)
        catch_up(ledger)
    assert attack.leads(victim, receipts=[status.erasure_id, outcome.certificate_id]) == []
    assert {lead.stream for lead in attack.leads_from(own)} & (handed_out | mail) == set()
    for stream in handed_out:
        assert own not in {lead.stream for lead in attack.leads_from(stream)}
