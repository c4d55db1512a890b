"""Account holders: the persons behind the platform's accounts, who are subjects of the operator's own account.

Both policies promise an end of account data after the subscription's (Mailkai 8, Mailenium 5.1), and the customer's
account is another tenant than the one that its holder is a subject of. So the operator's account records who holds
which account, in the person's own stream. Whether an account has ended stands in its head, where its termination and
its reactivation put it: nothing has to be told from one account to the other, and so nothing can be missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain.account import AccountRefused
from domain.subject_commands import AssignAccount
from ledger.accounts import AccountDesk
from ledger.desk import Desk, DeskTools
from ledger.errors import UnknownAccount
from ledger.standing_row import StandingRow
from ledger.subjects import Act

NOT_THE_OPERATOR = "not_the_operator"

SELECT_HEADS = "SELECT tenant_id, terminated_at FROM lethe.head WHERE tenant_id = ANY(%s)"


class HolderDesk(Desk):
    """Says in the operator's account who holds which account."""

    def __init__(self, tools: DeskTools, *, accounts: AccountDesk) -> None:
        super().__init__(tools)
        self._accounts = accounts

    def assignment(self, account: UUID, email: str, *, actor: str) -> Act:
        """The act that says so; `email` is as it is to be written to. Harmless when it was said before.

        Raises `AccountRefused` in any account but the operator's, `UnknownAccount` for an account that is not here.
        """
        if not self._accounts.state().operator:
            raise AccountRefused(
                NOT_THE_OPERATOR,
                "Only the operator's own account knows who holds which account. "
                "Name that one; to open it: lethe account open --operator.",
            )
        with self._appender.pool.transaction() as connection:
            if not _heads(connection, [account.hex]):
                raise UnknownAccount(
                    "There is no account with this id here, so nobody holds it. See lethe account list."
                )
        return Act(AssignAccount(account, email), address=email, actor=actor)


def still_ended(connection: Connection[Any], rows: Sequence[StandingRow], last_on: date) -> list[StandingRow]:
    """Those of these persons whose last account ended on that day or before, as this transaction sees it."""
    ended = ended_on(connection, rows)
    return [row for row in rows if (day := ended.get(row.person.kid)) is not None and day <= last_on]


def ended_on(connection: Connection[Any], rows: Sequence[StandingRow]) -> dict[bytes, date]:
    """By kid, the day on which the last account of each of these persons ended; who holds a living one is absent."""
    heads = _heads(connection, {account for row in rows for account in row.standing.accounts})
    found = {}
    for row in rows:
        days = [heads.get(account) for account in row.standing.accounts]
        ended = [day for day in days if day is not None]
        if ended and len(ended) == len(days):
            found[row.person.kid] = max(ended)
    return found


def _heads(connection: Connection[Any], accounts: Iterable[str]) -> Mapping[str, date | None]:
    """The day (UTC) on which each of these accounts ended, None while it runs; an unknown one is absent."""
    wanted = [UUID(account) for account in accounts]
    if not wanted:
        return {}
    rows = connection.execute(SELECT_HEADS, (wanted,))
    return {tenant.hex: None if ended is None else ended.astimezone(UTC).date() for tenant, ended in rows}
