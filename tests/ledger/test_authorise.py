"""May this be sent? Every way the same question can come twice, late, in pieces, or beside somebody else's write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from audit.fsck import require_whole_log
from audit.sends.after_no import check_no_send_after_no
from domain.campaign import CampaignNotOpen
from domain.subject_commands import CorrectContact, Restrict, SayNo
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from ledger.errors import UnknownCampaign
from ledger.links import parse_token
from ledger.subjects import Act
from ledger.suppressing import SuppressionRequest
from tests.acts import add, ask, emails, register, report, say, topics, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT, CARL = "anna@example.com", "bert@example.com", "carl@example.com"


def sends(ledger: Ledger) -> list[str]:
    """The send events of the log, in short."""
    return [topic.split(".")[1] for topic in topics(ledger) if topic.startswith("send.")]


def test_an_allowed_answer_is_repeated_until_it_is_used(ledger: Ledger) -> None:
    """Given an authorisation, when it is asked for again, then the same token comes and nothing is written."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    first = ask(ledger, campaign, [ANNA])
    again = ask(ledger, campaign, [ANNA, "ANNA@EXAMPLE.com "])
    assert again.allowed == {ANNA: first.allowed[ANNA], "ANNA@EXAMPLE.com ": first.allowed[ANNA]}
    assert again.repeated == set(again.allowed)
    assert sends(ledger) == ["authorised"]


def test_after_the_dispatch_it_is_already_sent(ledger: Ledger) -> None:
    """Given a dispatched message, when it is asked for again, then it is refused as already_sent and not recorded."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    report(ledger, [(ask(ledger, campaign, [ANNA]).allowed[ANNA], "dispatched")])
    before = topics(ledger)
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "already_sent"}
    assert topics(ledger) == before
    assert ask(ledger, register(ledger), [ANNA]).allowed


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_the_same_recipient_twice_is_decided_once(ledger: Ledger, chunk: int) -> None:
    """Given a list that names people twice, when it goes in one chunk or several, then each has one decision."""
    willing(ledger, [ANNA, BERT])
    add(ledger, [CARL])
    ledger.authorisations._chunk_recipients = chunk
    asked = ask(ledger, register(ledger), [ANNA, CARL, ANNA, BERT, CARL, BERT, ANNA])
    assert set(asked.allowed) == {ANNA, BERT}
    assert asked.refused == {CARL: "no_consent"}
    assert asked.repeated == {ANNA, BERT}
    assert sorted(sends(ledger)) == ["authorised", "authorised", "refused"]


def test_an_expired_authorisation_is_decided_afresh(ledger: Ledger, clock: SettableClock) -> None:
    """Given an authorisation of yesterday, when it is asked for again, then it is decided and recorded anew."""
    clock.set(clock())
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger)
    first = ask(ledger, campaign, [ANNA, BERT])
    clock.advance(timedelta(hours=23, minutes=59))
    assert ask(ledger, campaign, [ANNA]).repeated == {ANNA}
    clock.advance(timedelta(minutes=2))
    say(ledger, [BERT], "withdraw")
    again = ask(ledger, campaign, [ANNA, BERT])
    assert (again.allowed, again.repeated) == ({ANNA: first.allowed[ANNA]}, set())
    assert again.refused == {BERT: "withdrawn"}
    assert sorted(sends(ledger)) == ["authorised", "authorised", "authorised", "refused"]


NOES: dict[str, Callable[[Ledger], object]] = {
    "withdrawn": lambda ledger: say(ledger, [ANNA], "withdraw"),
    "refused": lambda ledger: say(ledger, [ANNA], "refuse"),
    "objection": lambda ledger: ledger.act(Act(SayNo("objection", "marketing"), address=ANNA)),
    "complaint": lambda ledger: ledger.act(Act(SayNo("complaint", "marketing"), address=ANNA)),
    "restricted": lambda ledger: ledger.act(Act(Restrict(), address=ANNA)),
    "manual": lambda ledger: ledger.suppressions.impose([SuppressionRequest(ANNA, "manual", "all")], actor="cli"),
    "legal": lambda ledger: ledger.suppressions.impose([SuppressionRequest(ANNA, "legal", "marketing")], actor="cli"),
    "erased": lambda ledger: ledger.erasures.intend([ANNA], reason="objection", actor="cli"),
}


@pytest.mark.parametrize("rule", NOES)
def test_a_no_takes_back_what_was_allowed(ledger: Ledger, rule: str) -> None:
    """Given an open authorisation, when a covering "no" comes, then asking again is refused by that rule."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    assert ask(ledger, campaign, [ANNA]).allowed
    NOES[rule](ledger)
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: rule}
    assert check_no_send_after_no(ledger) == []


