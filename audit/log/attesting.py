"""What is asked of others once a checkpoint is published: each witness of the policy, one tenant at a time.

Nobody waits for it. The sequencer publishes whether witnesses answer or not; this runs in a thread of the worker's
own, one worker at a time, and a witness that fails is passed over until it is due again. A cosignature is verified
before it is stored, and stays.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import structlog

from audit.log.attempts import Attempt, attempts, note_attempt
from audit.log.calls import Post
from audit.log.errors import LogError, NoAnswer, WitnessHoldsMore, WitnessRefused
from audit.log.store import Cosignature, PublishedCheckpoint, latest_checkpoint, tile_reader
from audit.log.witness_policy import Witness, WitnessPolicy
from audit.log.witnesses import cosign
from audit.verify.tiles import Tiles
from ledger.application import Ledger

INSERT_COSIGNATURE = """
INSERT INTO log_cosignature (tenant_id, series, size, witness, line, cosigned_at) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, series, size, witness) DO NOTHING
"""
KIND: Final = "witness"

log = structlog.get_logger("lethe.log")


def ask_witnesses(ledger: Ledger, policy: WitnessPolicy, post: Post) -> int:
    """Have the newest checkpoint cosigned by every witness that is due; returns how many did."""
    if not policy.witnesses:
        return 0
    with ledger.services.writer.connection() as connection:
        checkpoint = latest_checkpoint(connection, ledger.tenant)
        if checkpoint is None:
            return 0
        held = {a.asked: a for a in attempts(connection, ledger.tenant, checkpoint.series) if a.kind == KIND}
    now = ledger.clock()
    due = [(w, held.get(str(w.key))) for w in policy.witnesses if _is_due(held.get(str(w.key)), checkpoint, now)]
    return sum(_ask(ledger, witness, last, checkpoint, post) for witness, last in due)


def _is_due(last: Attempt | None, checkpoint: PublishedCheckpoint, now: datetime) -> bool:
    if last is None:
        return True
    return last.is_due_again(now) if last.failed else last.size < checkpoint.size


def _ask(ledger: Ledger, witness: Witness, last: Attempt | None, checkpoint: PublishedCheckpoint, post: Post) -> bool:
    """Ask one witness, and write down what came of it."""
    known_size = 0 if last is None or last.failed else last.size
    now = ledger.clock()
    outcome: Cosignature | LogError
    try:
        outcome = cosign(post, witness, checkpoint, known_size, lambda old: _proof(ledger, checkpoint, old), now)
    except (NoAnswer, WitnessRefused) as refused:
        outcome = refused
        tell = log.critical if isinstance(refused, WitnessHoldsMore) else log.warning
        tell("witness_did_not_cosign", tenant=str(ledger.tenant), witness=witness.key.name, why=str(refused))
    _store(ledger, witness, checkpoint, outcome, now)
    return isinstance(outcome, Cosignature)


def _proof(ledger: Ledger, checkpoint: PublishedCheckpoint, old_size: int) -> list[bytes]:
    """The consistency proof from an older size. Its connection is given back before the witness is called."""
    with ledger.services.writer.connection() as connection:
        tiles = Tiles(tile_reader(connection, checkpoint.tenant, series=checkpoint.series))
        return tiles.consistency_path(old_size, checkpoint.size)


def _store(
    ledger: Ledger,
    witness: Witness,
    checkpoint: PublishedCheckpoint,
    outcome: Cosignature | LogError,
    now: datetime,
) -> None:
    tenant, series, size = checkpoint.tenant, checkpoint.series, checkpoint.size
    with ledger.services.writer.transaction() as connection:
        if isinstance(outcome, Cosignature):
            values = (tenant, series, size, outcome.witness, outcome.line, outcome.cosigned_at)
            connection.execute(INSERT_COSIGNATURE, values)
        failure = str(outcome) if isinstance(outcome, LogError) else None
        incident = isinstance(outcome, WitnessHoldsMore)
        name = str(witness.key)
        note_attempt(connection, tenant, series, KIND, name, size=size, at=now, failure=failure, incident=incident)
