"""How much a plan touches: events by class and period from one bounded reading of the log, persons from the vault.

The numbers are for whoever reads the plan. What would take too long to count is told as "not counted", never guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from psycopg import Connection

from domain.facts import TOPICS, personal_fields
from ledger.application import Ledger
from projections.log import end_of_log, first_position_at, windows
from retention.plans.model import DESTROY_CLASS, DESTROY_PERIOD, PlanItem, Touched
from retention.policy.clocks import first_day_of

EVENTS_COUNTED_MAX: Final = 500_000
"""Positions of the log that one plan reads to count: some seconds."""

PERSONS_COUNTED_MAX: Final = 1_000_000
COUNT_WINDOW_EVENTS: Final = 50_000

SELECT_SEALED = """
SELECT entry FROM lethe.event
WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s)
"""
COUNT_PERSONS = """
SELECT count(*) FROM (
    SELECT 1 FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND class = %s AND period = '' AND holder > '' LIMIT %s
) AS k
"""


def count_touched(ledger: Ledger, items: Sequence[PlanItem]) -> dict[str, Touched]:
    """Events and persons of each item; None where it was not counted.

    Events of a period are those that have a part of the class and were true in it. Which events persons' keys lead to
    would take a look into each person's streams, and which messages a link key leads to is what nobody can list.
    """
    starts = _starts(ledger, items)
    counted = _count(ledger, starts)
    return {item.item: Touched(counted.get(item.item), _persons(ledger, item)) for item in items}


def _starts(ledger: Ledger, items: Iterable[PlanItem]) -> dict[tuple[str, str], tuple[str, int]]:
    """By class and period: the item, and the first position that can belong to it; too long a way is left out."""
    starts = {}
    sealed = _sealed_classes()
    with ledger.services.writer.transaction() as connection:
        end = end_of_log(connection, ledger.tenant)
        for item in items:
            if item.action != DESTROY_PERIOD or item.period is None or item.retention_class not in sealed:
                continue
            first_day = first_day_of(item.period)
            moment = datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC)
            first = first_position_at(connection, ledger.tenant, moment)
            if end - first < EVENTS_COUNTED_MAX:
                starts[item.retention_class, item.period] = (item.item, first)
    return starts


def _count(ledger: Ledger, starts: Mapping[tuple[str, str], tuple[str, int]]) -> dict[str, int]:
    """One pass over the log from the earliest start on."""
    if not starts:
        return {}
    counts = Counter({item: 0 for item, _ in starts.values()})
    topics = [topic for topic, classes in _topics().items() if classes & {c for c, _ in starts}]
    after = min(first for _, first in starts.values()) - 1
    with ledger.services.writer.transaction() as connection:
        end = end_of_log(connection, ledger.tenant)
    for window in windows(after, end, COUNT_WINDOW_EVENTS):
        with ledger.services.writer.transaction() as connection:
            _count_window(connection, ledger, window, topics, starts, counts)
    return dict(counts)


def _count_window(
    connection: Connection[Any],
    ledger: Ledger,
    window: tuple[int, int],
    topics: Sequence[str],
    starts: Mapping[tuple[str, str], tuple[str, int]],
    counts: Counter[str],
) -> None:
    for (raw,) in connection.execute(SELECT_SEALED, (ledger.tenant, *window, topics), binary=True):
        entry = orjson.loads(bytes(raw))
        for retention_class in entry.get("sealed", ()):
            for length in (len("2026-11"), len("2026-11-21")):
                found = starts.get((retention_class, entry["occurred_at"][:length]))
                if found is not None:
                    counts[found[0]] += 1


def _persons(ledger: Ledger, item: PlanItem) -> int | None:
    if item.action != DESTROY_CLASS:
        return item.persons
    with ledger.services.vault.pool.transaction() as connection:
        values = (ledger.tenant, item.retention_class, PERSONS_COUNTED_MAX + 1)
        row = connection.execute(COUNT_PERSONS, values).fetchone()
    return row[0] if row and row[0] <= PERSONS_COUNTED_MAX else None


def _topics() -> dict[str, set[str]]:
    """The classes that each topic's events may have parts of."""
    return {topic: set(personal_fields(fact).values()) for topic, fact in TOPICS.items()}


def _sealed_classes() -> set[str]:
    return set().union(*_topics().values())
