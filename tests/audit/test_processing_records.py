"""Records of processing: declared beside observed, findings where they differ, as of any day, and what changed.

Each finding has its control: the same account where nothing is wrong does not show it (must-show 7).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from api.bootstrap import Instance
from api.processing import contradiction, record_of, terms_of_pack, transport_said
from audit.asof.moments import Meaning
from audit.records.difference import difference
from audit.records.findings import FINDINGS
from audit.records.model import Finding, RecordsOfProcessing
from audit.records.record import RecordRefused, records_of_processing
from audit.records.terms import PolicyTerms, Surroundings
from domain.records import Record
from domain.register import Kind, Register, amend, declare, in_turn, retire
from domain.register_shape import statement, values_of
from ledger.application import Ledger
from ledger.errors import UnknownAccount
from projections.observed import ObservedProcessing
from projections.worker import catch_up
from retention.policy.pack import load_pack
from retention.policy.seeding import seed
from tests.acts import ask, emails, register, report, topics, willing
from tests.retention.plans import DUE, a_month_of_engagement, applied, hold
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOW = datetime(2040, 3, 10, 12, tzinfo=UTC)
DIGEST = "ab" * 32
CONTROLLER = {"key": "acme", "role": "controller", "name": "Acme GmbH", "email": "office@acme.example"}
MAILKAI = load_pack("mailkai")


def made(ledger: Ledger, on: date | None = None, meaning: Meaning = "recorded", **changes: Any) -> RecordsOfProcessing:
    """The record of an account, everything counted; nothing is known against any measure."""
    catch_up(ledger, [ObservedProcessing()])
    around = Surroundings(lambda _: terms(**changes), lambda _: None)
    return records_of_processing(ledger, around, as_of=on, meaning=meaning)


def terms(**changes: Any) -> PolicyTerms:
    """What Mailkai promises."""
    return replace(terms_of_pack(MAILKAI), **changes)


def found(record: RecordsOfProcessing, code: str) -> list[Finding]:
    """The findings of one code."""
    return [finding for finding in record.findings if finding.code == code]


def findings(record: RecordsOfProcessing) -> set[tuple[str, str]]:
    """Every finding (no note), by code and what it is about."""
    return {(finding.code, finding.about) for finding in record.findings if finding.severity == "finding"}


def state(ledger: Ledger, kind: Kind, *entries: dict[str, Any], since: date | None = None) -> None:
    """Declare entries."""
    decide = in_turn([_declaring(kind, values) for values in entries])
    ledger.registers.change(decide, actor="cli", since=since)


def change(ledger: Ledger, kind: Kind, key: str, since: date | None = None, **changes: Any) -> None:
    """Amend an entry."""
    entry = ledger.registers.state().entry(kind, key)
    assert entry is not None
    stated = statement(kind, values_of(entry.stated) | changes)
    ledger.registers.change(lambda held: amend(held, stated), actor="cli", since=since)


def end(ledger: Ledger, kind: Kind, key: str) -> None:
    """Retire an entry."""
    ledger.registers.change(lambda held: retire(held, kind, key, "ended"), actor="cli")


def _declaring(kind: Kind, values: dict[str, Any]) -> Any:
    stated = statement(kind, values)
    return lambda held: declare(held, stated)


def in_order(ledger: Ledger) -> None:
    """An account that has declared everything it does, documents included."""
    seed(ledger, actor="cli")
    state(ledger, "party", CONTROLLER)
    change(ledger, "safeguard", "clauses-us", document_sha256=DIGEST)


def mailed(ledger: Ledger, people: Iterable[str]) -> None:
    """People who agreed, were mailed, and clicked."""
    people = list(people)
    willing(ledger, people)
    asked = ask(ledger, register(ledger), people)
    tokens = list(asked.allowed.values())
    report(ledger, [(token, "dispatched") for token in tokens], at=ledger.clock())
    clicks = [(token, "clicked") for token in tokens]
    report(ledger, clicks, at=ledger.clock(), ip="192.0.2.1", url="https://example.com")


# The record ---------------------------------------------------------------------------------------------------------


def test_what_was_declared_stands_beside_what_was_observed(ledger: Ledger, clock: SettableClock) -> None:
    """Given an account that declares what it does and does it, then the record has both, and nothing is found."""
    clock.set(NOW)
    in_order(ledger)
    mailed(ledger, emails(3))
    record = made(ledger)
    assert findings(record) == set()
    assert [activity.key for activity in record.of_role("controller")] == ["campaigns", "engagement", "evidence"]
    assert [activity.key for activity in record.of_role("processor")] == ["delivery"]
    assert [party.name for party in record.party("controller")] == ["Acme GmbH"]
    assert record.account_name == "Acme GmbH"
    categories = {seen.category.code: seen for seen in record.observed.categories}
    assert categories["identity"].events == 3
    assert categories["engagement"].declared_by == ("delivery", "engagement")
    (sender,) = (seen for seen in record.observed.recipients if seen.code == "sender:cli")
    assert (sender.events, sender.declared_as) == (3, ("mail-delivery",))
    transfer = record.activities[0].transfers[0]
    assert (transfer.country, transfer.safeguard, transfer.document_sha256) == ("US", "clauses-us", DIGEST)
    assert record.position == ledger.log.max_notification_id() == record.observed.counted_to


def test_a_record_says_when_keys_fall_due(ledger: Ledger, clock: SettableClock) -> None:
    """Given engagement of January 2040 under 24 months, then its key is due on the first of January 2042."""
    a_month_of_engagement(ledger, clock)
    keys = {(key.category, key.kind): key for key in made(ledger).observed.oldest_keys or ()}
    assert keys["engagement", "period"].oldest == "2040-01"
    assert keys["engagement", "period"].due_on == DUE.date()
    assert keys["engagement", "period"].clause == "8 usage & analytics"
    assert keys["identity", "person"].due_on is None


def test_retention_that_happened_is_told_with_its_clause(ledger: Ledger, clock: SettableClock) -> None:
    """Given a plan that was applied, then what it destroyed is there by clause; as of the day before, nothing."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    applied(ledger)
    record = made(ledger)
    enforced = {(done.category, done.clause): done for done in record.observed.enforced}
    assert enforced["engagement", "8 usage & analytics"].periods == ("2040-01",)
    assert record.observed.last_plan_on == DUE.date()
    assert made(ledger, DUE.date() - timedelta(days=1)).observed.enforced == ()


