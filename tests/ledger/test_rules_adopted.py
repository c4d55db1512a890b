"""The legal rules an account adopts: recorded once, before the first decision by them, whoever decides and when."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import orjson
import pytest

from audit.asof.replay import Replay, Scope
from audit.fsck import require_whole_log
from domain.account import RulesAdopted
from domain.law import RuleSet, law_with, rules_on
from domain.law.rules import packaged_texts
from ledger.accounts import AccountDesk
from ledger.application import Ledger
from ledger.authorise_layout import Recipient
from tests.acts import add, ask, emails, register, say, topics, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store

ADOPTED = RulesAdopted.TOPIC
PEOPLE = emails(4)
ANNA, BERT = PEOPLE[:2]

RulesOn = Callable[[date], RuleSet]


def another_process(ledger: Ledger, rules: RulesOn | None = None) -> Ledger:
    """The same account in a process that has just begun, and may be of another release of the law."""
    return Ledger(ledger.tenant, replace(ledger.services, rules=rules or ledger.services.rules))


def with_text(file: str, old: str, new: str) -> RulesOn:
    """The law of another release, with other words in one of its files."""
    text = packaged_texts()[file]
    assert old in text
    return law_with({file: text.replace(old, new)}).on


def adoptions(ledger: Ledger) -> list[tuple[str, str]]:
    """Version and digest of every adoption, in order of the log."""
    events = ledger.log.select_log(1, 10_000)
    said = [orjson.loads(event.state) for event in events if event.topic == ADOPTED]
    assert all(one["stream"] == ledger.tenant.hex for one in said)
    return [(one["plain"]["rules_version"], one["plain"]["digest"]) for one in said]


def words_of(ledger: Ledger, rules: RulesOn = rules_on) -> tuple[str, str]:
    """Version and digest of today's rules."""
    today = rules(ledger.clock().date())
    return today.version, today.digest


def decisions(ledger: Ledger, start: int = 1) -> list[str]:
    """Adoptions and decisions of the log, in short and in order."""
    return [topic for topic in topics(ledger, start=start) if topic == ADOPTED or topic.startswith("send.")]


def test_the_rules_are_adopted_before_the_first_decision_and_once(ledger: Ledger) -> None:
    """Given an account that was opened before anybody adopted rules, when it decides, then the adoption stands right
    in front of its first decision, and neither a later one nor another process adds any."""
    willing(ledger, PEOPLE)
    assert adoptions(ledger) == []
    ask(ledger, register(ledger), [ANNA, BERT])
    assert decisions(ledger) == [ADOPTED, "send.authorised.v1", "send.authorised.v1"]
    ask(ledger, register(ledger), [ANNA])
    ask(another_process(ledger), register(ledger), PEOPLE)
    assert adoptions(ledger) == [words_of(ledger)]
    assert ledger.accounts.state().rules_adopted == {words_of(ledger)}
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_a_refusal_that_is_recorded_adopts_as_well(ledger: Ledger) -> None:
    """Given a contact that never agreed, when its send is refused by a rule, then its law was adopted before."""
    add(ledger, [ANNA], country="DE")
    assert ask(ledger, register(ledger), [ANNA]).refused == {ANNA: "no_consent"}
    assert decisions(ledger) == [ADOPTED, "send.refused.v1"]


def test_what_records_no_decision_adopts_nothing(ledger: Ledger) -> None:
    """Given strangers, a question and a replay under other rules, then no rules are adopted for them."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    ask(ledger, campaign, ["stranger@example.com", "no address"])
    ledger.check([(ANNA, "newsletter", "email")])
    assert adoptions(ledger) == []
    ask(ledger, campaign, [ANNA])
    other = with_text("permission.toml", "valid_months = 24", "valid_months = 12")
    day = ledger.clock()
    before = topics(ledger)
    replay = Replay(ledger, other, Scope(day - timedelta(days=1), day + timedelta(days=1)))
    assert list(replay.differences()) == []
    replay.count()
    assert replay.counted.decided_again == 1
    assert topics(ledger) == before


def test_the_answer_names_the_positions_of_its_decisions(ledger: Ledger) -> None:
    """Given a first request, then the positions that it is answered are those of decisions, not of the adoption."""
    willing(ledger, PEOPLE)
    recipients = (Recipient(index, email) for index, email in enumerate(PEOPLE))
    desk = ledger.authorisations
    (answer,) = desk.authorise(register(ledger), recipients, account=ledger.account(), actor="cli")
    found = [event.topic for event in ledger.log.select_log(answer.first, 100)]
    assert found == ["send.authorised.v1"] * len(PEOPLE)
    assert (answer.last - answer.first, topics(ledger)[answer.first - 2]) == (len(PEOPLE) - 1, ADOPTED)


def test_two_processes_at_once_adopt_once(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two processes that have both prepared a first chunk, when both write, then one adoption is in the log, in
    front of all decisions."""
    willing(ledger, PEOPLE)
    campaigns = [register(ledger), register(ledger)]
    both, ready = [another_process(ledger), another_process(ledger)], Barrier(2)

    def behind_the_other(one: Ledger) -> Callable[..., Any]:
        write = one.authorisations._write_new

        def waiting(*arguments: Any) -> Any:
            ready.wait(60)
            return write(*arguments)

        return waiting

    for one in both:
        monkeypatch.setattr(one.authorisations, "_write_new", behind_the_other(one))
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask, one, campaign, PEOPLE) for one, campaign in zip(both, campaigns, strict=True)]
        assert all(set(one.result(60).allowed) == set(PEOPLE) for one in asked)
    assert decisions(ledger) == [ADOPTED] + ["send.authorised.v1"] * 2 * len(PEOPLE)
    require_whole_log(ledger.services.writer.url, ledger.tenant)


