"""Fingerprints: what the database sees instead of an address (DESIGN section 5).

    BLAKE2b-128(key = tenant pepper, canonical address)

A fingerprint is personal data with its own purpose and retention. It cannot be made again once its person was
forgotten, so fingerprints of older peppers are probed as well.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from domain.address import canonical_address
from ledger.errors import KeyDestroyed
from ledger.keys.keyring import LEASE_SECONDS_MAX

FINGERPRINT_BYTES = 16
NO_ADDRESS_LEADS = (
    "This account was closed and the key that finds addresses was destroyed: no address leads to anything here."
)


class _Forgotten:
    """Stands where a hash under the pepper stood."""

    def copy(self) -> Any:
        raise KeyDestroyed(NO_ADDRESS_LEADS)


class Fingerprinter:
    """Turns addresses into fingerprints, newest pepper first; without any pepper it raises `KeyDestroyed`.

    Peppers are held on a lease, as every key is: where another process destroyed them no address is found here any
    more soon after (FAULTS 8). `again` reads them anew, past any cache.
    """

    def __init__(
        self,
        peppers: Sequence[bytes],
        again: Callable[[], Sequence[bytes]],
        *,
        lease_seconds: float = LEASE_SECONDS_MAX,
    ) -> None:
        self._again = again
        self._lease_seconds = min(lease_seconds, LEASE_SECONDS_MAX)
        self._until = time.monotonic() + self._lease_seconds
        self._hold(peppers)

    def forget(self) -> None:
        """Let go of the peppers, which were destroyed: no address is found any more. Raises `KeyDestroyed` from now."""
        self._until = math.inf
        self._hold(())

    @property
    def generations(self) -> int:
        """How many peppers addresses may have been fingerprinted with."""
        return len(self._keyed)

    def __call__(self, address: str) -> bytes:
        """The fingerprint under the current pepper. Raises `InvalidAddress`."""
        if time.monotonic() >= self._until:
            self._renew()
        keyed = self._current.copy()
        keyed.update(canonical_address(address).encode())
        return keyed.digest()

    def every(self, address: str) -> tuple[bytes, ...]:
        """The fingerprints under all peppers, newest first, for probing."""
        canonical = canonical_address(address).encode()
        if time.monotonic() >= self._until:
            self._renew()
        if not self._keyed:
            self._current.copy()
        found = []
        for keyed in self._keyed:
            probe = keyed.copy()
            probe.update(canonical)
            found.append(probe.digest())
        return tuple(found)

    def _renew(self) -> None:
        until = time.monotonic() + self._lease_seconds  # From before the reading: what is destroyed after it is late.
        self._hold(self._again())
        self._until = until

    def _hold(self, peppers: Sequence[bytes]) -> None:
        keyed = [blake2b(key=pepper, digest_size=FINGERPRINT_BYTES) for pepper in peppers]
        self._keyed, self._current = keyed, (keyed[0] if keyed else _Forgotten())