def test_an_account_that_is_not_there_has_no_record(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given a day before the opening, a day to come, and an unknown account, then each is refused for what it is."""
    clock.set(NOW)
    with pytest.raises(RecordRefused) as refused:
        made(ledger, date(2020, 1, 1))
    assert refused.value.reason == "before_the_account"
    with pytest.raises(RecordRefused) as refused:
        made(ledger, NOW.date() + timedelta(days=1))
    assert refused.value.reason == "in_the_future"
    unknown = type(ledger)(ledger.tenant.__class__(int=7), instance.services)
    with pytest.raises(UnknownAccount):
        records_of_processing(unknown, Surroundings(lambda _: terms(), lambda _: None))


# Findings -----------------------------------------------------------------------------------------------------------


def test_a_category_that_nobody_declared_is_found(ledger: Ledger, clock: SettableClock) -> None:
    """Given letters to support in an account that declares none, then that is a finding; declared, it is none."""
    clock.set(NOW)
    in_order(ledger)
    assert not found(made(ledger), "undeclared_category")
    willing(ledger, emails(1))
    ledger.records.take([Record("support", {"letter": "hello"}, "ticket", emails(1)[0])], actor="cli")
    (finding,) = found(made(ledger), "undeclared_category")
    assert (finding.about, finding.since) == ("support", NOW.date())
    assert "record.support.v1" in finding.words
    categories = [*values_of_entry(ledger, "delivery")["categories"], "support"]
    limits = values_of_entry(ledger, "delivery")["limits"] | {"support": "last_interaction:P36M"}
    change(ledger, "activity", "delivery", categories=categories, limits=limits)
    assert findings(made(ledger)) == set()


def test_what_a_retired_activity_left_is_found_until_its_keys_are_gone(
    ledger: Ledger, instance: Instance, clock: SettableClock
) -> None:
    """Given an activity that ended and left data, then that is found; once nothing of it opens, it is not."""
    clock.set(NOW)
    in_order(ledger)
    willing(ledger, emails(1))
    activity = {"key": "desk", "role": "controller", "name": "Desk", "purposes": ["To help."], "subjects": ["contact"]}
    state(ledger, "activity", activity | {"categories": ["support"], "limits": {"support": "last_interaction:P3Y"}})
    ledger.records.take([Record("support", {"letter": "hello"}, "ticket", emails(1)[0])], actor="cli")
    assert findings(made(ledger)) == set()
    end(ledger, "activity", "desk")
    (finding,) = found(made(ledger), "retired_with_data")
    assert (finding.about, finding.since) == ("support", NOW.date())
    assert not found(made(ledger), "undeclared_category")
    instance.services.vault.destroy_period(ledger.tenant, "support", "2040-03", when=NOW, cause="test")
    assert findings(made(ledger)) == set()


def test_a_recipient_that_nobody_declared_is_found(ledger: Ledger, clock: SettableClock) -> None:
    """Given a sender whom no recipient stands for, then that is a finding, until one does."""
    clock.set(NOW)
    in_order(ledger)
    mailed(ledger, emails(2))
    assert not found(made(ledger), "undeclared_recipient")
    change(ledger, "recipient", "mail-delivery", seen_as=["sender:key:0011*", "feed:senders"])
    (finding,) = found(made(ledger), "undeclared_recipient")
    assert (finding.about, finding.severity) == ("sender:cli", "finding")
    assert "2 events" in finding.words
    state(ledger, "recipient", {"key": "ours", "recipient_kind": "partner", "name": "Us", "seen_as": ["sender:cli"]})
    assert not found(made(ledger), "undeclared_recipient")


def test_a_key_alive_after_its_day_is_found(ledger: Ledger, clock: SettableClock) -> None:
    """Given engagement of January 2040, then on its last day nothing is found, after it the key is overdue with its
    clause, a hold is named that may keep it back, and once a plan was applied it is found no more."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    assert not found(made(ledger), "overdue_key")
    clock.set(DUE + timedelta(days=1))
    overdue = found(made(ledger), "overdue_key")
    assert {finding.about for finding in overdue} == {"engagement", "engagement_technical", "link"}
    assert {(finding.since, finding.clause) for finding in overdue} == {(DUE.date(), "8 usage & analytics")}
    assert not any("legal holds" in finding.words for finding in overdue)
    placed = hold(ledger, kind="account")
    assert all("legal holds" in finding.words for finding in found(made(ledger), "overdue_key"))
    ledger.holds.release(placed.hold_id, actor="cli")
    applied(ledger)
    assert not found(made(ledger), "overdue_key")


def test_keys_of_an_ended_account_are_found_when_their_days_have_run(ledger: Ledger, clock: SettableClock) -> None:
    """Given a terminated account, then what should be gone 60 days later is overdue on the 61st."""
    clock.set(NOW)
    willing(ledger, emails(1))
    ledger.accounts.terminate(actor="cli")
    clock.set(NOW + timedelta(days=60))
    assert not found(made(ledger), "overdue_key")
    clock.set(NOW + timedelta(days=61))
    overdue = {finding.about: finding.clause for finding in found(made(ledger), "overdue_key")}
    assert overdue["identity"] == "8 campaign & subscriber"
    assert "content" not in overdue, "Account data has 90 days."


def test_a_transfer_without_a_safeguard_is_found(ledger: Ledger, clock: SettableClock) -> None:
    """Given a recipient in India and one in Norway, then the first needs a safeguard that covers India."""
    clock.set(NOW)
    in_order(ledger)
    abroad = {"key": "abroad", "recipient_kind": "partner", "name": "Abroad", "safeguards": ["clauses-us"]}
    state(ledger, "recipient", abroad | {"countries": ["IN", "NO", "DE"]})
    (finding,) = found(made(ledger), "transfer_without_safeguard")
    assert finding.about == "abroad IN"
    change(ledger, "safeguard", "clauses-us", countries=["US", "IN"])
    assert findings(made(ledger)) == set()


def test_a_safeguard_without_its_document_is_found(ledger: Ledger) -> None:
    """Given clauses without a document, then that is a finding; an adequacy decision needs none."""
    in_order(ledger)
    state(ledger, "safeguard", {"key": "ok", "mechanism": "adequacy", "name": "Adequacy", "countries": ["JP"]})
    assert not found(made(ledger), "safeguard_without_document")
    state(ledger, "safeguard", {"key": "bare", "mechanism": "bcr", "name": "Rules", "countries": ["IN"]})
    assert [finding.about for finding in found(made(ledger), "safeguard_without_document")] == ["bare"]


def test_time_limits_are_compared_with_the_policy(ledger: Ledger) -> None:
    """Given an activity without a limit and one with another than the policy's, then both are found, and no other."""
    in_order(ledger)
    assert findings(made(ledger)) == set()
    limits = values_of_entry(ledger, "engagement")["limits"]
    change(ledger, "activity", "engagement", limits=limits | {"engagement": "calendar:P36M"})
    (finding,) = found(made(ledger), "time_limit_differs")
    assert finding.about == "engagement"
    assert "3 years" in finding.words
    assert "24 months" in finding.words
    del limits["engagement"]
    clauses = {
        name: clause for name, clause in values_of_entry(ledger, "engagement")["clauses"].items() if name in limits
    }
    change(ledger, "activity", "engagement", limits=limits, clauses=clauses)
    (finding,) = found(made(ledger), "no_time_limit")
    assert (finding.about, "engagement" in finding.words) == ("engagement", True)


def test_a_measure_that_is_known_to_be_untrue_is_found(ledger: Ledger, clock: SettableClock) -> None:
    """Given a measure that the program contradicts, then it is found today; of an earlier day nobody can say."""
    clock.set(NOW)
    in_order(ledger)
    clock.set(NOW + timedelta(days=1))
    around = Surroundings(lambda _: terms(), lambda code: "it is not so." if code == "tls-1.2" else None)
    (finding,) = found(records_of_processing(ledger, around), "measure_untrue")
    assert (finding.about, finding.words) == ("delivery", "tls-1.2: it is not so.")
    assert not found(records_of_processing(ledger, around, as_of=NOW.date()), "measure_untrue")


def test_what_article_30_asks_for_is_missed(ledger: Ledger) -> None:
    """Given an account that declared nothing, then that is found; without a party or persons each is found."""
    assert findings(made(ledger)) == {("nothing_declared", "activities"), ("undeclared_category", "content")}
    seed(ledger, actor="cli")
    assert ("missing_party", "controller") in findings(made(ledger))
    state(ledger, "party", CONTROLLER)
    assert not found(made(ledger), "missing_party")
    end(ledger, "party", "mailkai")
    assert ("missing_party", "processor") in findings(made(ledger))
    change(ledger, "activity", "campaigns", subjects=[])
    assert ("no_subjects", "campaigns") in findings(made(ledger))


def test_every_code_is_explained() -> None:
    """Given the findings, then each has a severity, a meaning and an act, and notes ask for nothing urgent."""
    for severity, meaning, what_to_do in FINDINGS.values():
        assert severity in ("finding", "note")
        assert meaning.endswith(".")
        assert what_to_do


# As of any day ------------------------------------------------------------------------------------------------------


def test_a_record_as_of_a_day_is_what_was_known_or_what_was_true(ledger: Ledger, clock: SettableClock) -> None:
    """Given an activity declared on the 10th, true since the 3rd, then the 5th knew nothing of it, and it was true."""
    clock.set(NOW - timedelta(days=9))
    seed(ledger, actor="cli")
    clock.set(NOW)
    activity = {"key": "desk", "role": "controller", "name": "Desk", "purposes": ["To help."]}
    state(ledger, "activity", activity, since=date(2040, 3, 3))
    end(ledger, "activity", "engagement")
    the_5th = date(2040, 3, 5)
    keys = {activity.key for activity in made(ledger, the_5th).activities}
    assert "engagement" in keys
    assert "desk" not in keys
    was = made(ledger, the_5th, "occurred")
    assert {"desk", "engagement"} <= {activity.key for activity in was.activities}
    assert not {"desk"} & {activity.key for activity in made(ledger, date(2040, 3, 2), "occurred").activities}
    today = made(ledger)
    assert [activity.key for activity in today.retired] == ["engagement"]
    (desk,) = (activity for activity in today.activities if activity.key == "desk")
    assert desk.declared_on == date(2040, 3, 3)


def test_a_record_of_the_past_does_not_change(ledger: Ledger, clock: SettableClock) -> None:
    """Given a record as of a day as it was known, when more happens later, then the same record is told again."""
    clock.set(NOW)
    in_order(ledger)
    mailed(ledger, emails(2))
    clock.set(NOW + timedelta(days=1))
    before = made(ledger, NOW.date())
    assert before.observed.oldest_keys is None
    assert found(before, "keys_not_told")
    mailed(ledger, emails(2, "other"))
    end(ledger, "activity", "engagement")
    change(ledger, "activity", "campaigns", name="Mail")
    ledger.erasures.intend(emails(1), reason="asked", actor="cli")
    after = made(ledger, NOW.date())
    assert (after.activities, after.parties, after.position) == (before.activities, before.parties, before.position)
    assert after.observed.categories == before.observed.categories
    assert after.observed.recipients == before.observed.recipients


def test_a_record_made_before_the_log_is_counted_says_so(ledger: Ledger) -> None:
    """Given events that no worker has counted yet, then the record notes how far it was counted."""
    in_order(ledger)
    assert not found(made(ledger), "not_counted")
    willing(ledger, emails(1))
    around = Surroundings(lambda _: terms(), lambda _: None)
    (note,) = found(records_of_processing(ledger, around), "not_counted")
    assert note.severity == "note"


# Difference ---------------------------------------------------------------------------------------------------------


def test_the_difference_between_two_days(ledger: Ledger, clock: SettableClock) -> None:
    """Given two days with everything in between, then each change is named, and nothing that stayed as it was."""
    clock.set(NOW)
    in_order(ledger)
    clock.set(NOW + timedelta(days=1))
    mailed(ledger, emails(2))
    end(ledger, "activity", "engagement")
    change(ledger, "activity", "campaigns", name="Mail")
    state(ledger, "recipient", {"key": "new", "recipient_kind": "partner", "name": "New"})
    later = made(ledger)
    changes = difference(made(ledger, NOW.date()), later).changes
    declared = {(c.register, c.what, c.key, c.part) for c in changes if c.register in ("activity", "recipient")}
    assert declared == {
        ("activity", "retired", "engagement", None),
        ("activity", "amended", "campaigns", "name"),
        ("recipient", "declared", "new", None),
    }
    (name,) = (c for c in changes if c.part == "name")
    assert (name.before, name.after) == ("Email campaigns to contacts and subscribers", "Mail")
    seen = {(c.key, c.what) for c in changes if c.register in ("category", "recipient_seen")}
    assert ("identity", "appeared") in seen
    assert ("content", "grew") in seen
    assert ("sender:cli", "appeared") in seen
    assert difference(later, later).changes == ()


def test_a_finding_that_came_or_went_is_a_change(ledger: Ledger, clock: SettableClock) -> None:
    """Given a document that was recorded, then the finding is gone in the difference."""
    clock.set(NOW)
    seed(ledger, actor="cli")
    state(ledger, "party", CONTROLLER)
    clock.set(NOW + timedelta(days=1))
    change(ledger, "safeguard", "clauses-us", document_sha256=DIGEST)
    changes = difference(made(ledger, NOW.date()), made(ledger)).changes
    assert [(c.what, c.key) for c in changes if c.register == "finding"] == [("gone", "clauses-us")]


def test_only_records_of_one_account_are_compared(ledger: Ledger) -> None:
    """Given two accounts, then their records are not compared."""
    record = made(ledger)
    with pytest.raises(ValueError, match="one account"):
        difference(record, replace(record, tenant=ledger.tenant.__class__(int=1)))


# What composition knows ---------------------------------------------------------------------------------------------


def test_a_natural_persons_name_is_a_view(instance: Instance, ledger: Ledger) -> None:
    """Given a party with a person's name, when a record is made, then that is recorded; without one it is not (I8)."""
    state(ledger, "party", CONTROLLER)
    before = topics(ledger)
    record_of(instance, ledger, actor="key:1")
    assert topics(ledger) == before
    state(ledger, "party", {"key": "dpo", "role": "controller_dpo", "name": "Officer", "person": "Ada Lovelace"})
    before = topics(ledger)
    record_of(instance, ledger, actor="key:1")
    assert topics(ledger) == [*before, "access.viewed.v1"]


def test_a_connection_in_the_clear_contradicts_tls() -> None:
    """Given a connection over a network, then no TLS or an older one is said; a socket of the machine is not."""
    both, newest = ("TLSv1.2", "TLSv1.3"), ("TLSv1.3",)
    assert transport_said(_Carried(local=False, version=None), both) == "is not encrypted"  # type: ignore[arg-type]
    assert transport_said(_Carried(local=False, version="TLSv1.2"), newest) == "uses TLSv1.2"  # type: ignore[arg-type]
    assert transport_said(_Carried(local=False, version="TLSv1.2"), both) is None  # type: ignore[arg-type]
    assert transport_said(_Carried(local=True, version=None), newest) is None  # type: ignore[arg-type]


def test_what_the_program_knows_of_measures(instance: Instance) -> None:
    """Given this program, then nobody signs in with a second factor, keys are in two places, and sealing is true."""
    assert contradiction(instance, "second-factor") is not None
    assert contradiction(instance, "key-copies") is None
    assert contradiction(instance, "sealing") is None
    assert contradiction(instance, "tls-1.3") is None, "The tests' databases are behind a socket of this machine."


class _Carried:
    """A connection that is carried in a certain way."""

    def __init__(self, *, local: bool, version: str | None) -> None:
        self._row = (local, version)

    def execute(self, _: str) -> _Carried:
        """Answer any question."""
        return self

    def fetchone(self) -> tuple[bool, str | None]:
        """The one row."""
        return self._row


def values_of_entry(ledger: Ledger, key: str) -> dict[str, Any]:
    """An activity as it stands, in plain values."""
    held: Register = ledger.registers.state()
    entry = held.entry("activity", key)
    assert entry is not None
    return values_of(entry.stated)
