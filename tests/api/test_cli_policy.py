"""`lethe policy`, `lethe account adopt`, and the report over HTTP."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from api.bootstrap import Instance
from api.http.routes.policy import prefers_html
from ledger.application import Ledger
from retention.policy.pack import load_pack, use_packs_of
from tests.api.cli_support import CommandLine
from tests.api.conftest import Api
from tests.retention.pack_texts import changed, text_of, version_two

pytestmark = pytest.mark.store

LONGER = ("keep_years = 3\n", "keep_years = 4\n")
STRICTER = ("minimum_age = 16\n", "minimum_age = 18\n")


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


@pytest.fixture
def packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """A folder of one's own for packs, named by the setting, and taken off the shelf again."""
    folder = tmp_path / "packs"
    folder.mkdir()
    monkeypatch.setenv("LETHE_PACKS_DIR", str(folder))
    yield folder
    use_packs_of(None)


# check ----------------------------------------------------------------------------------------------------------------


def test_a_good_pack_passes(lethe: CommandLine) -> None:
    """Given a pack without a mistake, when it is checked, then that is said with exit code 0."""
    file = lethe.file("good.toml", text_of("mailkai"))
    assert "version 1: 37 clauses, no mistake." in lethe("policy", "check", file)
    told = lethe.json("policy", "check", file)
    assert (told["valid"], told["mistakes"], told["clauses"]) == (True, [], 37)
    assert told["digest"] == load_pack("mailkai").digest


def test_every_mistake_is_told_by_line_with_exit_code_1(lethe: CommandLine) -> None:
    """Given a pack with two mistakes, when it is checked, then both lines are told, for people and for machines."""
    text = changed(text_of("mailkai"), 'control = "tenancy"', 'control = "tenanzy"')
    file = lethe.file("ours.toml", changed(text, "keep_years = 7\n", "keep_years = 700\n"))
    lines = file.read_text().split("\n")
    first, second = lines.index('control = "tenanzy"') + 1, lines.index("keep_years = 700") + 1

    said = lethe("policy", "check", file, code=1)
    assert f"ours.toml:{first}: There is no control 'tenanzy'. Do you mean 'tenancy'?" in said
    assert f"ours.toml:{second}: keep_years: input should be less than or equal to 100." in said
    assert "2 mistakes." in said

    told = lethe.json("policy", "check", file, code=1)
    assert [mistake["line"] for mistake in told["mistakes"]] == [first, second]
    assert told["valid"] is False


def test_a_clause_without_a_control_is_a_mistake(lethe: CommandLine) -> None:
    """Given a clause that names no control, when the pack is checked, then its line is told."""
    text = changed(text_of("mailkai"), 'kind = "enforced"\ncontrol = "tenancy"\n', 'kind = "enforced"\n')
    told = lethe.json("policy", "check", lethe.file("ours.toml", text), code=1)
    (mistake,) = told["mistakes"]
    assert text.split("\n")[mistake["line"] - 1 : mistake["line"] + 1] == ["[[clause]]", 'number = "2.5"']
    assert "every report of this pack fails" in mistake["text"]


def test_a_file_that_is_not_there_is_not_found(lethe: CommandLine) -> None:
    """Given no file, when it is checked or reported, then the exit code is 5."""
    assert lethe.json("policy", "check", "nowhere.toml", code=5)["error"] == "unreadable_file"
    assert lethe.json("policy", "report", "nowhere.toml", code=5)["error"] == "unreadable_file"


# report ---------------------------------------------------------------------------------------------------------------


def test_the_report_names_every_clause(lethe: CommandLine) -> None:
    """Given an account, when its policy is reported, then each clause is there, as a table and as JSON."""
    table = lethe("policy", "report", "mailkai")
    told = lethe.json("policy", "report", "mailkai")
    assert [found["number"] for found in told["clauses"]] == [c.number for c in load_pack("mailkai").clauses]
    assert all(found["number"] in table for found in told["clauses"])
    assert told["account_id"] == str(lethe.ledger.tenant)
    assert "No control yet: " in table
    assert told["no_control_yet"]["notice-register"] == 2
    assert sum(told["counts"].values()) == 37


