"""The vault's clocks and floors: when a person's key is due, what is kept, what never comes, what is in escrow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance
from domain.personal import Billing, Engagement, Erased, Support
from ledger.application import Ledger
from ledger.errors import KeyDestroyed, KeyMissing, PeriodDestroyed
from ledger.keys.keyring import Keyring
from ledger.keys.names import Tombstone
from ledger.keys.vault import TENANT_HOLDER, KeyName, Vault, key_commitment
from ledger.sealing import scope_key

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MONTH = "2026-11"
KID, OTHER = bytes(range(16)), bytes(range(1, 17))

pytestmark = pytest.mark.store


@pytest.fixture
def vault(instance: Instance) -> Vault:
    """A vault whose clock stands at noon of 21 November 2026."""
    return Vault(instance.vault_pool, instance.services.vault.provider, clock=lambda: NOW, journal=instance.custody)


@pytest.fixture
def tenant() -> UUID:
    """An account with no keys yet."""
    return uuid4()


def destroy(vault: Vault, tenant: UUID, *names: KeyName) -> list[KeyName]:
    return [key.name for key in vault.destroy_keys(tenant, names, when=NOW, cause="time", certificate="c")]


def test_a_persons_key_is_due_when_nothing_kept_it_alive(vault: Vault, tenant: UUID) -> None:
    """Given two persons' keys of one day, when one of them is used later, then only the other is due by that day."""
    vault.ensure_subject_keys(tenant, Support.name, [KID, OTHER], used_on=date(2024, 2, 29))
    assert vault.touch(tenant, Support.name, {OTHER: date(2026, 1, 2)}) == 1
    due = vault.keys_due(tenant, Support.name, date(2025, 1, 1))
    assert [(key.holder, key.last_on) for key in due] == [(KID, date(2024, 2, 29))]
    assert len(vault.keys_due(tenant, Support.name, date(2026, 1, 2))) == 2
    assert vault.keys_due(tenant, Support.name, date(2024, 2, 28)) == []
    assert vault.keys_due(tenant, Billing.name, date(2026, 1, 2)) == []


def test_what_arrives_late_moves_no_clock_back(vault: Vault, tenant: UUID) -> None:
    """Given a key used in 2026, when an act of 2025 is told afterwards, then its clock stays."""
    vault.ensure_subject_keys(tenant, Support.name, [KID], used_on=date(2026, 5, 1))
    assert vault.touch(tenant, Support.name, {KID: date(2025, 5, 1)}) == 0
    assert vault.keys_due(tenant, Support.name, date(2026, 4, 30)) == []
    assert vault.touch(uuid4(), Support.name, {KID: date(2027, 5, 1)}) == 0


def test_each_clock_moves_to_its_own_day(vault: Vault, tenant: UUID) -> None:
    """Given new and old keys used on different days, when all are told at once, then each stands on its own day."""
    kids = sorted(os.urandom(16) for _ in range(4))
    days = {kid: date(2026, 5, number) for number, kid in enumerate(kids, 1)}
    vault.ensure_subject_keys(tenant, Support.name, kids[:2], used_on=days)
    vault.ensure_subject_keys(tenant, Support.name, kids[2:], used_on=date(2026, 5, 4))
    vault.ensure_subject_keys(tenant, Support.name, kids, generation=2, used_on=date(2026, 1, 1))
    assert vault.touch(tenant, Support.name, days | {kids[0]: date(2026, 6, 1)}) == 1
    later = [date(2026, 6, 1), date(2026, 5, 2), date(2026, 5, 4), date(2026, 5, 4)]
    due = {(key.holder, key.generation): key.last_on for key in vault.keys_due(tenant, Support.name, NOW.date())}
    assert [due[kid, 1] for kid in kids] == later
    assert {due[kid, 2] for kid in kids} == {date(2026, 1, 1)}


def test_what_is_due_comes_in_pages(vault: Vault, tenant: UUID) -> None:
    """Given seven due keys in two generations, when they are asked for three at a time, then each comes once."""
    kids = sorted(os.urandom(16) for _ in range(7))
    vault.ensure_subject_keys(tenant, Engagement.name, kids)
    vault.ensure_subject_keys(tenant, Engagement.name, kids[:2], generation=2)
    seen: list[tuple[bytes, int]] = []
    while page := vault.keys_due(tenant, Engagement.name, NOW.date(), after=seen[-1] if seen else (b"", 0), limit=3):
        assert len(page) <= 3
        seen += [(key.holder, key.generation) for key in page]
    assert seen == sorted([(kid, 1) for kid in kids] + [(kid, 2) for kid in kids[:2]])


