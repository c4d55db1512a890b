"""Idempotent requests: a part of a request that was committed is answered again, not done again.

Each part (a chunk of a bulk request, or the whole of a small one) is recorded in the transaction of its append, so
a lost acknowledgement loses nothing. The key is kept as a keyed hash and the answer sealed under the feed key of its
day. Answers name recipients by index only; the addresses come back from the repeated request itself, so that a
repetition after an erasure brings no personal data back (FAULTS 11). Source: draft-ietf-httpapi-idempotency-key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.ids import day_of
from domain.personal import Erased, Feed
from ledger.append import LockedTenant
from ledger.errors import IdempotencyMismatch
from ledger.keys.keyring import Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.sealing import open_box, scope_key, seal_box

IDEMPOTENCY = "idempotency"
KEPT_FOR = timedelta(hours=24)

SELECT_PART = """
SELECT request_hash, feed_day, answer FROM lethe.idempotency WHERE tenant_id = %s AND key_hash = %s AND part = %s
"""
INSERT_PART = """
INSERT INTO lethe.idempotency (tenant_id, key_hash, part, request_hash, feed_day, answer, recorded_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, key_hash, part) DO UPDATE SET request_hash = excluded.request_hash,
    feed_day = excluded.feed_day, answer = excluded.answer, recorded_at = excluded.recorded_at
"""
"""A row is only replaced where `require_new` could not open it any more, under the same lock."""
DELETE_OLD = "DELETE FROM lethe.idempotency WHERE tenant_id = %s AND recorded_at < %s"


class Replayed(Exception):
    """This part was committed before; `answer` is what was answered then."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("already done")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class IdempotentPart:
    """One part of a request under an Idempotency-Key.

    `request` is the digest of what must be the same when the part is repeated; neither digest is stored as it is.
    """

    key_hash: bytes
    part: int
    request: bytes

    @staticmethod
    def of(tenant: UUID, route: str, key: str, content: bytes, part: int = 0) -> IdempotentPart:
        """A part from the header's value, the route it was sent to, and the bytes of the content."""
        key_hash = blake2b(route.encode() + b"\0" + key.encode(), key=tenant.bytes, digest_size=32).digest()
        return IdempotentPart(key_hash, part, blake2b(content, digest_size=32).digest())

    def numbered(self, part: int, content: bytes) -> IdempotentPart:
        """Another part of the same request; it is the same only if the request's own content is, too."""
        return replace(self, part=part, request=blake2b(content, key=self.request, digest_size=32).digest())


class PartStore:
    """The parts of one tenant that were committed lately."""

    def __init__(self, tenant: UUID, keyring: Keyring) -> None:
        self._tenant = tenant
        self._keyring = keyring

    def require_new(self, connection: Connection[Any], part: IdempotentPart | None) -> None:
        """Raise `Replayed` if this part was committed, `IdempotencyMismatch` if with another content."""
        if part is None:
            return
        key_hash, request = self._keyed(part)
        row = connection.execute(SELECT_PART, (self._tenant, key_hash, part.part), binary=True).fetchone()
        if row is None:
            return
        if bytes(row[0]) != request:
            raise IdempotencyMismatch(
                "This Idempotency-Key was used for another request. Use a new key for a new request."
            )
        scope = self._keyring.opening_scope(TENANT_HOLDER, Feed.name, row[1])
        if isinstance(scope, Erased):
            return
        raise Replayed(open_box(scope, bytes(row[2]), self._aad(part)))

    def save(self, locked: LockedTenant, part: IdempotentPart | None, answer: bytes) -> None:
        """Keep the answer of a part in the transaction that does it."""
        if part is None:
            return
        day = day_of(locked.now)
        names = (KeyName(TENANT_HOLDER, Feed.name), KeyName(TENANT_HOLDER, Feed.name, day))
        keys = self._keyring.ensure(names)
        sealed = seal_box(scope_key(keys[names[0]], keys[names[1]]), answer, self._aad(part))
        key_hash, request = self._keyed(part)
        values = (self._tenant, key_hash, part.part, request, day, sealed, locked.now)
        locked.connection.execute(INSERT_PART, values)

    def purge(self, connection: Connection[Any], now: datetime) -> int:
        """Forget parts older than a day; returns how many."""
        return connection.execute(DELETE_OLD, (self._tenant, now - KEPT_FOR)).rowcount

    def _keyed(self, part: IdempotentPart) -> tuple[bytes, bytes]:
        """What is stored of key and content: keyed, so that nobody can look a guessed body up (FAULTS 21)."""
        key = self._keyring.tenant_key(IDEMPOTENCY)
        key_hash = blake2b(part.key_hash, key=key, digest_size=16, person=b"lethe.idk.v1").digest()
        return key_hash, blake2b(part.request, key=key, digest_size=32, person=b"lethe.idr.v1").digest()

    def _aad(self, part: IdempotentPart) -> bytes:
        return self._tenant.bytes + part.key_hash + part.part.to_bytes(4, "big")
