"""Feedback comes twice, late, out of order, for strangers and for the erased; each has one right answer (FAULTS 24)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from domain.facts import opened
from domain.message import MessageClicked, MessageOpened
from domain.personal import EngagementTechnical
from ledger.application import Ledger
from ledger.feedback import ERASED_PERSON, TRACKING_NOT_DISCLOSED, FeedbackEvent, FeedbackKind
from ledger.feedback_events import TOPICS
from ledger.links import parse_token
from ledger.mapper import Holder
from retention.erasure.erasing import finish_erasures
from tests.acts import ask, emails, person, register, report, say, stream_of, topics, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"
MORNING = datetime(2040, 5, 4, 8, tzinfo=UTC)


@pytest.fixture
def token(ledger: Ledger, clock: SettableClock) -> str:
    """The token of a message to Anna, on a morning that stands still."""
    clock.set(MORNING)
    willing(ledger, [ANNA, BERT])
    return ask(ledger, register(ledger), [ANNA]).allowed[ANNA]


def plain_fields_of(ledger: Ledger, topic: str) -> list[dict[str, Any]]:
    events = ledger.log.select_log(1, 10_000, topics=[topic])
    return [orjson.loads(event.state)["plain"] for event in events]


def test_the_same_event_twice_is_recorded_once(ledger: Ledger, token: str) -> None:
    """Given an event with the provider's id, when it comes again, at once or later, then it is dropped."""
    same = {"event_id": "provider-1", "at": MORNING}
    assert report(ledger, [(token, "delivered")] * 3, **same).duplicates == 2
    again = report(ledger, [(token, "delivered")], **same | {"at": MORNING - timedelta(hours=1)})
    assert (again.recorded, again.duplicates) == (0, 1)
    assert report(ledger, [(token, "delivered")], event_id="provider-2", at=MORNING).recorded == 1
    assert topics(ledger).count("message.delivered.v1") == 2


def test_without_a_providers_id_kind_and_time_tell_repeats(ledger: Ledger, token: str) -> None:
    """Given events without ids, when kind, time and link are the same, then they are one; else they are two."""
    report(ledger, [(token, "opened"), (token, "opened")], at=MORNING)
    report(ledger, [(token, "opened")], at=MORNING - timedelta(seconds=1))
    assert topics(ledger).count("message.opened.v1") == 2
    assert [fields["first"] for fields in plain_fields_of(ledger, "message.opened.v1")] == [True, False]


def test_the_same_providers_id_for_two_people_is_two_events(ledger: Ledger, token: str) -> None:
    """A provider's ids are not unique across messages; the keyed hashes differ per person."""
    other = ask(ledger, register(ledger), [BERT]).allowed[BERT]
    assert report(ledger, [(token, "delivered"), (other, "delivered")], event_id="1", at=MORNING).recorded == 2
    tags = {fields["provider_event"] for fields in plain_fields_of(ledger, "message.delivered.v1")}
    assert len(tags) == 2


def test_events_out_of_order_are_all_kept(ledger: Ledger, token: str) -> None:
    """Given a click before the delivery before the dispatch, when they arrive, then all are recorded as they came."""
    for minutes, kind in ((3, "clicked"), (2, "delivered"), (1, "dispatched"), (2, "deferred")):
        assert report(ledger, [(token, kind)], at=MORNING - timedelta(minutes=minutes)).recorded == 1
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_entries_of_feedback_are_as_any_other(ledger: Ledger, token: str) -> None:
    """Given each kind of event from an actor with a strange name, when it is recorded, it is canonical and opens."""
    kinds: list[FeedbackKind] = ["dispatched", "delivered", "deferred", "bounced", "opened", "clicked"]
    about = {"ip": "192.0.2.9", "user_agent": 'Mail "9"', "bounce_type": "soft"}
    told = [
        FeedbackEvent(0, token, kind, MORNING, url="https://example.com/a" if number else None, **about)  # type: ignore[arg-type]  # Only texts.
        for number, kind in enumerate(kinds)
    ]
    strange = 'key:"id":"","stream":"" \\ \u00abid\u00bb'
    assert [answer.recorded for answer in ledger.feedback.take(told, actor=strange)] == [6]
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    holder = Holder(person(ledger, ANNA).kid)
    facts = [ledger.sealing.open(event, holder) for event in ledger.log.select_log(1, 10_000)][-6:]
    assert [fact.TOPIC for fact in facts] == [TOPICS[kind] for kind in kinds]
    assert {fact.actor for fact in facts} == {strange}
    opening, click = facts[-2:]
    assert isinstance(opening, MessageOpened)
    assert isinstance(click, MessageClicked)
    assert (opened(opening.ip), opened(click.user_agent)) == (about["ip"], about["user_agent"])
    assert opened(click.url) == "https://example.com/a"


