"""One permission check over HTTP, in turns with a no-op synchronous FastAPI endpoint that is served the same way.

The load comes from a process of its own with keep-alive clients; both servers run all the time, and the one whose
turn it is not idles. Each client asks about another person every time.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from bench.budgets import Line
from bench.stand import ACTOR, CHANNEL, PURPOSE, ROOT, Stand, python
from bench.timing import interleaved, medians

PEOPLE_ASKED_ABOUT = 2000
START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
LOAD_SECONDS_MAX = 60.0


def measure(stand: Stand) -> list[Line]:
    """Answers per second of both, by turns, and the 99th percentile of ours."""
    ledger, sizes = stand.ledger, stand.sizes
    key = ledger.issue_api_key(("campaign",), actor=ACTOR)
    asked = stand.emails[:PEOPLE_ASKED_ABOUT]
    bodies = [json.dumps({"email": email, "purpose": PURPOSE, "channel": CHANNEL}) for email in asked]
    waits: list[dict[str, float]] = []
    order = {"bodies": bodies, "clients": sizes.check_clients, "seconds": sizes.check_seconds}
    with served(stand, "lethe") as ours, served(stand, "no-op") as theirs:
        headers = {"Authorization": f"Bearer {key}"}

        def check(number: int) -> float:
            found = load(order | {"port": ours, "path": "/v1/permissions/check", "headers": headers})
            if number >= 0:
                waits.append(found)
            return found["requests"] / found["seconds"]

        def no_op(_: int) -> float:
            found = load(order | {"port": theirs, "path": "/no-op", "headers": headers})
            return found["requests"] / found["seconds"]

        rates = medians(interleaved({"check": check, "no-op": no_op}, sizes.check_rounds))
    p50, p99 = (median(found[name] for found in waits) for name in ("p50_ms", "p99_ms"))
    ratio = rates["check"] / rates["no-op"]
    what = f"permission check over HTTP, {sizes.check_clients} clients"
    return [
        Line("no_op", "no-op synchronous FastAPI endpoint", rates["no-op"], "requests/s"),
        Line("check", f"{what} : no-op", rates["check"], "requests/s", "permission_check_vs_no_op", ratio),
        Line("check_p50_ms", f"{what}, median wait", p50, "ms"),
        Line("check_p99_ms", f"{what}, 99th percentile", p99, "ms", "permission_check_p99_ms"),
    ]


@contextmanager
def served(stand: Stand, which: str) -> Iterator[int]:
    """The port of a server of this application, in a process of its own, for the length of the block."""
    port = free_port()
    process = subprocess.Popen(
        python("-m", "bench.http_serve", which, str(port)),
        cwd=ROOT,
        env=stand.environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until_open(process, port)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def load(order: dict[str, Any]) -> dict[str, float]:
    """One run of the load generator. Raises if any request was not answered with 200."""
    done = subprocess.run(
        python("-m", "bench.http_load"),
        check=True,
        input=json.dumps(order).encode(),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=LOAD_SECONDS_MAX,
    )
    found: dict[str, float] = json.loads(done.stdout)
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"{order['path']} gave {found['failed']:.0f} answers that were not 200.")
    return found


def wait_until_open(process: subprocess.Popen[bytes], port: int) -> None:
    """Return once somebody listens. Raises if the server ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"The server on port {port} ended with code {process.returncode} before it served.")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Nobody listens on port {port} after {START_SECONDS_MAX:.0f} seconds.")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
