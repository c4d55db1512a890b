"""Certificates list exports about many persons in which parts were opened, and tell nobody by it (decision 0039)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

import ledger.exports as ledger_exports
from api.bootstrap import Instance
from api.bundling import collected_by_id
from audit.attacks.links import LinksAttack
from audit.bundles.period import collect_period
from audit.bundles.person import collect_person
from audit.trail.export import TrailExport
from audit.trail.section import section_of
from audit.verify.errors import ClaimRefused
from ledger.application import Ledger
from ledger.certificate_format import checked_certificate
from ledger.embedded import EmbeddedPostgres
from ledger.exports import opened_stream_id
from ledger.signing import verify_key
from projections.worker import catch_up
from retention.certificates import text
from retention.certificates.exports import is_of_many
from retention.certificates.issuing import listed
from retention.certificates.of_plans import issue_for_plan
from retention.certificates.pdf import EXPORTS_OF_MANY, EXPORTS_OF_PERSON, certificate_pdf
from retention.certificates.store import Certificate, certificate, exported, signed
from retention.daily import run_daily
from retention.erasure import days as erasure_days
from retention.erasure.erasing import finish_erasures
from retention.horizon.horizon import Horizon
from tests.acts import ask, emails, person, register, willing
from tests.audit.bundling import make, verified
from tests.audit.publishing import publish
from tests.pdfs import words
from tests.retention.plans import DUE, JANUARY, a_month_of_engagement, applied
from tests.rolls import new_account
from tests.support import SettableClock

pytestmark = pytest.mark.store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
OUT_OF_REACH = "out of reach of this destruction"
EARLY, LATE = emails(3, "early"), emails(3, "late")


@pytest.fixture
def clock(clock: SettableClock) -> SettableClock:
    """Noon of a day, standing still."""
    clock.set(NOON)
    return clock


@pytest.fixture
def peopled(clock: SettableClock, ledger: Ledger) -> Ledger:
    """Three persons of November, and three more who came on the 10th of December; the clock stands there."""
    willing(ledger, EARLY)
    clock.advance(timedelta(days=19))
    willing(ledger, LATE)
    return ledger


def trail(ledger: Ledger, *, opened: bool = True) -> None:
    """Have the whole trail exported."""
    for _ in TrailExport(ledger, section_of(ledger), "ndjson", opened=opened, actor="cli").blocks():
        pass


def erase(ledger: Ledger, *addresses: str) -> list[UUID]:
    """Erase persons to the end; returns the ids of their certificates."""
    ledger.erasures.intend(list(addresses), reason="subject_request", actor="cli")
    return [outcome.certificate_id for outcome in finish_erasures(ledger)]


def days_later(ledger: Ledger, clock: SettableClock, days: int = 1) -> None:
    """The daily chores, so many days later."""
    clock.advance(timedelta(days=days))
    run_daily(ledger)


def said_of(ledger: Ledger, certificate_id: UUID) -> Any:
    """The certificate's document, after it was checked offline."""
    held = exported(ledger, certificate(ledger, certificate_id))
    return checked_certificate(orjson.dumps(held), verify_key(ledger.keyring))


def of_many(document: Any) -> list[tuple[str, str, int]]:
    """Month, kind and count of what a certificate lists of exports about many."""
    assert all(row["opened"] for row in document["exports"] if is_of_many(row))
    return [(row["month"], row["kind"], row["count"]) for row in document["exports"] if is_of_many(row)]


def state_of_exports(document: Any) -> str:
    return text.exports_said(document["inventory"])


# An erasure ----------------------------------------------------------------------------------------------------------


