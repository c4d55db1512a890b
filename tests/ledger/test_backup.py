"""Backups: everything comes back, nothing can be read without the epoch key, and a damaged file changes nothing."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from api.bootstrap import Instance
from audit.attacks.clear_text import search_clear_text
from ledger.application import Ledger
from ledger.backup import writing as backup_module
from ledger.backup.file import DATA, FRAME_BYTES, BackupReader, BackupRefused, BackupWriter
from ledger.backup.gate import look
from ledger.backup.restoring import NotEmpty, read_summary, restore
from ledger.backup.writing import EVENT_TABLE, LEDGER, NOT_TAKEN, VAULT, Database, write_backup
from ledger.embedded import EmbeddedPostgres
from ledger.errors import KeyMissing
from ledger.sealing import KEY_BYTES
from tests.acts import add, ask, emails, register, willing
from tests.drills import installation

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)

pytestmark = pytest.mark.store


class Provider:
    """Epoch keys in memory."""

    def __init__(self) -> None:
        self.keys = {3: os.urandom(KEY_BYTES)}

    def current(self) -> int:
        return max(self.keys)

    def key(self, epoch: int) -> bytes:
        if epoch not in self.keys:
            raise KeyMissing("gone")
        return self.keys[epoch]


def written(provider: Any, *items: tuple[int, bytes]) -> bytes:
    out = io.BytesIO()
    writer = BackupWriter(out, provider, "b1", NOW)
    for kind, payload in items:
        writer.item(kind, payload)
    writer.close()
    return out.getvalue()


def read(raw: bytes, provider: Any) -> list[tuple[int, bytes]]:
    return list(BackupReader(io.BytesIO(raw), provider).items())


ITEMS = ((DATA, b""), (DATA, b"x" * 10), (DATA, os.urandom(3 * FRAME_BYTES + 7)), (DATA, b"last"))


def test_items_come_back_in_order() -> None:
    """Given items small, empty and longer than frames, when they are written and read, then they are the same."""
    provider: Any = Provider()
    raw = written(provider, *ITEMS)
    assert read(raw, provider) == list(ITEMS)
    assert b"last" not in raw
    assert BackupReader(io.BytesIO(raw), provider).header.epoch == 3


def test_a_changed_or_cut_file_is_refused() -> None:
    """Given a backup, when a byte is changed, frames are cut off or put in, then reading it is refused."""
    provider: Any = Provider()
    raw = written(provider, *ITEMS)
    for place in [0, 9, 40, 200, len(raw) // 2, len(raw) - 1]:
        changed = bytearray(raw)
        changed[place] ^= 1
        with pytest.raises(BackupRefused):
            read(bytes(changed), provider)
    for length in (0, 5, 20, 300, len(raw) - FRAME_BYTES, len(raw) - 1):
        with pytest.raises(BackupRefused):
            read(raw[:length], provider)
    with pytest.raises(BackupRefused):
        read(raw + b"more", provider)
    with pytest.raises(BackupRefused):
        read(raw + raw, provider)
    other = written(provider, *ITEMS)
    with pytest.raises(BackupRefused):
        read(raw[: FRAME_BYTES * 2] + other[FRAME_BYTES * 2 :], provider)


def test_a_backup_dies_with_its_epoch_key() -> None:
    """Given a backup, when its epoch key is destroyed or another stands there, then nobody reads it (FAULTS 3)."""
    provider: Any = Provider()
    raw = written(provider, *ITEMS)
    provider.keys[4] = os.urandom(KEY_BYTES)
    assert read(raw, provider) == list(ITEMS)
    provider.keys[3] = os.urandom(KEY_BYTES)
    with pytest.raises(BackupRefused, match="changed"):
        read(raw, provider)
    del provider.keys[3]
    with pytest.raises(BackupRefused, match="past its horizon"):
        read(raw, provider)


def rows_of(url: str, schema: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of a database, sorted."""
    found = {}
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'",
            (schema,),
        ).fetchall()
        for (table,) in tables:
            if table not in NOT_TAKEN:
                rows = connection.execute(f'SELECT * FROM {schema}."{table}"'.encode()).fetchall()
                found[table] = sorted(rows, key=repr)
    return found


