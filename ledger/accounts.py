"""The life of an account after its opening: terminated, reactivated, closed (Mailkai 8, Mailenium 5.1).

A terminated account sends nothing and takes nothing new in. The head says so, which every command holds anyway, so
that an authorisation that commits after the termination has seen it (invariant I1). What was authorised before runs
out by itself within a day. Reading and exporting go on until the keys are destroyed, class by class, by retention
plans; the first of them closes the account for good.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from domain import account as accounts
from domain.account import Account
from domain.facts import Fact
from domain.ids import unix_ms, uuid7
from domain.law import RuleSet
from domain.subject_commands import CommandRefused
from ledger.append import Head, LockedTenant
from ledger.desk import Desk
from ledger.errors import UnknownAccount
from ledger.recorder import ledger_event

SELECT_ACCOUNT = """
SELECT stream_id, version, topic, entry, sealed, position, recorded_at FROM lethe.event
WHERE tenant_id = %s AND stream_id = %s ORDER BY tenant_id, stream_id, version
"""
SET_TERMINATED = "UPDATE lethe.head SET terminated_at = %s WHERE tenant_id = %s"

ACCOUNT_TERMINATED = "account_terminated"

LockedStep = Callable[[LockedTenant], None]


def require_active(head: Head) -> None:
    """Raise `CommandRefused` where the account has ended: it takes nothing new in."""
    if head.terminated_at is not None:
        raise CommandRefused(
            ACCOUNT_TERMINATED,
            f"This account was terminated on {head.terminated_at:%Y-%m-%d}: it takes nothing new in and sends nothing. "
            "What it holds can be read and exported. To go on with it: lethe account reactivate.",
        )


class AccountDesk(Desk):
    """Ends one tenant's account, takes it up again, closes it."""

    def state(self) -> Account:
        """The account as it is now. Raises `UnknownAccount`."""
        with self._appender.pool.transaction() as connection:
            return self.read(connection)

    def read(self, connection: Connection[Any]) -> Account:
        """The account as this transaction sees it. Raises `UnknownAccount`."""
        rows = connection.execute(SELECT_ACCOUNT, (self._tenant, self._tenant), binary=True)
        found = accounts.fold(None, (self._mapper.open(ledger_event(row), personal=False) for row in rows))
        if found is None:
            raise UnknownAccount("There is no account with this id here. Open it: lethe account open.")
        return found

    def terminate(self, *, actor: str, before: LockedStep | None = None, also: LockedStep | None = None) -> Account:
        """End the subscription, as of now; harmless where it has ended. `before` and `also` as in `SubjectDesk.act`."""
        return self._change(accounts.terminate, actor, before, also)

    def reactivate(self, *, actor: str, before: LockedStep | None = None, also: LockedStep | None = None) -> Account:
        """Take the account up again; harmless where it runs. Raises `AccountRefused` once keys are being destroyed."""
        return self._change(accounts.reactivate, actor, before, also)

    def close(self, locked: LockedTenant, *, actor: str) -> Account:
        """In a transaction that is about to intend destruction: there is no way back. Raises `AccountRefused`."""
        return self._record(locked, accounts.close, actor)

    def close_again(self, ended_at: datetime, *, actor: str) -> Account:
        """After a restore: the account had been closed, and this ledger does not know. Harmless where it does.

        `ended_at` is when it ended, as far as can be told; it counts where the ledger does not know that either.
        """
        with self._appender.locked() as locked:
            account = self.read(locked.connection)
            if account.status == "active":
                self._record(locked, accounts.terminate, actor, at=max(ended_at, account.opened_at))
            return self._record(locked, accounts.close, actor)

    def change_pack(self, decide: Callable[[Account, date], list[Fact]], *, actor: str) -> Account:
        """Announce or adopt a policy pack, as `decide` says of the account and the day, under the lock."""
        with self._appender.locked() as locked:
            return self._record(locked, lambda account: decide(account, locked.now.date()), actor)

    def adopt_rules(self, locked: LockedTenant, rules: RuleSet, *, at: datetime, actor: str, command: UUID) -> None:
        """In a transaction that is about to record decisions by these legal rules; harmless where they were adopted.

        `at` is when the first of them was made, and `command` what asked for it. It restricts nobody.
        """
        account = self.read(locked.connection)
        decided = accounts.adopt_rules(account, rules.version, rules.digest)
        facts = self._headed(decided, account.version, at, actor, command)
        locked.record([(self._mapper.draft(fact), fact.originator_version) for fact in facts], restricts=False)

    def _change(
        self,
        decide: Callable[[Account], list[Fact]],
        actor: str,
        before: LockedStep | None,
        also: LockedStep | None,
    ) -> Account:
        with self._appender.locked() as locked:
            if before is not None:
                before(locked)
            account = self._record(locked, decide, actor)
            if also is not None:
                also(locked)
        return account

    def _record(
        self, locked: LockedTenant, decide: Callable[[Account], list[Fact]], actor: str, *, at: datetime | None = None
    ) -> Account:
        account = self.read(locked.connection)
        facts = self._headed(decide(account), account.version, locked.now, actor)
        if at is not None:
            facts = [fact.model_copy(update={"occurred_at": at}) for fact in facts]
        locked.record([(self._mapper.draft(fact), fact.originator_version) for fact in facts], restricts=bool(facts))
        after = accounts.fold(account, facts)
        assert after is not None
        if facts:
            locked.connection.execute(SET_TERMINATED, (after.terminated_at, self._tenant))
        return after

    def _headed(
        self, facts: Sequence[Fact], version: int, now: datetime, actor: str, command: UUID | None = None
    ) -> list[Fact]:
        command = command or UUID(bytes=os.urandom(16), version=4)
        return [
            fact.model_copy(
                update={
                    "originator_id": self._tenant,
                    "originator_version": version + number,
                    "event_id": uuid7(unix_ms(now), os.urandom(10)),
                    "occurred_at": now,
                    "actor": actor,
                    "command": command,
                }
            )
            for number, fact in enumerate(facts, 1)
        ]
