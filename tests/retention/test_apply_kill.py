"""Kill -9 of a real process at each step of a plan: run again it converges, and each thing is done once (FAULTS 7)."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from api.bootstrap import Instance, running
from api.settings import Settings
from audit.fsck import require_whole_log
from domain.personal import Erased
from ledger.application import Ledger
from ledger.keys.names import TENANT_HOLDER, KeyName
from retention.plans.apply import Applied, apply_plan, finish_open_plans
from retention.plans.file import PlanRefused, read_plan, signed
from retention.policy.adopting import pack_of
from tests.acts import person, topics
from tests.retention.plans import ANNA, BERT, JANUARY, a_month_of_engagement, assert_done_once, hold, planned, record
from tests.support import SettableClock
from tests.workers import see_killed, start

pytestmark = pytest.mark.store

STEPS = (
    *(
        "retention.plans.intending.record_intents",
        "retention.plans.carrying_out.publish_month",
        "retention.plans.carrying_out.escrow_held",
    ),
    *(
        "ledger.keys.vault.Vault.destroy_keys",
        "ledger.keys.vault.Vault.destroy_condemned",
        "retention.plans.carrying_out.close_item",
    ),
    *(
        "retention.plans.carrying_out.CarryingOut._conclude",
        "retention.plans.carrying_out.absolve",
        "retention.plans.carrying_out.issue_for_plan",
    ),
)


def apply_and_die(settings: Settings, tenant: UUID, raw: bytes, now: str, step: str, after: bool) -> None:
    """Apply a plan in a process of its own, which kills itself at a step: before it, or when its work is committed."""
    owner, _, name = step.rpartition(".")
    found = _resolve(owner)
    real: Callable[..., Any] = getattr(found, name)

    def die(*arguments: Any, **more: Any) -> None:
        if after:
            real(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    moment = datetime.fromisoformat(now)
    with running(settings, clock=lambda: moment) as instance:
        ledger = instance.ledger(tenant)
        setattr(found, name, die)
        apply(ledger, raw)


def apply(ledger: Ledger, raw: bytes) -> Applied:
    return apply_plan(ledger, pack_of(ledger.accounts.state()), read_plan(ledger, raw))


def _resolve(path: str) -> Any:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        owner, _, name = path.rpartition(".")
        return getattr(_resolve(owner), name)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.rpartition(".")[2])
def test_a_killed_process_leaves_a_plan_that_converges(
    instance: Instance, ledger: Ledger, clock: SettableClock, step: str, after: bool
) -> None:
    """Given a process killed at a step, when the plan is applied again, then it is done once, and the held are safe."""
    a_month_of_engagement(ledger, clock)
    for address in (ANNA, BERT):
        record(ledger, address, JANUARY.date(), "support")
    hold(ledger, ANNA)
    clock.set(datetime.fromisoformat("2043-02-01T00:00:00+00:00"))
    plan = planned(ledger)
    raw = signed(ledger, plan)
    child = start(apply_and_die, instance.settings, ledger.tenant, raw, clock().isoformat(), step, after)
    see_killed(child, instance)
    # Whoever comes next may be the worker, which has no file, or the person who has it.
    finish_open_plans(ledger)
    apply(ledger, raw)
    assert_done_once(ledger, plan)
    require_whole_log(ledger.services.writer.url, ledger.tenant)
    ledger.keyring.forget_all()
    january = KeyName(TENANT_HOLDER, "engagement", "2040-01")
    assert january in ledger.services.vault.find(ledger.tenant, [january]).tombstones
    anna = ledger.keyring.opening_scope(person(ledger, ANNA).person.kid, "engagement", "2040-01")
    assert not isinstance(anna, Erased), "A held person's own key was set aside."
    of_bert = KeyName(person(ledger, BERT).person.records_kid, "support")
    assert of_bert in ledger.services.vault.find(ledger.tenant, [of_bert]).tombstones
    end = topics(ledger)
    assert apply(ledger, raw).again
    assert topics(ledger) == end


def test_a_process_killed_before_the_intent_has_done_nothing(
    instance: Instance, ledger: Ledger, clock: SettableClock
) -> None:
    """Given a process killed just before its intent, when a hold comes instead of a second try, then the hold wins."""
    a_month_of_engagement(ledger, clock)
    clock.set(datetime.fromisoformat("2042-02-01T00:00:00+00:00"))
    raw = signed(ledger, planned(ledger))
    before = topics(ledger)
    moment = clock().isoformat()
    child = start(
        apply_and_die, instance.settings, ledger.tenant, raw, moment, "retention.plans.intending.record_intents", False
    )
    see_killed(child, instance)
    assert topics(ledger) == before
    hold(ledger, kind="account")
    with pytest.raises(PlanRefused):
        apply(ledger, raw)
    ledger.keyring.period_key("engagement", "2040-01")
