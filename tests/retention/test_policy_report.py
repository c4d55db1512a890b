"""The policy report: live figures from ledger and vault, what is late, and that no clause is ever a blank."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from api.policy_page import STYLE, policy_json, policy_page
from domain.scope import MARKETING
from ledger.application import Ledger
from ledger.suppressing import SuppressionRequest
from projections.worker import catch_up
from retention.erasure.erasing import finish_erasures
from retention.policy.clause_figures import FIGURES
from retention.policy.controls import CONTROLS
from retention.policy.figures import AccountFigures, ClassFigures, LiveFigures, read_figures
from retention.policy.pack import Clause, Pack, load_pack
from retention.policy.report import ClauseReport, PolicyReport, policy_report
from tests.acts import ask, emails, register, report, willing
from tests.support import SettableClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MAILKAI, MAILENIUM = load_pack("mailkai"), load_pack("mailenium")

store = pytest.mark.store


def clause(made: PolicyReport, number: str) -> ClauseReport:
    """The report of one clause."""
    return next(found for found in made.clauses if found.clause.number == number)


def figures_of(*accounts: AccountFigures, **shared: Any) -> LiveFigures:
    """Figures of these accounts together."""
    figures = LiveFigures(now=NOW, **shared)
    for account in accounts:
        figures.each.append(account)
        figures.add(account)
    return figures


def holding(**classes: ClassFigures) -> AccountFigures:
    """An account with keys of these classes."""
    return AccountFigures(classes=classes)


def made_of(pack: Pack, *accounts: AccountFigures, **shared: Any) -> PolicyReport:
    """The report of a pack over these accounts."""
    return policy_report(pack, figures_of(*accounts, **shared), NOW)


def live(instance: Instance, ledger: Ledger, pack: Pack = MAILKAI) -> PolicyReport:
    """The report of a pack over one account, as it is."""
    now = ledger.clock()
    return policy_report(pack, read_figures([ledger], instance.services.vault, now), now)


# How a clause stands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [MAILKAI, MAILENIUM], ids=lambda pack: pack.name)
def test_every_clause_says_what_keeps_it_and_something_of_it(pack: Pack) -> None:
    """Given an empty ledger, then no clause is a blank: each has its controls, and figures where a control is built."""
    made = made_of(pack, AccountFigures())
    assert len(made.clauses) == len(pack.clauses)
    assert not made.failed
    for found in made.clauses:
        assert all(by.control and by.does for by in found.kept_by)
        assert bool(found.figures.lines) is any(by.built for by in found.kept_by)


@pytest.mark.parametrize("pack", [MAILKAI, MAILENIUM], ids=lambda pack: pack.name)
def test_clauses_that_wait_for_a_register_are_counted_at_the_foot(pack: Pack) -> None:
    """Given clauses kept by registers that do not exist yet, then they say so, and the foot counts them by control."""
    made = made_of(pack, AccountFigures())
    waiting = [c for c in made.clauses if c.status == "no_control_yet"]
    assert not any(by.control and CONTROLS[by.control].keeps(by.kind) for c in waiting for by in c.kept_by)
    assert made.counts["no_control_yet"] == len(waiting) > 0
    assert sum(made.counts.values()) == len(pack.clauses)
    expected = Counter(
        k.control for c in pack.clauses for k in c.keepings if k.control and not CONTROLS[k.control].keeps(k.kind)
    )
    assert made.pending == dict(sorted(expected.items()))
    assert {"sub-processor-register", "breach-register"} <= made.pending.keys() or pack is MAILKAI


def test_registers_keep_what_they_record_and_no_more() -> None:
    """Given clauses about sub-processors and records, then what is recorded is kept, and objections still wait."""
    stated = AccountFigures(registers=Counter(activity=4, recipient=3, sub_processor=2, safeguard=1))
    made = made_of(MAILENIUM, stated)
    assert clause(made, "12.1").status == clause(made, "12.2").status == clause(made, "7.1").status == "kept"
    assert clause(made, "12.2").figures.lines == ["4 processing activities declared"]
    assert clause(made, "7.1").figures.lines == ["2 sub-processors engaged"]
    assert clause(made, "8.2").figures.values == {"safeguards": 1, "safeguards_without_document": 0}
    assert clause(made, "7.3").status == "in_part"
    assert clause(made, "7.4").status == "no_control_yet"


def test_a_clause_without_a_control_is_a_failure_and_no_blank() -> None:
    """Given a pack with one clause that names no control, then the report fails and says where, on the page too."""
    bare = Clause("99", "Something promised", "enforced", None)
    made = made_of(replace(MAILKAI, clauses=(*MAILKAI.clauses, bare)), AccountFigures())
    assert made.failed
    assert clause(made, "99").status == "no_control"
    assert made.counts["no_control"] == 1
    page = policy_page(made, None)
    assert "This report fails." in page
    assert "no control: a failure" in page
    assert policy_json(made, None)["failed"] is True
    assert "This report fails." not in policy_page(made_of(MAILKAI, AccountFigures()), None)


def test_a_clause_kept_by_more_than_one_control_is_kept_in_part_while_one_is_missing() -> None:
    """Given the clause on security, then what is built and what is not stand side by side."""
    found = clause(made_of(MAILKAI, AccountFigures()), "9")
    assert found.status == "in_part"
    assert {by.control: by.built for by in found.kept_by}["sealing"] is True
    assert {by.control: by.built for by in found.kept_by}["staff-sign-in"] is False


def test_every_control_has_figures_or_says_that_it_has_none() -> None:
    """Given the controls, then each names a group of figures that exists."""
    assert {control.figures for control in CONTROLS.values()} <= FIGURES.keys()


# What is late ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "number", "name", "known", "due", "late"),
    [
        (MAILKAI, "8 usage & analytics", "usage", ClassFigures(1, "2024-11"), date(2026, 11, 1), True),
        (MAILKAI, "8 usage & analytics", "usage", ClassFigures(1, "2024-12"), date(2026, 12, 1), False),
        (MAILKAI, "8 usage & analytics", "access_log", ClassFigures(1, "2024-11-20"), date(2026, 11, 20), True),
        (MAILKAI, "8 usage & analytics", "access_log", ClassFigures(1, "2024-11-21"), date(2026, 11, 21), False),
        (MAILENIUM, "5.3 access logs", "access_log", ClassFigures(1, "2026-08-22"), date(2026, 11, 20), True),
        (MAILENIUM, "5.3 error logs", "error_log", ClassFigures(1, "2026-10-22"), date(2026, 11, 21), False),
        (
            MAILENIUM,
            "5.2 engagement",
            "link",
            ClassFigures(person_keys=3, oldest_last_on=date(2024, 11, 20)),
            date(2026, 11, 20),
            True,
        ),
        (
            MAILKAI,
            "8 billing",
            "billing",
            ClassFigures(person_keys=3, oldest_last_on=date(2019, 11, 20)),
            date(2026, 11, 21),
            False,
        ),
        (
            MAILKAI,
            "8 billing",
            "billing",
            ClassFigures(person_keys=3, oldest_last_on=date(2019, 11, 19)),
            date(2026, 11, 20),
            True,
        ),
    ],
)
def test_keys_alive_after_their_day_are_late(
    pack: Pack, number: str, name: str, known: ClassFigures, due: date, late: bool
) -> None:
    """Given a living key, then its due day is told, and from the day after it is late: under its clause, by name."""
    found = clause(made_of(pack, holding(**{name: known})), number)
    assert found.figures.values["classes"][name]["next_due"] == due
    assert (found.status == "late") is late
    assert [line for line in found.figures.late if line.startswith(f"{name} is due since {due}")] == (
        found.figures.late if late else []
    )


def test_what_a_closed_account_still_holds_is_late_after_its_days() -> None:
    """Given two accounts, one of them terminated, then only the terminated one's keys fall due by its closure."""
    identity = ClassFigures(person_keys=5, oldest_last_on=date(2020, 1, 1))
    running, ended = holding(identity=identity), holding(identity=replace(identity, destroyed=Counter()))
    ended.terminated_on = NOW.date() - timedelta(days=61)
    number = "8 campaign & subscriber"
    assert clause(made_of(MAILKAI, running), number).status == "kept"
    assert "identity is due since 2026-11-20" in clause(made_of(MAILKAI, running, ended), number).figures.late[0]
    ended.terminated_on = NOW.date() - timedelta(days=60)
    assert clause(made_of(MAILKAI, running, ended), number).status == "kept"
    nothing = AccountFigures(terminated_on=date(2020, 1, 1))
    assert clause(made_of(MAILKAI, running, nothing), number).status == "kept"


