"""The policy report for people and for machines: as one page of HTML, and as JSON.

The command line and the HTTP API show the same report. The page is rendered by the server and loads nothing: its
style is inside it, allowed by its hash, so that it can be kept as a file and opened anywhere.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from hashlib import sha256
from importlib import resources
from typing import Any, Final
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined

from retention.policy.clause_figures import class_line, class_values
from retention.policy.report import STATUS_WORDS, ClauseReport, PolicyReport

STYLE: Final = (resources.files("api") / "static" / "policy.css").read_text(encoding="utf-8")
CONTENT_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)

_pages: Final = Environment(
    loader=PackageLoader("api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def policy_page(report: PolicyReport, account: UUID | None) -> str:
    """The report as one page. `account` is whose it is, None where it is of every account under the pack."""
    return _pages.get_template("policy_report.html").render(
        report=report,
        account=account,
        style=STYLE,
        words=STATUS_WORDS,
        class_line=class_line,
    )


def policy_json(report: PolicyReport, account: UUID | None) -> dict[str, Any]:
    """The report for machines; values are JSON's, dates, times and ids."""
    pack = report.pack
    return {
        "pack": pack.name,
        "version": pack.version,
        "title": pack.title,
        "digest": pack.digest,
        "effective_from": pack.effective_from,
        "made_at": report.made_at,
        "account_id": account,
        "accounts": len(report.figures.each),
        "clauses": [_clause(clause) for clause in report.clauses],
        "classes": [
            {
                "class": known.name,
                "kept": known.rule,
                "clause": known.clause,
                "closure": known.closure,
                "outcomes": dict(known.outcomes),
                "why": known.why,
                **class_values(known.figures, known.next_due),
            }
            for known in report.classes
        ],
        "counts": report.counts,
        "no_control_yet": dict(report.pending),
        "failed": report.failed,
    }


def _clause(report: ClauseReport) -> dict[str, Any]:
    clause = report.clause
    return {
        "number": clause.number,
        "title": clause.title,
        "status": report.status,
        "kept_by": [asdict(by) for by in report.kept_by],
        "classes": list(clause.classes),
        "answers": clause.answers,
        "note": clause.note,
        "figures": report.figures.values,
        "late": report.figures.late,
    }
