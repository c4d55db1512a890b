"""Certificates of plans: what went, item by item, issued once, and of persons no more than how many (DESIGN 6)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import psycopg
import pytest

from audit.attacks.links import LinksAttack
from domain.keys import CertificateIssued
from ledger.application import Ledger
from ledger.certificate_format import checked_certificate, digest_of
from ledger.embedded import EmbeddedPostgres
from ledger.keys.names import TENANT_HOLDER, KeyName, key_commitment
from ledger.signing import verify_key
from retention.certificates import of_plans as plan_certificates
from retention.certificates.commitments import publish_commitments
from retention.certificates.of_plans import PlanNotApplied, certify_plans, issue_for_plan
from retention.certificates.store import certificate, exported
from retention.daily import run_daily
from retention.plans import carrying_out
from tests.acts import emails, person
from tests.kills import Killed, killed_at
from tests.retention.plans import DUE, a_month_of_engagement, applied, planned, record
from tests.support import SettableClock

pytestmark = pytest.mark.store


def checked(ledger: Ledger, plan_id: UUID) -> tuple[Any, Any]:
    """The certificate of a plan and its list, after it was checked offline."""
    held = exported(ledger, certificate(ledger, plan_id))
    return checked_certificate(orjson.dumps(held), verify_key(ledger.keyring)), held["destroyed_keys"]


def issued(ledger: Ledger) -> list[CertificateIssued]:
    found = [ledger.sealing.open(event) for event in ledger.log.select_log(1, 10_000)]
    return [fact for fact in found if isinstance(fact, CertificateIssued)]


def test_a_plan_is_certified_item_by_item(ledger: Ledger, clock: SettableClock) -> None:
    """Given a month that is due, when its plan is applied, then the certificate names items, clauses and keys."""
    a_month_of_engagement(ledger, clock)
    name = KeyName(TENANT_HOLDER, "engagement", "2040-01")
    key = ledger.services.vault.find(ledger.tenant, [name]).keys[name]
    clock.advance(timedelta(days=1))
    publish_commitments(ledger, clock())
    clock.set(DUE)
    done = applied(ledger)
    said, keys = checked(ledger, done.plan_id)
    assert (said["id"], said["stage"], said["about"]["kind"]) == (str(done.plan_id), 1, "plan")
    assert said["unreachable_from"] == "2042-01-01"
    items = {item["item"]: item for item in said["about"]["items"]}
    assert set(items) == {"engagement:2040-01", "engagement_technical:2040-01", "link:2040-01"}
    engagement = items["engagement:2040-01"]
    assert (engagement["clause"], engagement["due_on"], engagement["keys"]) == ("8 usage & analytics", "2042-01-01", 1)
    assert said["keys"]["count"] == done.keys == len(keys["keys"]) == 3
    line = next(line for line in keys["keys"] if line["class"] == "engagement")
    assert line["commitment"] == key_commitment(key).hex()
    assert (line["made_on"], line["index"] is not None) == ("2040-01-15", True)
    (fact,) = issued(ledger)
    assert (fact.originator_id, fact.stage, fact.digest) == (done.plan_id, 1, digest_of(said))


def test_it_is_issued_once(ledger: Ledger, clock: SettableClock) -> None:
    """Given a certified plan, when it is asked for again, or the chore looks, then there is one, and one fact."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    done = applied(ledger)
    first = certificate(ledger, done.plan_id)
    assert issue_for_plan(ledger, done.plan_id) == first
    assert certify_plans(ledger) == []
    assert len(issued(ledger)) == 1


def test_nothing_is_certified_before_it_is_done(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a plan that is cut off, or that never was, when its certificate is asked for, then there is none yet."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    with killed_at(monkeypatch, carrying_out, "close_item"):
        applied(ledger, plan)
    for plan_id in (plan.plan_id, uuid4()):
        with pytest.raises(PlanNotApplied):
            issue_for_plan(ledger, plan_id)


@pytest.mark.parametrize("step", ["destroyed_list", "insert_certificates", "record_issued", "_silence"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_while_issuing_the_daily_chore_makes_up_for_it(
    ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """Given a run cut off at its certificate, when the daily chore looks, then it is issued, once."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    plan = planned(ledger)
    real = getattr(plan_certificates, step)

    def killed(*arguments: Any, **more: Any) -> Any:
        if step == "_silence" and not issued(ledger):  # Before a plan is applied those before it are looked at.
            return real(*arguments, **more)
        if after:
            real(*arguments, **more)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(plan_certificates, step, killed)
        with pytest.raises(Killed):
            applied(ledger, plan)
    run_daily(ledger)
    checked(ledger, plan.plan_id)
    assert len(issued(ledger)) == 1


def test_persons_keys_are_listed_and_tie_nobody_to_anybody(
    server: EmbeddedPostgres, ledger: Ledger, clock: SettableClock
) -> None:
    """Given bills of ten persons past their time, when their keys went, then the list leads from none to another."""
    people = emails(10)
    a_month_of_engagement(ledger, clock, people)
    for address in people:
        record(ledger, address, date(2040, 1, 2))
        clock.advance(timedelta(seconds=1))
    own, *others = [UUID(bytes=person(ledger, address).person.subject) for address in people]
    clock.set(DUE.replace(year=2047, month=6))
    done = applied(ledger)
    said, keys = checked(ledger, done.plan_id)
    bills = [line for line in keys["keys"] if line["class"] == "billing"]
    assert len(bills) == 10
    assert next(item["keys"] for item in said["about"]["items"] if item["class"] == "billing") == 10
    attack = LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=ledger.services.vault.provider,
        tenant=ledger.tenant,
    )
    found = {lead.stream for lead in attack.leads(people[0])}
    assert own in found
    assert found.isdisjoint(others)
    update = b"UPDATE lethe_vault.tombstone SET destroyed = %s WHERE class = 'billing' AND holder = %s"
    with psycopg.connect(server.url("lethe_vault"), autocommit=True) as superuser:
        for line, address in zip(bills, people, strict=True):
            told = [f"billing||1|{line['made_on']}|{line['commitment']}"]
            superuser.execute(update, (told, person(ledger, address).person.records_kid))
    found = {lead.stream for lead in attack.leads(people[0])}
    assert set(others) <= found, "Tombstones that still tell would be found."


def test_a_long_list_is_cut_and_says_so(ledger: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more keys than a list may hold, when the plan is certified, then all are counted and some are listed."""
    monkeypatch.setattr(plan_certificates, "KEYS_LISTED_MAX", 2)
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    done = applied(ledger)
    said, keys = checked(ledger, done.plan_id)
    assert (said["keys"]["count"], said["keys"]["list"]["keys"], len(keys["keys"])) == (3, 2, 2)
