"""The bench measures every budget of the design and says so in one JSON object; no test here judges a time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench_main
from bench.budgets import BUDGETS, BY_NAME, Line, verdicts
from bench.http_load import answer_is_whole, percentile
from bench.report import as_object

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "bench.md"

DESIGNED = [
    ("authorise_vs_stock_save", "at_least", 3.0),
    ("authorise_vs_raw_copy", "at_least", 0.25),
    ("engagement_vs_stock_save", "at_least", 1.5),
    ("single_commands_vs_raw_commits", "at_least", 1.0),
    ("permission_check_vs_no_op", "at_least", 0.5),
    ("permission_check_p99_ms", "at_most", 25.0),
    ("projections_vs_stock_runner", "at_least", 20.0),
    ("rebuild_events_per_second", "at_least", 50_000.0),
    ("erase_person_large_vs_small", "at_most", 2.0),
    ("destroy_month_large_vs_small", "at_most", 2.0),
    ("proof_p99_ms", "at_most", 5.0),
    ("fsck_events_per_second", "at_least", 100_000.0),
    ("fsck_memory_large_vs_small", "at_most", 1.1),
    ("growth_large_vs_small", "at_least", 0.8),
    ("authorise_beside_publishing", "at_least", 0.9),
    ("publishing_lag_seconds", "at_most", 2.0),
    ("memory_peak_mb", "at_most", 300.0),
    ("roll_memory_peak_mb", "at_most", 300.0),
]
"""The table of DESIGN section 12, row by row."""

QUICK_SECONDS_MAX = 100
ONLY_IN_SOAK = ["growth_large_vs_small"]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What `python -m bench --quick --json` says: every part that is not soak, on tiny sizes."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=QUICK_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_budgets_are_those_of_the_design() -> None:
    """Nobody loosens a budget, or forgets one, without touching this list."""
    assert [(b.name, b.sense, b.bound) for b in BUDGETS] == DESIGNED
    assert [b.name for b in BUDGETS if b.soak] == ONLY_IN_SOAK


def test_every_budget_belongs_to_exactly_one_part() -> None:
    """A budget without a part would never be measured, and nobody would notice."""
    measured = [name for part in bench_main.PARTS for name in part.budgets]
    assert sorted(measured) == sorted(BY_NAME)


def test_a_quick_run_judges_every_budget_that_is_due(found: dict[str, Any]) -> None:
    """One entry per budget, in order, with its bound under its own name; soak is named as not measured."""
    assert [b["name"] for b in found["budgets"]] == [name for name, _, _ in DESIGNED if name not in ONLY_IN_SOAK]
    for entry in found["budgets"]:
        budget = BY_NAME[entry["name"]]
        assert set(entry) == {"name", "value", budget.sense, "holds"}
        assert entry[budget.sense] == budget.bound
        assert entry["value"] > 0
        assert entry["holds"] is budget.holds(entry["value"])
    assert [n["name"] for n in found["not_measured"]] == ONLY_IN_SOAK
    assert found["failed"] == []


def test_below_names_what_does_not_hold_and_nothing_else(found: dict[str, Any]) -> None:
    """A reader of `below` alone knows the verdict."""
    assert found["below"] == [b["name"] for b in found["budgets"] if not b["holds"]]


def test_raw_figures_stand_beside_the_ratios(found: dict[str, Any]) -> None:
    """Whoever doubts a ratio finds both of its sides, each with its unit."""
    names = {figure["name"] for figure in found["figures"]}
    assert {"raw_copy", "stock_save", "authorise", "engagement", "raw_commits", "single_commands", "no_op"} <= names
    assert all(figure["value"] > 0 and figure["unit"] for figure in found["figures"])


def test_a_part_that_failed_does_not_hold() -> None:
    """A budget whose measurement broke is below budget, never silently absent."""
    made = as_object([], {"memory_peak_mb": "RuntimeError: no"}, {})
    assert made["budgets"] == [{"name": "memory_peak_mb", "value": None, "at_most": 300.0, "holds": False}]
    assert made["below"] == ["memory_peak_mb"]


def test_a_ratio_is_judged_where_there_is_one() -> None:
    """The rate itself is judged only for budgets that bound the figure."""
    lines = [
        Line("authorise", "…", 90_000.0, "recipients/s", "authorise_vs_stock_save", 2.9),
        Line("memory", "…", 120.0, "MB", "memory_peak_mb"),
    ]
    assert [(v.value, v.holds) for v in verdicts(lines, [])] == [(2.9, False), (120.0, True)]


def test_the_reference_explains_every_budget() -> None:
    """The reference page names the same budgets with the same bounds."""
    text = REFERENCE.read_text()
    for budget in BUDGETS:
        sign = "≥" if budget.sense == "at_least" else "≤"
        bound = f"{budget.bound:,.0f}" if budget.bound >= 1000 else f"{budget.bound:g}"
        assert re.search(rf"\| `{budget.name}` \|.*\| {sign} {re.escape(bound)}\b", text), budget.name


@pytest.mark.parametrize(
    ("received", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx: y\r\n\r\n{", False),
        (b"HTTP/1.1 200 OK\r\ncontent-len", False),
    ],
)
def test_the_load_generator_waits_for_whole_answers(received: bytes, *, whole: bool) -> None:
    """A wait that ended with half an answer would make servers look faster than they are."""
    assert answer_is_whole(received) is whole


def test_an_answer_of_unknown_length_stops_the_load_generator() -> None:
    """It would otherwise wait for ever."""
    with pytest.raises(ValueError, match="Content-Length"):
        answer_is_whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


def test_a_percentile_is_a_value_that_was_seen() -> None:
    """The 99th percentile of a hundred waits is the longest but one, or worse."""
    waits = [float(number) for number in range(1, 101)]
    assert percentile(waits, 0.99) == 100.0
    assert percentile(waits, 0.5) == 51.0
