"""`lethe hold`: place, widen, release, list and show, and what `lethe doctor` says of a date that has passed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from api.cli.checks import examine
from api.cli.checks_work import check_holds
from api.cli.failures import ExitCode
from ledger.application import Ledger
from retention.erasure.erasing import finish_erasures
from tests.acts import willing
from tests.api.cli_support import CommandLine
from tests.ledger.test_holds import ACCOUNT, place
from tests.retention.plans import a_plan_at_work

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"
WORDS = ("--matter", "Example v. Acme", "--reason", "a claim was announced", "--owner", "Legal department")


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line on the test's account."""
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def test_a_hold_from_its_placing_to_its_end(lethe: CommandLine, ledger: Ledger) -> None:
    """Given a hold placed from a file, when it is widened, shown and released, then each says what it did."""
    willing(ledger, [ANNA, BERT])
    people = lethe.file("people.txt", ANNA)
    placed = lethe.json("hold", "place", *WORDS, "--file", people)
    hold = placed["hold_id"]
    assert (placed["state"], placed["persons"]) == ("active", 1)
    campaign = lethe.campaign()
    widened = lethe.json("hold", "widen", hold, "--campaign", campaign)
    assert (widened["persons"], widened["campaigns"]) == (1, 1)
    lethe("hold", "widen", hold, "--period", "engagement:2026-11", "--reason", "more")
    listed = lethe.json("hold", "list")["holds"]
    assert [found["hold_id"] for found in listed] == [hold]
    assert "Example" not in lethe("hold", "list") + lethe.said
    before = lethe.end()
    shown = lethe("hold", "show", hold)
    assert all(word in shown for word in ("Example v. Acme", "Legal department", "more", "engagement 2026-11"))
    assert ANNA not in shown
    assert lethe.topics()[before:] == ["access.viewed.v1"]
    (plan,) = lethe.json("erase", "--file", people, "--dry-run")["plan"]
    assert plan["legal_holds"] == 1
    assert "1 legal hold; it waits" in lethe("erase", "--file", people, "--dry-run")
    erased = lethe.json("erase", "--file", people, "--yes")
    assert [row["state"] for row in erased["erasures"]] == ["held"]
    assert ledger.person(ANNA) is not None
    end = lethe.end()
    due = lethe.json("hold", "release", hold, "--dry-run")
    assert (due["dry_run"], due["state"], len(due["erasures"])) == (True, "active", 1)
    assert lethe.end() == end, "A dry run changes nothing."
    lethe("hold", "release", hold, code=ExitCode.USAGE)
    assert "--dry-run" in lethe.said
    done = lethe.json("hold", "release", hold, "--yes", "--reason", "settled")
    assert (done["state"], done["erasures"]) == ("closed", due["erasures"])
    assert ledger.person(ANNA) is None
    assert "the hold's key is gone" in lethe("hold", "show", hold)
    assert lethe.json("hold", "list", "--active")["holds"] == []
    assert lethe.json("hold", "release", hold, "--yes")["state"] == "closed"


def test_a_hold_that_comes_too_late_ends_with_its_own_code(lethe: CommandLine, ledger: Ledger) -> None:
    """Given an erasure, when the person is to be held, then the code, the name and the certificate say so."""
    willing(ledger, [ANNA])
    (status,) = ledger.erasures.intend([ANNA], reason="subject_request", actor="cli")
    finish_erasures(ledger)
    error = lethe.json("hold", "place", *WORDS, "--email", ANNA, code=ExitCode.TOO_LATE)
    assert error["error"] == "hold_too_late"
    assert str(status.certificate_id) in error["message"]
    assert ANNA not in lethe.said