def test_some_classes_of_a_person_can_be_kept(vault: Vault, tenant: UUID) -> None:
    """Given billing that the law keeps, when the person is destroyed but for it, then only it opens, now and later."""
    names = [KeyName(KID, c) for c in (Support.name, Billing.name)]
    before = vault.ensure(tenant, names)
    destroyed = vault.destroy_holder(
        tenant, KID, keep=frozenset({Billing.name}), when=NOW, cause="asked", certificate="c"
    )
    assert [(key.name, key.commitment, key.created_on) for key in destroyed] == [
        (names[0], key_commitment(before[names[0]]), NOW.date())
    ]
    found = vault.find(tenant, names)
    assert found.keys == {names[1]: before[names[1]]}
    assert set(found.tombstones) == {names[0]}
    with pytest.raises(KeyDestroyed):
        vault.ensure(tenant, [KeyName(KID, "usage")])
    assert vault.destroy_holder(tenant, KID, keep=frozenset({Billing.name}), when=NOW, cause="x", certificate=None) == (
        destroyed
    )


def test_one_generation_goes_and_the_next_stays(vault: Vault, tenant: UUID) -> None:
    """Given two generations of a person's key, when the first is destroyed, then it is never made, the second lives."""
    first, second = KeyName(KID, "link"), KeyName(KID, "link", "", 2)
    vault.ensure(tenant, [first, second])
    assert destroy(vault, tenant, first) == [first]
    assert destroy(vault, tenant, first) == []
    found = vault.find(tenant, [first, second])
    assert (set(found.keys), set(found.tombstones)) == ({second}, {first})
    assert vault.ensure_subject_keys(tenant, "link", [KID]) == {}
    assert set(vault.ensure_subject_keys(tenant, "link", [KID], generation=2)) == {KID}


def test_a_period_before_a_destroyed_one_is_never_made(vault: Vault, tenant: UUID) -> None:
    """Given a destroyed month, when data of an earlier month without a key arrives, then it makes none (FAULTS 14a)."""
    destroy(vault, tenant, KeyName(TENANT_HOLDER, Engagement.name, "2024-10"))
    with pytest.raises(PeriodDestroyed, match="2024-09"):
        vault.ensure(tenant, [KeyName(TENANT_HOLDER, Engagement.name, "2024-09")])
    assert vault.find(tenant, [KeyName(TENANT_HOLDER, Engagement.name, "2024-09")]).keys == {}
    vault.ensure(tenant, [KeyName(TENANT_HOLDER, Engagement.name, "2024-11"), KeyName(KID, Engagement.name)])


def test_a_whole_class_goes_at_once(vault: Vault, tenant: UUID) -> None:
    """Given a class of a closed account, when it goes, then nothing of it opens or is made; others stay."""
    months = [KeyName(TENANT_HOLDER, Engagement.name, month) for month in ("2026-10", MONTH)]
    person, other = KeyName(KID, Engagement.name), KeyName(TENANT_HOLDER, Billing.name, MONTH)
    vault.ensure(tenant, [*months, person, other])
    keyring = Keyring(vault, tenant)
    assert isinstance(keyring.opening_scope(KID, Engagement.name, MONTH), bytes)
    keyring.forget_all()
    went = vault.destroy_class(tenant, Engagement.name, when=NOW, cause="account closed")
    assert {key.name for key in went} == set(months)
    assert isinstance(keyring.opening_scope(KID, Engagement.name, MONTH), Erased)
    for month in (MONTH, "2027-01"):
        with pytest.raises(PeriodDestroyed):
            vault.ensure(tenant, [KeyName(TENANT_HOLDER, Engagement.name, month)])
    assert vault.purge_class(tenant, Engagement.name) == 1
    assert vault.purge_class(tenant, Engagement.name) == 0
    keyring.forget_all()
    assert isinstance(keyring.opening_scope(KID, Engagement.name, MONTH), Erased)
    assert set(vault.find(tenant, [other]).keys) == {other}


