"""The policy report: each clause of a pack with what keeps it, live figures, and what is late.

`policy_report` is pure: a pack and the figures that `policy_figures.read_figures` has read, told clause by clause by
`clause_figures`. A clause without any
control is a failure of the report, never a blank; a control that is not built yet is counted at the foot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Literal

from domain.personal import Feed
from projections.change_feed import DAYS_KEPT
from retention.policy.clause_figures import FIGURES, Figures, View, next_due
from retention.policy.controls import CONTROLS, Control, Kind
from retention.policy.figures import ClassFigures, LiveFigures
from retention.policy.pack import CAUSES, PACK_CLASSES, Clause, Outcome, Pack

Status = Literal["no_control", "late", "no_control_yet", "in_part", "kept"]
STATUSES: Final[tuple[Status, ...]] = ("kept", "in_part", "no_control_yet", "late", "no_control")

STATUS_WORDS: Final[Mapping[Status, str]] = {
    "kept": "kept",
    "in_part": "kept in part",
    "no_control_yet": "no control yet",
    "late": "late",
    "no_control": "no control: a failure",
}


@dataclass(frozen=True, slots=True)
class KeptBy:
    """One way in which a clause is kept: kind, control, what it does, and whether it is built (None: no control)."""

    kind: Kind
    control: str | None
    does: str
    built: bool | None


@dataclass(frozen=True, slots=True)
class ClauseReport:
    """One clause: how it stands, what keeps it, and its figures."""

    clause: Clause
    status: Status
    kept_by: tuple[KeptBy, ...]
    figures: Figures


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class: how long it is kept and by which clause, its keys, and what becomes of it for each cause."""

    name: str
    rule: str
    clause: str | None
    closure: str
    outcomes: Mapping[str, str]
    why: str | None
    figures: ClassFigures
    next_due: date | None


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """A pack, what keeps it, and how that stands at a moment."""

    pack: Pack
    made_at: datetime
    figures: LiveFigures
    clauses: tuple[ClauseReport, ...]
    classes: tuple[ClassReport, ...]
    pending: Mapping[str, int]
    """Controls that are not built yet, and how many clauses wait for each."""

    @property
    def counts(self) -> dict[Status, int]:
        """How many clauses stand how."""
        found = Counter(clause.status for clause in self.clauses)
        return {status: found[status] for status in STATUSES}

    @property
    def failed(self) -> bool:
        """Whether a clause has no control at all."""
        return any(clause.status == "no_control" for clause in self.clauses)


def policy_report(pack: Pack, figures: LiveFigures, made_at: datetime) -> PolicyReport:
    """The report of a pack over the accounts whose figures were read."""
    clauses = tuple(_clause_report(View(pack, clause, figures)) for clause in pack.clauses)
    pending = Counter(
        by.control for report in clauses for by in report.kept_by if by.control is not None and by.built is False
    )
    classes = tuple(_class_report(pack, name, figures) for name in sorted(PACK_CLASSES))
    return PolicyReport(pack, made_at, figures, clauses, classes, dict(sorted(pending.items())))


def _clause_report(view: View) -> ClauseReport:
    kept_by = tuple(_kept_by(keeping.kind, keeping.control) for keeping in view.clause.keepings)
    figures = Figures()
    groups = dict.fromkeys(CONTROLS[by.control].figures for by in kept_by if by.control is not None and by.built)
    for group in groups:
        FIGURES[group](view, figures)
    return ClauseReport(view.clause, _status(kept_by, figures), kept_by, figures)


def _kept_by(kind: Kind, name: str | None) -> KeptBy:
    control: Control | None = CONTROLS.get(name) if name is not None else None
    if control is None:
        return KeptBy(kind, None, "Nothing keeps this. Name a control in the pack.", None)
    return KeptBy(kind, control.name, control.does, control.keeps(kind))


def _status(kept_by: tuple[KeptBy, ...], figures: Figures) -> Status:
    built = [by.built for by in kept_by]
    if None in built:
        return "no_control"
    if figures.late:
        return "late"
    if all(built):
        return "kept"
    return "in_part" if any(built) else "no_control_yet"


# Classes ------------------------------------------------------------------------------------------------------------


def _class_report(pack: Pack, name: str, figures: LiveFigures) -> ClassReport:
    rule, closing = pack.rules.get(name), pack.closure.get(name)
    outcomes = [pack.outcomes[name, cause] for cause in CAUSES]
    return ClassReport(
        name=name,
        rule=_rule_said(pack, name),
        clause=rule.clause if rule is not None else None,
        closure=f"after {closing.keep}" if closing is not None else "not by closure",
        outcomes={outcome.cause: _outcome_said(outcome) for outcome in outcomes},
        why=next((outcome.why for outcome in outcomes if outcome.why), None),
        figures=figures.of_class(name),
        next_due=next_due(pack, name, figures),
    )


def _rule_said(pack: Pack, name: str) -> str:
    rule = pack.rules.get(name)
    if rule is None:
        return f"{DAYS_KEPT} days" if name == Feed.name else "as long as its hold"
    if rule.clock == "for_ever":
        return "for ever"
    if rule.clock == "account_closed":
        return "while the account lives"
    after = f"by the {rule.unit}" if rule.clock == "calendar" else f"after the {rule.clock.replace('_', ' ')}"
    least, first = "at least " if rule.minimum else "", ", aggregated first" if rule.aggregate_first else ""
    return f"{least}{rule.keep} {after}{first}"


def _outcome_said(outcome: Outcome) -> str:
    if outcome.destroyed:
        return "destroyed"
    return f"kept, {outcome.limb}" if outcome.limb else "nothing held"
