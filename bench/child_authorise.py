"""A process that authorises a stream of recipients and says how much memory it took at most.

Reads one JSON object from standard input (tenant, campaign, people, recipients) and writes one to standard output
(peak_mb, start_mb, allowed). The databases come from the environment, as for any process of Lethe.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from api.bootstrap import running
from api.settings import Settings
from ledger.authorise_layout import Recipient


def main() -> None:
    """Authorise what standard input orders."""
    order = json.load(sys.stdin)
    with running(Settings(), application="lethe-bench-child") as instance:
        ledger = instance.ledger(UUID(order["tenant"]))
        account = ledger.account()
        start_mb = peak_mb()
        allowed = 0
        campaign = UUID(order["campaign"])
        for answer in ledger.authorisations.authorise(campaign, stream(order), account=account, actor="cli"):
            allowed += len(answer.allowed)
        print(json.dumps({"peak_mb": peak_mb(), "start_mb": start_mb, "allowed": allowed}))


def stream(order: dict[str, Any]) -> Iterator[Recipient]:
    """Every person again and again, each time for another occurrence; none is held."""
    for index in range(order["recipients"]):
        turn, number = divmod(index, order["people"])
        yield Recipient(index, f"person{number}@example.com", f"step-{turn}")


def peak_mb(status: Path = Path("/proc/self/status")) -> float:
    """The most memory this process ever held, in megabytes.

    From the kernel's high-water mark of this program; `ru_maxrss` would count what the parent held before it became
    this program, and serves where there is no /proc.
    """
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1000
    scale = 1_000_000 if sys.platform == "darwin" else 1000
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    main()