def test_a_held_person_stays_readable_after_the_period_went(vault: Vault, tenant: UUID) -> None:
    """Given one of two persons in escrow, when the month's key goes, then that one opens, until the escrow goes too."""
    month = KeyName(TENANT_HOLDER, Engagement.name, MONTH)
    persons = [KeyName(KID, Engagement.name), KeyName(OTHER, Engagement.name)]
    keys = vault.ensure(tenant, [month, *persons])
    scope = scope_key(keys[persons[0]], keys[month])
    kept = KeyName(KID, Engagement.name, MONTH)
    vault.escrow(tenant, {kept: scope})
    vault.escrow(tenant, {kept: scope})
    destroy(vault, tenant, month)
    keyring = Keyring(vault, tenant)
    assert keyring.opening_scope(KID, Engagement.name, MONTH) == scope
    assert isinstance(keyring.opening_scope(OTHER, Engagement.name, MONTH), Erased)
    destroy(vault, tenant, kept)
    keyring.forget_all()
    assert isinstance(keyring.opening_scope(KID, Engagement.name, MONTH), Erased)
    with pytest.raises(KeyDestroyed):
        vault.escrow(tenant, {kept: scope})


def test_nobody_who_was_erased_is_put_in_escrow(vault: Vault, tenant: UUID) -> None:
    """Given a destroyed person, when their K is to be escrowed, then it is refused and nothing is kept (I5)."""
    vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate=None)
    with pytest.raises(KeyDestroyed):
        vault.escrow(tenant, {KeyName(KID, Engagement.name, MONTH): bytes(32)})


def test_a_missing_key_without_any_tombstone_is_an_incident(vault: Vault, tenant: UUID) -> None:
    """Given a living month and a person without a key or tombstone, when it is opened, then it is KeyMissing (I6)."""
    vault.ensure(tenant, [KeyName(TENANT_HOLDER, Engagement.name, MONTH)])
    with pytest.raises(KeyMissing):
        Keyring(vault, tenant).opening_scope(KID, Engagement.name, MONTH)


class Journal:
    """Keeps notes in memory, and may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.notes: list[Tombstone] = []
        self._fails = fails

    def note(self, entries: Sequence[Tombstone]) -> None:
        if self._fails:
            raise OSError("The disk is full.")
        self.notes += entries


def test_nothing_is_destroyed_before_the_journal_has_it(own_instance: Instance, own_ledger: Ledger) -> None:
    """Given a journal that cannot be written, when keys are destroyed, then they stay; with one, it says which."""
    provider, name = own_instance.services.vault.provider, KeyName(KID, Support.name)
    tenant = own_ledger.tenant
    failing = Vault(own_instance.vault_pool, provider, journal=Journal(fails=True))
    failing.ensure(tenant, [name])
    with pytest.raises(OSError, match="disk"):
        failing.destroy_keys(tenant, [name], when=NOW, cause="time")
    with pytest.raises(OSError, match="disk"):
        failing.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate=None)
    assert set(failing.find(tenant, [name]).keys) == {name}
    journal = Journal()
    noting = Vault(own_instance.vault_pool, provider, journal=journal)
    noting.destroy_keys(tenant, [name], when=NOW, cause="time")
    noting.destroy_holder(tenant, OTHER, when=NOW, cause="asked", certificate="c")
    assert journal.notes == [
        Tombstone(tenant, KID, Support.name, "", 1, NOW, "time", None),
        Tombstone(tenant, OTHER, "*", "*", 0, NOW, "asked", "c"),
    ]


def test_a_key_is_committed_to_when_it_is_made(vault: Vault, tenant: UUID, instance: Instance) -> None:
    """Given keys made in both ways, when the vault is read, then each stands beside the commitment of that key."""
    names = [KeyName(KID, Support.name), KeyName(TENANT_HOLDER, Support.name, MONTH)]
    keys = vault.ensure(tenant, names) | {
        KeyName(OTHER, Support.name): vault.ensure_subject_keys(tenant, Support.name, [OTHER])[OTHER]
    }
    with psycopg.connect(instance.urls.vault) as connection:
        rows: list[Any] = connection.execute(
            "SELECT holder, period, commitment FROM lethe_vault.wrapped_key WHERE tenant_id = %s", (tenant,)
        ).fetchall()
    assert {(bytes(h), p): bytes(c) for h, p, c in rows} == {
        (n.holder, n.period): key_commitment(key) for n, key in keys.items()
    }
