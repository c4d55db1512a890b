"""Which witnesses are asked, and how many must have cosigned a checkpoint before it is served.

A witness holds the last checkpoint that it saw of this log and cosigns only what continues it. With `needed` of them
behind every checkpoint that we serve, showing two histories takes as many of them as our accomplices. With none
needed, checkpoints are served as they are signed, and carry the cosignatures that came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from audit.log.calls import checked_url
from audit.verify.errors import NoteMalformed
from audit.verify.note import COSIGNATURE, VerifierKey
from ledger.errors import SettingsRefused

WITNESSES_MAX: Final = 16
"""Who needs it: every reader of a checkpoint, who checks that many signatures and is asked to take 16 at least."""

SETTING: Final = "LETHE_WITNESSES"


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness: the key it cosigns with, and the address that `/add-checkpoint` is put behind."""

    key: VerifierKey
    url: str


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """The witnesses of this installation, and how many of them are needed."""

    witnesses: tuple[Witness, ...] = ()
    needed: int = 0

    @classmethod
    def parse(cls, lines: Sequence[str], needed: int) -> Self:
        """The policy of `KEY ADDRESS` lines. Raises `SettingsRefused`."""
        if len(lines) > WITNESSES_MAX:
            raise SettingsRefused(f"{SETTING} names more than {WITNESSES_MAX} witnesses.")
        witnesses = tuple(_witness(line) for line in lines)
        if len({one.key.public_key for one in witnesses}) < len(witnesses):
            raise SettingsRefused(f"{SETTING} names one key twice; each witness counts once.")
        if not 0 <= needed <= len(witnesses):
            raise SettingsRefused(f"{SETTING}_NEEDED asks for more witnesses than {SETTING} names.")
        return cls(witnesses, needed)

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """What the cosignatures are verified with."""
        return tuple(one.key for one in self.witnesses)

    @property
    def names(self) -> list[str]:
        """The keys as cosignatures are stored under."""
        return [str(one.key) for one in self.witnesses]


NO_WITNESSES: Final = WitnessPolicy()


def _witness(line: str) -> Witness:
    pieces = line.split()
    if len(pieces) != 2:
        raise SettingsRefused(f"{SETTING}: write each witness as its verifier key, a space, and its address.")
    try:
        key = VerifierKey.parse(pieces[0])
    except NoteMalformed as malformed:
        raise SettingsRefused(f"{SETTING}: {malformed}") from None
    if key.kind != COSIGNATURE:
        raise SettingsRefused(f"{SETTING}: the key of {key.name} is that of a log; a witness's has type {COSIGNATURE}.")
    return Witness(key, checked_url(pieces[1], SETTING))
