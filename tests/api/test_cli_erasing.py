"""`lethe erase`, `lethe subject show`, `lethe events` and `lethe suppressions lookup`."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store

KEYS = "SELECT count(*) FROM lethe_vault.wrapped_key WHERE tenant_id = %s AND holder = %s"


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Ann, who consented, was mailed and clicked."""
    line = CommandLine(instance, ledger, tmp_path, monkeypatch)
    line("contacts", "import", line.file("list.csv", "email,first_name", "ann@example.com,Ann"))
    consent = line.file("yes.csv", "email,purpose,action,ip", "ann@example.com,newsletter,grant,192.0.2.1")
    line("consents", "import", consent)
    campaign = line.campaign()
    answer = line.lines("authorise", campaign, "-", "--out", "-", stdin="ann@example.com\n")[0]
    clicked = {
        "message_id": answer["message_id"],
        "kind": "clicked",
        "occurred_at": "2026-11-21T20:15:00Z",
        "url": "https://shop.example/ann",
    }
    line("feedback", "-", stdin=json.dumps(clicked) + "\n")
    return line


def _keys(lethe: CommandLine, kid: bytes) -> int:
    with lethe.instance.vault_pool.transaction() as connection:
        row = connection.execute(KEYS, (lethe.ledger.tenant, kid)).fetchone()
    assert row is not None
    return int(row[0])


def test_a_dry_run_shows_the_plan_and_changes_nothing(lethe: CommandLine) -> None:
    """The plan names keys, events, messages and what is kept; no event is written and no key goes (I9)."""
    row, before = lethe.ledger.person("ann@example.com"), lethe.end()
    assert row is not None
    held = _keys(lethe, row.person.kid)

    planned = lethe.json("erase", "--file", "-", "--dry-run", stdin="ann@example.com\nnobody@example.com\n")

    ann, nobody = planned["plan"]
    assert ann["events"] == {"contact.added.v1": 1, "consent.granted.v1": 1}
    assert ann["message_events"] == 2  # authorised and clicked
    assert sum(ann["keys"].values()) == held
    assert ann["suppressions_kept"] == 1
    assert (nobody["held"], nobody["suppressions_kept"]) == (False, 1)
    assert lethe.end() == before
    assert _keys(lethe, row.person.kid) == held
    assert lethe.ledger.person("ann@example.com") is not None


def test_an_erasure_destroys_what_the_plan_said(lethe: CommandLine) -> None:
    """The keys of the plan go, the person is not found any more, and the address is suppressed for good."""
    row = lethe.ledger.person("ann@example.com")
    assert row is not None
    planned = lethe.json("erase", "--email", "ann@example.com", "--dry-run")["plan"][0]

    (erasure,) = lethe.json("erase", "--email", "ann@example.com", "--yes")["erasures"]

    assert erasure["state"] == "keys_destroyed"
    assert erasure["keys"] == sum(planned["keys"].values())
    assert _keys(lethe, row.person.kid) == 0
    assert lethe.json("subject", "show", "--email", "ann@example.com", code=5)["error"] == "unknown_contact"
    (looked,) = lethe.lines("suppressions", "lookup", "--email", "ann@example.com")
    assert [(entry["scope"], entry["cause"]) for entry in looked["entries"]] == [("all", "erased")]
    stream = UUID(bytes=row.person.subject)
    events = lethe.lines("events", "--stream", stream, "--open")
    assert "erased" in events[0]["email"]
    assert [event["kind"] for event in events][-2:] == ["erasure.intended.v1", "keys.destroyed.v1"]


def test_nothing_is_destroyed_unless_somebody_says_so(lethe: CommandLine) -> None:
    """Where nobody can be asked and --yes was not given, the plan is shown and nothing happens."""
    before = lethe.end()
    assert "--yes" in lethe.json("erase", "--email", "ann@example.com", code=2)["message"]
    assert lethe.end() == before


def test_a_reason_that_could_say_something_of_a_person_is_refused(lethe: CommandLine) -> None:
    """The reason stays readable for ever, so it is one of a list and no sentence."""
    options = ("--email", "ann@example.com", "--yes", "--reason", "Ann asked on the phone")
    assert lethe.json("erase", *options, code=2)["error"] == "invalid_reason"


def test_one_bad_address_stops_the_whole_erasure(lethe: CommandLine) -> None:
    """An address that is none is told before anything is destroyed."""
    before = lethe.end()
    said = lethe.json("erase", "--file", "-", "--yes", stdin="ann@example.com\nann at example\n", code=1)
    assert said["error"] == "invalid_address"
    assert "ann" not in said["message"]
    assert lethe.end() == before


def test_looking_at_a_person_is_recorded_before_anything_is_shown(lethe: CommandLine) -> None:
    """Identity, permissions and messages are shown, and the log holds who was looked at (I8)."""
    shown = lethe.json("subject", "show", "--file", "-", stdin="ann@example.com\n")

    assert shown["identity"] == {"email": "ann@example.com", "first_name": "Ann"}
    assert [(p["purpose"], p["status"]) for p in shown["permissions"]] == [("newsletter", "granted")]
    assert shown["events"][-1]["url"] == "https://shop.example/ann"
    last = lethe.ledger.log.select_log(lethe.end(), 1)[0]
    viewed = lethe.ledger.sealing.open(last)
    assert viewed.TOPIC == "access.viewed.v1"
    assert str(getattr(viewed, "subject", None)) == shown["subject_id"]


def test_a_view_that_cannot_be_recorded_shows_nothing(lethe: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the record of the look fails, nothing personal is printed."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no record")

    monkeypatch.setattr(Ledger, "record_view", fail)
    printed = lethe("subject", "show", "--email", "ann@example.com", "--json", code=70)
    assert "ann" not in printed.lower()


def test_sealed_parts_stay_sealed_unless_opened(lethe: CommandLine) -> None:
    """A search names sealed parts without opening them, and leaves no record of a view; --open does both."""
    before = lethe.end()
    (added,) = lethe.lines("events", "--kind", "contact.added")
    assert "email" in added["sealed"]
    assert "ann" not in json.dumps(added)
    assert lethe.end() == before

    (opened,) = lethe.lines("events", "--kind", "contact.added", "--open")
    assert opened["email"] == "ann@example.com"
    assert lethe.topics()[-1] == "access.viewed.v1"


def test_a_kind_that_is_none_names_those_that_are(lethe: CommandLine) -> None:
    """A search for an unknown kind is refused with the list of kinds."""
    assert "consent.granted" in lethe.json("events", "--kind", "nonsense", code=1)["message"]


def test_control_characters_do_not_reach_the_terminal(lethe: CommandLine) -> None:
    """A name that would steer a terminal is shown with a sign in place of each control character."""
    steering = "\x1b]0;owned\x07"
    lethe("contacts", "import", lethe.file("evil.csv", "email,first_name", f"eve@example.com,{steering}"))
    shown = lethe("subject", "show", "--email", "eve@example.com")
    assert "\x1b" not in shown
    assert "owned" in shown
