"""Retention on schedule: once a day each account's plan is made and applied, as somebody at a terminal would do it.

The same plan, the same checks, the same facts (invariant I9): only nobody reads it first. What was cut off is taken
up before anything new is planned, link keys that come due soon get their next generation, and what accounts that
ended have left lying about is swept up.
"""

from __future__ import annotations

from datetime import date
from threading import Lock
from uuid import UUID

import structlog

from ledger.application import Ledger
from ledger.keys.keyring import LINK
from retention.link_generations import open_due_generations
from retention.plans.apply import Applied, PlanBusy, apply_plan, finish_open_plans
from retention.plans.closure import sweep_closed_classes
from retention.plans.file import PlanRefused
from retention.plans.plan import make_plan
from retention.policy.adopting import pack_of

_log = structlog.get_logger(__name__)


class RetentionSchedule:
    """The worker's chore: does nothing more for an account on a day on which its plan was applied."""

    def __init__(self) -> None:
        self._done_on: dict[UUID, date] = {}
        self._lock = Lock()

    def __call__(self, ledger: Ledger) -> None:
        """Run for one account, if it was not run today (UTC, by the clock that things fall due by)."""
        finish_open_plans(ledger)
        if self._is_done(ledger, ledger.clock().date()):
            return
        today = ledger.services.due_clock().date()
        if self._is_done(ledger, today):
            return
        try:
            run_retention(ledger)
        except (PlanBusy, PlanRefused) as error:  # Somebody was faster, or was active just now: in the next round.
            _log.info("retention waits", tenant=str(ledger.tenant), why=str(error))
            return
        with self._lock:
            self._done_on[ledger.tenant] = today

    def _is_done(self, ledger: Ledger, day: date) -> bool:
        with self._lock:
            return self._done_on.get(ledger.tenant) == day


def run_retention(ledger: Ledger) -> Applied | None:
    """Make today's plan of one account and apply it; None where nothing is due. Raises `ClocksApart`."""
    pack, now = pack_of(ledger.accounts.state()), ledger.services.due_clock()
    open_due_generations(ledger, pack.rules[LINK], now.date())
    plan = make_plan(ledger, pack, now)
    applied = apply_plan(ledger, pack, plan) if plan.items else None
    if applied is not None:
        _log.info("retention applied", tenant=str(ledger.tenant), plan=str(plan.plan_id), keys=applied.keys)
    sweep_closed_classes(ledger)
    return applied
