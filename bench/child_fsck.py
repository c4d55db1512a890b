"""A process that checks one whole log and says how long that took and how much memory it held at most.

Reads one JSON object from standard input (tenant) and writes one to standard output (events, published, seconds,
cpu_seconds, start_mb, peak_mb). The databases come from the environment, as for any process of Lethe.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter, process_time
from uuid import UUID

from api.bootstrap import running
from api.settings import Settings
from audit.fsck import Outside, require_whole_log
from bench.child_authorise import peak_mb


def main() -> None:
    """Check the log that standard input names, with what custody kept of it."""
    tenant = UUID(json.load(sys.stdin)["tenant"])
    with running(Settings(), application="lethe-bench-fsck") as instance:
        outside = Outside(checkpoint=instance.custody.kept_checkpoints().get(tenant))
        start_mb, begun, busy = peak_mb(), perf_counter(), process_time()
        whole = require_whole_log(instance.urls.writer, tenant, outside)
        told = {
            "events": whole.events,
            "published": whole.published,
            "seconds": perf_counter() - begun,
            "cpu_seconds": process_time() - busy,
            "start_mb": start_mb,
            "peak_mb": peak_mb(),
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main()
