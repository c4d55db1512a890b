"""What a new version of a pack changes in what was promised: the rule that decides whether a notice is owed.

Whatever a person or an account could rely on before, and cannot afterwards, is a weakening:

- a class is kept longer, or by a clock or unit that cannot be compared: the person was promised an earlier end;
- a class is destroyed earlier, while the account lives or after its closure: destruction cannot be undone, and the
  account was promised the time (a minimum, the days in which a closed account can come back, years of figures);
- suppression ends sooner, or what was destroyed for a cause is kept, or the reverse, or under another limb;
- figures are no longer kept before their keys go;
- the horizon of backups is longer or no longer stated, the notice shorter, the minimum age lower;
- a clause is gone, or is kept by less than before: enforced, then recorded, then declared, or a control fewer.

Nothing else needs a notice: better words, a clause more, a control more, a shorter horizon, a longer notice, a higher
age. Both directions of a period count on purpose; a shorter maximum protects persons, and still takes something away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from domain.adoption import PackTerms
from retention.policy.clocks import Span
from retention.policy.controls import KINDS, Kind
from retention.policy.model import ClassRule, Clause, ClosureRule, Outcome, Pack

LONGEST_DAYS_OF_MONTH = 31
SHORTEST_DAYS_OF_MONTH = 28


def terms_of(pack: Pack) -> PackTerms:
    """What the decisions of an account need to know of a pack."""
    return PackTerms(pack.name, pack.version, pack.digest, pack.effective_from, pack.notice_days, pack.minimum_age)


def weakenings(old: Pack, new: Pack) -> list[str]:
    """Each promise of `old` that `new` takes back or shortens, in words; empty where no notice is owed."""
    return [
        *_rules(old.rules, new.rules),
        *_closures(old, new),
        *_outcomes(old, new),
        *_numbers(old, new),
        *_clauses(old, new),
    ]


def _rules(old: Mapping[str, ClassRule], new: Mapping[str, ClassRule]) -> Iterator[str]:
    for name in sorted(old):
        before, after = old[name], new[name]
        if (before.clock, before.unit, before.minimum) != (after.clock, after.unit, after.minimum):
            yield f"{name} goes by {_clock(after)} instead of {_clock(before)}"
        elif before.clock != "account_closed" and before.keep != after.keep:  # Closures are compared on their own.
            assert before.keep is not None
            assert after.keep is not None
            yield f"{name} is {_direction(before.keep, after.keep)}: {after.keep} instead of {before.keep}"
        if before.aggregate_first and not after.aggregate_first:
            yield f"no figures of {name} are kept before its keys go"


def _closures(old: Pack, new: Pack) -> Iterator[str]:
    for what, before, after in (
        *((name, old.closure.get(name), new.closure.get(name)) for name in sorted({*old.closure, *new.closure})),
        *(
            (" of ".join(key), _of_category(old, *key), _of_category(new, *key))
            for key in sorted({*old.closure_of_category, *new.closure_of_category})
        ),
    ):
        if before is not None and after is not None and before.keep != after.keep:
            how = _direction(before.keep, after.keep)
            yield f"after the account's closure {what} is {how}: {after.keep} instead of {before.keep}"


def _of_category(pack: Pack, name: str, category: str) -> ClosureRule | None:
    """The rule of a category of persons; that of everybody where it has none of its own."""
    return pack.closure_of_category.get((name, category)) or pack.closure.get(name)


def _outcomes(old: Pack, new: Pack) -> Iterator[str]:
    for key in sorted(old.outcomes):
        before, after = old.outcomes[key], new.outcomes[key]
        if (before.destroyed, before.limb) != (after.destroyed, after.limb):
            name, cause = key
            yield f"{name} is {_outcome(after)} on {cause} instead of {_outcome(before)}"


def _numbers(old: Pack, new: Pack) -> Iterator[str]:
    if old.horizon_days is not None and (new.horizon_days is None or new.horizon_days > old.horizon_days):
        said = "no longer stated" if new.horizon_days is None else f"{new.horizon_days} days"
        yield f"the horizon of backups is {said} instead of {old.horizon_days} days"
    if new.notice_days < old.notice_days:
        yield f"notice is {new.notice_days} days instead of {old.notice_days}"
    if new.minimum_age < old.minimum_age:
        yield f"the minimum age is {new.minimum_age} instead of {old.minimum_age}"


def _clauses(old: Pack, new: Pack) -> Iterator[str]:
    there = {clause.number: clause for clause in new.clauses}
    for before in old.clauses:
        after = there.get(before.number)
        if after is None:
            yield f"clause {before.number} is gone"
            continue
        strongest = _strongest(after)
        for control, kind in sorted(_strongest(before).items()):
            now = strongest.get(control)
            if now is None:
                yield f"clause {before.number} is no longer kept by {control} ({kind})"
            elif KINDS.index(now) > KINDS.index(kind):
                yield f"clause {before.number} is {now} by {control} instead of {kind}"


def _strongest(clause: Clause) -> dict[str, Kind]:
    """The controls that keep a clause, each with the strongest kind that it stands for there."""
    found: dict[str, Kind] = {}
    for keeping in sorted(clause.keepings, key=lambda keeping: KINDS.index(keeping.kind), reverse=True):
        if keeping.control is not None:
            found[keeping.control] = keeping.kind
    return found


def _direction(before: Span, after: Span) -> str:
    """Which way a time changed; spans in other units are compared by the lengths that they can have."""
    if _days(after, LONGEST_DAYS_OF_MONTH) <= _days(before, SHORTEST_DAYS_OF_MONTH) or _same_unit_less(after, before):
        return "destroyed earlier"
    if _days(before, LONGEST_DAYS_OF_MONTH) <= _days(after, SHORTEST_DAYS_OF_MONTH) or _same_unit_less(before, after):
        return "kept longer"
    return "kept for another time"


def _same_unit_less(one: Span, other: Span) -> bool:
    return one.months <= other.months and one.days <= other.days


def _days(span: Span, days_of_month: int) -> int:
    return span.months * days_of_month + span.days


def _clock(rule: ClassRule) -> str:
    least = "at least " if rule.minimum else ""
    unit = f" {rule.unit}" if rule.unit else ""
    said = f"{least}{rule.clock}{unit}".replace("_", " ")
    return said if rule.keep is None or rule.clock == "account_closed" else f"{said} ({rule.keep})"


def _outcome(outcome: Outcome) -> str:
    if outcome.destroyed:
        return "destroyed"
    return f"kept under {outcome.limb}" if outcome.limb else "not held"
