"""The roll of the vault: in place, in batches, beside everything else, killed anywhere (FAULTS 2, 7, 7a, 10, 17)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance
from domain.personal import Erased
from ledger.custody.key_files import FileKeyProvider
from ledger.custody.provider import EpochKeyProvider
from ledger.errors import KeyDestroyed, KeyMissing, RollIncomplete, TamperError
from ledger.keys.epochs import newest_epoch
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.keys.rolling import VaultRoll
from ledger.keys.vault import Vault
from ledger.keys.wraps import wrap_aad
from ledger.sealing import open_box
from retention.horizon.horizon import Horizon, RollRunning
from tests.rolls import (
    days,
    epochs_of_wraps,
    found_keys,
    noon,
    persons_keys,
    roll,
    roll_and_be_killed,
    roll_to_the_end,
)
from tests.workers import finish, see_killed, start

pytestmark = pytest.mark.store

NOW = noon(2026, 11, 21)
PER_BATCH = 4
PEOPLE = 18
SELECT_WRAP = "SELECT epoch, wrap FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s AND class = %s"


@pytest.fixture
def vault(own_instance: Instance) -> Vault:
    """The vault of an installation of its own."""
    return own_instance.services.vault


@pytest.fixture
def tenant() -> UUID:
    """An account that nobody uses."""
    return uuid4()


@pytest.fixture
def hand(own_instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody with full rights on the vault's database."""
    assert own_instance.settings.vault_owner_url is not None
    with psycopg.connect(own_instance.settings.vault_owner_url, autocommit=True) as connection:
        yield connection


def rolled(instance: Instance, per_batch: int = PER_BATCH) -> VaultRoll:
    """A roll whose epoch was opened a moment ago."""
    into = instance.services.epochs.begin(NOW)
    return VaultRoll(instance.vault_pool, instance.services.vault.provider, into, wraps_per_batch=per_batch)


def run(vault_roll: VaultRoll) -> int:
    """Renew and verify everything; returns how many wraps were renewed."""
    renewed = sum(step.rows for step in vault_roll.renew_all())
    list(vault_roll.verify())
    return renewed


def epoch_of(hand: Connection[Any], tenant: UUID, kid: bytes, retention_class: str = "identity") -> int:
    row = hand.execute(SELECT_WRAP, (tenant, kid, retention_class)).fetchone()
    assert row is not None
    return int(row[0])


def test_every_wrap_is_renewed_and_every_key_is_the_same(own_instance: Instance, vault: Vault, tenant: UUID) -> None:
    """Given keys of every kind of two accounts, when the epoch is rolled, then all are in the new one, unchanged."""
    # given
    names = [
        KeyName(TENANT_HOLDER, "identity", "2026-11"),
        KeyName(TENANT_HOLDER, "access_log", "2026-11-21"),
        KeyName(TENANT_HOLDER, "suppression", "ever"),
        KeyName(TENANT_HOLDER, "pepper"),
        KeyName(os.urandom(16), "link", "", 2),
        KeyName(os.urandom(16), "engagement", "2026-10"),
    ]
    before = vault.ensure(tenant, names)
    others = uuid4()
    people = persons_keys(own_instance, others, PEOPLE)
    # when
    renewed = run(rolled(own_instance))
    # then
    assert renewed == len(names) + PEOPLE
    assert vault.find(tenant, names).keys == before
    assert found_keys(own_instance, others, list(people), "identity") == people
    assert epochs_of_wraps(own_instance, tenant) == epochs_of_wraps(own_instance, others) == {2}
    assert run(rolled(own_instance)) == 0, "The roll is not recorded as verified, so it is the same one again."


def test_keys_made_and_destroyed_at_every_batch_boundary(own_instance: Instance, vault: Vault, tenant: UUID) -> None:
    """Given a roll in batches, when at each boundary a key is made, one is touched and two are destroyed, one renewed
    already and one not yet, then nothing destroyed is back, nothing else is lost, and no wrap is left behind."""
    # given
    people = persons_keys(own_instance, tenant, 60)
    in_order = sorted(people)
    gone, made = set(), dict[bytes, bytes]()
    vault_roll = rolled(own_instance)
    # when
    for boundary, _ in enumerate(vault_roll.renew()):
        if boundary < 9:
            for kid in (in_order[2 * boundary], in_order[-1 - boundary]):
                vault.destroy_holder(tenant, kid, when=NOW, cause="asked", certificate=None)
                gone.add(kid)
        made |= persons_keys(own_instance, tenant, 1)
        vault.touch(tenant, "identity", {in_order[30]: NOW.replace(year=2030).date()})
    assert len(gone) == 18
    assert len(made) >= 10
    # then
    run(vault_roll)
    survivors = {kid: key for kid, key in people.items() if kid not in gone} | made
    assert found_keys(own_instance, tenant, [*people, *made], "identity") == survivors
    found = vault.find(tenant, [KeyName(kid, "identity") for kid in gone])
    assert {name.holder for name in found.tombstones} == gone
    assert epochs_of_wraps(own_instance, tenant) == {2}
    assert [due.last_on.year for due in vault.keys_due(tenant, "identity", NOW.replace(year=2031).date())].count(2030)


