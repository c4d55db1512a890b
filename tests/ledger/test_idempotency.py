"""A request whose acknowledgement was lost can be sent again: same answer, no second event."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import orjson
import psycopg
import pytest
from psycopg import Connection

from domain.ids import day_of
from domain.personal import Feed
from domain.subject_commands import AddContact
from ledger.application import Ledger
from ledger.authorise_layout import Answer, Recipient
from ledger.errors import IdempotencyMismatch, Unavailable
from ledger.idempotency import IdempotentPart, Replayed
from ledger.subjects import Act, Outcome
from tests.acts import ask, emails, register, topics, willing
from tests.support import SettableClock

pytestmark = pytest.mark.store


@contextmanager
def acknowledgements_lost(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every transaction of the writer that wrote something commits, and the answer does not arrive."""
    pool = ledger.services.writer
    real = pool.transaction

    @contextmanager
    def lossy() -> Iterator[Connection[Any]]:
        with real() as connection:
            yield connection
            wrote = connection.execute("SELECT pg_current_xact_id_if_assigned()").fetchone()
        if wrote != (None,):
            raise Unavailable("The connection broke after the commit.")

    with monkeypatch.context() as patched:
        patched.setattr(pool, "transaction", lossy)
        yield


def part_of(ledger: Ledger, content: bytes = b"content", key: str = "key-1") -> IdempotentPart:
    return IdempotentPart.of(ledger.tenant, "POST /v1/things", key, content)


def authorise(ledger: Ledger, campaign: Any, people: list[str], part: IdempotentPart) -> list[Answer]:
    recipients = (Recipient(index, address) for index, address in enumerate(people))
    account = ledger.account()
    return list(ledger.authorisations.authorise(campaign, recipients, account=account, actor="cli", idempotency=part))


def test_a_lost_acknowledgement_loses_no_authorisation(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a commit whose answer was lost, when the request is repeated, then the same answer comes."""
    people = emails(20)
    willing(ledger, people)
    campaign = register(ledger)
    asked = [*people, "nobody@example.org", "not an address"]
    ledger.account()
    with acknowledgements_lost(ledger, monkeypatch), pytest.raises(Unavailable):
        authorise(ledger, campaign, asked, part_of(ledger))
    written = topics(ledger)
    assert written.count("send.authorised.v1") == len(people)
    (again,) = authorise(ledger, campaign, asked, part_of(ledger))
    assert topics(ledger) == written
    assert again.replayed
    assert [recipient.email for recipient, *_ in again.allowed] == people
    assert not any(repeated for *_, repeated in again.allowed)
    assert [(r.email, rule) for r, rule in again.refused] == [("nobody@example.org", "unknown_recipient")]
    assert [index for index, _ in again.rejected] == [21]
    assert (again.first, again.last) == (len(written) - len(people), len(written))


def test_each_chunk_of_a_long_request_is_repeated_by_itself(ledger: Ledger) -> None:
    """Given a request cut off after its first chunk, when it is repeated, then only the rest is written."""
    people = emails(30)
    willing(ledger, people)
    campaign = register(ledger)
    ledger.authorisations._chunk_recipients = 10
    cut = ledger.authorisations.authorise(
        campaign,
        [Recipient(index, address) for index, address in enumerate(people[:10])],
        account=ledger.account(),
        actor="cli",
        idempotency=part_of(ledger),
    )
    first = list(cut)
    answers = authorise(ledger, campaign, people, part_of(ledger))
    assert [answer.replayed for answer in answers] == [True, False, False]
    assert answers[0].allowed == first[0].allowed
    assert topics(ledger).count("send.authorised.v1") == len(people)


def test_a_lost_acknowledgement_loses_no_command(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given contacts whose commit was not acknowledged, when they are sent again, then the stored answer comes back."""
    acts = [Act(AddContact(address), address=address, actor="cli") for address in emails(5)]
    part = part_of(ledger)

    def once() -> tuple[list[Outcome], Any]:
        return ledger.subjects.act(
            acts,
            before=lambda locked: ledger.parts.require_new(locked.connection, part),
            also=lambda locked, outcomes: ledger.parts.save(locked, part, b"%d added" % len(outcomes)),
        )

    with acknowledgements_lost(ledger, monkeypatch), pytest.raises(Unavailable):
        once()
    written = topics(ledger)
    with pytest.raises(Replayed) as replayed:
        once()
    assert replayed.value.answer == b"5 added"
    assert topics(ledger) == written


def test_two_at_once_under_one_key_are_done_once(ledger: Ledger) -> None:
    """Given one Idempotency-Key, when two requests come at the same time, then one is done and the other replayed."""
    people = emails(40)
    willing(ledger, people)
    campaign = register(ledger)
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(authorise, ledger, campaign, people, part_of(ledger)) for _ in range(4)]
        answers = [run.result(60)[0] for run in runs]
    assert sorted(answer.replayed for answer in answers) == [False, True, True, True]
    tokens = [[(recipient.email, token) for recipient, token, *_ in answer.allowed] for answer in answers]
    assert tokens == [tokens[0]] * 4
    assert topics(ledger).count("send.authorised.v1") == len(people)


