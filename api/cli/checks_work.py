"""The checks of work under way: projections that lag, events put aside, erasures not finished, clocks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import Connection

from api.cli.checks import TENANTS_LOOKED_AT_MAX, Check, Finding, Patient, State
from api.cli.checks_attesting import ATTESTING_CHECKS
from api.cli.checks_epochs import check_epochs
from api.cli.checks_log import LOG_CHECKS
from ledger.due_clock import CLOCKS_APART_MAX, SELECT_NOW
from projections.worker import ASYNC_PROJECTIONS

LAG_WARNED_EVENTS: Final = 100_000
ERASURE_WARNED: Final = timedelta(minutes=10)
ERASURE_FAILED: Final = timedelta(hours=24)
CLOCK_WARNED: Final = timedelta(seconds=2)
CLOCK_FAILED: Final = timedelta(seconds=60)

SELECT_LAG: Final = """
SELECT count(*), coalesce(max(h.position - coalesce(t.position, 0)), 0)
FROM (SELECT tenant_id, position FROM lethe.head ORDER BY tenant_id LIMIT %s) AS h
LEFT JOIN lethe.tracking AS t ON t.tenant_id = h.tenant_id AND t.projection = %s AND t.live
WHERE h.position > coalesce(t.position, 0)
"""
COUNT_PARKED_EVENTS: Final = "SELECT count(*) FROM lethe.parked_event"
COUNT_PARKED_FEEDBACK: Final = "SELECT count(*) FROM lethe.parked_feedback"
# Those that wait for a legal hold are not unfinished: they are not due.
SELECT_UNFINISHED: Final = """
SELECT count(*), min(requested_at) FROM lethe.erasure WHERE finished_at IS NULL AND state <> 'held'
"""
SELECT_HOLDS: Final = """
SELECT count(*), count(*) FILTER (WHERE review_on < %s), min(review_on) FROM lethe.legal_hold WHERE released_at IS NULL
"""
SELECT_CLOCKS: Final = "SELECT clock_timestamp(), (SELECT max(recorded_at) FROM lethe.head WHERE position > 0)"


def check_projections(patient: Patient) -> Iterator[Finding]:
    """The asynchronous projections keep up with the log."""
    for _, connection in patient.on("writer"):
        for projection in ASYNC_PROJECTIONS:
            row = connection.execute(SELECT_LAG.encode(), (TENANTS_LOOKED_AT_MAX, projection.name)).fetchone()
            accounts, lag = row if row else (0, 0)
            name = f"projection: {projection.name}"
            if lag >= LAG_WARNED_EVENTS:
                seen = f"{accounts} accounts are behind, the worst by {lag:,} events"
                yield Finding(name, "warn", seen, "Is lethe worker running? Start one, or another.")
            else:
                yield Finding(name, "ok", f"behind by {lag:,} events at most" if lag else "up to date")


def check_parked(patient: Patient) -> Iterator[Finding]:
    """Nothing that a projection could not take in, or that could not be matched, is left lying unseen."""
    for _, connection in patient.on("writer"):
        events, feedback = _number(connection, COUNT_PARKED_EVENTS), _number(connection, COUNT_PARKED_FEEDBACK)
        if events:
            advice = "Mend what their reasons name, then: lethe rebuild NAME."
            yield Finding("parked events", "fail", f"{events:,} events could not be taken in", advice)
        else:
            yield Finding("parked events", "ok", "none")
        if feedback:
            advice = "Nothing, if providers report on erased persons or old messages; else check the message ids sent."
            yield Finding("parked feedback", "warn", f"{feedback:,} reports match no message", advice)
        else:
            yield Finding("parked feedback", "ok", "none")


def check_erasures(patient: Patient) -> Iterator[Finding]:
    """Every erasure that was intended has been finished, or is about to be."""
    for _, connection in patient.on("writer"):
        row = connection.execute(SELECT_UNFINISHED.encode()).fetchone()
        count, oldest = row if row else (0, None)
        if not count or oldest is None:
            yield Finding("erasures", "ok", "none is unfinished")
            return
        age = datetime.now(UTC) - oldest
        state: State = "fail" if age > ERASURE_FAILED else "warn" if age > ERASURE_WARNED else "ok"
        seen = f"{count:,} unfinished, the oldest for {age.total_seconds() / 60:.0f} minutes"
        advice = "Is lethe worker running? It finishes them, and says in its log why it cannot."
        yield Finding("erasures", state, seen, "" if state == "ok" else advice)


def check_holds(patient: Patient) -> Iterator[Finding]:
    """Every legal hold is looked at again by its review date: what it keeps is kept beyond its time."""
    for _, connection in patient.on("writer"):
        row = connection.execute(SELECT_HOLDS.encode(), (datetime.now(UTC).date(),)).fetchone()
        active, overdue, oldest = row if row else (0, 0, None)
        if overdue:
            seen = f"{overdue:,} of {active:,} should have been looked at again, the first by {oldest}"
            advice = (
                "lethe hold list shows them. Release what is resolved, or move its date: lethe hold widen --review-on."
            )
            yield Finding("legal holds", "warn", seen, advice)
        else:
            yield Finding("legal holds", "ok", f"{active:,} active, none overdue" if active else "none")


def check_clocks(patient: Patient) -> Iterator[Finding]:
    """This machine's clock, the database's, and the log's last time agree."""
    for _, connection in patient.on("writer"):
        before = datetime.now(UTC)
        row = connection.execute(SELECT_CLOCKS.encode()).fetchone()
        after = datetime.now(UTC)
        theirs, recorded = row if row else (before, None)
        apart = max(before - theirs, theirs - after, timedelta(0))
        state: State = "fail" if apart > CLOCK_FAILED else "warn" if apart > CLOCK_WARNED else "ok"
        seen = f"the database's clock is {apart.total_seconds():.1f} seconds from ours"
        advice = "Let both machines keep time (NTP): authorisations expire and periods end by this clock."
        yield Finding("clock", state, seen, "" if state == "ok" else advice)
        if recorded is not None and recorded - after > CLOCK_WARNED:
            ahead = (recorded - after).total_seconds()
            yield Finding(
                "clock: log",
                "warn",
                f"the log's last event is {ahead:.0f} seconds in the future: a clock has jumped back",
                "Nothing is reordered; times stand still until the clock has caught up. Check this machine's clock.",
            )
    for _, connection in patient.on("vault"):
        yield _vault_clock(connection)


def _vault_clock(connection: Connection[Any]) -> Finding:
    """What falls due is destroyed by this clock as well as by ours, and not at all while they are far apart."""
    before = datetime.now(UTC)
    row = connection.execute(SELECT_NOW.encode()).fetchone()
    apart = max(before - row[0], row[0] - datetime.now(UTC), timedelta(0)) if row else timedelta(0)
    seen = f"the clock of the vault's server is {apart.total_seconds():.1f} seconds from ours"
    if apart > CLOCKS_APART_MAX:
        seen += ": nothing is planned, rolled or destroyed"
    state: State = "fail" if apart > CLOCK_FAILED else "warn" if apart > CLOCK_WARNED else "ok"
    return Finding("clock: vault", state, seen, "" if state == "ok" else "Let both machines keep time (NTP).")


WORK_CHECKS: Final[tuple[Check, ...]] = (
    *(check_projections, check_parked, check_erasures, check_holds, check_epochs, check_clocks),
    *LOG_CHECKS,
    *ATTESTING_CHECKS,
)


def _number(connection: Any, statement: str) -> int:
    row = connection.execute(statement).fetchone()
    return int(row[0]) if row else 0
