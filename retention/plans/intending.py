"""The way to a plan's intent: nothing is destroyed on it, and nothing is left of one that is cut off.

The plan is made again for its day and must come out the same; whose keys persons' items are about is noted in the
vault and digested once more; then, under the head lock and after holds and account were looked at again, the intents
are recorded in one append. From its commit on a hold is too late, and what follows stands in
`retention/plans/carrying_out.py`.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from domain.account import Account
from domain.keys import DestructionIntended
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.erasures import RETENTION_ACTOR
from ledger.keys import condemned
from projections.log import end_of_log
from retention.plans.account_holders import DueHolders, due_holders, holder_rule
from retention.plans.file import PlanRefused
from retention.plans.held import Held, holds_since
from retention.plans.intents import record_intents
from retention.plans.model import DESTROY_CLASS, DESTROY_PERSONS, ERASE_HOLDERS, Plan, PlanItem
from retention.plans.plan import PersonsDigest, due_persons, made_again, persons_digest_key
from retention.policy.pack import Pack

ROWS_PER_DELETE: Final = 10_000
"""Condemned forgotten in one transaction of the vault."""


def absolve(ledger: Ledger, plan_id: UUID) -> None:
    """Forget whom a plan was about."""
    deleted = 1
    while deleted:
        with ledger.services.vault.pool.transaction() as connection:
            deleted = condemned.absolve(connection, ledger.tenant, plan_id, ROWS_PER_DELETE)


class Intending:
    """One plan on its way to the intent."""

    def __init__(self, ledger: Ledger, pack: Pack, plan: Plan) -> None:
        self._ledger = ledger
        self._pack = pack
        self._plan = plan

    def intend(self) -> None:
        """Record that the plan's items are about to be done. Raises `PlanRefused`."""
        with self._ledger.services.writer.transaction() as connection:
            seen = end_of_log(connection, self._ledger.tenant)
        self._require_same()
        try:
            for item in self._plan.items:
                if item.action == DESTROY_PERSONS:
                    self._condemn(item)
                elif item.action == ERASE_HOLDERS:
                    self._condemn_holders(item)
            with self._ledger.appender.locked() as locked:
                if holds_since(locked.connection, locked.tenant, seen, locked.head.position):
                    raise _changed("a hold was placed or released")
                self._require_account(locked)
                intents = [self._intent(item) for item in self._plan.items]
                record_intents(locked, self._ledger, self._plan.plan_id, intents)
        except PlanRefused:
            absolve(self._ledger, self._plan.plan_id)
            raise

    def _require_same(self) -> None:
        now = made_again(self._ledger, self._pack, self._plan)
        if now.digest == self._plan.digest:
            return
        then = {item.item: item for item in (*self._plan.items, *self._plan.kept_back)}
        other = {item.item: item for item in (*now.items, *now.kept_back)}
        names = sorted(name for name in then.keys() | other.keys() if then.get(name) != other.get(name))
        raise _changed(", ".join(names[:5]) or "something that is kept back")

    def _condemn(self, item: PlanItem) -> None:
        """Note whose keys go. Raises `PlanRefused` if they are not those that the plan digested."""
        assert item.last_on is not None
        digest = PersonsDigest(persons_digest_key(self._ledger), item.item)
        held = Held(self._ledger)
        for page, _ in due_persons(self._ledger, held, item.retention_class, item.last_on, set()):
            digest.add(page)
            with self._ledger.services.vault.pool.transaction() as connection:
                condemned.condemn(
                    connection, self._ledger.tenant, self._plan.plan_id, item.item, item.retention_class, page
                )
        if digest.hexdigest() != item.persons_digest:
            raise _changed(item.item)

    def _condemn_holders(self, item: PlanItem) -> None:
        """As `_condemn`, of account holders."""
        rule = holder_rule(self._ledger.accounts.state(), self._pack)
        due = due_holders(self._ledger, rule, self._plan.as_of) if rule is not None else DueHolders()
        digest = PersonsDigest(persons_digest_key(self._ledger), item.item)
        digest.add(due.keys)
        if digest.hexdigest() != item.persons_digest:
            raise _changed(item.item)
        with self._ledger.services.vault.pool.transaction() as connection:
            condemned.condemn(
                connection, self._ledger.tenant, self._plan.plan_id, item.item, item.retention_class, due.keys
            )

    def _require_account(self, locked: LockedTenant) -> None:
        """The account as the plan saw it; the first item that ends it closes it for good."""
        account = self._ledger.accounts.read(locked.connection)
        if (account.pack, account.pack_version) != (self._plan.pack, self._plan.pack_version):
            raise _changed("the account's pack")
        if any(item.action == DESTROY_CLASS for item in self._plan.items):
            self._require_ended(account)
            self._ledger.accounts.close(locked, actor=RETENTION_ACTOR)

    def _require_ended(self, account: Account) -> None:
        if account.terminated_at is None:
            raise _changed("the account was reactivated")

    def _intent(self, item: PlanItem) -> DestructionIntended:
        return DestructionIntended(
            item=item.item,
            action=item.action,
            retention_class=item.retention_class,
            period=item.period,
            person_keys=item.persons,
            clause=item.clause,
            due_on=item.due_on.isoformat(),
            last_on=item.last_on.isoformat() if item.last_on else None,
            aggregate_first=item.aggregate_first,
            minimum=item.minimum,
            pack=self._plan.pack,
            pack_version=self._plan.pack_version,
            plan_sha256=self._plan.digest,
            certificate=str(self._plan.plan_id),
        )


def _changed(what: str) -> PlanRefused:
    return PlanRefused(
        "facts_changed",
        f"Facts have changed since this plan was made ({what}), so it is not the plan that would be made now. "
        "Nothing was destroyed. Make a new plan: lethe retention plan.",
    )
