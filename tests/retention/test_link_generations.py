"""Link generations: a living person's old mail lets go of them while they are mailed on (Mailenium 5.2, FAULTS 14a).

The scene: people came on 10 January 2026, so under a clock of 24 months their link keys are due on 10 January 2028,
and the next generation opens in October 2027 and serves from November on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance
from domain.ids import month_of
from domain.message import MessageClicked
from domain.permission import LINK_EXPIRED
from domain.personal import Engagement, EngagementTechnical, Erased
from ledger import link_generations
from ledger.application import Ledger
from ledger.feedback import MESSAGE_PAST_ITS_TIME, MONTH_PAST_ITS_TIME, FeedbackEvent
from ledger.keys.generations import Generations
from ledger.keys.keyring import CLASSES_OF_MESSAGES, LINK
from ledger.keys.vault import KeyName, Vault
from ledger.links import month_number
from ledger.mapper import Holder
from ledger.standing_row import ALWAYS, NO_KEY, Person
from projections import rebuild_inline
from projections.history import Page, Question, search
from projections.rebuild import rebuild
from projections.standing import InlineStanding
from retention import link_generations as chore
from retention.link_generations import DAYS_BEFORE_DUE_MIN, close_generations, open_due_generations, opens_up_to
from retention.policy.clocks import due_on
from retention.policy.pack import ClassRule, load_pack
from tests.acts import ask, emails, person, register, report, topics, willing
from tests.support import SettableClock

CAME = datetime(2026, 1, 10, 9, tzinfo=UTC)
OCTOBER = datetime(2027, 10, 20, 9, tzinfo=UTC)
NOVEMBER = datetime(2027, 11, 5, 9, tzinfo=UTC)
DUE = datetime(2028, 1, 10, 9, tzinfo=UTC)
PEOPLE = emails(5)
ANNA = PEOPLE[0]
URL = "https://example.com/a/b"


class Killed(Exception):
    """Stands for a process that dies at this point."""


@pytest.fixture(scope="module")
def rule() -> ClassRule:
    """Mailenium's rule of link keys: 24 months after the last engagement."""
    return load_pack("mailenium").rules[LINK]


@pytest.fixture
def ledger(instance: Instance, clock: SettableClock) -> Ledger:
    """An account that was opened when its people came: the time of a log never runs back."""
    clock.set(CAME)
    opened = instance.ledger(uuid4())
    opened.open_account(name="Acme GmbH", pack="mailenium", country="DE", minimum_age=16, actor="cli")
    return opened


@pytest.fixture
def campaign(ledger: Ledger) -> UUID:
    """People who came in January 2026, and an ongoing campaign for them."""
    willing(ledger, PEOPLE)
    return register(ledger, kind="ongoing")


def open_now(ledger: Ledger, rule: ClassRule) -> int:
    return open_due_generations(ledger, rule, ledger.clock().date())


def kid_of(ledger: Ledger, address: str) -> bytes:
    return person(ledger, address).person.kid


def generations(ledger: Ledger, address: str) -> Generations:
    kid = kid_of(ledger, address)
    return ledger.services.vault.generations(ledger.tenant, LINK, [kid])[kid]


def last_on(ledger: Ledger, address: str, retention_class: str, generation: int = 1) -> date | None:
    """The clock of one of a person's keys; None if there is no such key."""
    due = ledger.services.vault.keys_due(ledger.tenant, retention_class, date.max)
    kid = kid_of(ledger, address)
    return next((key.last_on for key in due if (key.holder, key.generation) == (kid, generation)), None)


def destroy(ledger: Ledger, addresses: Iterable[str], generation: int) -> list[tuple[bytes, int]]:
    """What a plan does when a generation is due, but for telling the rows."""
    gone = [(kid_of(ledger, address), generation) for address in addresses]
    names = [KeyName(kid, c, "", generation) for kid, _ in gone for c in CLASSES_OF_MESSAGES]
    ledger.services.vault.destroy_keys(ledger.tenant, names, when=ledger.clock(), cause="test")
    return gone


def click(ledger: Ledger, token: str) -> Any:
    return report(ledger, [(token, "clicked")], at=ledger.clock(), ip="192.0.2.4", url=URL)


def seen(ledger: Ledger, address: str) -> Page:
    return search(ledger, Question(email=address, kinds=("message", "send")), opened=True)


