"""Keys whose first event never came are collected at the roll; nobody else's are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from domain.personal import Identity
from domain.subject_commands import AddContact
from ledger.application import Ledger
from ledger.errors import KeyDestroyed
from ledger.keys.keyring import LINK
from ledger.keys.vault import KeyName
from ledger.subjects import Act
from retention.erasure.erasing import finish_erasures
from retention.horizon.horizon import Horizon
from retention.horizon.orphans import GRACE_DAYS, collect_orphans, days_looked_at
from tests.acts import add, emails, person
from tests.rolls import noon
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOW = noon(2026, 11, 21)
SELECT_HOLDERS = """
SELECT DISTINCT holder FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND period = '' AND class = ANY(%s)
"""


@pytest.fixture
def account(own_instance: Instance, own_ledger: Ledger, clock: SettableClock) -> Ledger:
    """An account on 21 November 2026."""
    clock.set(NOW)
    return own_ledger


@pytest.fixture
def hand(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody with full rights on the ledger's database."""
    assert own_instance.settings.ledger_owner_url is not None
    with psycopg.connect(own_instance.settings.ledger_owner_url, autocommit=True) as connection:
        yield connection


def holders(ledger: Ledger) -> set[bytes]:
    with ledger.services.vault.pool.transaction() as connection:
        rows = connection.execute(SELECT_HOLDERS, (ledger.tenant, [Identity.name, LINK]), binary=True)
        return {bytes(row[0]) for row in rows}


def collect(ledger: Ledger) -> int:
    return collect_orphans(ledger.services, ledger.tenant, days_looked_at(ledger.clock(), 7))


def leave_orphan(ledger: Ledger, address: str) -> set[bytes]:
    """An addition that dies between its keys and its append; returns the kids that it leaves."""
    before = holders(ledger)

    def die(*_: Any) -> None:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        ledger.subjects.act([Act(AddContact(address), address=address, actor="cli")], also=die)
    return holders(ledger) - before


def test_only_keys_without_an_envelope_go(account: Ledger, clock: SettableClock) -> None:
    """Given people, an erased one, and an addition that died after its keys, when the days of grace are over, then the
    keys of that one alone are destroyed, once, and nothing is ever sealed under them."""
    # given
    people = emails(6)
    add(account, people)
    orphans = leave_orphan(account, "never@example.com")
    account.erasures.intend(people[:1], reason="asked", actor="cli")
    finish_erasures(account)
    living = {person(account, address).person.kid for address in people[1:]}
    assert len(orphans) == 1
    assert holders(account) == living | orphans
    # when
    assert collect(account) == 0, "They are too young."
    clock.set(NOW + timedelta(days=GRACE_DAYS))
    assert collect(account) == 1
    # then
    assert holders(account) == living
    assert collect(account) == 0
    with pytest.raises(KeyDestroyed):
        account.services.vault.ensure(account.tenant, [KeyName(next(iter(orphans)), Identity.name)])
    assert [account.person(address) is not None for address in people] == [False] + [True] * 5


def test_a_person_whose_first_event_came_much_later_is_no_orphan(account: Ledger, clock: SettableClock) -> None:
    """Given keys of a day and an append of another, as a clock that jumps may make it, then the whole log is asked."""
    add(account, emails(2))
    with account.services.vault.pool.transaction() as connection:
        connection.execute("UPDATE lethe_vault.wrapped_key SET created_on = '2026-11-30' WHERE period = ''")
    clock.set(NOW + timedelta(days=14))
    assert collect(account) == 0
    assert len(holders(account)) == 2


def test_whoever_has_a_tombstone_or_is_in_doubt_is_left_alone(
    account: Ledger, clock: SettableClock, hand: Connection[Any]
) -> None:
    """Given a kid that stands nowhere and of which something was destroyed, or a restore in between, then it stays."""
    kid, other = os.urandom(16), os.urandom(16)
    vault = account.services.vault
    vault.ensure_subject_keys(account.tenant, LINK, [kid, other])
    vault.ensure_subject_keys(account.tenant, "billing", [kid])
    vault.destroy_keys(account.tenant, [KeyName(kid, "usage")], when=NOW, cause="time")
    add(account, emails(1))
    clock.set(NOW + timedelta(days=GRACE_DAYS))
    hand.execute("UPDATE lethe.event SET topic = 'ledger.restored.v1' WHERE position = 1")
    assert collect(account) == 0
    hand.execute("UPDATE lethe.event SET topic = 'account.opened.v1' WHERE position = 1")
    assert collect(account) == 1
    assert kid in holders(account)
    assert other not in holders(account)


def test_a_roll_collects_them(account: Ledger, own_instance: Instance, clock: SettableClock) -> None:
    """Given orphans of the last epoch, when it is rolled, then they are gone with it."""
    add(account, emails(3))
    leave_orphan(account, "never@example.com")
    clock.set(NOW + timedelta(days=7))
    steps = list(Horizon(own_instance.services).roll())
    assert [step.rows for step in steps if step.stage == "collect orphans"] == [1]
    assert len(holders(account)) == 3
