"""What was destroyed here is gone in every other process after its lease: nothing seals or opens (FAULTS 8, 14a).

The other process is a second instance on the same databases, with caches of its own that are warm when a key goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from api.bootstrap import Instance, running
from domain.facts import personal_fields
from domain.personal import Erased, Personal
from domain.records import Record
from domain.subject_commands import AddContact, CommandRefused, CorrectContact
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import KeyDestroyed, KeyMissing, PeriodDestroyed
from ledger.keys.keyring import LEASE_SECONDS_MAX
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.mapper import Holder
from ledger.standing_row import StandingRow
from ledger.subjects import Act
from retention.erasure.erasing import finish_erasures
from retention.plans.schedule import run_retention
from tests.acts import ask, person, register, report, stream_of, topics, willing
from tests.retention.plans import ANNA, BERT, CLEO, DUE, JANUARY, a_month_of_engagement, applied, record
from tests.support import SettableClock

pytestmark = pytest.mark.store

CLOSED = datetime(2040, 3, 15, tzinfo=UTC)
"""Subscriber data of an account that ended in January 2040 under Mailkai."""


@pytest.fixture
def other(instance: Instance, ledger: Ledger, clock: SettableClock) -> Iterator[Ledger]:
    """The account as another process has it."""
    with running(instance.settings, clock=clock) as second:
        yield second.ledger(ledger.tenant)


@pytest.fixture
def pass_lease(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let as much time go by as a lease lasts at most."""
    real, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])

    def passing() -> None:
        passed[0] += LEASE_SECONDS_MAX + 1

    return passing


def types_of(ledger: Ledger, streams: Mapping[UUID, Holder]) -> set[type]:
    """What the content of the records in these streams opens as."""
    facts: list[Any] = [
        ledger.sealing.open(event, holder)
        for stream, holder in streams.items()
        for event in ledger.log.select_streams([stream])
    ]
    return {type(fact.content) for fact in facts}


def usage(ledger: Ledger, address: str, at: datetime) -> Any:
    """Take in one usage fact about a person."""
    return ledger.records.take([Record("usage", {"note": "x"}, "login", address, at)], actor="cli")


def wraps(ledger: Ledger, retention_class: str, period: str) -> int:
    """How many keys of a class and period the vault has."""
    with ledger.services.vault.pool.transaction() as connection:
        select = "SELECT count(*) FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = %s AND period = %s"
        row = connection.execute(select, (ledger.tenant, retention_class, period)).fetchone()
    assert row is not None
    return int(row[0])


def test_an_erased_person(ledger: Ledger, other: Ledger, pass_lease: Callable[[], None]) -> None:
    """Given a process that knows a person's keys, when another erases them, then it neither seals nor opens theirs.

    From the intent on it writes nothing about them either: that fence is the head lock, and needs no lease.
    """
    willing(ledger, [ANNA])
    row = person(ledger, ANNA)
    own = KeyName(row.person.kid, "identity")
    assert set(of_stream(other, row, "identity")) == {Personal}
    ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    with pytest.raises(CommandRefused):
        other.act(Act(CorrectContact(email=CLEO), address=ANNA, actor="cli"))
    assert own in other.keyring.find([own]).keys, "Its cache is stale."
    pass_lease()
    assert set(of_stream(other, row, "identity")) == {Erased}
    with pytest.raises(KeyDestroyed):
        other.keyring.ensure([own])
    assert other.keyring.subject_keys("identity", [own.holder]) == {}


def of_stream(ledger: Ledger, row: StandingRow, retention_class: str) -> list[type]:
    """What the parts of a class open as in a person's own stream."""
    facts = stream_of(ledger, row)
    found = [(fact, name) for fact in facts for name, c in personal_fields(type(fact)).items() if c == retention_class]
    return [type(value) for fact, name in found if (value := getattr(fact, name)) is not None]