def test_an_active_hold_is_named_where_it_may_be_the_reason() -> None:
    """Given keys past their day and an active hold, then the line says that a hold may keep them back."""
    account = holding(usage=ClassFigures(1, "2020-01"))
    account.holds = 1
    made = made_of(MAILKAI, account)
    (line,) = clause(made, "8 usage & analytics").figures.late
    assert line.endswith("1 active hold may keep it back")
    assert clause(made, "8 campaign & subscriber").status == "kept", "Another clause set that day."


def test_a_hold_that_nobody_reviewed_and_an_erasure_that_stands_still_are_late() -> None:
    """Given a review day that has passed and an erasure open for more than a day, then both are late."""
    account = AccountFigures(holds=1, next_review_on=NOW.date() - timedelta(days=1))
    account.oldest_open_erasure = NOW - timedelta(hours=25)
    account.erasures["intended"] = 1
    made = made_of(MAILKAI, account)
    assert clause(made, "8 legal hold").status == "late"
    assert "is a worker running?" in clause(made, "10.1").figures.late[0]
    account.next_review_on, account.oldest_open_erasure = NOW.date(), NOW - timedelta(hours=23)
    made = made_of(MAILKAI, account)
    assert (clause(made, "8 legal hold").status, clause(made, "10.1").figures.late) == ("kept", [])