@pytest.mark.parametrize("steps", range(11))
def test_killed_at_any_batch_boundary_it_is_begun_again(own_instance: Instance, tenant: UUID, steps: int) -> None:
    """Given a process killed by -9 after so many batches, when another rolls, then every key opens, in one epoch."""
    # given
    people = persons_keys(own_instance, tenant, PEOPLE)
    child = start(_killed, own_instance.settings, steps)
    see_killed(child, own_instance)
    assert found_keys(own_instance, tenant, list(people), "identity") == people
    # when
    list(Horizon(own_instance.services).roll())
    # then
    assert found_keys(own_instance, tenant, list(people), "identity") == people
    assert epochs_of_wraps(own_instance, tenant) == {2}
    assert [epoch.state for epoch in own_instance.services.epochs.all()] == ["verified", "open"]


def _killed(settings: Any, steps: int) -> None:
    """In a process of its own, with small batches."""
    real = VaultRoll.__init__

    def small(self: VaultRoll, *arguments: Any, **_: Any) -> None:
        real(self, *arguments, wraps_per_batch=PER_BATCH)

    VaultRoll.__init__ = small  # type: ignore[method-assign]
    roll_and_be_killed(settings, steps)


def test_killed_between_the_key_and_its_row_the_next_roll_takes_that_key(
    own_instance: Instance, vault: Vault, tenant: UUID
) -> None:
    """Given an epoch key that is durable while its row never came, when it is rolled, then into that epoch, and until
    then nobody writes under it: a certificate's day would be wrong."""
    # given
    own_instance.services.epochs.adopt(NOW)
    people = persons_keys(own_instance, tenant, 2)
    vault.provider.create(2)
    assert vault.provider.current() == 2
    people |= persons_keys(own_instance, tenant, 1)
    assert epochs_of_wraps(own_instance, tenant) == {1}
    # when
    roll(own_instance)
    # then
    assert epochs_of_wraps(own_instance, tenant) == {2}
    assert vault.provider.living() == (1, 2)
    assert found_keys(own_instance, tenant, list(people), "identity") == people


# The fence -----------------------------------------------------------------------------------------------------------


