"""The past asked two ways, and past sends decided again under other rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from audit.asof.decision import view_at
from audit.asof.moments import Meaning, Moment, MomentRefused, parse_moment
from audit.asof.replay import Replay, Scope
from domain.law import law_with, rules_on
from domain.law.rules import packaged_texts
from domain.standing import Standing
from domain.subject import ACCOUNT_CLOSURE
from domain.subject_commands import Restrict, SayNo
from ledger.application import Ledger
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from retention.daily import close_suppression_days
from retention.erasure.erasing import finish_erasures
from tests.acts import NEWSLETTER, add, ask, emails, person, plant_send, register, report, say, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

ALWAYS = Scope(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def at(moment: datetime, meaning: Meaning = "recorded") -> Moment:
    return Moment(moment, meaning)


def rule(ledger: Ledger, address: str, moment: Moment) -> str:
    """The rule that would have decided a newsletter at that moment."""
    row = person(ledger, address)
    view = view_at(ledger, UUID(bytes=row.subject), (row.fingerprint,), moment)
    return view.decide(NEWSLETTER, "email", rules_on)[0].rule


def test_a_day_means_its_end_and_a_time_without_a_zone_is_utc() -> None:
    """Given texts, when they are read as moments, then a day counts whole, and nonsense is refused with the form."""
    assert parse_moment("2026-11-21").at == datetime(2026, 11, 21, 23, 59, 59, 999_999, tzinfo=UTC)
    assert parse_moment("2026-11-21T10:00:00").at == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert parse_moment("2026-11-21T10:00:00+02:00").at == datetime(2026, 11, 21, 8, tzinfo=UTC)
    for odd in ("yesterday", "2026-13-01", "21.11.2026", ""):
        with pytest.raises(MomentRefused, match="2026-11-21"):
            parse_moment(odd)


def test_standing_is_what_was_known_then(ledger: Ledger, clock: SettableClock) -> None:
    """Given a grant and a later withdrawal, when each day is asked, then each answers with what was known on it."""
    start = clock()
    add(ledger, ["ada@example.com"], country="DE")
    clock.set(start + timedelta(days=1))
    say(ledger, ["ada@example.com"], "grant")
    clock.set(start + timedelta(days=3))
    say(ledger, ["ada@example.com"], "withdraw")
    days = [rule(ledger, "ada@example.com", at(start + timedelta(days=n, hours=1))) for n in (-1, 0, 1, 2, 3)]
    assert days == ["unknown_recipient", "no_consent", "consent", "consent", "withdrawn"]


def test_what_was_learnt_late_was_true_earlier(ledger: Ledger, clock: SettableClock) -> None:
    """Given a withdrawal that arrived three days late, then it was true from its day on and known from its arrival."""
    start = clock()
    willing(ledger, ["ada@example.com"])
    clock.set(start + timedelta(days=5))
    say(ledger, ["ada@example.com"], "withdraw", at=start + timedelta(days=2))
    between = start + timedelta(days=3)
    assert rule(ledger, "ada@example.com", at(between)) == "consent"
    assert rule(ledger, "ada@example.com", at(between, "occurred")) == "withdrawn"
    assert rule(ledger, "ada@example.com", at(start + timedelta(days=1), "occurred")) == "consent"
    assert rule(ledger, "ada@example.com", at(clock())) == "withdrawn"


def test_a_grant_recorded_before_the_no_it_answers_is_judged_anew(ledger: Ledger, clock: SettableClock) -> None:
    """Given an objection learnt after a later, evidenced grant, then what was true is that the grant lifted it."""
    start = clock()
    add(ledger, ["ada@example.com"], country="DE")
    clock.set(start + timedelta(days=10))
    say(ledger, ["ada@example.com"], "grant", at=start + timedelta(days=8))
    clock.set(start + timedelta(days=12))
    say(ledger, ["ada@example.com"], "withdraw", at=start + timedelta(days=5))
    assert rule(ledger, "ada@example.com", at(clock())) == "withdrawn"
    assert rule(ledger, "ada@example.com", at(start + timedelta(days=6), "occurred")) == "withdrawn"
    assert rule(ledger, "ada@example.com", at(start + timedelta(days=9), "occurred")) == "consent"


def test_the_list_and_the_account_are_those_of_the_day(ledger: Ledger, clock: SettableClock) -> None:
    """Given an imported "no" and a restriction that came and went, then each day answers with its own."""
    start = clock()
    ledger.suppressions.impose([SuppressionRequest("ada@example.com", "manual", "all")], actor="cli")
    clock.set(start + timedelta(days=1))
    ledger.suppressions.lift("ada@example.com", "all", actor="cli")
    clock.set(start + timedelta(days=2))
    willing(ledger, ["ada@example.com"])
    ledger.subjects.act([Act(Restrict(False), address="ada@example.com", actor="cli")])
    clock.set(start + timedelta(days=3))
    ledger.subjects.act([Act(Restrict(True), address="ada@example.com", actor="cli")])
    found = [rule(ledger, "ada@example.com", at(start + timedelta(days=n, hours=1))) for n in (0, 1, 2, 3)]
    assert found == ["manual", "unknown_recipient", "restricted", "consent"]


def test_asking_with_the_present_gives_the_present(ledger: Ledger, clock: SettableClock) -> None:
    """Given persons with all kinds of histories, when now is asked, then the standing is the one that serves."""
    addresses = emails(4)
    willing(ledger, addresses)
    say(ledger, addresses[:1], "withdraw")
    clock.set(clock() + timedelta(hours=1))
    say(ledger, addresses[:2], "grant")
    ledger.suppressions.impose([SuppressionRequest(addresses[2], "complaint", "marketing")], actor="cli")
    for address in addresses:
        row = person(ledger, address)
        view = view_at(ledger, UUID(bytes=row.subject), (row.fingerprint,), at(clock()))
        assert isinstance(view.person.standing, Standing)
        assert view.person.standing.to_row() == row.standing.to_row()
        decided = ledger.check([(address, NEWSLETTER, "email")])[0]
        assert view.decide(NEWSLETTER, "email", rules_on)[0] == decided


# Replay --------------------------------------------------------------------------------------------------------------


def softened() -> str:
    """The law of permissions without Germany's soft opt-in: what somebody finds out to have been wrong."""
    text = packaged_texts()["permission.toml"]
    first = text.index("[[row]]")
    end = text.index("[[row]]", first + 1)
    assert 'regime = "eu"' in text[first:end]
    return text[:first] + text[end:]


