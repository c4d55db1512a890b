"""Key providers: where epoch keys live, outside every database, in at least two enumerated copies (DESIGN section 6).

An epoch key wraps all keys of the vault for as long as its epoch lasts. When it is destroyed, no dead tuple, log or
backup of the vault from that time opens any more: that is the backup horizon. So a provider must be able to say where
every copy is, to destroy every one of them, and to tell how long that takes.

Two exist: files (`ledger/custody/key_files.py`) and AWS KMS (`ledger/custody/kms.py`). One contract test runs on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

COPIES_MIN = 2


@dataclass(frozen=True, slots=True)
class CopyDestroyed:
    """What was done to one copy of an epoch key, and how many days later, at most, it can no longer be had."""

    place: str
    method: str
    gone_after_days: int


@dataclass(frozen=True, slots=True)
class Destruction:
    """The end of an epoch key, copy by copy, as a certificate states it. It never opens again from now on."""

    epoch: int
    copies: tuple[CopyDestroyed, ...]

    @property
    def gone_after_days(self) -> int:
        """Days until the last copy cannot be had any more, not even by whoever runs the place."""
        return max(copy.gone_after_days for copy in self.copies)


class CopyReturned(NamedTuple):
    """A copy of a destroyed epoch's key that is there again."""

    epoch: int
    place: str


class EpochKeyProvider(Protocol):
    """Holds the epoch keys, numbered from 1. All methods may be called from any thread.

    All of them raise `Unavailable` while the place does not answer, `SettingsRefused` where it refuses us.
    """

    @property
    def delay_days(self) -> int:
        """How long after `destroy` the place may still hold a key, in days, at most."""
        ...

    @property
    def notice_seconds(self) -> float:
        """How long, at most, until every process has noticed an epoch that another one made or destroyed."""
        ...

    def current(self) -> int:
        """The number of the newest epoch. Makes none: see `ledger/keys/epoch_keys.py` for who may make the first.

        Raises `KeyMissing` when there is none, an incident where epochs have been destroyed.
        """
        ...

    def living(self) -> tuple[int, ...]:
        """Every epoch whose key still exists and was not destroyed, oldest first; empty where there is none."""
        ...

    def destroyed(self) -> tuple[int, ...]:
        """Every epoch that this place knows to be destroyed, oldest first."""
        ...

    def key(self, epoch: int) -> bytes:
        """The 32 bytes of an epoch key.

        Raises `KeyMissing` when it was destroyed or never existed, also when a copy has come back since, and
        `TamperError` when its copies differ.
        """
        ...

    def copies(self) -> tuple[str, ...]:
        """Every place that holds a copy, for inventories."""
        ...

    def returned(self) -> tuple[CopyReturned, ...]:
        """Copies of destroyed epochs that are there again, out of a backup or by a hand. `destroy` removes them."""
        ...

    def create(self, epoch: int) -> None:
        """Make the next epoch's key, durably in every copy before this returns; does nothing if it lives.

        The first, which whoever calls has asked the vault about, is made where there never was any.

        Raises `KeyDestroyed` for an epoch that was destroyed, ValueError for any other than the next.
        """
        ...

    def destroy(self, epoch: int) -> Destruction:
        """Destroy every copy, half-written ones too; answers the same however often it is called.

        Raises `EpochInUse` for the current epoch, `KeyMissing` for one that never was. Whether all wraps have been
        renewed is not known here: the roll asks that before it calls.
        """
        ...

    def forget_cached(self) -> None:
        """Forget every key and list held in this process."""
        ...
