"""A process that rolls the epoch and says how fast it was and how much memory it took at most.

Writes a line when it is ready, begins when it reads one, and writes one JSON object at the end: rows and seconds of
each stage, peak_mb, start_mb. The databases come from the environment, as for any process of Lethe.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

from api.bootstrap import running
from api.settings import Settings
from bench.child_authorise import peak_mb
from retention.horizon.horizon import Horizon


def main() -> None:
    """Roll once."""
    rows: dict[str, int] = {}
    spent: dict[str, float] = {}
    with running(Settings(), application="lethe-bench-roll") as instance:
        start_mb = peak_mb()
        print("ready", flush=True)
        sys.stdin.readline()
        last = perf_counter()
        for step in Horizon(instance.services).roll():
            now = perf_counter()
            rows[step.stage] = rows.get(step.stage, 0) + step.rows
            spent[step.stage] = spent.get(step.stage, 0.0) + now - last
            last = now
        print(json.dumps({"rows": rows, "seconds": spent, "peak_mb": peak_mb(), "start_mb": start_mb}))


if __name__ == "__main__":
    main()
