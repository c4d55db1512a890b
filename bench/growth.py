"""Growth: bulk authorisation on a log of 100 thousand events and on one of 20 million (only in `make soak`).

The long log is written by the ledger's own append, with events of many campaigns: their stream ids start with the
campaign's time, so that both indexes grow at their right-hand edge, as they do in life.
"""

from __future__ import annotations

import os
from statistics import median
from uuid import UUID

from bench.budgets import Line
from bench.stand import Stand, add_people, register
from bench.timing import rate
from domain.ids import unix_ms, uuid7_bytes
from domain.message import SendAuthorised
from ledger.append import Row
from ledger.application import Ledger
from ledger.entry import canonical, entry_time

ROWS_PER_APPEND = 20_000
ROUNDS = 3


def measure(stand: Stand) -> list[Line]:
    """The same authorisations in an account of its own, before and after its log has grown."""
    sizes = stand.sizes
    ledger = stand.open_account()
    add_people(ledger, stand.emails)
    before = _authorise(stand, ledger)
    grow(ledger, sizes.growth_events)
    after = _authorise(stand, ledger)
    return [
        Line("growth_small", "bulk authorisation on a young log", before, "recipients/s"),
        Line(
            "growth_large",
            f"the same after {sizes.growth_events:,} more events : on a young log",
            after,
            "recipients/s",
            "growth_large_vs_small",
            after / before,
        ),
    ]


def _authorise(stand: Stand, ledger: Ledger) -> float:
    rates = []
    for _ in range(ROUNDS):
        campaign = register(ledger)
        work = lambda campaign=campaign: stand.authorise(campaign, stand.recipients, ledger=ledger)  # noqa: E731
        rates.append(rate(stand.sizes.people, work))
    return median(rates)


def grow(ledger: Ledger, events: int) -> None:
    """So many more events in a log, of nobody, at the speed of the append."""
    stamp = unix_ms(ledger.clock())
    appends = -(-events // ROWS_PER_APPEND)
    for number in range(appends):
        count = min(ROWS_PER_APPEND, events - number * ROWS_PER_APPEND)
        entry = _entry(ledger)
        random = os.urandom(10 * count)
        streams = sorted(uuid7_bytes(stamp - appends + number, random[10 * k : 10 * k + 10]) for k in range(count))
        topic = SendAuthorised.TOPIC.encode()
        with ledger.appender.locked() as locked:
            locked.record_rows([Row(stream, 1, topic, entry, None) for stream in streams], restricts=False)


def _entry(ledger: Ledger) -> bytes:
    """Bytes as long as those of a real authorisation; the rows share them, because nothing here reads them."""
    now = entry_time(ledger.clock())
    plain = {"campaign": UUID(int=0).hex, "rule": "consent", "basis": "consent", "expires_at": now}
    ids = {"id": os.urandom(16).hex(), "stream": os.urandom(16).hex(), "command": os.urandom(16).hex()}
    return canonical(
        {
            "v": 1,
            "tenant": ledger.tenant.hex,
            "version": 1,
            "topic": SendAuthorised.TOPIC,
            "recorded_at": now,
            "occurred_at": now,
            "actor": "cli",
            "rules": "2026-11-21",
            "plain": plain,
        }
        | ids
    )
