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
        self._peppers = peppers
        self._current = peppers[0]

    @property
    def generations(self) -> int:
        """How many peppers addresses may have been fingerprinted with."""
        return len(self._peppers)

    def __call__(self, address: str) -> bytes:
        """The fingerprint under the current pepper. Raises `InvalidAddress`."""
        return blake2b(canonical_address(address).encode(), key=self._current, digest_size=FINGERPRINT_BYTES).digest()

    def every(self, address: str) -> tuple[bytes, ...]:
        """The fingerprints under all peppers, newest first, for probing."""
        canonical = canonical_address(address).encode()
        return tuple(blake2b(canonical, key=p, digest_size=FINGERPRINT_BYTES).digest() for p in self._peppers)
