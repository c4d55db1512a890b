"""The audit trail's export over HTTP and on the command line: who may have what, and how one goes on."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.bootstrap import Instance
from audit.trail import section as sections
from audit.trail.export import TrailExport
from domain.access import AccessRefused, ExportProduced, PersonalDataViewed
from ledger.application import Ledger
from ledger.mapper import LedgerEvent
from tests.acts import emails, willing
from tests.api.cli_support import CommandLine
from tests.api.conftest import Api

pytestmark = pytest.mark.store

WAIT_SECONDS_MAX = 60.0


@pytest.fixture
def cli(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line on a fresh account with two people."""
    willing(ledger, emails(2))
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


def lines(text: str) -> list[Any]:
    """The objects of NDJSON."""
    return [json.loads(line) for line in text.splitlines()]


AS_CSV = {"format": "csv"}


# Over HTTP ------------------------------------------------------------------------------------------------------------


def test_streams_the_log_and_says_where_to_go_on(api: Api) -> None:
    """Given a log, when an auditor asks for it twice, then it comes whole, and then what was added since."""
    api.add("anna@example.com")
    end = api.end_of_log()
    answer = api.call("POST", "/v1/trail", {}, scope="auditor")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["cache-control"] == "no-store"
    assert [line["position"] for line in lines(answer.text)] == list(range(1, end + 1))
    assert answer.headers["lethe-last-position"] == str(end)
    assert "anna" not in answer.text
    more = api.call("POST", "/v1/trail", {"after": end}, scope="auditor")
    assert [line["entry"]["topic"] for line in lines(more.text)] == [ExportProduced.TOPIC]


def test_csv_is_a_file_with_column_names(api: Api) -> None:
    """Given a log, when it is asked for as CSV, then it is a download whose first line names the columns."""
    api.add("anna@example.com")
    answer = api.call("POST", "/v1/trail", AS_CSV | {"topics": ["consent", "contact"]}, scope="officer")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["kind"] for row in rows] == ["contact.added.v1", "consent.granted.v1"]
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="trail.csv"'


def test_only_officers_have_parts_opened(api: Api) -> None:
    """Given sealed parts, when an officer asks for them, then they are shown and that is recorded; nobody else may."""
    api.add("anna@example.com")
    refused = api.call("POST", "/v1/trail", {"opened": True}, scope="auditor")
    assert refused.status_code == 403
    assert refused.json()["type"] == "/docs#problem-forbidden"
    answer = api.call("POST", "/v1/trail", {"opened": True, "topics": ["contact"]}, scope="officer")
    (line,) = lines(answer.text)
    assert line["opened"]["email"] == {"value": "anna@example.com"}
    seen = [e.topic for e in api.ledger.log.select_log(None, 1000)]
    assert seen[-2:] == [PersonalDataViewed.TOPIC, ExportProduced.TOPIC]


def test_a_campaign_key_gets_nothing(api: Api) -> None:
    """Given a key for sending, when it asks for the trail, then it is refused, and the refusal is recorded."""
    assert api.call("POST", "/v1/trail", AS_CSV, scope="campaign").status_code == 403
    assert api.call("POST", "/v1/trail", AS_CSV, scope="").status_code == 401
    assert AccessRefused.TOPIC in [e.topic for e in api.ledger.log.select_log(None, 1000)]


@pytest.mark.parametrize(
    "question",
    [
        {"opened": "yes"},
        {"after": -1},
        {"after": "1200"},
        {"after": 10**19},
        {"from": "yesterday"},
        {"to": "2026-11-21"},
        {"topics": ["nonsense"]},
        {"topics": ["consent"] * 51},
        {"format": "xml"},
        {"topic": "consent"},
        {"after": 10**9},
        {"from": "2026-11-22T00:00:00Z", "to": "2026-11-21T00:00:00Z"},
    ],
)
def test_a_question_that_cannot_be_read_is_a_problem(api: Api, question: dict[str, Any]) -> None:
    """Given a body with something wrong, then the answer is a problem that says what, before any line is sent."""
    answer = api.call("POST", "/v1/trail", question, scope="auditor")
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/docs#problem-invalid-request"


def test_a_client_that_goes_away_stops_the_reading(api: Api, monkeypatch: pytest.MonkeyPatch, server_url: str) -> None:
    """Given a client that hangs up after the first lines, then the export ends, its place is free again, and the fact
    says how much was handed out."""
    monkeypatch.setattr(sections, "WINDOW_POSITIONS", 1)
    gone = Event()

    def waiting(*arguments: Any, **named: Any) -> Iterator[list[LedgerEvent]]:
        """Two windows while the client is there, all others when it is not."""
        for number, window in enumerate(sections.read(*arguments, **named)):
            assert number < 2 or gone.wait(WAIT_SECONDS_MAX)
            yield window

    monkeypatch.setattr("audit.trail.export.read", waiting)
    willing(api.ledger, emails(100))
    whole = api.end_of_log()
    url = urlsplit(server_url)
    with socket.create_connection((url.hostname, url.port)) as connection:
        head = (
            "POST /v1/trail HTTP/1.1\r\nHost: lethe\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
            f"Authorization: Bearer {api.key('auditor')}\r\n\r\n{{}}"
        )
        connection.sendall(head.encode())
        assert connection.recv(200).startswith(b"HTTP/1.1 200")
    gone.set()
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while (last := api.ledger.log.select_log(api.end_of_log(), 1)[0]).topic != ExportProduced.TOPIC:
        assert time.monotonic() < deadline, "The export did not end."
        time.sleep(0.05)
    handed_out = json.loads(last.state)["plain"]["entries"]
    assert 0 < handed_out < whole


