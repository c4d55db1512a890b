"""Everything that follows a plan's intent, from whatever point it was left at (FAULTS 7).

What is to be done is read from the plan's own facts and from the rows beside them, never from the plan's file, so that
whoever comes next carries it out: the process that intended it, another one, or the worker. Each step can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final
from uuid import UUID

from domain.facts import Fact
from domain.keys import (
    AccountHoldersErased,
    ClassKeysDestroyed,
    DestructionIntended,
    PeriodKeyDestroyed,
    PlanApplied,
    SubjectKeysExpired,
)
from domain.personal import Erased, SuppressionData
from ledger.account_holders import still_ended
from ledger.application import Ledger
from ledger.errors import KeyMissing
from ledger.keys import condemned
from ledger.keys.condemned import Sentence
from ledger.keys.keyring import LINK, PEPPER
from ledger.keys.names import TENANT_HOLDER, DueKey, KeyName
from retention.certificates.of_plans import issue_for_plan
from retention.daily import close_suppression_days
from retention.erasure.erasing import finish_erasures
from retention.holds.escrow import destroy_unheld, escrow_held
from retention.link_generations import close_generations
from retention.plans.aggregates import publish_month
from retention.plans.intending import absolve
from retention.plans.intents import (
    cause_of,
    close_item,
    done_items,
    escrowed_for,
    note_escrowed,
    plan_facts,
    record_in_plan,
)
from retention.plans.minimums import correct_clocks
from retention.plans.model import DESTROY_CLASS, DESTROY_PERIOD, DESTROY_PERSONS, ERASE_HOLDERS, PlanError

KEYS_PER_BATCH: Final = 1_000
"""Persons' keys destroyed in one transaction of the vault: others wait for its lock for some hundredths of a second."""

HOLDERS_PER_APPEND: Final = 500
"""Erasures intended in one append: what other commands of the operator's account wait for."""

AFTER_EVERY_PERIOD: Final = "9999-99"
MONTH_CHARACTERS: Final = len("2026-11")


