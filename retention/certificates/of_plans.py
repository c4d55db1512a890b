"""Certificates of plans: one for each plan that was applied, under the plan's own id (DESIGN section 6).

Everything it says is read from the facts of the plan and from the tombstones that name it, so it can be issued by
whoever applies a plan, or later by the daily chore, and it is the same. What a plan destroys is a class's key of a
month or a day for everybody, or the keys of persons whose time was over: those are listed by commitment and counted,
and stand for nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final
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
from ledger.application import Ledger
from ledger.keys.commitments import CommitmentBook
from retention.certificates import text
from retention.certificates.epoch_dates import epoch_dates
from retention.certificates.exports import ExportListed, exports_of_many
from retention.certificates.issuing import certificate_head, prepare_to_sign
from retention.certificates.store import (
    PLAN,
    Certificate,
    insert_certificates,
    insert_list,
    read_certificates,
    signed,
)
from retention.erasure.days import record_issued
from retention.erasure.destroyed_lists import Told, destroyed_list
from retention.plans.intents import plan_facts

KEYS_LISTED_MAX: Final = 2_000
"""Keys on a list, each with its path: two megabytes. The others of a larger plan are counted."""

PLANS_PER_RUN: Final = 100

SELECT_UNCERTIFIED: Final = """
SELECT DISTINCT i.plan_id FROM lethe.destruction_intent i WHERE i.tenant_id = %s
    AND EXISTS (SELECT 1 FROM lethe.event e WHERE e.tenant_id = i.tenant_id AND e.stream_id = i.plan_id
        AND e.topic = %s)
    AND NOT EXISTS (SELECT 1 FROM lethe.certificate c WHERE c.tenant_id = i.tenant_id AND c.certificate_id = i.plan_id)