def test_a_recalled_authorisation_is_not_repeated_after_a_new_grant(ledger: Ledger) -> None:
    """Given a withdrawal and a new grant, when it is asked for again, then it is authorised anew."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    ask(ledger, campaign, [ANNA])
    say(ledger, [ANNA], "withdraw")
    say(ledger, [ANNA], "grant")
    again = ask(ledger, campaign, [ANNA])
    assert (set(again.allowed), again.repeated) == ({ANNA}, set())
    assert sends(ledger) == ["authorised", "authorised"]
    assert check_no_send_after_no(ledger) == []


def test_a_no_of_another_purpose_recalls_nothing(ledger: Ledger) -> None:
    """Given an open authorisation for the newsletter, when offers are withdrawn, then it is repeated as before."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    ask(ledger, campaign, [ANNA])
    say(ledger, [ANNA], "withdraw", purpose="offers")
    assert ask(ledger, campaign, [ANNA]).repeated == {ANNA}


def test_a_refusal_is_decided_afresh_and_recorded_when_it_changes(ledger: Ledger) -> None:
    """Given a refusal, when it is asked again it is written only if its rule changed; a grant makes it allowed."""
    add(ledger, [ANNA])
    campaign = register(ledger)
    for _ in range(3):
        assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "no_consent"}
    say(ledger, [ANNA], "refuse")
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "refused"}
    say(ledger, [ANNA], "grant")
    assert ask(ledger, campaign, [ANNA]).allowed
    assert sends(ledger) == ["refused", "refused", "authorised"]


def test_unknown_recipients_are_only_counted(ledger: Ledger) -> None:
    """Given strangers, suppressed strangers and superseded addresses, when asked for, then only counts stay."""
    willing(ledger, [ANNA, BERT])
    ledger.act(Act(CorrectContact(email="anna.new@example.com"), address=ANNA))
    ledger.suppressions.impose([SuppressionRequest("left@example.org", "unsubscribed", "all")], actor="cli")
    campaign = register(ledger)
    strangers = ["nobody1@example.org", "nobody2@example.org", "left@example.org", ANNA]
    asked = ask(ledger, campaign, [*strangers, BERT, "no address", ""])
    assert asked.refused == {
        "nobody1@example.org": "unknown_recipient",
        "nobody2@example.org": "unknown_recipient",
        "left@example.org": "unsubscribed",
        ANNA: "superseded_address",
    }
    assert [index for index, _ in asked.rejected] == [5, 6]
    last = ledger.log.select_log(1, 1000)[-1]
    assert last.topic == "campaign.recipients_refused.v1"
    assert last.originator_id == campaign
    assert orjson.loads(last.state)["plain"]["counts"] == {
        "unknown_recipient": 2,
        "unsubscribed": 1,
        "superseded_address": 1,
    }
    assert sends(ledger) == ["authorised"]
    assert ask(ledger, campaign, ["anna.new@example.com"]).allowed


# Ongoing campaigns ---------------------------------------------------------------------------------------------------


