"""Group commit: many single commands share a transaction, and none pays for another's mistake."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

import psycopg
import pytest

from audit.fsck import require_whole_log
from domain.address import InvalidAddress
from domain.scope import InvalidScope
from domain.subject_commands import AddContact, CommandRefused, CorrectContact, LiftByHand, RecordConsent
from ledger.application import Ledger
from ledger.entry import EntryTooLong
from ledger.errors import Unavailable
from ledger.group_commit import GroupCommitter
from ledger.subjects import Act, Outcome
from tests.acts import NEWSLETTER, add, emails, person, topics

WAIT_SECONDS_MAX = 60


class Held:
    """A function that carries acts out, but for the first group only when it is told to."""

    def __init__(self, carry_out: Callable[[Sequence[str]], Sequence[str]]) -> None:
        self.groups: list[list[str]] = []
        self.first, self.release = Event(), Event()
        self._carry_out = carry_out

    def __call__(self, acts: Sequence[str]) -> Sequence[str]:
        self.groups.append(list(acts))
        if len(self.groups) == 1:
            self.first.set()
            assert self.release.wait(WAIT_SECONDS_MAX)
        return self._carry_out(acts)


def submit_together(held: Held, acts: Sequence[str], **options: int) -> dict[str, str | BaseException | None]:
    """Hold the first act back until all others wait, then let them go; answers or errors by act."""
    committer = GroupCommitter[str, str](held, **options)
    with ThreadPoolExecutor(len(acts)) as threads:
        futures: dict[str, Future[str]] = {acts[0]: threads.submit(committer.submit, acts[0])}
        assert held.first.wait(WAIT_SECONDS_MAX)
        for act in acts[1:]:
            futures[act] = threads.submit(committer.submit, act)
        wait_until(lambda: len(committer._waiting) == len(acts) - 1)
        held.release.set()
        return {act: future.exception(WAIT_SECONDS_MAX) or future.result() for act, future in futures.items()}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "The others never came."
        time.sleep(0.005)


def test_acts_that_wait_share_one_group() -> None:
    """Given one act on its way, when nine more come, then they go together, in the order they came."""
    held = Held(lambda acts: [f"done {act}" for act in acts])
    acts = [f"act{n}" for n in range(10)]
    assert submit_together(held, acts) == {act: f"done {act}" for act in acts}
    assert [len(group) for group in held.groups] == [1, 9]


def test_a_group_is_bounded() -> None:
    """Given groups of at most four, when nine wait, then they go as four, four and one."""
    held = Held(list)
    submit_together(held, [f"act{n}" for n in range(10)], group_size_max=4)
    assert [len(group) for group in held.groups] == [1, 4, 4, 1]


@pytest.mark.parametrize("error", [psycopg.errors.DataError("bad"), EntryTooLong("too long")])
def test_an_error_of_one_fails_that_one_alone(error: Exception) -> None:
    """Given a group with one act the database refuses, when it fails, then the members are run one by one."""

    def carry_out(acts: Sequence[str]) -> Sequence[str]:
        if "poison" in acts:
            raise error
        return list(acts)

    held = Held(carry_out)
    answers = submit_together(held, ["first", "good", "poison", "better"])
    assert answers == {"first": "first", "good": "good", "poison": error, "better": "better"}
    assert sorted(map(len, held.groups)) == [1, 1, 1, 1, 3]


def test_a_lost_database_is_not_tried_again() -> None:
    """Given a group whose commit may have gone through, when the database is lost, then nobody is done twice."""

    def carry_out(acts: Sequence[str]) -> Sequence[str]:
        if "first" not in acts:
            raise Unavailable("gone")
        return list(acts)

    held = Held(carry_out)
    answers = submit_together(held, ["first", "second", "third"])
    assert [type(answer) for answer in answers.values()] == [str, Unavailable, Unavailable]
    assert [len(group) for group in held.groups] == [1, 2]


@pytest.mark.store
def test_single_commands_share_a_transaction_and_see_each_other(ledger: Ledger) -> None:
    """Given a lock held by somebody else, when commands pile up, then one transaction does them, each seeing the last.

    The address added twice is added once; what is refused is refused alone; and nothing of the refused is written.
    """
    who, other = emails(2)
    add(ledger, [other])
    acts = [
        Act(AddContact(who), address=who),
        Act(AddContact(who), address=who),
        Act(LiftByHand("all"), address=other),
        Act(CorrectContact(email="not an address"), address=other),
        Act(RecordConsent(NEWSLETTER, "email", "grant"), address="stranger@example.org"),
        Act(RecordConsent("Not A Purpose", "email", "grant"), address=other),
        Act(RecordConsent(NEWSLETTER, "email", "grant"), address=who),
        Act(RecordConsent(NEWSLETTER, "email", "withdraw"), address=who),
    ]
    before = len(topics(ledger))
    with ThreadPoolExecutor(len(acts) + 1) as threads:
        with ledger.appender.locked():
            first = threads.submit(ledger.act, Act(AddContact("first@example.com"), address="first@example.com"))
            wait_until(lambda: ledger._single._led and not ledger._single._waiting)
            futures: list[Future[Outcome]] = []
            for act in acts:
                futures.append(threads.submit(ledger.act, act))
                wait_until(lambda: len(ledger._single._waiting) == len(futures))
        first.result(WAIT_SECONDS_MAX)
        errors = [future.exception(WAIT_SECONDS_MAX) for future in futures]
    assert [type(error) for error in errors if error] == [CommandRefused, InvalidAddress, CommandRefused, InvalidScope]
    assert futures[0].result().facts
    assert not futures[1].result().facts
    assert topics(ledger)[before:] == [
        "contact.added.v1",
        "contact.added.v1",
        "consent.granted.v1",
        "consent.withdrawn.v1",
        "authorisations.recalled.v1",
    ]
    assert person(ledger, who).standing.version == 4
    recorded = {event.recorded_at for event in ledger.log.select_log(before + 2, 100)}
    assert len(recorded) == 1, "The group did not share one transaction."
    require_whole_log(ledger.services.writer.url, ledger.tenant)