def soft_opted(ledger: Ledger, addresses: list[str]) -> None:
    add(ledger, addresses, country="DE")
    say(ledger, addresses, "grant", basis="soft-opt-in")


def test_the_same_rules_change_nothing_and_reproduce_everything(ledger: Ledger, clock: SettableClock) -> None:
    """Given sends, refusals and later changes, when they are replayed under their own rules, nothing differs."""
    addresses = emails(6)
    willing(ledger, addresses[:4])
    soft_opted(ledger, addresses[4:])
    say(ledger, addresses[:1], "withdraw")
    campaign = register(ledger)
    asked = ask(ledger, campaign, [*addresses, "stranger@example.com"])
    assert (len(asked.allowed), len(asked.refused)) == (5, 2)
    clock.set(clock() + timedelta(hours=1))
    say(ledger, addresses[1:3], "withdraw")
    say(ledger, addresses[:1], "grant")
    replay = Replay(ledger, rules_on, ALWAYS)
    assert list(replay.differences()) == []
    replay.count()
    counted = replay.counted
    assert (counted.decided_again, counted.not_reproduced, counted.not_found) == (6, [], 0)


def test_a_wrong_rule_names_every_send_it_let_through(ledger: Ledger, clock: SettableClock) -> None:
    """Given sends on soft opt-in, when the rule is taken away, then exactly these would have been refused."""
    addresses = emails(6)
    willing(ledger, addresses[:3])
    soft_opted(ledger, addresses[3:])
    campaign = register(ledger)
    tokens = ask(ledger, campaign, addresses).allowed
    report(ledger, [(tokens[addresses[3]], "dispatched")])
    other = law_with({"permission.toml": softened()}).on
    replay = Replay(ledger, other, ALWAYS)
    found = list(replay.differences())
    assert {f.subject for f in found} == {UUID(bytes=person(ledger, a).subject) for a in addresses[3:]}
    assert {(f.outcome, f.decision.rule, f.rule) for f in found} == {
        ("would_be_refused", "soft_opt_in", "permission_not_accepted")
    }
    assert sum(f.decision.dispatched_at is not None for f in found) == 1
    assert replay.counted.differences == {"would_be_refused": 3}
    assert {f.rules for f in found} == {other(clock().date()).version} != {rules_on(clock().date()).version}


def test_a_decision_that_its_own_rules_do_not_give_is_named(ledger: Ledger) -> None:
    """Given an authorisation that nobody's rules allowed, when it is replayed, then it is not reproduced."""
    add(ledger, ["ada@example.com"], country="DE")
    campaign = register(ledger)
    ask(ledger, campaign, ["ada@example.com"])
    planted = plant_send(ledger, "ada@example.com", campaign)
    replay = Replay(ledger, rules_on, ALWAYS)
    found = list(replay.differences())
    assert [(f.decision.position, f.outcome) for f in found] == [(planted, "would_be_refused")]
    assert replay.counted.rules_unknown == 1


