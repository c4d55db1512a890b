"""The door: who is calling, and may they do this? API keys as bearer tokens (RFC 6750), checked before anything else.

A key that was found good is believed for `KEY_BELIEVED_SECONDS`, so a key revoked by another process (the command
line) works at most that much longer here; one revoked in this process stops at once, because the ledger tells us.
The cache is keyed by a digest and bounded. Whoever is turned away is recorded: as a fact of the account where the
key names one that exists, within a budget that keeps the log from being flooded, and as a line of the program's log
always. An unknown account creates nothing (FAULTS 23).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final
from uuid import UUID

import structlog
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from api.bootstrap import Instance
from api.http.limits import Monotonic, TokenBuckets
from api.http.problems import FORBIDDEN, UNAUTHENTICATED, RequestRefused
from ledger.application import api_key_holder, parse_api_key
from ledger.errors import Unavailable

KEY_BELIEVED_SECONDS: Final = 5.0
KEYS_HELD_MAX: Final = 4096
"""Who needs it: one entry for each key in use; a full cache forgets the oldest and asks the database again."""

REFUSALS_PER_KEY_AND_MINUTE: Final = 5
REFUSALS_PER_ACCOUNT_AND_MINUTE: Final = 30
ACCOUNT_PROBES_PER_MINUTE: Final = 600
"""Refusals recorded as facts; the rest is only logged, so that nobody can fill a log from outside."""

ADMIN: Final = "admin"
KEY_CHARACTERS_MAX: Final = 200

SELECT_ACCOUNT = "SELECT 1 FROM lethe.head WHERE tenant_id = %s"

log = structlog.get_logger("lethe.http")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request: the account, the key's public id, what it may do, and the name it acts under."""

    tenant: UUID
    key_id: str
    scopes: frozenset[str]
    actor: str

    def may(self, scopes: frozenset[str]) -> bool:
        """Whether one of these scopes is the caller's; admin is all of them."""
        return ADMIN in self.scopes or not scopes.isdisjoint(self.scopes)


class Door:
    """Lets callers in or turns them away. `clock` is monotonic, in seconds."""

    def __init__(self, instance: Instance, threads: CapacityLimiter, *, clock: Monotonic = time.monotonic) -> None:
        self._instance = instance
        self._threads = threads
        self._clock = clock
        self._callers: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._revocations = 0
        self._key_budget = TokenBuckets(REFUSALS_PER_KEY_AND_MINUTE, clock=clock)
        self._account_budget = TokenBuckets(REFUSALS_PER_ACCOUNT_AND_MINUTE, clock=clock)
        self._probe_budget = TokenBuckets(ACCOUNT_PROBES_PER_MINUTE, clock=clock)

    async def admit(self, request: Request, scopes: frozenset[str], route: str) -> Caller:
        """The caller, if the key is good and has one of the scopes. Raises the problem, which is recorded."""
        presented = _bearer(request)
        caller = None if presented is None else await self._caller(presented)
        if caller is None:
            reason = "no_key" if presented is None else "unknown_or_revoked_key"
            await self._record(route, reason, presented)
            raise RequestRefused(UNAUTHENTICATED, _NO_KEY, headers={"WWW-Authenticate": "Bearer"})
        if not caller.may(scopes):
            await self._record(route, "wrong_scope", presented)
            wanted = ", ".join(sorted(scopes | {ADMIN}))
            raise RequestRefused(FORBIDDEN, f"This needs an API key with one of the scopes {wanted}.")
        return caller

    def forget_key(self, tenant: UUID, key_id: str) -> None:
        """Stop believing a key: it was revoked in this process."""
        self._revocations += 1
        for digest, (_, caller) in list(self._callers.items()):
            if (caller.tenant, caller.key_id) == (tenant, key_id):
                self._callers.pop(digest, None)

    async def _caller(self, presented: str) -> Caller | None:
        digest = blake2b(presented.encode(), digest_size=32).digest()
        held = self._callers.get(digest)
        if held is not None and held[0] > self._clock():
            return held[1]
        self._callers.pop(digest, None)
        asked_at, revocations = self._clock(), self._revocations
        holder = await to_thread.run_sync(
            api_key_holder, self._instance.services.writer, presented, limiter=self._threads
        )
        if holder is None:
            return None
        caller = Caller(holder.tenant, holder.key_id, holder.scopes, f"key:{holder.key_id}")
        if revocations == self._revocations:  # Otherwise it may be the key that was revoked meanwhile.
            self._believe(digest, caller, asked_at + KEY_BELIEVED_SECONDS)
        return caller

    def _believe(self, digest: bytes, caller: Caller, until: float) -> None:
        while len(self._callers) >= KEYS_HELD_MAX:
            self._callers.popitem(last=False)
        self._callers[digest] = (until, caller)

    async def _record(self, route: str, reason: str, presented: str | None) -> None:
        parsed = None if presented is None else parse_api_key(presented)
        key_id = None if parsed is None else parsed[1]
        log.warning("access_refused", route=route, reason=reason, key_id=key_id)
        if parsed is None or self._key_budget.take(parsed[1]) or self._account_budget.take(parsed[0]):
            return
        if self._probe_budget.take(None):
            return
        try:
            await to_thread.run_sync(self._record_fact, parsed[0], route, reason, parsed[1], limiter=self._threads)
        except Unavailable:
            log.warning("refusal_not_recorded", route=route, reason="database_unavailable")

    def _record_fact(self, tenant: UUID, route: str, reason: str, key_id: str) -> None:
        with self._instance.services.writer.connection() as connection:
            known = connection.execute(SELECT_ACCOUNT, (tenant,)).fetchone()
        if known is not None:
            self._instance.ledger(tenant).record_refusal(route, reason, key_id=key_id)


_NO_KEY: Final = (
    "This needs an API key: send the header Authorization: Bearer lethe_… with a key that `lethe apikey create` made "
    "and nobody has revoked."
)


def _bearer(request: Request) -> str | None:
    """What is presented as a key, None where there is nothing, or more than one thing, that could be one."""
    values = request.headers.getlist("authorization")
    if len(values) != 1:
        return None
    scheme, _, presented = values[0].partition(" ")
    presented = presented.strip(" ")
    if scheme.lower() != "bearer" or not presented or len(presented) > KEY_CHARACTERS_MAX or not presented.isascii():
        return None
    return presented
