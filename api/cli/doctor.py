"""`lethe doctor`: look at everything that must hold here, and say what to do where it does not."""

from __future__ import annotations

import typer

from api.cli.checks import Finding, examine, failed
from api.cli.checks_safety import HARD_CHECKS
from api.cli.checks_work import WORK_CHECKS
from api.cli.failures import ExitCode
from api.cli.options import JsonFlag, settings
from api.cli.output import Output, counted

SIGNS = {"ok": "ok", "warn": "WARN", "fail": "FAIL"}


def doctor(as_json: JsonFlag = False) -> None:
    """Check that everything holds, and say what to do.

    Settings, databases, roles, logs, keys and work under way. Ends with 1 if something must be mended.
    """
    output = Output(as_json)
    with output.progress("Looking"):
        findings = examine(settings(), (*HARD_CHECKS, *WORK_CHECKS))
    bad = failed(findings)
    warned = sum(finding.state == "warn" for finding in findings)
    if as_json:
        output.line({"healthy": not bad, "failed": len(bad), "warned": warned, "findings": list(map(_row, findings))})
    else:
        output.table(["", "check", "seen"], [(SIGNS[f.state], f.check, f.seen) for f in findings])
        _advise(output, findings)
        healthy = "All is well." if not warned else f"It works; {counted(warned, 'warning')} above."
        output.say(healthy if not bad else f"{counted(len(bad), 'check')} failed. Mend these before anything else.")
    if bad:
        raise typer.Exit(ExitCode.REFUSED)


def _row(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "state": finding.state,
        "seen": finding.seen,
        "advice": finding.advice,
        "hard": finding.hard,
    }


def _advise(output: Output, findings: list[Finding]) -> None:
    to_do = [finding for finding in findings if finding.state != "ok" and finding.advice]
    if to_do:
        output.say("\nWhat to do")
        for finding in to_do:
            output.say(f"  {finding.check}: {finding.advice}")
    output.say("")
