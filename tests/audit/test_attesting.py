"""Asking witnesses about what was published: never in the way of publishing, and shown where it fails (FAULTS 19)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest

from api.bootstrap import Instance, make_work
from audit.log.attempts import DONE, RETRY_SECONDS_MAX, Attempt, attempts
from audit.log.attesting import ask_witnesses
from audit.log.calls import Caller
from audit.log.rounds import Rounds
from audit.log.served import Served, served
from audit.log.witness_policy import WitnessPolicy
from audit.verify.checkpoint import open_checkpoint
from ledger.application import Ledger
from projections.alone import alone
from tests.audit.publishing import grow, keys_of, publish
from tests.support import SettableClock
from tests.witness import Reply, Witness, running_witness

POST = Caller()
SECONDS_MAX = 60.0
"""After so long without a cosignature, the test fails; it takes about two."""


@pytest.fixture
def running(clock: SettableClock) -> Iterator[running_witness]:
    """A witness that listens, on the ledger's clock."""
    with running_witness(Witness("witness.example/1", b"1" * 32, now=lambda: clock().timestamp())) as up:
        yield up


@pytest.fixture
def second(clock: SettableClock) -> Iterator[running_witness]:
    """Another one."""
    with running_witness(Witness("witness.example/2", b"2" * 32, now=lambda: clock().timestamp())) as up:
        yield up


def know(instance: Instance, ledger: Ledger, *ups: running_witness) -> None:
    """Publish, and let witnesses know the log."""
    checkpoint = publish(instance, ledger)
    for up in ups:
        up.witness.trust(checkpoint.origin, map(str, keys_of(instance, ledger)))


def tried(instance: Instance, ledger: Ledger) -> list[Attempt]:
    """What came of asking."""
    with instance.services.writer.connection() as connection:
        return list(attempts(connection, ledger.tenant, 1))


def shown(instance: Instance, ledger: Ledger, policy: WitnessPolicy) -> Served:
    """What is served under a policy."""
    with instance.services.writer.connection() as connection:
        found = served(connection, ledger.tenant, policy)
    assert found is not None
    return found


def test_what_a_witness_signed_is_served_with_the_checkpoint(
    instance: Instance, ledger: Ledger, running: running_witness
) -> None:
    """Given a witness, when it was asked, then the served note verifies with its cosignature, and it is asked once."""
    know(instance, ledger, running)
    policy = WitnessPolicy.parse([running.line], 1)
    assert ask_witnesses(ledger, policy, POST) == 1
    found = shown(instance, ledger, policy)
    open_checkpoint(found.note.encode(), keys_of(instance, ledger), witnesses=[running.witness.key], witnesses_needed=1)
    assert ask_witnesses(ledger, policy, POST) == 0
    assert [(a.asked, a.outcome, a.size) for a in tried(instance, ledger)] == [
        (str(running.witness.key), DONE, found.checkpoint.size)
    ]


def test_each_new_checkpoint_is_shown_with_a_proof_from_the_last(
    instance: Instance, ledger: Ledger, running: running_witness
) -> None:
    """Given a log that grows over several tiles, then the witness accepts every proof at the first try."""
    know(instance, ledger, running)
    policy = WitnessPolicy.parse([running.line], 1)
    for count in (1, 2, 250, 3, 40):
        grow(ledger, count)
        checkpoint = publish(instance, ledger)
        assert ask_witnesses(ledger, policy, POST) == 1
        assert shown(instance, ledger, policy).checkpoint == checkpoint
    assert len(running.witness.asked) == 5
    assert all(body.startswith(b"old ") for body in running.witness.asked)


def test_a_witness_that_is_down_delays_what_is_served_and_nothing_else(
    instance: Instance, ledger: Ledger, clock: SettableClock, running: running_witness
) -> None:
    """Given a needed witness that is down, then publishing goes on, what is served stands, and the status says since.

    When it answers again, then the newest checkpoint is served.
    """
    know(instance, ledger, running)
    policy = WitnessPolicy.parse([running.line], 1)
    ask_witnesses(ledger, policy, POST)
    before = shown(instance, ledger, policy).checkpoint
    since = clock()
    clock.set(since)
    running.witness.misbehave = lambda _: Reply(503)
    grow(ledger, 3)
    newest = publish(instance, ledger)
    assert ask_witnesses(ledger, policy, POST) == 0
    assert newest.size == before.size + 3
    assert shown(instance, ledger, policy).checkpoint == before
    assert shown(instance, ledger, WitnessPolicy()).checkpoint == newest
    clock.advance(timedelta(minutes=1))
    ask_witnesses(ledger, policy, POST)
    (attempt,) = tried(instance, ledger)
    assert (attempt.failing_since, attempt.size) == (since, newest.size)
    assert "503" in attempt.outcome
    running.witness.misbehave = lambda _: None
    clock.advance(timedelta(minutes=2))
    assert ask_witnesses(ledger, policy, POST) == 1
    assert shown(instance, ledger, policy).checkpoint == newest
    assert tried(instance, ledger)[0].failing_since is None


def test_who_fails_is_asked_ever_more_rarely(
    instance: Instance, ledger: Ledger, clock: SettableClock, running: running_witness
) -> None:
    """Given a witness that is down for a day, then it is asked a few hundred times, and at least each six minutes."""
    clock.set(clock())
    know(instance, ledger)
    running.witness.misbehave = lambda _: Reply(500)
    policy = WitnessPolicy.parse([running.line], 1)
    asked_at = []
    for _ in range(24 * 60):
        before = len(running.witness.asked)
        ask_witnesses(ledger, policy, POST)
        if len(running.witness.asked) > before:
            asked_at.append(clock())
        clock.advance(timedelta(minutes=1))
    assert 24 * 10 < len(asked_at) < 24 * 15
    assert max(b - a for a, b in pairwise(asked_at)) <= timedelta(seconds=RETRY_SECONDS_MAX, minutes=1)


