"""Which epoch key is the right one, and when the very first may be made.

The key provider knows what lies in its places, and nothing of the vault that was wrapped with it. Empty places look to
it like a new installation; a folder of another installation looks like a good one. So the vault keeps a commitment of
each epoch key, a hash that opens nothing, and is asked before a first key is made, when a process starts, and whenever
something is to be wrapped. A vault that is in use never gets a new first key: everything in it would be lost unseen.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from ledger.custody.provider import EpochKeyProvider
from ledger.errors import KeyMissing, TamperError
from ledger.keys.names import KeyName
from ledger.keys.wraps import wrap_aad
from ledger.sealing import open_box

FIRST_EPOCH: Final = 1
WRAPS_TRIED_MAX: Final = 100
"""Wraps that are tried where there is no commitment: some may have been changed, and a start should take no longer."""

MEND: Final = (
    "No key is made in its place, and nothing was written. Mount the disk or put the folder back that holds it, or "
    "name the right places (LETHE_KEY_FOLDERS, LETHE_KMS_REGIONS and LETHE_KMS_ALIAS_PREFIX); then start again."
)

SELECT_IN_USE = """
SELECT EXISTS (SELECT 1 FROM lethe_vault.epoch) OR EXISTS (SELECT 1 FROM lethe_vault.wrapped_key)
"""
# Everything that lives stands under the newest epoch, or under those before it while they are not verified.
SELECT_NEEDED = """
SELECT epoch, commitment FROM lethe_vault.epoch WHERE verified_at IS NULL AND destroyed_at IS NULL
UNION ALL
SELECT max(epoch), NULL FROM lethe_vault.wrapped_key WHERE NOT EXISTS (SELECT 1 FROM lethe_vault.epoch)
HAVING max(epoch) IS NOT NULL
ORDER BY 1
"""
SELECT_SOME_WRAPS = """
SELECT tenant_id, holder, class, period, generation, wrap FROM lethe_vault.wrapped_key WHERE epoch = %s LIMIT %s
"""
SET_COMMITMENT = "UPDATE lethe_vault.epoch SET commitment = %s WHERE epoch = %s AND commitment IS NULL"


def epoch_commitment(key: bytes) -> bytes:
    """What the vault keeps of an epoch key: 32 bytes that tell another key apart, and open nothing."""
    return blake2b(key, digest_size=32, person=b"lethe.ecm.v1").digest()


def require_committed(epoch: int, key: bytes, commitment: bytes | None) -> None:
    """Raises `TamperError` for another key than the one this epoch was opened with. None is a row older than that."""
    if commitment is not None and not hmac.compare_digest(epoch_commitment(key), commitment):
        raise _another(epoch)


def key_at_hand(provider: EpochKeyProvider, epoch: int, commitment: bytes | None) -> bytes:
    """The key of an epoch that this vault is wrapped under. Raises `KeyMissing`, and `TamperError` for another."""
    try:
        key = provider.key(epoch)
    except KeyMissing as error:
        raise KeyMissing(f"{error} This vault needs it. {MEND}") from error
    require_committed(epoch, key, commitment)
    return key


def living_or_first(connection: Connection[Any], provider: EpochKeyProvider) -> tuple[int, ...]:
    """The living epochs; the first one is made where the vault is empty and there never was any.

    Raises `KeyMissing` for a vault that is in use.
    """
    living = provider.living()
    if living:
        return living
    row = connection.execute(SELECT_IN_USE).fetchone()
    # Looked at again after the database: whoever was faster had made the key before the first row stood there.
    provider.forget_cached()
    living = provider.living()
    if living:
        return living
    if row is not None and row[0]:
        raise KeyMissing(f"This vault is in use, and there is no epoch key in {_places(provider)}. {MEND}")
    if provider.destroyed():
        provider.current()  # Says how bad that is.
    provider.create(FIRST_EPOCH)
    return (FIRST_EPOCH,)


def require_epoch_keys(connection: Connection[Any], provider: EpochKeyProvider) -> dict[int, bytes]:
    """Raises `KeyMissing` or `TamperError` unless the keys at hand are those that this vault is wrapped under.

    Cheap: a few rows, whatever the vault holds. Returns commitments that are still to be noted, by epoch.
    """
    to_note = {}
    for epoch, commitment in connection.execute(SELECT_NEEDED).fetchall():
        key = key_at_hand(provider, epoch, commitment)
        if commitment is None:
            _require_opens(connection, epoch, key)
            to_note[epoch] = epoch_commitment(key)
    return to_note


def note_commitments(connection: Connection[Any], commitments: dict[int, bytes]) -> None:
    """Keep these where an epoch was opened before commitments were kept."""
    for epoch, commitment in commitments.items():
        connection.execute(SET_COMMITMENT, (commitment, epoch))


def _require_opens(connection: Connection[Any], epoch: int, key: bytes) -> None:
    """With no commitment to compare, one wrap of some has to open. One that was changed says nothing of the key."""
    rows = connection.execute(SELECT_SOME_WRAPS, (epoch, WRAPS_TRIED_MAX)).fetchall()
    if rows and not any(_opens(key, tenant, KeyName(bytes(h), *n), epoch, wrap) for tenant, h, *n, wrap in rows):
        raise _another(epoch)


def _opens(key: bytes, tenant: UUID, name: KeyName, epoch: int, wrap: bytes) -> bool:
    try:
        open_box(key, bytes(wrap), wrap_aad(tenant, name, epoch))
    except TamperError:
        return False
    return True


def _another(epoch: int) -> TamperError:
    return TamperError(
        f"The key of epoch {epoch} at hand is not the one that this vault was wrapped under. {MEND} Do not use the "
        "other key for anything: find out whose it is."
    )


def _places(provider: EpochKeyProvider) -> str:
    return ", ".join(provider.copies())