def test_erased_persons_are_counted_and_not_found(ledger: Ledger) -> None:
    """Given one of three persons erased, when their sends are replayed, then one decision is only counted."""
    addresses = emails(3)
    willing(ledger, addresses)
    ask(ledger, register(ledger), addresses)
    ledger.erasures.intend(addresses[:1], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    replay = Replay(ledger, rules_on, ALWAYS)
    assert list(replay.differences()) == []
    replay.count()
    assert (replay.counted.decided_again, replay.counted.not_found, replay.counted.decisions) == (2, 1, 3)


def test_campaign_and_time_narrow_a_replay(ledger: Ledger, clock: SettableClock) -> None:
    """Given two campaigns on two days, when one or one day is asked for, then only its decisions are made again."""
    willing(ledger, emails(2))
    first = register(ledger)
    ask(ledger, first, emails(2))
    noon = clock() + timedelta(hours=1)
    clock.set(noon + timedelta(hours=1))
    second = register(ledger)
    ask(ledger, second, emails(2))
    for scope in (
        Scope(ALWAYS.start, ALWAYS.end, first),
        Scope(ALWAYS.start, noon),
        Scope(noon, ALWAYS.end, second),
    ):
        replay = Replay(ledger, rules_on, scope)
        assert list(replay.differences()) == []
        replay.count()
        assert (replay.counted.decided_again, replay.counted.decisions) == (2, 2)


def test_standing_between_decisions_moves_with_the_log(ledger: Ledger, clock: SettableClock) -> None:
    """Given a refusal, a grant and an authorisation in one campaign, then each is decided by what stood before it."""
    add(ledger, ["ada@example.com"], country="DE")
    campaign = register(ledger)
    assert ask(ledger, campaign, ["ada@example.com"]).refused
    clock.set(clock() + timedelta(hours=1))
    say(ledger, ["ada@example.com"], "grant")
    assert ask(ledger, campaign, ["ada@example.com"]).allowed
    replay = Replay(ledger, rules_on, ALWAYS)
    assert list(replay.differences()) == []
    replay.count()
    assert (replay.counted.decided_again, replay.counted.not_reproduced) == (2, [])


# Who came back --------------------------------------------------------------------------------------------------------

ERASURES = ("subject_request", ACCOUNT_CLOSURE)


def come_back(ledger: Ledger, clock: SettableClock, reason: str) -> str:
    """Somebody who objected, was erased, and is imported again on the same day; returns the rule that refused them."""
    clock.set(clock())
    willing(ledger, ["ada@example.com"])
    ledger.subjects.act([Act(SayNo("objection", "marketing"), address="ada@example.com", actor="cli")])
    clock.advance(timedelta(seconds=1))
    if reason == ACCOUNT_CLOSURE:
        kid = person(ledger, "ada@example.com").person.kid
        assert ledger.erasures.expire([kid], lambda _, rows: list(rows), batch=uuid4()) == 1
    else:
        ledger.erasures.intend(["ada@example.com"], reason=reason, actor="cli")
    finish_erasures(ledger)
    clock.advance(timedelta(seconds=1))
    add(ledger, ["ada@example.com"], country="DE")
    say(ledger, ["ada@example.com"], "grant", evidence=None, imported=True)
    return ask(ledger, register(ledger), ["ada@example.com"]).refused["ada@example.com"]


@pytest.mark.parametrize("closed", [False, True], ids=["same day", "day closed"])
@pytest.mark.parametrize("reason", ERASURES)
def test_who_came_back_is_refused_as_they_were(ledger: Ledger, clock: SettableClock, reason: str, closed: bool) -> None:
    """Given a return on the day of an erasure, then that day answers as it did, before the list has it and after."""
    refused = come_back(ledger, clock, reason)
    then = clock()
    if closed:
        clock.advance(timedelta(days=1))
        close_suppression_days(ledger, clock())
    assert refused == ("erased" if reason == "subject_request" else "objection")
    assert rule(ledger, "ada@example.com", at(then)) == refused
    assert rule(ledger, "ada@example.com", at(then, "occurred")) == refused


@pytest.mark.parametrize("closed", [False, True], ids=["same day", "day closed"])
@pytest.mark.parametrize("reason", ERASURES)
def test_a_replay_finds_nothing_odd_in_who_came_back(
    ledger: Ledger, clock: SettableClock, reason: str, closed: bool
) -> None:
    """Given a refusal of somebody who came back, when it is replayed, then it follows, and is no false alarm."""
    come_back(ledger, clock, reason)
    if closed:
        clock.advance(timedelta(days=1))
        close_suppression_days(ledger, clock())
    replay = Replay(ledger, rules_on, ALWAYS)
    assert list(replay.differences()) == []
    assert (replay.counted.decided_again, replay.counted.not_reproduced) == (1, [])
