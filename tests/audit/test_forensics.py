"""Erasure forensics (FAULTS 1, 2, 5 and 6b): what is left of a destroyed key and of its person, in every artefact.

Artefacts are both databases' files with their write-ahead log, a base backup, a dump, and our own backup. Each search
has its control: the same thing planted in the clear is found in every one of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.bootstrap import Instance, running
from audit.attacks.clear_text import search_clear_text
from audit.attacks.disclosure import FoundWrap, keys_disclosed
from domain.personal import Erased, Identity
from ledger.application import Ledger
from ledger.backup.file import BackupRefused
from ledger.backup.restoring import read_summary
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres, wheel_bin_dir
from ledger.keys.names import KeyName
from retention.erasure.erasing import finish_erasures
from retention.horizon.horizon import Horizon
from tests.acts import ask, person, register, report, willing
from tests.support import SettableClock, chosen_bin_dir, settings_for

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CANARY, FIRST_NAME = "canary.of.the.forensics@example.org", "Canaryforensica"
ROLL_DAYS, KEPT_DAYS = 7, 21
WAL_PAGE_BYTES = 8192

SELECT_WRAPS = "SELECT tenant_id, holder, class, period, generation, epoch, wrap FROM lethe_vault.wrapped_key"
SELECT_DEAD = """
SELECT tenant_id, holder, class, period, generation, epoch, wrap
FROM pg_dirtyread('lethe_vault.wrapped_key') AS t(
    tenant_id uuid, holder bytea, class text, period text, generation smallint, epoch integer, wrap bytea, dead boolean)
WHERE dead
"""


@dataclass
class Scene:
    """An installation on a server of its own, and a person with their keys as they were while they lived."""

    server: EmbeddedPostgres
    instance: Instance
    ledger: Ledger
    clock: SettableClock
    folder: Path
    stream: UUID
    kid: bytes
    keys: dict[KeyName, bytes]
    wraps: list[FoundWrap]
    epoch_key: bytes
    artefacts: dict[str, Path] = field(default_factory=dict)

    @property
    def needles(self) -> list[str | bytes]:
        """What must not be found: the canaries, the person's keys, and the epoch's."""
        return [CANARY, FIRST_NAME, *self.keys.values(), self.epoch_key]

    @property
    def destroyed(self) -> set[tuple[UUID, KeyName]]:
        return {(self.ledger.tenant, name) for name in self.keys}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Given a person with consent, a message and a click, on a server that vacuums nothing by itself."""
    clock = SettableClock()
    clock.set(NOON)
    server = EmbeddedPostgres(
        tmp_path / "server", chosen_bin_dir(), fsync=False, settings={"autovacuum": "off", "wal_level": "replica"}
    )
    with server, running(settings_for(server, tmp_path / "keys"), clock=clock) as instance:
        ledger = instance.ledger(uuid4())
        ledger.open_account(name="Acme GmbH", pack="mailenium", country="DE", minimum_age=16, actor="cli")
        willing(ledger, [CANARY, "stays@example.com"])
        token = ask(ledger, register(ledger), [CANARY]).allowed[CANARY]
        report(ledger, [(token, "clicked")], at=NOON, url=f"https://example.com/{FIRST_NAME}", ip="192.0.2.7")
        row = person(ledger, CANARY).person
        wraps = [w for w in living_wraps(instance) if w.name.holder in (row.kid, row.records_kid)]
        provider = instance.services.vault.provider
        keys = ledger.keyring.vault.find(ledger.tenant, [w.name for w in wraps]).keys
        yield Scene(
            server,
            instance,
            ledger,
            clock,
            tmp_path,
            UUID(bytes=row.subject),
            row.kid,
            keys,
            wraps,
            provider.key(provider.current()),
        )


def living_wraps(instance: Instance) -> list[FoundWrap]:
    with psycopg.connect(instance.urls.vault) as connection:
        return [found_wrap(row) for row in connection.execute(SELECT_WRAPS)]


def found_wrap(row: tuple[Any, ...]) -> FoundWrap:
    tenant, holder, retention_class, period, generation, epoch, wrap = row
    return FoundWrap(tenant, KeyName(bytes(holder), retention_class, period, generation), epoch, bytes(wrap))


def erase(scene: Scene) -> None:
    scene.ledger.erasures.intend([CANARY], reason="subject_request", actor="cli")
    finish_erasures(scene.ledger)


