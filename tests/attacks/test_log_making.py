"""Attacks on the making and checking of the transparency log, by a superuser, by crashes and races, and by bad luck."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import Connection

from api.bootstrap import Instance, running
from audit.log import sequencer as sequencing
from audit.log.errors import LogContradiction
from audit.log.sequencer import Published
from audit.log.store import latest_checkpoint
from domain.restore import LedgerRestored
from ledger.application import Ledger, tenants
from ledger.backup.gate import keep_heads
from ledger.backup.restoring import restore
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.custody import kept_checkpoints
from ledger.custody.journal import HEADS, JOURNAL, Custody
from ledger.custody.journal_check import keep_published, write_journal
from ledger.custody.kept_checkpoints import CHECKPOINTS, KeptCheckpoint
from ledger.embedded import EmbeddedPostgres
from ledger.errors import GateShut, JournalLost, TamperError, Unavailable
from ledger.log_tree import leaf_hashes
from projections.standing import InlineStanding
from retention.erasure.erasing import finish_erasures
from retention.restoring.reopening import Gatekeeper, LossNotAccepted, Opening
from tests.acts import add, emails, willing
from tests.audit.publishing import grow
from tests.audit.test_sequencer import check_all
from tests.drills import databases, installation
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@contextmanager
def superuser(instance: Instance) -> Iterator[Connection[Any]]:
    """Somebody to whom no rule of the database applies."""
    assert instance.settings.ledger_owner_url is not None
    with psycopg.connect(instance.settings.ledger_owner_url, autocommit=True) as connection:
        yield connection


def published_size(instance: Instance, ledger: Ledger) -> int:
    with instance.services.writer.transaction() as connection:
        found = latest_checkpoint(connection, ledger.tenant)
    return found.size if found else 0


# One root for one size, whoever asks ----------------------------------------------------------------------------------


def test_a_rewritten_log_is_not_signed_again_as_another_series_of_the_same_name(
    own_instance: Instance, own_ledger: Ledger
) -> None:
    """Given a superuser who rewrites a published log, empties its tiles and calls its series the second one, still
    under the same origin and key, when the sequencer comes by, then it signs nothing (FAULTS 19)."""
    add(own_ledger, emails(10))
    own_instance.sequencer.publish()
    tenant = own_ledger.tenant
    with superuser(own_instance) as connection:
        connection.execute(
            "UPDATE lethe.event SET entry = entry || ' ' WHERE tenant_id = %s AND position = 5", (tenant,)
        )
        for table in ("log_tile", "log_checkpoint"):
            connection.execute(f"DELETE FROM lethe.{table} WHERE tenant_id = %s", (tenant,))
        connection.execute("UPDATE lethe.log_series SET series = 2, size = 0 WHERE tenant_id = %s", (tenant,))
        connection.execute("UPDATE lethe.log_key SET series = 2 WHERE tenant_id = %s", (tenant,))
    with pytest.raises(LogContradiction):
        own_instance.sequencer.publish_tenant(own_ledger)
    assert published_size(own_instance, own_ledger) == 0


def test_a_series_that_nobody_accepted_is_not_signed(own_instance: Instance, own_ledger: Ledger) -> None:
    """Given a superuser who invents the next series, under its proper origin, when nobody accepted a loss, then
    nothing is signed under it."""
    own_instance.sequencer.publish()
    add(own_ledger, emails(3))
    with superuser(own_instance) as connection:
        connection.execute(
            "INSERT INTO lethe.log_series SELECT tenant_id, 2, origin || '/2', now(), 0 FROM lethe.log_series"
        )
    with pytest.raises((LogContradiction, TamperError)):
        own_instance.sequencer.publish_tenant(own_ledger)
    assert published_size(own_instance, own_ledger) == 0


def test_two_copies_of_a_ledger_that_share_their_custody_never_fork(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a copy of a ledger on a second machine with the same keys and custody, when the first one signs while the
    second has looked at custody and not yet written there, then the second keeps nothing (FAULTS 19)."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as first:
        ledger = new_account(first)
        first.sequencer.publish()
        file = tmp_path / "copy.lethe"
        back_up(first, file)
        with databases(server, tmp_path / "keys") as settings, running(settings, clock=clock, gated=False) as second:
            restore(file, both(second), second.services.vault.provider, now=clock())
            assert settings.ledger_owner_url is not None
            with psycopg.connect(settings.ledger_owner_url, autocommit=True) as hand:
                hand.execute("DELETE FROM lethe.restore_gate")
            fork = second.ledger(ledger.tenant)
            grow(fork, 9)
            grow(ledger, 3)
            real = sequencing._write

            def meanwhile(connection: Connection[Any], step: Any) -> None:
                real(connection, step)
                monkeypatch.undo()
                assert first.sequencer.publish().failed == 0

            monkeypatch.setattr(sequencing, "_write", meanwhile)
            second.sequencer.publish()
            monkeypatch.undo()
            second.sequencer._left_alone.clear()
            second.sequencer.publish()
            assert published_size(second, fork) == 3
        assert published_size(first, ledger) == 6
        grow(ledger, 20)
        first.sequencer.publish()
        check_all(first, ledger)


def test_a_series_goes_on_when_custody_forgot_that_the_one_before_was_given_up(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a second series, rightly opened, and custody folders put back to before that, then nothing is signed and
    the gate is shut; once somebody accepts it again the second series goes on, and no event is said to be missing."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = new_account(source)
        source.sequencer.publish()
        file = tmp_path / "b.lethe"
        back_up(source, file)
        add(ledger, emails(5))
        source.sequencer.publish()
        older = source.custody.kept_checkpoints()[ledger.tenant]
    with databases(server, tmp_path / "keys") as settings:
        with running(settings, clock=clock, gated=False) as target:
            restore(file, both(target), target.services.vault.provider, now=clock())
            open_gate(target, "The disks burnt.")
        with running(settings, clock=clock) as target:
            log = target.ledger(ledger.tenant)
            add(log, emails(20, "other"))
            target.sequencer.publish()
            end = check_all(target, log, series=2)[-1]
            lose(target, CHECKPOINTS)
            with superuser(target) as connection:
                row = connection.execute("SELECT root FROM lethe.log_checkpoint WHERE series = 1").fetchone()
            assert row is not None
            target.custody.keep_checkpoints({log.tenant: KeptCheckpoint(1, 3, bytes(row[0]), older.signed_at)})
            add(log, emails(1, "more"))
            assert target.sequencer.publish() == Published((), 1)
        with pytest.raises(GateShut, match="series 2"), running(settings, clock=clock):
            pytest.fail("It serves.")
        with running(settings, clock=clock, gated=False) as target:
            open_gate(target, "The folders were put back.")
            assert [(fact.lost_from, fact.lost_to) for fact in said_in(target, ledger)][1:] == [(None, None)]
        with running(settings, clock=clock) as target:
            log = target.ledger(ledger.tenant)
            target.sequencer.publish()
            assert check_all(target, log, series=2)[-1] > end


# Nobody stops the others ----------------------------------------------------------------------------------------------

POISON = {
    "a key's id that is none": "UPDATE lethe.log_key SET key_id = 'not one' WHERE tenant_id = %(t)s",
    "a key's id that is another's": "UPDATE lethe.log_key SET key_id = '00000000' WHERE tenant_id = %(t)s",
    "a key that is none": "UPDATE lethe.log_key SET verifier_key = 'x' WHERE tenant_id = %(t)s",
    "a time that Python has not": "UPDATE lethe.log_key SET opened_at = 'infinity' WHERE tenant_id = %(t)s",
    "a size below nothing": "UPDATE lethe.log_series SET size = -1 WHERE tenant_id = %(t)s",
    "no series any more": "DELETE FROM lethe.log_series WHERE tenant_id = %(t)s",
    "no key any more": "DELETE FROM lethe.log_key WHERE tenant_id = %(t)s",
    "an origin of another": "UPDATE lethe.log_series SET origin = 'example.com/log/1' WHERE tenant_id = %(t)s",
}


@pytest.mark.parametrize("statement", POISON.values(), ids=POISON)
def test_a_log_whose_tables_are_nonsense_stops_nobody_else(
    own_instance: Instance, own_ledger: Ledger, statement: str
) -> None:
    """Given a log in whose tables a superuser wrote nonsense, when a turn is made, then that log fails and is said to,
    nothing is signed for it, and the logs before and behind it are published."""
    middle = own_instance.ledger(UUID(int=2**127))
    middle.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    last = own_instance.ledger(UUID(int=2**128 - 1))
    last.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    own_instance.sequencer.publish()
    for one in (own_ledger, middle, last):
        add(one, emails(3))
    with superuser(own_instance) as connection:
        before = connection.execute("SELECT count(*) FROM lethe.log_checkpoint").fetchone()
        connection.execute(statement, {"t": middle.tenant})
    done = own_instance.sequencer.publish()
    assert ({one.tenant for one in done.checkpoints}, done.failed) == ({own_ledger.tenant, last.tenant}, 1)
    with superuser(own_instance) as connection:
        after = connection.execute("SELECT count(*) - 2 FROM lethe.log_checkpoint").fetchone()
    assert before == after


def test_a_log_that_is_too_slow_to_read_stops_nobody_else(
    own_instance: Instance, own_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a log whose leaves are not read within the statement timeout that somebody set, when turns are made, then
    the others are published, and the database is not said to be gone."""
    slow = new_account(own_instance)
    own_instance.sequencer.publish()

    def too_slow(connection: Connection[Any], tenant: UUID, after: int, last: int) -> bytes:
        if tenant == slow.tenant:
            connection.execute("SET LOCAL statement_timeout = 20")
            connection.execute("SELECT pg_sleep(5)")
        return leaf_hashes(connection, tenant, after, last)

    monkeypatch.setattr(sequencing, "leaf_hashes", too_slow)
    for one in (own_ledger, slow):
        add(one, emails(3))
    done = own_instance.sequencer.publish()
    assert ({one.tenant for one in done.checkpoints}, done.failed) == ({own_ledger.tenant}, 1)


