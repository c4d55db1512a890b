"""Wraps: how a key is sealed under an epoch key, and what binds it to its place.

The associated data holds the key's name and the epoch, so that a wrap that was copied to another row, or out of an
older epoch into a newer one, does not open (FAULTS 17).
"""

from __future__ import annotations

from uuid import UUID

from ledger.errors import TamperError
from ledger.keys.names import KeyName
from ledger.sealing import length_prefixed

_SIXTEEN = b"kid of 16 bytes."


def wrap_aad(tenant: UUID, name: KeyName, epoch: int) -> bytes:
    """What a wrap is bound to."""
    return length_prefixed(
        tenant.bytes,
        name.holder,
        name.retention_class.encode(),
        name.period.encode(),
        name.generation.to_bytes(2, "big"),
        epoch.to_bytes(4, "big"),
    )


def subject_wrap_aad(tenant: UUID, retention_class: str, generation: int) -> tuple[bytes, bytes]:
    """What stands before and after the kid in `wrap_aad` of a person's key, but for the epoch."""
    before, after = wrap_aad(tenant, KeyName(_SIXTEEN, retention_class, "", generation), 0).split(_SIXTEEN)
    return before, after[: -len(epoch_field(0))]


def epoch_field(epoch: int) -> bytes:
    """The end of every wrap's associated data."""
    return length_prefixed(epoch.to_bytes(4, "big"))


def refuse_rolled(epoch: int, rolled: int) -> None:
    """Raises `TamperError` for what stands under an epoch that was rolled and verified: nothing was left there."""
    if epoch <= rolled:
        raise TamperError(
            f"Something stands under epoch {epoch}, and nothing was left there when epoch {rolled} was rolled. "
            "It was put back from an older copy."
        )
