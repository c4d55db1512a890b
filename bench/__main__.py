"""`make bench`: measure the budgets of the design in one run on one server, and say which of them hold.

    python -m bench [--json] [--soak] [--quick] [--only PART]…

Progress goes to standard error, the table to standard output. With --json nothing but one JSON object goes to
standard output. The exit code is 0 whether or not budgets hold, and 1 if a part could not be measured.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from bench import bulk, check, erasure, fsck, growth, memory, proving, publishing, report, rolling, singles, views
from bench.budgets import BY_NAME, Line
from bench.stand import NORMAL, QUICK, SOAK, Sizes, Stand, raised

NOT_ASKED_FOR = "it was not asked for"
ONLY_IN_SOAK = "it takes long: make soak"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the bench and the budgets it measures."""

    name: str
    measure: Callable[[Stand], list[Line]]
    budgets: tuple[str, ...]


PARTS = (
    Part("bulk", bulk.measure, ("authorise_vs_stock_save", "authorise_vs_raw_copy", "engagement_vs_stock_save")),
    Part("singles", singles.measure, ("single_commands_vs_raw_commits",)),
    Part("check", check.measure, ("permission_check_vs_no_op", "permission_check_p99_ms")),
    Part("projections", views.measure, ("projections_vs_stock_runner", "rebuild_events_per_second")),
    Part("erasure", erasure.measure_persons, ("erase_person_large_vs_small",)),
    Part("months", erasure.measure_months, ("destroy_month_large_vs_small",)),
    Part("publishing", publishing.measure, ("authorise_beside_publishing", "publishing_lag_seconds")),
    Part("memory", memory.measure, ("memory_peak_mb",)),
    Part("rolling", rolling.measure, ("roll_memory_peak_mb",)),
    Part("proofs", proving.measure, ("proof_p99_ms",)),
    Part("fsck", fsck.measure, ("fsck_events_per_second", "fsck_memory_large_vs_small")),
    Part("growth", growth.measure, ("growth_large_vs_small",)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for and report. Returns the exit code."""
    asked = _parser().parse_args(arguments)
    sizes = QUICK if asked.quick else SOAK if asked.soak else NORMAL
    progress = Console(stderr=True)
    lines: list[Line] = []
    failed: dict[str, str] = {}
    skipped: dict[str, str] = {}
    start = time.monotonic()
    with raised(sizes) as stand:
        for part in PARTS:
            reason = _why_not(part, asked.only, sizes)
            if reason is not None:
                skipped |= dict.fromkeys(part.budgets, reason)
                continue
            progress.print(f"{time.monotonic() - start:5.0f} s  measuring {part.name} …", highlight=False)
            try:
                lines += part.measure(stand)
            except Exception as error:  # noqa: BLE001  The edge of the process: shown in full, and its budgets do not hold.
                progress.print(traceback.format_exc(), markup=False, highlight=False)
                failed |= dict.fromkeys(part.budgets, f"{type(error).__name__}: {error}")
    if asked.json:
        found = report.as_object(lines, failed, skipped)
        print(report.json_line(found | {"seconds": round(time.monotonic() - start, 1)}))
    else:
        report.show(Console(width=None if sys.stdout.isatty() else 150), lines, failed, skipped)
    return 1 if failed else 0


def _why_not(part: Part, only: Sequence[str] | None, sizes: Sizes) -> str | None:
    if only and part.name not in only:
        return NOT_ASKED_FOR
    if all(BY_NAME[name].soak for name in part.budgets) and not sizes.growth_events:
        return ONLY_IN_SOAK
    return None


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m bench", description="Measure the budgets of the design.")
    made.add_argument("--json", action="store_true", help="write one JSON object instead of the table")
    made.add_argument("--soak", action="store_true", help="the long sizes, growth included")
    made.add_argument("--quick", action="store_true", help="tiny sizes, to see that every part works")
    names = [part.name for part in PARTS]
    made.add_argument("--only", action="append", choices=names, metavar="PART", help=f"one of {', '.join(names)}")
    return made


if __name__ == "__main__":
    sys.exit(main())