def test_a_log_with_a_long_backlog_does_not_keep_the_others_waiting(
    own_instance: Instance, own_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a log that is far behind and a short one whose account comes later, when steps are made, then the short one
    is published next to the first step of the long one, and not behind its last."""
    others = [new_account(own_instance) for _ in range(3)]
    first, *rest = sorted((own_ledger, *others), key=lambda one: one.tenant)
    add(first, emails(300))
    monkeypatch.setattr(sequencing, "LEAVES_PER_CHECKPOINT", 20)
    order = [one.tenant for one in own_instance.sequencer.publish().checkpoints]
    for one in rest:
        assert order.index(one.tenant) < 2 + len(rest)
    check_all(own_instance, first)


def test_what_is_kept_of_many_logs_is_not_parsed_again_for_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given ten thousand idle accounts, when one log's steps ask what was kept, then what did not change is not parsed
    again; what another process keeps is seen at once, and so is what somebody changes."""
    folders = [tmp_path / "a", tmp_path / "b"]
    custody, other = Custody(folders), Custody(folders)
    busy = uuid4()
    custody.keep_checkpoints({tenant: KeptCheckpoint(1, 5, bytes(32), NOON) for tenant in (busy, uuid4())})
    custody.kept_checkpoints()
    real, parsed = kept_checkpoints.parsed, []

    def counted(path: Path, written: bytes) -> Any:
        parsed.append(path)
        return real(path, written)

    monkeypatch.setattr(kept_checkpoints, "parsed", counted)
    for _ in range(3):
        assert custody.kept_checkpoints()[busy].size == 5
    assert parsed == []
    other.keep_checkpoints({busy: KeptCheckpoint(1, 6, bytes(32), NOON)})
    assert custody.kept_checkpoints()[busy].size == 6
    path = folders[1] / CHECKPOINTS
    path.write_bytes(path.read_bytes().replace(b"6", b"7", 1))
    with pytest.raises(TamperError, match="was changed"):
        custody.kept_checkpoints()
    path.unlink()
    assert custody.kept_checkpoints()[busy].size == 6


def test_a_folder_that_is_full_is_not_filled_with_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a custody folder whose disk is full, when checkpoints cannot be kept, again and again, then nothing is left
    behind, and the other folder's copy is good."""
    custody = Custody([tmp_path / "a", tmp_path / "b"])
    tenant = uuid4()
    custody.keep_checkpoints({tenant: KeptCheckpoint(1, 5, bytes(32), NOON)})

    def full(_: int, __: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ledger.custody.private_files.write_all", full)
    for _ in range(3):
        with pytest.raises(Unavailable, match="No space left"):
            custody.keep_checkpoints({tenant: KeptCheckpoint(1, 6, bytes(32), NOON)})
    monkeypatch.undo()
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [CHECKPOINTS]
    assert custody.kept_checkpoints()[tenant].size == 5


# A journal that was lost with the vault -------------------------------------------------------------------------------


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def back_up(instance: Instance, file: Path) -> None:
    """As `lethe backup` does."""
    keep_heads(instance.services.writer, instance.custody, tenants(instance.services.writer))
    write_backup(file, both(instance), instance.services.vault.provider, now=NOON, notes=instance.custody.count())


def keeper_of(instance: Instance) -> Gatekeeper:
    services = instance.services
    book = InlineStanding(services.vault.provider)
    return Gatekeeper(services.writer, services.vault, instance.custody, book, instance.ledger)


def open_gate(instance: Instance, reason: str | None = None, *, journal_lost: bool = False) -> Opening:
    return keeper_of(instance).open(reason=reason, actor="cli", journal_lost=journal_lost)


def lose(instance: Instance, *names: str) -> None:
    """Take these files out of every custody folder."""
    for folder in instance.settings.folders_for_custody():
        for name in names:
            (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("chosen", [slice(0, 2), slice(1, 2)], ids=["both", "vault only"])
def test_a_restored_vault_is_not_opened_without_its_journal(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock, chosen: slice
) -> None:
    """Given a vault from before an erasure, and a journal that was lost with it, when the gate is opened, for whatever
    reason, then it stays shut and says why; who accepts that by name opens it, and the log keeps that (FAULTS 3)."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = new_account(source)
        willing(ledger, ["anna@example.com", "bert@example.com"])
        erase(ledger, "bert@example.com")
        old, today = tmp_path / "old.lethe", tmp_path / "today.lethe"
        back_up(source, old)
        clock.advance(timedelta(hours=2))
        erase(ledger, "anna@example.com")
        back_up(source, today)
        lose(source, JOURNAL)
    with databases(server, tmp_path / "keys") as settings:
        with running(settings, clock=clock, gated=False) as target:
            provider = target.services.vault.provider
            restore(old, [*both(target)][chosen], provider, now=clock())
            if chosen.start:
                restore(today, both(target)[:1], provider, now=clock())
            assert keeper_of(target).look().journal_lost is not None
            with pytest.raises(JournalLost, match="journal"):
                open_gate(target)
            with pytest.raises(JournalLost, match="--journal-lost"):
                open_gate(target, "The disks burnt.")
            with pytest.raises(LossNotAccepted, match="REASON"):
                open_gate(target, journal_lost=True)
        with pytest.raises((JournalLost, GateShut)), running(settings, clock=clock):
            pytest.fail("It serves.")
        with running(settings, clock=clock, gated=False) as target:
            assert said_in(target, ledger) == []
            opening = open_gate(target, "The disks burnt, and the journal with them.", journal_lost=True)
            assert (opening.loses, opening.journal_lost is not None) == (True, True)
        with running(settings, clock=clock) as target:
            assert [fact.journal_lost for fact in said_in(target, ledger)] == [True]
            assert target.custody.count() >= 1


def test_a_journal_that_is_new_with_its_folders_is_a_lost_one(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a vault from before the first destruction of all, so that it has no tombstone to miss, when the custody
    folders are new, then the gate is not opened either: the heads that were kept for the backup are gone as well."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = new_account(source)
        willing(ledger, ["anna@example.com"])
        file = tmp_path / "old.lethe"
        back_up(source, file)
        erase(ledger, "anna@example.com")
        lose(source, JOURNAL, HEADS, CHECKPOINTS)
    with databases(server, tmp_path / "keys") as settings, running(settings, clock=clock, gated=False) as target:
        restore(file, both(target), target.services.vault.provider, now=clock())
        with pytest.raises(JournalLost, match="new"):
            open_gate(target, "The disks burnt.")
        open_gate(target, "The disks burnt.", journal_lost=True)


class Folders:
    """What custody's folders hold, as a copy of the disk would have it."""

    def __init__(self, instance: Instance) -> None:
        folders = instance.settings.folders_for_custody()
        names = [folder / name for folder in folders for name in (JOURNAL, HEADS, CHECKPOINTS)]
        self._held = {path: path.read_bytes() for path in names if path.exists()}

    def put_back(self) -> None:
        for path, content in self._held.items():
            path.write_bytes(content)


@pytest.mark.parametrize("chosen", [slice(0, 2), slice(1, 2)], ids=["both", "vault only"])
def test_a_journal_as_old_as_the_restored_vault_is_noticed_by_what_was_published_since(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock, chosen: slice
) -> None:
    """Given a vault from before an erasure, and custody's folders put back to a state that is older and has as many
    lines as that vault has tombstones, when the ledger published since, then that shows, and the gate stays shut."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = new_account(source)
        willing(ledger, ["anna@example.com", "bert@example.com"])
        erase(ledger, "bert@example.com")
        source.sequencer.publish()
        folders = Folders(source)
        grow(ledger)
        source.sequencer.publish()
        old, today = tmp_path / "old.lethe", tmp_path / "today.lethe"
        back_up(source, old)
        clock.advance(timedelta(hours=2))
        erase(ledger, "anna@example.com")
        source.sequencer.publish()
        back_up(source, today)
        folders.put_back()
    with databases(server, tmp_path / "keys") as settings:
        with running(settings, clock=clock, gated=False) as target:
            provider = target.services.vault.provider
            restore(old, [*both(target)][chosen], provider, now=clock())
            if chosen.start:
                restore(today, both(target)[:1], provider, now=clock())
            assert "put back" in str(keeper_of(target).look().journal_lost)
            with pytest.raises(JournalLost, match="--journal-lost"):
                open_gate(target, "The disks burnt.")
            open_gate(target, "The disks burnt, and only this copy is left.", journal_lost=True)
        with running(settings, clock=clock) as target:
            assert [fact.journal_lost for fact in said_in(target, ledger)] == [True]
            grow(target.ledger(ledger.tenant))
            assert target.sequencer.publish().failed == 0


def test_custody_that_was_put_back_stops_publishing_and_the_next_start(
    own_instance: Instance, own_ledger: Ledger, clock: SettableClock
) -> None:
    """Given custody's folders put back to an older state under a running program, then nothing more is published, which
    would hide it, and no process starts, until the newest copy is back or the journal is written again."""
    own_instance.sequencer.publish()
    older = Folders(own_instance)
    grow(own_ledger)
    own_instance.sequencer.publish()
    newer = Folders(own_instance)
    older.put_back()
    grow(own_ledger)
    with pytest.raises(LogContradiction, match="put back"):
        own_instance.sequencer.publish_tenant(own_ledger)
    with pytest.raises(JournalLost, match="write-journal"), running(own_instance.settings, clock=clock):
        pytest.fail("It serves.")
    newer.put_back()
    with running(own_instance.settings, clock=clock) as again:
        assert again.sequencer.publish_tenant(again.ledger(own_ledger.tenant)) is not None
    older.put_back()
    with pytest.raises(JournalLost), running(own_instance.settings, clock=clock):
        pytest.fail("It serves.")
    write_journal(own_instance.vault_pool, own_instance.custody)
    keep_published(own_instance.services.writer, own_instance.custody)
    with running(own_instance.settings, clock=clock) as again:
        grow(own_ledger)
        assert again.sequencer.publish_tenant(again.ledger(own_ledger.tenant)) is not None


def test_a_log_that_custody_never_heard_of_is_told_too(
    own_instance: Instance, own_ledger: Ledger, clock: SettableClock
) -> None:
    """Given folders from before an account's first checkpoint, which keep another's, then that is noticed at the start;
    folders that keep nothing at all are new, and are told by other means."""
    own_instance.sequencer.publish()
    older = Folders(own_instance)
    new_account(own_instance)
    own_instance.sequencer.publish()
    older.put_back()
    with pytest.raises(JournalLost, match="put back"), running(own_instance.settings, clock=clock):
        pytest.fail("It serves.")
    lose(own_instance, JOURNAL, HEADS, CHECKPOINTS)
    with running(own_instance.settings, clock=clock):
        pass


def test_a_journal_that_is_there_is_not_accepted_as_lost(
    server: EmbeddedPostgres, tmp_path: Path, clock: SettableClock
) -> None:
    """Given a journal that has everything, when somebody says that it was lost, then it is replayed all the same, and
    the log does not say that it was lost."""
    clock.set(NOON)
    with installation(server, tmp_path / "keys", clock=clock) as source:
        ledger = new_account(source)
        willing(ledger, ["anna@example.com"])
        file = tmp_path / "old.lethe"
        back_up(source, file)
        erase(ledger, "anna@example.com")
    with databases(server, tmp_path / "keys") as settings, running(settings, clock=clock, gated=False) as target:
        restore(file, both(target), target.services.vault.provider, now=clock())
        assert open_gate(target, "The disks burnt.", journal_lost=True).tombstones > 0
        assert [fact.journal_lost for fact in said_in(target, ledger)] == [False]


def erase(ledger: Ledger, email: str) -> None:
    ledger.erasures.intend([email], reason="subject_request", actor="cli")
    assert len(finish_erasures(ledger)) == 1


def said_in(instance: Instance, ledger: Ledger) -> list[LedgerRestored]:
    """What the log says of its restores."""
    found = instance.ledger(ledger.tenant)
    facts = [found.sealing.open(event) for event in found.log.select_log(1, 10_000)]
    return [fact for fact in facts if isinstance(fact, LedgerRestored)]