def test_opened_exports_about_many_are_listed_when_the_day_is_over(
    instance: Instance, peopled: Ledger, clock: SettableClock, tmp_path: Path
) -> None:
    """Given opened exports of the trail, a period and a campaign, when a person is erased, then their certificate
    lists them apart from those about this person, by month and kind; until the day is over it says that it will."""
    campaign = register(peopled)
    ask(peopled, campaign, EARLY)
    for collected in (collect_period(peopled), collected_by_id(peopled, "campaign", campaign)):
        _, made = make(instance, peopled, collected, tmp_path, opened=True)
        assert made.counts.opened
    make(instance, peopled, collect_person(peopled, EARLY[0]), tmp_path, opened=True)
    clock.advance(timedelta(days=30))
    trail(peopled)
    trail(peopled)
    (certificate_id,) = erase(peopled, EARLY[0])
    first = said_of(peopled, certificate_id)
    own = [{"about": "person", "kind": "bundle.person", "month": "2026-12", "opened": True, "count": 1}]
    assert first["exports"] == own
    assert state_of_exports(first).endswith("are added when the day is over")
    days_later(peopled, clock)
    second = said_of(peopled, certificate_id)
    assert second["exports"][:1] == own
    assert of_many(second) == [
        ("2026-12", "bundle.campaign", 1),
        ("2026-12", "bundle.period", 1),
        ("2027-01", "trail", 2),
    ]
    assert state_of_exports(second).endswith("are listed apart, as they may hold something of this person")
    assert text.EXPORTS_SHARED in second["still_possible"]
    assert certificate_pdf(exported(peopled, certificate(peopled, certificate_id))).startswith(b"%PDF")


def test_a_replay_that_shows_addresses_counts(peopled: Ledger, clock: SettableClock) -> None:
    """Given anything else that notes that it opens parts of many, then it is listed under its own name."""
    peopled.exports.note_opened("replay", actor="cli")
    (certificate_id,) = erase(peopled, LATE[0])
    days_later(peopled, clock)
    assert of_many(said_of(peopled, certificate_id)) == [("2026-12", "replay", 1)]


def test_what_opened_nothing_is_not_listed(
    instance: Instance, peopled: Ledger, clock: SettableClock, tmp_path: Path
) -> None:
    """Given exports in which nothing was opened, or about another person alone, then no certificate lists them."""
    trail(peopled, opened=False)
    make(instance, peopled, collect_period(peopled), tmp_path)
    make(instance, peopled, collect_person(peopled, EARLY[1]), tmp_path, opened=True)
    (certificate_id,) = erase(peopled, EARLY[0])
    days_later(peopled, clock)
    said = said_of(peopled, certificate_id)
    assert said["exports"] == []
    assert "no other in which parts were opened is on record" in state_of_exports(said)
    assert text.EXPORTS_SHARED not in said["still_possible"]


def test_exports_from_before_a_person_came_and_after_they_went_are_not_listed(
    peopled: Ledger, clock: SettableClock
) -> None:
    """Given exports on the day before the first key was made, on that day, on the last and on the day after it, then
    those of the two days are listed and the others are not."""
    clock.advance(timedelta(days=1))
    trail(peopled)  # The 11th: before the newcomers.
    clock.advance(timedelta(days=1))
    newcomers = emails(1, "new")
    willing(peopled, newcomers)
    trail(peopled)
    (certificate_id,) = erase(peopled, *newcomers)
    clock.advance(timedelta(hours=11, minutes=59))
    trail(peopled)  # The last minute of the 12th: other processes may have been opening since before the erasure.
    clock.advance(timedelta(minutes=2))
    trail(peopled)
    days_later(peopled, clock)
    trail(peopled)
    assert of_many(said_of(peopled, certificate_id)) == [("2026-12", "trail", 2)]


def test_an_export_under_way_is_listed(peopled: Ledger, clock: SettableClock) -> None:
    """Given an export that has begun to leave when a person is erased, and goes on for days, then it is listed."""
    blocks = TrailExport(peopled, section_of(peopled), "ndjson", opened=True, actor="cli").blocks()
    assert EARLY[0].encode() in next(blocks)
    (certificate_id,) = erase(peopled, EARLY[0])
    days_later(peopled, clock, 2)
    assert list(blocks) == []
    assert of_many(said_of(peopled, certificate_id)) == [("2026-12", "trail", 1)]


