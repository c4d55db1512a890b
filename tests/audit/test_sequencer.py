"""The sequencer: what it publishes is right, one root per size, across crashes, processes and contradictions."""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from api.bootstrap import Instance
from audit.log import sequencer as sequencing
from audit.log.errors import LogContradiction, TileMissing
from audit.log.sequencer import Published
from audit.log.store import all_series, checkpoints, latest_checkpoint, log_keys, tile
from audit.verify.note import VerifierKey, open_note
from domain.merkle import leaf_hash, root_of
from ledger.application import Ledger
from ledger.custody.kept_checkpoints import KeptCheckpoint
from ledger.errors import KeyMissing, TamperError, Unavailable
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.log_tree import leaf_hashes, root_of_events
from ledger.signing import LOG
from tests.acts import add, emails
from tests.log_kills import die_while_publishing, publish_until_told
from tests.rolls import new_account
from tests.workers import finish, see_killed, start

pytestmark = pytest.mark.store

SELECT_ENTRIES = "SELECT entry FROM lethe.event WHERE tenant_id = %s ORDER BY position"
SELECT_TILES = """
SELECT level, number, hashes FROM lethe.log_tile WHERE tenant_id = %s AND series = %s ORDER BY level, number
"""


@pytest.fixture
def log(own_ledger: Ledger) -> Ledger:
    """The only account of an instance of its own."""
    return own_ledger


def entries(ledger: Ledger) -> list[bytes]:
    with ledger.services.writer.transaction() as connection:
        return [bytes(row[0]) for row in connection.execute(SELECT_ENTRIES, (ledger.tenant,))]


@contextmanager
def superuser(instance: Instance) -> Iterator[psycopg.Connection[Any]]:
    """Somebody to whom no rule applies."""
    assert instance.settings.ledger_owner_url is not None
    with psycopg.connect(instance.settings.ledger_owner_url, autocommit=True) as connection:
        connection.execute("SET search_path TO lethe")
        yield connection


def check_all(instance: Instance, ledger: Ledger, *, series: int = 1) -> list[int]:
    """Every checkpoint's signature and root, and every tile, against the entries; returns the sizes."""
    whole = entries(ledger)
    with instance.services.writer.transaction() as connection:
        published = list(checkpoints(connection, ledger.tenant, series=series))
        keys = [key for key in log_keys(connection, ledger.tenant) if key.series == series]
        tiles = connection.execute(SELECT_TILES, (ledger.tenant, series)).fetchall()
    for one in published:
        assert one.root == root_of(whole[: one.size])
        text = f"{one.origin}\n{one.size}\n"
        assert one.note.startswith(text)
        open_note(one.note.encode(), [VerifierKey.parse(key.verifier_key) for key in keys])
    size = published[-1].size
    assert [len(hashes) for level, _, hashes in tiles if level == 0] == [
        32 * min(256, size - start) for start in range(0, size, 256)
    ]
    assert b"".join(hashes for level, _, hashes in tiles if level == 0) == b"".join(map(leaf_hash, whole[:size]))
    assert b"".join(hashes for level, _, hashes in tiles if level == 1) == b"".join(
        root_of(whole[start : start + 256]) for start in range(0, size - 255, 256)
    )
    kept = instance.custody.kept_checkpoints()[ledger.tenant]
    assert (kept.series, kept.size, kept.root) == (series, size, published[-1].root)
    return [one.size for one in published]


# What is published ---------------------------------------------------------------------------------------------------


def test_a_log_is_published_with_its_own_opening(own_instance: Instance, log: Ledger) -> None:
    """Given an account nothing was published of, when a turn is made, then the log holds its name and key as well."""
    done = own_instance.sequencer.publish()
    assert [(one.tenant, one.series, one.size) for one in done.checkpoints] == [(log.tenant, 1, 3)]
    assert done.failed == 0
    topics = [event.topic for event in log.log.select_log(0, 10, inclusive_of_start=False)]
    assert topics == ["account.opened.v1", "log.series_opened.v1", "log.key_opened.v1"]
    assert done.checkpoints[0].origin == f"lethe.localhost/log/{log.tenant.hex}"
    assert check_all(own_instance, log) == [3]


