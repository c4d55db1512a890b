"""Timestamps of checkpoints: daily, after each destruction, verified before they are kept, tried again (RFC 3161)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from api.bootstrap import Instance
from audit.log.attempts import attempts
from audit.log.calls import Caller
from audit.log.outside import outside_status
from audit.log.store import PublishedCheckpoint, Timestamp, checkpoint_at, timestamps
from audit.log.timestamps import SCAN_WINDOW_EVENTS, Stamping, TimestampAuthority
from audit.log.witness_policy import NO_WITNESSES
from audit.verify.note import split_note
from audit.verify.timestamp import open_timestamp
from domain.subject import KeysDestroyed
from ledger.application import Ledger
from ledger.errors import SettingsRefused
from retention.erasure.erasing import finish_erasures
from tests.acts import topics, willing
from tests.audit.publishing import grow, publish
from tests.support import SettableClock
from tests.timestamp_authority import TimestampAuthority as Openssl

POST = Caller()
DAY = timedelta(days=1, seconds=1)
MINUTES = timedelta(minutes=2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Openssl:
    """An authority, by openssl."""
    return Openssl(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def url(authority: Openssl) -> Iterator[str]:
    """Where it answers."""
    authority.asked.clear()
    authority.down = False
    with authority.serving() as up:
        yield up


@pytest.fixture
def stamping(authority: Openssl, url: str) -> Stamping:
    """The ledger's side of it, trusting the authority's root."""
    return Stamping(TimestampAuthority(url, authority.roots_pem), POST)


@pytest.fixture(autouse=True)
def stands(clock: SettableClock) -> None:
    """The ledger's clock stands still until a test moves it."""
    clock.set(clock())


def tokens(instance: Instance, checkpoint: PublishedCheckpoint) -> list[Timestamp]:
    """The tokens that are kept of a checkpoint."""
    with instance.services.writer.connection() as connection:
        return timestamps(connection, checkpoint)


def test_the_first_checkpoint_is_stamped_and_the_token_verifies(
    instance: Instance, ledger: Ledger, authority: Openssl, stamping: Stamping
) -> None:
    """Given an authority, when a checkpoint was published, then a token over its text is kept, once."""
    checkpoint = publish(instance, ledger)
    assert stamping(ledger) is True
    (token,) = tokens(instance, checkpoint)
    text, _ = split_note(checkpoint.note.encode())
    assert open_timestamp(token.token, text, authority.roots_pem).at == token.stamped_at
    assert stamping(ledger) is False
    assert len(authority.asked) == 1


def test_a_log_is_stamped_every_day_while_it_grows(
    instance: Instance, ledger: Ledger, clock: SettableClock, stamping: Stamping
) -> None:
    """Given a stamped log, then growth alone waits for the day's end, and a log that did not grow is left alone."""
    publish(instance, ledger)
    assert stamping(ledger) is True
    clock.advance(DAY)
    assert stamping(ledger) is False
    grow(ledger)
    newest = publish(instance, ledger)
    assert stamping(ledger) is True
    grow(ledger)
    publish(instance, ledger)
    clock.advance(timedelta(hours=23))
    assert stamping(ledger) is False
    assert len(tokens(instance, newest)) == 1


