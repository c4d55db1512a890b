"""A streamed authorisation of a million recipients stays in bounded memory, whether or not its client reads along."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api.bootstrap import Instance
from domain.subject_commands import AddContact, RecordConsent
from ledger.application import Ledger
from ledger.subjects import Act

pytestmark = pytest.mark.store

PEOPLE = 4000
LINES_PER_PIECE = 1000
MEGABYTES_MAX = 300
SECONDS_MAX = 1800.0


def environment(instance: Instance) -> dict[str, str]:
    """What a process needs to serve the session's databases."""
    settings = instance.settings
    urls = {f"LETHE_{name.upper()}_URL": getattr(settings, f"{name}_url") for name in ("ledger", "reader", "vault")}
    here = {"LETHE_DATA_DIR": str(settings.data_dir), "PYTHONPATH": str(Path(__file__).parents[2])}
    return dict(os.environ) | urls | here


@pytest.fixture
def served(instance: Instance) -> Iterator[tuple[int, str]]:
    """`lethe serve` in a process of its own: its process id and its URL."""
    command = [sys.executable, "-m", "api.cli.main", "serve", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(instance)
    ) as process:
        try:
            assert process.stdout is not None
            yield process.pid, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


def peak_megabytes(process: int) -> int:
    """The most memory that a process has held."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("The kernel does not say.")


def everybody(ledger: Ledger) -> list[str]:
    """So many addresses of people who consented."""
    emails = [f"person{number}@example.com" for number in range(PEOPLE)]
    ledger.subjects.act([Act(AddContact(email), address=email, actor="cli") for email in emails])
    word = RecordConsent("newsletter", "email", "grant", evidence={"method": "double_opt_in"})
    ledger.subjects.act([Act(word, address=email, actor="cli") for email in emails])
    return emails


def send(connection: socket.socket, emails: list[str], count: int) -> None:
    """A chunked body of `count` lines."""
    for start in range(0, count, LINES_PER_PIECE):
        numbers = range(start, min(start + LINES_PER_PIECE, count))
        piece = "".join(f'{{"email":"{emails[number % PEOPLE]}"}}\n' for number in numbers).encode()
        connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
    connection.sendall(b"0\r\n\r\n")


def read(connection: socket.socket) -> tuple[int, bytes]:
    """How many recipients were allowed, and the last line."""
    allowed, last = 0, b""
    with connection.makefile("rb") as lines:
        for line in lines:
            if line.startswith(b'{"allowed"'):
                allowed += 1
            elif line.startswith(b'{"receipt"'):
                last = line
            elif line == b"0\r\n":
                break
    return allowed, last


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("reads_along", [True, False], ids=["reads along", "sends all first"])
@pytest.mark.parametrize(
    "count", [100_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(2 * SECONDS_MAX)])]
)
def test_memory_does_not_grow_with_the_stream(
    served: tuple[int, str], ledger: Ledger, count: int, reads_along: bool
) -> None:
    """A client that reads as it sends, and one that reads nothing until all is sent: both get every answer."""
    process, url = served
    emails = everybody(ledger)
    campaign = ledger.register_campaign(
        name="Spring",
        purpose="newsletter",
        channel="email",
        kind="one-off",
        content_sha256=None,
        tracking_disclosed=False,
        actor="cli",
    )
    head = (
        f"POST /v1/campaigns/{campaign}/authorisations HTTP/1.1\r\nHost: lethe\r\nTransfer-Encoding: chunked\r\n"
        f"Authorization: Bearer {ledger.issue_api_key(['campaign'], actor='cli')}\r\n"
        "Content-Type: application/x-ndjson\r\n\r\n"
    )
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=SECONDS_MAX) as connection:
        connection.sendall(head.encode())
        if reads_along:
            thread = threading.Thread(target=send, args=(connection, emails, count))
            thread.start()
            allowed, last = read(connection)
            thread.join()
        else:
            send(connection, emails, count)
            allowed, last = read(connection)
    assert allowed == count
    assert set(json.loads(last)) == {"receipt"}
    assert peak_megabytes(process) < MEGABYTES_MAX