def test_nothing_new_publishes_nothing(own_instance: Instance, log: Ledger) -> None:
    """Given a published log, when nothing was appended, then a turn does nothing, also for the one account."""
    assert own_instance.sequencer.publish().checkpoints
    assert own_instance.sequencer.publish() == Published()
    assert own_instance.sequencer.publish_tenant(log) is None


def test_an_account_without_events_is_passed_by(own_instance: Instance) -> None:
    """Given a head without an event, when a turn is made, then nothing is opened or published for it."""
    tenant = UUID(int=7)
    own_instance.ledger(tenant).appender.open_tenant(own_instance.services.vault.newest_epoch())
    assert own_instance.sequencer.publish() == Published()
    with own_instance.services.writer.transaction() as connection:
        assert all_series(connection, tenant) == []
        assert latest_checkpoint(connection, tenant) is None


def test_steps_around_full_tiles(own_instance: Instance, log: Ledger) -> None:
    """Given appends that end around a full tile, when each is published, then every root and tile is right."""
    own_instance.sequencer.publish()
    count, sizes = 3, [3]
    for size in (4, 254, 255, 256, 257, 300, 511, 512, 513, 800):
        add(log, emails(size - count, f"s{size}-"))
        count = size
        sizes.append(size)
        assert [one.size for one in own_instance.sequencer.publish().checkpoints] == [size]
    assert check_all(own_instance, log) == sizes


