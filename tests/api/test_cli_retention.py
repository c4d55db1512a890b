"""`lethe retention` and the end of an account on the command line: planned, read, applied, and refused by name."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from ledger.keys.names import KeyName
from tests.acts import person, willing
from tests.api.cli_support import CommandLine
from tests.retention.plans import ANNA, BERT, hold, record

pytestmark = pytest.mark.store

LONG_AGO = date(2020, 3, 4)
"""Older than the three years of support, whatever day the tests are run on."""


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


@pytest.fixture
def due(ledger: Ledger) -> Ledger:
    """An account in which two persons' support keys are due."""
    willing(ledger, [ANNA, BERT])
    for address in (ANNA, BERT):
        record(ledger, address, LONG_AGO, "support")
    return ledger


def lives(ledger: Ledger, address: str) -> bool:
    name = KeyName(person(ledger, address).person.records_kid, "support")
    return name in ledger.services.vault.find(ledger.tenant, [name]).keys


def test_a_plan_is_shown_and_destroys_nothing(lethe: CommandLine, due: Ledger) -> None:
    """Without --out the plan is told, with clause, day and persons, and nothing is written anywhere."""
    end = lethe.end()
    plan = lethe.json("retention", "plan")
    (item,) = plan["items"]
    assert (item["item"], item["clause"], item["due_on"]) == ("support:persons", "8 support", "2023-03-04")
    assert (item["persons"], item["persons_touched"], item["events_touched"]) == (2, 2, None)
    told = lethe("retention", "plan")
    for word in ("support", "8 support", "2023-03-04", "not counted"):
        assert word in told
    assert lethe.end() == end
    assert lives(due, ANNA)


def test_a_plan_is_applied_and_then_was_applied(lethe: CommandLine, due: Ledger) -> None:
    """--out writes a file, apply does it, and the second time says that nothing was done."""
    lethe("retention", "plan", "--out", "plan.json")
    done = lethe.json("retention", "apply", "plan.json", "--yes")
    assert (done["items"], done["keys_destroyed"], done["applied_before"]) == (1, 2, False)
    assert not lives(due, ANNA)
    end = lethe.end()
    again = lethe.json("retention", "apply", "plan.json", "--yes")
    assert (again["applied_before"], again["certificate"]) == (True, done["certificate"])
    assert "applied before. Nothing was done now." in lethe("retention", "apply", "plan.json", "--yes")
    assert lethe.end() == end


def test_it_asks_first(lethe: CommandLine, due: Ledger) -> None:
    """Where nobody can be asked, apply does nothing without --yes."""
    lethe("retention", "plan", "--out", "plan.json")
    assert lethe.json("retention", "apply", "plan.json", code=2)["error"] == "not_confirmed"
    assert lives(due, ANNA)


def test_dry_run_says_whether_the_plan_still_stands(lethe: CommandLine, due: Ledger) -> None:
    """--dry-run shows the plan and whether it is still the one that would be made, and destroys nothing."""
    lethe("retention", "plan", "--out", "plan.json")
    assert lethe.json("retention", "apply", "plan.json", "--dry-run")["still_true"] is True
    hold(due, BERT)
    assert lethe.json("retention", "apply", "plan.json", "--dry-run")["still_true"] is False
    assert "would be refused" in lethe("retention", "apply", "plan.json", "--dry-run")
    assert lethe.json("retention", "apply", "plan.json", "--yes", code=1)["error"] == "facts_changed"
    assert lives(due, ANNA)


def test_a_plan_edited_by_hand_is_refused(lethe: CommandLine, due: Ledger) -> None:
    """One changed character and the file is refused with exit code 1; so is a file that is none."""
    lethe("retention", "plan", "--out", "plan.json")
    path = lethe.folder / "plan.json"
    path.write_bytes(path.read_bytes().replace(b'"persons":2', b'"persons":1'))
    assert lethe.json("retention", "apply", "plan.json", "--yes", code=1)["error"] == "plan_invalid"
    path.write_text("{}")
    assert lethe.json("retention", "apply", "plan.json", "--yes", code=1)["error"] == "plan_invalid"
    assert lethe.json("retention", "apply", "no-such-file.json", "--yes", code=5)["error"] == "unreadable_file"
    assert lives(due, ANNA)