def test_a_page_is_written(lethe: CommandLine) -> None:
    """Given --html, then the report is a page in that file; a file that cannot be written is said."""
    lethe("policy", "report", "mailkai", "--html", "report.html", "--json")
    page = (lethe.folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert str(lethe.ledger.tenant) in page
    assert lethe.json("policy", "report", "mailkai", "--html", "no/such/x.html", code=5)["error"] == "unwritable_file"


def test_a_pack_with_a_gap_fails_the_report(lethe: CommandLine) -> None:
    """Given a pack's file with a clause that has no control, when it is reported, then the exit code is 1."""
    text = changed(text_of("mailkai"), 'kind = "enforced"\ncontrol = "tenancy"\n', 'kind = "enforced"\n')
    told = lethe.json("policy", "report", lethe.file("ours.toml", text), code=1)
    assert told["failed"] is True
    assert [c["number"] for c in told["clauses"] if c["status"] == "no_control"] == ["2.5"]


def test_the_report_of_another_policy_than_the_account_s_is_a_mix_up(lethe: CommandLine) -> None:
    """Given an account under mailkai, when mailenium is reported for it, then that is refused; an unknown one, too."""
    assert lethe.json("policy", "report", "mailenium", code=2)["error"] == "other_policy"
    assert lethe.json("policy", "report", "mailchimp", code=5)["error"] == "unknown_policy"


def test_without_an_account_every_account_under_the_policy_is_covered(
    lethe: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given two accounts under a policy of our own making, then the report without --account covers both."""
    monkeypatch.delenv("LETHE_ACCOUNT")
    before = lethe.json("policy", "report", "mailenium")["accounts"]
    lethe("account", "open", "--name", "One more", "--policy", "mailenium")
    told = lethe.json("policy", "report", "mailenium")
    assert (told["accounts"], told["account_id"]) == (before + 1, None)


# adopt ----------------------------------------------------------------------------------------------------------------


def test_a_policy_s_age_is_the_account_s_unless_one_is_given(lethe: CommandLine) -> None:
    """Given no --minimum-age, when an account is opened, then the pack says it."""
    for policy, options, age in (("mailkai", (), 16), ("mailenium", (), 0), ("mailkai", ("--minimum-age", 21), 21)):
        opened = lethe.json("account", "open", "--name", "X", "--policy", policy, *options)
        assert (opened["minimum_age"], opened["policy_version"]) == (age, 1)
    assert lethe.json("account", "open", "--name", "X", "--policy", "mailchimp", code=5)["error"] == "unknown_policy"


def test_a_pack_of_one_s_own_is_opened_under(lethe: CommandLine, packs: Path) -> None:
    """Given a second version in a folder of ours, when an account is opened, then it lives under the second."""
    (packs / "two.toml").write_text(version_two(STRICTER))
    opened = lethe.json("account", "open", "--name", "X", "--policy", "mailkai")
    assert (opened["policy_version"], opened["minimum_age"]) == (2, 18)
    account = lethe.instance.ledger(UUID(opened["account_id"])).account()
    assert (account.pack_version, account.minimum_age) == (2, 18)


def test_a_change_is_announced_waits_and_is_adopted(lethe: CommandLine, packs: Path) -> None:
    """Given a version that keeps longer, when it is adopted at once, then it is refused; announced, it waits."""
    (packs / "two.toml").write_text(version_two(LONGER))
    refused = lethe.json("account", "adopt", "mailkai", "--version", 2, code=1)
    assert refused["error"] == "adoption_refused"
    assert "support is kept longer: 4 years instead of 3 years" in refused["message"]

    told = lethe.json("account", "adopt", "mailkai", "--version", 2, "--announce")
    today = lethe.ledger.clock().date()
    assert told["effective_on"] == (today + timedelta(days=15)).isoformat()
    assert told["changes"] == ["support is kept longer: 4 years instead of 3 years"]
    assert told["policy_version"] == 1
    assert "can be adopted from" in lethe.json("account", "adopt", "mailkai", "--version", 2, code=1)["message"]
    assert lethe.topics()[-1] == "account.pack_change_announced.v1"
    waiting = lethe.json("policy", "report", "mailkai")
    notice = next(found for found in waiting["clauses"] if found["number"] == "12")
    assert notice["figures"]["announced_changes_waiting"] == 1


def test_a_version_that_takes_nothing_back_is_adopted(lethe: CommandLine, packs: Path) -> None:
    """Given a stricter version, when it is adopted, then the account's row says so; again, and nothing is recorded."""
    (packs / "two.toml").write_text(version_two(STRICTER))
    assert lethe.json("account", "adopt", "mailkai", "--version", 2)["recorded"] is True
    assert "lives under version 2 of mailkai already" in lethe("account", "adopt", "mailkai", "--version", 2)
    row = next(r for r in lethe.lines("account", "list") if r["account_id"] == str(lethe.ledger.tenant))
    assert (row["policy_version"], row["minimum_age"]) == (2, 18)


def test_a_pack_whose_horizon_the_settings_exceed_is_not_adopted(
    lethe: CommandLine, packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a version with a horizon shorter than this installation's, then it is refused with the figures."""
    (packs / "two.toml").write_text(version_two(("notice_days = 14\n", "notice_days = 14\nhorizon_days = 10\n")))
    told = lethe.json("account", "adopt", "mailkai", "--version", 2, code=7)
    assert "at most 10 are promised" in told["message"]
    monkeypatch.setenv("LETHE_EPOCH_KEPT_DAYS", "3")
    assert lethe.json("account", "adopt", "mailkai", "--version", 2)["recorded"] is True


def test_a_day_goes_with_an_announcement_only(lethe: CommandLine) -> None:
    """Given --effective-on without --announce, then it is a usage error."""
    options = ("--version", 1, "--effective-on", "2030-01-01")
    assert lethe.json("account", "adopt", "mailkai", *options, code=2)["error"] == "not_announcing"


def test_a_broken_pack_in_the_folder_stops_the_program_with_its_lines(lethe: CommandLine, packs: Path) -> None:
    """Given a file with a mistake in the folder of packs, then every command says so instead of going on without it."""
    (packs / "bad.toml").write_text("[pack]\nname = 3\n")
    told = lethe.json("account", "list", code=1)
    assert told["error"] == "policy_invalid"
    assert "bad.toml" in told["message"]
    assert "line 2" in told["message"]


# HTTP -----------------------------------------------------------------------------------------------------------------


def test_the_report_over_http_is_json_and_a_page(api: Api) -> None:
    """Given an auditor's key, then the account's own pack is reported, as JSON, or as a page."""
    told = api.get("/v1/policy/report", scope="auditor")
    assert (told["pack"], told["account_id"], told["accounts"]) == ("mailkai", str(api.ledger.tenant), 1)
    assert len(told["clauses"]) == 37

    page = api.call("GET", "/v1/policy/report", scope="officer", headers={"Accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.text.startswith("<!doctype html>")
    assert page.headers["vary"] == "Accept"


def test_a_campaign_s_key_does_not_see_the_report(api: Api) -> None:
    """Given a key that sends campaigns, when it asks for the report, then it is refused."""
    assert api.call("GET", "/v1/policy/report", scope="campaign").status_code == 403
    assert api.call("GET", "/v1/policy/report", scope="").status_code == 401


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/HTML; q=0.5", True),
        ("text/html;q=0", False),
        ("text/html;q=0.4, application/json;q=0.9", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html;q=high", False),
        (", ".join(["a/b"] * 60) + ", text/html", False),
    ],
)
def test_a_page_is_answered_to_those_who_ask_for_it(accept: str, html: bool) -> None:
    """Given an Accept header, then a page is answered only where it is named and not less wanted than JSON."""
    assert prefers_html(accept) is html
