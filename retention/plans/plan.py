"""The plan: what of an account is due under its policy pack, what holds keep back, and nothing destroyed by asking.

For each class the pack gives a clock. Calendar periods whose time is over, persons' keys that nothing kept alive, and
after the account's end whole classes: each becomes one item with its clause and day. A hold takes a person out of an
item, or keeps the whole of it back. The same question asked again gives the same digest, unless facts have changed;
that is how `retention/plans/apply.py` knows that the plan shown is the plan it applies (invariant I9).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from domain.account import Account
from domain.facts import EPOCH
from domain.ids import day_of, month_of, unix_ms, uuid7
from domain.personal import Identity
from ledger.application import Ledger
from ledger.keys.names import TENANT_HOLDER, DueKey, KeyName
from retention.plans.account_holders import HOLDERS_ITEM, due_holders, holder_rule
from retention.plans.counts import count_touched
from retention.plans.held import PERSONS_HELD, Held
from retention.plans.minimums import correct_clocks
from retention.plans.model import (
    DESTROY_CLASS,
    DESTROY_PERIOD,
    DESTROY_PERSONS,
    ERASE_HOLDERS,
    HeldBack,
    Plan,
    PlanItem,
    ordered,
)
from retention.policy.clocks import due_on, first_day_of, last_anchor_due
from retention.policy.pack import ClassRule, Pack

PLAN_KEY: Final = "plan"
"""The tenant's key under which lists of persons are digested, so that a plan file cannot be tried against kids."""

DUE_KEYS_PER_READ: Final = 10_000
"""Persons' keys per page: a plan over a million of them holds one page at a time."""

Progress = Callable[[int, int], None]


def make_plan(ledger: Ledger, pack: Pack, now: datetime, *, progress: Progress | None = None) -> Plan:
    """What is due in this account at `now`. Destroys nothing.

    `progress` is called with rules looked at and rules in all. Raises `UnknownAccount`.
    """
    return _Planner(ledger, pack, now.date()).plan(uuid7(unix_ms(now), os.urandom(10)), now, progress)


def made_again(ledger: Ledger, pack: Pack, plan: Plan) -> Plan:
    """The plan that would be made today for the day of an older one: its digest tells whether facts changed."""
    return _Planner(ledger, pack, plan.as_of).plan(plan.plan_id, plan.made_at, None, counted=False)


def persons_digest_key(ledger: Ledger) -> bytes:
    """The account's key under which lists of persons are digested."""
    return ledger.keyring.tenant_key(PLAN_KEY)


class PersonsDigest:
    """The keyed digest over a sorted list of persons' keys, taken in page by page."""

    def __init__(self, key: bytes, item: str) -> None:
        self._hash = blake2b(item.encode(), key=key, digest_size=32, person=b"lethe.plan.v1")
        self.persons = 0

    def add(self, keys: list[DueKey]) -> None:
        """Take in the next keys, in order of holder and generation."""
        self._hash.update(b"".join(_row(key) for key in keys))
        self.persons += len(keys)

    def hexdigest(self) -> str:
        """The digest so far."""
        return self._hash.hexdigest()


def due_persons(
    ledger: Ledger, held: Held, retention_class: str, last_on: date, holds: set[UUID]
) -> Iterator[tuple[list[DueKey], int]]:
    """The keys of persons whose time is over, page by page: those that no hold protects, and how many others.

    The holds that protect others are added to `holds`.
    """
    after = (b"", 0)
    while True:
        page = ledger.services.vault.keys_due(
            ledger.tenant, retention_class, last_on, after=after, limit=DUE_KEYS_PER_READ
        )
        if page:
            free = held.not_held(retention_class, page, holds)
            yield free, len(page) - len(free)
        if len(page) < DUE_KEYS_PER_READ:
            return
        after = (page[-1].holder, page[-1].generation)


