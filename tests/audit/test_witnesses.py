"""Witnesses: what they cosign, what they refuse, and that nothing they answer is believed unverified (FAULTS 19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest

from audit.log.calls import Caller
from audit.log.errors import NoAnswer, WitnessHoldsMore, WitnessRefused
from audit.log.store import Cosignature
from audit.log.witness_policy import Witness as Configured
from audit.log.witness_policy import WitnessPolicy
from audit.log.witnesses import ANSWER_BYTES_MAX, TRIES_MAX, cosign
from audit.verify.checkpoint import open_checkpoint
from audit.verify.errors import CosignatureRefused
from ledger.errors import SettingsRefused
from tests.audit.forks import NOW, ForkableLog, entries
from tests.witness import Reply, Witness, running_witness

POST = Caller()


def witness_named(name: str) -> Witness:
    """A witness with a key made of its name, whose clock stands."""
    return Witness(name, name.encode().ljust(32, b"."), now=NOW.timestamp)


@pytest.fixture
def running() -> Iterator[running_witness]:
    """A witness that listens, and knows no log."""
    with running_witness(witness_named("witness.example/1")) as up:
        yield up


@pytest.fixture
def log(running: running_witness) -> ForkableLog:
    """A log of ten entries that the witness knows."""
    made = ForkableLog(entries(10))
    running.witness.trust(made.origin, [str(made.key)])
    return made


def ask(up: running_witness, log: ForkableLog, size: int | None = None, *, known: int = 0) -> Cosignature:
    """Have a checkpoint cosigned."""
    shown = log.checkpoint(size)
    return cosign(POST, Configured(up.witness.key, up.url), shown, known, lambda old: log.proof(old, shown.size), NOW)


def test_a_cosignature_is_had_and_verifies(running: running_witness, log: ForkableLog) -> None:
    """Given a witness that knows the log, when a checkpoint is shown, then its line completes a note that verifies."""
    cosignature = ask(running, log, 4)
    note = (log.checkpoint(4).note + cosignature.line + "\n").encode()
    opened = open_checkpoint(note, [log.key], witnesses=[running.witness.key], witnesses_needed=1)
    assert [(one.witness, one.at) for one in opened.cosigned] == [(running.witness.key, NOW)]
    assert (cosignature.witness, cosignature.cosigned_at) == (str(running.witness.key), NOW)


@pytest.mark.parametrize("known", [0, 4, 3, 7])
def test_a_longer_checkpoint_is_proven_from_what_the_witness_holds(
    running: running_witness, log: ForkableLog, known: int
) -> None:
    """Given a witness at size 4, when size 10 is shown from a right, stale or wrong old size, then it is cosigned."""
    ask(running, log, 4)
    running.witness.asked.clear()
    ask(running, log, known=known)
    assert running.witness.held[log.origin].size == 10
    assert len(running.witness.asked) == (1 if known == 4 else 2)
    assert running.witness.asked[-1].startswith(b"old 4\n")


def test_the_same_checkpoint_may_be_cosigned_again(running: running_witness, log: ForkableLog) -> None:
    """Given a witness that cosigned a size, when it is shown again, then it cosigns again."""
    assert ask(running, log).line == ask(running, log, known=10).line


def test_two_forks_are_not_cosigned_by_two_witnesses(running: running_witness, log: ForkableLog) -> None:
    """Given two histories signed by one key, when each is shown to one witness, then neither witness takes the other.

    So a policy that asks for both can be satisfied for one history only, however it is tried.
    """
    other_history = log.forked(6, entries(8, "other"))
    with running_witness(witness_named("witness.example/2")) as second:
        second.witness.trust(log.origin, [str(log.key)])
        lines = [ask(running, log).line, ask(second, other_history).line]
        for up, forked, size in (
            (running, other_history, 10),
            (running, other_history, 14),
            (second, log, 10),
            (second, log.forked(10, entries(9)), 19),
        ):
            held = dict(up.witness.held)
            with pytest.raises(WitnessRefused):
                ask(up, forked, size)
            assert up.witness.held == held
        keys = [running.witness.key, second.witness.key]
        for checkpoint, line in ((log.checkpoint(), lines[0]), (other_history.checkpoint(), lines[1])):
            note = (checkpoint.note + line + "\n").encode()
            open_checkpoint(note, [log.key], witnesses=keys, witnesses_needed=1)
            with pytest.raises(CosignatureRefused):
                open_checkpoint(note, [log.key], witnesses=keys, witnesses_needed=2)


def test_another_root_of_the_same_size_is_an_incident(running: running_witness, log: ForkableLog) -> None:
    """Given a witness that cosigned size 10, when another root of size 10 is shown, then that is told as a fork."""
    ask(running, log)
    with pytest.raises(WitnessHoldsMore, match="two histories"):
        ask(running, log.forked(3, entries(7, "other")), known=10)


def test_a_witness_that_holds_more_than_was_published_is_an_incident(
    running: running_witness, log: ForkableLog
) -> None:
    """Given a witness at size 10, when only size 4 is known here, as after a restore, then that is told."""
    ask(running, log)
    with pytest.raises(WitnessHoldsMore, match="size 10, which is beyond 4"):
        ask(running, log, 4)


def _given(proof: list[bytes], _: int) -> list[bytes]:
    return proof


def test_a_bad_proof_is_refused(running: running_witness, log: ForkableLog) -> None:
    """Given a proof with one hash changed, one missing or one too many, then the witness answers 422 and keeps its."""
    ask(running, log, 4)
    good = log.proof(4)
    for bad in ([bytes(32), *good[1:]], good[1:], [*good, bytes(32)]):
        with pytest.raises(WitnessRefused, match="422"):
            cosign(POST, Configured(running.witness.key, running.url), log.checkpoint(), 4, partial(_given, bad), NOW)
        assert running.witness.held[log.origin].size == 4


def test_a_wrong_origin_and_a_strange_key_are_refused(running: running_witness, log: ForkableLog) -> None:
    """Given a log of another origin, or another key of this origin, then the witness answers 404 or 403."""
    with pytest.raises(WitnessRefused, match=r"404.*origin"):
        ask(running, ForkableLog(entries(3), origin="lethe.localhost/log/2"))
    with pytest.raises(WitnessRefused, match=r"403.*key"):
        ask(running, ForkableLog(entries(3), seed=b"t" * 32))


def _other_key(_: bytes) -> Reply:
    log = ForkableLog(entries(10))
    checkpoint = log.checkpoint()
    stranger = witness_named("witness.example/1x")
    stranger.trust(log.origin, [str(log.key)])
    return stranger.add_checkpoint(b"old 0\n\n" + checkpoint.note.encode())


def _same_name_other_key(body: bytes) -> Reply:
    line = _other_key(body).body.decode().replace("example/1x", "example/1")
    return Reply(200, line.encode())


def _dated(seconds: float) -> Callable[[bytes], Reply]:
    def reply(_: bytes) -> Reply:
        log = ForkableLog(entries(10))
        ahead = Witness("witness.example/1", b"witness.example/1".ljust(32, b"."), now=lambda: seconds)
        ahead.trust(log.origin, [str(log.key)])
        return ahead.add_checkpoint(b"old 0\n\n" + log.checkpoint().note.encode())

    return reply


def _of_another_checkpoint(_: bytes) -> Reply:
    log = ForkableLog(entries(9))
    same = witness_named("witness.example/1")
    same.trust(log.origin, [str(log.key)])
    return same.add_checkpoint(b"old 0\n\n" + log.checkpoint().note.encode())


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (_other_key, "one cosignature"),
        (_same_name_other_key, "one cosignature"),
        (_of_another_checkpoint, "no cosignature"),
        (_dated((NOW + timedelta(hours=1)).timestamp()), "clocks"),
        (_dated(2**62), "clocks"),
        (_dated((NOW - timedelta(hours=1)).timestamp()), "clocks"),
        (_dated(1), "clocks"),
        (lambda _: Reply(200, b""), "no cosignature"),
        (lambda _: Reply(200, b"hello\n"), "no cosignature"),
        (lambda _: Reply(200, "— witness.example/1 AAAA\n".encode()), "no cosignature"),
        (lambda _: Reply(200, b"\xff\n"), "no cosignature"),
        (lambda _: Reply(409, b"3\n"), "without the size"),
        (lambda _: Reply(409, b"03\n", "text/x.tlog.size"), "without the size"),
        (lambda _: Reply(409, b"-1\n", "text/x.tlog.size"), "without the size"),
        (lambda _: Reply(409, b"0\n", "text/x.tlog.size"), "without the size"),
        (lambda _: Reply(302, b"", headers={"Location": "http://127.0.0.1:9/"}), "302"),
        (lambda _: Reply(500, b"oops"), "500"),
    ],
)
def test_what_is_no_cosignature_is_not_believed(
    running: running_witness, log: ForkableLog, reply: Callable[[bytes], Reply], told: str
) -> None:
    """Given a witness that answers wrongly, then that is refused with the reason; a redirect is not followed."""
    running.witness.misbehave = reply
    with pytest.raises(WitnessRefused, match=told):
        ask(running, log)


def test_a_witness_that_never_settles_is_left(running: running_witness, log: ForkableLog) -> None:
    """Given a witness that names another size each time, then it is given up after a few tries."""
    sizes = iter(range(1, 100))
    running.witness.misbehave = lambda _: Reply(409, f"{next(sizes)}\n".encode(), "text/x.tlog.size")
    with pytest.raises(WitnessRefused, match="another size"):
        ask(running, log)
    assert len(running.witness.asked) == TRIES_MAX


def test_a_long_answer_and_no_answer_are_given_up(running: running_witness, log: ForkableLog) -> None:
    """Given a witness that answers without end, or that is gone, then there is no answer."""
    running.witness.misbehave = lambda _: Reply(200, b"x" * (ANSWER_BYTES_MAX + 1))
    with pytest.raises(NoAnswer, match="longer"):
        ask(running, log)
    with running_witness(witness_named("witness.example/2")) as gone:
        url = gone.url
    with pytest.raises(NoAnswer):
        cosign(POST, Configured(running.witness.key, url), log.checkpoint(), 0, log.proof, NOW)


KEY = str(witness_named("witness.example/1").key)
OTHER = str(witness_named("witness.example/2").key)
LOG_KEY = str(ForkableLog([]).key)


def test_a_policy_is_read() -> None:
    """Given lines of key and address, then the policy has them, and their addresses end without a slash."""
    policy = WitnessPolicy.parse([f"{KEY} https://w.example/a/", f"{OTHER}  http://127.0.0.1:7/"], 2)
    assert [(str(w.key), w.url) for w in policy.witnesses] == [
        (KEY, "https://w.example/a"),
        (OTHER, "http://127.0.0.1:7"),
    ]
    assert policy.needed == 2


@pytest.mark.parametrize(
    ("lines", "needed"),
    [
        ([KEY], 0),
        ([f"{KEY} https://w.example more"], 0),
        ([f"{LOG_KEY} https://w.example"], 0),
        ([f"{KEY}x https://w.example"], 0),
        ([f"{KEY} ftp://w.example"], 0),
        ([f"{KEY} https://user:pass@w.example"], 0),
        ([f"{KEY} https://w.example/?q=1"], 0),
        ([f"{KEY} https://w.example:port"], 0),
        ([f"{KEY} file:///etc/passwd"], 0),
        ([f"{KEY} https://"], 0),
        ([f"{KEY} https://a.example", f"{KEY} https://b.example"], 0),
        ([f"{KEY} https://w.example"], 2),
        ([], 1),
        ([f"{KEY} https://w.example"] * 17, 0),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(lines: list[str], needed: int) -> None:
    """Given a line that is no witness, one named twice, or more needed than named, then the program does not start."""
    with pytest.raises(SettingsRefused, match="LETHE_WITNESSES") as refused:
        WitnessPolicy.parse(lines, needed)
    assert "pass" not in str(refused.value).replace("password", "")