def test_no_more_streams_than_there_are_places(api: Api, app: Any) -> None:
    """Given that all places are taken, when another export is asked for, then it is told to come again.

    The places are counted from the first export on, so there is one before they are taken.
    """
    assert api.call("POST", "/v1/trail", AS_CSV, scope="auditor").status_code == 200
    desk = app.state.desk
    taken = [object() for _ in range(int(desk.streams.available_tokens))]
    for one in taken:
        desk.streams.acquire_on_behalf_of_nowait(one)
    try:
        answer = api.call("POST", "/v1/trail", AS_CSV, scope="auditor")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
    finally:
        for one in taken:
            desk.streams.release_on_behalf_of(one)
    assert api.call("POST", "/v1/trail", AS_CSV, scope="auditor").status_code == 200
    assert desk.streams.borrowed_tokens == 0


# On the command line --------------------------------------------------------------------------------------------------


def test_writes_a_private_file_and_says_its_digest(cli: CommandLine) -> None:
    """Given a log, when it is exported into a file, then only its owner may read it, and the log knows its digest."""
    end = cli.end()
    said = cli.json("trail", "export", "--format", "csv", "--out", "trail.csv")
    path = cli.folder / "trail.csv"
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert said == {
        "file": "trail.csv",
        "format": "csv",
        "entries": end,
        "opened": 0,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "next": end,
    }
    assert json.loads(cli.ledger.log.select_log(cli.end(), 1)[0].state)["plain"]["digest"] == said["sha256"]
    assert cli.json("trail", "export", "--out", "trail.csv", code=1)["error"] == "file_exists"


def test_goes_to_standard_output_else(cli: CommandLine) -> None:
    """Given no file, when the trail is exported, then the lines are on standard output and the rest beside it."""
    found = lines(cli("trail", "export", "--topic", "contact", "--open"))
    assert sorted(line["opened"]["email"]["value"] for line in found) == emails(2)
    assert "2 events" in cli.said
    assert cli.json("trail", "export", code=2)["error"] == "out_needed"
    assert cli.json("trail", "export", "--topic", "nonsense", "--out", "x", code=1)["error"] == "refused"
    assert cli.json("trail", "export", "--from", "soon", "--out", "x", code=2)["error"] == "invalid_time"
    assert not (cli.folder / "x").exists()


def test_resumes_after_a_position(cli: CommandLine) -> None:
    """Given an export, when one goes on after its end, then the two together are the log, each event once."""
    first = cli.json("trail", "export", "--out", "a.ndjson", "--to", "2020-01-01")
    assert (first["entries"], first["next"]) == (0, 0)
    whole = cli.json("trail", "export", "--out", "b.ndjson")
    cli.json("trail", "export", "--out", "c.ndjson", "--after", whole["next"])
    positions = [line["position"] for name in ("b", "c") for line in lines((cli.folder / f"{name}.ndjson").read_text())]
    assert positions == list(range(1, cli.end() + 1))


def test_slips_are_told_and_leave_no_file(cli: CommandLine) -> None:
    """Given times in the wrong order, a position beyond the end or a folder that is none, then no file is begun."""
    for arguments, error in (
        (["--from", "2026-12-01", "--to", "2026-11-01"], "invalid_section"),
        (["--after", "1000000"], "invalid_section"),
        (["--after", "9" * 30], "invalid_section"),
    ):
        assert cli.json("trail", "export", *arguments, "--out", "slip.csv", code=2)["error"] == error
    said = cli.json("trail", "export", "--out", "nowhere/slip.csv", code=1)
    assert (said["error"], "no folder" in said["message"]) == ("unwritable_file", True)
    assert not (cli.folder / "slip.csv").exists()


def test_a_disk_that_is_full_is_no_fault_of_the_program(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given that no more can be written, then it ends with 1 and says so, and half a file is taken away again."""

    def full(_: TrailExport) -> Iterator[bytes]:
        yield b"begun"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrailExport, "blocks", full)
    said = cli.json("trail", "export", "--out", "half.ndjson", code=1)
    assert (said["error"], "Make room" in said["message"]) == ("no_room", True)
    assert not (cli.folder / "half.ndjson").exists()
