"""Kept checkpoints: what each tenant's transparency log signed last, outside PostgreSQL (FAULTS 19).

    checkpoints.json   by tenant: series, size, root, when it was signed, and whether its loss was accepted

A signature is kept here, durably and in every folder, before the transaction that publishes it commits. So a ledger
that was brought back to an older state, or rewritten, can never sign another root for a size that it signed before:
what is kept says so. One file holds every tenant and one write all that is published at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson

from ledger.errors import TamperError

CHECKPOINTS: Final = "checkpoints.json"
CHECKPOINTS_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """The last size and root (32 bytes) that were signed of a log.

    `abandoned`: this ledger does not reach it any more, and somebody accepted that. Nothing is signed under the origin
    of its series again; the next series goes on.
    """

    series: int
    size: int
    root: bytes
    signed_at: datetime
    abandoned: bool = False


def require_onward(tenant: UUID, kept: KeptCheckpoint | None, checkpoint: KeptCheckpoint) -> None:
    """Raise `TamperError` for a checkpoint that may not follow the one that is kept."""
    if kept is None or (kept.abandoned and kept.series < checkpoint.series):
        return
    goes_on = kept.series == checkpoint.series and not kept.abandoned
    if goes_on and (kept.size < checkpoint.size or (kept.size, kept.root) == (checkpoint.size, checkpoint.root)):
        return
    raise TamperError(
        f"The log of {tenant} is to be signed at {checkpoint.size} (series {checkpoint.series}), and a checkpoint of "
        f"{kept.size} (series {kept.series}) was signed before: it was brought back to an older state or rewritten. "
        "Nothing is signed. See: lethe reopen --dry-run."
    )


def require_unmoved(tenant: UUID, seen: KeptCheckpoint | None, kept: KeptCheckpoint | None) -> None:
    """Raise `TamperError` where another checkpoint was kept since a new one was compared with the one `seen`.

    Within one ledger that cannot be: one sequencer at a time holds a log. A copy of the ledger on a second machine,
    which has the same keys and custody, and other events, must not slip in between (FAULTS 19).
    """
    if seen != kept:
        raise TamperError(
            f"Another checkpoint of the log of {tenant} was kept while one was made: two ledgers with the same keys "
            "sign one log. Nothing is signed. Stop the one that is a copy."
        )


def furthest(found: Mapping[UUID, KeptCheckpoint], others: Mapping[UUID, KeptCheckpoint]) -> dict[UUID, KeptCheckpoint]:
    """Of two folders' copies the later of each tenant. Raises `TamperError` where they contradict each other."""
    merged = dict(found)
    for tenant, other in others.items():
        held = merged.get(tenant)
        if held is not None and (held.series, held.size) == (other.series, other.size) and held.root != other.root:
            raise TamperError(f"Two folders keep different checkpoints of {tenant} at {held.size}.")
        if held is None or _order(held) < _order(other):
            merged[tenant] = other
    return merged


def content(checkpoints: Mapping[UUID, KeptCheckpoint]) -> bytes:
    """The bytes of the file."""
    rows = {
        tenant.hex: [kept.series, kept.size, kept.root.hex(), kept.signed_at.isoformat(), kept.abandoned]
        for tenant, kept in checkpoints.items()
    }
    body = orjson.dumps(rows, option=orjson.OPT_SORT_KEYS)
    return orjson.dumps({"v": CHECKPOINTS_VERSION, "sha256": sha256(body).hexdigest()}) + b"\n" + body + b"\n"


def parsed(path: Path, written: bytes) -> dict[UUID, KeptCheckpoint]:
    """The checkpoints of one folder's file. Raises `TamperError` if it was changed; it is never half-written."""
    try:
        first, body, rest = written.split(b"\n")
        said = orjson.loads(first)
        whole = said["v"] == CHECKPOINTS_VERSION and said["sha256"] == sha256(body).hexdigest() and not rest
        checkpoints = {
            UUID(tenant): KeptCheckpoint(series, size, bytes.fromhex(root), datetime.fromisoformat(at), abandoned)
            for tenant, (series, size, root, at, abandoned) in orjson.loads(body).items()
        }
    except (ValueError, KeyError, TypeError):
        whole, checkpoints = False, {}
    if not whole:
        raise TamperError(f"{path} was changed. Take it away if another folder still holds its copy.")
    return checkpoints


def _order(kept: KeptCheckpoint) -> tuple[int, bool, int]:
    return kept.series, kept.abandoned, kept.size