def test_an_epoch_key_that_was_not_destroyed_on_its_day_is_late() -> None:
    """Given an epoch key alive after the day that certificates state, then the clause on backups is late."""
    figures = figures_of(AccountFigures())
    figures.epochs.living, figures.epochs.next_destroy_on = 4, NOW.date() - timedelta(days=1)
    assert clause(policy_report(MAILENIUM, figures, NOW), "5.2 deleted").status == "late"
    figures.epochs.next_destroy_on = NOW.date()
    assert clause(policy_report(MAILENIUM, figures, NOW), "5.2 deleted").status == "kept"


# Live figures ---------------------------------------------------------------------------------------------------------


@store
def test_keys_alive_and_destroyed_are_counted(instance: Instance, ledger: Ledger) -> None:
    """Given three persons, when one is erased, then the report counts the keys alive and those that went."""
    addresses = emails(3)
    willing(ledger, addresses)
    before = clause(live(instance, ledger), "8 campaign & subscriber").figures.values
    assert clause(live(instance, ledger), "3.3").status == "kept"
    classes = class_figures(live(instance, ledger))
    assert (classes["identity"].person_keys, classes["identity"].period_keys) == (3, 1)
    assert classes["identity"].oldest_period == f"{ledger.clock():%Y-%m}"
    assert not classes["identity"].destroyed

    ledger.erasures.intend([addresses[0]], reason="requested", actor="cli")
    finish_erasures(ledger)

    made = live(instance, ledger)
    classes = class_figures(made)
    assert classes["identity"].person_keys == 2
    assert classes["identity"].destroyed.total() == 1
    assert classes["identity"].last_destroyed_at is not None
    assert clause(made, "10.1").figures.values["erasures"] == 1
    assert clause(made, "10.1").figures.late == []
    assert before["accounts_terminated"] == 0


def class_figures(made: PolicyReport) -> dict[str, ClassFigures]:
    """The figures of each class."""
    return {found.name: found.figures for found in made.classes}


