"""The keyring: a bounded cache of opened keys in front of the vault, one per tenant.

Keys are held for a lease of at most sixty seconds, so that a key destroyed by another process stops opening here
soon after, without a message being sent (FAULTS 8). A process that destroys a key forgets it at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from threading import Lock
from uuid import UUID

from domain.personal import Engagement, EngagementTechnical, Erased
from ledger.keys.vault import TENANT_HOLDER, Found, KeyName, Vault, erased_or_missing
from ledger.sealing import scope_key

LEASE_SECONDS_MAX = 60.0
CACHED_KEYS_MAX = 100_000

PEPPER = "pepper"
LINK = "link"

CLASSES_OF_MESSAGES = (LINK, Engagement.name, EngagementTechnical.name)
"""Classes whose keys have the generations of a person's links, and whose clock is the last engagement."""


class Keyring:
    """The keys of one tenant. Times are monotonic seconds."""

    def __init__(self, vault: Vault, tenant: UUID, *, lease_seconds: float = LEASE_SECONDS_MAX) -> None:
        self._vault = vault
        self._tenant = tenant
        self._lease_seconds = min(lease_seconds, LEASE_SECONDS_MAX)
        self._leases: dict[KeyName, tuple[float, bytes]] = {}
        self._subject_leases: dict[tuple[str, int], dict[bytes, tuple[float, bytes]]] = {}
        self._engaged: dict[int, dict[bytes, date]] = {}
        self._lock = Lock()

    @property
    def vault(self) -> Vault:
        """The vault behind the cache."""
        return self._vault

    def ensure(self, names: Iterable[KeyName]) -> dict[KeyName, bytes]:
        """Keys to seal with, made durably in the vault where they do not exist. Raises as `Vault.ensure`."""
        wanted = set(names)
        held = self._held(wanted)
        missing = wanted - held.keys()
        if missing:
            made = self._vault.ensure(self._tenant, sorted(missing))
            self._remember(made)
            held.update(made)
        return held

    def find(self, names: Iterable[KeyName]) -> Found:
        """Keys to open with, and the tombstones of those that were destroyed."""
        wanted = set(names)
        held = self._held(wanted)
        missing = wanted - held.keys()
        if not missing:
            return Found(held, {})
        found = self._vault.find(self._tenant, sorted(missing))
        self._remember(found.keys)
        return Found(held | found.keys, found.tombstones)

    def subject_keys(
        self,
        retention_class: str,
        kids: Iterable[bytes],
        *,
        generation: int = 1,
        used_on: date | Mapping[bytes, date] | None = None,
    ) -> dict[bytes, bytes]:
        """The keys of one class for many persons, by kid, made durably where needed; a destroyed person is absent.

        `used_on` is the day that the clock of a new key starts on, or that of each.
        """
        now = time.monotonic()
        leases = self._subject_leases.setdefault((retention_class, generation), {})
        held, missing = {}, []
        for kid in kids:
            lease = leases.get(kid)
            if lease is not None and lease[0] > now:
                held[kid] = lease[1]
            else:
                missing.append(kid)
        if missing:
            made = self._vault.ensure_subject_keys(
                self._tenant, retention_class, missing, generation=generation, used_on=used_on
            )
            until = now + self._lease_seconds
            with self._lock:
                if len(leases) + len(made) > CACHED_KEYS_MAX:
                    leases.clear()
                for kid, key in made.items():
                    held[kid] = key
                    leases[kid] = (until, key)
        return held

    def engaged(self, used: Mapping[bytes, date], *, generation: int = 1) -> None:
        """These persons (by kid) engaged on these days: their keys for messages of a generation live on from there.

        Asks the vault once per person and day at most.
        """
        known = self._engaged.setdefault(generation, {})
        moved = {kid: day for kid, day in used.items() if kid not in known or known[kid] < day}
        if not moved:
            return
        for retention_class in CLASSES_OF_MESSAGES:
            self._vault.touch(self._tenant, retention_class, moved, generation=generation)
        with self._lock:
            if len(known) + len(moved) > CACHED_KEYS_MAX:
                known.clear()
            known.update(moved)

    def tenant_key(self, retention_class: str, *, generation: int = 1) -> bytes:
        """A key of the tenant itself that lives as long as the account, such as its pepper."""
        name = KeyName(TENANT_HOLDER, retention_class, "", generation)
        return self.ensure([name])[name]

    def period_key(self, retention_class: str, period: str) -> bytes:
        """The period key P of a class, to seal with."""
        name = KeyName(TENANT_HOLDER, retention_class, period)
        return self.ensure([name])[name]

    def opening_scope(self, holder: bytes, retention_class: str, period: str, *, generation: int = 1) -> bytes | Erased:
        """K for opening, or the tombstone that says why it is gone. Raises `KeyMissing` where neither is found.

        Of a person under a legal hold K itself may be kept after the period's key went.
        """
        subject = KeyName(holder, retention_class, "", generation)
        of_period = KeyName(TENANT_HOLDER, retention_class, period)
        found = self.find([subject, of_period])
        if subject in found.keys and of_period in found.keys:
            return scope_key(found.keys[subject], found.keys[of_period])
        if of_period in found.tombstones and holder != TENANT_HOLDER:
            escrowed = KeyName(holder, retention_class, period, generation)
            kept = self.find([escrowed])
            if escrowed in kept.keys:
                return kept.keys[escrowed]
        for name in (subject, of_period):
            if name in found.tombstones:
                return found.tombstones[name]
        return erased_or_missing(found, subject if subject not in found.keys else of_period)

    def pepper_generations(self) -> Sequence[int]:
        """Every generation of the pepper that fingerprints may have been made with, newest first."""
        newest = self._vault.newest_generation(self._tenant, TENANT_HOLDER, PEPPER)
        return range(newest, 0, -1)

    def forget(self, *holders: bytes) -> None:
        """Drop every lease on these holders' keys."""
        gone = set(holders)
        with self._lock:
            for name in [n for n in self._leases if n.holder in gone]:
                del self._leases[name]
            for holder in gone:
                for leases in self._subject_leases.values():
                    leases.pop(holder, None)
                for days in self._engaged.values():
                    days.pop(holder, None)

    def forget_period(self, retention_class: str, period: str) -> None:
        """Drop the lease on one period key."""
        with self._lock:
            for name in [n for n in self._leases if (n.retention_class, n.period) == (retention_class, period)]:
                del self._leases[name]

    def forget_all(self) -> None:
        """Drop every lease."""
        with self._lock:
            self._leases.clear()
            self._subject_leases.clear()
            self._engaged.clear()

    def _held(self, names: set[KeyName]) -> dict[KeyName, bytes]:
        """Keys on lease, whichever way they were fetched: one by one, or a class of many persons at once."""
        now = time.monotonic()
        held = {}
        for name in names:
            lease = self._leases.get(name)
            if lease is None and not name.period:
                leases = self._subject_leases.get((name.retention_class, name.generation))
                lease = leases.get(name.holder) if leases else None
            if lease is not None and lease[0] > now:
                held[name] = lease[1]
        return held

    def _remember(self, keys: dict[KeyName, bytes]) -> None:
        until = time.monotonic() + self._lease_seconds
        with self._lock:
            for name, key in keys.items():
                self._leases.pop(name, None)
                self._leases[name] = (until, key)
            while len(self._leases) > CACHED_KEYS_MAX:
                del self._leases[next(iter(self._leases))]
