"""`lethe campaign`, `lethe authorise` and `lethe feedback`: asked, answered, reported, counted."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store

NOW = "2026-11-21T20:15:00Z"


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Three contacts, of whom ann and bob consented to the newsletter."""
    line = CommandLine(instance, ledger, tmp_path, monkeypatch)
    line("contacts", "import", line.file("list.csv", "email", "ann@example.com", "bob@example.com", "cem@example.com"))
    consents = [f"{name}@example.com,newsletter,grant,2024-05-01,form" for name in ("ann", "bob")]
    line("consents", "import", line.file("yes.csv", "email,purpose,action,occurred_at,method", *consents))
    return line


@pytest.mark.parametrize(
    "recipients",
    [
        ["ann@example.com", "cem@example.com", "", "not an address @ all", "stranger@example.org"],
        ["name;E-Mail", "Ann;ann@example.com", "Cem;cem@example.com", "X;nothing", "S;stranger@example.org"],
        [
            '{"email": "ann@example.com"}',
            '{"email": "cem@example.com"}',
            '{"email": "half',
            '{"email": "stranger@example.org"}',
        ],
    ],
    ids=["lines", "csv", "ndjson"],
)
def test_each_recipient_is_answered_in_a_private_file(lethe: CommandLine, recipients: list[str]) -> None:
    """Given recipients in any of the three forms, each good one is answered and each bad line is named."""
    campaign = lethe.campaign()
    out = lethe.folder / "out.ndjson"

    counts = lethe.json("authorise", campaign, lethe.file("to", *recipients), "--out", out, code=3)

    assert (counts["allowed"], counts["rejected"]) == (1, 1)
    assert counts["refused"] == {"no_consent": 1, "unknown_recipient": 1}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    answers = {row.get("email"): row for row in map(json.loads, out.read_text().splitlines())}
    assert answers["ann@example.com"]["result"] == "allowed"
    assert answers["ann@example.com"]["message_id"]
    assert answers["cem@example.com"]["rule"] == "no_consent"
    assert answers[None]["result"] == "rejected"


def test_answers_are_never_written_over(lethe: CommandLine) -> None:
    """A file that exists is left alone, and nothing is asked of the ledger."""
    campaign, out = lethe.campaign(), lethe.file("out.csv", "mine")
    before = lethe.end()
    assert lethe.json("authorise", campaign, lethe.file("to", "ann@example.com"), "--out", out, code=1)["error"] == (
        "file_exists"
    )
    assert out.read_text() == "mine\n"
    assert lethe.end() == before


def test_recipients_come_from_standard_input_and_answers_go_to_standard_output(lethe: CommandLine) -> None:
    """With - on both sides the answers and then the counts are the only lines printed."""
    lines = lethe.lines("authorise", lethe.campaign(), "-", "--out", "-", stdin="ann@example.com\nbob@example.com\n")
    assert [line.get("result") for line in lines] == ["allowed", "allowed", None]
    assert lines[-1]["allowed"] == 2


def test_an_unknown_campaign_and_one_that_is_none(lethe: CommandLine) -> None:
    """Nobody is authorised for a campaign that is not there; a text that is no id is a usage error."""
    to = lethe.file("to", "ann@example.com")
    assert lethe.json("authorise", uuid4(), to, code=5)["error"] == "unknown_campaign"
    assert lethe.json("authorise", "spring", to, code=2)["error"] == "invalid_campaign"


def test_a_closed_campaign_authorises_nobody(lethe: CommandLine) -> None:
    """Closing is final and harmless to repeat."""
    campaign = lethe.campaign()
    lethe("campaign", "close", campaign)
    lethe("campaign", "close", campaign)
    to = lethe.file("to", "ann@example.com")
    assert lethe.json("authorise", campaign, to, code=1)["error"] == "campaign_not_open"


def test_feedback_is_recorded_once_and_counted(lethe: CommandLine) -> None:
    """Deliveries and a complaint are counted by campaign; repeats, strays and broken lines are told apart."""
    campaign, out = lethe.campaign(), lethe.folder / "out.ndjson"
    lethe("authorise", campaign, lethe.file("to", "ann@example.com", "bob@example.com"), "--out", out)
    ann, bob = (json.loads(line)["message_id"] for line in out.read_text().splitlines())
    events = [
        *(
            {"message_id": m, "kind": kind, "occurred_at": NOW}
            for m in (ann, bob)
            for kind in ("dispatched", "delivered")
        ),
        {"message_id": ann, "kind": "delivered", "occurred_at": NOW},
        {"message_id": bob, "kind": "complained", "occurred_at": NOW},
        {"message_id": "nobody-knows-this", "kind": "opened", "occurred_at": NOW},
        {"message_id": ann, "kind": "teleported", "occurred_at": NOW},
        {"message_id": ann, "kind": "opened", "occurred_at": "yesterday"},
    ]
    report = lethe.file("events.ndjson", *map(json.dumps, events), '{"message_id": "cut')

    told = lethe.json("feedback", report, code=3)

    assert (told["recorded"], told["duplicates"], sum(told["parked"].values())) == (5, 1, 1)
    assert [bad["line"] for bad in told["rejected"]] == [8, 9, 10]
    shown = lethe.json("campaign", "show", campaign)
    assert {kind: shown["counts"][kind] for kind in ("authorised", "dispatched", "delivered", "complained")} == {
        "authorised": 2,
        "dispatched": 2,
        "delivered": 2,
        "complained": 1,
    }
    assert lethe.ledger.check([("bob@example.com", "newsletter", "email")])[0].rule == "complaint"


def test_the_change_feed_tells_of_a_no(lethe: CommandLine) -> None:
    """What became unmailable is in the feed with its address, and the cursor goes on from there."""
    lethe("suppressions", "import", lethe.file("gone.csv", "email", "ann@example.com"))

    lines = lethe.lines("suppressions", "changes")

    told = [line for line in lines if line.get("kind") == "suppressed"]
    assert [(line["email"], line["cause"]) for line in told] == [("ann@example.com", "unsubscribed")]
    assert lethe.topics()[-1] == "access.viewed.v1"
    after = lines[-1]["next"]
    assert [list(line) for line in lethe.lines("suppressions", "changes", "--after", after)] == [["next"]]


@pytest.mark.parametrize("name", ["standing", "campaign_view", "change_feed"])
def test_a_projection_is_rebuilt(lethe: CommandLine, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every projection can be built again; the answers are the same afterwards."""
    asked = ("ann@example.com", "newsletter", "email")
    before = lethe.ledger.check([asked])[0].rule
    end = lethe.end()

    done = lethe.json("rebuild", name)

    assert done == {"rebuilt": name, "position": end}
    assert lethe.ledger.check([asked])[0].rule == before