@pytest.mark.parametrize(
    ("kind", "more", "rule"),
    [
        ("complained", {}, "complaint"),
        ("bounced", {"bounce_type": "hard"}, "hard_bounce"),
        ("bounced", {}, "hard_bounce"),
        ("unsubscribed", {}, "withdrawn"),
    ],
)
def test_a_no_is_not_undone_by_what_comes_late(
    ledger: Ledger, token: str, kind: str, more: dict[str, str], rule: str
) -> None:
    """Given a "no" from a provider, when a late delivery, open or click follows, then the person stays unmailed."""
    assert report(ledger, [(token, kind)], at=MORNING, **more).recorded == 1
    report(ledger, [(token, "delivered"), (token, "opened"), (token, "clicked")], at=MORNING)
    (decision,) = ledger.check([(ANNA, "newsletter", "email")])
    assert (decision.allowed, decision.rule) == (False, rule)
    assert ask(ledger, register(ledger), [ANNA]).refused == {ANNA: rule}
    repeated = report(ledger, [(token, kind)], at=MORNING, **more)
    assert (repeated.recorded, repeated.duplicates) == (0, 1)


def test_a_soft_bounce_is_no_no(ledger: Ledger, token: str) -> None:
    """Given a bounce that may pass, when it is reported, then it stands in the message's stream and mail goes on."""
    assert report(ledger, [(token, "bounced")], bounce_type="soft", at=MORNING).recorded == 1
    assert ledger.check([(ANNA, "newsletter", "email")])[0].allowed
    assert topics(ledger)[-1] == "message.soft_bounced.v1"


def test_a_second_complaint_after_coming_back_counts(ledger: Ledger, token: str, clock: SettableClock) -> None:
    """Given a complaint lifted by a new consent, when the person complains about the same campaign again, it counts."""
    report(ledger, [(token, "complained")], at=MORNING)
    clock.advance(timedelta(days=1))
    say(ledger, [ANNA], "grant")
    assert ledger.check([(ANNA, "newsletter", "email")])[0].allowed
    clock.advance(timedelta(days=1))
    assert report(ledger, [(token, "complained")], at=MORNING).duplicates == 1
    assert ledger.check([(ANNA, "newsletter", "email")])[0].allowed
    assert report(ledger, [(token, "complained")], at=clock()).recorded == 1
    assert ledger.check([(ANNA, "newsletter", "email")])[0].rule == "complaint"


def test_a_second_unsubscription_moves_what_a_grant_must_be_later_than(
    ledger: Ledger, token: str, clock: SettableClock
) -> None:
    """Given two unsubscriptions, when a grant from between them arrives late, then it lifts nothing (I7)."""
    report(ledger, [(token, "unsubscribed")], at=MORNING)
    clock.advance(timedelta(days=2))
    assert report(ledger, [(token, "unsubscribed")], at=clock()).recorded == 1
    (late,) = say(ledger, [ANNA], "grant", at=MORNING + timedelta(days=1))
    assert [getattr(fact, "effective", None) for fact in late.facts] == [False]
    assert not ledger.check([(ANNA, "newsletter", "email")])[0].allowed


def test_openings_and_clicks_need_tracking_to_be_disclosed(ledger: Ledger, clock: SettableClock) -> None:
    """Given a campaign without disclosed tracking, when it is opened and clicked, then that is dropped by name."""
    willing(ledger, [ANNA])
    silent = ask(ledger, register(ledger, tracking_disclosed=False), [ANNA]).allowed[ANNA]
    before = topics(ledger)
    answer = report(ledger, [(silent, "opened"), (silent, "clicked"), (silent, "delivered")], ip="192.0.2.1")
    assert answer.dropped == [(0, TRACKING_NOT_DISCLOSED), (1, TRACKING_NOT_DISCLOSED)]
    assert topics(ledger)[len(before) :] == ["message.delivered.v1"]


