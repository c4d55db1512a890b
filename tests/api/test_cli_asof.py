"""`lethe subject as-of` and `lethe replay`, and the same question over HTTP."""

from __future__ import annotations

import csv
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.bootstrap import Instance
from domain.access import AccessRefused, ExportOpened, ExportProduced, PersonalDataViewed
from domain.law.rules import packaged_texts
from ledger.application import Ledger
from tests.api.cli_support import CommandLine
from tests.api.conftest import Api

pytestmark = pytest.mark.store


def soon() -> str:
    """A time that is still to come; who asks for it is answered as of now."""
    return (datetime.now(UTC) + timedelta(hours=12)).isoformat()


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Two contacts, of whom ann consented, and a campaign that asked for both."""
    line = CommandLine(instance, ledger, tmp_path, monkeypatch)
    line("contacts", "import", line.file("list.csv", "email,country", "ann@example.com,DE", "bob@example.com,DE"))
    line("consents", "import", line.file("yes.csv", "email,purpose,action", "ann@example.com,newsletter,grant"))
    line("authorise", line.campaign(), line.file("to", "ann@example.com", "bob@example.com"), code=0)
    return line


def opted_out(lethe: CommandLine) -> str:
    """A law file under which nobody has to be asked."""
    text = packaged_texts()["regimes.toml"].replace('marketing = "opt-in"', 'marketing = "opt-out"')
    return str(lethe.file("regimes.toml", text))


def test_the_past_is_shown_and_that_it_was_looked_at_is_recorded(lethe: CommandLine) -> None:
    """Given a consent of today, when yesterday and today are asked, each is answered, and each look is a fact."""
    ask = ("subject", "as-of", "--email", "ann@example.com", "--purpose", "newsletter")
    before = lethe.json(*ask, "--on", "2026-01-01")
    now = lethe.json(*ask, "--on", soon())
    assert (before["known"], before["decision"]["rule"]) == (False, "unknown_recipient")
    assert (now["known"], now["decision"]["rule"]) == (True, "consent")
    assert now["permissions"][0]["purpose"] == "newsletter"
    assert datetime.fromisoformat(now["at"]) <= datetime.now(UTC)
    assert lethe.topics().count(PersonalDataViewed.TOPIC) == 2
    assert "consent" in lethe(*ask, "--on", soon(), "--meaning", "occurred")


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--on", "yesterday"), "Write a day as", 2),
        (("--on", "2026-01-01", "--meaning", "guessed"), "recorded or occurred", 2),
        (("--on", "2026-01-01", "--purpose", "Not A Purpose!"), "purpose", 1),
        (("--on", "2999-01-01"), "2999-01-01 is still to come", 2),
    ],
)
def test_wrong_questions_are_answered_with_what_to_do(
    lethe: CommandLine, arguments: tuple[str, ...], said: str, code: int
) -> None:
    """Given a day, meaning or purpose that cannot be, then the answer says how to write it."""
    lethe("subject", "as-of", "--email", "ann@example.com", *arguments, code=code)
    assert said in lethe.said


def test_a_replay_lists_what_would_differ_and_names_nobody_unasked(lethe: CommandLine) -> None:
    """Given other rules, when sends are replayed into a file, then the file is private and names persons on request."""
    rules = opted_out(lethe)
    plain, opened = lethe.folder / "plain.csv", lethe.folder / "opened.ndjson"
    found = lethe.json("replay", "--rules", rules, "--out", plain)
    assert (found["decided_again"], found["differences"]) == (2, {"would_be_allowed": 1})
    assert stat.S_IMODE(plain.stat().st_mode) == 0o600
    rows = list(csv.DictReader(plain.read_text().splitlines()))
    assert [(row["rule"], row["other_rule"]) for row in rows] == [("no_consent", "opt_out_regime")]
    assert "subject" not in rows[0]
    assert "bob" not in plain.read_text()
    lethe("replay", "--rules", rules, "--out", opened, "--open")
    assert json.loads(opened.read_text())["email"] == "bob@example.com"
    topics = lethe.topics()
    assert topics.count(ExportProduced.TOPIC) == 2
    assert topics.count(ExportOpened.TOPIC) == 1
    assert topics.count(PersonalDataViewed.TOPIC) == 1


def test_the_rules_of_a_day_replay_as_they_were(lethe: CommandLine) -> None:
    """Given the rules of today's law by date, when today's sends are replayed, then nothing differs."""
    found = lethe.json("replay", "--rules", "2026-01-01", "--from", "2026-01-01", "--to", soon())
    assert (found["decisions"], found["decided_again"], found["differences"]) == (2, 2, {})
    assert lethe.json("replay", "--rules", "2026-01-01", "--to", "2026-01-02")["decided_again"] == 0


def test_the_log_keeps_no_path_of_a_replays_rules(lethe: CommandLine) -> None:
    """Given a folder whose name looks like a day, when it is named as rules, then the log says that they were files;
    and a day in a form that is not ours is no day."""
    folder = lethe.folder / "2026-anna1"
    folder.mkdir()
    (folder / "regimes.toml").write_text(packaged_texts()["regimes.toml"])
    for number, rules in enumerate((folder.name, "2026-01-01")):
        lethe("replay", "--rules", rules, "--out", lethe.folder / f"{number}.csv")
    events = lethe.ledger.log.select_log(None, 10_000, topics=[ExportProduced.TOPIC])
    kept = [json.loads(event.state)["plain"]["what"] for event in events]
    assert kept == ["rules from files", "rules 2026-01-01"]
    lethe("replay", "--rules", "20260101", code=2)


@pytest.mark.parametrize(
    ("name", "text", "said", "code"),
    [
        ("rules.toml", "", "keeps its name", 2),
        ("regimes.toml", "[[row]]\nregime = 1\n", "regime", 1),
        ("regimes.toml", "not toml", "regimes.toml", 1),
    ],
)
def test_what_is_no_law_is_refused_with_the_reason(
    lethe: CommandLine, name: str, text: str, said: str, code: int
) -> None:
    """Given a file that is no law, when it is named as rules, then the refusal says why and nothing is replayed."""
    lethe("replay", "--rules", lethe.file(name, text), code=code)
    assert said in lethe.said


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--from", "2026-02-01", "--to", "2026-01-01"), "Exchange the two", 2),
        (("--campaign", "01a201f3-7624-7acf-a892-24fd52d4eb3a"), "no campaign with this id", 5),
        (("--out", "differ.xlsx"), ".csv or in .ndjson", 2),
        (("--out", "nowhere/differ.csv"), "There is no folder", 1),
    ],
)
def test_a_replay_of_what_is_not_there_is_refused(
    lethe: CommandLine, arguments: tuple[str, ...], said: str, code: int
) -> None:
    """Given times exchanged, an unknown campaign or a file that cannot be, then that is said, and not "nothing"."""
    lethe("replay", "--rules", "2026-01-01", *arguments, code=code)
    assert said in lethe.said


def test_a_replay_that_fails_half_way_leaves_no_file(lethe: CommandLine) -> None:
    """Given a day before the law begins, which shows when decisions are made again, then no half file is left."""
    folder = lethe.folder / "law"
    folder.mkdir()
    (folder / "regimes.toml").write_text(packaged_texts()["regimes.toml"].replace("1970-01-01", "2990-01-01"))
    out = lethe.folder / "differ.csv"
    lethe("replay", "--rules", folder, "--out", out, code=1)
    assert not out.exists()


def test_the_past_over_http_is_for_officers(api: Api) -> None:
    """Given a known person, when an officer asks about today it is answered and recorded; others are turned away."""
    api.add("anna@example.com")
    asked = {"email": "anna@example.com", "at": soon(), "purpose": "newsletter"}
    assert (
        api.call("POST", "/v1/standing/as-of", asked | {"at": "2100-01-01T00:00:00Z"}, scope="officer").status_code
        == 422
    )
    answer = api.post("/v1/standing/as-of", asked, scope="officer")
    assert (answer["known"], answer["decision"]["rule"]) == (True, "consent")
    early = api.post("/v1/standing/as-of", asked | {"at": "2001-01-01T00:00:00Z"}, scope="officer")
    assert (early["known"], early["permissions"]) == (False, [])
    end = api.end_of_log()
    refused = [
        api.call("POST", "/v1/standing/as-of", asked | {"at": "1900-01-01T00:00:00Z"}, scope="officer"),
        api.call("POST", "/v1/standing/as-of", asked, scope="auditor"),
        api.call("POST", "/v1/standing/as-of", asked | {"email": "ghost@example.com"}, scope="officer"),
        api.call("POST", "/v1/standing/as-of", asked | {"meaning": "guessed"}, scope="officer"),
    ]
    assert [answer.status_code for answer in refused] == [422, 403, 404, 422]
    assert [e.topic for e in api.ledger.log.select_log(end + 1, 10)] == [AccessRefused.TOPIC]
