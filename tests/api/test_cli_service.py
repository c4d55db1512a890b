"""`lethe serve` and `lethe worker` as processes: they start, answer, and stop when told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.bootstrap import Instance
from ledger.application import Ledger
from tests.api.cli_support import CommandLine

pytestmark = pytest.mark.store

STOP_SECONDS_MAX = 60


@pytest.fixture
def lethe(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    line = CommandLine(instance, ledger, tmp_path, monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return line


@contextmanager
def _running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, object]]]:
    """A process of `lethe`, and the object that it printed when it was ready."""
    command = [sys.executable, "-m", "api.cli.main", *arguments, "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.usefixtures("lethe")
def test_the_api_is_served_and_stops_on_a_signal() -> None:
    """Served on a free port, with docs and health; SIGTERM ends it in order, with exit code 0."""
    with _running("serve", "--port", "0") as (process, ready):
        for path in ("/healthz", "/docs"):
            with urllib.request.urlopen(f"{ready['url']}{path}", timeout=60) as answer:  # noqa: S310  our own server
                assert answer.status == 200
        assert ready["docs"] == f"{ready['url']}/docs"

        process.send_signal(signal.SIGTERM)

        assert process.wait(STOP_SECONDS_MAX) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_worker_counts_and_stops_on_a_signal(lethe: CommandLine) -> None:
    """A worker takes the projections further until it is interrupted."""
    campaign = lethe.campaign()
    lethe("authorise", campaign, "-", stdin="stranger@example.org\n")
    with _running("worker") as (process, ready):
        assert ready == {"working": True}
        process.send_signal(signal.SIGINT)
        assert process.wait(STOP_SECONDS_MAX) == 0


def test_a_port_that_is_taken_is_said(lethe: CommandLine) -> None:
    """Two servers on one port: the second says so and ends."""
    with _running("serve", "--port", "0") as (_, ready):
        port = str(ready["url"]).rpartition(":")[2]
        assert lethe.json("serve", "--port", port, code=1)["error"] == "port_taken"