def test_one_key_for_two_requests_is_refused(ledger: Ledger) -> None:
    """Given a key that was used, when another content comes under it, then it is refused and nothing is written."""
    people = emails(4)
    willing(ledger, people)
    campaign = register(ledger)
    authorise(ledger, campaign, people[:2], part_of(ledger))
    written = topics(ledger)
    with pytest.raises(IdempotencyMismatch, match="new key"):
        authorise(ledger, campaign, people[2:], part_of(ledger))
    assert topics(ledger) == written


def test_without_a_key_a_repetition_is_a_new_question(ledger: Ledger) -> None:
    """Given no key, when the same is asked again, then open authorisations are repeated and nothing is written."""
    people = emails(3)
    willing(ledger, people)
    campaign = register(ledger)
    first = ask(ledger, campaign, people)
    written = topics(ledger)
    again = ask(ledger, campaign, people)
    assert again.allowed == first.allowed
    assert again.repeated == set(people)
    assert topics(ledger) == written


def test_kept_answers_hold_no_address_and_are_sealed(ledger: Ledger) -> None:
    """Given a kept answer, when its row is read, then neither the address nor the token stands there."""
    people = emails(1)
    willing(ledger, people)
    campaign = register(ledger)
    (answer,) = authorise(ledger, campaign, people, part_of(ledger))
    assert people[0].encode() not in answer.stored()
    with psycopg.connect(ledger.services.writer.url) as connection:
        row = connection.execute(
            "SELECT answer FROM lethe.idempotency WHERE tenant_id = %s", (ledger.tenant,)
        ).fetchone()
    assert row is not None
    assert answer.allowed[0][1].encode() not in bytes(row[0])


def test_a_guessed_request_is_not_found_among_the_kept(ledger: Ledger) -> None:
    """Given a kept request, when its key and content are known, then no plain hash of them stands in its row."""
    people = emails(1)
    willing(ledger, people)
    part = part_of(ledger)
    authorise(ledger, register(ledger), people, part)
    with psycopg.connect(ledger.services.writer.url) as connection:
        row = connection.execute(
            "SELECT key_hash, request_hash FROM lethe.idempotency WHERE tenant_id = %s", (ledger.tenant,)
        ).fetchone()
    assert row is not None
    content = orjson.dumps([(people[0], None)])
    guesses = {part.key_hash, part.key_hash[:16], part.request, part.numbered(0, content).request}
    assert guesses.isdisjoint(bytes(value) for value in row)


def test_parts_are_forgotten_after_a_day(ledger: Ledger, clock: SettableClock) -> None:
    """Given a part that is older than a day, when old ones are purged, then its key is free again."""
    part = part_of(ledger)
    with ledger.appender.locked() as locked:
        ledger.parts.save(locked, part, b"answer")
    with ledger.services.writer.transaction() as connection:
        assert ledger.parts.purge(connection, clock()) == 0
        assert ledger.parts.purge(connection, clock() + timedelta(hours=25)) == 1
        ledger.parts.require_new(connection, part)


def test_a_part_whose_feed_key_is_gone_is_done_anew(ledger: Ledger, clock: SettableClock) -> None:
    """Given a kept answer that no key opens any more, when the request comes again, then it is done, not stuck."""
    part = part_of(ledger)
    with ledger.appender.locked() as locked:
        ledger.parts.save(locked, part, b"answer")
    day = day_of(clock())
    ledger.services.vault.destroy_period(ledger.tenant, Feed.name, day, when=clock(), cause="time")
    ledger.keyring.forget_all()
    clock.advance(timedelta(days=1))
    with ledger.appender.locked() as locked:
        ledger.parts.require_new(locked.connection, part)
        ledger.parts.save(locked, part, b"another")
    with ledger.services.writer.transaction() as connection, pytest.raises(Replayed) as replayed:
        ledger.parts.require_new(connection, part)
    assert replayed.value.answer == b"another"
