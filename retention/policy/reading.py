"""Reading a policy pack from TOML: the shape of its tables, then what they must mean together.

Every mistake is collected with its line before anything is refused, so that somebody who writes a pack mends it in
one go; only a file that is no TOML at all stops at its first mistake. A check that needs a table which was already
found wrong is left out, because it would only repeat that.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from domain.category import CATEGORIES
from domain.personal import AccessLog, Billing, Engagement, EngagementTechnical, ErrorLog, Support, SuppressionData
from domain.personal import Usage as UsageData
from domain.register import KINDS
from ledger.keys.keyring import LINK
from ledger.keys.minimums import STATUTORY
from retention.policy.clocks import Span, Unit
from retention.policy.controls import CONTROLS
from retention.policy.lines import Lines, Path, line_of, lines_of
from retention.policy.model import (
    CAUSES,
    PACK_CLASSES,
    RULED_CLASSES,
    Cause,
    ClassRule,
    Clause,
    ClosureRule,
    Keeping,
    Mistake,
    Outcome,
    Pack,
    PackInvalid,
)
from retention.policy.seeds import read_seeds
from retention.policy.tables import (
    ARRAYS,
    ClauseTable,
    ClosureTable,
    HeadTable,
    KeepingTable,
    OutcomeTable,
    RetentionTable,
    Row,
    SpannedTable,
    T,
    arrays_named,
    shape_said,
)

DAYS_PER_MONTH_MAX: Final = 31
LIMBS: Final = tuple(f"17(3)({limb})" for limb in "abcde")

_OF_MESSAGES: Final = (Engagement.name, EngagementTechnical.name, LINK)
_BY_PERIOD: Final = (*_OF_MESSAGES, UsageData.name, AccessLog.name, ErrorLog.name, Support.name, Billing.name)
CLASSES_OF_CLOCK: Final[Mapping[str, frozenset[str]]] = {
    "calendar": frozenset(_BY_PERIOD),
    "last_engagement": frozenset(_OF_MESSAGES),
    "last_interaction": frozenset({Support.name}),
    "last_transaction": frozenset({Billing.name}),
    "account_closed": RULED_CLASSES,
    "for_ever": frozenset({SuppressionData.name}),
}
"""Which classes each clock can govern: the vault keeps one day per key, and only these events move it."""

UNIT_OF_CLASS: Final[Mapping[str, Unit]] = {AccessLog.name: "day", ErrorLog.name: "day"}
"""How long a calendar key of a class is in use, where that is not a month; the facts' own classes decide it."""