def test_another_accounts_exports_are_not_listed(peopled: Ledger, other_account: Ledger, clock: SettableClock) -> None:
    """Given opened exports of another account, then this one's certificates say nothing of them."""
    trail(other_account)
    (certificate_id,) = erase(peopled, EARLY[0])
    days_later(peopled, clock)
    assert of_many(said_of(peopled, certificate_id)) == []
    (theirs,) = erase(other_account, LATE[0])
    days_later(other_account, clock)
    assert of_many(said_of(other_account, theirs)) == [("2026-12", "trail", 1)]


@pytest.fixture
def other_account(instance: Instance, peopled: Ledger) -> Ledger:
    """Another account, with three persons."""
    other = new_account(instance)
    willing(other, LATE)
    return other


def test_the_month_in_which_somebody_came_is_nowhere_on_their_certificate(
    peopled: Ledger, clock: SettableClock
) -> None:
    """Given two persons of different months who are erased on one day, then their certificates list the same exports:
    otherwise the first of them would point at a stream of that month (I11)."""
    trail(peopled)
    clock.advance(timedelta(days=40))
    newcomers = emails(1, "new")
    willing(peopled, newcomers)
    trail(peopled)
    early, new = erase(peopled, EARLY[0]), erase(peopled, *newcomers)
    first = [said_of(peopled, one)["exports"] for one in (*early, *new)]
    assert first == [[], []]
    days_later(peopled, clock)
    listed = [of_many(said_of(peopled, one)) for one in (*early, *new)]
    assert listed[0] == listed[1] == [("2026-12", "trail", 1), ("2027-01", "trail", 1)]