def test_what_a_hold_keeps_back_is_told(lethe: CommandLine, due: Ledger) -> None:
    """A held person is taken out of the item, and the hold is named with how many it keeps."""
    held = hold(due, BERT)
    (item,) = lethe.json("retention", "plan")["items"]
    assert item["persons"] == 1
    assert item["held"] == {"holds": [str(held.hold_id)], "persons": 1, "why": "holds on persons"}
    assert str(held.hold_id) in lethe("retention", "plan")
    hold(due, kind="account")
    plan = lethe.json("retention", "plan")
    assert plan["items"] == []
    assert [item["item"] for item in plan["kept_back"]] == ["support:persons"]
    assert "Kept back: support:persons" in lethe("retention", "plan")


def test_a_plan_under_another_policy_can_be_read_and_not_applied(lethe: CommandLine, due: Ledger) -> None:
    """--pack shows what another policy would mean; its plan is refused by name."""
    other = lethe.json("retention", "plan", "--pack", "mailenium", "--out", "plan.json")
    assert other["pack"] == "mailenium"
    assert lethe.json("retention", "apply", "plan.json", "--yes", code=1)["error"] == "pack_changed"
    assert lethe.json("retention", "plan", "--pack", "nobody", code=5)["error"] == "unknown_policy"


def test_nothing_due_is_said(lethe: CommandLine) -> None:
    """A new account has nothing due, and an empty plan does nothing."""
    assert "Nothing is due." in lethe("retention", "plan", "--out", "plan.json")
    end = lethe.end()
    assert lethe.json("retention", "apply", "plan.json", "--yes")["items"] == 0
    assert lethe.json("retention", "resume") == {"finished": []}
    assert lethe.end() == end


def test_an_account_is_ended_and_taken_up_again(lethe: CommandLine) -> None:
    """Terminate says on which day what goes; --dry-run changes nothing; reactivate undoes it."""
    shown = lethe.json("account", "terminate", "--dry-run")
    assert (shown["status"], shown["dry_run"]) == ("terminated", True)
    assert lethe.ledger.accounts.state().status == "active"
    assert lethe.json("account", "terminate", code=2)["error"] == "not_confirmed"
    ended = lethe.json("account", "terminate", "--yes")
    today = datetime.now(UTC).date()
    days = {row["class"]: date.fromisoformat(row["due_on"]) for row in ended["closing"]}
    assert days["identity"] - today in (timedelta(days=60), timedelta(days=59))
    assert days["content"] - today in (timedelta(days=90), timedelta(days=89))
    assert "billing" not in days
    assert {
        row["status"] for row in lethe.lines("account", "list") if row["account_id"] == str(lethe.ledger.tenant)
    } == {"terminated"}
    assert f"On {days['identity']}: " in lethe("account", "terminate", "--yes")
    assert lethe.json("account", "reactivate") == {
        "account_id": str(lethe.ledger.tenant),
        "status": "active",
        "terminated_at": None,
        "closed_at": None,
        "closing": [],
    }


def test_a_terminated_account_refuses_imports_by_name(lethe: CommandLine) -> None:
    """An import into an ended account is refused row by row with the account's rule, and a campaign as a whole."""
    lethe("account", "terminate", "--yes")
    lethe.file("people.csv", "email", "somebody@example.com")
    told = lethe("contacts", "import", "people.csv", "--json", code=3)
    assert json.loads(told.splitlines()[-1])
    rejects = next(lethe.folder.glob("*reject*"))
    assert "terminated" in rejects.read_text()
    refused = lethe.json("campaign", "create", "--name", "X", "--purpose", "newsletter", code=1)
    assert refused["error"] == "account_terminated"