def clicked_urls(ledger: Ledger, address: str) -> list[Any]:
    return [event.personal["url"] for event in seen(ledger, address).events if event.kind == MessageClicked.TOPIC]


def key_rows(ledger: Ledger) -> int:
    """How many keys persons have for their messages."""
    return sum(len(ledger.services.vault.keys_due(ledger.tenant, c, date.max)) for c in CLASSES_OF_MESSAGES)


# When -----------------------------------------------------------------------------------------------------------------


def test_no_month_of_the_old_one_is_near_its_due_day(rule: ClassRule) -> None:
    """Given a chore that runs daily, whenever a key is due, the last month it served ended 62 days before, or more."""
    for offset in range(800):
        due = due_on(rule, date(2026, 1, 1) + timedelta(days=offset))
        today = due - timedelta(days=200)
        while opens_up_to(today) < due:
            today += timedelta(days=1)
        moment = datetime(today.year, today.month, today.day, 23, 59, tzinfo=UTC)
        serves_from = datetime.fromisoformat(f"{link_generations.first_month_after(moment)}-01").date()
        assert (due - serves_from).days >= DAYS_BEFORE_DUE_MIN
        assert (due - serves_from).days <= DAYS_BEFORE_DUE_MIN + 31, "nor is it opened earlier than it must be"


