"""Fingerprints: what the database sees instead of an address (DESIGN section 5).

    BLAKE2b-128(key = tenant pepper, canonical address)

A fingerprint is personal data with its own purpose and retention. It cannot be made again once its person was
forgotten, so fingerprints of older peppers are probed as well.
"""

from __future__ import annotations

from hashlib import blake2b

from domain.address import canonical_address

FINGERPRINT_BYTES = 16


class Fingerprinter:
    """Turns addresses into fingerprints, newest pepper first."""

    def __init__(self, peppers: tuple[bytes, ...]) -> None:
        self._keyed = [blake2b(key=pepper, digest_size=FINGERPRINT_BYTES) for pepper in peppers]
        self._current = self._keyed[0]

    @property
    def generations(self) -> int:
        """How many peppers addresses may have been fingerprinted with."""
        return len(self._keyed)

    def __call__(self, address: str) -> bytes:
        """The fingerprint under the current pepper. Raises `InvalidAddress`."""
        keyed = self._current.copy()
        keyed.update(canonical_address(address).encode())
        return keyed.digest()

    def every(self, address: str) -> tuple[bytes, ...]:
        """The fingerprints under all peppers, newest first, for probing."""
        canonical = canonical_address(address).encode()
        found = []
        for keyed in self._keyed:
            probe = keyed.copy()
            probe.update(canonical)
            found.append(probe.digest())
        return tuple(found)