def test_a_month_that_a_plan_destroyed(
    ledger: Ledger, other: Ledger, clock: SettableClock, pass_lease: Callable[[], None]
) -> None:
    """Given a process with a month's keys, when a plan destroys them, then it opens nothing and takes nothing late in.

    Records are compared with the vault under the lock, so that not even a lease lets a late one in.
    """
    a_month_of_engagement(ledger, clock, [ANNA, BERT])
    token = ask(other, register(other), [ANNA]).allowed[ANNA]
    assert report(other, [(token, "opened")], at=JANUARY, ip="192.0.2.1").recorded == 1
    assert usage(other, ANNA, JANUARY).recorded == 1
    streams = other.records.streams.of(person(ledger, ANNA).person.records_kid, ["usage"])
    assert types_of(other, streams) == {Personal}
    clock.set(DUE)
    applied(ledger)
    assert types_of(ledger, streams) == {Erased}
    assert types_of(other, streams) == {Personal}, "Its cache is stale."
    late = usage(other, ANNA, JANUARY + timedelta(hours=1))
    assert (late.recorded, len(late.rejected)) == (0, 1)
    pass_lease()
    assert types_of(other, streams) == {Erased}
    late = usage(other, ANNA, JANUARY + timedelta(hours=2))
    assert (late.recorded, len(late.rejected)) == (0, 1)
    before = topics(ledger)
    assert report(other, [(token, "clicked")], at=JANUARY, url="https://example.com/a").recorded == 0
    assert topics(ledger) == before
    for retention_class in ("engagement", "engagement_technical", "link"):
        with pytest.raises(PeriodDestroyed):
            other.keyring.period_key(retention_class, "2040-01")
        assert wraps(ledger, retention_class, "2040-01") == 0
    assert wraps(ledger, "usage", "2040-01") == 0


def test_a_persons_class_that_a_plan_destroyed(
    ledger: Ledger, other: Ledger, clock: SettableClock, pass_lease: Callable[[], None]
) -> None:
    """Given a process with the key of a person's letters, when a plan destroys it, then it opens and seals no more."""
    clock.set(JANUARY)
    willing(ledger, [ANNA])
    record(other, ANNA, JANUARY.date(), "support")
    kid = person(ledger, ANNA).person.records_kid
    streams = other.records.streams.of(kid, ["support"])
    assert types_of(other, streams) == {Personal}
    clock.set(datetime(2043, 2, 1, tzinfo=UTC))
    applied(ledger)
    pass_lease()
    assert types_of(other, streams) == {Erased}
    assert other.records.streams.of(kid, ["support"]) == {}
    gone = KeyName(kid, "support")
    with pytest.raises(KeyDestroyed):
        other.keyring.ensure([gone])
    assert gone in other.keyring.find([gone]).tombstones


def test_an_account_that_a_plan_closed(
    ledger: Ledger, other: Ledger, clock: SettableClock, pass_lease: Callable[[], None]
) -> None:
    """Given a process with an account's keys and pepper, when a plan closes it, no address leads anywhere there."""
    a_month_of_engagement(ledger, clock, [ANNA, BERT])
    row = person(other, ANNA)
    assert other.fingerprint(ANNA) == ledger.fingerprint(ANNA)
    ledger.accounts.terminate(actor="cli")
    clock.set(CLOSED)
    run_retention(ledger)
    with pytest.raises(KeyDestroyed):
        ledger.fingerprint(ANNA)
    assert other.fingerprint(ANNA), "The other process has not noticed yet."
    pass_lease()
    for asked in (other.fingerprint, other.fingerprint.every, other.person):
        with pytest.raises(KeyDestroyed, match="closed"):
            asked(ANNA)
    assert other.fingerprint.generations == 0
    with pytest.raises((KeyDestroyed, CommandRefused)):
        other.act(Act(AddContact(CLEO), address=CLEO, actor="cli"))
    assert isinstance(other.keyring.opening_scope(row.person.kid, "identity", "2040-01"), Erased)
    for name in (KeyName(TENANT_HOLDER, "identity", "2040-03"), KeyName(TENANT_HOLDER, "suppression")):
        with pytest.raises((KeyDestroyed, PeriodDestroyed)):
            other.keyring.ensure([name])


def test_a_pepper_is_read_again_and_a_lost_one_is_never_made_again(
    server: EmbeddedPostgres, ledger: Ledger, other: Ledger, pass_lease: Callable[[], None]
) -> None:
    """Given a lease on a pepper that is over, then the same one is read again; one that was lost is an incident."""
    before = other.fingerprint(ANNA)
    pass_lease()
    assert other.fingerprint(ANNA) == before == ledger.fingerprint(ANNA)
    with psycopg.connect(server.url("lethe_vault"), autocommit=True) as hand:
        hand.execute("DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'pepper'", (ledger.tenant,))
    assert other.fingerprint(ANNA) == before
    pass_lease()
    with pytest.raises(KeyMissing):
        other.fingerprint(ANNA)
    assert wraps(ledger, "pepper", "") == 0