def test_what_cannot_be_matched_is_parked(ledger: Ledger, instance: Instance, token: str) -> None:
    """Given made-up, changed and foreign tokens, when feedback names them, then it is parked, not recorded."""
    foreign = instance.ledger(uuid4())
    foreign.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    willing(foreign, [ANNA])
    theirs = ask(foreign, register(foreign), [ANNA]).allowed[ANNA]
    changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    before = topics(ledger)
    bad = ["", "x", "not a token at all", "é" * 95, "A" * len(token), changed, token[:-1], token + token, theirs]
    answer = report(ledger, [(name, "delivered") for name in bad], at=MORNING)
    assert [index for index, _ in answer.parked] == list(range(len(bad)))
    assert all(reason for _, reason in answer.parked)
    assert topics(ledger) == before
    assert topics(foreign)[-1] == "send.authorised.v1"
    held = ledger.feedback.parked(100)
    assert sorted(row["event"]["message_id"] for row in held) == sorted(bad)
    assert foreign.feedback.parked(100) == []


def test_feedback_for_the_erased_is_parked_and_recorded_nowhere(ledger: Ledger, token: str) -> None:
    """Given an erased person, when feedback for their message arrives, a "no" or not, then it is parked, sealed."""
    ledger.erasures.intend([ANNA], reason="other", actor="cli")
    before = topics(ledger)
    answer = report(ledger, [(token, "delivered"), (token, "complained"), (token, "clicked")], at=MORNING)
    assert answer.parked == [(index, ERASED_PERSON) for index in range(3)]
    finish_erasures(ledger)
    assert report(ledger, [(token, "opened")], at=MORNING).parked == [(0, ERASED_PERSON)]
    assert topics(ledger) == [*before, "keys.destroyed.v1"]


def interfere(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, write: Callable[[], object]) -> None:
    """Let somebody else write after the feedback was prepared and before it takes the lock."""
    real = ledger.feedback._prepare

    def prepare(*arguments: Any) -> Any:
        done = real(*arguments)
        write()
        return done

    monkeypatch.setattr(ledger.feedback, "_prepare", prepare)


@pytest.mark.parametrize("kind", ["delivered", "clicked", "complained"])
def test_an_erasure_between_reading_and_writing_fences_the_feedback(
    ledger: Ledger, token: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Given feedback prepared for a living person, when they are erased before the lock, then nothing is recorded."""

    def erase() -> None:
        ledger.erasures.intend([ANNA], reason="other", actor="cli")
        finish_erasures(ledger)

    interfere(ledger, monkeypatch, erase)
    answer = report(ledger, [(token, kind)], at=MORNING, ip="192.0.2.1")
    assert answer.recorded == 0
    assert len(answer.parked) + len(answer.dropped) == 1
    assert not [topic for topic in topics(ledger) if topic.startswith(("message.", "contact.complained"))]


def test_keys_destroyed_while_feedback_is_sealed_do_not_fail_the_rest(
    ledger: Ledger, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given clicks of two people, when one's keys go while the chunk is prepared, then the other's is recorded."""
    other = ask(ledger, register(ledger), [BERT]).allowed[BERT]
    real = ledger.feedback._seal

    def seal(*arguments: Any) -> Any:
        ledger.erasures.intend([ANNA], reason="other", actor="cli")
        finish_erasures(ledger)
        return real(*arguments)

    monkeypatch.setattr(ledger.feedback, "_seal", seal)
    answer = report(ledger, [(token, "clicked"), (other, "clicked")], at=MORNING, ip="192.0.2.1")
    assert (answer.recorded, answer.parked) == (1, [(0, ERASED_PERSON)])


def test_dispatches_that_should_not_have_been_are_findings(ledger: Ledger, clock: SettableClock) -> None:
    """Given recalled, expired and refused sends, when they are dispatched all the same, then each is a finding."""
    clock.set(MORNING)
    people = emails(4)
    willing(ledger, people)
    campaign = register(ledger)
    tokens = ask(ledger, campaign, people).allowed
    report(ledger, [(tokens[people[0]], "dispatched")], at=MORNING + timedelta(minutes=1))
    clock.advance(timedelta(hours=1))
    say(ledger, [people[1]], "withdraw")
    clock.advance(timedelta(hours=1))
    report(ledger, [(tokens[people[1]], "dispatched")], at=clock())
    clock.advance(timedelta(days=1))
    report(ledger, [(tokens[people[2]], "dispatched")], at=clock())
    report(ledger, [(tokens[people[3]], "dispatched")], at=MORNING + timedelta(hours=1))
    findings = [fields.get("finding") for fields in plain_fields_of(ledger, "message.dispatched.v1")]
    assert findings == [None, "dispatched_after_recall", "dispatched_after_expiry", None]


def test_a_dispatch_after_a_refusal_is_a_finding(ledger: Ledger, token: str) -> None:
    """Given a token whose last decision is a refusal, when the message is dispatched, then it had no authorisation."""
    say(ledger, [ANNA], "withdraw")
    campaign = UUID(hex=plain_fields_of(ledger, "send.authorised.v1")[0]["campaign"])
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "withdrawn"}
    report(ledger, [(token, "dispatched")], at=MORNING)
    assert plain_fields_of(ledger, "message.dispatched.v1")[0]["finding"] == "dispatched_without_authorisation"


