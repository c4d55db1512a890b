"""One batch of an asynchronous projection: read a window of the log, take it in, move the tracking, all or nothing.

An event that cannot be taken in must not stop those behind it, and must not be skipped silently: the batch is halved
until the bad events stand alone, each goes to `parked_event` with a reason that holds no value of it, and the rest
goes on. When many fail at once the fault is not in the events, and nothing is parked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import psycopg
import structlog
from psycopg import Connection

from ledger.application import Ledger
from ledger.errors import Unavailable
from projections.errors import TooManyUnreadable
from projections.log import WINDOW_EVENTS, Rows, end_of_log
from projections.tracking import Tracked, move, park

PARKED_PER_BATCH_MAX = 100

_log = structlog.get_logger(__name__)


class AsyncProjection(Protocol):
    """A read model that is filled behind the log. Rows start with position and topic; the rest is its own."""

    name: str

    def read(self, connection: Connection[Any], tenant: UUID, after: int, last: int) -> Rows: ...

    def apply(self, connection: Connection[Any], ledger: Ledger, generation: int, rows: Rows) -> None: ...

    def clear(self, connection: Connection[Any], tenant: UUID, generation: int, rows_max: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Moved:
    """What one batch did: where the projection stands now, over how many positions it went, how many it parked."""

    position: int
    events: int
    parked: int


def take_batch(
    connection: Connection[Any],
    ledger: Ledger,
    projection: AsyncProjection,
    tracked: Tracked,
    *,
    events_max: int = WINDOW_EVENTS,
) -> Moved:
    """Take in the next window of the log inside the caller's transaction, which holds `tracked`."""
    last = min(tracked.position + events_max, end_of_log(connection, ledger.tenant))
    if last <= tracked.position:
        return Moved(tracked.position, 0, 0)
    rows = projection.read(connection, ledger.tenant, tracked.position, last)
    bad: list[tuple[int, str]] = []
    _apply(connection, ledger, projection, tracked.generation, rows, bad)
    for position, reason in bad:
        park(connection, tracked, position, reason)
        _log.warning("event parked", projection=projection.name, tenant=str(ledger.tenant), position=position)
    move(connection, tracked, last)
    return Moved(last, last - tracked.position, len(bad))


def _apply(
    connection: Connection[Any],
    ledger: Ledger,
    projection: AsyncProjection,
    generation: int,
    rows: Rows,
    bad: list[tuple[int, str]],
) -> None:
    """Take rows in, each half of a failing batch by itself; what fails alone is added to `bad`."""
    if not rows:
        return
    try:
        with connection.transaction():
            projection.apply(connection, ledger, generation, rows)
    except (Unavailable, psycopg.OperationalError):
        raise
    except Exception as error:  # noqa: BLE001  The edge of the worker: whatever one event raises, it is parked.
        if len(rows) == 1:
            bad.append((rows[0][0], _reason(rows[0][1], error)))
            if len(bad) > PARKED_PER_BATCH_MAX:
                raise TooManyUnreadable(
                    f"More than {PARKED_PER_BATCH_MAX} events of one batch of {projection.name} failed, "
                    f"the last with {type(error).__name__}. Look for the fault in the program or the vault."
                ) from None
            return
        for half in _halves(rows):
            _apply(connection, ledger, projection, generation, half, bad)


def _halves(rows: Rows) -> Sequence[Rows]:
    middle = len(rows) // 2
    return rows[:middle], rows[middle:]


def _reason(topic: str, error: Exception) -> str:
    """Topic and kind of error only: the text of an error may quote what the event holds."""
    return f"{topic}: {type(error).__name__}"
