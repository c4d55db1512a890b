"""The roll of an epoch while authorisations go on: keys per second, memory, and how much the authorisations slow down.

The account of the other parts is asked for its people again and again by one process, first alone and then beside a
process that rolls every key and every person's row of the vault. Keys of persons who are nobody fill the vault up.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Any

from bench.budgets import Line
from bench.stand import ROOT, Stand, python, register
from bench.timing import rate

ALONE_ROUNDS = 3
KEYS_PER_TRANSACTION = 10_000
CHILD_SECONDS_MAX = 7200.0
COUNT_KEYS = "SELECT count(*) FROM lethe_vault.wrapped_key"


def measure(stand: Stand) -> list[Line]:
    """Authorise alone, then beside a roll; the roll runs in a process of its own."""
    _fill_up(stand)
    _ask_everybody(stand, lambda _: None)  # The first campaign after other parts pays for cold caches.
    alone = median(rate(stand.sizes.people, lambda: _ask_everybody(stand, lambda _: None)) for _ in range(ALONE_ROUNDS))
    told, beside = _roll_beside(stand)
    rows, seconds = told["rows"], told["seconds"]
    keys = rows["renew keys"]
    return [
        Line("roll_keys", f"{keys:,} keys renewed beside authorisations", keys / seconds["renew keys"], "keys/s"),
        Line("roll_keys_verified", "the same, read and verified", keys / seconds["verify keys"], "keys/s"),
        Line(
            "roll_rows",
            f"{rows['renew persons']:,} persons' rows renewed beside authorisations",
            rows["renew persons"] / seconds["renew persons"],
            "rows/s",
        ),
        Line("roll_seconds", "the whole roll, both verified", sum(seconds.values()), "s"),
        Line("roll_authorise_alone", "bulk authorisation, alone", alone, "recipients/s"),
        Line(
            "roll_authorise_beside",
            "bulk authorisation beside a roll : alone",
            beside,
            "recipients/s",
            None,
            beside / alone,
        ),
        Line("roll_start_mb", "memory of the process that rolls, before it begins", told["start_mb"], "MB"),
        Line("roll_peak_mb", "memory of the process that rolls, peak", told["peak_mb"], "MB", "roll_memory_peak_mb"),
    ]


def _fill_up(stand: Stand) -> None:
    """Keys of persons who are nobody, until the vault holds as many as the part is to roll."""
    tenant, vault = stand.ledger.tenant, stand.instance.services.vault
    while (missing := stand.sizes.rolled_keys - _count_keys(stand)) > 0:
        kids = [os.urandom(16) for _ in range(min(missing, KEYS_PER_TRANSACTION))]
        vault.ensure_subject_keys(tenant, "usage", kids)


def _count_keys(stand: Stand) -> int:
    with stand.instance.vault_pool.transaction() as connection:
        row = connection.execute(COUNT_KEYS).fetchone()
    assert row is not None
    return int(row[0])


def _ask_everybody(stand: Stand, told: Callable[[int], None], stop: Event | None = None) -> None:
    """One campaign for everybody; tells of each chunk, and ends early when it is to stop."""
    ledger = stand.ledger
    campaign = register(ledger)
    for answer in ledger.authorisations.authorise(
        campaign.campaign_id, iter(stand.recipients), account=ledger.account(), actor="cli"
    ):
        told(len(answer.allowed) + len(answer.refused))
        if stop is not None and stop.is_set():
            return


def _roll_beside(stand: Stand) -> tuple[dict[str, Any], float]:
    """What the roll told of itself, and recipients per second authorised while it went on."""
    with _child(stand) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n", "The process that is to roll did not start."
        with _asking(stand) as asked:
            start = perf_counter()
            child.stdin.write("go\n")
            child.stdin.flush()
            line = child.stdout.readline()
            seconds, count = perf_counter() - start, sum(asked)
        if child.wait(CHILD_SECONDS_MAX) != 0:
            raise RuntimeError("The process that rolled has failed; its reason is above.")
    told: dict[str, Any] = json.loads(line)
    return told, count / seconds


@contextmanager
def _asking(stand: Stand) -> Iterator[list[int]]:
    """Campaign after campaign for everybody while the block runs; what each chunk answered is in the list."""
    asked: list[int] = []
    stop = Event()

    def ask() -> None:
        while not stop.is_set():
            _ask_everybody(stand, asked.append, stop)

    thread = Thread(target=ask, name="authorisations", daemon=True)
    thread.start()
    try:
        yield asked
    finally:
        stop.set()
        thread.join(CHILD_SECONDS_MAX)


@contextmanager
def _child(stand: Stand) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        python("-m", "bench.child_roll"),
        cwd=ROOT,
        env=stand.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
