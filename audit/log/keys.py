"""The keys that sign a tenant's log: Ed25519, as C2SP signed-note and Go's `sumdb/note` know them.

A key is named by the origin of the series that it signs, and known to the world by its verifier key. Its seed is a key
of the vault, of the tenant itself (class `log`), made before the fact that opens it. Facts say when a key was opened
and retired; the table beside them is what they come to. Several keys may live at once, and then all of them sign, so
that a verifier who knows the old one or the new one is content: that is how a key is replaced.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.log.errors import LogContradiction, LogKeyRefused
from audit.log.facts import record_facts
from audit.log.store import LogKey, all_series, log_keys
from domain.log import LogKeyOpened, LogKeyRetired, LogSeriesOpened
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.custody.kept_checkpoints import KeptCheckpoint
from ledger.errors import KeyMissing
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.signing import LOG, note_key, sign_note

ED25519: Final = b"\x01"
"""The type of a signature in C2SP signed-note."""

KEYS_MAX: Final = 8
"""Living keys of one log: each of them signs every checkpoint, and a note with a hundred lines helps nobody."""

SEQUENCER_ACTOR: Final = "log"

# Whoever signs holds this row.
LOCK_SERIES = "SELECT series FROM lethe.log_series WHERE tenant_id = %s ORDER BY series FOR UPDATE"
INSERT_SERIES = """
INSERT INTO lethe.log_series (tenant_id, series, origin, opened_at) VALUES (%s, %s, %s, %s)
"""
INSERT_KEY = """
INSERT INTO lethe.log_key (tenant_id, generation, series, key_id, verifier_key, opened_at)
VALUES (%s, %s, %s, %s, %s, %s)
"""
RETIRE_KEY = """
UPDATE lethe.log_key SET retired_at = %s WHERE tenant_id = %s AND generation = %s AND retired_at IS NULL
"""


def living(keys: Sequence[LogKey], series: int) -> list[LogKey]:
    """Of a log's keys those that sign this series now, oldest first."""
    return [key for key in keys if key.series == series and key.retired_at is None]


def verifier_key(origin: str, public: bytes) -> str:
    """What a verifier is given: name, id and key in one line."""
    return f"{origin}+{key_id(origin, public).hex()}+{b64encode(ED25519 + public).decode()}"


def key_id(origin: str, public: bytes) -> bytes:
    """The four bytes that tell a note's signatures apart."""
    return sha256(origin.encode() + b"\n" + ED25519 + public).digest()[:4]


# Signing ------------------------------------------------------------------------------------------------------------


def signed_note(ledger: Ledger, connection: Connection[Any], text: str) -> str:
    """A note (`text` ends with a newline) signed by every living key of the newest series."""
    series = all_series(connection, ledger.tenant)
    if not series:
        raise LogKeyRefused("This account's log has no key yet. The worker opens it: lethe worker.")
    return sign(ledger, series[-1].origin, living(log_keys(connection, ledger.tenant), series[-1].series), text)


def sign(ledger: Ledger, origin: str, keys: Sequence[LogKey], text: str) -> str:
    """A note signed by these keys, oldest first.

    Raises `KeyMissing` for a key that the vault does not have, and `LogContradiction` for one that is not the key that
    was opened: a new key under an old name would make what others hold worthless.
    """
    if not keys:
        raise LogKeyRefused(f"The log {origin} has no living key. Open one: lethe log rotate.")
    lines = [text, "\n"]
    for key in keys:
        _require_opened(ledger, origin, key)
        signature = sign_note(ledger.keyring, key.generation, text.encode())
        lines.append(f"— {origin} {b64encode(bytes.fromhex(key.key_id) + signature).decode()}\n")
    return "".join(lines)


def _require_opened(ledger: Ledger, origin: str, key: LogKey) -> None:
    """The key in the vault is the one that the log's fact names. Nothing is made here."""
    name = KeyName(TENANT_HOLDER, LOG, "", key.generation)
    if name not in ledger.keyring.find([name]).keys:
        raise KeyMissing(
            f"The key {key.key_id} of the log {origin} is not in the vault. Restore a newer backup of the vault, or "
            f"replace the key: lethe log rotate, then lethe log retire {key.key_id}."
        )
    public = note_key(ledger.keyring, key.generation)
    if (key_id(origin, public).hex(), verifier_key(origin, public)) != (key.key_id, key.verifier_key):
        raise LogContradiction(
            f"The vault holds another key than {key.key_id}, which the log {origin} opened. Nothing is signed with it. "
            f"Restore the vault, or replace the key: lethe log rotate, then lethe log retire {key.key_id}."
        )


# Opening and retiring -----------------------------------------------------------------------------------------------


