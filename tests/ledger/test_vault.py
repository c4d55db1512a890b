"""Keys: what is destroyed stays destroyed, what is missing is not erased, and no key leaves its place (I5, I6)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from domain.ids import month_of
from domain.personal import ConsentEvidence, Erased, Identity, Personal
from domain.subject import ContactAdded
from domain.subject_commands import AddContact
from ledger.application import Ledger
from ledger.errors import KeyDestroyed, KeyMissing, PeriodDestroyed, TamperError
from ledger.keys.keyring import Keyring
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER, KeyName, Vault
from ledger.sealing import KEY_BYTES
from ledger.subjects import Act
from retention.erasure.erasing import finish_erasures
from tests.acts import add, emails, person, say, topics

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KID = bytes(range(16))
MONTH = "2026-11"


@pytest.fixture
def vault(instance: Instance) -> Vault:
    """The vault, with keys of tenants that nobody else uses."""
    return instance.services.vault


@pytest.fixture
def tenant() -> UUID:
    """A tenant without an account: the vault asks for none."""
    return uuid4()


@pytest.fixture
def hand(server: Any, instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody with a hand in the vault's database, past the program."""
    with psycopg.connect(server.url("lethe_vault"), autocommit=True) as connection:
        yield connection


NAMES = [
    KeyName(KID, Identity.name),
    KeyName(KID, "link"),
    KeyName(TENANT_HOLDER, Identity.name, MONTH),
    KeyName(TENANT_HOLDER, "pepper", "", 1),
    KeyName(TENANT_HOLDER, "suppression", FOR_EVER),
]


@pytest.mark.store
def test_a_key_is_made_once(vault: Vault, tenant: UUID) -> None:
    """Given names without keys, when they are ensured twice, then the same keys come, all different."""
    made = vault.ensure(tenant, NAMES)
    assert vault.ensure(tenant, NAMES) == made == vault.find(tenant, NAMES).keys
    assert len(set(made.values())) == len(NAMES)
    assert all(len(key) == KEY_BYTES for key in made.values())


@pytest.mark.store
def test_finding_makes_no_key(vault: Vault, tenant: UUID) -> None:
    """Given a name without a key, when it is looked for, then it is in neither list, and still is not made."""
    found = vault.find(tenant, NAMES)
    assert (found.keys, found.tombstones) == ({}, {})
    assert vault.find(tenant, NAMES).keys == {}


@pytest.mark.store
def test_both_ways_of_asking_give_the_same_key(vault: Vault, tenant: UUID) -> None:
    """Given a person's key made in bulk, when it is asked for by name, then it is the same, and the reverse."""
    bulk = vault.ensure_subject_keys(tenant, Identity.name, [KID])
    assert vault.ensure(tenant, [KeyName(KID, Identity.name)]) == {KeyName(KID, Identity.name): bulk[KID]}
    single = vault.ensure(tenant, [KeyName(KID, "usage")])
    assert vault.ensure_subject_keys(tenant, "usage", [KID]) == {KID: single[KeyName(KID, "usage")]}


@pytest.mark.store
def test_a_destroyed_persons_keys_are_never_made_again(vault: Vault, tenant: UUID) -> None:
    """Given a destroyed holder, when any key of theirs is asked for, then it is refused, old classes and new."""
    vault.ensure(tenant, NAMES)
    destroyed = vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate="c1")
    assert [key.name.retention_class for key in destroyed] == ["identity", "link"]
    for retention_class in (Identity.name, "link", "usage"):
        name = KeyName(KID, retention_class)
        assert vault.find(tenant, [name]).tombstones == {name: Erased(NOW, "asked", "c1")}
        with pytest.raises(KeyDestroyed):
            vault.ensure(tenant, [KeyName(TENANT_HOLDER, "feed"), name])
        assert vault.ensure_subject_keys(tenant, retention_class, [KID]) == {}
    assert set(vault.find(tenant, NAMES).keys) == set(NAMES[2:])


@pytest.mark.store
def test_destroying_again_changes_nothing(vault: Vault, tenant: UUID) -> None:
    """Given a destroyed holder, when the step is repeated, then it answers as the first time did."""
    vault.ensure(tenant, NAMES)
    first = vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate="c1")
    again = vault.destroy_holder(tenant, KID, when=NOW.replace(year=2030), cause="other", certificate="c2")
    assert again == first
    assert vault.find(tenant, NAMES[:1]).tombstones[NAMES[0]] == Erased(NOW, "asked", "c1")