def test_an_account_is_read_page_by_page(
    peopled: Ledger, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given more exports in a month than a page holds, then all of them are counted."""
    monkeypatch.setattr(ledger_exports, "OPENED_PER_PAGE", 2)
    for _ in range(5):
        peopled.exports.note_opened("trail", actor="cli")
    assert [one.count for one in peopled.exports.opened_between(None, clock())] == [5]
    assert peopled.exports.opened_between(None, clock() - timedelta(microseconds=1)) == []
    assert peopled.exports.opened_between(clock() + timedelta(microseconds=1), clock()) == []


# Stage 2, and certificates from before -------------------------------------------------------------------------------


def test_stage_two_says_what_stage_one_said(
    own_instance: Instance, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a certificate of a version that listed no exports about many, and one that lists them, when their copies
    end, then both verify, and stage 2 has the same exports in the same words."""
    clock.set(NOON)
    ledger = new_account(own_instance)
    willing(ledger, EARLY)
    trail(ledger)
    (before,) = erase(ledger, EARLY[0])
    monkeypatch.setattr(erasure_days, "listed", as_it_was)
    days_later(ledger, clock)
    monkeypatch.undo()
    (now,) = erase(ledger, EARLY[1])
    days_later(ledger, clock)
    first = {one: said_of(ledger, one) for one in (before, now)}
    assert ("exports" in first[before], state_of_exports(first[before])) == (False, OUT_OF_REACH)
    assert of_many(first[now]) == [("2026-11", "trail", 1)]
    trail(ledger)
    horizon = Horizon(own_instance.services)
    while said_of(ledger, now)["stage"] == 1:
        clock.advance(timedelta(days=1))
        horizon.run_due()
        run_daily(ledger)
    for one in (before, now):
        second = said_of(ledger, one)
        assert (second["stage"], second.get("exports")) == (2, first[one].get("exports"))
        assert state_of_exports(second) == state_of_exports(first[one])


def as_it_was(ledger: Ledger, held: Certificate, named: Any, _: Any, issued_on: date) -> Certificate:
    """The second revision of a version that had no `exports` at all."""
    revised = listed(ledger, held, named, [], issued_on)
    inventory = text.with_exports(revised.document["inventory"], OUT_OF_REACH)
    document = {name: value for name, value in revised.document.items() if name != "exports"} | {"inventory": inventory}
    return signed(ledger, document=document, kind=held.kind, day=held.day, epoch=held.epoch, list_id=revised.list_id)


# A plan --------------------------------------------------------------------------------------------------------------


def test_a_plan_lists_what_was_opened_while_its_keys_lived(ledger: Ledger, clock: SettableClock) -> None:
    """Given exports before a month's keys were made, while they lived, and after they went, then the plan's
    certificate lists those between, and it is the same when it is issued later."""
    clock.set(JANUARY - timedelta(days=40))
    willing(ledger, emails(1, "older"))
    trail(ledger)
    a_month_of_engagement(ledger, clock)
    trail(ledger)
    trail(ledger, opened=False)
    clock.set(DUE)
    done = applied(ledger)
    said = said_of(ledger, done.plan_id)
    clock.advance(timedelta(minutes=1))
    trail(ledger)
    assert of_many(said) == [("2040-01", "trail", 1)]
    assert said_of(ledger, done.plan_id)["exports"] == said["exports"]
    assert state_of_exports(said).endswith("as they may hold something of those whose keys these were")
    assert issue_for_plan(ledger, done.plan_id).document["exports"] == said["exports"]


# With the log --------------------------------------------------------------------------------------------------------


def test_a_bundle_of_the_destruction_shows_what_the_certificate_lists(
    instance: Instance, peopled: Ledger, clock: SettableClock, tmp_path: Path
) -> None:
    """Given a certificate with exports, when its bundle is verified, then those of the log are found on it."""
    trail(peopled)
    (certificate_id,) = erase(peopled, EARLY[0])
    days_later(peopled, clock)
    trail(peopled)
    publish(instance, peopled)
    path, _ = make(instance, peopled, collected_by_id(peopled, "destruction", certificate_id), tmp_path)
    proven = verified(instance, peopled, path).proven
    assert "It lists the 1 exports about many persons that the bundle shows of its time." in proven


def test_a_certificate_that_keeps_an_export_quiet_is_refused(
    instance: Instance, peopled: Ledger, clock: SettableClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a house that leaves an export out of a certificate, when its bundle is verified, then it is refused."""
    trail(peopled)
    (certificate_id,) = erase(peopled, EARLY[0])
    monkeypatch.setattr(erasure_days, "exports_of_many", lambda *_: [])
    days_later(peopled, clock)
    publish(instance, peopled)
    path, _ = make(instance, peopled, collected_by_id(peopled, "destruction", certificate_id), tmp_path)
    with pytest.raises(ClaimRefused, match="lists fewer exports about many persons than the log shows"):
        verified(instance, peopled, path)


# I11 -----------------------------------------------------------------------------------------------------------------


def test_listed_exports_lead_to_nobody(server: EmbeddedPostgres, peopled: Ledger, clock: SettableClock) -> None:
    """Given a certificate that lists exports, when somebody has it beside the address, both databases and every living
    secret, then it leads to no event of the person; and from the exports of the month nothing leads to them."""
    trail(peopled)
    attack = LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=peopled.services.vault.provider,
        tenant=peopled.tenant,
    )
    subject = UUID(bytes=person(peopled, EARLY[0]).person.subject)
    assert subject in {lead.stream for lead in attack.leads(EARLY[0])}
    (certificate_id,) = erase(peopled, EARLY[0])
    days_later(peopled, clock, 2)
    days_later(peopled, clock, 8)
    catch_up(peopled)
    assert of_many(said_of(peopled, certificate_id)) == [("2026-12", "trail", 1)]
    assert attack.leads(EARLY[0], receipts=[certificate_id]) == []
    month = opened_stream_id(peopled.tenant, "2026-12")
    assert subject not in {lead.stream for lead in attack.leads_from(month)}


# On paper -------------------------------------------------------------------------------------------------------------


def test_paper_keeps_the_two_kinds_apart(peopled: Ledger, clock: SettableClock) -> None:
    """Given a certificate without exports, with one about many, then the PDF has a heading for what there is."""
    trail(peopled)
    (certificate_id,) = erase(peopled, EARLY[0])
    before = words(certificate_pdf(exported(peopled, certificate(peopled, certificate_id))))
    days_later(peopled, clock)
    after = words(certificate_pdf(exported(peopled, certificate(peopled, certificate_id))))
    assert EXPORTS_OF_MANY not in before
    assert EXPORTS_OF_MANY in after
    assert EXPORTS_OF_PERSON not in after