class PlanIncomplete(PlanError):
    """Something that a plan destroyed could still be opened; the plan stays open and is tried again."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a plan: its items, how many keys went, how many persons were spared.

    `erased` counts account holders, each of whom was erased as a whole. `again` is true
    where the plan had been applied before, so that nothing was done now.
    """

    plan_id: UUID
    items: int
    keys: int
    spared: int
    certificate: str
    again: bool = False
    erased: int = 0


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is."""


def told_of_plan(plan_id: UUID, facts: Sequence[Fact], applied: PlanApplied, *, again: bool) -> Applied:
    """What became of a plan, as its facts tell it."""
    spared = sum(fact.spared for fact in facts if isinstance(fact, SubjectKeysExpired | AccountHoldersErased))
    erased = sum(fact.erased for fact in facts if isinstance(fact, AccountHoldersErased))
    return Applied(plan_id, applied.items, applied.keys, spared, applied.certificate, again, erased)


class CarryingOut:
    """One plan whose intent stands."""

    def __init__(self, ledger: Ledger, plan_id: UUID, progress: Progress | None) -> None:
        self._ledger = ledger
        self._tenant = ledger.tenant
        self._vault = ledger.services.vault
        self._plan_id = plan_id
        self._progress = progress

    def run(self) -> Applied:
        with self._ledger.services.writer.transaction() as connection:
            facts = plan_facts(connection, self._ledger, self._plan_id)
            done = done_items(connection, self._tenant, self._plan_id)
        intents = [fact for fact in facts if isinstance(fact, DestructionIntended)]
        todo = [intent for intent in intents if intent.item not in done]
        for intent in todo:
            self._set_aside(intent)
        for number, intent in enumerate(todo, len(intents) - len(todo)):
            self._tell("items", number, len(intents))
            self._do(intent)
        self._tell("items", len(intents), len(intents))
        return self._conclude(intents)

    def _set_aside(self, intent: DestructionIntended) -> None:
        """Held persons' own keys of what is about to go, of every item first: one class may be the way to another."""
        count = sum(escrow_held(self._ledger, intent.retention_class, period) for period in self._periods(intent))
        if count:
            with self._ledger.services.writer.transaction() as connection:
                note_escrowed(connection, self._tenant, self._plan_id, intent.item, count)

    def _periods(self, intent: DestructionIntended) -> list[str]:
        if intent.action == DESTROY_PERIOD:
            assert intent.period is not None
            return [intent.period]
        if intent.action == DESTROY_CLASS:
            return self._vault.living_periods(self._tenant, intent.retention_class, AFTER_EVERY_PERIOD)
        return []

    def _do(self, intent: DestructionIntended) -> None:
        if intent.action == DESTROY_PERIOD:
            fact: Fact = self._destroy_period(intent)
        elif intent.action == DESTROY_PERSONS:
            fact = self._destroy_persons(intent)
        elif intent.action == ERASE_HOLDERS:
            fact = self._erase_holders(intent)
        else:
            fact = self._destroy_class(intent)
        with self._ledger.appender.locked() as locked:
            close_item(locked, self._ledger, self._plan_id, intent.item, fact)

    def _destroy_period(self, intent: DestructionIntended) -> Fact:
        assert intent.period is not None
        if intent.aggregate_first:
            publish_month(self._ledger, intent.period[:MONTH_CHARACTERS], self._plan_id)
        name = KeyName(TENANT_HOLDER, intent.retention_class, intent.period)
        self._destroy([name], intent)
        self._ledger.keyring.forget_period(intent.retention_class, intent.period)
        self._require_gone([name])
        commitments = [key.commitment.hex() for key in self._vault.told_of(self._tenant, [name])]
        return PeriodKeyDestroyed(
            item=intent.item,
            retention_class=intent.retention_class,
            period=intent.period,
            commitment=next(iter(commitments), ""),
            escrowed=self._escrowed(intent),
        )

    def _escrowed(self, intent: DestructionIntended) -> int:
        with self._ledger.services.writer.transaction() as connection:
            return escrowed_for(connection, self._tenant, self._plan_id, intent.item)

    def _destroy(self, names: Sequence[KeyName], intent: DestructionIntended) -> None:
        self._vault.destroy_keys(
            self._tenant, names, when=self._ledger.clock(), cause=cause_of(intent), certificate=intent.certificate
        )

    def _destroy_persons(self, intent: DestructionIntended) -> Fact:
        assert intent.last_on is not None
        sentence = Sentence(self._tenant, self._plan_id, intent.item, date.fromisoformat(intent.last_on))
        if intent.minimum:
            self._correct(sentence, intent.retention_class)
        after: tuple[bytes, int] | None = (b"", 0)
        done = 0
        while after is not None:
            batch = self._vault.destroy_condemned(
                sentence,
                after=after,
                limit=KEYS_PER_BATCH,
                when=self._ledger.clock(),
                cause=cause_of(intent),
                certificate=intent.certificate,
            )
            after = batch.after
            done += len(batch.went) + batch.spared
            self._ledger.keyring.forget_all()
            self._require_gone([key.name for key in batch.went])
            self._tell(f"keys of {intent.retention_class}", done, intent.person_keys or done)
        with self._vault.pool.transaction() as connection:
            keys, spared = condemned.fates(connection, self._tenant, self._plan_id, intent.item)
        return SubjectKeysExpired(item=intent.item, retention_class=intent.retention_class, keys=keys, spared=spared)

    def _erase_holders(self, intent: DestructionIntended) -> Fact:
        """Each of them by an erasure of their own. Who was erased by an earlier run is not there any more."""
        assert intent.last_on is not None
        last_on = date.fromisoformat(intent.last_on)
        after, done, total = b"", 0, intent.person_keys or 0
        while kids := self._condemned_holders(intent, after):
            self._ledger.erasures.expire(
                kids, lambda connection, rows: still_ended(connection, rows, last_on), batch=self._plan_id
            )
            after, done = kids[-1], done + len(kids)
            self._tell("account holders", done, total)
        while finish_erasures(self._ledger):
            pass
        erased = self._ledger.erasures.count_of(self._plan_id)
        return AccountHoldersErased(item=intent.item, erased=erased, spared=total - erased)

    def _condemned_holders(self, intent: DestructionIntended, after: bytes) -> list[bytes]:
        with self._vault.pool.transaction() as connection:
            return condemned.holders_of(connection, self._tenant, self._plan_id, intent.item, after, HOLDERS_PER_APPEND)

    def _correct(self, sentence: Sentence, retention_class: str) -> None:
        """Once more before the first key goes: a minimum is looked up in the log itself."""
        after = (b"", 0)
        while True:
            with self._vault.pool.transaction() as connection:
                doomed, spared = condemned.waiting(connection, sentence, after, KEYS_PER_BATCH)
            keys = [DueKey(name.holder, name.generation, sentence.last_on) for name in doomed]
            correct_clocks(self._ledger, retention_class, keys)
            last = max([*doomed, *spared], default=None)
            if last is None:
                return
            after = (last.holder, last.generation)

    def _destroy_class(self, intent: DestructionIntended) -> Fact:
        classes = [intent.retention_class]
        if intent.retention_class == SuppressionData.name:
            self._finish_what_needs_the_list()
            classes.append(PEPPER)  # What fingerprints are made with goes with the list of fingerprints.
        for retention_class in classes:
            self._vault.destroy_class(
                self._tenant,
                retention_class,
                when=self._ledger.clock(),
                cause=cause_of(intent),
                certificate=intent.certificate,
            )
        self._ledger.keyring.forget_all()
        if PEPPER in classes:
            self._ledger.fingerprint.forget()
        names = [KeyName(TENANT_HOLDER, retention_class) for retention_class in classes]
        self._require_gone(names)
        keys = sum(len(self._vault.told_of_class(self._tenant, retention_class)) for retention_class in classes)
        return ClassKeysDestroyed(
            item=intent.item, retention_class=intent.retention_class, keys=keys, escrowed=self._escrowed(intent)
        )

    def _finish_what_needs_the_list(self) -> None:
        """Erasures under way keep their reference, and days that were begun their entries, under this class's keys."""
        finish_erasures(self._ledger)
        close_suppression_days(self._ledger, self._ledger.clock())

    def _require_gone(self, names: Sequence[KeyName]) -> None:
        """As a reader would find it: every name must come back with a tombstone and no key."""
        found = self._ledger.keyring.find(names)
        if found.keys:
            raise PlanIncomplete("A key that was destroyed is still found; the plan is not finished.")
        if any(not isinstance(found.tombstones.get(name), Erased) for name in names):
            raise KeyMissing("A key is gone from the vault and has no tombstone. This is an incident, not a retention.")

    def _conclude(self, intents: Sequence[DestructionIntended]) -> Applied:
        for intent in intents:
            if intent.action == DESTROY_PERSONS and intent.retention_class == LINK:
                self._close_links(intent)
        with self._ledger.appender.locked() as locked:
            facts = plan_facts(locked.connection, self._ledger, self._plan_id)
            applied = next((fact for fact in facts if isinstance(fact, PlanApplied)), None)
            if applied is None:
                applied = PlanApplied(
                    plan_sha256=intents[0].plan_sha256,
                    items=len(intents),
                    keys=sum(_keys(fact) for fact in facts),
                    certificate=intents[0].certificate,
                )
                record_in_plan(locked, self._ledger, self._plan_id, [applied])
        absolve(self._ledger, self._plan_id)
        if any(self._escrowed(intent) for intent in intents):
            destroy_unheld(self._ledger)  # A hold may have ended while its persons' keys were set aside.
        issue_for_plan(self._ledger, self._plan_id)
        return told_of_plan(self._plan_id, facts, applied, again=False)

    def _close_links(self, intent: DestructionIntended) -> None:
        """No standing row knows a link generation any more whose key went."""
        after = (b"", 0)
        while True:
            with self._vault.pool.transaction() as connection:
                page = condemned.destroyed_of(
                    connection, self._tenant, self._plan_id, intent.item, after, KEYS_PER_BATCH
                )
            if not page:
                return
            close_generations(self._ledger, page)
            after = page[-1]

    def _tell(self, what: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(what, done, total)


def _keys(fact: Fact) -> int:
    if isinstance(fact, PeriodKeyDestroyed):
        return 1
    return fact.keys if isinstance(fact, SubjectKeysExpired | ClassKeysDestroyed) else 0