@pytest.mark.store
def test_a_destroyed_period_is_never_made_again(vault: Vault, tenant: UUID) -> None:
    """Given a destroyed month of a class, when it is asked for, then it is refused; its neighbours are not."""
    vault.ensure(tenant, NAMES)
    assert vault.destroy_period(tenant, Identity.name, MONTH, when=NOW, cause="time") == 1
    assert vault.destroy_period(tenant, Identity.name, MONTH, when=NOW, cause="time") == 0
    with pytest.raises(PeriodDestroyed, match="2026-11"):
        vault.ensure(tenant, [KeyName(TENANT_HOLDER, Identity.name, MONTH)])
    vault.ensure(tenant, [KeyName(TENANT_HOLDER, Identity.name, "2026-12"), KeyName(TENANT_HOLDER, "consent", MONTH)])
    vault.ensure(uuid4(), [KeyName(TENANT_HOLDER, Identity.name, MONTH)])


@pytest.mark.store
def test_a_period_destroyed_before_it_began_is_never_made(vault: Vault, tenant: UUID) -> None:
    """Given a period without a key, when it is destroyed, then the tombstone stands and late data makes none."""
    assert vault.destroy_period(tenant, Identity.name, "2020-01", when=NOW, cause="time") == 0
    with pytest.raises(PeriodDestroyed):
        vault.ensure(tenant, [KeyName(TENANT_HOLDER, Identity.name, "2020-01")])


@pytest.mark.store
def test_creating_and_destroying_at_once_never_leaves_a_key(vault: Vault, tenant: UUID, hand: Connection[Any]) -> None:
    """Given threads that make and destroy the keys of one person and month, when all are done, then no key is left."""
    names = [KeyName(KID, c) for c in ("identity", "consent", "engagement")] + [NAMES[2]]
    barrier = Barrier(6)

    def create(number: int) -> None:
        barrier.wait()
        for _ in range(20):
            try:
                vault.ensure(tenant, [names[number % len(names)]])
                vault.ensure_subject_keys(tenant, "usage", [KID])
            except (KeyDestroyed, PeriodDestroyed):
                return

    def destroy() -> None:
        barrier.wait()
        vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate=None)
        vault.destroy_period(tenant, Identity.name, MONTH, when=NOW, cause="time")

    with ThreadPoolExecutor(6) as threads:
        runs = [threads.submit(create, n) for n in range(5)] + [threads.submit(destroy)]
        for run in runs:
            run.result(60)
    found = vault.find(tenant, [*names, KeyName(KID, "usage")])
    assert found.keys == {}
    assert set(found.tombstones) == {*names, KeyName(KID, "usage")}
    assert wraps(hand, tenant) == 0


@pytest.mark.store
@pytest.mark.parametrize("many", [False, True], ids=["by name", "of many persons"])
def test_a_key_on_its_way_is_destroyed_with_the_others(
    vault: Vault, tenant: UUID, hand: Connection[Any], monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    """Given a key that was found missing, when it is destroyed before it is written, then it is gone after both."""
    maker = vault._subject_keys if many else vault
    real, destroyed = maker._insert, []

    def destroy() -> None:
        vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate=None)
        destroyed.append(True)

    with ThreadPoolExecutor(1) as threads:

        def insert(*arguments: Any) -> Any:
            run = threads.submit(destroy)
            wait([run], timeout=0.3)  # It waits for us, as it should, or has overtaken us.
            return real(*arguments)

        monkeypatch.setattr(maker, "_insert", insert)
        if many:
            vault.ensure_subject_keys(tenant, Identity.name, [KID])
        else:
            vault.ensure(tenant, [KeyName(KID, Identity.name)])
    assert destroyed == [True]
    assert wraps(hand, tenant) == 0


def wraps(hand: Connection[Any], tenant: UUID) -> int:
    row = hand.execute("SELECT count(*) FROM lethe_vault.wrapped_key WHERE tenant_id = %s", (tenant,)).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.store
