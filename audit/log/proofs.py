"""Proofs of single events: where an entry stands, its path, and the signed checkpoint that covers both.

A proof is handed out only after it was checked against the event's own row: a row that was changed, or a tile that
was, is an incident here and not a false proof somewhere else.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.log.errors import LogContradiction, NoSuchPosition, NotPublishedYet, TileMissing
from audit.log.served import Served, as_served, served
from audit.log.store import checkpoint_at, tile_reader
from audit.log.witness_policy import NO_WITNESSES, WitnessPolicy
from audit.verify.errors import VerificationRefused
from audit.verify.merkle import leaf_hash, require_included
from audit.verify.tiles import Tiles
from audit.verify.tlog_proof import TlogProof

TLOG_PROOF: Final = "text/plain; charset=utf-8"

SELECT_ENTRY = "SELECT entry FROM event WHERE tenant_id = %s AND position = %s"
SELECT_END = "SELECT position FROM head WHERE tenant_id = %s"


def prove(
    connection: Connection[Any],
    tenant: UUID,
    position: int,
    *,
    policy: WitnessPolicy = NO_WITNESSES,
    size: int | None = None,
) -> TlogProof:
    """The proof of the event at `position` under the served checkpoint, or under that of `size`.

    Raises `NoSuchPosition`, `NotPublishedYet` where a moment helps, and `LogContradiction` where the log has been
    changed.
    """
    return proven_entry(connection, tenant, position, policy=policy, size=size)[0]


def proven_entry(
    connection: Connection[Any],
    tenant: UUID,
    position: int,
    *,
    policy: WitnessPolicy = NO_WITNESSES,
    size: int | None = None,
) -> tuple[TlogProof, bytes]:
    """As `prove`, with the bytes of the entry that the proof is of."""
    return prove_under(connection, position, _covering(connection, tenant, position, policy, size))


def prove_under(connection: Connection[Any], position: int, found: Served) -> tuple[TlogProof, bytes]:
    """The proof of one event under a checkpoint at hand, which covers it, and its entry. Raises `LogContradiction`."""
    checkpoint, index = found.checkpoint, position - 1
    read = tile_reader(connection, checkpoint.tenant, series=checkpoint.series)
    row = connection.execute(SELECT_ENTRY, (checkpoint.tenant, position), binary=True).fetchone()
    if row is None:
        raise LogContradiction(f"The event at position {position} was published and is not there. Run: lethe fsck")
    try:
        path = Tiles(read).inclusion_path(index, checkpoint.size)
        require_included(leaf_hash(row[0]), index, checkpoint.size, path, checkpoint.root)
    except (VerificationRefused, TileMissing) as refused:
        raise LogContradiction(f"Position {position} cannot be proven: {refused} Run: lethe fsck") from None
    return TlogProof(index, tuple(path), found.note.encode()), bytes(row[0])


def _covering(
    connection: Connection[Any], tenant: UUID, position: int, policy: WitnessPolicy, size: int | None
) -> Served:
    if size is None:
        found = served(connection, tenant, policy)
    else:
        checkpoint = checkpoint_at(connection, tenant, size)
        if checkpoint is None:
            raise NoSuchPosition(f"No checkpoint of size {size} was published. Leave the size out for the newest one.")
        newest = served(connection, tenant, policy)
        if newest is None or newest.checkpoint.size < size:
            # A proof under it would show a history that no witness has seen yet.
            raise NotPublishedYet("The checkpoint of this size waits for witnesses. Ask again, or leave the size out.")
        found = as_served(connection, checkpoint, policy)
    if found is not None and 0 < position <= found.checkpoint.size:
        return found
    row = connection.execute(SELECT_END, (tenant,)).fetchone()
    if row is None or not 0 < position <= row[0]:
        raise NoSuchPosition("The log of this account does not reach this position.")
    if size is not None:
        raise NoSuchPosition(f"The checkpoint of size {size} does not reach this position.")
    raise NotPublishedYet("The event is recorded, and no served checkpoint covers it yet. Ask again in a moment.")
