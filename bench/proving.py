"""A proof over HTTP from a long log: one client with a key of an auditor, asking about positions all over it.

The log is written by the ledger's own append and published by its own sequencer. Every proof is read, parsed and
verified against its entry outside of the clock; that it is right is part of being served.
"""

from __future__ import annotations

import http.client
import random
from statistics import median
from time import perf_counter
from typing import Final

from audit.log.reading import reading
from audit.log.store import log_keys
from audit.verify.note import VerifierKey
from audit.verify.tlog_proof import TlogProof
from bench.budgets import Line
from bench.check import served
from bench.growth import grow
from bench.http_load import percentile
from bench.stand import ACTOR, Stand
from ledger.application import Ledger

ROUNDS: Final = 5
PROOFS: Final = 400
"""Proofs of one round. Each round gives a median and a 99th percentile; the medians of these are told."""

SEED: Final = 9162

SELECT_ENTRY = "SELECT entry FROM event WHERE tenant_id = %s AND position = %s"


def measure(stand: Stand) -> list[Line]:
    """The wait for a proof, as a client sees it."""
    ledger, events = stand.open_account(), stand.sizes.proof_events
    grow(ledger, events)
    began = perf_counter()
    checkpoint = stand.instance.sequencer.publish_tenant(ledger)
    assert checkpoint is not None
    publishing = perf_counter() - began
    key = ledger.issue_api_key(("auditor",), actor=ACTOR)
    anywhere = random.Random(SEED)
    rounds = []
    with served(stand, "lethe") as port:
        for number in range(ROUNDS + 1):
            positions = [anywhere.randint(1, checkpoint.size) for _ in range(PROOFS)]
            found = sorted(_waits(stand, ledger, port, key, positions))
            if number:  # One round before the first is thrown away.
                rounds.append((median(found), percentile(found, 0.99)))
    what = f"a proof over HTTP from a log of {checkpoint.size:,} events"
    return [
        Line("published", "leaves hashed and published", checkpoint.size / publishing, "events/s"),
        Line("proof_p50_ms", f"{what}, median wait", median(p50 for p50, _ in rounds), "ms"),
        Line(
            "proof_p99_ms",
            f"{what}, 99th percentile",
            median(p99 for _, p99 in rounds),
            "ms",
            "proof_p99_ms",
            rounds=tuple(p99 for _, p99 in rounds),
        ),
    ]


def _waits(stand: Stand, ledger: Ledger, port: int, key: str, positions: list[int]) -> list[float]:
    """Milliseconds for each proof. All are verified when the last one has come."""
    waits, proofs = [], []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for position in positions:
        began = perf_counter()
        connection.request("GET", f"/v1/proofs/{position}", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        proofs.append((position, answer.status, answer.read()))
        waits.append((perf_counter() - began) * 1000)
    connection.close()
    _require_right(stand, ledger, proofs)
    return waits


def _require_right(stand: Stand, ledger: Ledger, proofs: list[tuple[int, int, bytes]]) -> None:
    with reading(stand.instance.services.reader, ledger.tenant) as database:
        keys = [VerifierKey.parse(one.verifier_key) for one in log_keys(database, ledger.tenant)]
        for position, status, content in proofs:
            if status != 200:
                raise RuntimeError(f"The proof of position {position} was answered with {status}.")
            row = database.execute(SELECT_ENTRY, (ledger.tenant, position), binary=True).fetchone()
            assert row is not None
            TlogProof.parse(content).require_logged(bytes(row[0]), keys)
