"""Applying a plan: exactly what it says, once, and safe to kill at any point (DESIGN section 6, FAULTS 7 and 13).

    look       the plan is made again for its day; another digest means that facts changed, and nothing is done
    condemn    whose keys persons' items are about is noted in the vault, and digested once more
    intend     one append under the head lock, after holds were looked at again: from here on a hold is too late
    figures    what is to outlive a month is published
    escrow     held persons' own keys of a period or class are set aside
    destroy    the keys go, with tombstones; it is seen that opening gives `Erased`
    record     one fact for each item, and its row is closed with it
    finish     link generations are closed, the certificate is issued, `PlanApplied`

The way to the intent is `retention/plans/intending.py`; what follows it, `retention/plans/carrying_out.py`, is taken
up from the log and from the rows beside it, without the plan's file: a worker finishes what was cut off. How long it
takes until a month is unreachable does not depend on how many persons it has: one key goes.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from domain.keys import PlanApplied
from ledger.application import Ledger
from ledger.keys import condemned
from projections.alone import alone
from retention.certificates.of_plans import certify_plans
from retention.plans.carrying_out import Applied, CarryingOut, PlanIncomplete, Progress, told_of_plan
from retention.plans.file import require_fresh
from retention.plans.intending import Intending, absolve
from retention.plans.intents import open_plans, plan_facts
from retention.plans.model import Plan, PlanError
from retention.policy.pack import Pack

__all__ = ["Applied", "PlanBusy", "PlanIncomplete", "Progress", "apply_plan", "finish_open_plans"]


class PlanBusy(PlanError):
    """Another process applies a plan to this account."""


def apply_plan(ledger: Ledger, pack: Pack, plan: Plan, *, progress: Progress | None = None) -> Applied:
    """Do exactly what a plan says. Applying it twice is applying it once.

    Raises `PlanRefused` where it does not fit the account any more, `PlanBusy`, `PlanIncomplete`.
    """
    with alone(ledger.services.writer, _work(ledger)) as ours:
        if not ours:
            raise PlanBusy("Another process applies a plan to this account now. Wait for it to end.")
        before = _finished(ledger, plan.plan_id)
        _finish_open(ledger, progress)
        if before is not None:
            return before
        taken_up = _finished(ledger, plan.plan_id)
        if taken_up is not None:
            return replace(taken_up, again=False)
        require_fresh(plan, pack, ledger.services.due_clock())
        if not plan.items:
            return Applied(plan.plan_id, 0, 0, 0, str(plan.plan_id))
        Intending(ledger, pack, plan).intend()
        return CarryingOut(ledger, plan.plan_id, progress).run()


def finish_open_plans(ledger: Ledger, *, progress: Progress | None = None) -> list[Applied]:
    """Take up every plan of this account that was intended and cut off; nothing while another process is at it."""
    with alone(ledger.services.writer, _work(ledger)) as ours:
        return _finish_open(ledger, progress) if ours else []


def _finish_open(ledger: Ledger, progress: Progress | None) -> list[Applied]:
    with ledger.services.writer.transaction() as connection:
        unfinished = open_plans(connection, ledger.tenant)
    finished = [CarryingOut(ledger, plan_id, progress).run() for plan_id in unfinished]
    _absolve_all(ledger)
    certify_plans(ledger)
    return finished


def _work(ledger: Ledger) -> str:
    return f"retention plan {ledger.tenant}"


def _finished(ledger: Ledger, plan_id: UUID) -> Applied | None:
    """What became of a plan that was applied before, None for any other."""
    with ledger.services.writer.transaction() as connection:
        facts = plan_facts(connection, ledger, plan_id)
    applied = next((fact for fact in facts if isinstance(fact, PlanApplied)), None)
    return told_of_plan(plan_id, facts, applied, again=True) if applied is not None else None


def _absolve_all(ledger: Ledger) -> None:
    """Forget the condemned of plans that were killed before their intent or after their end, while none is open."""
    with ledger.services.vault.pool.transaction() as connection:
        plans = condemned.plans_with_condemned(connection, ledger.tenant)
    for plan_id in plans:
        absolve(ledger, plan_id)
