"""The registers' desk: statements are sealed, stand in one stream, and are read as they were made."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest

from api.bootstrap import Instance
from domain.facts import Fact
from domain.personal import Erased
from domain.register import Register, RegisterFact, RegisterRefused, amend, declare, retire
from domain.register_shape import statement, values_of
from ledger.application import Ledger
from ledger.registers import register_stream
from retention.erasure.erasing import finish_erasures
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store

PERSON = "Ada Lovelace"
PARTY: dict[str, Any] = {
    "key": "acme",
    "role": "controller",
    "name": "Acme GmbH",
    "person": PERSON,
    "email": "ada@acme.example",
    "country": "DE",
}


def stated(ledger: Ledger, values: dict[str, Any] = PARTY, **more: Any) -> tuple[Fact, ...]:
    """Declare a party."""
    made = statement("party", values)
    return ledger.registers.change(lambda register: declare(register, made), actor="cli", **more).facts


def test_a_statement_is_read_as_it_was_made(ledger: Ledger, instance: Instance) -> None:
    """Given a declaration, when another process reads it, then every word is there, by whom and since when."""
    stated(ledger)
    other = type(ledger)(ledger.tenant, instance.services)
    (entry,) = other.registers.state().in_force("party")
    assert values_of(entry.stated) == PARTY
    (fact,) = other.registers.facts()
    assert (fact.actor, fact.originator_id, fact.originator_version) == ("cli", register_stream(ledger.tenant), 1)


def test_no_word_stands_in_the_clear(ledger: Ledger, instance: Instance) -> None:
    """Given a party with a person's name and address, then no row of the ledger's database holds a word of it."""
    stated(ledger)
    with psycopg.connect(instance.urls.writer) as connection:
        rows = connection.execute(
            "SELECT entry, sealed FROM lethe.event WHERE tenant_id = %s", (ledger.tenant,)
        ).fetchall()
    held = b"".join(bytes(part) for row in rows for part in row if part)
    assert b'"country":"DE"' in held, "The control: codes are found where they are."
    assert not [word for word in ("Ada", "Lovelace", "acme.example", "Acme GmbH") if word.encode() in held]


def test_nothing_is_recorded_where_nothing_changes(ledger: Ledger) -> None:
    """Given a declaration, when it is repeated, then the log does not grow; a refusal leaves nothing behind."""
    assert len(stated(ledger)) == 1
    end = ledger.log.max_notification_id()
    assert stated(ledger) == ()
    with pytest.raises(RegisterRefused):
        stated(ledger, PARTY | {"name": "Other"})
    assert ledger.log.max_notification_id() == end


def test_two_at_once_are_one_after_the_other(ledger: Ledger) -> None:
    """Given several statements and amendments, then versions of the stream run without gaps."""
    for number in range(3):
        stated(ledger, PARTY | {"key": f"acme-{number}"})
    made = statement("party", PARTY | {"key": "acme-1", "name": "New"})
    ledger.registers.change(lambda register: amend(register, made), actor="cli")
    ledger.registers.change(lambda register: retire(register, "party", "acme-2", "ended"), actor="cli")
    assert [fact.originator_version for fact in ledger.registers.facts()] == [1, 2, 3, 4, 5]
    assert [entry.key for entry in ledger.registers.state().in_force("party")] == ["acme-0", "acme-1"]


def test_a_statement_can_be_about_the_past_and_never_about_the_future(ledger: Ledger, clock: SettableClock) -> None:
    """Given `since`, then the entry is true from that day on and was learnt today; the future is refused."""
    now = datetime(2040, 3, 1, 12, tzinfo=UTC)
    clock.set(now)
    (fact,) = stated(ledger, since=date(2040, 1, 15))
    assert fact.occurred_at == datetime(2040, 1, 15, tzinfo=UTC)
    (held,) = ledger.registers.facts()
    assert held.recorded_at is not None
    assert held.recorded_at >= now
    with pytest.raises(RegisterRefused) as refused:
        stated(ledger, PARTY | {"key": "other"}, since=now.date() + timedelta(days=1))
    assert refused.value.reason == "in_the_future"


def test_one_account_sees_nothing_of_another(ledger: Ledger, instance: Instance) -> None:
    """Given two accounts, then the registers of one are not those of the other (I10)."""
    stated(ledger)
    other = new_account(instance)
    assert other.registers.state() == Register()
    assert register_stream(other.tenant) != register_stream(ledger.tenant)


def test_words_end_with_the_accounts_content(ledger: Ledger, instance: Instance) -> None:
    """Given the keys of the account's content are destroyed, then the codes are left and each word says erased."""
    stated(ledger)
    month = f"{ledger.clock():%Y-%m}"
    vault = instance.services.vault
    assert vault.destroy_period(ledger.tenant, "content", month, when=ledger.clock(), cause="test")
    ledger.keyring.forget_all()
    (entry,) = ledger.registers.state().in_force("party")
    assert isinstance(entry.stated, RegisterFact)
    name: object = entry.stated.name
    assert isinstance(name, Erased)
    assert values_of(entry.stated) == {"key": "acme", "role": "controller", "country": "DE"}


def test_an_erasure_leaves_the_registers_alone(ledger: Ledger) -> None:
    """Given an erasure of a contact, then what the account states about its processing is untouched."""
    stated(ledger)
    ledger.erasures.intend(["ghost@example.org"], reason="asked", actor="cli")
    finish_erasures(ledger)
    (entry,) = ledger.registers.state().in_force("party")
    assert values_of(entry.stated) == PARTY
