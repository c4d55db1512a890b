"""Whose account ended so long ago that their own data is due: the holders of accounts, in the operator's account.

Mailkai 8 keeps account data for the subscription and 90 days, Mailenium 5.1 for 30 days after the termination. The
clock is that of the person's last account: whoever holds two is due when the later one ended and its days have run,
and a reactivation stops it. Asking takes a look at every person of the operator's account, page by page, because who
holds what stands only in rows that are sealed; that happens once a day, and where an account has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from heapq import nsmallest
from typing import Final
from uuid import UUID

from domain.account import Account
from domain.category import ACCOUNT_HOLDER
from domain.personal import Identity
from ledger.account_holders import ended_on
from ledger.application import Ledger
from ledger.keys.names import DueKey
from ledger.standing_row import StandingRow
from retention.policy.clocks import last_anchor_due
from retention.policy.pack import ClosureRule, Pack

HOLDERS_ITEM: Final = f"{Identity.name}:account_holders"

ROWS_PER_PAGE: Final = 5_000
"""Standing rows opened at a time: some megabytes."""

HOLDERS_PER_PLAN: Final = 100_000
"""Account holders in one plan, which are held in memory while it is made; the next day's plan has the others."""

SELECT_ANY_ENDED = "SELECT 1 FROM lethe.head WHERE terminated_at < %s LIMIT 1"


@dataclass(slots=True)
class DueHolders:
    """Account holders who are due: by kid, with the day on which their last account ended.

    `held` counts those whom holds keep back, by `holds`, with the days of theirs.
    """

    keys: list[DueKey] = field(default_factory=list)
    held_since: list[date] = field(default_factory=list)
    holds: set[UUID] = field(default_factory=set)

    @property
    def held(self) -> int:
        """How many are kept back."""
        return len(self.held_since)


def holder_rule(account: Account, pack: Pack) -> ClosureRule | None:
    """When an account's holder is due after its end; None in any account but the operator's."""
    return pack.closure_of(Identity.name, ACCOUNT_HOLDER) if account.operator else None


def due_holders(ledger: Ledger, rule: ClosureRule, as_of: date) -> DueHolders:
    """Everybody whose time was over on a day, in order of kid: those to be erased, and those whom a hold protects."""
    last_on = last_anchor_due(rule, as_of)
    if last_on is None or not _any_ended(ledger, last_on):
        return DueHolders()
    ended: dict[bytes, tuple[StandingRow, date]] = {}
    for rows in holders(ledger):
        with ledger.services.writer.transaction() as connection:
            found = ended_on(connection, rows)
        ended |= {row.person.kid: (row, day) for row in rows if (day := found.get(row.person.kid)) and day <= last_on}
    due = DueHolders()
    wanted = nsmallest(HOLDERS_PER_PLAN, ended)
    for start in range(0, len(wanted), ROWS_PER_PAGE):
        _sort(ledger, due, [ended[kid] for kid in wanted[start : start + ROWS_PER_PAGE]])
    return due


def ended_holders(ledger: Ledger) -> tuple[int, Counter[date]]:
    """How many persons hold accounts, and of those who hold no living one: how many since which day."""
    total, days = 0, Counter[date]()
    for rows in holders(ledger):
        total += len(rows)
        with ledger.services.writer.transaction() as connection:
            days.update(ended_on(connection, rows).values())
    return total, days


def holders(ledger: Ledger) -> Iterator[list[StandingRow]]:
    """Everybody who holds an account of the platform, page by page."""
    after = b""
    while True:
        with ledger.services.writer.transaction() as connection:
            generation = ledger.appender.read_head(connection).generation
            rows = ledger.services.book.page(connection, ledger.tenant, generation, after, ROWS_PER_PAGE)
        if not rows:
            return
        yield [row for row in rows if row.standing.accounts]
        after = rows[-1].fingerprint


def _sort(ledger: Ledger, due: DueHolders, found: list[tuple[StandingRow, date]]) -> None:
    """Into those who go and those whom a hold protects, as a person's erasure looks at holds: by any key of theirs."""
    kids = sorted({kid for row, _ in found for kid in (row.person.kid, row.person.records_kid)})
    with ledger.services.writer.transaction() as connection:
        held = ledger.hold_book.holding(connection, ledger.tenant, kids)
    for row, day in found:
        holds = [*held.get(row.person.kid, ()), *held.get(row.person.records_kid, ())]
        if holds:
            due.held_since.append(day)
            due.holds.update(holds)
        else:
            due.keys.append(DueKey(row.person.kid, 1, day))


def _any_ended(ledger: Ledger, last_on: date) -> bool:
    end = datetime.combine(last_on + timedelta(days=1), time(), UTC)
    with ledger.services.writer.transaction() as connection:
        return connection.execute(SELECT_ANY_ENDED, (end,)).fetchone() is not None
