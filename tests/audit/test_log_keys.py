"""The keys of a log: opened, shown, replaced while both are valid, retired; and they outlive every destruction."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from api.bootstrap import Instance
from audit.fsck import require_whole_log
from audit.log.errors import LogContradiction, LogKeyRefused
from audit.log.keys import KEYS_MAX, key_id, retire, rotate, signed_note, verifier_key
from audit.log.store import LogKey, PublishedCheckpoint, log_keys
from audit.verify.errors import SignatureRefused
from audit.verify.note import VerifierKey, open_note
from domain.log import LogKeyOpened
from ledger.application import Ledger
from ledger.errors import KeyMissing
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.signing import LOG, SIGNING, note_key
from retention.erasure.erasing import finish_erasures
from retention.horizon.orphans import MadeBetween, collect_orphans
from retention.plans.schedule import run_retention
from tests.acts import add, emails, willing
from tests.audit.test_sequencer import check_all, topics_of
from tests.rolls import epochs_of_wraps, new_account, roll
from tests.support import SettableClock

pytestmark = pytest.mark.store


@pytest.fixture
def log(own_instance: Instance, own_ledger: Ledger) -> Ledger:
    """A published log."""
    own_instance.sequencer.publish()
    return own_ledger


def publish(instance: Instance, ledger: Ledger) -> PublishedCheckpoint:
    add(ledger, emails(1, f"p{len(topics_of(ledger))}-"))
    found = instance.sequencer.publish_tenant(ledger)
    assert found is not None
    return found


def known(ledger: Ledger) -> list[LogKey]:
    with ledger.services.writer.transaction() as connection:
        return log_keys(connection, ledger.tenant)


def keys(ledger: Ledger) -> list[VerifierKey]:
    return [VerifierKey.parse(key.verifier_key) for key in known(ledger)]


def signers(checkpoint: PublishedCheckpoint, *known: VerifierKey) -> list[bytes]:
    return sorted(signed.key.key_id for signed in open_note(checkpoint.note.encode(), known).signed)


def test_the_key_is_known_by_the_logs_own_fact(own_instance: Instance, log: Ledger) -> None:
    """Given a published log, when its facts are read, then they name the verifier key that verifies its checkpoints."""
    (opened,) = [e for e in log.log.select_log(0, 9, inclusive_of_start=False) if e.topic == "log.key_opened.v1"]
    fact = log.sealing.open(opened)
    assert isinstance(fact, LogKeyOpened)
    (key,) = keys(log)
    assert str(key) == fact.verifier_key
    assert (key.name, key.key_id.hex()) == (f"lethe.localhost/log/{log.tenant.hex}", fact.key_id)
    assert signers(publish(own_instance, log), key) == [key.key_id]


def test_both_keys_sign_while_both_are_valid(own_instance: Instance, log: Ledger) -> None:
    """Given a second key, when the log is published, then knowing either is enough, until one is retired."""
    (old,) = keys(log)
    rotate(log, actor="cli")
    _, new = keys(log)
    both = publish(own_instance, log)
    assert signers(both, old) == [old.key_id]
    assert signers(both, new) == [new.key_id]
    assert signers(both, old, new) == sorted([old.key_id, new.key_id])
    retired = retire(log, old.key_id.hex().upper(), actor="cli")
    assert retired.retired_at is not None
    last = publish(own_instance, log)
    assert signers(last, new) == [new.key_id]
    with pytest.raises(SignatureRefused):
        open_note(last.note.encode(), [old])
    assert signers(both, old) == [old.key_id]
    assert [topic for topic in topics_of(log) if topic.startswith("log.")] == [
        "log.series_opened.v1",
        "log.key_opened.v1",
        "log.key_opened.v1",
        "log.key_retired.v1",
    ]
    check_all(own_instance, log)


@pytest.mark.parametrize(
    ("acts", "left"),
    [
        ("open old publish", [2]),
        ("open publish young publish", [1]),
        ("open open publish old publish young publish", [2]),
        ("open young publish open old publish", [3]),
        ("open open old old publish", [3]),
        ("open publish old open publish old publish", [3]),
        ("open old open old open old", [4]),
    ],
)
def test_keys_that_come_and_go_in_any_order_are_whole(
    own_instance: Instance, log: Ledger, acts: str, left: list[int]
) -> None:
    """Given keys opened, and the oldest or the youngest retired, with and without a checkpoint in between, then each
    checkpoint has the signatures that it should, and the whole log passes."""
    for act in acts.split():
        living = [key for key in known(log) if key.retired_at is None]
        if act == "open":
            rotate(log, actor="cli")
        elif act == "publish":
            publish(own_instance, log)
        else:
            retire(log, living[0 if act == "old" else -1].key_id, actor="cli")
    last = publish(own_instance, log)
    assert [key.generation for key in known(log) if key.retired_at is None] == left
    assert len(signers(last, *keys(log))) == len(left)
    assert require_whole_log(own_instance.urls.writer, log.tenant).published == last.size


def test_the_last_key_is_not_retired(log: Ledger) -> None:
    """Given one living key, when it, an unknown one or one that is retired is retired, then it is refused."""
    (old,) = keys(log)
    with pytest.raises(LogKeyRefused, match="last key"):
        retire(log, old.key_id.hex(), actor="cli")
    with pytest.raises(LogKeyRefused, match="no key with this id"):
        retire(log, "00000000", actor="cli")
    rotate(log, actor="cli")
    retire(log, old.key_id.hex(), actor="cli")
    with pytest.raises(LogKeyRefused, match="was retired"):
        retire(log, old.key_id.hex(), actor="cli")
    with pytest.raises(LogKeyRefused, match="last key"):
        retire(log, keys(log)[1].key_id.hex(), actor="cli")


def test_there_are_not_many_living_keys(log: Ledger) -> None:
    """Given as many living keys as a log may have, when one more is opened, then it is refused."""
    for _ in range(KEYS_MAX - 1):
        rotate(log, actor="cli")
    with pytest.raises(LogKeyRefused, match="at most"):
        rotate(log, actor="cli")
    assert len(keys(log)) == KEYS_MAX


def test_a_log_that_was_never_published_has_no_key(own_ledger: Ledger) -> None:
    """Given an account nothing was published of, when a key is opened or a note signed, then it says who does that."""
    with pytest.raises(LogKeyRefused, match="lethe worker"):
        rotate(own_ledger, actor="cli")
    with (
        own_ledger.services.writer.transaction() as connection,
        pytest.raises(LogKeyRefused, match="lethe worker"),
    ):
        signed_note(own_ledger, connection, "x\n")


def test_another_key_in_the_vault_signs_nothing(own_instance: Instance, log: Ledger) -> None:
    """Given a vault in which another key stands under the name, when the log is published, then it is refused."""
    services = own_instance.services
    name = KeyName(TENANT_HOLDER, LOG)
    with own_instance.vault_pool.transaction() as connection:
        connection.execute("DELETE FROM lethe_vault.wrapped_key WHERE class = %s", (LOG,))
    log.keyring.forget_all()
    services.vault.ensure(log.tenant, [name])
    add(log, emails(1))
    with pytest.raises(LogContradiction, match="another key"):
        own_instance.sequencer.publish_tenant(log)
    # and: it is replaced, as the message says.
    (old,) = keys(log)
    rotate(log, actor="cli")
    retire(log, old.key_id.hex(), actor="cli")
    assert signers(publish(own_instance, log), keys(log)[1]) == [keys(log)[1].key_id]


def test_a_lost_key_is_replaced(own_instance: Instance, log: Ledger) -> None:
    """Given a vault that lost the key, when another is opened and the lost one retired, then the log goes on."""
    with own_instance.vault_pool.transaction() as connection:
        connection.execute("DELETE FROM lethe_vault.wrapped_key WHERE class = %s", (LOG,))
    log.keyring.forget_all()
    add(log, emails(1))
    with pytest.raises(KeyMissing, match="lethe log rotate"):
        own_instance.sequencer.publish_tenant(log)
    (old,) = keys(log)
    rotate(log, actor="cli")
    retire(log, old.key_id.hex(), actor="cli")
    publish(own_instance, log)
    check_all(own_instance, log)


def test_a_note_of_another_kind_is_signed_by_the_same_keys(log: Ledger) -> None:
    """Given two living keys, when a manifest is signed as a note, then both stand under it."""
    rotate(log, actor="cli")
    with log.services.writer.transaction() as connection:
        note = signed_note(log, connection, "lethe bundle v1\n00\n")
    opened = open_note(note.encode(), keys(log))
    assert (opened.text, len(opened.signed)) == (b"lethe bundle v1\n00\n", 2)


def test_the_id_is_what_c2sp_says() -> None:
    """Given a name and a public key, when the id is computed apart from the verifier, then both agree."""
    public = bytes(range(32))
    written = verifier_key("example.org/log", public)
    assert VerifierKey.parse(written).public_key == public
    assert VerifierKey.parse(written).key_id == key_id("example.org/log", public)


# What outlives everything ---------------------------------------------------------------------------------------------


def own_keys(ledger: Ledger) -> set[KeyName]:
    """Which of the keys that sign are in the vault: documents', and two of the log's."""
    names = [KeyName(TENANT_HOLDER, SIGNING), KeyName(TENANT_HOLDER, LOG), KeyName(TENANT_HOLDER, LOG, "", 2)]
    return set(ledger.services.vault.find(ledger.tenant, names).keys)


def test_log_keys_survive_an_erasure_an_orphan_hunt_and_two_rolls(
    own_instance: Instance, log: Ledger, clock: SettableClock
) -> None:
    """Given two log keys, when persons are erased, orphans collected and all keys rolled twice, then both sign on."""
    rotate(log, actor="cli")
    public = [note_key(log.keyring, 1), note_key(log.keyring, 2)]
    people = emails(3)
    willing(log, people)
    log.erasures.intend(people, reason="subject_request", actor="cli")
    finish_erasures(log)
    today = clock().date()
    collect_orphans(own_instance.services, log.tenant, MadeBetween(today.replace(year=2000), today))
    roll(own_instance)
    roll(own_instance)
    assert epochs_of_wraps(own_instance, log.tenant) == {3}
    log.keyring.forget_all()
    assert [note_key(log.keyring, 1), note_key(log.keyring, 2)] == public
    last = publish(own_instance, log)
    assert len(signers(last, *keys(log))) == 2
    check_all(own_instance, log)
    assert require_whole_log(own_instance.urls.writer, log.tenant).published == last.size


def test_log_keys_survive_the_closure_of_their_account(own_instance: Instance, clock: SettableClock) -> None:
    """Given an account that ended, when all its classes are destroyed, then what signs for it is still there."""
    clock.set(datetime(2040, 1, 14, tzinfo=UTC))
    ledger = new_account(own_instance)
    willing(ledger, emails(2))
    own_instance.sequencer.publish()
    rotate(ledger, actor="cli")
    ledger.accounts.terminate(actor="cli")
    clock.set(datetime(2040, 7, 14, tzinfo=UTC))
    done = run_retention(ledger)
    assert done is not None
    assert ledger.accounts.state().status == "closed"
    ledger.keyring.forget_all()
    assert own_keys(ledger) == {
        KeyName(TENANT_HOLDER, SIGNING),
        KeyName(TENANT_HOLDER, LOG),
        KeyName(TENANT_HOLDER, LOG, "", 2),
    }
    last = own_instance.sequencer.publish_tenant(ledger)
    assert last is not None
    assert len(signers(last, *keys(ledger))) == 2
    check_all(own_instance, ledger)
    assert require_whole_log(own_instance.urls.writer, ledger.tenant).published == last.size
