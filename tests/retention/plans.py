"""Scenes for plans: an account with a month of engagement, persons with records, and plans made and applied."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.facts import Fact
from domain.keys import CertificateIssued, DestructionIntended, PlanApplied
from domain.records import Record
from ledger.application import Ledger
from ledger.holds import HoldOn, HoldRow
from retention.plans.apply import Applied, apply_plan
from retention.plans.model import Plan, PlanItem
from retention.plans.plan import make_plan
from retention.policy.adopting import pack_of
from retention.policy.pack import Pack, load_pack
from tests.acts import ask, register, report, willing
from tests.support import SettableClock

ANNA, BERT, CLEO = "anna@example.com", "bert@example.com", "cleo@example.com"
JANUARY = datetime(2040, 1, 15, 12, tzinfo=UTC)
DUE = datetime(2042, 1, 1, tzinfo=UTC)
"""January 2040 under Mailkai's 24 months by calendar."""


def a_month_of_engagement(ledger: Ledger, clock: SettableClock, people: Sequence[str] = (ANNA, BERT)) -> UUID:
    """A campaign in January 2040 that these people clicked; the clock stands there."""
    clock.set(JANUARY)
    willing(ledger, list(people))
    campaign = register(ledger)
    asked = ask(ledger, campaign, people)
    report(ledger, [(token, "dispatched") for token in asked.allowed.values()], at=clock())
    clicks = [(token, "clicked") for token in asked.allowed.values()]
    report(ledger, clicks, at=clock(), ip="192.0.2.1", url="https://example.com/shoes")
    return campaign


def record(ledger: Ledger, email: str, day: date, retention_class: str = "billing") -> None:
    """One record about a person at the beginning of a day."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    answer = ledger.records.take([Record(retention_class, {"note": "x"}, "invoice", email, at)], actor="cli")
    assert answer.recorded == 1, answer.rejected


def planned(ledger: Ledger, pack: Pack | None = None) -> Plan:
    """The plan that would be made now."""
    return make_plan(ledger, pack or pack_of(ledger.accounts.state()), ledger.clock())


def applied(ledger: Ledger, plan: Plan | None = None, **more: Any) -> Applied:
    """What came of applying a plan, by default the one of this moment."""
    return apply_plan(ledger, pack_of(ledger.accounts.state()), plan or planned(ledger), **more)


def of_pack(name: str) -> Pack:
    """A pack that ships."""
    return load_pack(name)


def items(plan: Plan) -> dict[str, PlanItem]:
    """The items of a plan by name."""
    return {item.item: item for item in plan.items}


def kept_back(plan: Plan) -> dict[str, PlanItem]:
    """What a plan does not do, because it is held."""
    return {item.item: item for item in plan.kept_back}


def hold(ledger: Ledger, *addresses: str, **target: Any) -> HoldRow:
    """A hold on persons, or on what is named."""
    kind = target.pop("kind", "person")
    return ledger.holds.place(
        HoldOn(kind, addresses, **target),
        matter="Acme v. Example",
        reason="litigation",
        owner="legal",
        review_on=ledger.clock().date() + timedelta(days=365),
        actor="cli",
    )


def facts_of_plan(ledger: Ledger, plan_id: UUID) -> list[Fact]:
    """The stream of a plan."""
    return [ledger.sealing.open(event) for event in ledger.log.select_streams([plan_id])]


def assert_done_once(ledger: Ledger, plan: Plan) -> None:
    """Each item was intended and recorded once; one `PlanApplied` follows, and one certificate after it."""
    facts = facts_of_plan(ledger, plan.plan_id)
    intents = [fact.item for fact in facts if isinstance(fact, DestructionIntended)]
    assert sorted(intents) == sorted(item.item for item in plan.items)
    done = [fact.item for fact in facts if hasattr(fact, "item") and not isinstance(fact, DestructionIntended)]
    assert sorted(done) == sorted(intents)
    assert [type(fact) for fact in facts[-2:]] == [PlanApplied, CertificateIssued]
    assert sum(isinstance(fact, PlanApplied | CertificateIssued) for fact in facts) == 2
    with ledger.services.vault.pool.transaction() as connection:
        left = connection.execute("SELECT count(*) FROM lethe_vault.condemned WHERE tenant_id = %s", (ledger.tenant,))
        assert left.fetchone() == (0,)


def a_plan_at_work(ledger: Ledger, retention_class: str, period: str) -> str:
    """The intent of a plan that is not done yet, to destroy a period of a class; returns its certificate."""
    plan_id = uuid4()
    values = (ledger.tenant, plan_id, f"{retention_class}:{period}", retention_class, period, str(plan_id))
    with ledger.services.writer.transaction() as connection:
        connection.execute(
            "INSERT INTO lethe.destruction_intent (tenant_id, plan_id, item, class, period, certificate, intended_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (*values, ledger.clock()),
        )
    return str(plan_id)
