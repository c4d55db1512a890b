"""`lethe account` and `lethe apikey`."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger, api_key_holder
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def test_an_account_is_opened_under_its_policy(lethe: CommandLine) -> None:
    """Given a name and a policy, an account is opened with that policy's minimum age."""
    opened = lethe.json("account", "open", "--name", "Kadriorg Books", "--policy", "mailkai", "--country", "ee")

    account = lethe.instance.ledger(UUID(opened["account_id"])).account()
    assert (account.pack, account.country, account.minimum_age) == ("mailkai", "EE", 16)


def test_names_are_opened_only_when_asked_for_and_that_is_recorded(lethe: CommandLine) -> None:
    """Listing accounts opens no name; --names does, and leaves a record of it (I8)."""
    own = str(lethe.ledger.tenant)

    plain = {row["account_id"]: row for row in lethe.lines("account", "list")}
    assert "name" not in plain[own]
    assert "access.viewed.v1" not in lethe.topics()

    named = {row["account_id"]: row for row in lethe.lines("account", "list", "--names")}
    assert named[own]["name"] == "Acme GmbH"
    assert lethe.topics()[-1] == "access.viewed.v1"


@pytest.mark.parametrize("country", ["E", "EST", "12", "é!"])
def test_a_country_that_is_none_is_a_usage_error(lethe: CommandLine, country: str) -> None:
    """Anything but two letters is refused with exit code 2 before an account is opened."""
    assert lethe.json("account", "open", "--name", "X", "--country", country, code=2)["error"] == "invalid_country"


def test_a_key_works_until_it_is_revoked(lethe: CommandLine) -> None:
    """A key made here opens this account with its scopes; revoked, it opens nothing."""
    made = lethe.json("apikey", "create", "--scope", "campaign", "--scope", "officer")
    holder = api_key_holder(lethe.instance.services.writer, made["api_key"])
    assert holder is not None
    assert (holder.tenant, holder.key_id, holder.scopes) == (
        lethe.ledger.tenant,
        made["key_id"],
        frozenset({"campaign", "officer"}),
    )

    lethe("apikey", "revoke", made["key_id"])

    assert api_key_holder(lethe.instance.services.writer, made["api_key"]) is None
    assert lethe.json("apikey", "revoke", made["key_id"], code=5)["error"] == "unknown_key"


def test_an_unknown_scope_makes_no_key(lethe: CommandLine) -> None:
    """A scope that does not exist is a usage error, and nothing is recorded."""
    before = lethe.end()
    assert lethe.json("apikey", "create", "--scope", "emperor", code=2)["error"] == "unknown_scope"
    assert lethe.end() == before


def test_the_account_has_to_be_said_where_there_are_several(
    lethe: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --account and LETHE_ACCOUNT, several accounts are a question, not a guess."""
    lethe("account", "open", "--name", "Another")
    monkeypatch.delenv("LETHE_ACCOUNT")
    assert lethe.json("apikey", "create", code=2)["error"] == "account_needed"


@pytest.mark.parametrize(
    ("account", "code", "error"),
    [("71be95ca-0000-4000-8000-000000000000", 5, "unknown_account"), ("acme", 2, "invalid_account")],
)
def test_an_account_that_is_not_here(lethe: CommandLine, account: str, code: int, error: str) -> None:
    """An unknown id is not found, and a text that is no id is a usage error."""
    assert lethe.json("campaign", "list", "--account", account, code=code)["error"] == error