def test_a_destruction_is_stamped_with_a_checkpoint_that_covers_it(
    instance: Instance, ledger: Ledger, clock: SettableClock, stamping: Stamping
) -> None:
    """Given a stamped log, when a person is erased, then within minutes a checkpoint over its facts is stamped.

    Growth that destroys nothing is looked through once, and stamps nothing.
    """
    willing(ledger, ["anna@example.com", "bert@example.com"])
    publish(instance, ledger)
    assert stamping(ledger) is True
    clock.advance(MINUTES)
    grow(ledger, 30)
    publish(instance, ledger)
    assert stamping(ledger) is False
    ledger.erasures.intend(["anna@example.com"], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    covering = publish(instance, ledger)
    assert topics(ledger).index(KeysDestroyed.TOPIC) < covering.size
    assert stamping(ledger) is True
    assert len(tokens(instance, covering)) == 1
    clock.advance(MINUTES)
    grow(ledger)
    publish(instance, ledger)
    assert stamping(ledger) is False


def test_many_destructions_share_a_stamp(
    instance: Instance, ledger: Ledger, clock: SettableClock, authority: Openssl, stamping: Stamping
) -> None:
    """Given an erasure each few seconds, then the authority is asked once a minute at most, and covers all of them."""
    people = [f"p{number}@example.com" for number in range(6)]
    willing(ledger, people)
    publish(instance, ledger)
    stamping(ledger)
    for person in people:
        ledger.erasures.intend([person], reason="subject_request", actor="cli")
        finish_erasures(ledger)
        publish(instance, ledger)
        stamping(ledger)
        clock.advance(timedelta(seconds=20))
    assert len(authority.asked) <= 3
    clock.advance(MINUTES)
    last = publish(instance, ledger)
    stamping(ledger)
    with instance.services.writer.connection() as connection:
        status = outside_status(connection, ledger.tenant, NO_WITNESSES, stamping.authority)
    assert status.stamped_size == last.size


def test_a_long_log_is_looked_through_in_pieces(
    instance: Instance, ledger: Ledger, clock: SettableClock, stamping: Stamping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a destruction far behind the last stamp, then it is found after some rounds, each of them bounded."""
    willing(ledger, ["anna@example.com"])
    publish(instance, ledger)
    stamping(ledger)
    clock.advance(MINUTES)
    grow(ledger, 40)
    ledger.erasures.intend(["anna@example.com"], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    publish(instance, ledger)
    monkeypatch.setattr("audit.log.timestamps.SCAN_WINDOW_EVENTS", 5)
    monkeypatch.setattr("audit.log.timestamps.SCAN_WINDOWS_MAX", 2)
    assert [stamping(ledger) for _ in range(5)] == [False, False, False, False, True]
    assert SCAN_WINDOW_EVENTS > 5


@pytest.mark.parametrize("down", [False, True])
def test_what_was_stamped_while_the_clock_was_ahead_is_stamped_again(
    instance: Instance, ledger: Ledger, clock: SettableClock, authority: Openssl, stamping: Stamping, down: bool
) -> None:
    """Given a log that was stamped, or could not be, while our clock was a year ahead, when the clock is right again
    and the log grows, then it is stamped."""
    now = clock()
    clock.set(now + timedelta(days=365))
    publish(instance, ledger)
    authority.down = down
    assert stamping(ledger) is not down
    clock.set(now)
    authority.down = False
    grow(ledger)
    publish(instance, ledger)
    assert stamping(ledger) is True


def test_an_authority_that_is_down_is_shown_and_asked_again(
    instance: Instance, ledger: Ledger, clock: SettableClock, authority: Openssl, stamping: Stamping
) -> None:
    """Given an authority that does not answer, then that is written down with its time, and made good later."""
    checkpoint = publish(instance, ledger)
    authority.down = True
    since = clock()
    assert stamping(ledger) is False
    assert stamping(ledger) is False
    assert len(authority.asked) == 1
    with instance.services.writer.connection() as connection:
        (asked,) = outside_status(connection, ledger.tenant, NO_WITNESSES, stamping.authority).asked
    assert (asked.kind, asked.failing_since) == ("timestamp", since)
    assert "503" in str(asked.why)
    clock.advance(MINUTES)
    authority.down = False
    assert stamping(ledger) is True
    assert len(tokens(instance, checkpoint)) == 1
    with instance.services.writer.connection() as connection:
        assert not [a for a in attempts(connection, ledger.tenant, 1) if a.failed]


def test_a_token_of_somebody_else_is_not_kept(instance: Instance, ledger: Ledger, url: str, tmp_path: Path) -> None:
    """Given roots that the token does not lead to, then nothing is kept and the reason is told."""
    checkpoint = publish(instance, ledger)
    stranger = Openssl(tmp_path / "stranger", name="Strange timestamps")
    assert Stamping(TimestampAuthority(url, stranger.roots_pem), POST)(ledger) is False
    assert tokens(instance, checkpoint) == []
    with instance.services.writer.connection() as connection:
        (attempt,) = attempts(connection, ledger.tenant, 1)
    assert "does not verify" in attempt.outcome


def test_a_token_of_another_request_is_not_kept(
    instance: Instance, ledger: Ledger, authority: Openssl, stamping: Stamping
) -> None:
    """Given an authority that repeats an older answer over the same text, then the nonce gives it away."""
    from audit.log.calls import Answer
    from audit.verify.timestamp import timestamp_request

    checkpoint = publish(instance, ledger)
    text, _ = split_note(checkpoint.note.encode())
    old = authority.answer(timestamp_request(text).content)

    def replayed(*_: object) -> Answer:
        return Answer(200, "application/timestamp-reply", old)

    assert Stamping(stamping.authority, replayed)(ledger) is False
    assert tokens(instance, checkpoint) == []


def test_what_is_stamped_stays_found(instance: Instance, ledger: Ledger, stamping: Stamping) -> None:
    """Given a stamped checkpoint and later ones, then its token is found by its size."""
    first = publish(instance, ledger)
    stamping(ledger)
    grow(ledger)
    publish(instance, ledger)
    with instance.services.writer.connection() as connection:
        again = checkpoint_at(connection, ledger.tenant, first.size)
    assert again is not None
    assert len(tokens(instance, again)) == 1


@pytest.mark.parametrize(
    ("url", "roots"),
    [
        ("http://t.example", None),
        ("http://t.example", "missing.pem"),
        ("http://t.example", "empty.pem"),
        ("ftp://t.example", "roots.pem"),
        ("http://user@t.example", "roots.pem"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    tmp_path: Path, authority: Openssl, url: str, roots: str | None
) -> None:
    """Given no roots, roots that are none, or an address that is none, then the program does not start."""
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "roots.pem").write_bytes(authority.roots_pem)
    with pytest.raises(SettingsRefused, match="LETHE_TIMESTAMP"):
        TimestampAuthority.parse(url, None if roots is None else tmp_path / roots)


def test_without_an_address_nobody_is_asked() -> None:
    """Given no setting, then there is no authority."""
    assert TimestampAuthority.parse(None, None) is None
