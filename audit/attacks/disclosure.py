"""The key-disclosure graph: which keys can be had from everything that exists (FAULTS 5).

Given wraps as they were found anywhere (living rows, dead tuples, an old base backup) and the epoch keys that some
custody copy still holds, it tells which keys can be opened. A destroyed key is destroyed when no way is left to it:
before the horizon the old wraps and the living epoch key lead to it, and that is the control; after it nothing does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

from ledger.errors import TamperError
from ledger.keys.names import KeyName
from ledger.keys.wraps import wrap_aad
from ledger.sealing import open_box


class FoundWrap(NamedTuple):
    """A wrap as it was found, with the row that it stood in."""

    tenant: UUID
    name: KeyName
    epoch: int
    wrap: bytes


def keys_disclosed(wraps: Iterable[FoundWrap], epoch_keys: Mapping[int, bytes]) -> dict[tuple[UUID, KeyName], bytes]:
    """Every key that one of these epoch keys opens from one of these wraps.

    A wrap is tried under every epoch key, not only under that of its row: a row may say anything.
    """
    found: dict[tuple[UUID, KeyName], bytes] = {}
    for tenant, name, epoch, wrap in wraps:
        for number, key in epoch_keys.items():
            for said in {epoch, number}:
                try:
                    found[tenant, name] = open_box(key, wrap, wrap_aad(tenant, name, said))
                except TamperError:
                    continue
    return found