def test_a_time_from_the_future_is_cut_to_now(ledger: Ledger, token: str) -> None:
    """Given a provider whose clock is ahead, when it reports, then the event is not recorded as later than now."""
    report(ledger, [(token, "delivered")], at=MORNING + timedelta(days=3))
    event = ledger.log.select_log(1, 1000)[-1]
    assert ledger.sealing.open(event).occurred_at == MORNING


def test_engagement_past_its_time_is_dropped_and_makes_no_key(ledger: Ledger, token: str) -> None:
    """Given a month whose technical data is destroyed, when a click of it arrives late, then it alone is dropped."""
    ledger.services.vault.destroy_period(ledger.tenant, EngagementTechnical.name, "2040-02", when=MORNING, cause="time")
    late = datetime(2040, 2, 20, tzinfo=UTC)
    answer = report(ledger, [(token, "clicked")], at=late, ip="192.0.2.1")
    assert (answer.recorded, len(answer.dropped)) == (0, 1)
    assert "2040-02" in answer.dropped[0][1]
    assert report(ledger, [(token, "clicked"), (token, "delivered")], at=MORNING, ip="192.0.2.1").recorded == 2


def test_what_a_person_did_is_sealed_and_their_stream_not_named(ledger: Ledger, token: str) -> None:
    """Given a click, when its event is read, then nothing of it names the person."""
    about = {"ip": "192.0.2.77", "user_agent": "Mail/9", "url": "https://example.com/s3cret"}
    report(ledger, [(token, "clicked")], at=MORNING, **about)
    event = ledger.log.select_log(1, 1000)[-1]
    row = person(ledger, ANNA)
    stored = event.state + (event.sealed or b"")
    for secret in (b"192.0.2.77", b"Mail/9", b"s3cret", b"anna"):
        assert secret not in stored
    for name in (row.person.subject, row.person.kid, row.person.handle, row.fingerprint):
        assert name not in stored
        assert name.hex().encode() not in stored
    assert parse_token(token)[1] not in stored
    assert [fact.TOPIC for fact in stream_of(ledger, row)] == ["contact.added.v1", "consent.granted.v1"]


def test_long_feedback_goes_in_overlapping_chunks(ledger: Ledger, clock: SettableClock) -> None:
    """Given a thousand events about forty messages, when they come in small chunks, then every one is counted once."""
    people = emails(40)
    willing(ledger, people)
    tokens = list(ask(ledger, register(ledger), people).allowed.values())
    ledger.feedback._chunk_events = 7
    events = [(token, kind) for _ in range(4) for kind in ("dispatched", "delivered", "opened") for token in tokens]
    answer = report(ledger, events, at=clock() - timedelta(seconds=5))
    assert (answer.recorded, answer.duplicates) == (120, 360)
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_a_slow_provider_clock_does_not_undo_a_complaint(ledger: Ledger) -> None:
    """Given a complaint dated before the consent by a provider's clock, when it is taken, then no send follows."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    assert report(ledger, [(token, "complained")], at=ledger.clock() - timedelta(days=900)).recorded == 1
    assert ask(ledger, register(ledger), [ANNA]).refused == {ANNA: "complaint"}