ORDER BY i.plan_id LIMIT %s
"""


class PlanNotApplied(Exception):
    """A certificate was asked for a plan that is not done: nothing is certified before it is."""


def certify_plans(ledger: Ledger) -> list[Certificate]:
    """Issue the certificates of applied plans that have none yet: those whose own run was cut off before it."""
    with ledger.services.writer.transaction() as connection:
        values = (ledger.tenant, PlanApplied.TOPIC, PLANS_PER_RUN)
        waiting = [row[0] for row in connection.execute(SELECT_UNCERTIFIED, values)]
    issued = [issue_for_plan(ledger, plan_id) for plan_id in waiting]
    _silence(ledger)
    return issued


def issue_for_plan(ledger: Ledger, plan_id: UUID) -> Certificate:
    """The certificate of an applied plan, issued if it is not there yet. Raises `PlanNotApplied`."""
    with ledger.services.writer.transaction() as connection:
        held = read_certificates(connection, ledger.tenant, [plan_id]).get(plan_id)
        facts = plan_facts(connection, ledger, plan_id)
    if held is not None:
        return held
    applied = next((fact for fact in facts if isinstance(fact, PlanApplied)), None)
    if applied is None or applied.recorded_at is None:
        raise PlanNotApplied("This plan is not applied, or only in part. Apply it again: lethe retention apply.")
    prepare_to_sign(ledger)
    intents = [fact for fact in facts if isinstance(fact, DestructionIntended)]
    begun = min(fact.recorded_at.date() for fact in intents if fact.recorded_at is not None)
    day = applied.recorded_at.date()
    keys = CommitmentBook(ledger.services.vault, ledger.tenant).told_under(str(plan_id), begun, KEYS_LISTED_MAX)
    told: list[Told] = [[name, made_on.isoformat(), commitment.hex()] for name, made_on, commitment in keys]
    made = destroyed_list(ledger, day, told, 0)
    # Of a list that is cut off the first key may not be on it.
    since = min(made_on for _, made_on, _ in keys) if 0 < len(keys) < KEYS_LISTED_MAX else None
    exports = exports_of_many(ledger, since, applied.recorded_at) if applied.keys else []
    certificate = _certificate(ledger, applied, facts, exports, made.named if made is not None else None)
    with ledger.appender.locked() as locked:
        found = read_certificates(locked.connection, ledger.tenant, [plan_id]).get(plan_id)
        if found is not None:
            return found  # Another process was faster.
        if made is not None:
            insert_list(locked.connection, ledger.tenant, made.document)
        insert_certificates(locked.connection, ledger.tenant, [certificate])
        record_issued(locked, ledger, [certificate])
    _silence(ledger)
    return certificate


def _silence(ledger: Ledger) -> None:
    """Let the tombstones of persons whose plan is certified forget which keys went.

    The list would tie persons to each other who have nothing in common but that their time was over on one day.
    """
    book = CommitmentBook(ledger.services.vault, ledger.tenant)
    named = {UUID(text): text for text in book.telling(PLANS_PER_RUN)}
    with ledger.services.writer.transaction() as connection:
        certified = read_certificates(connection, ledger.tenant, named)
    book.silence_persons_of([named[certificate_id] for certificate_id in certified])


def _certificate(
    ledger: Ledger,
    applied: PlanApplied,
    facts: Sequence[Fact],
    exports: Sequence[ExportListed],
    named: dict[str, Any] | None,
) -> Certificate:
    assert applied.recorded_at is not None
    day = applied.recorded_at.date()
    dates = epoch_dates(ledger.services, ledger.clock())
    horizon = dates.horizon
    intents = [fact for fact in facts if isinstance(fact, DestructionIntended)]
    items = list(_items(intents, facts))
    document = {
        **certificate_head(ledger, applied.originator_id, day),
        "about": {
            "kind": PLAN,
            "plan_sha256": applied.plan_sha256,
            "pack": intents[0].pack,
            "pack_version": intents[0].pack_version,
            "clauses": sorted({intent.clause for intent in intents}),
            "items": items,
        },
        "statements": [
            text.unreachable(day, "the keys that a retention plan named"),
            text.until_horizon(horizon),
            text.DIGEST_IN_LOG,
        ],
        "horizon": horizon.isoformat(),
        "keys": {
            "classes": sorted({intent.retention_class for intent in intents}),
            "count": applied.keys,
            "list": named,
        },
        "kept": [],
        "copies": text.copies_to_come(dates.places, horizon),
        "inventory": text.inventory(
            horizon,
            text.exports_listed_by_then(False, of_many=bool(exports), whom="those whose keys these were"),
            of_person=False,
        ),
        "exports": list(exports),
        "acknowledgements": text.acknowledged_by_plan(day),
        "windows": text.windows_of_plan(day),
        "still_possible": text.still_possible_of_plan(),
    }
    list_id = UUID(named["id"]) if named is not None else None
    return signed(ledger, document=document, kind=PLAN, day=day, epoch=dates.newest, list_id=list_id)


def _items(intents: Sequence[DestructionIntended], facts: Sequence[Fact]) -> Iterator[dict[str, Any]]:
    """What was intended, item by item, with how many keys went and how many were set aside or spared.

    Of account holders it says how many were erased: their keys are on certificates of their own.
    """
    for intent in intents:
        keys, spared, escrowed = 0, 0, 0
        erased: dict[str, int] = {}
        for fact in facts:
            if getattr(fact, "item", None) != intent.item:
                continue
            if isinstance(fact, PeriodKeyDestroyed):
                keys += 1
            elif isinstance(fact, SubjectKeysExpired):
                keys, spared = keys + fact.keys, spared + fact.spared
            elif isinstance(fact, ClassKeysDestroyed):
                keys += fact.keys
            elif isinstance(fact, AccountHoldersErased):
                spared, erased = spared + fact.spared, {"persons_erased": fact.erased}
            escrowed += getattr(fact, "escrowed", 0)
        yield {
            "item": intent.item,
            "class": intent.retention_class,
            "period": intent.period,
            "clause": intent.clause,
            "due_on": intent.due_on,
            "keys": keys,
            "spared": spared,
            "kept_for_holds": escrowed,
            **erased,
        }
