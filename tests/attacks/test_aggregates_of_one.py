"""An attack on published figures: one of ten persons of an ongoing campaign who opens everything."""

from __future__ import annotations

from datetime import timedelta

from ledger.application import Ledger
from retention.plans.schedule import run_retention
from tests.acts import ask, emails, register, report, willing
from tests.retention.plans import DUE, JANUARY
from tests.support import SettableClock

SELECT_FIGURES = "SELECT figures FROM lethe.published_aggregate WHERE tenant_id = %s AND subject = %s"


def test_no_figure_stands_for_one_person(own_ledger: Ledger, clock: SettableClock) -> None:
    """Given an ongoing campaign to ten persons, of whom one gets and opens twelve messages, when its month is
    published, then no figure of openings is told: behind it stands one person (Mailkai 6.5)."""
    clock.set(JANUARY)
    people = emails(10)
    willing(own_ledger, people)
    campaign = register(own_ledger, kind="ongoing")
    first = ask(own_ledger, campaign, [(email, "0") for email in people])
    report(own_ledger, [(token, "dispatched") for token in first.allowed.values()], at=clock())
    for number in range(1, 13):
        clock.advance(timedelta(minutes=1))
        token = ask(own_ledger, campaign, [(people[0], str(number))]).allowed[people[0]]
        report(own_ledger, [(token, "dispatched")], at=clock())
        report(own_ledger, [(token, "opened"), (token, "clicked")], at=clock(), ip="192.0.2.1", url="https://e.com/x")
    clock.set(DUE)
    run_retention(own_ledger)
    with own_ledger.services.writer.transaction() as connection:
        row = connection.execute(SELECT_FIGURES, (own_ledger.tenant, campaign.hex)).fetchone()
    figures = row[0] if row else {}
    assert not {"first_opened", "first_clicked"} & figures.keys(), figures
