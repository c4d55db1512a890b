"""Memory: the most that a process holds which authorises a long stream of recipients, whatever its length."""

from __future__ import annotations

import json
import subprocess

from bench.budgets import Line
from bench.stand import ROOT, Stand, python, register

CHILD_SECONDS_MAX = 1800.0


def measure(stand: Stand) -> list[Line]:
    """A child process of its own authorises everybody again and again, as occurrences of an ongoing campaign."""
    ledger, sizes = stand.ledger, stand.sizes
    campaign = register(ledger, ongoing=True)
    order = {
        "tenant": ledger.tenant.hex,
        "campaign": campaign.campaign_id.hex,
        "people": sizes.people,
        "recipients": sizes.streamed,
    }
    done = subprocess.run(
        python("-m", "bench.child_authorise"),
        check=True,
        input=json.dumps(order).encode(),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=stand.environment(),
        timeout=CHILD_SECONDS_MAX,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["allowed"] == sizes.streamed, "The child did not authorise everybody."
    what = f"a process that authorises {sizes.streamed:,} streamed recipients, peak memory"
    return [
        Line("memory", what, found["peak_mb"], "MB", "memory_peak_mb"),
        Line("memory_start", "the same process before its first recipient", found["start_mb"], "MB"),
    ]