def parse_pack(text: str, file: str) -> Pack:
    """The pack in a text. `file` is what the text is called in errors. Raises `PackInvalid` with every mistake."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PackInvalid(file, [_not_toml(error, text)]) from None
    return _Reading(file, raw, lines_of(text)).pack()


def _not_toml(error: tomllib.TOMLDecodeError, text: str) -> Mistake:
    said, _, place = str(error).partition(" (at ")
    line = place.removeprefix("line ").partition(",")[0]
    last = text.rstrip("\n").count("\n") + 1
    return Mistake(int(line) if line.isdigit() else last, f"This is not TOML: {said}. Nothing after it was read.")


class _Reading:
    """One reading of one file: what was made of it so far, and every mistake."""

    def __init__(self, file: str, raw: dict[str, Any], lines: Lines) -> None:
        self._file = file
        self._raw = raw
        self._lines = lines
        self._mistakes: list[Mistake] = []
        self._broken: set[str] = set()

    def pack(self) -> Pack:
        """The pack. Raises `PackInvalid`."""
        head = self._head()
        clauses = self._clauses(self._rows("clause", ClauseTable))
        closure, of_category = self._closure(self._rows("closure", ClosureTable), clauses)
        rules = self._rules(self._rows("retention", RetentionTable), clauses, closure)
        outcomes = self._outcomes(self._rows("outcome", OutcomeTable))
        self._together(rules, closure, outcomes)
        seeds = read_seeds(self._raw, list(clauses), self._wrong)
        if self._mistakes or head is None:
            raise PackInvalid(self._file, self._mistakes)
        return Pack(
            name=head.name,
            version=head.version,
            title=head.title,
            document=head.document,
            effective_from=head.effective_from,
            horizon_days=head.horizon_days,
            notice_days=head.notice_days,
            minimum_age=head.minimum_age,
            clauses=tuple(clauses.values()),
            rules=rules,
            closure=closure,
            outcomes=outcomes,
            closure_of_category=of_category,
            seeds=seeds,
        )

    # Shapes ---------------------------------------------------------------------------------------------------------

    def _head(self) -> HeadTable | None:
        for name in self._raw.keys() - {"pack", *ARRAYS, *KINDS}:
            self._wrong((name,), f"There is no table [{name}] in a pack. Tables are [pack], {arrays_named()}.")
        if not isinstance(self._raw.get("pack"), dict):
            self._wrong(("pack",), "Begin with a table [pack]: name, version, title, document, effective_from, …")
            return None
        head = self._table(HeadTable, self._raw["pack"], ("pack",))
        if head is not None and type(head.effective_from).__name__ != "date":
            self._wrong(("pack", "effective_from"), "effective_from: write a day without quotes, such as 2026-03-02.")
        return head

    def _rows(self, name: str, table: type[T]) -> list[Row[T]]:
        found = self._raw.get(name, [])
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            self._wrong((name,), f"Write each of these as a table of its own, under the header [[{name}]].")
            self._broken.add(name)
            return []
        rows = [(number, self._table(table, row, (name, number))) for number, row in enumerate(found)]
        return [(number, row) for number, row in rows if row is not None]

    def _table(self, table: type[T], raw: dict[str, Any], path: Path) -> T | None:
        try:
            return table.model_validate(raw)
        except ValidationError as error:
            for wrong in error.errors(include_url=False, include_input=False):
                self._wrong((*path, *wrong["loc"]), shape_said(table, wrong))
            self._broken.add(str(path[0]))
            return None

    # Meanings -------------------------------------------------------------------------------------------------------

    def _clauses(self, rows: list[Row[ClauseTable]]) -> dict[str, Clause]:
        found: dict[str, Clause] = {}
        if not rows and "clause" not in self._broken:
            self._wrong((), "There is no clause. Write one [[clause]] for each clause of the policy.")
        for number, row in rows:
            path: Path = ("clause", number)
            if row.number in found:
                earlier = found[row.number].line
                self._wrong((*path, "number"), f"Clause {row.number!r} stands on line {earlier} already. Give it once.")
            self._known((*path, "classes"), row.classes, PACK_CLASSES, "retention class")
            self._keeping(path, row, row.number)
            for index, other in enumerate(row.also):
                self._keeping((*path, "also", index), other, row.number)
            if "declared" in {row.kind, *(other.kind for other in row.also)} and row.answers is None:
                self._wrong(path, f'Clause {row.number!r} is declared: say who answers for it with answers = "…".')
            also = tuple(Keeping(other.kind, other.control) for other in row.also)
            line = self._line(path)
            found[row.number] = Clause(
                *(row.number, row.title, row.kind, row.control, tuple(row.classes), also, row.answers, row.note, line)
            )
        return found

    def _keeping(self, path: Path, keeping: KeepingTable, number: str) -> None:
        if keeping.control is None:
            return
        path = (*path, "control")
        if self._known(path, [keeping.control], CONTROLS, "control"):
            control = CONTROLS[keeping.control]
            if keeping.kind not in control.kinds:
                kinds = " or ".join(sorted(control.kinds))
                self._wrong(
                    path,
                    f"The control {control.name!r} cannot make clause {number!r} {keeping.kind}; it stands for what "
                    f"is {kinds}. Change kind, or name another control.",
                )

    def _rules(
        self, rows: list[Row[RetentionTable]], clauses: Mapping[str, Clause], closure: Mapping[str, ClosureRule]
    ) -> dict[str, ClassRule]:
        found: dict[str, ClassRule] = {}
        for number, row in rows:
            path: Path = ("retention", number)
            name = row.retention_class
            known = self._class_once(path, name, found, RULED_CLASSES)
            self._clause_of(path, row.clause, name, clauses)
            if known and name not in CLASSES_OF_CLOCK[row.clock]:
                clocks = ", ".join(clock for clock, classes in CLASSES_OF_CLOCK.items() if name in classes)
                self._wrong((*path, "clock"), f"Nothing moves a clock {row.clock} for {name}. Its clocks: {clocks}.")
            keep = self._keep_of_rule(path, row, closure)
            if row.minimum and row.clock in ("for_ever", "account_closed"):
                self._wrong((*path, "minimum"), f"A clock {row.clock} knows no minimum. Leave it out.")
            self._statute(path, row, keep)
            unit = UNIT_OF_CLASS.get(name, "month") if row.clock == "calendar" else None
            if row.aggregate_first and row.clock != "calendar":
                self._wrong((*path, "aggregate_first"), "Only what goes by calendar is aggregated first. Leave it out.")
            found[name] = ClassRule(name, row.clause, row.clock, keep, unit, row.minimum, row.aggregate_first)
        self._complete("retention", RULED_CLASSES - found.keys(), "has no rule: how long is it kept")
        return found

    def _statute(self, path: Path, row: RetentionTable, keep: Span | None) -> None:
        """What the law keeps for a time may be kept for longer, and never for less (Mailkai 8, Mailenium 5.1)."""
        months = STATUTORY.get(row.retention_class)
        if months is None:
            return
        name, least = row.retention_class, Span(months)
        if not row.minimum:
            said = f"The law has {name} kept for at least {least}. Write minimum = true, and a clock that knows one."
            self._wrong((*path, "minimum"), said)
        if keep is not None and row.spans() and keep.months + keep.days // DAYS_PER_MONTH_MAX < months:
            given = next(key for key in ("keep_years", "keep_months", "keep_days") if getattr(row, key))
            self._wrong((*path, given), f"The law has {name} kept for at least {least}; {keep} is too short.")

    def _keep_of_rule(self, path: Path, row: RetentionTable, closure: Mapping[str, ClosureRule]) -> Span | None:
        if row.clock in ("for_ever", "account_closed"):
            if row.spans():
                where = "says how long in [[closure]]" if row.clock == "account_closed" else "never ends"
                self._wrong(path, f"A clock {row.clock} {where}. Leave keep_years, keep_months and keep_days out.")
            closing = closure.get(row.retention_class)
            return closing.keep if closing is not None and row.clock == "account_closed" else None
        return self._one_span(path, row)

    def _closure(
        self, rows: list[Row[ClosureTable]], clauses: Mapping[str, Clause]
    ) -> tuple[dict[str, ClosureRule], dict[tuple[str, str], ClosureRule]]:
        found: dict[str, ClosureRule] = {}
        of_category: dict[tuple[str, str], ClosureRule] = {}
        for number, row in rows:
            path: Path = ("closure", number)
            name = row.retention_class
            if row.category is not None:
                self._known((*path, "category"), [row.category], CATEGORIES, "category of persons")
                if name in STATUTORY:
                    said = (
                        f"{name} has a minimum and outlives the account, whoever it is of. Leave this [[closure]] out."
                    )
                    self._wrong((*path, "class"), said)
                if (name, row.category) in of_category:
                    self._wrong((*path, "class"), f"{name} of {row.category} has a [[closure]] already. Give it once.")
                self._known((*path, "class"), [name], PACK_CLASSES, "retention class")
            else:
                self._class_once(path, name, found, PACK_CLASSES - {"hold"})
            self._clause_of(path, row.clause, name, clauses)
            keep = self._one_span(path, row)
            if keep is not None and row.category is not None:
                of_category[name, row.category] = ClosureRule(name, row.clause, keep)
            elif keep is not None:
                found[name] = ClosureRule(name, row.clause, keep)
            else:
                self._broken.add("closure")
        return found, of_category

    def _outcomes(self, rows: list[Row[OutcomeTable]]) -> dict[tuple[str, Cause], Outcome]:
        found: dict[str, None] = {}
        outcomes: dict[tuple[str, Cause], Outcome] = {}
        for number, row in rows:
            path: Path = ("outcome", number)
            self._class_once(path, row.retention_class, found, PACK_CLASSES)
            found[row.retention_class] = None
            self._known((*path, "limbs"), row.limbs, LIMBS, "limb of GDPR Art. 17(3)")
            results = {cause: getattr(row, cause) for cause in CAUSES}
            if "kept" in results.values() and not row.limbs:
                self._wrong(path, f'{row.retention_class} is kept: say under which limb, limbs = ["17(3)(b)"].')
            if "kept" not in results.values() and row.limbs:
                self._wrong(
                    (*path, "limbs"), f"{row.retention_class} is never kept, so it needs no limb. Leave it out."
                )
            for cause, result in results.items():
                limb = ", ".join(row.limbs) if result == "kept" else None
                why = row.why if result != "destroyed" else None
                outcomes[row.retention_class, cause] = Outcome(
                    row.retention_class, cause, result == "destroyed", limb, why
                )
        self._complete("outcome", PACK_CLASSES - found.keys(), "has no row: what becomes of it for each cause")
        return outcomes

    def _together(
        self,
        rules: Mapping[str, ClassRule],
        closure: Mapping[str, ClosureRule],
        outcomes: Mapping[tuple[str, Cause], Outcome],
    ) -> None:
        """What the tables must mean together."""
        for name, rule in rules.items():
            for cause in CAUSES:
                outcome = outcomes.get((name, cause))
                if rule.minimum and outcome is not None and outcome.limb is None:
                    self._wrong(
                        (*self._row_of("outcome", name), cause),
                        f"{name} has a minimum, so it must be kept on {cause} as well; write kept, with its limb.",
                    )
        if "closure" not in self._broken:
            for (name, cause), outcome in outcomes.items():
                if cause != "account_closure" or name == "hold":
                    continue
                if outcome.destroyed and name not in closure:
                    said = f"{name} is destroyed on account_closure, and no [[closure]] says after how many days."
                    self._wrong((*self._row_of("outcome", name), cause), said)
                if not outcome.destroyed and name in closure:
                    said = f"{name} is not destroyed on account_closure. Leave this [[closure]] out."
                    self._wrong(self._row_of("closure", name), said)
        engagement, link = rules.get(Engagement.name), rules.get(LINK)
        if engagement and link and (engagement.clock, engagement.keep) != (link.clock, link.keep):
            self._wrong(
                self._row_of("retention", LINK),
                "link must have the clock and the time of engagement: it is what leads from a person to the messages "
                "that they opened.",
            )

    # Small checks ---------------------------------------------------------------------------------------------------

    def _class_once(self, path: Path, name: str, found: Mapping[str, Any], allowed: Iterable[str]) -> bool:
        if name in found:
            self._wrong((*path, "class"), f"{name} has a [[{path[0]}]] already. Give each class once.")
        allowed = frozenset(allowed)
        if name in PACK_CLASSES - allowed:
            said = f"The program itself sets the end of {name}. Leave this [[{path[0]}]] out."
            self._wrong((*path, "class"), said)
            return False
        return self._known((*path, "class"), [name], allowed, "retention class")

    def _clause_of(self, path: Path, number: str, name: str, clauses: Mapping[str, Clause]) -> None:
        path = (*path, "clause")
        if number not in clauses:
            if "clause" not in self._broken:
                self._known(path, [number], clauses, "clause of this pack")
            return
        clause = clauses[number]
        if name not in clause.classes:
            self._wrong(path, f"Clause {number!r} does not name the class. Add {name!r} to its classes.")
        if "enforced" not in {keeping.kind for keeping in clause.keepings}:
            self._wrong(path, f"Clause {number!r} sets a time, so it is enforced; it says {clause.kind}.")

    def _one_span(self, path: Path, row: SpannedTable) -> Span | None:
        spans = row.spans()
        if len(spans) == 1:
            return spans[0]
        self._wrong(path, "Say how long once: keep_years, keep_months or keep_days.")
        return None

    def _known(self, path: Path, names: Iterable[str], known: Iterable[str], what: str) -> bool:
        known = list(known)
        good = True
        for name in names:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                meant = f"Do you mean {near[0]!r}?" if near else f"There are: {', '.join(sorted(known))}."
                self._wrong(path, f"There is no {what} {name!r}. {meant}")
                good = False
        return good

    def _complete(self, array: str, missing: Iterable[str], said: str) -> None:
        if array not in self._broken:
            for name in sorted(missing):
                self._wrong((), f"{name} {said}? Write a [[{array}]] for it.")

    def _row_of(self, array: str, name: str) -> Path:
        rows = self._raw.get(array, [])
        return next(((array, n) for n, row in enumerate(rows) if row.get("class") == name), (array,))

    def _line(self, path: Path) -> int:
        return line_of(self._lines, path)

    def _wrong(self, path: Path, text: str) -> None:
        self._mistakes.append(Mistake(self._line(path), text))
