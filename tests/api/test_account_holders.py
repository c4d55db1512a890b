"""Who is behind an account, said at a terminal and over HTTP: by the operator only, and with no address in a URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from retention.plans.schedule import run_retention
from tests.acts import person
from tests.api.cli_support import CommandLine
from tests.api.conftest import Api
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA, BERT = "anna@example.com", "bert@example.com"


@pytest.fixture
def lethe(own_instance: Instance, own_ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """An installation of its own, with one customer's account, because there is one operator in each."""
    return CommandLine(own_instance, own_ledger, tmp_path, monkeypatch)


@pytest.fixture
def operator(instance: Instance, clock: SettableClock) -> Ledger:
    opened = instance.ledger(uuid4())
    opened.open_account(name="Ops", pack="mailkai", country="DE", minimum_age=0, actor="cli", operator=True)
    return opened


def the_operator(lethe: CommandLine) -> Ledger:
    made = lethe.json("account", "open", "--name", "The platform", "--operator")
    return lethe.instance.ledger(UUID(made["account_id"]))


# At a terminal -------------------------------------------------------------------------------------------------------


def test_holders_are_recorded_from_standard_input(lethe: CommandLine) -> None:
    """Given an operator's account, when holders of an account are named, then they are its subjects, once."""
    operator = the_operator(lethe)
    done = lethe.json("account", "holder", "add", "--email", "-", stdin=f"{ANNA}\n{BERT}\n")
    assert (done["recorded"], done["known"], done["operator_id"]) == (2, 0, str(operator.tenant))
    assert person(operator, ANNA).standing.accounts == (lethe.ledger.tenant.hex,)
    assert lethe.ledger.person(ANNA) is None, "The customer's account knows nothing of who is behind it."
    again = lethe.json("account", "holder", "add", "--email", ANNA)
    assert (again["recorded"], again["known"]) == (0, 1)


def test_an_account_is_opened_with_its_holder(lethe: CommandLine) -> None:
    """Given an operator's account, when an account is opened with --holder, then both are recorded."""
    operator = the_operator(lethe)
    made = lethe.json("account", "open", "--name", "Books", "--holder", "-", stdin=f"{ANNA}\n")
    assert made["holders"] == 1
    assert person(operator, ANNA).standing.accounts == (UUID(made["account_id"]).hex,)


@pytest.mark.parametrize("words", [("open", "--name", "Books", "--holder", ANNA), ("holder", "add", "--email", ANNA)])
def test_without_an_operators_account_nobody_holds_anything(lethe: CommandLine, words: tuple[str, ...]) -> None:
    """Given no operator's account, then a holder is refused by name, and no account is opened on the way."""
    before = lethe.lines("account", "list")
    assert lethe.json("account", *words, code=1)["error"] == "no_operator"
    assert lethe.lines("account", "list") == before


def test_an_address_that_is_none_opens_no_account(lethe: CommandLine) -> None:
    """Given a holder's address that cannot be written to, then nothing is opened, and the text does not repeat it."""
    the_operator(lethe)
    before = lethe.lines("account", "list")
    lethe("account", "open", "--name", "Books", "--holder", "no address at all", code=1)
    assert "no address at all" not in lethe.said
    assert lethe.lines("account", "list") == before