def test_occurrences_are_messages_of_their_own(ledger: Ledger) -> None:
    """Given an ongoing campaign, when occurrences differ, then each is decided, sent and repeated by itself."""
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger, kind="ongoing")
    first = ask(ledger, campaign, [(ANNA, "order 1")]).allowed[ANNA]
    second = ask(ledger, campaign, [(ANNA, "order 2")]).allowed[ANNA]
    plain = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    other = ask(ledger, campaign, [(BERT, "order 1")]).allowed[BERT]
    assert len({first, second, plain, other}) == 4
    report(ledger, [(first, "dispatched")])
    assert ask(ledger, campaign, [(ANNA, "order 1")]).refused == {ANNA: "already_sent"}
    assert ask(ledger, campaign, [(ANNA, "order 2")]).allowed == {ANNA: second}
    assert ask(ledger, campaign, [ANNA]).allowed == {ANNA: plain}
    both = ask(ledger, campaign, [(ANNA, "order 3"), (ANNA, "order 4"), (ANNA, "order 3")])
    assert both.repeated == {ANNA}
    assert sends(ledger) == ["authorised"] * 6
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_an_ongoing_message_is_found_over_the_end_of_the_month(ledger: Ledger, clock: SettableClock) -> None:
    """Given a message of November's last hour, when it is asked for in December, then it is the same message."""
    clock.set(datetime(2040, 11, 30, 23, 30, tzinfo=UTC))
    willing(ledger, [ANNA, BERT])
    campaign = register(ledger, kind="ongoing")
    november = ask(ledger, campaign, [(ANNA, "order 1"), (BERT, "order 2")]).allowed
    report(ledger, [(november[BERT], "dispatched")], at=clock())
    clock.set(datetime(2040, 12, 1, 0, 30, tzinfo=UTC))
    again = ask(ledger, campaign, [(ANNA, "order 1"), (BERT, "order 2")])
    assert (again.allowed, again.repeated) == ({ANNA: november[ANNA]}, {ANNA})
    assert again.refused == {BERT: "already_sent"}
    december = ask(ledger, campaign, [(ANNA, "order 3")]).allowed[ANNA]
    assert [parse_token(token)[0] for token in (november[ANNA], december)] == ["2040-11", "2040-12"]
    clock.set(datetime(2040, 12, 20, tzinfo=UTC))
    fresh = ask(ledger, campaign, [(ANNA, "order 1")])
    assert (set(fresh.allowed), fresh.repeated) == ({ANNA}, set())
    assert report(ledger, [(november[ANNA], "dispatched"), (december, "delivered")], at=clock()).recorded == 2
    assert check_no_send_after_no(ledger) == []


# Chunks that overlap with other people's writes -----------------------------------------------------------------------


def interfere(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, before_chunk: int, write: Callable[[], object]) -> None:
    """Let somebody else write after a chunk was prepared and before it takes the lock."""
    desk = ledger.authorisations
    real, prepared = desk._settle_unlocked, []

    def prepare(*arguments: Any) -> Any:
        done = real(*arguments)
        prepared.append(done)
        if len(prepared) == before_chunk:
            write()
        return done

    monkeypatch.setattr(desk, "_settle_unlocked", prepare)