def test_a_backlog_is_published_in_steps(own_instance: Instance, log: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more events than one step takes, when a turn is made, then it makes steps, each a checkpoint."""
    add(log, emails(700))
    monkeypatch.setattr(sequencing, "LEAVES_PER_CHECKPOINT", 300)
    assert [one.size for one in own_instance.sequencer.publish().checkpoints] == [300, 600, 703]
    assert check_all(own_instance, log) == [300, 600, 703]


def test_tenants_share_a_step_and_its_bound(
    own_instance: Instance, log: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given several accounts behind, when a turn is made, then they share transactions, and none is left behind."""
    others = [new_account(own_instance) for _ in range(3)]
    for other in (log, *others):
        add(other, emails(100))
    monkeypatch.setattr(sequencing, "LEAVES_PER_CHECKPOINT", 150)
    monkeypatch.setattr(sequencing, "TENANTS_PER_TRANSACTION", 2)
    done = own_instance.sequencer.publish()
    assert done.failed == 0
    for ledger in (log, *others):
        assert check_all(own_instance, ledger)[-1] == 103
    assert own_instance.sequencer.publish() == Published()


def test_a_tile_is_read_by_truncation(own_instance: Instance, log: Ledger) -> None:
    """Given a tile that has grown, when an older width is asked for, then it is its beginning."""
    own_instance.sequencer.publish()
    add(log, emails(20))
    own_instance.sequencer.publish()
    hashes = [leaf_hash(entry) for entry in entries(log)]
    with own_instance.services.writer.transaction() as connection:
        assert tile(connection, log.tenant, 0, 0, 3) == b"".join(hashes[:3])
        assert tile(connection, log.tenant, 0, 0, 23) == b"".join(hashes)
        for place in ((0, 0, 24), (0, 1, 1), (1, 0, 1), (0, 0, 0), (0, 0, 257), (-1, 0, 1)):
            with pytest.raises(TileMissing):
                tile(connection, log.tenant, *place)


# One root per size ----------------------------------------------------------------------------------------------------


KILLED_AT = [
    ("audit.log.keys:record_facts", 1, True),
    ("audit.log.sequencer:open_series", 1, True),
    ("audit.log.sequencer:sign", 1, False),
    ("audit.log.sequencer:sign", 1, True),
    ("audit.log.sequencer:_write", 1, False),
    ("audit.log.sequencer:_write", 1, True),
    ("ledger.custody.journal:place", 1, False),
    ("ledger.custody.journal:place", 1, True),
    ("ledger.custody.journal:place", 2, True),
    ("ledger.custody.journal:Custody.keep_checkpoints", 1, True),
    ("audit.log.sequencer:Sequencer._transaction", 1, True),
]


@pytest.mark.parametrize(("place", "call", "after"), KILLED_AT)
def test_killed_at_any_step_it_converges(
    own_instance: Instance, log: Ledger, place: str, call: int, after: bool
) -> None:
    """Given a sequencer killed at a step, when events came since and another goes on, then all is right (FAULTS 7)."""
    add(log, emails(300))
    child = start(die_while_publishing, own_instance.settings, place, call, after)
    see_killed(child, own_instance)
    kept = own_instance.custody.kept_checkpoints().get(log.tenant)
    with own_instance.services.writer.transaction() as connection:
        before = latest_checkpoint(connection, log.tenant)
    add(log, emails(50, "later"))
    if kept is not None:
        assert kept.root == root_of(entries(log)[: kept.size])
    assert own_instance.sequencer.publish().failed == 0
    sizes = check_all(own_instance, log)
    assert sizes == sorted({*([before.size] if before else []), 353})
    assert len([fact for fact in topics_of(log) if fact == "log.series_opened.v1"]) == 1
    assert len([fact for fact in topics_of(log) if fact == "log.key_opened.v1"]) == 1


def topics_of(ledger: Ledger) -> list[str]:
    return [event.topic for event in ledger.log.select_log(0, 10_000, inclusive_of_start=False)]


@pytest.mark.parametrize(("place", "call", "after"), KILLED_AT[2:])
def test_killed_in_the_middle_of_a_life(
    own_instance: Instance, log: Ledger, place: str, call: int, after: bool
) -> None:
    """Given a log that was published before, when the next publishing is killed and run again, then all is right."""
    own_instance.sequencer.publish()
    add(log, emails(300))
    child = start(die_while_publishing, own_instance.settings, place, call, after)
    see_killed(child, own_instance)
    own_instance.sequencer.publish()
    assert check_all(own_instance, log) == [3, 303]
    add(log, emails(1, "one-more"))
    own_instance.sequencer.publish()
    assert check_all(own_instance, log) == [3, 303, 304]


def test_several_sequencers_and_a_writer(own_instance: Instance, log: Ledger, tmp_path: Path) -> None:
    """Given three processes that publish while the head moves, when they end, then there is one root for each size."""
    children = [start(publish_until_told, own_instance.settings, str(tmp_path)) for _ in range(3)]
    while len(list(tmp_path.glob("begun-*"))) < len(children):
        assert all(child.is_alive() for child in children)
        time.sleep(0.01)
    for number in range(40):
        add(log, emails(25, f"w{number}-"))
        head = len(entries(log))
        while own_instance.custody.kept_checkpoints()[log.tenant].size < head:  # Whoever is at it passes us by.
            assert own_instance.sequencer.publish().failed == 0
    (tmp_path / "stop").touch()
    finish(children)
    own_instance.sequencer.publish()
    sizes = check_all(own_instance, log)
    assert sizes[-1] == len(entries(log)) == 1003
    assert len(sizes) >= 40


def test_the_kept_root_is_held_against_what_comes_after(own_instance: Instance, log: Ledger) -> None:
    """Given a kept checkpoint that was never committed, when the log says otherwise there, then nothing is signed."""
    own_instance.sequencer.publish()
    add(log, emails(10))
    kept = own_instance.custody.kept_checkpoints()[log.tenant]
    unsaid = KeptCheckpoint(1, 5, sha256(b"another story").digest(), kept.signed_at)
    own_instance.custody.keep_checkpoints({log.tenant: unsaid})
    with pytest.raises(LogContradiction, match="rewritten"):
        own_instance.sequencer.publish_tenant(log)
    assert own_instance.sequencer.publish() == Published((), 1)
    assert check_nothing_published(own_instance, log) == 3


def test_a_log_behind_what_was_kept_is_not_signed(own_instance: Instance, log: Ledger) -> None:
    """Given a kept checkpoint further than the log's end, when a turn is made, then nothing is signed."""
    own_instance.sequencer.publish()
    add(log, emails(1))
    kept = own_instance.custody.kept_checkpoints()[log.tenant]
    own_instance.custody.keep_checkpoints({log.tenant: KeptCheckpoint(1, 900, bytes(32), kept.signed_at)})
    with pytest.raises(LogContradiction, match="older state"):
        own_instance.sequencer.publish_tenant(log)
    assert check_nothing_published(own_instance, log) == 3


def check_nothing_published(instance: Instance, ledger: Ledger) -> int:
    with instance.services.writer.transaction() as connection:
        found = latest_checkpoint(connection, ledger.tenant)
    assert found is not None
    return found.size


DAMAGE = {
    "a hash of the growing tile": (
        "UPDATE log_tile SET hashes = overlay(hashes placing '\\x00'::bytea from 5) WHERE level = 0 AND number = 1"
    ),
    "a hash above": "UPDATE log_tile SET hashes = overlay(hashes placing '\\x00'::bytea from 5) WHERE level = 1",
    "a tile is gone": "DELETE FROM log_tile WHERE level = 1",
    "the root": "UPDATE log_checkpoint SET root = sha256('x')",
    "the checkpoint": "DELETE FROM log_checkpoint",
    "the last event": "UPDATE event SET entry = entry || ' ' WHERE position = 303",
    "an event since is gone": "DELETE FROM event WHERE position = 304",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_over_a_contradiction_nothing_is_signed(own_instance: Instance, log: Ledger, statement: str) -> None:
    """Given stored tiles, checkpoints or events that were changed, when a turn is made, then it refuses loudly."""
    add(log, emails(300))
    own_instance.sequencer.publish()
    add(log, emails(10, "later"))
    bystander = new_account(own_instance)
    with superuser(own_instance) as connection:
        connection.execute(statement.encode())
        signed = connection.execute("SELECT count(*) FROM log_checkpoint").fetchone()
    with pytest.raises((LogContradiction, TamperError)):
        own_instance.sequencer.publish_tenant(log)
    done = own_instance.sequencer.publish()
    assert ([one.tenant for one in done.checkpoints], done.failed) == ([bystander.tenant], 1)
    with superuser(own_instance) as connection:
        now = connection.execute("SELECT count(*) FROM log_checkpoint WHERE tenant_id = %s", (log.tenant,)).fetchone()
    assert now == signed


def test_tiles_are_never_overwritten(own_instance: Instance, log: Ledger) -> None:
    """Given a tile that says more than it should, when the log grows, then it is not written over but refused."""
    own_instance.sequencer.publish()
    add(log, emails(10))
    with superuser(own_instance) as connection:
        connection.execute("UPDATE log_tile SET hashes = hashes || sha256('x') WHERE level = 0")
    with pytest.raises(LogContradiction, match="other hashes"):
        own_instance.sequencer.publish_tenant(log)


def test_a_failed_log_is_left_alone_for_a_while(own_instance: Instance, log: Ledger) -> None:
    """Given a log that cannot be published, when turns follow, then it is tried again after a pause and not at once."""
    own_instance.sequencer.publish()
    add(log, emails(1))
    with superuser(own_instance) as connection:
        connection.execute("DELETE FROM log_tile")
    assert own_instance.sequencer.publish().failed == 1
    assert own_instance.sequencer.publish().failed == 0
    own_instance.sequencer._left_alone.clear()
    assert own_instance.sequencer.publish().failed == 1


def test_a_folder_that_cannot_be_written_publishes_nothing(
    own_instance: Instance, log: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a custody folder that is full, when a turn is made, then nothing is published; the next turn goes on."""

    def full(*_: Any, **__: Any) -> None:
        raise Unavailable("No space.")

    monkeypatch.setattr(own_instance.custody, "keep_checkpoints", full)
    with pytest.raises(Unavailable):
        own_instance.sequencer.publish()
    with own_instance.services.writer.transaction() as connection:
        assert latest_checkpoint(connection, log.tenant) is None
        assert connection.execute("SELECT count(*) FROM lethe.log_tile").fetchone() == (0,)
    monkeypatch.undo()
    own_instance.sequencer.publish()
    assert check_all(own_instance, log) == [3]


def test_the_writer_takes_nothing_back(own_instance: Instance, log: Ledger) -> None:
    """Given the program's own role, when it would change or delete what was published, then the database refuses."""
    own_instance.sequencer.publish()
    for statement in (
        "DELETE FROM lethe.log_checkpoint",
        "UPDATE lethe.log_checkpoint SET root = sha256('x')",
        "DELETE FROM lethe.log_tile",
        "UPDATE lethe.log_tile SET number = 9",
        "DELETE FROM lethe.log_series",
        "UPDATE lethe.log_series SET origin = 'x'",
        "DELETE FROM lethe.log_key",
        "UPDATE lethe.log_key SET verifier_key = 'x'",
        "UPDATE lethe.log_cosignature SET line = 'x'",
        "DELETE FROM lethe.log_cosignature",
        "UPDATE lethe.log_timestamp SET token = 'x'",
        "DELETE FROM lethe.log_timestamp",
        "TRUNCATE lethe.log_tile",
    ):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            own_instance.services.writer.transaction() as connection,
        ):
            connection.execute(statement.encode())


def test_a_reader_sees_one_tenants_log(own_instance: Instance, log: Ledger) -> None:
    """Given two published logs, when the reader asks for one tenant, then only its rows are there (I10)."""
    other = new_account(own_instance)
    own_instance.sequencer.publish()
    for ledger in (log, other):
        with own_instance.services.reader.tenant(ledger.tenant) as connection:
            for table in ("log_series", "log_key", "log_tile", "log_checkpoint"):
                statement = f"SELECT DISTINCT tenant_id FROM lethe_read.{table}"
                assert connection.execute(statement.encode()).fetchall() == [(ledger.tenant,)]


# Leaves --------------------------------------------------------------------------------------------------------------


def test_leaves_are_hashed_by_the_database_as_anywhere(own_instance: Instance, log: Ledger) -> None:
    """Given sections that begin and end inside tiles, when their leaves are hashed, then each is RFC 6962's."""
    add(log, emails(600))
    hashes = [leaf_hash(entry) for entry in entries(log)]
    with own_instance.services.writer.transaction() as connection:
        for after, last in ((0, 0), (0, 1), (0, 256), (3, 259), (255, 257), (256, 512), (100, 601), (600, 601)):
            assert leaf_hashes(connection, log.tenant, after, last) == b"".join(hashes[after:last])
        with pytest.raises(TamperError, match="lacks"):
            leaf_hashes(connection, log.tenant, 600, 602)
        with pytest.raises(ValueError, match="section"):
            leaf_hashes(connection, log.tenant, 5, 4)
        assert root_of_events(connection, log.tenant, 601) == root_of(entries(log))


# Keys that are missing ------------------------------------------------------------------------------------------------


def test_a_lost_key_is_said_and_never_made_anew(own_instance: Instance, log: Ledger) -> None:
    """Given a vault that lost the log's key, when a turn is made, then nothing is signed and no key is made."""
    own_instance.sequencer.publish()
    add(log, emails(1))
    assert own_instance.settings.vault_owner_url is not None
    with psycopg.connect(own_instance.settings.vault_owner_url, autocommit=True) as connection:
        assert connection.execute("DELETE FROM lethe_vault.wrapped_key WHERE class = 'log'").rowcount == 1
    log.keyring.forget_all()
    with pytest.raises(KeyMissing, match="lethe log rotate"):
        own_instance.sequencer.publish_tenant(log)
    name = KeyName(TENANT_HOLDER, LOG)
    assert name not in log.services.vault.find(log.tenant, [name]).keys


def test_a_note_is_what_c2sp_says(own_instance: Instance, log: Ledger) -> None:
    """Given a checkpoint, when its bytes are looked at, then they are origin, size, root and one line of signature."""
    published = own_instance.sequencer.publish_tenant(log)
    assert published is not None
    text, _, signatures = published.note.partition("\n\n")
    origin, size, root = text.split("\n")
    assert (origin, size, b64decode(root)) == (published.origin, "3", published.root)
    assert signatures.startswith(f"— {origin} ")
    assert signatures.count("\n") == 1
    assert len(b64decode(signatures.split(" ")[2])) == 4 + 64
