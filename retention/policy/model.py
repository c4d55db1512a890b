"""What a policy pack says: clauses, the time of each class, and what becomes of each class for each cause.

Plain values, made by `retention/policy/reading.py` from a TOML file that was checked; import them from
`retention.pack`. What the words mean is in docs/reference/policy-packs.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from hashlib import sha256
from typing import Any, Final, Literal, get_args

from domain.personal import RETENTION_CLASSES, Feed, HoldReference
from ledger.keys.keyring import LINK
from retention.policy.clocks import Clock, Span, Unit
from retention.policy.controls import Kind
from retention.policy.seeds import RegisterSeed

Cause = Literal["erasure", "deleted_by_controller", "account_closure"]
CAUSES: Final[tuple[Cause, ...]] = get_args(Cause)

PACK_CLASSES: Final = RETENTION_CLASSES | {LINK}
"""What a pack speaks about: every retention class, and the keys that lead from a person to their messages."""

OWN_CLASSES: Final = frozenset({Feed.name, HoldReference.name})
"""Classes whose end the program sets itself, sooner than any promise: seven days, and the end of the hold."""

RULED_CLASSES: Final = PACK_CLASSES - OWN_CLASSES
"""Classes that need a rule in every pack."""


class PackError(Exception):
    """The root of what can go wrong with packs."""


class UnknownPack(PackError):
    """No pack of this name, or none of this version, is here."""


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a pack: the line it stands on, and what to do."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


class PackInvalid(PackError):
    """A pack that cannot be used, with every mistake found in it, by line."""

    def __init__(self, file: str, mistakes: Iterable[Mistake]) -> None:
        self.file = file
        self.mistakes = tuple(sorted(set(mistakes)))
        super().__init__(f"{file}: " + "; ".join(str(mistake) for mistake in self.mistakes))


@dataclass(frozen=True, slots=True)
class Keeping:
    """One way in which a clause is kept: its kind, and the control that does it (None: a failure of the report)."""

    kind: Kind
    control: str | None


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause of the policy: what it says in our words, and how it is kept.

    `kind` and `control` are the first way; `also` holds the others. `answers` says who answers for what is declared.
    """

    number: str
    title: str
    kind: Kind
    control: str | None
    classes: tuple[str, ...] = ()
    also: tuple[Keeping, ...] = ()
    answers: str | None = None
    note: str | None = None
    line: int = field(default=0, compare=False)

    @property
    def keepings(self) -> tuple[Keeping, ...]:
        """Every way in which the clause is kept."""
        return (Keeping(self.kind, self.control), *self.also)


@dataclass(frozen=True, slots=True)
class ClassRule:
    """When the keys of one class are due. `keep` is None for ever; `unit` is that of the class's calendar keys."""

    retention_class: str
    clause: str
    clock: Clock
    keep: Span | None
    unit: Unit | None = None
    minimum: bool = False
    aggregate_first: bool = False


@dataclass(frozen=True, slots=True)
class ClosureRule:
    """When the keys of one class are due after the account's termination."""

    retention_class: str
    clause: str
    keep: Span
    clock: Clock = "account_closed"
    unit: Unit | None = None
    minimum: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one class for one cause. `limb` is that of GDPR Art. 17(3) under which it is kept.

    Neither destroyed nor kept under a limb means that the class holds nothing of the person.
    """

    retention_class: str
    cause: Cause
    destroyed: bool
    limb: str | None
    why: str | None = None


@dataclass(frozen=True)
class Pack:
    """One version of a policy. Mappings are by class; `closure_of_category` is for accounts' own holders."""

    name: str
    version: int
    title: str
    document: str
    effective_from: date
    horizon_days: int | None
    notice_days: int
    minimum_age: int
    clauses: tuple[Clause, ...]
    rules: Mapping[str, ClassRule]
    closure: Mapping[str, ClosureRule]
    outcomes: Mapping[tuple[str, Cause], Outcome]
    closure_of_category: Mapping[tuple[str, str], ClosureRule] = field(default_factory=dict)
    seeds: tuple[RegisterSeed, ...] = ()
    """What registers begin with. No promise: the digest does not cover it."""

    def clause(self, number: str) -> Clause:
        """The clause of this number. Raises `KeyError`."""
        return self._by_number[number]

    def kept_on(self, cause: Cause) -> frozenset[str]:
        """The classes that outlive this cause."""
        return frozenset(c for c, of in self.outcomes if of == cause and not self.outcomes[c, of].destroyed)

    def closure_of(self, retention_class: str, category: str) -> ClosureRule | None:
        """The rule of a category of persons after their account's end; everybody's where it has none of its own."""
        return self.closure_of_category.get((retention_class, category)) or self.closure.get(retention_class)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything the pack promises. Titles, notes and seeds can be mended without
        changing it."""
        said = json.dumps(list(self._says()), sort_keys=True, separators=(",", ":"), default=str)
        return sha256(said.encode()).hexdigest()

    @cached_property
    def _by_number(self) -> dict[str, Clause]:
        return {clause.number: clause for clause in self.clauses}

    def _says(self) -> Iterator[Any]:
        yield [self.name, self.version, self.horizon_days, self.notice_days, self.minimum_age]
        for clause in self.clauses:
            yield [clause.number, *([k.kind, k.control] for k in clause.keepings), list(clause.classes), clause.answers]
        for rule in (self.rules[name] for name in sorted(self.rules)):
            span = rule.keep and [rule.keep.months, rule.keep.days]
            yield [rule.retention_class, rule.clause, rule.clock, span, rule.unit, rule.minimum, rule.aggregate_first]
        for key, closing in sorted(
            [*(((c, ""), r) for c, r in self.closure.items()), *self.closure_of_category.items()]
        ):
            yield [*key, closing.clause, closing.keep.months, closing.keep.days]
        for outcome in (self.outcomes[key] for key in sorted(self.outcomes)):
            yield [outcome.retention_class, outcome.cause, outcome.destroyed, outcome.limb]