def test_a_writer_that_knows_only_the_old_epoch_writes_under_the_new_one(
    own_instance: Instance, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a process that read the key folders before the roll and never again, when it makes keys after the roll,
    then they are under the new epoch."""
    # given
    own_instance.services.epochs.adopt(NOW)
    provider = FileKeyProvider(own_instance.settings.folders_for_keys())
    assert provider.current() == 1
    stale = Vault(own_instance.vault_pool, provider)
    stale.ensure(tenant, [KeyName(TENANT_HOLDER, "feed")])
    roll(own_instance)
    monkeypatch.setattr(provider, "_looked_at", float("inf"))
    assert provider.current() == 1
    # when
    stale.ensure(tenant, [KeyName(TENANT_HOLDER, "usage")])
    stale.ensure_subject_keys(tenant, "identity", [os.urandom(16)])
    stale.escrow(tenant, {KeyName(os.urandom(16), "identity", "2026-10"): os.urandom(32)})
    # then
    assert epochs_of_wraps(own_instance, tenant) == {2}
    assert [epoch.state for epoch in own_instance.services.epochs.all()] == ["verified", "open"]


def test_an_epoch_opens_only_when_writers_under_way_are_done(
    own_instance: Instance, vault: Vault, tenant: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a writer between choosing its epoch and committing, when a roll begins, then it waits and finds it."""
    chosen, go_on = Event(), Event()

    def slow(connection: Connection[Any], provider: EpochKeyProvider) -> int:
        epoch = newest_epoch(connection, provider)
        chosen.set()
        assert go_on.wait(60)
        return epoch

    monkeypatch.setattr("ledger.keys.subject_keys.newest_epoch", slow)
    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(persons_keys, own_instance, tenant, 1)
        assert chosen.wait(60)
        monkeypatch.undo()
        rolling = threads.submit(roll, own_instance)
        assert wait([rolling], timeout=0.5).not_done, "The epoch was opened although a writer was still in the old one."
        go_on.set()
        people, steps = writing.result(60), rolling.result(60)
    assert [(step.stage, step.rows) for step in steps][:1] == [("renew keys", 1)]
    assert epochs_of_wraps(own_instance, tenant) == {2}
    assert found_keys(own_instance, tenant, list(people), "identity") == people


def test_a_row_that_somebody_holds_is_passed_by_and_met_again(
    own_instance: Instance, tenant: UUID, hand: Connection[Any]
) -> None:
    """Given a deletion that is not committed, when a batch comes by, then it does not wait, and the row stays gone."""
    people = persons_keys(own_instance, tenant, 6)
    gone = sorted(people)[2]
    vault_roll = rolled(own_instance)
    with hand.transaction():
        hand.execute("DELETE FROM lethe_vault.wrapped_key WHERE holder = %s", (gone,))
        assert sum(step.rows for step in vault_roll.renew()) == 5
    assert run(vault_roll) == 0
    assert set(found_keys(own_instance, tenant, list(people), "identity")) == set(people) - {gone}


def test_control_a_copy_to_a_new_table_brings_a_destroyed_key_back(
    own_instance: Instance, tenant: UUID, hand: Connection[Any]
) -> None:
    """The other way to roll, copying all rows and changing tables, resurrects what was deleted during the copy."""
    kid = next(iter(persons_keys(own_instance, tenant, 1)))
    hand.execute("CREATE TABLE copied (LIKE lethe_vault.wrapped_key INCLUDING ALL)")
    hand.execute("INSERT INTO copied SELECT * FROM lethe_vault.wrapped_key")
    own_instance.services.vault.destroy_holder(tenant, kid, when=NOW, cause="asked", certificate=None)
    assert hand.execute(SELECT_WRAP, (tenant, kid, "identity")).fetchone() is None
    hand.execute("ALTER TABLE lethe_vault.wrapped_key RENAME TO left_behind")
    hand.execute("ALTER TABLE copied SET SCHEMA lethe_vault")
    hand.execute("ALTER TABLE lethe_vault.copied RENAME TO wrapped_key")
    assert hand.execute(SELECT_WRAP, (tenant, kid, "identity")).fetchone() is not None


def test_two_rollers_in_two_processes_do_it_once(own_instance: Instance, tenant: UUID) -> None:
    """Given two processes that roll at once, when both have ended, then one epoch was opened and nothing is lost."""
    people = persons_keys(own_instance, tenant, 500)
    children = [start(_roll_or_be_refused, own_instance.settings) for _ in range(2)]
    finish(children)
    assert own_instance.services.vault.newest_epoch() <= 3, "At most one after the other, never two at once."
    assert all(epoch.state == "verified" for epoch in own_instance.services.epochs.all()[:-1])
    assert found_keys(own_instance, tenant, list(people), "identity") == people
    assert len(epochs_of_wraps(own_instance, tenant)) == 1


def _roll_or_be_refused(settings: Any) -> None:
    try:
        roll_to_the_end(settings)
    except RollRunning:
        return


def test_two_rolls_of_one_epoch_beside_each_other_share_the_work(own_instance: Instance, tenant: UUID) -> None:
    """Given two rolls without the lock above them, when they run at once, then each row is renewed once."""
    people = persons_keys(own_instance, tenant, 300)
    rolls = [rolled(own_instance, 10), rolled(own_instance, 10)]
    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(run, rolls)) == 300
    assert found_keys(own_instance, tenant, list(people), "identity") == people


# What does not open is refused ---------------------------------------------------------------------------------------


def test_a_wrap_of_an_older_epoch_is_refused_wherever_it_is_put(
    own_instance: Instance, vault: Vault, tenant: UUID, hand: Connection[Any]
) -> None:
    """Given a wrap kept from before a roll, when it is put back under the new epoch's number or its own, then it does
    not open, though its epoch key still lives (FAULTS 17)."""
    # given
    kid = next(iter(persons_keys(own_instance, tenant, 1)))
    hand.execute("CREATE TEMP TABLE kept AS SELECT * FROM lethe_vault.wrapped_key")
    roll(own_instance)
    assert vault.provider.key(1)
    new = hand.execute(SELECT_WRAP, (tenant, kid, "identity")).fetchone()
    assert new is not None
    for epoch in (2, 1):
        # when
        hand.execute(
            "UPDATE lethe_vault.wrapped_key w SET wrap = k.wrap, epoch = %s FROM kept k WHERE w.holder = k.holder",
            (epoch,),
        )
        # then
        with pytest.raises(TamperError):
            vault.find(tenant, [KeyName(kid, "identity")])
        with pytest.raises(TamperError):
            vault.ensure_subject_keys(tenant, "identity", [kid])
        with pytest.raises((TamperError, RollIncomplete)):
            roll(own_instance)
    hand.execute("UPDATE lethe_vault.wrapped_key SET wrap = %s, epoch = 2", (new[1],))
    assert found_keys(own_instance, tenant, [kid], "identity")


