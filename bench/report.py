"""The report: a table for people, and one JSON object for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.budgets import BUDGETS, BY_NAME, Line, verdicts


def table(lines: Sequence[Line], failed: Mapping[str, str]) -> Table:
    """What, value, unit, ratio, budget, holds."""
    made = Table(title="Lethe against its budgets", title_justify="left")
    made.add_column("what")
    for name in ("value", "unit", "ratio", "budget", "holds"):
        made.add_column(name, justify="left" if name == "unit" else "right")
    for line in lines:
        ratio = "" if line.ratio is None else _number(line.ratio)
        if line.budget is None:
            made.add_row(line.what, _number(line.value), line.unit, ratio, "", "")
            continue
        budget = BY_NAME[line.budget]
        bound = f"{'≥' if budget.sense == 'at_least' else '≤'} {_number(budget.bound)}"
        holds = "[green]yes[/]" if budget.holds(line.judged) else "[bold red]NO[/]"
        made.add_row(line.what, _number(line.value), line.unit, ratio, bound, holds)
    for name, reason in failed.items():
        made.add_row(f"{BY_NAME[name].promise}: {reason}", "", "", "", "", "[bold red]NO[/]")
    return made


def as_object(lines: Sequence[Line], failed: Mapping[str, str], skipped: Mapping[str, str]) -> dict[str, Any]:
    """Budgets with what was measured, the names that do not hold, and every figure.

    `failed` and `skipped` map names of budgets to reasons: a failed budget does not hold, a skipped one was not due.
    """
    judged = verdicts(lines, failed)
    return {
        "budgets": [
            {"name": v.budget.name, "value": _rounded(v.value), v.budget.sense: v.budget.bound, "holds": v.holds}
            for v in judged
        ],
        "below": [v.budget.name for v in judged if not v.holds],
        "not_measured": [{"name": b.name, "reason": skipped[b.name]} for b in BUDGETS if b.name in skipped],
        "failed": [{"name": name, "reason": reason} for name, reason in failed.items()],
        "figures": [
            {
                "name": line.name,
                "what": line.what,
                "value": _rounded(line.value),
                "unit": line.unit,
                "rounds": [_rounded(found) for found in line.rounds],
            }
            for line in lines
        ],
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def show(console: Console, lines: Sequence[Line], failed: Mapping[str, str], skipped: Mapping[str, str]) -> None:
    """The table, and what follows from it in words."""
    console.print(table(lines, failed))
    below = [v for v in verdicts(lines, failed) if not v.holds]
    for verdict in below:
        budget, value = verdict.budget, verdict.value
        found = "was not measured" if value is None else f"is {_number(value)}"
        bound = f"{budget.sense.replace('_', ' ')} {_number(budget.bound)}"
        console.print(f"[red]below budget:[/] {budget.name} {found} and should be {bound}.")
    if not below:
        console.print("Every budget that was measured holds.")
    for name, reason in skipped.items():
        console.print(f"not measured: {name}, because {reason}.")


def json_line(found: Mapping[str, Any]) -> str:
    """The object on one line."""
    return json.dumps(found, allow_nan=False)


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value == round(value) else f"{value:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