def take_artefacts(scene: Scene, name: str) -> dict[str, Path]:
    """A base backup, a dump of both databases, our own backup, and the living files, as they are now."""
    folder = scene.folder / name
    folder.mkdir()
    with psycopg.connect(scene.server.url(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    bin_dir = chosen_bin_dir() or wheel_bin_dir()
    base = folder / "base" / "cluster"
    base.parent.mkdir()
    _run(bin_dir / "pg_basebackup", "-d", scene.server.url(), "-D", str(base), "-X", "fetch", "-c", "fast")
    _run(bin_dir / "pg_dumpall", "-d", scene.server.url(), "-f", str(folder / "dump.sql"))
    services = scene.instance.services
    databases = (Database(LEDGER, services.writer), Database(VAULT, scene.instance.vault_pool))
    write_backup(folder / "backup.lethe", databases, services.vault.provider, now=scene.clock(), notes=0)
    cluster = scene.server.data_dir / "cluster"
    _write_records(cluster / "pg_wal", folder / "records")
    return {
        "files": cluster / "base",
        "wal": cluster / "pg_wal",
        "records of the wal": folder / "records",
        "log": scene.server.log_path,
        "base backup": base,
        "dump": folder / "dump.sql",
        "backup": folder / "backup.lethe",
    }


def _write_records(wal: Path, records: Path) -> None:
    """The write-ahead log without its page headers: what a record holds may be cut in two by one.

    A page has 8 KiB and begins with 24 bytes, or 40 where its flag 2 (long header) is set (access/xlog_internal.h).
    """
    with records.open("wb") as joined:
        for segment in sorted(path for path in wal.iterdir() if re.fullmatch("[0-9A-F]{24}", path.name)):
            content = segment.read_bytes()
            for start in range(0, len(content), WAL_PAGE_BYTES):
                flags = int.from_bytes(content[start + 2 : start + 4], "little")
                joined.write(content[start + (40 if flags & 2 else 24) : start + WAL_PAGE_BYTES])


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def pass_the_horizon(scene: Scene) -> list[int]:
    """Roll the epoch, and destroy the old one's key on its day."""
    horizon = Horizon(scene.instance.services)
    scene.clock.advance(timedelta(days=ROLL_DAYS))
    for _ in horizon.roll():
        pass
    scene.clock.advance(timedelta(days=KEPT_DAYS + 1))
    due = horizon.due_for_destruction()
    for epoch in due:
        horizon.destroy(epoch)
    scene.instance.services.vault.provider.forget_cached()
    return due


def epoch_keys(scene: Scene) -> dict[int, bytes]:
    provider = scene.instance.services.vault.provider
    return {epoch: provider.key(epoch) for epoch in provider.living()}


def test_no_key_and_no_person_stands_in_the_clear_anywhere(scene: Scene) -> None:
    """Given artefacts before and after the horizon of an erasure, then neither keys nor canaries are in any of them."""
    erase(scene)
    for artefact, path in take_artefacts(scene, "erased").items():
        assert search_clear_text([path], scene.needles) == [], artefact
    assert pass_the_horizon(scene)
    for artefact, path in take_artefacts(scene, "past the horizon").items():
        assert search_clear_text([path], scene.needles) == [], artefact


def test_the_search_finds_what_is_planted_in_every_artefact(scene: Scene) -> None:
    """Given a key and a canary planted in a table, when the same search runs, then each artefact shows both (control).

    Our own backup takes nothing but Lethe's tables, and encrypts: there the control is the file before encryption.
    """
    key = next(iter(scene.keys.values()))
    with psycopg.connect(scene.server.url(), autocommit=True) as connection:
        connection.execute("CREATE TABLE planted (key bytea, canary text)")
        connection.execute("INSERT INTO planted VALUES (%s, %s)", (key, CANARY))
    artefacts = take_artefacts(scene, "planted")
    for artefact in ("files", "records of the wal", "base backup", "dump"):
        found = {hit.needle for hit in search_clear_text([artefacts[artefact]], [CANARY, key])}
        assert found == {0, 1}, artefact
    assert search_clear_text([artefacts["backup"]], [CANARY, key]) == []


def test_dead_tuples_and_the_log_of_writes_hold_only_wraps(scene: Scene) -> None:
    """Given a destroyed key, when heap and write-ahead log are read, then its wrap is there, it is not (FAULTS 2)."""
    erase(scene)
    artefacts = take_artefacts(scene, "erased")
    wraps = [found.wrap for found in scene.wraps]
    assert len(wraps) >= 3
    for artefact in ("files", "records of the wal", "base backup"):
        hits = {hit.needle for hit in search_clear_text([artefacts[artefact]], wraps)}
        assert hits == set(range(len(wraps))), artefact
        assert search_clear_text([artefacts[artefact]], list(scene.keys.values())) == []


@pytest.mark.skipif(
    chosen_bin_dir() is None, reason="pg_dirtyread is a Debian package for PostgreSQL 15; the wheel has no extensions"
)
def test_dead_tuples_read_with_pg_dirtyread_open_until_the_horizon(scene: Scene) -> None:
    """Given deleted rows read out of the heap, then they open before the horizon (control), and never after it."""
    erase(scene)
    with psycopg.connect(scene.server.url("lethe_vault"), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION pg_dirtyread")
        dead = [found_wrap(row) for row in connection.execute(SELECT_DEAD)]
    assert scene.destroyed <= keys_disclosed(dead, epoch_keys(scene)).keys()
    assert pass_the_horizon(scene)
    with psycopg.connect(scene.server.url("lethe_vault"), autocommit=True) as connection:
        dead += [found_wrap(row) for row in connection.execute(SELECT_DEAD)]
    assert not scene.destroyed & keys_disclosed(dead, epoch_keys(scene)).keys()


def wraps_in_base_backup(scene: Scene, base: Path) -> list[FoundWrap]:
    """Every wrap in a base backup, read by starting a server on it."""
    owner = (scene.server.data_dir / "cluster").stat()
    for path in [base, *base.rglob("*")]:
        if path.name.startswith(".s.PGSQL"):
            path.unlink()
            continue
        os.chown(path, owner.st_uid, owner.st_gid)
    with (
        EmbeddedPostgres(base.parent, chosen_bin_dir(), fsync=False, settings={"autovacuum": "off"}) as again,
        psycopg.connect(again.url("lethe_vault")) as connection,
    ):
        return [found_wrap(row) for row in connection.execute(SELECT_WRAPS)]


def test_no_artefact_discloses_a_destroyed_key_after_the_horizon(scene: Scene) -> None:
    """Given a base backup and a backup from before an erasure, then they disclose its keys until the horizon only.

    The graph's roots are the epoch keys that any custody copy still holds; its edges are all wraps of all artefacts.
    """
    artefacts = take_artefacts(scene, "living")
    provider = scene.instance.services.vault.provider
    old = wraps_in_base_backup(scene, artefacts["base backup"])
    erase(scene)
    assert scene.destroyed <= keys_disclosed(old, epoch_keys(scene)).keys()
    assert read_summary(artefacts["backup"], provider)["rows"]["vault.wrapped_key"] > 0
    later = take_artefacts(scene, "erased")
    assert pass_the_horizon(scene) == [1]
    everything = [*old, *wraps_in_base_backup(scene, later["base backup"]), *living_wraps(scene.instance)]
    disclosed = keys_disclosed(everything, epoch_keys(scene))
    assert not scene.destroyed & disclosed.keys()
    assert len(disclosed) >= 3  # Whoever lives is renewed, and opens.
    for backup in (artefacts["backup"], later["backup"]):
        with pytest.raises(BackupRefused, match="past its horizon"):
            read_summary(backup, provider)
    for copy in provider.copies():
        assert search_clear_text([Path(copy)], [scene.epoch_key]) == []
    gone = scene.ledger.sealing.open(scene.ledger.log.select_streams([scene.stream])[0])
    assert isinstance(gone.email, Erased)  # type: ignore[attr-defined]  # The first fact of a person is ContactAdded.


def test_a_copy_of_the_key_folders_would_undo_it(scene: Scene) -> None:
    """Given a copy of a key folder that nobody enumerated, then old wraps open for ever: custody is the root."""
    shutil.copytree(scene.folder / "keys" / "keys-a", scene.folder / "stolen")
    stolen = (scene.folder / "stolen" / "epoch-000001.key").read_bytes()
    erase(scene)
    pass_the_horizon(scene)
    assert scene.destroyed <= keys_disclosed(scene.wraps, {1: stolen}).keys()


def test_the_identity_key_is_among_what_is_destroyed(scene: Scene) -> None:
    """Given the scene, then its keys are those of every class that the person had."""
    assert {Identity.name, "consent", "link", "engagement", "engagement_technical"} <= {
        name.retention_class for name in scene.keys
    }