@pytest.mark.parametrize(
    "change",
    ["wrap = set_byte(wrap, 20, get_byte(wrap, 20) # 1)", "commitment = set_byte(commitment, 0, 0)", "class = 'link'"],
)
def test_a_roll_that_cannot_open_a_wrap_is_never_verified(
    own_instance: Instance, tenant: UUID, hand: Connection[Any], change: str
) -> None:
    """Given one wrap that was changed, when the epoch is rolled, then it fails by name, and the old key is kept."""
    kid = sorted(persons_keys(own_instance, tenant, 10))[7]
    hand.execute("UPDATE lethe_vault.wrapped_key SET commitment = set_byte(commitment, 0, 1) WHERE holder = %s", (kid,))
    hand.execute(f"UPDATE lethe_vault.wrapped_key SET {change} WHERE holder = %s".encode(), (kid,))
    with pytest.raises(TamperError, match=str(tenant)):
        roll(own_instance)
    assert own_instance.services.epochs.all()[0].verified_at is None
    assert own_instance.services.vault.provider.key(1)


def test_keys_without_a_commitment_are_rolled_too(own_instance: Instance, tenant: UUID, hand: Connection[Any]) -> None:
    """Given keys that are older than commitments, when the epoch is rolled, then they are renewed and verified."""
    people = persons_keys(own_instance, tenant, 3)
    hand.execute("UPDATE lethe_vault.wrapped_key SET commitment = NULL")
    roll(own_instance)
    assert found_keys(own_instance, tenant, list(people), "identity") == people


# Forensics -----------------------------------------------------------------------------------------------------------


def test_a_wrap_deleted_before_the_roll_is_worthless_once_its_epoch_key_is_destroyed(
    own_instance: Instance, vault: Vault, tenant: UUID, hand: Connection[Any]
) -> None:
    """Given a wrap read from the table's file on disk after its deletion, then it opens while its epoch key lives (the
    control), and with no secret that is left once that key is destroyed (FAULTS 2)."""
    # given
    (kid, key), *_ = persons_keys(own_instance, tenant, 5).items()
    row = hand.execute(SELECT_WRAP, (tenant, kid, "identity")).fetchone()
    path = hand.execute(
        "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('lethe_vault.wrapped_key')"
    ).fetchone()
    assert row is not None
    assert path is not None
    vault.destroy_holder(tenant, kid, when=NOW, cause="asked", certificate=None)
    hand.execute("CHECKPOINT")
    table = Path(path[0]).read_bytes()
    at = table.find(bytes(row[1]))
    assert at > 0, "The deleted wrap is not on disk any more, so this test shows nothing."
    dead = table[at : at + len(row[1])]
    aad = [wrap_aad(tenant, KeyName(kid, "identity"), epoch) for epoch in (1, 2)]
    assert open_box(vault.provider.key(1), dead, aad[0]) == key
    # when
    roll(own_instance)
    assert open_box(vault.provider.key(1), dead, aad[0]) == key, "The roll alone destroys nothing."
    vault.provider.destroy(1)
    # then
    with pytest.raises(KeyMissing):
        vault.provider.key(1)
    for epoch in vault.provider.living():
        for bound in aad:
            with pytest.raises(TamperError):
                open_box(vault.provider.key(epoch), dead, bound)
    files = [path for folder in own_instance.settings.folders_for_keys() for path in folder.iterdir()]
    assert not any("000001.key" in path.name for path in files)


def test_what_was_destroyed_stays_so_through_a_roll(own_instance: Instance, vault: Vault, tenant: UUID) -> None:
    """Given tombstones from before a roll, when the same keys are asked for after it, then they are refused (I5)."""
    kid = next(iter(persons_keys(own_instance, tenant, 1)))
    vault.destroy_holder(tenant, kid, when=NOW, cause="asked", certificate="c1")
    roll(own_instance)
    with pytest.raises(KeyDestroyed):
        vault.ensure(tenant, [KeyName(kid, "identity")])
    assert vault.find(tenant, [KeyName(kid, "identity")]).tombstones == {
        KeyName(kid, "identity"): Erased(NOW, "asked", "c1")
    }


def test_a_restored_vault_goes_straight_to_the_providers_newest_epoch(own_instance: Instance, tenant: UUID) -> None:
    """Given a vault whose book ends at epoch 1 while the key folders hold 3, when it is rolled, then into 3, and the
    epochs between are entered, so that their keys are destroyed as well."""
    people = persons_keys(own_instance, tenant, 3)
    book, provider = own_instance.services.epochs, own_instance.services.vault.provider
    first = book.adopt(NOW)[0]
    provider.create(2)
    provider.create(3)
    roll(own_instance)
    assert epochs_of_wraps(own_instance, tenant) == {3}
    assert found_keys(own_instance, tenant, list(people), "identity") == people
    second = book.all()[1]
    assert [epoch.state for epoch in book.all()] == ["verified", "verified", "open"]
    assert second.destroy_on <= first.destroy_on + days(book.terms.days)
