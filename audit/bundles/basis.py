"""What a bundle's proofs rest on: one served checkpoint that covers all of it, tiles, keys, and checkpoints around it.

The newest checkpoint that is served is taken, so that proofs stand under the cosignatures that the house promises. If
the log has not come that far it is published once, here and now; after that the witnesses are waited for.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from audit.bundles.model import LogBehind
from audit.log.served import Served, served
from audit.log.store import (
    PublishedCheckpoint,
    Timestamp,
    checkpoint_covering,
    cosigned_note,
    log_keys,
    tile_reader,
    timestamps,
)
from audit.log.witness_policy import NO_WITNESSES, WitnessPolicy
from audit.verify.tiles import TileReader
from ledger.application import Ledger

WAIT_SECONDS_MAX: Final = 15.0
"""Who needs it: whoever asked for a bundle while the witnesses are being asked; they answer within seconds or not."""

LOOK_EVERY_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class ProofSource:
    """What the house publishes its log by: how to publish now, its witnesses, the roots of its time stamps (PEM)."""

    publish: Callable[[Ledger], object]
    policy: WitnessPolicy = NO_WITNESSES
    timestamp_roots: bytes = b""


@dataclass(frozen=True, slots=True)
class Basis:
    """The checkpoint that all proofs of a bundle are for, the keys, and other checkpoints that matter."""

    served: Served
    keys: tuple[str, ...]
    witnesses: tuple[str, ...]
    roots: bytes
    around: tuple[tuple[PublishedCheckpoint, str, tuple[Timestamp, ...]], ...]

    @property
    def size(self) -> int:
        """How many entries the log had."""
        return self.served.checkpoint.size


def basis_for(
    ledger: Ledger, positions: Sequence[int] | array[int], around: Iterable[int], source: ProofSource
) -> Basis:
    """What proves these positions. Raises `LogBehind` where the log cannot be published that far now."""
    found = _covering(ledger, max(positions), source)
    with ledger.services.writer.transaction() as connection:
        series = found.checkpoint.series
        keys = [key.verifier_key for key in log_keys(connection, ledger.tenant) if key.series == series]
        others: dict[int, PublishedCheckpoint] = {}
        for position in around:
            one = checkpoint_covering(connection, ledger.tenant, position, series=series)
            if one is not None and one.size <= found.checkpoint.size:
                others[one.size] = one
        others[found.checkpoint.size] = found.checkpoint
        told = tuple(
            (one, cosigned_note(connection, one), tuple(timestamps(connection, one)))
            for _, one in sorted(others.items())
        )
    return Basis(found, tuple(keys), tuple(source.policy.names), source.timestamp_roots, told)


def reader_of(ledger: Ledger, basis: Basis) -> TileReader:
    """Reads the tiles of the basis's log, each in a short transaction."""

    def read(level: int, number: int, width: int) -> bytes:
        with ledger.services.writer.transaction() as connection:
            series = basis.served.checkpoint.series
            return tile_reader(connection, ledger.tenant, series=series)(level, number, width)

    return read


def _covering(ledger: Ledger, position: int, source: ProofSource) -> Served:
    found = _served(ledger, source)
    if found is None or found.checkpoint.size < position:
        source.publish(ledger)
        until = time.monotonic() + WAIT_SECONDS_MAX
        while (found := _served(ledger, source)) is None or found.checkpoint.size < position:
            if time.monotonic() > until:
                raise LogBehind(
                    f"The log is published up to position {found.checkpoint.size if found else 0}, and the bundle "
                    f"reaches {position}. Witnesses may not answer: see lethe doctor. Then ask again."
                )
            time.sleep(LOOK_EVERY_SECONDS)
    return found


def _served(ledger: Ledger, source: ProofSource) -> Served | None:
    with ledger.services.writer.transaction() as connection:
        return served(connection, ledger.tenant, source.policy)
