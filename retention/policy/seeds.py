"""What a policy pack says for the registers: activities, recipients, safeguards and parties to start from (Art. 30).

Seeds are words and codes that an account's registers begin with; they are no promise. They stand in the pack's file,
are not covered by its digest, and can be mended without a new version. Time limits are not repeated in them: an
activity's limits follow from the pack's own rules for its categories, so the two cannot differ by a slip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from domain.category import ACCOUNT_HOLDER
from domain.personal import Feed, HoldReference
from domain.register import KINDS, Kind, RegisterFact, RegisterRefused
from domain.register_shape import statement
from domain.time_limit import TimeLimit
from projections.change_feed import DAYS_KEPT
from retention.policy.clocks import Span
from retention.policy.lines import Path

if TYPE_CHECKING:
    from retention.policy.model import Pack

Accounts = Literal["customers", "operator", "every"]
ACCOUNTS: Final[tuple[Accounts, ...]] = get_args(Accounts)
"""Whose registers a seed is for: those of customers, the platform's own account, or both."""

LEGAL_HOLD: Final = "legal-hold"

Wrong = Callable[[Path, str], None]


@dataclass(frozen=True, slots=True)
class RegisterSeed:
    """One entry to start from, in the plain values that `domain.register_shape.statement` takes."""

    kind: Kind
    accounts: Accounts
    values: Mapping[str, Any]

    def is_for(self, *, operator: bool) -> bool:
        """Whether an account's registers begin with it."""
        return self.accounts == "every" or (self.accounts == "operator") is operator


def read_seeds(raw: Mapping[str, Any], clauses: Sequence[str], wrong: Wrong) -> tuple[RegisterSeed, ...]:
    """The seeds of a pack's file. Every mistake is told to `wrong` with its place."""
    found: list[RegisterSeed] = []
    for kind in KINDS:
        for number, row in enumerate(_rows(raw, kind, wrong)):
            seed = _seed(kind, row, (kind, number), clauses, wrong)
            if seed is not None and _fits(seed, found, (kind, number), wrong):
                found.append(seed)
    return tuple(found)


def limits_of(pack: Pack, category: str, *, operator: bool = False) -> Iterator[tuple[TimeLimit, str | None]]:
    """Every time limit that a pack sets for a category, with its clause; the one that a register begins with first."""
    if category == Feed.name:
        yield TimeLimit("calendar", days=DAYS_KEPT), None
    elif category == HoldReference.name:
        yield TimeLimit("hold_released"), next((c.number for c in pack.clauses if c.control == LEGAL_HOLD), None)
    of_holders = pack.closure_of_category.get((category, ACCOUNT_HOLDER))
    if operator and of_holders is not None:
        yield _limit("account_closed", of_holders.keep), of_holders.clause
    rule = pack.rules.get(category)
    if rule is not None:
        yield _limit(rule.clock, rule.keep, minimum=rule.minimum), rule.clause
    closing = pack.closure.get(category)
    if closing is not None:
        yield _limit("account_closed", closing.keep), closing.clause


def statements(pack: Pack, *, operator: bool) -> list[RegisterFact]:
    """What the registers of an account begin with, in the order in which it can be declared."""
    source = f"{pack.name} {pack.version}"
    return [
        statement(seed.kind, _with_limits(pack, seed, operator=operator), source=source)
        for seed in pack.seeds
        if seed.is_for(operator=operator)
    ]


def _with_limits(pack: Pack, seed: RegisterSeed, *, operator: bool) -> dict[str, Any]:
    values = dict(seed.values)
    if seed.kind != "activity":
        return values
    limits, clauses = dict(values.get("limits", {})), dict(values.get("clauses", {}))
    for category in values.get("categories", ()):
        limit, clause = next(limits_of(pack, category, operator=operator), (None, None))
        if limit is not None and category not in limits:
            limits[category] = limit.code
            if clause is not None:
                clauses[category] = clause
    return values | {"limits": limits, "clauses": clauses}


def _limit(clock: str, keep: Span | None, *, minimum: bool = False) -> TimeLimit:
    keep = keep or Span()
    return TimeLimit(clock, keep.months, keep.days, minimum)


def _rows(raw: Mapping[str, Any], kind: Kind, wrong: Wrong) -> list[dict[str, Any]]:
    found = raw.get(kind, [])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        wrong((kind,), f"Write each of these as a table of its own, under the header [[{kind}]].")
        return []
    return found


def _seed(kind: Kind, row: Mapping[str, Any], path: Path, clauses: Sequence[str], wrong: Wrong) -> RegisterSeed | None:
    values = {name: value for name, value in row.items() if name != "accounts"}
    accounts = row.get("accounts", "every")
    if accounts not in ACCOUNTS:
        wrong((*path, "accounts"), f"accounts is one of {', '.join(ACCOUNTS)}.")
        return None
    try:
        made = statement(kind, values)
    except RegisterRefused as refused:
        field = str(refused).partition(" ")[0]
        wrong((*path, field) if field in values else path, str(refused))
        return None
    for category, clause in getattr(made, "clauses", {}).items():
        if clause not in clauses:
            wrong((*path, "clauses"), f"There is no clause {clause!r} of this pack, which {category} names.")
    return RegisterSeed(kind, accounts, values)


def _fits(seed: RegisterSeed, before: Sequence[RegisterSeed], path: Path, wrong: Wrong) -> bool:
    """Each key once for each account, and nothing named that those accounts do not begin with."""
    key = seed.values["key"]
    named: list[tuple[Kind, str]] = [("recipient", name) for name in seed.values.get("recipients", ())]
    named += [("safeguard", name) for name in seed.values.get("safeguards", ())]
    good = True
    for operator in (True, False):
        if not seed.is_for(operator=operator):
            continue
        there = {(other.kind, other.values["key"]) for other in before if other.is_for(operator=operator)}
        if (seed.kind, key) in there:
            wrong((*path, "key"), f"There is a {seed.kind} {key} already. Give each key once.")
            good = False
        for kind, name in named:
            if (kind, name) not in there:
                wrong(path, f"There is no {kind} {name} for the same accounts. Write a [[{kind}]] for it.")
                good = False
    return good