@store
def test_sends_suppressions_and_api_keys_are_counted(instance: Instance, ledger: Ledger) -> None:
    """Given a campaign that is opened, and an objection, then the clauses on them show as many."""
    addresses = emails(4)
    willing(ledger, addresses)
    ledger.suppressions.impose([SuppressionRequest("stranger@example.com", "objection", MARKETING)], actor="cli")
    ledger.suppressions.impose([SuppressionRequest(addresses[3], "objection", MARKETING)], actor="cli")
    asked = ask(ledger, register(ledger), addresses)
    report(ledger, [(token, "dispatched") for token in asked.allowed.values()])
    report(ledger, [(next(iter(asked.allowed.values())), "opened")])
    ledger.issue_api_key(["campaign"], actor="cli")
    catch_up(ledger)

    made = live(instance, ledger)
    purposes = clause(made, "3.3").figures.values
    assert (purposes["authorised"], purposes["refused"], purposes["refused_by_rule"]) == (3, 1, {"objection": 1})
    assert clause(made, "5.5").figures.values["opened"] == 1
    assert clause(made, "8 campaign & subscriber").figures.values["suppressions_held"] == 1
    assert clause(made, "2.5").figures.values["api_keys"] == 1
    assert clause(made, "4").figures.values["persons_with_evidence"] == 4


@store
def test_two_accounts_are_summed_and_never_mixed(instance: Instance, ledger: Ledger, clock: SettableClock) -> None:
    """Given two accounts, then a report over one counts its own, and a report over both counts both."""
    other = instance.ledger(uuid4())
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    willing(ledger, emails(2))
    willing(other, emails(3, "other"))
    vault, now = instance.services.vault, clock()
    alone = policy_report(MAILKAI, read_figures([ledger], vault, now), now)
    both = policy_report(MAILKAI, read_figures([ledger, other], vault, now), now)
    assert class_figures(alone)["identity"].person_keys == 2
    assert class_figures(both)["identity"].person_keys == 5
    assert (len(alone.figures.each), len(both.figures.each)) == (1, 2)


@store
def test_a_report_reads_nothing_personal(instance: Instance, ledger: Ledger) -> None:
    """Given a person with a name nobody else has, then neither form of the report shows it or their address."""
    willing(ledger, ["xanthippe.q@example.com"])
    position = ledger.log.max_notification_id()
    made = live(instance, ledger)
    for text in (policy_page(made, ledger.tenant), str(policy_json(made, ledger.tenant))):
        assert "xanthippe" not in text.lower()
        assert "example.com" not in text
    assert ledger.log.max_notification_id() == position


# The page -------------------------------------------------------------------------------------------------------------


def test_the_page_escapes_what_a_pack_says() -> None:
    """Given a pack with markup in its texts, then the page shows it as text."""
    bad = replace(MAILKAI.clauses[0], title="<script>alert(1)</script>", note='"><img src=x>')
    page = policy_page(made_of(replace(MAILKAI, clauses=(bad,), title="<b>x</b>"), AccountFigures()), None)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_page_loads_nothing_and_is_whole() -> None:
    """Given a report, then its page has every clause and class, no script, and no address of anything to load."""
    page = policy_page(made_of(MAILENIUM, AccountFigures()), None)
    for number in (found.number for found in MAILENIUM.clauses):
        assert f'<span class="number">{number}</span>' in page
    assert page.count('<article class="clause') == len(MAILENIUM.clauses)
    assert not any(part in page for part in ("<script", "src=", "<link", "url(", "@import"))


TEXT_ON = {
    "ink": ("paper",),
    "soft": ("paper",),
    "link": ("paper",),
    "bad": ("paper", "bad-bg"),
    "good": ("good-bg",),
    "part": ("part-bg",),
    "wait": ("wait-bg",),
}
"""Each colour of text, and the colours that it stands on."""


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_of_the_page_can_be_read(scheme: int) -> None:
    """Given the page's colours, light and dark, then each text has the contrast that WCAG asks for (AA, 4.5 to 1)."""
    colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6});", re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]))
    for text, grounds in TEXT_ON.items():
        for ground in grounds:
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast("777777", "ffffff") < 4.5 < _contrast("767676", "ffffff"), "The control: WCAG's own limit."


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