class _Planner:
    """One plan in the making."""

    def __init__(self, ledger: Ledger, pack: Pack, as_of: date) -> None:
        self._ledger = ledger
        self._pack = pack
        self._as_of = as_of
        self._held = Held(ledger)
        self._items: list[PlanItem] = []
        self._kept_back: list[PlanItem] = []

    def plan(self, plan_id: UUID, made_at: datetime, progress: Progress | None, *, counted: bool = True) -> Plan:
        account = self._ledger.accounts.state()
        closing = self._closure(account)
        rules = [rule for name, rule in sorted(self._pack.rules.items()) if name not in closing]
        for number, rule in enumerate(rules, 1):
            if not self._is_gone(rule.retention_class):
                self._of_rule(rule)
            if progress is not None:
                progress(number, len(rules))
        if Identity.name not in closing and not self._is_gone(Identity.name):
            self._holders(account)
        items = ordered(self._items)
        return Plan(
            plan_id,
            self._ledger.tenant,
            self._pack.name,
            self._pack.version,
            self._pack.digest,
            self._as_of,
            made_at,
            self._ledger.log.max_notification_id() or 0,
            items,
            ordered(self._kept_back),
            count_touched(self._ledger, items) if counted else {},
        )

    def _of_rule(self, rule: ClassRule) -> None:
        if rule.clock == "calendar":
            self._periods(rule)
        elif rule.clock in ("last_engagement", "last_interaction", "last_transaction"):
            self._persons(rule)

    def _periods(self, rule: ClassRule) -> None:
        moment = EPOCH.replace(year=self._as_of.year, month=self._as_of.month, day=self._as_of.day)
        before = day_of(moment) if rule.unit == "day" else month_of(moment)
        for period in self._ledger.services.vault.living_periods(self._ledger.tenant, rule.retention_class, before):
            due = due_on(rule, first_day_of(period))
            if due > self._as_of:
                continue
            item = PlanItem(
                item=f"{rule.retention_class}:{period}",
                action=DESTROY_PERIOD,
                retention_class=rule.retention_class,
                clause=rule.clause,
                due_on=due,
                period=period,
                aggregate_first=rule.aggregate_first,
                minimum=rule.minimum,
            )
            self._sort(item, self._held.period(rule.retention_class, period))

    def _persons(self, rule: ClassRule) -> None:
        last_on = last_anchor_due(rule, self._as_of)
        if last_on is None:
            return
        name = f"{rule.retention_class}:persons"
        whole = self._held.account()
        digest = PersonsDigest(persons_digest_key(self._ledger), name)
        holds: set[UUID] = set()
        held, oldest = 0, last_on
        if rule.minimum:
            self._correct(rule, last_on)
        for page, left_out in due_persons(self._ledger, self._held, rule.retention_class, last_on, holds):
            digest.add(page)
            held += left_out
            oldest = min([oldest, *(key.last_on for key in page)])
        if not digest.persons and not held:
            return
        item = PlanItem(
            item=name,
            action=DESTROY_PERSONS,
            retention_class=rule.retention_class,
            clause=rule.clause,
            due_on=due_on(rule, oldest),
            persons=digest.persons,
            persons_digest=digest.hexdigest(),
            last_on=last_on,
            minimum=rule.minimum,
            held=HeldBack(tuple(str(hold) for hold in sorted(holds)), PERSONS_HELD, held) if held else None,
        )
        self._sort(item, whole if digest.persons else item.held)

    def _holders(self, account: Account) -> None:
        """In the operator's account: the holders of accounts that ended so long ago that their own data is due."""
        rule = holder_rule(account, self._pack)
        if rule is None:
            return
        due = due_holders(self._ledger, rule, self._as_of)
        if not due.keys and not due.held:
            return
        digest = PersonsDigest(persons_digest_key(self._ledger), HOLDERS_ITEM)
        digest.add(due.keys)
        item = PlanItem(
            item=HOLDERS_ITEM,
            action=ERASE_HOLDERS,
            retention_class=rule.retention_class,
            clause=rule.clause,
            due_on=due_on(rule, min([*due.held_since, *(key.last_on for key in due.keys)])),
            persons=digest.persons,
            persons_digest=digest.hexdigest(),
            last_on=last_anchor_due(rule, self._as_of),
            held=HeldBack(tuple(str(hold) for hold in sorted(due.holds)), PERSONS_HELD, due.held) if due.held else None,
        )
        self._sort(item, None if due.keys else item.held)

    def _correct(self, rule: ClassRule, last_on: date) -> None:
        """Where a minimum is promised the log is asked as well: a restored vault may have forgotten a transaction."""
        after = (b"", 0)
        while page := self._ledger.services.vault.keys_due(
            self._ledger.tenant, rule.retention_class, last_on, after=after, limit=DUE_KEYS_PER_READ
        ):
            correct_clocks(self._ledger, rule.retention_class, page)
            after = (page[-1].holder, page[-1].generation)

    def _closure(self, account: Account) -> set[str]:
        """Whole classes that are due after the account's end, as items; returns the classes that this settles."""
        if account.terminated_at is None:
            return set()
        settled = set()
        for name, rule in sorted(self._pack.closure.items()):
            due = due_on(rule, account.terminated_at.date())
            if due > self._as_of or self._is_gone(name):
                continue
            settled.add(name)
            item = PlanItem(
                item=f"{name}:class",
                action=DESTROY_CLASS,
                retention_class=name,
                clause=rule.clause,
                due_on=due,
                minimum=rule.minimum,
                closes_account=account.closed_at is None,
            )
            self._sort(item, self._held.retention_class(name))
        return settled

    def _is_gone(self, retention_class: str) -> bool:
        """Whether a whole class of this account was destroyed before."""
        name = KeyName(TENANT_HOLDER, retention_class)
        return name in self._ledger.services.vault.find(self._ledger.tenant, [name]).tombstones

    def _sort(self, item: PlanItem, held: HeldBack | None) -> None:
        if held is None:
            self._items.append(item)
        else:
            self._kept_back.append(item if item.held is held else replace(item, held=held))


def _row(key: DueKey) -> bytes:
    return (
        len(key.holder).to_bytes(1, "big")
        + key.holder
        + key.generation.to_bytes(2, "big")
        + key.last_on.toordinal().to_bytes(4, "big")
    )
