"""The keys that standing rows are sealed and found by: derived from an epoch key, for one tenant.

A row says nothing by itself, and neither does a dead tuple of it once the epoch key is gone. The tag of a handle is
keyed in the same way, because a tag that outlived its epoch would lead from an old token to a dead row.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from uuid import UUID

from ledger.custody.provider import EpochKeyProvider
from ledger.links import handle_tag
from ledger.sealing import KEY_BYTES, NONCE_BYTES, aead_seal

ROW_PERSON = b"lethe.row.v1"
TAG_PERSON = b"lethe.tag.v1"


class RowKeys:
    """Keys of rows and of tags by tenant and epoch, derived when first asked for."""

    def __init__(self, provider: EpochKeyProvider) -> None:
        self._provider = provider
        self._held: dict[tuple[UUID, int, bytes], bytes] = {}

    def row_key(self, tenant: UUID, epoch: int) -> bytes:
        """What the rows of an epoch are sealed under."""
        return self._derived(tenant, epoch, ROW_PERSON)

    def tag_key(self, tenant: UUID, epoch: int) -> bytes:
        """What the handles of an epoch are hashed with."""
        return self._derived(tenant, epoch, TAG_PERSON)

    def tag(self, tenant: UUID, epoch: int, handle: bytes) -> bytes:
        """What a row of this epoch is found by when its handle is known."""
        return handle_tag(self.tag_key(tenant, epoch), handle)

    def forget(self, tenant: UUID, epoch: int) -> None:
        """Forget the keys of a tenant up to an epoch: nothing of it is left there."""
        for held in [held for held in list(self._held) if held[0] == tenant and held[1] <= epoch]:
            self._held.pop(held, None)

    def _derived(self, tenant: UUID, epoch: int, person: bytes) -> bytes:
        held = (tenant, epoch, person)
        key = self._held.get(held)
        if key is None:
            secret = self._provider.key(epoch)
            key = self._held[held] = blake2b(tenant.bytes, key=secret, digest_size=KEY_BYTES, person=person).digest()
        return key


def seal_row(key: bytes, packed: bytes, aad: bytes) -> bytes:
    """Nonce and ciphertext. Row keys live one epoch of one tenant, so random nonces stay far below 2^32 of them."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + aead_seal(key, packed, aad, nonce)


def aad_prefix(tenant: UUID) -> bytes:
    """How `row_aad` begins."""
    return b"standing" + tenant.bytes


def row_aad(tenant: UUID, fingerprint: bytes, epoch: int) -> bytes:
    """What a row is bound to: its table, tenant, fingerprint and epoch."""
    return aad_prefix(tenant) + fingerprint + epoch.to_bytes(4, "big")