def open_series(ledger: Ledger, house: str, kept: KeptCheckpoint | None) -> bool:
    """Open the log's first series, or the one after a series that was given up; False if another process was faster.

    `house` is the setting LETHE_LOG_ORIGIN. What was given up is written into the log itself.
    """
    number = kept.series + 1 if kept is not None else 1
    origin = origin_of(house, ledger.tenant, number)
    generation = _next_generation(ledger)
    ledger.keyring.tenant_key(LOG, generation=generation)
    with ledger.appender.locked() as locked:
        series, keys = all_series(locked.connection, ledger.tenant), log_keys(locked.connection, ledger.tenant)
        if (series and series[-1].series >= number) or _newest(keys) + 1 != generation:
            return False
        opened = LogSeriesOpened(
            series=number,
            origin=origin,
            lost_size=kept.size if kept else None,
            lost_root=kept.root.hex() if kept else None,
        )
        over = [key for key in keys if key.retired_at is None]
        ends = [LogKeyRetired(series=key.series, generation=key.generation, key_id=key.key_id) for key in over]
        fact = _key_fact(ledger, number, origin, generation)
        record_facts(ledger, locked, [*ends, opened, fact], SEQUENCER_ACTOR)
        locked.connection.execute(INSERT_SERIES, (ledger.tenant, number, origin, locked.now))
        for key in over:
            locked.connection.execute(RETIRE_KEY, (locked.now, ledger.tenant, key.generation))
        _insert_key(locked, fact, locked.now)
    return True


def rotate(ledger: Ledger, *, actor: str) -> LogKey:
    """Open one more key of the newest series; from the next checkpoint on it signs beside the others."""
    generation = _next_generation(ledger)
    ledger.keyring.tenant_key(LOG, generation=generation)
    with ledger.appender.locked() as locked:
        series, keys = all_series(locked.connection, ledger.tenant), log_keys(locked.connection, ledger.tenant)
        if not series:
            raise LogKeyRefused("This account's log has no key yet. The worker opens it: lethe worker.")
        if _newest(keys) + 1 != generation:
            raise LogKeyRefused("Somebody else opened a key at the same moment. See: lethe log keys.")
        if len(living(keys, series[-1].series)) >= KEYS_MAX:
            raise LogKeyRefused(f"A log has at most {KEYS_MAX} living keys. Retire one first: lethe log retire KEYID.")
        fact = _key_fact(ledger, series[-1].series, series[-1].origin, generation)
        record_facts(ledger, locked, [fact], actor)
        _insert_key(locked, fact, locked.now)
        return log_keys(locked.connection, ledger.tenant)[-1]


def retire(ledger: Ledger, key: str, *, actor: str) -> LogKey:
    """Let a key sign nothing more; `key` is its id (8 hexadecimal digits). Raises `LogKeyRefused` for the last one.

    Waits for the sequencer, so that nothing is signed by the key after this returned.
    """
    with ledger.appender.locked() as locked:
        locked.connection.execute(LOCK_SERIES, (ledger.tenant,))
        keys, series = log_keys(locked.connection, ledger.tenant), all_series(locked.connection, ledger.tenant)
        found = next((known for known in keys if known.key_id == key.lower()), None)
        if found is None:
            raise LogKeyRefused("This account's log has no key with this id. See: lethe log keys.")
        if found.retired_at is not None:
            raise LogKeyRefused(f"This key was retired on {found.retired_at:%Y-%m-%d}.")
        if living(keys, series[-1].series) == [found]:
            raise LogKeyRefused(
                "This is the last key of the log: without it nothing is signed. First open another, and give its "
                "verifier key to those who check: lethe log rotate."
            )
        fact = LogKeyRetired(series=found.series, generation=found.generation, key_id=found.key_id)
        record_facts(ledger, locked, [fact], actor)
        locked.connection.execute(RETIRE_KEY, (locked.now, ledger.tenant, found.generation))
        return next(known for known in log_keys(locked.connection, ledger.tenant) if known.key_id == found.key_id)


def origin_of(house: str, tenant: UUID, series: int) -> str:
    """What a log is called: the first line of its checkpoints and the name of its keys."""
    return f"{house}/log/{tenant.hex}" + (f"/{series}" if series > 1 else "")


def _next_generation(ledger: Ledger) -> int:
    with ledger.services.writer.transaction() as connection:
        return _newest(log_keys(connection, ledger.tenant)) + 1


def _newest(keys: Sequence[LogKey]) -> int:
    return keys[-1].generation if keys else 0


def _key_fact(ledger: Ledger, series: int, origin: str, generation: int) -> LogKeyOpened:
    public = note_key(ledger.keyring, generation)
    return LogKeyOpened(
        series=series,
        generation=generation,
        key_id=key_id(origin, public).hex(),
        verifier_key=verifier_key(origin, public),
    )


def _insert_key(locked: LockedTenant, fact: LogKeyOpened, now: datetime) -> None:
    values = (locked.tenant, fact.generation, fact.series, fact.key_id, fact.verifier_key, now)
    locked.connection.execute(INSERT_KEY, values)
