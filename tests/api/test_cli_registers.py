"""`lethe register` and `lethe processing`: from a file to the record, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store

PARTY = ("[[party]]", 'key = "acme"', 'role = "controller"', 'name = "Acme GmbH"', 'email = "office@acme.example"')


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line of a fresh account."""
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def test_registers_begin_with_the_policy_and_the_record_shows_them(lethe: CommandLine) -> None:
    """Given a new account, when its registers are seeded, then they are listed, and stand in the record."""
    told = lethe.json("register", "seed")
    assert told["declared"][0] == "party mailkai"
    assert lethe.json("register", "seed")["same"] == told["declared"]
    assert "11 entries." in lethe("register", "list")
    assert {row["source"] for row in lethe.lines("register", "list", "--kind", "activity")} == {"mailkai 1"}
    shown = lethe("processing", "show")
    assert "Mailkai privacy policy, version 1" in shown
    assert "missing_party" in shown
    record = lethe.json("processing", "show")
    assert [activity["key"] for activity in record["activities"]] == ["campaigns", "delivery", "engagement", "evidence"]
    assert record["observed"]["counted_to"] == lethe.end()


def test_an_entry_goes_from_a_file_to_the_register_and_back(lethe: CommandLine) -> None:
    """Given a TOML file, when it is declared, shown as JSON, changed and amended, then the change stands there."""
    file = lethe.file("parties.toml", *PARTY)
    assert lethe.json("register", "declare", file)["recorded"] == ["declared party acme"]
    assert "already" in lethe("register", "declare", file)
    shown = json.loads(lethe("register", "show", "party", "acme"))
    shown["party"][0]["name"] = "Acme SE"
    amended = lethe.file("parties.json", json.dumps(shown))
    assert lethe.json("register", "amend", amended)["recorded"] == ["amended party acme"]
    assert lethe.lines("register", "list")[0]["entry"]["name"] == "Acme SE"
    assert lethe.json("register", "retire", "party", "acme")["recorded"] == ["retired party acme"]
    assert "was retired before" in lethe("register", "retire", "party", "acme")
    assert lethe.lines("register", "list") == []
    assert lethe.lines("register", "list", "--all")[0]["ending"] == "ended"


def test_standard_input_is_a_file_too(lethe: CommandLine) -> None:
    """Given -, then the entries are read from standard input, and since when they have been true."""
    lethe("register", "declare", "-", "--since", "2024-05-01", stdin="\n".join(PARTY))
    (row,) = lethe.lines("register", "list")
    assert row["declared_at"].startswith("2024-05-01")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("not = [toml",), "unreadable_file"),
        (("{not json",), "unreadable_file"),
        (("[[colour]]", 'key = "red"'), "unknown_kind"),
        ((), "nothing_stated"),
        ((*PARTY, 'colour = "red"'), "unknown_field"),
        (("[[party]]", 'key = "x"'), "missing_field"),
        (("party = 3",), "no_list"),
        ((*PARTY, *PARTY), "declared_already"),
    ],
)
def test_a_file_is_taken_whole_or_not_at_all(lethe: CommandLine, lines: tuple[str, ...], reason: str) -> None:
    """Given a file with a mistake, then it is refused under a stable name, and nothing of it was recorded."""
    if reason == "declared_already":
        lines = (*PARTY, *(line.replace("Acme GmbH", "Other") for line in PARTY))
    end = lethe.end()
    assert lethe.json("register", "declare", lethe.file("bad.toml", *lines), code=1)["error"] == reason
    assert "office@acme.example" not in lethe.said
    assert lethe.end() == end


def test_wrong_words_are_usage_errors(lethe: CommandLine) -> None:
    """Given an unknown kind, key, reason, day or file, then each is said for what it is."""
    assert lethe.json("register", "show", "colour", "red", code=2)["error"] == "unknown_kind"
    assert lethe.json("register", "show", "party", "nobody", code=5)["error"] == "not_declared"
    assert lethe.json("register", "retire", "party", "nobody", code=1)["error"] == "not_declared"
    assert lethe.json("register", "declare", "nowhere.toml", code=5)["error"] == "unreadable_file"
    lethe("register", "declare", lethe.file("parties.toml", *PARTY))
    assert lethe.json("register", "retire", "party", "acme", "--reason", "bored", code=1)["error"] == "unknown_reason"
    assert lethe.json("processing", "show", "--as-of", "yesterday", code=2)["error"] == "invalid_day"
    assert lethe.json("processing", "show", "--as-of", "2001-01-01", code=1)["error"] == "before_the_account"
    assert lethe.json("processing", "diff", "2999-01-01", code=1)["error"] == "in_the_future"


def test_the_difference_between_two_days_is_a_table(lethe: CommandLine) -> None:
    """Given an entry declared as true since a past day, then the difference of two days has it."""
    lethe("register", "seed")
    opened = lethe.ledger.account().opened_at.date()
    found = lethe.json("processing", "diff", opened, "--meaning", "occurred")
    assert found["changes"] == []
    assert "0 changes" in lethe("processing", "diff", opened)


def test_showing_an_entry_that_names_a_person_is_a_look(lethe: CommandLine) -> None:
    """Given a party with a natural person's name, when it is shown or listed with it, then each is recorded (I8)."""
    lethe("register", "declare", lethe.file("parties.toml", *PARTY, 'person = "Ada Lovelace"'))
    lethe("register", "list")
    assert lethe.topics().count("access.viewed.v1") == 0
    assert "Ada Lovelace" in lethe("register", "show", "party", "acme")
    assert lethe.lines("register", "list")[0]["entry"]["person"] == "Ada Lovelace"
    assert lethe.topics().count("access.viewed.v1") == 2
