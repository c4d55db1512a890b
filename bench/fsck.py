"""`lethe fsck`: events per second in one process, and what that process holds on a log of ten or fifty times the size.

One account of its own is filled by real commands (sealed additions and consents, then authorisations campaign after
campaign), published, and checked by a process that begins anew each time: at 100 thousand events, and at the long size.
"""

from __future__ import annotations

import json
import subprocess
from statistics import median
from typing import Any

from bench.budgets import Line
from bench.stand import ROOT, Stand, add_people, python, register
from ledger.application import Ledger
from ledger.authorise_layout import Recipient

PEOPLE_SHARE = 5
"""Of the short log's events, two in so many are sealed ones about persons; the rest are authorisations."""

ROUNDS = 3
CHILD_SECONDS_MAX = 3600.0


def measure(stand: Stand) -> list[Line]:
    """Fill, publish and check, twice."""
    sizes = stand.sizes
    ledger = stand.open_account()
    emails = stand.emails[: max(1, sizes.fsck_small // PEOPLE_SHARE)]
    add_people(ledger, emails)
    recipients = [Recipient(index, email) for index, email in enumerate(emails)]
    _fill(stand, ledger, recipients, sizes.fsck_small)
    small = [_check(stand, ledger) for _ in range(ROUNDS)]
    _fill(stand, ledger, recipients, sizes.fsck_large)
    large = [_check(stand, ledger) for _ in range(ROUNDS)]
    rates = [told["events"] / told["seconds"] for told in large]
    young = [told["events"] / told["seconds"] for told in small]
    peak_small, peak_large = (max(told["peak_mb"] for told in found) for found in (small, large))
    events, busy = large[0]["events"], median(told["cpu_seconds"] / told["events"] for told in large)
    return [
        Line("fsck_young", f"fsck of {small[0]['events']:,} events", median(young), "events/s"),
        Line(
            "fsck",
            f"fsck of {events:,} events, all published",
            median(rates),
            "events/s",
            "fsck_events_per_second",
            rounds=tuple(rates),
        ),
        Line("fsck_cpu", "its own processor's time for each event", busy * 1e6, "µs"),
        Line("fsck_start_mb", "the process that checks, before it begins", large[0]["start_mb"], "MB"),
        Line("fsck_young_mb", "the same, peak on the short log", peak_small, "MB"),
        Line(
            "fsck_peak_mb",
            "peak on the long log : on the short one",
            peak_large,
            "MB",
            "fsck_memory_large_vs_small",
            peak_large / peak_small,
        ),
    ]


def _fill(stand: Stand, ledger: Ledger, recipients: list[Recipient], events: int) -> None:
    """Authorise campaigns until the log has so many events, and publish it."""
    while (missing := events - (ledger.log.max_notification_id() or 0)) > 0:
        stand.authorise(register(ledger), recipients[:missing], ledger=ledger)
    stand.instance.sequencer.publish_tenant(ledger)


def _check(stand: Stand, ledger: Ledger) -> dict[str, Any]:
    """What a process of its own tells of one check."""
    done = subprocess.run(
        python("-m", "bench.child_fsck"),
        check=True,
        input=json.dumps({"tenant": ledger.tenant.hex}).encode(),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=stand.environment(),
        timeout=CHILD_SECONDS_MAX,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["published"] == told["events"], "Not everything was published that was checked."
    return told