@pytest.mark.store
def test_it_opens_in_the_month_that_is_the_last_that_will_do(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given keys due on 10 January, when the chore runs in September nothing opens, in October all do, once."""
    clock.set(datetime(2027, 9, 29, 9, tzinfo=UTC))
    assert open_now(ledger, rule) == 0
    clock.set(OCTOBER)
    assert open_now(ledger, rule) == len(PEOPLE)
    assert open_now(ledger, rule) == 0
    held = person(ledger, ANNA).person
    assert (held.link_generation, held.link_from) == (2, month_number("2027-11"))
    assert held.link_key_before != NO_KEY != held.link_key


@pytest.mark.store
def test_a_month_that_begins_within_a_day_has_begun(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given the last evening of October, when the chore runs, then what November's first minute prepares is safe."""
    clock.set(datetime(2027, 10, 31, 23, tzinfo=UTC))
    open_now(ledger, rule)
    assert person(ledger, ANNA).person.link_from == month_number("2027-12")


@pytest.mark.store
def test_other_clocks_open_nothing(ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule) -> None:
    """Given Mailkai, whose links go by calendar month, or a rule without an end, when the chore runs, nothing opens."""
    clock.set(DUE)
    assert open_now(ledger, load_pack("mailkai").rules[LINK]) == 0
    assert open_now(ledger, replace(rule, keep=None)) == 0
    assert person(ledger, ANNA).person.link_generation == 1


@pytest.mark.store
def test_who_engages_keeps_the_generation(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given a click in May 2027, when the others' next generation opens, then the reader's does not yet."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    clock.set(datetime(2027, 5, 4, 8, tzinfo=UTC))
    click(ledger, token)
    assert last_on(ledger, ANNA, LINK) == date(2027, 5, 4)
    clock.set(OCTOBER)
    assert open_now(ledger, rule) == len(PEOPLE) - 1
    assert person(ledger, ANNA).person.link_generation == 1


# One link per campaign ------------------------------------------------------------------------------------------------


@pytest.mark.store
def test_nobody_is_sent_one_message_twice_over_the_switch(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given sends of October under the old key, when asked again in November under the new one, they are found."""
    clock.set(OCTOBER)
    once = register(ledger)
    open_now(ledger, rule)
    sent = [*ask(ledger, once, PEOPLE).allowed.values(), *ask(ledger, campaign, PEOPLE).allowed.values()]
    report(ledger, [(token, "dispatched") for token in sent], at=OCTOBER)
    order = ask(ledger, campaign, [(ANNA, "order 1")]).allowed[ANNA]
    report(ledger, [(order, "dispatched")], at=OCTOBER - timedelta(minutes=1))
    clock.set(NOVEMBER)
    again = [ask(ledger, once, PEOPLE), ask(ledger, campaign, PEOPLE), ask(ledger, campaign, [(ANNA, "order 1")])]
    for asked in again:
        assert asked.allowed == {}
        assert set(asked.refused.values()) == {"already_sent"}
    assert ask(ledger, campaign, [(ANNA, "order 2")]).allowed.keys() == {ANNA}


@pytest.mark.store
def test_an_open_answer_is_repeated_over_the_switch(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given an authorisation of the last evening of October, when asked again after midnight, it is the same one."""
    clock.set(OCTOBER)
    open_now(ledger, rule)
    clock.set(datetime(2027, 10, 31, 20, tzinfo=UTC))
    first = ask(ledger, campaign, [ANNA])
    clock.set(datetime(2027, 11, 1, 2, tzinfo=UTC))
    second = ask(ledger, campaign, [ANNA])
    assert second.repeated == {ANNA}
    assert second.allowed == first.allowed


@pytest.mark.store
def test_feedback_and_history_know_which_generation_a_message_is_of(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given a click on an old and on a new message, each is sealed, clocked and opened under its own generation."""
    old = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    clock.set(OCTOBER)
    open_now(ledger, rule)
    clock.set(NOVEMBER)
    new = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    assert click(ledger, old).recorded == click(ledger, new).recorded == 1
    assert clicked_urls(ledger, ANNA) == [URL, URL]
    for retention_class in (Engagement.name, EngagementTechnical.name):
        assert last_on(ledger, ANNA, retention_class) == last_on(ledger, ANNA, retention_class, 2) == NOVEMBER.date()
    clock.set(NOVEMBER + timedelta(days=9))
    click(ledger, new)
    assert last_on(ledger, ANNA, LINK) == last_on(ledger, ANNA, Engagement.name) == NOVEMBER.date()
    assert last_on(ledger, ANNA, LINK, 2) == (NOVEMBER + timedelta(days=9)).date()
    assert last_on(ledger, ANNA, Engagement.name, 2) == (NOVEMBER + timedelta(days=9)).date()


# The clock ------------------------------------------------------------------------------------------------------------


@pytest.mark.store
def test_only_openings_and_clicks_move_the_clock(ledger: Ledger, clock: SettableClock, campaign: UUID) -> None:
    """Given a dispatch, a delivery and a complaint, the clock stands; an opening without any detail moves it."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    clock.set(CAME + timedelta(days=40))
    report(ledger, [(token, "dispatched"), (token, "delivered"), (token, "complained")], at=clock())
    assert last_on(ledger, ANNA, LINK) == CAME.date()
    report(ledger, [(token, "opened")], at=clock())
    assert last_on(ledger, ANNA, LINK) == clock().date()
    assert last_on(ledger, ANNA, Engagement.name) is None, "nothing personal came, so there is no key to keep"
    report(ledger, [(token, "opened")], at=clock() - timedelta(days=3))
    assert last_on(ledger, ANNA, LINK) == clock().date(), "what comes late moves no clock back"


@pytest.mark.store
def test_what_is_refused_at_the_door_moves_no_clock(ledger: Ledger, clock: SettableClock, campaign: UUID) -> None:
    """Given a click of a month whose engagement was destroyed, when it comes, it is dropped, and the clock stands."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    ledger.services.vault.destroy_period(ledger.tenant, Engagement.name, "2026-02", when=clock(), cause="test")
    clock.set(CAME + timedelta(days=40))
    assert len(click(ledger, token).dropped) == 1
    assert last_on(ledger, ANNA, LINK) == CAME.date()
    assert last_on(ledger, PEOPLE[1], LINK) == CAME.date()


@pytest.mark.store
def test_each_persons_clock_is_their_own(ledger: Ledger, clock: SettableClock, campaign: UUID) -> None:
    """Given first clicks of several days in one request, when keys are made, then each starts on its own day."""
    tokens = ask(ledger, campaign, PEOPLE).allowed
    clock.set(CAME + timedelta(days=40))
    told = [
        FeedbackEvent(number, tokens[a], "clicked", clock() - timedelta(days=number), url=URL)
        for number, a in enumerate(PEOPLE)
    ]
    assert sum(answer.recorded for answer in ledger.feedback.take(told, actor="cli")) == len(PEOPLE)
    days = [last_on(ledger, address, Engagement.name) for address in PEOPLE]
    assert days == [(clock() - timedelta(days=number)).date() for number in range(len(PEOPLE))]


@pytest.mark.store
def test_the_vault_is_told_once_a_day(
    ledger: Ledger, clock: SettableClock, campaign: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given many clicks of one day, when they are recorded, then the vault's clocks are written for the first only."""
    tokens = ask(ledger, campaign, PEOPLE).allowed
    told: list[int] = []
    touch = Vault.touch

    def counted(vault: Vault, *args: Any, **more: Any) -> int:
        told.append(touch(vault, *args, **more))
        return told[-1]

    monkeypatch.setattr(Vault, "touch", counted)
    clock.set(CAME + timedelta(days=40))
    for hour in range(3):
        report(ledger, [(tokens[a], "opened") for a in PEOPLE], at=clock() + timedelta(hours=hour - 3), ip="192.0.2.4")
    assert len(told) == len(CLASSES_OF_MESSAGES)
    assert told[0] == len(PEOPLE)
    clock.advance(timedelta(days=1))
    report(ledger, [(tokens[ANNA], "opened")], at=clock(), ip="192.0.2.4")
    assert len(told) == 2 * len(CLASSES_OF_MESSAGES)


@pytest.mark.store
def test_the_clock_moves_before_the_log(
    ledger: Ledger, clock: SettableClock, campaign: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a process that dies before its append, when the clock is looked at, it has moved: never the other way."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    clock.set(CAME + timedelta(days=40))

    def die(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(type(ledger.feedback), "_write", die)
    with pytest.raises(Killed):
        click(ledger, token)
    assert last_on(ledger, ANNA, LINK) == clock().date()
    assert MessageClicked.TOPIC not in topics(ledger)


# After its time -------------------------------------------------------------------------------------------------------


@pytest.fixture
def past(ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule) -> str:
    """Anna's token of January 2026, after the generation it is of was destroyed in January 2028."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    click(ledger, token)
    clock.set(OCTOBER)
    open_now(ledger, rule)
    clock.set(DUE)
    assert close_generations(ledger, destroy(ledger, PEOPLE, 1)) == len(PEOPLE)
    return token


@pytest.mark.store
def test_what_comes_after_its_time_is_dropped_by_name(ledger: Ledger, past: str) -> None:
    """Given a destroyed generation, when its feedback comes, then it is dropped by name, and nothing is made for it."""
    before, keys = len(topics(ledger)), key_rows(ledger)
    kinds = ("dispatched", "delivered", "deferred", "opened", "clicked")
    answer = report(ledger, [(past, kind) for kind in kinds], at=DUE, ip="192.0.2.4", url=URL)
    assert answer.dropped == [(index, MESSAGE_PAST_ITS_TIME) for index in range(len(kinds))]
    assert (answer.recorded, answer.parked) == (0, [])
    assert (len(topics(ledger)), key_rows(ledger)) == (before, keys)
    assert generations(ledger, ANNA).living.keys() == {2}


@pytest.mark.store
@pytest.mark.parametrize(
    ("kind", "rule_then"), [("unsubscribed", "withdrawn"), ("complained", "complaint"), ("bounced", "hard_bounce")]
)
def test_a_no_through_an_old_mail_is_heard(ledger: Ledger, past: str, kind: str, rule_then: str) -> None:
    """Given a destroyed generation, when a living person objects through one of its mails, then it is a "no"."""
    assert report(ledger, [(past, kind)], at=DUE).recorded == 1
    (decision,) = ledger.check([(ANNA, "newsletter", "email")])
    assert (decision.allowed, decision.rule) == (False, rule_then)


@pytest.mark.store
def test_history_shows_nothing_of_what_is_past(ledger: Ledger, clock: SettableClock, campaign: UUID, past: str) -> None:
    """Given a destroyed generation, when the person's history is asked for, only what came later is in it."""
    assert seen(ledger, ANNA).events == []
    new = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    click(ledger, new)
    assert [event.kind for event in seen(ledger, ANNA).events] == ["send.authorised.v1", "message.clicked.v1"]


@pytest.mark.store
def test_what_is_past_opens_as_erased(ledger: Ledger, past: str) -> None:
    """Given a destroyed generation, when somebody who kept the message's id opens it, then its parts are erased."""
    (clicked,) = [e for e in ledger.log.select_log(1, 1000) if e.topic == MessageClicked.TOPIC]
    fact = ledger.sealing.open(clicked, Holder(kid_of(ledger, ANNA), 1))
    assert isinstance(fact, MessageClicked)
    parts: list[object] = [fact.url, fact.ip]
    assert all(isinstance(part, Erased) for part in parts)


@pytest.mark.store
def test_a_month_whose_key_went_is_past_its_time_by_name(ledger: Ledger, clock: SettableClock, campaign: UUID) -> None:
    """Given a destroyed link month, its engagement is dropped by name; a "no" that cannot be matched is shown."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    ledger.services.vault.destroy_period(ledger.tenant, LINK, "2026-01", when=clock(), cause="test")
    ledger.keyring.forget_period(LINK, "2026-01")
    answer = report(ledger, [(token, "clicked"), (token, "unsubscribed")], at=clock())
    assert answer.dropped == [(0, MONTH_PAST_ITS_TIME)]
    assert answer.parked == [(1, MONTH_PAST_ITS_TIME)]


@pytest.mark.store
def test_a_generation_destroyed_while_its_feedback_is_prepared(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given rows read just before the plan destroys, when parts are to be sealed, then the event is dropped by name."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    match = type(ledger.feedback)._match

    def match_and_destroy(*args: Any) -> Any:
        matched = match(*args)
        destroy(ledger, [ANNA], 1)
        return matched

    monkeypatch.setattr(type(ledger.feedback), "_match", match_and_destroy)
    answer = click(ledger, token)
    assert (answer.recorded, answer.dropped) == (0, [(0, MESSAGE_PAST_ITS_TIME)])
    assert MessageClicked.TOPIC not in topics(ledger)


@pytest.mark.store
def test_no_row_of_any_projection_keeps_a_destroyed_key(
    ledger: Ledger, instance: Instance, clock: SettableClock, past: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a generation destroyed while another projection is half built, none of its rows holds the key."""
    for generation in every_generation(ledger):
        for held in persons(ledger, generation):
            assert (held.link_key_before, held.link_from_before) == (NO_KEY, ALWAYS)
            assert held.link_generation == 2


@pytest.mark.store
def test_rows_of_a_rebuild_under_way_are_told_too(
    ledger: Ledger,
    instance: Instance,
    clock: SettableClock,
    campaign: UUID,
    rule: ClassRule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given a rebuild that has written its rows, when generations open and go, then it serves what is true."""
    serve = rebuild_inline.InlineRebuild._serve

    def open_and_close(self: Any, end: int) -> int:
        clock.set(OCTOBER)
        assert open_now(ledger, rule) == len(PEOPLE)
        close_generations(ledger, destroy(ledger, [ANNA], 1))
        return serve(self, end)

    monkeypatch.setattr(rebuild_inline.InlineRebuild, "_serve", open_and_close)
    rebuild(ledger, instance.rebuilder, "standing", grace_seconds=0)
    anna, bert = person(ledger, ANNA).person, person(ledger, PEOPLE[1]).person
    assert (anna.link_generation, anna.link_key_before) == (2, NO_KEY)
    assert bert.link_generation == 2
    assert bert.link_key_before == generations(ledger, PEOPLE[1]).living[1].key


@pytest.mark.store
def test_closing_twice_or_what_was_spared_changes_nothing(
    ledger: Ledger, clock: SettableClock, campaign: UUID, past: str
) -> None:
    """Given a plan that is run again, or that names a key which it spared, when told, then the rows stay."""
    rows = persons(ledger, 1)
    assert close_generations(ledger, [(row.kid, 1) for row in rows] + [(row.kid, 2) for row in rows]) == 0
    assert persons(ledger, 1) == rows


# The chore did not run ------------------------------------------------------------------------------------------------


@pytest.mark.store
def test_the_newest_generation_goes_and_the_next_one_opens(
    ledger: Ledger, clock: SettableClock, campaign: UUID
) -> None:
    """Given a chore that never ran, when the only generation goes, then this month's asks are refused, no more."""
    clock.set(DUE)
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    report(ledger, [(token, "dispatched")], at=DUE)
    gone = destroy(ledger, [ANNA], 1)
    ask(ledger, campaign, PEOPLE)  # Before the rows know: it must not fail.
    assert close_generations(ledger, gone) == 1
    asked = ask(ledger, campaign, PEOPLE)
    assert asked.refused == {ANNA: LINK_EXPIRED}
    assert asked.allowed.keys() == set(PEOPLE[1:])
    clock.set(datetime(2028, 2, 2, 9, tzinfo=UTC))
    assert ask(ledger, campaign, PEOPLE).allowed.keys() == set(PEOPLE)
    held = person(ledger, ANNA).person
    assert (held.link_generation, held.link_key_before) == (2, NO_KEY)


@pytest.mark.store
def test_a_no_outranks_the_missing_link(ledger: Ledger, clock: SettableClock, campaign: UUID) -> None:
    """Given a person without a link who has said "no" as well, when asked for, then the "no" is the answer."""
    token = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    close_generations(ledger, destroy(ledger, [ANNA], 1))
    report(ledger, [(token, "unsubscribed")], at=clock())
    assert ask(ledger, campaign, [ANNA]).refused == {ANNA: "withdrawn"}


# Three generations ----------------------------------------------------------------------------------------------------


@pytest.mark.store
def test_an_old_generation_that_is_kept_alive_is_still_found(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule
) -> None:
    """Given clicks on an old mail for years, when it is two generations back, its feedback still finds it."""
    old = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    clock.set(OCTOBER)
    open_now(ledger, rule)
    clock.set(NOVEMBER)
    middle = ask(ledger, campaign, [ANNA]).allowed[ANNA]
    clock.set(datetime(2028, 12, 1, 9, tzinfo=UTC))
    click(ledger, old)
    clock.set(datetime(2029, 8, 1, 9, tzinfo=UTC))
    assert open_now(ledger, rule) == len(PEOPLE)
    assert person(ledger, ANNA).person.link_generation == 3
    assert click(ledger, old).recorded == click(ledger, middle).recorded == 1
    assert clicked_urls(ledger, ANNA) == [URL] * 3
    # and when the middle one goes, its months are not taken for the old one's
    close_generations(ledger, destroy(ledger, [ANNA], 2))
    assert click(ledger, middle).dropped == [(0, MESSAGE_PAST_ITS_TIME)]
    clock.advance(timedelta(hours=1))
    assert click(ledger, old).recorded == 1
    assert clicked_urls(ledger, ANNA) == [URL] * 3


# Killed ---------------------------------------------------------------------------------------------------------------

STEPS = ("key", "vault", "rows")


def kill_at(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next run die: after the keys were made, after the vault was told, or before the rows are committed."""

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    if step == "key":
        monkeypatch.setattr(link_generations.LinkDesk, "_taken_over", die)
    elif step == "vault":
        monkeypatch.setattr(link_generations.LinkDesk, "_rewrite", die)
    else:
        write = InlineStanding.write

        def write_and_die(*args: Any) -> None:
            write(*args)
            raise Killed

        monkeypatch.setattr(InlineStanding, "write", write_and_die)


@pytest.mark.store
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("months_until_it_runs_again", [0, 1, 3])
def test_killed_while_opening_it_converges(
    ledger: Ledger,
    clock: SettableClock,
    campaign: UUID,
    rule: ClassRule,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    months_until_it_runs_again: int,
) -> None:
    """Given a chore killed anywhere and run again, at once or months later, no message is sent twice in between."""
    clock.set(OCTOBER)
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            open_now(ledger, rule)
    for _ in range(months_until_it_runs_again):
        clock.advance(timedelta(days=31))
    months = dispatched_in(ledger, campaign)
    assert open_now(ledger, rule) == len(PEOPLE)
    assert set(ask(ledger, campaign, PEOPLE).refused.values()) == {"already_sent"}
    held = person(ledger, ANNA).person
    assert held.link_generation == 2
    assert held.link_from > month_number(months)
    assert generations(ledger, ANNA).for_month(months) == (held.link_key_before, 1)
    clock.advance(timedelta(days=31))
    assert set(ask(ledger, campaign, PEOPLE).refused.values()) == {"already_sent"}, "found in the month before"


def dispatched_in(ledger: Ledger, campaign: UUID) -> str:
    """Everybody's message of this month, sent; returns the month."""
    tokens = ask(ledger, campaign, PEOPLE).allowed
    report(ledger, [(token, "dispatched") for token in tokens.values()], at=ledger.clock())
    return month_of(ledger.clock())


@pytest.mark.store
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_closing_it_converges(
    ledger: Ledger, clock: SettableClock, campaign: UUID, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Given closing killed anywhere, when run again, then each has the next generation and no row the old key."""
    clock.set(DUE)
    gone = destroy(ledger, PEOPLE, 1)
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            close_generations(ledger, gone)
    assert close_generations(ledger, gone) == len(PEOPLE)
    for held in persons(ledger, 1):
        assert (held.link_generation, held.link_key_before) == (2, NO_KEY)
    clock.advance(timedelta(days=31))
    assert ask(ledger, campaign, PEOPLE).allowed.keys() == set(PEOPLE)


@pytest.mark.store
def test_batches_of_any_size_do_the_same(
    ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given pages and batches smaller than the people, when opened and closed, then everybody is in one of them."""
    monkeypatch.setattr(link_generations, "PERSONS_PER_APPEND", 2)
    monkeypatch.setattr(chore, "DUE_PER_PAGE", 3)
    keys_due = Vault.keys_due
    monkeypatch.setattr(Vault, "keys_due", lambda *args, **more: keys_due(*args, **more | {"limit": 3}))
    clock.set(OCTOBER)
    assert open_now(ledger, rule) == len(PEOPLE)
    assert {held.link_generation for held in persons(ledger, 1)} == {2}


@pytest.mark.store
def test_the_erased_get_no_generation(ledger: Ledger, clock: SettableClock, campaign: UUID, rule: ClassRule) -> None:
    """Given an intent of erasure, keys gone or not yet, when the chore runs, then it makes nothing for them."""
    kid = kid_of(ledger, ANNA)
    ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")
    clock.set(OCTOBER)
    assert open_now(ledger, rule) == len(PEOPLE) - 1
    assert ledger.services.vault.generations(ledger.tenant, LINK, [kid])[kid].newest == 1
    assert close_generations(ledger, [(kid, 1)]) == 0


# Rebuilding -----------------------------------------------------------------------------------------------------------


def every_generation(ledger: Ledger) -> list[int]:
    with psycopg.connect(ledger.services.writer.url) as connection:
        select = "SELECT DISTINCT generation FROM lethe.standing WHERE tenant_id = %s ORDER BY 1"
        return [row[0] for row in connection.execute(select, (ledger.tenant,))]


def persons(ledger: Ledger, generation: int) -> list[Person]:
    """Everybody in a generation of the inline projection."""
    with ledger.services.writer.transaction() as connection:
        probes = [f for address in PEOPLE for f in ledger.fingerprint.every(address)]
        rows = ledger.services.book.read(connection, ledger.tenant, generation, probes)
    return [rows[f].person for f in sorted(rows)]


def serving(ledger: Ledger) -> list[Person]:
    with ledger.services.writer.transaction() as connection:
        generation = ledger.appender.read_head(connection).generation
    return persons(ledger, generation)


@pytest.mark.store
@pytest.mark.parametrize("rows_are_lost", [False, True])
def test_rebuilt_rows_have_the_generations_of_live_ones(
    ledger: Ledger, instance: Instance, clock: SettableClock, campaign: UUID, rule: ClassRule, rows_are_lost: bool
) -> None:
    """Given people of every kind of link, when rows are built again, even from nothing, they equal the live ones."""
    for step in lives(ledger, clock, rule):
        before = serving(ledger)
        if rows_are_lost:
            with psycopg.connect(ledger.services.writer.url) as connection:
                connection.execute("DELETE FROM lethe.standing WHERE tenant_id = %s", (ledger.tenant,))
        rebuild(ledger, instance.rebuilder, "standing", grace_seconds=0)
        assert serving(ledger) == before, step


def lives(ledger: Ledger, clock: SettableClock, rule: ClassRule) -> Iterable[str]:
    yield "one generation"
    clock.set(OCTOBER)
    close_generations(ledger, destroy(ledger, [PEOPLE[3]], 1))
    yield "one destroyed, and the next opened in its place"
    open_now(ledger, rule)
    yield "two generations"
    clock.set(DUE)
    close_generations(ledger, destroy(ledger, PEOPLE[:2], 1))
    yield "some without the old one"
    clock.set(datetime(2029, 9, 1, 9, tzinfo=UTC))
    open_now(ledger, rule)
    close_generations(ledger, destroy(ledger, [PEOPLE[2]], 2))
    yield "three, some with a gap"


@pytest.mark.store
@pytest.mark.parametrize("step", STEPS)
def test_a_rebuild_does_not_go_ahead_of_what_serves(
    ledger: Ledger,
    instance: Instance,
    clock: SettableClock,
    campaign: UUID,
    rule: ClassRule,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Given a chore killed half-way and months that went on under the old key, a rebuild keeps it, and all is found."""
    clock.set(OCTOBER)
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            open_now(ledger, rule)
    clock.set(NOVEMBER)
    dispatched_in(ledger, campaign)
    rebuild(ledger, instance.rebuilder, "standing", grace_seconds=0)
    assert set(ask(ledger, campaign, PEOPLE).refused.values()) == {"already_sent"}
    assert open_now(ledger, rule) == len(PEOPLE)
    assert set(ask(ledger, campaign, PEOPLE).refused.values()) == {"already_sent"}
