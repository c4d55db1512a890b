"""The pages that show commands are walked through: every command is typed, every answer compared (STYLE 17)."""

from __future__ import annotations

import csv
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from typer.testing import CliRunner

from api.bootstrap import Instance
from api.cli.main import app as command_line
from api.http.app import create_app
from api.http.server import server_config
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from projections.worker import catch_up
from tests.docs.console import Command, masked, steps, walk
from tests.docs.pages import ROOT

TYPED_PAGES = ("docs/tutorial/first-ledger.md", "docs/how-to/import-from-mailchimp.md")
CURLED_PAGES = ("README.md", "docs/how-to/call-the-api.md", "docs/how-to/follow-the-change-feed.md")
WAIT_SECONDS_MAX = 60.0

Variables = dict[str, str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with no setting but the defaults; its server runs until the page is done."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".lethe").mkdir()
    with EmbeddedPostgres(tmp_path / ".lethe" / "postgres"):
        yield tmp_path


def _typed(words: list[str]) -> str:
    assert words[0] == "lethe", words
    result = CliRunner().invoke(command_line, words[1:])
    return result.stdout + result.stderr


class Curl:
    """Does what the pages' curl commands do, against the application itself."""

    def __init__(self, client: httpx.Client, ledger: Ledger, folder: Path, auth: str) -> None:
        self._client = client
        self._ledger = ledger
        self._folder = folder
        self._auth = auth

    def __call__(self, words: list[str]) -> str:
        """The body of the answer. Waits for erasures to end, as a reader who types the next command does."""
        assert words[:2] == ["curl", "-s"], words
        headers: dict[str, str] = {}
        url, content = "", None
        rest = iter(words[2:])
        for word in rest:
            if word == "-H":
                field, _, value = next(rest).partition(": ")
                headers[field] = value
            elif word == "--json":
                content = next(rest).encode()
                headers.setdefault("Content-Type", "application/json")
            elif word == "--data-binary":
                content = (self._folder / next(rest).removeprefix("@")).read_bytes()
            else:
                url = word
        if "/changes" in url:
            catch_up(self._ledger)  # A worker does this within moments.
        answered = self._client.request("GET" if content is None else "POST", url, headers=headers, content=content)
        self._finish_erasure(answered.text)
        return answered.text

    def _finish_erasure(self, answered: str) -> None:
        erasure = re.search(r'"erasure_id":"([0-9a-f-]{36})"', answered)
        field, _, value = self._auth.partition(": ")
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while erasure:
            state = self._client.get(f"/v1/erasures/{erasure[1]}", headers={field: value}).json()["state"]
            if state == "keys_destroyed":
                return
            assert time.monotonic() < deadline, "The erasure did not end."
            time.sleep(0.02)


@contextmanager
def _serving(instance: Instance) -> Iterator[str]:
    """The application on a free port, as `lethe serve` runs it; gives its URL."""
    server = uvicorn.Server(server_config(create_app(instance), host=instance.settings.host, port=0))
    thread = threading.Thread(target=server.run, name="docs-server")
    thread.start()
    try:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not server.started:
            assert time.monotonic() < deadline, "The server did not start."
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def _learn(variables: Variables, typed: str, answered: str, folder: Path) -> None:
    """What a reader notes down: the campaign's id, the cursor, and who has which message id."""
    campaign = re.search(r'(?:Registered campaign |"campaign_id":")([0-9a-f-]{36})', answered)
    cursor = re.search(r'"next":"([\w-]+)"', answered)
    if campaign:
        variables["CAMPAIGN"] = campaign[1]
    if cursor:
        variables["NEXT"] = cursor[1]
    if "answers.csv" in typed:
        with (folder / "answers.csv").open(encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                variables[row["email"].partition("@")[0].upper()] = row["message_id"]


def _follow(page: str, folder: Path, run: Callable[[list[str]], str], variables: Variables) -> None:
    for command, answered in walk((ROOT / page).read_text(), folder, run, variables):
        assert masked(answered) == masked(command.answer), command.typed
        _learn(variables, command.typed, answered, folder)


@pytest.mark.parametrize("page", TYPED_PAGES)
def test_a_page_of_typed_commands_can_be_followed(page: str, folder: Path) -> None:
    """Given an empty folder, when a reader does what the page says, then each answer is as the page shows it."""
    _follow(page, folder, _typed, {})


@pytest.mark.parametrize("page", CURLED_PAGES)
def test_a_page_of_requests_can_be_followed(page: str, instance: Instance, ledger: Ledger, tmp_path: Path) -> None:
    """Given a new account and a key, when a reader sends what the page says, then each answer is as it shows."""
    auth = f"Authorization: Bearer {ledger.issue_api_key(['campaign', 'officer'], actor='cli')}"
    with _serving(instance) as base, httpx.Client(base_url=base, timeout=60) as client:
        _follow(page, tmp_path, Curl(client, ledger, tmp_path, auth), {"LETHE": base, "AUTH": auth})


def test_every_page_with_commands_and_answers_is_followed() -> None:
    """Given all pages, then none shows an answer to a command that nobody types here."""
    shown = set()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if any(isinstance(step, Command) and step.answer for step in steps(path.read_text())):
            shown.add(str(path.relative_to(ROOT)))
    assert shown == {*TYPED_PAGES, *CURLED_PAGES}


@pytest.mark.parametrize(
    ("shown", "answered"),
    [
        ("Allowed: 2.", "Allowed: 3."),
        ('{"rule":"erased"}', '{"rule":"withdrawn"}'),
        ("1 row not taken.", "1 row not taken. And more."),
    ],
)
def test_an_answer_that_differs_is_noticed(shown: str, answered: str) -> None:
    """Given an answer that is not the one shown, then the comparison fails (the control of the tests above)."""
    assert masked(shown) != masked(answered)


def test_what_differs_between_two_runs_is_not_noticed() -> None:
    """Given the same answer with other ids and times, then the comparison passes."""
    one = "Campaign 01a2003c-7e64-7606-bcc3-b3d62c4edc4c at 2026-11-21 22:31:29Z"
    other = "Campaign 01a20040-507f-7516-9808-2faee206ef13 at 2027-01-02 03:04:05Z"
    assert masked(one) == masked(other)