def test_a_wrap_that_came_back_does_not_open(vault: Vault, tenant: UUID, hand: Connection[Any]) -> None:
    """Given a destroyed key, when its wrap is put back by a restore or by hand, then its tombstone wins (FAULTS 10)."""
    names = [KeyName(KID, Identity.name), KeyName(TENANT_HOLDER, Identity.name, MONTH)]
    vault.ensure(tenant, names)
    hand.execute("CREATE TEMP TABLE kept AS SELECT * FROM lethe_vault.wrapped_key WHERE tenant_id = %s", (tenant,))
    vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate=None)
    vault.destroy_period(tenant, Identity.name, MONTH, when=NOW, cause="time")
    hand.execute("INSERT INTO lethe_vault.wrapped_key SELECT * FROM kept")
    found = vault.find(tenant, names)
    assert found.keys == {}
    assert set(found.tombstones) == set(names)
    assert vault.ensure_subject_keys(tenant, Identity.name, [KID]) == {}
    with pytest.raises(KeyDestroyed):
        vault.ensure(tenant, names[:1])


@pytest.mark.store
def test_a_wrap_opens_only_where_it_was_written(vault: Vault, tenant: UUID, hand: Connection[Any]) -> None:
    """Given a wrap, when it takes another name, tenant or byte, then it is a TamperError (FAULTS 17)."""
    other = bytes(reversed(KID))
    changes = {
        "class = 'consent'": KeyName(KID, "consent"),
        f"holder = '\\x{other.hex()}'": KeyName(other, "identity"),
        "generation = 2": KeyName(KID, "identity", "", 2),
        "period = 'ever'": KeyName(KID, "identity", "ever"),
        "wrap = set_byte(wrap, 20, get_byte(wrap, 20) # 1)": KeyName(KID, "identity"),
    }
    for change, name in changes.items():
        vault.ensure(tenant, [KeyName(KID, "identity")])
        hand.execute(f"UPDATE lethe_vault.wrapped_key SET {change} WHERE tenant_id = %s".encode(), (tenant,))
        with pytest.raises(TamperError):
            vault.find(tenant, [name])
        hand.execute("DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s", (tenant,))
    vault.ensure(tenant, [KeyName(KID, "link")])
    stranger = uuid4()
    hand.execute("UPDATE lethe_vault.wrapped_key SET tenant_id = %s WHERE tenant_id = %s", (stranger, tenant))
    with pytest.raises(TamperError):
        vault.find(stranger, [KeyName(KID, "link")])


@pytest.mark.store
def test_a_wrap_of_an_older_epoch_cannot_be_replayed(own_instance: Instance, tenant: UUID) -> None:
    """Given a wrap of epoch 1, when it is put back as one of epoch 2, then it does not open."""
    vault, provider = own_instance.services.vault, own_instance.services.vault.provider
    vault.ensure(tenant, [NAMES[0]])
    provider.create(2)
    renumber = "UPDATE lethe_vault.wrapped_key SET epoch = %s WHERE tenant_id = %s"
    with own_instance.vault_pool.transaction() as connection:
        connection.execute(renumber, (2, tenant))
    with pytest.raises(TamperError):
        vault.find(tenant, [NAMES[0]])
    with own_instance.vault_pool.transaction() as connection:
        connection.execute(renumber, (1, tenant))
    assert set(vault.find(tenant, [NAMES[0]]).keys) == {NAMES[0]}


# Missing is not erased (I6) ------------------------------------------------------------------------------------------


@pytest.mark.store
def test_a_lost_key_is_an_incident_and_a_tombstone_an_erasure(ledger: Ledger, hand: Connection[Any]) -> None:
    """Given two people, when one's key is lost and the other is erased, then KeyMissing and Erased."""
    people = emails(2)
    add(ledger, people)
    events = {event.originator_id: event for event in ledger.log.select_log(2, 10)}
    lost, erased = (events[UUID(bytes=person(ledger, p).person.subject)] for p in people)
    kid = person(ledger, people[0]).person.kid
    delete = "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = 'identity'"
    assert hand.execute(delete, (ledger.tenant, kid)).rowcount == 1
    ledger.erasures.intend(people[1:], reason="asked", actor="cli")
    finish_erasures(ledger)
    ledger.keyring.forget_all()
    with pytest.raises(KeyMissing, match="incident"):
        ledger.sealing.open(lost)
    found: Any = ledger.sealing.open(erased)
    assert isinstance(found.email, Erased)