def both(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def backed_up(instance: Instance, path: Path) -> None:
    write_backup(path, both(instance), instance.services.vault.provider, now=NOW, notes=0)


def opened(instance: Instance) -> Ledger:
    ledger = instance.ledger(uuid4())
    ledger.open_account(name="Acme GmbH", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    return ledger


def test_every_row_comes_back(server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given two accounts with events over several windows, when they are restored, then every table is the same."""
    monkeypatch.setattr(backup_module, "EVENTS_PER_WINDOW", 7)
    keys, file = tmp_path / "keys", tmp_path / "b.lethe"
    with installation(server, keys) as source, installation(server, keys, gated=False) as target:
        for ledger in (opened(source), opened(source)):
            willing(ledger, emails(12))
            ask(ledger, register(ledger), emails(12))
        before = [rows_of(u, s) for u, s in ((source.urls.writer, "lethe"), (source.urls.vault, "lethe_vault"))]
        backed_up(source, file)
        restore(file, both(target), target.services.vault.provider, now=NOW)
        after = [rows_of(u, s) for u, s in ((target.urls.writer, "lethe"), (target.urls.vault, "lethe_vault"))]
    assert len(before[0][EVENT_TABLE]) > 50
    assert after == before
    assert file.stat().st_mode & 0o077 == 0


def test_nothing_of_a_person_stands_in_the_file(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Given a canary in the ledger, when it is backed up, then the file shows neither it nor a fingerprint (I4)."""
    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys") as source:
        ledger = opened(source)
        add(ledger, ["canary.person@example.com"], first_name="Canarybird")
        backed_up(source, file)
        fingerprint = ledger.fingerprint("canary.person@example.com").hex()
    assert search_clear_text([file], ["canary.person@example.com", "Canarybird", fingerprint]) == []
    with file.open("ab") as planted:
        planted.write(b"Canarybird")
    assert len(search_clear_text([file], ["Canarybird"])) == 1


def test_a_damaged_backup_changes_nothing(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Given a backup cut in the middle, when it is restored, then it is refused and the databases stay empty, open."""
    keys, file = tmp_path / "keys", tmp_path / "b.lethe"
    with installation(server, keys) as source, installation(server, keys, gated=False) as target:
        add(opened(source), emails(3))
        backed_up(source, file)
        raw = file.read_bytes()
        file.write_bytes(raw[: len(raw) - 30])
        with pytest.raises(BackupRefused, match="cut short"):
            restore(file, both(target), target.services.vault.provider, now=NOW)
        assert rows_of(target.urls.writer, "lethe")["head"] == []
        assert not look(target.services.writer, target.vault_pool, target.custody).restored
        file.write_bytes(raw)
        summary = read_summary(file, target.services.vault.provider)
        assert sum(position for position, _ in summary["heads"].values()) > 3


def test_nothing_is_restored_over_living_data(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Given databases in use, when a backup is restored into them, then it is refused and nothing changes."""
    file = tmp_path / "b.lethe"
    with installation(server, tmp_path / "keys") as source:
        ledger = opened(source)
        backed_up(source, file)
        add(ledger, emails(1))
        before = rows_of(source.urls.writer, "lethe")
        with pytest.raises(NotEmpty, match="Nothing was changed"):
            restore(file, both(source), source.services.vault.provider, now=NOW)
        assert rows_of(source.urls.writer, "lethe") == before


def test_a_backup_never_overwrites_a_file(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Given a file of that name, when a backup is written, then it fails, the file stays and no half is left."""
    file = tmp_path / "b.lethe"
    file.write_text("older")
    with installation(server, tmp_path / "keys") as source:
        opened(source)
        with pytest.raises(FileExistsError):
            backed_up(source, file)
    assert file.read_text() == "older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.lethe", "keys"]