def test_rules_that_change_at_midnight_are_adopted_behind_it(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a law that changes at midnight, when a chunk is prepared before it and written after, in the same process,
    then it is decided again by the new rules, and they are adopted in front of it."""
    clock.set(clock().replace(hour=12, minute=0))
    changed, first_day = with_text("permission.toml", "valid_months = 24", "valid_months = 12"), clock().date()
    process = another_process(ledger, lambda day: rules_on(day) if day <= first_day else changed(day))
    willing(ledger, PEOPLE)
    ask(process, register(ledger), [ANNA])
    desk, campaign = process.authorisations, register(ledger)
    write = desk._write_new

    def after_midnight(*arguments: Any) -> Any:
        clock.advance(timedelta(days=1))
        return write(*arguments)

    monkeypatch.setattr(desk, "_write_new", after_midnight)
    ask(process, campaign, [BERT])
    days = [rules_on(first_day), changed(clock().date())]
    assert adoptions(ledger) == [(rules.version, rules.digest) for rules in days]
    assert decisions(ledger) == [ADOPTED, "send.authorised.v1"] * 2
    decided = [orjson.loads(e.state)["rules"] for e in ledger.log.select_log(1, 1_000) if e.topic.startswith("send.")]
    assert decided == [rules.version for rules in days]


def test_a_release_that_mends_a_note_adopts_the_version_again(ledger: Ledger) -> None:
    """Given a release with a better note, then the version keeps its name and is adopted once more with its digest;
    and while both releases run side by side, neither adopts it a second time."""
    mended = with_text("regimes.toml", "No prior consent;", "No prior consent at all;")
    willing(ledger, PEOPLE)
    later = another_process(ledger, mended)
    for process in (ledger, later, ledger, later, another_process(ledger), another_process(ledger, mended)):
        ask(process, register(ledger), [ANNA])
    before, after = adoptions(ledger)
    assert (before, after) == (words_of(ledger), words_of(ledger, mended))
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_an_adoption_that_was_rolled_back_is_made_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a first chunk that fails after its adoption was written, then the next one adopts: what did not commit is
    not believed."""
    willing(ledger, [ANNA])
    campaign = register(ledger)

    def broken(*_: Any) -> None:
        raise OSError("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(ledger.parts, "save", broken)
        with pytest.raises(OSError, match="disk"):
            ask(ledger, campaign, [ANNA])
    assert decisions(ledger) == []
    ask(ledger, campaign, [ANNA])
    assert decisions(ledger) == [ADOPTED, "send.authorised.v1"]


def test_only_the_first_chunk_reads_the_account(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given many chunks, then the account is read for the first one only: the others look into a set."""
    read: list[UUID] = []
    adopt = AccountDesk.adopt_rules

    def counted(self: AccountDesk, *arguments: Any, **named: Any) -> None:
        read.append(ledger.tenant)
        adopt(self, *arguments, **named)

    monkeypatch.setattr(AccountDesk, "adopt_rules", counted)
    willing(ledger, PEOPLE)
    ledger.authorisations._chunk_recipients = 1
    assert len(ask(ledger, register(ledger), PEOPLE).allowed) == len(PEOPLE)
    assert len(read) == 1
    ask(ledger, register(ledger), PEOPLE)
    assert len(read) == 1


def test_an_account_that_ended_still_says_by_what_it_refused(ledger: Ledger) -> None:
    """Given a terminated account, when a send is refused for it, then its rules are adopted and it stays terminated."""
    willing(ledger, [ANNA])
    campaign = register(ledger)
    ledger.accounts.terminate(actor="cli")
    assert set(ask(ledger, campaign, [ANNA]).refused.values()) == {"account_terminated"}
    assert decisions(ledger) == [ADOPTED, "send.refused.v1"]
    assert ledger.accounts.state().status == "terminated"
    assert ledger.accounts.reactivate(actor="cli").rules_adopted == {words_of(ledger)}
    say(ledger, [ANNA], "grant")