def test_a_hold_that_is_too_late_for_a_part_stands_and_ends_with_that_code(lethe: CommandLine, ledger: Ledger) -> None:
    """Given a plan that destroys a month, when a person is held, then the rest is held, and the part is named."""
    willing(ledger, [ANNA])
    certificate = a_plan_at_work(ledger, "identity", "2024-10")
    late = [{"retention_class": "identity", "period": "2024-10", "certificate": certificate}]
    placed = lethe.json("hold", "place", *WORDS, "--email", ANNA, code=ExitCode.TOO_LATE)
    assert (placed["state"], placed["persons"], placed["too_late"]) == ("active", 1, late)
    hold = placed["hold_id"]
    said = lethe("hold", "widen", hold, "--whole-account", code=ExitCode.TOO_LATE)
    assert (
        f"TOO LATE for identity 2024-10: its destruction was recorded before this hold, under certificate {certificate}"
        in said
    )
    assert certificate in lethe("hold", "show", hold).replace("\n", "").replace(" ", "")
    assert lethe.json("hold", "show", hold)["too_late"] == late
    assert [row["hold_id"] for row in lethe.json("hold", "list", "--active")["holds"]] == [hold]


def test_the_whole_account_is_held(lethe: CommandLine, ledger: Ledger) -> None:
    """Given an account, when all of it is held, then it is said, and the list says it."""
    said = lethe("hold", "place", *WORDS, "--whole-account")
    assert "the whole account" in said
    assert "the whole account" in lethe("hold", "list")


REFUSED: list[tuple[tuple[Any, ...], int]] = [
    (("place", *WORDS), ExitCode.USAGE),
    (("place", *WORDS, "--email", ANNA, "--whole-account"), ExitCode.USAGE),
    (("place", *WORDS, "--period", "engagement"), ExitCode.USAGE),
    (("place", *WORDS, "--period", "feed:2026-11-22"), ExitCode.USAGE),
    (("place", *WORDS, "--campaign", "x"), ExitCode.USAGE),
    (("place", *WORDS, "--campaign", uuid4()), ExitCode.NOT_FOUND),
    (("place", *WORDS, "--email", "nobody@example.com"), ExitCode.NOT_FOUND),
    (("place", *WORDS, "--email", "not an address"), ExitCode.REFUSED),
    (("place", *WORDS, "--whole-account", "--review-on", "tomorrow"), ExitCode.USAGE),
    (("place", *WORDS, "--whole-account", "--review-on", "2020-01-01"), ExitCode.REFUSED),
    (("place", *WORDS[:-1], "  ", "--whole-account"), ExitCode.REFUSED),
    (("widen", uuid4()), ExitCode.USAGE),
    (("widen", uuid4(), "--whole-account"), ExitCode.NOT_FOUND),
    (("show", "x"), ExitCode.USAGE),
    (("show", uuid4()), ExitCode.NOT_FOUND),
    (("release", uuid4(), "--yes"), ExitCode.NOT_FOUND),
]


@pytest.mark.parametrize(("arguments", "code"), REFUSED)
def test_what_is_no_hold_is_refused(lethe: CommandLine, arguments: tuple[Any, ...], code: int) -> None:
    """Given arguments that hold nothing, when they are given, then the code says why, and nothing is written."""
    before = lethe.end()
    lethe("hold", *arguments, code=code)
    assert lethe.end() == before


def test_a_date_that_has_passed_is_shown_by_the_list_and_the_doctor(lethe: CommandLine, ledger: Ledger) -> None:
    """Given a hold whose review date has passed, when the list or the doctor is asked, then it is marked."""
    hold = place(ledger, ACCOUNT)
    assert "OVERDUE" not in lethe("hold", "list")
    with ledger.services.writer.transaction() as connection:
        past = ledger.clock().date() - timedelta(days=3)
        values = (past, ledger.tenant, hold)
        connection.execute("UPDATE lethe.legal_hold SET review_on = %s WHERE tenant_id = %s AND hold_id = %s", values)
    assert "OVERDUE" in lethe("hold", "list")
    found = [f for f in doctor(lethe) if f["check"] == "legal holds"]
    assert [f["state"] for f in found] == ["warn"]
    assert "should have been looked at again" in found[0]["seen"]
    ledger.holds.release(hold, actor="cli")


def doctor(lethe: CommandLine) -> list[dict[str, Any]]:
    """The doctor's findings, whatever it thinks of the test's server."""
    return [
        {"check": f.check, "state": f.state, "seen": f.seen} for f in examine(lethe.instance.settings, (check_holds,))
    ]