@pytest.mark.parametrize("rule", NOES)
def test_a_no_between_reading_and_writing_is_seen(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """Given a chunk prepared while a person was willing, when they say "no" before the lock, then it is refused."""
    people = emails(10)
    willing(ledger, [*people, ANNA])
    campaign = register(ledger)
    ledger.authorisations._chunk_recipients = 4
    interfere(ledger, monkeypatch, 3, lambda: NOES[rule](ledger))
    asked = ask(ledger, campaign, [*people, ANNA])
    assert asked.refused == {ANNA: rule}
    assert set(asked.allowed) == set(people)
    assert check_no_send_after_no(ledger) == []


def test_somebody_elses_authorisation_in_between_is_repeated(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two requests for one campaign, when the other writes first, then this one repeats its answers."""
    people = emails(6)
    willing(ledger, people)
    campaign = register(ledger)
    ledger.authorisations._chunk_recipients = 3
    others: dict[str, str] = {}

    def other() -> None:
        monkeypatch.undo()
        others.update(ask(ledger, campaign, people[3:]).allowed)

    interfere(ledger, monkeypatch, 2, other)
    asked = ask(ledger, campaign, people)
    assert asked.repeated == set(people[3:])
    assert {p: asked.allowed[p] for p in people[3:]} == others
    assert sends(ledger) == ["authorised"] * 6


def test_a_person_who_comes_in_between_is_known(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a chunk prepared with a stranger, when they are added before the lock, then they are decided as known."""
    campaign = register(ledger)
    interfere(ledger, monkeypatch, 1, lambda: willing(ledger, [ANNA]))
    assert set(ask(ledger, campaign, [ANNA]).allowed) == {ANNA}


def test_a_campaign_closed_in_between_authorises_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a prepared chunk, when its campaign is closed before the lock, then nothing of it is recorded."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    interfere(ledger, monkeypatch, 1, lambda: ledger.close_campaign(campaign, actor="cli"))
    with pytest.raises(CampaignNotOpen):
        ask(ledger, campaign, [ANNA])
    assert sends(ledger) == []


def test_a_chunk_that_waited_too_long_is_decided_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, clock: SettableClock
) -> None:
    """Given an implied consent that ends, when the chunk waits for the lock beyond its end, then it is refused."""
    clock.set(datetime(2040, 3, 1, 12, tzinfo=UTC))
    other = ledger.services
    canadian = Ledger(uuid4(), other)
    canadian.open_account(name="Maple", pack="mailkai", country="CA", minimum_age=16, actor="cli")
    add(canadian, [ANNA], country="CA")
    say(canadian, [ANNA], "grant", at=datetime(2039, 9, 1, 12, 30, tzinfo=UTC), basis="implied-inquiry")
    campaign = register(canadian)
    interfere(canadian, monkeypatch, 1, lambda: clock.advance(timedelta(minutes=31)))
    assert ask(canadian, campaign, [ANNA]).refused == {ANNA: "implied_expired"}


# Refusals of the whole request ----------------------------------------------------------------------------------------


def test_a_campaign_that_is_not_there_or_not_open_refuses_the_request(ledger: Ledger, clock: SettableClock) -> None:
    """Given an unknown, foreign, closed or outdated campaign, when it is asked for, then nothing is written."""
    willing(ledger, [ANNA])
    once, ongoing, closed = register(ledger), register(ledger, kind="ongoing"), register(ledger)
    ledger.close_campaign(closed, actor="cli")
    ledger.close_campaign(closed, actor="cli")
    before = topics(ledger)
    foreign = Ledger(uuid4(), ledger.services)
    foreign.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    for campaign, error in (
        (uuid4(), UnknownCampaign),
        (register(foreign), UnknownCampaign),
        (closed, CampaignNotOpen),
    ):
        with pytest.raises(error):
            ask(ledger, campaign, [ANNA])
    clock.advance(timedelta(days=31))
    with pytest.raises(CampaignNotOpen, match="30 days"):
        ask(ledger, once, [ANNA])
    assert topics(ledger) == before
    assert ask(ledger, ongoing, [ANNA]).allowed


def test_an_answer_is_durable_when_it_is_yielded(ledger: Ledger) -> None:
    """Given a long request, when the caller stops after the first answer, then just whole chunks stand in the log."""
    people = emails(30)
    willing(ledger, people)
    campaign = register(ledger)
    ledger.authorisations._chunk_recipients = 10
    recipients = (Recipient(index, address) for index, address in enumerate(people))
    answers = ledger.authorisations.authorise(campaign, recipients, account=ledger.account(), actor="cli")
    first = next(answers)
    written = ledger.log.select_log(first.first, 10)
    assert [event.topic for event in written] == ["send.authorised.v1"] * 10
    answers.close()  # type: ignore[attr-defined]  # A generator, which its type does not promise.
    assert len(sends(ledger)) in (10, 20, 30)
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    assert ask(ledger, campaign, people).repeated >= set(people[:10])


def test_tokens_and_ids_tell_nothing_to_strangers(ledger: Ledger) -> None:
    """Given two campaigns and two people, when tokens are compared, then no two share more than version and month."""
    willing(ledger, [ANNA, BERT])
    tokens = [ask(ledger, register(ledger), [p]).allowed[p] for p in (ANNA, BERT, ANNA, BERT)]
    raws = [parse_token(token)[1] for token in tokens]
    assert len({raw[3:15] for raw in raws}) == len({raw[15:31] for raw in raws}) == 4
    assert {len(token) for token in tokens} == {len(tokens[0])}
    assert UUID(bytes=raws[0][15:31]) != UUID(bytes=raws[2][15:31])