@pytest.mark.store
def test_a_lost_period_key_is_an_incident(ledger: Ledger, hand: Connection[Any]) -> None:
    """Given a month's key lost by hand, when a part of that month is opened, then KeyMissing and not Erased."""
    add(ledger, emails(1))
    delete = "DELETE FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = 'identity' AND period <> ''"
    assert hand.execute(delete, (ledger.tenant,)).rowcount == 1
    ledger.keyring.forget_all()
    with pytest.raises(KeyMissing):
        ledger.sealing.open(ledger.log.select_log(2, 1)[0])


@pytest.mark.store
def test_late_data_of_a_destroyed_period_is_refused_and_makes_no_key(ledger: Ledger) -> None:
    """Given a month whose evidence key is destroyed, when a word of that month arrives, then it alone is refused."""
    people = emails(2)
    add(ledger, people)
    old = datetime(2021, 3, 5, tzinfo=UTC)
    month = month_of(old)
    ledger.services.vault.destroy_period(ledger.tenant, ConsentEvidence.name, month, when=NOW, cause="time")
    before = topics(ledger)
    late = say(ledger, people[:1], "grant", at=old)
    assert isinstance(late[0].refused, PeriodDestroyed)
    assert topics(ledger) == before
    name = KeyName(TENANT_HOLDER, ConsentEvidence.name, month)
    assert ledger.services.vault.find(ledger.tenant, [name]).keys == {}
    assert say(ledger, people[1:], "grant")[0].facts


# Leases --------------------------------------------------------------------------------------------------------------


def test_another_process_stops_opening_after_its_lease(
    vault: Vault, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a keyring that holds a key, when another destroys it, then the first stops within its lease (FAULTS 8)."""
    here, there = Keyring(vault, tenant), Keyring(vault, tenant, lease_seconds=30)
    now = [1000.0]
    monkeypatch.setattr("ledger.keys.keyring.time.monotonic", lambda: now[0])
    names = [KeyName(KID, Identity.name), KeyName(TENANT_HOLDER, Identity.name, MONTH)]
    scope = here.ensure(names) and here.opening_scope(KID, Identity.name, MONTH)
    assert there.opening_scope(KID, Identity.name, MONTH) == scope
    assert there.subject_keys(Identity.name, [KID])
    vault.destroy_holder(tenant, KID, when=NOW, cause="asked", certificate=None)
    here.forget(KID)
    assert here.opening_scope(KID, Identity.name, MONTH) == Erased(NOW, "asked")
    assert here.subject_keys(Identity.name, [KID]) == {}
    now[0] += 29
    assert there.opening_scope(KID, Identity.name, MONTH) == scope
    now[0] += 2
    assert there.opening_scope(KID, Identity.name, MONTH) == Erased(NOW, "asked")
    assert there.subject_keys(Identity.name, [KID]) == {}
    with pytest.raises(KeyDestroyed):
        there.ensure(names[:1])


def test_a_period_is_forgotten_by_who_destroys_it(vault: Vault, tenant: UUID) -> None:
    """Given a held period key, when this process destroys it, then it opens nothing more here at once."""
    keyring = Keyring(vault, tenant)
    keyring.ensure([KeyName(TENANT_HOLDER, Identity.name, MONTH), KeyName(TENANT_HOLDER, Identity.name)])
    vault.destroy_period(tenant, Identity.name, MONTH, when=NOW, cause="time")
    keyring.forget_period(Identity.name, MONTH)
    assert keyring.opening_scope(TENANT_HOLDER, Identity.name, MONTH) == Erased(NOW, "time")
    with pytest.raises(PeriodDestroyed):
        keyring.period_key(Identity.name, MONTH)


def test_no_lease_is_longer_than_a_minute(vault: Vault, tenant: UUID) -> None:
    """A lease that a caller wants longer is cut to sixty seconds, which certificates rely on."""
    assert Keyring(vault, tenant, lease_seconds=3600)._lease_seconds == 60


@pytest.mark.store
def test_keys_made_for_a_refused_command_serve_the_next(ledger: Ledger) -> None:
    """Given keys made before the lock for a command that failed, when it comes again, then it works as usual."""

    def fail(*_: Any) -> None:
        raise RuntimeError("cut off")

    act = Act(AddContact("late@example.com"), address="late@example.com", actor="cli")
    with pytest.raises(RuntimeError):
        ledger.subjects.act([act], also=fail)
    ledger.act(act)
    fact = ledger.sealing.open(ledger.log.select_log(2, 1)[0])
    assert isinstance(fact, ContactAdded)
    assert fact.email == Personal("late@example.com")