def test_a_plan_says_that_holders_go_as_whole_persons(lethe: CommandLine) -> None:
    """Given a holder whose account ended, then plan, report and applied plan speak of them by number."""
    operator = the_operator(lethe)
    lethe("account", "holder", "add", "--email", ANNA)
    lethe.ledger.accounts.terminate(actor="cli")
    with lethe.instance.services.writer.transaction() as connection:  # The command line has the real time only.
        connection.execute(
            "UPDATE lethe.head SET terminated_at = terminated_at - interval '91 days' WHERE tenant_id = %s",
            (lethe.ledger.tenant,),
        )
    option = ("--account", operator.tenant)
    report = lethe.json("policy", "report", "mailkai", *option)
    (found,) = [clause for clause in report["clauses"] if clause["number"] == "8 account"]
    assert (found["figures"]["account_holders"], found["figures"]["account_holders_ended"]) == (1, 1)
    assert [late.partition(" is due since ")[0] for late in found["late"]] == ["identity"]
    (item,) = lethe.json("retention", "plan", *option)["items"]
    assert (item["action"], item["persons"]) == ("erase_holders", 1)
    assert "holders of ended accounts" in lethe("retention", "plan", *option)
    lethe("retention", "plan", "--out", "plan.json", *option)
    done = lethe("retention", "apply", "plan.json", "--yes", *option)
    assert "1 account holder erased" in done
    assert operator.person(ANNA) is None


# Over HTTP -----------------------------------------------------------------------------------------------------------


def test_the_operators_systems_record_a_holder(
    api_at: Callable[[str, Ledger], Api], server_url: str, operator: Ledger, ledger: Ledger
) -> None:
    """Given an admin's key of the operator, when a holder is posted twice, then they are recorded once."""
    api = api_at(server_url, operator)
    body = {"account_id": str(ledger.tenant), "email": ANNA}
    assert isinstance(api.post("/v1/account-holders", body)["position"], int)
    assert api.post("/v1/account-holders", body)["position"] is None
    assert person(operator, ANNA).standing.accounts == (ledger.tenant.hex,)


@pytest.mark.parametrize("scope", ["campaign", "officer", "auditor", ""])
def test_only_an_admin_records_holders(
    api_at: Callable[[str, Ledger], Api], server_url: str, operator: Ledger, ledger: Ledger, scope: str
) -> None:
    """Given a key of any other scope, or none, then it is refused and nobody is recorded (FAULTS 23)."""
    body = {"account_id": str(ledger.tenant), "email": ANNA}
    assert api_at(server_url, operator).call("POST", "/v1/account-holders", body, scope=scope).status_code in (401, 403)
    assert operator.person(ANNA) is None


def test_a_customer_records_no_holders_and_learns_of_no_account(api: Api, operator: Ledger) -> None:
    """Given another account's admin, then every account's id is refused alike: it tells of none (I10)."""
    answers = [
        api.call("POST", "/v1/account-holders", {"account_id": str(account), "email": ANNA})
        for account in (operator.tenant, api.ledger.tenant, uuid4())
    ]
    assert {(answer.status_code, answer.json()["reason"]) for answer in answers} == {(409, "not_the_operator")}
    assert len({answer.text for answer in answers}) == 1


def test_an_account_that_is_nowhere_has_no_holder(
    api_at: Callable[[str, Ledger], Api], server_url: str, operator: Ledger
) -> None:
    """Given an id of no account, or no address, then the answer says so and repeats neither."""
    api = api_at(server_url, operator)
    nowhere = api.call("POST", "/v1/account-holders", {"account_id": str(uuid4()), "email": ANNA})
    assert nowhere.status_code == 404
    bad = api.call("POST", "/v1/account-holders", {"account_id": str(operator.tenant), "email": "no address"})
    assert bad.status_code == 422
    assert "no address" not in bad.text
    assert operator.person(ANNA) is None


def test_a_holder_goes_with_the_account(
    api_at: Callable[[str, Ledger], Api], server_url: str, operator: Ledger, ledger: Ledger, clock: SettableClock
) -> None:
    """Given a holder over HTTP and an account that ended, then the operator's next plan after 90 days forgets them."""
    api = api_at(server_url, operator)
    api.post("/v1/account-holders", {"account_id": str(ledger.tenant), "email": ANNA})
    ended = clock()
    ledger.accounts.terminate(actor="cli")
    clock.set(ended.replace(year=ended.year + 1))
    done = run_retention(operator)
    assert done is not None
    assert done.erased == 1
    assert operator.person(ANNA) is None