def test_who_failed_while_the_clock_was_ahead_is_asked_again(
    instance: Instance, ledger: Ledger, clock: SettableClock, running: running_witness
) -> None:
    """Given a witness that failed while our clock was a year ahead, when the clock is right again, then it is asked."""
    now = clock()
    clock.set(now + timedelta(days=365))
    policy = WitnessPolicy.parse([running.line], 1)
    publish(instance, ledger)
    assert ask_witnesses(ledger, policy, POST) == 0  # It does not know the log yet.
    clock.set(now)
    know(instance, ledger, running)
    assert ask_witnesses(ledger, policy, POST) == 1


def test_a_policy_of_two_serves_what_both_signed(
    instance: Instance, ledger: Ledger, running: running_witness, second: running_witness
) -> None:
    """Given two needed witnesses of which one lags, then the newest checkpoint that both signed is served."""
    know(instance, ledger, running, second)
    policy = WitnessPolicy.parse([running.line, second.line], 2)
    assert ask_witnesses(ledger, policy, POST) == 2
    both = shown(instance, ledger, policy).checkpoint
    second.witness.misbehave = lambda _: Reply(500)
    for _ in range(3):
        grow(ledger)
        publish(instance, ledger)
        assert ask_witnesses(ledger, policy, POST) <= 1
    assert shown(instance, ledger, policy).checkpoint == both
    assert shown(instance, ledger, policy).cosigned == 2
    one = WitnessPolicy.parse([running.line, second.line], 1)
    assert shown(instance, ledger, one).checkpoint.size > both.size


def test_cosignatures_of_a_witness_that_is_not_trusted_any_more_do_not_count(
    instance: Instance, ledger: Ledger, running: running_witness, second: running_witness
) -> None:
    """Given a checkpoint cosigned by one witness, when the policy names another one, then it is not served."""
    know(instance, ledger, running, second)
    ask_witnesses(ledger, WitnessPolicy.parse([running.line], 1), POST)
    other = WitnessPolicy.parse([second.line], 1)
    with instance.services.writer.connection() as connection:
        assert served(connection, ledger.tenant, other) is None
    assert running.witness.key.name not in shown(instance, ledger, WitnessPolicy.parse([second.line], 0)).note


def test_many_cosignatures_of_others_are_paged_over(
    instance: Instance, ledger: Ledger, running: running_witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more cosignatures after the last sufficient checkpoint than a page holds, then that one is still found."""
    know(instance, ledger, running)
    policy = WitnessPolicy.parse([running.line], 1)
    ask_witnesses(ledger, policy, POST)
    first = shown(instance, ledger, policy).checkpoint
    with instance.services.writer.transaction() as connection:
        for size in range(first.size + 1, first.size + 8):
            connection.execute(
                "INSERT INTO log_cosignature SELECT %s, 1, %s, 'other' || n, 'x', now() FROM generate_series(1, 3) n",
                (ledger.tenant, size),
            )
    for page in (1, 2, 3, 4, 5, 256):
        monkeypatch.setattr("audit.log.served.COSIGNATURES_PER_PAGE", page)
        assert shown(instance, ledger, policy).checkpoint == first


def test_one_worker_goes_round_and_a_failing_account_stops_no_other(
    instance: Instance, ledger: Ledger, running: running_witness
) -> None:
    """Given another worker at it, then nothing is asked; given an account that fails, then the others are asked."""
    know(instance, ledger, running)
    seen = []

    def ask(one: Ledger) -> None:
        seen.append(one.tenant)
        raise ValueError("boom")

    rounds = Rounds("witnesses", instance.services.writer, instance.ledger, ask)
    with alone(instance.services.writer, "log witnesses"):
        assert rounds.once() is False
    assert seen == []
    assert rounds.once() is True
    assert ledger.tenant in seen
    assert len(seen) == len(set(seen))


def test_a_worker_publishes_and_has_it_cosigned(
    own_instance: Instance, own_ledger: Ledger, running: running_witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a worker's threads, when something is recorded, then it is published and cosigned with nobody asking."""
    know(own_instance, own_ledger, running)
    policy = WitnessPolicy.parse([running.line], 1)
    monkeypatch.setattr(own_instance, "witnesses", policy)
    stop, found = threading.Event(), None
    work = make_work(own_instance)
    threads = [threading.Thread(target=work[name], args=(stop,)) for name in ("sequencer", "witnesses")]
    for thread in threads:
        thread.start()
    try:
        grow(own_ledger, 3)
        end = own_ledger.log.max_notification_id() or 0
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            with own_instance.services.writer.connection() as connection:
                found = served(connection, own_ledger.tenant, policy)
            if found is not None and found.checkpoint.size >= end:
                break
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found is not None
    assert (found.checkpoint.size, found.cosigned) == (end, 1)


def test_another_history_at_a_witness_is_noted_as_an_incident(
    instance: Instance, ledger: Ledger, running: running_witness
) -> None:
    """Given a witness that holds more than was published here, as after a restore, then that is noted as such."""
    know(instance, ledger, running)
    policy = WitnessPolicy.parse([running.line], 1)
    running.witness.misbehave = lambda _: Reply(409, b"999999\n", "text/x.tlog.size")
    assert ask_witnesses(ledger, policy, POST) == 0
    (attempt,) = tried(instance, ledger)
    assert attempt.incident
    assert "999999" in attempt.outcome
