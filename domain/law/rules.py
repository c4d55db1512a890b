"""Rule sets: the legal rows in force on one day, as dictionaries that the hot path can read.

Between two days on which some row changes the rules are one and the same object with one `version`, such as
`law-2024-06-01-5f0c9ab2`: the day since which the rows are in force, and a digest of what they say. A version
in an old decision finds its rules again (`rules_named`), as long as those rows have not been rewritten.

A version says nothing of the days, sources and notes of its rows, which may be mended under it. `digest` is over all of
it, and an account records it before it decides anything by these rules (`domain.account.RulesAdopted`).
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from hashlib import blake2b, sha256
from importlib.resources import files
from itertools import chain

from domain.law.rows import (
    ROW_CLASSES,
    AgeRow,
    CountryRow,
    LawError,
    OptOutRow,
    PermissionRow,
    RegimeRow,
    Row,
    change_days,
    read_rows,
)
from domain.standing import PERMISSION_BASES

UNKNOWN = "unknown"
ANY_COUNTRY = "*"
NO_END_MONTHS = 0
"""`Regime.permits` gives this for a permission without a fixed end."""

_VERSION_DIGEST_BYTES = 4
_DAYS_CACHED_MAX = 4096  # A replay walks through days; eleven years of them fit.


@dataclass(frozen=True, slots=True, eq=False)
class Regime:
    """How one regime treats direct marketing: `permits` maps each declared basis it accepts to its months."""

    name: str
    opt_out: bool
    permits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class OptOutLimit:
    """An outer limit of opting out: so many days or business days, and where that is written."""

    limit: int
    unit: str
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class RuleSet:
    """The rules in force from `since` until some row changes. A country of None is one not known.

    `digest` is the SHA-256, in hexadecimal, of the complete `rows`: see `_full_digest` for the bytes.
    """

    version: str
    digest: str
    rows: tuple[Row, ...]
    since: date
    regimes: Mapping[str | None, Regime]
    unknown: Regime
    ages: Mapping[str | None, int]
    default_age: int
    opt_out_limits: Mapping[tuple[str, str], OptOutLimit]

    def regime_of(self, country: str | None) -> Regime:
        """The regime that governs a country; the strictest where the country is not known."""
        return self.regimes.get(country, self.unknown)

    def age_of_consent(self, country: str | None) -> int:
        """The age of digital consent in a country, in years (GDPR Art. 8)."""
        return self.ages.get(country, self.default_age)

    def opt_out_limit(self, regime: str, duty: str) -> OptOutLimit | None:
        """The outer limit of a duty (`honour`, `mechanism_works`); for reference, nothing enforces it."""
        return self.opt_out_limits.get((regime, duty))


class Law:
    """All rows of all days, and the rule sets they make."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Read and check the files, given as name -> text. Raises `LawError`."""
        odd = {c.FILE for c in ROW_CLASSES} ^ set(texts)
        if odd:
            raise LawError(f"The law is exactly these files; look at {', '.join(sorted(odd))}.")
        read = (read_rows(row_class, texts[row_class.FILE]) for row_class in ROW_CLASSES)
        self.rows: tuple[Row, ...] = tuple(chain.from_iterable(read))
        self._days = sorted(set(change_days(self.rows)))
        self._sets = [_rule_set(day, [row for row in self.rows if row.in_force(day)]) for day in self._days]
        self._by_version = {rules.version: rules for rules in self._sets}

    def on(self, day: date) -> RuleSet:
        """The rules of one day. Raises `LawError` for a day before the first row."""
        index = bisect_right(self._days, day)
        if index == 0:
            raise LawError(f"No row is in force on {day}; the first one starts on {self._days[0]}.")
        return self._sets[index - 1]

    def named(self, version: str) -> RuleSet:
        """The rules that a decision named. Raises `LawError` where those rows are gone."""
        try:
            return self._by_version[version]
        except KeyError:
            raise LawError(
                f"No rules of this program are called {version!r}: the rows have been rewritten since, or "
                "are newer than this program. Use the version of the program that wrote the decision."
            ) from None


def packaged_texts() -> dict[str, str]:
    """The files that come with the program, name -> text."""
    folder = files("domain.law")
    return {c.FILE: folder.joinpath(c.FILE).read_text(encoding="utf-8") for c in ROW_CLASSES}


def law_with(texts: Mapping[str, str]) -> Law:
    """The law with some of its files in other words, given as name -> text. Raises `LawError` for what is no law."""
    return Law({**packaged_texts(), **texts})


@lru_cache(maxsize=_DAYS_CACHED_MAX)
def rules_on(day: date) -> RuleSet:
    """The rules in force on a day (UTC)."""
    return LAW.on(day)


def rules_named(version: str) -> RuleSet:
    """The rules with this `RuleSet.version`, to replay a decision that names them."""
    return LAW.named(version)


def _rule_set(since: date, rows: Sequence[Row]) -> RuleSet:
    regimes = _regimes(rows)
    ages = {country: row.age for row in rows if isinstance(row, AgeRow) for country in row.countries}
    if UNKNOWN not in regimes or ANY_COUNTRY not in ages:
        raise LawError(
            f"On {since} {RegimeRow.FILE} has no row for {UNKNOWN!r}, or {AgeRow.FILE} has none for "
            f"{ANY_COUNTRY!r}: both must govern every day from the first one on."
        )
    return RuleSet(
        version=f"law-{since.isoformat()}-{_digest(rows)}",
        digest=_full_digest(rows),
        rows=tuple(rows),
        since=since,
        regimes={
            country: _known(regimes, row) for row in rows if isinstance(row, CountryRow) for country in row.countries
        },
        unknown=regimes[UNKNOWN],
        ages={country: age for country, age in ages.items() if country != ANY_COUNTRY},
        default_age=ages[ANY_COUNTRY],
        opt_out_limits={
            (row.regime, row.duty): OptOutLimit(row.limit, row.unit, row.source)
            for row in rows
            if isinstance(row, OptOutRow)
        },
    )


def _regimes(rows: Iterable[Row]) -> dict[str, Regime]:
    permits: dict[str, dict[str, int]] = {}
    opt_out: dict[str, bool] = {}
    for row in rows:
        if isinstance(row, RegimeRow):
            opt_out[row.regime] = row.marketing == "opt-out"
            # Where no permission is asked for, a declared one of any kind is enough.
            accepted = PERMISSION_BASES if opt_out[row.regime] else frozenset[str]()
            permits[row.regime] = dict.fromkeys(accepted, NO_END_MONTHS)
        elif isinstance(row, PermissionRow):
            if row.regime not in permits:
                raise LawError(f"{row}: regime {row.regime!r} is not in force then; see {RegimeRow.FILE}.")
            permits[row.regime][row.basis] = row.valid_months or NO_END_MONTHS
    return {name: Regime(name, opt_out[name], permits[name]) for name in opt_out}


def _known(regimes: Mapping[str, Regime], row: CountryRow) -> Regime:
    if row.regime not in regimes:
        raise LawError(f"{row}: regime {row.regime!r} is not in force then; see {RegimeRow.FILE}.")
    return regimes[row.regime]


def _digest(rows: Iterable[Row]) -> str:
    said = sorted(json.dumps([row.file, *row.says()]) for row in rows)
    return blake2b("\n".join(said).encode(), digest_size=_VERSION_DIGEST_BYTES).hexdigest()


def _full_digest(rows: Iterable[Row]) -> str:
    """Over every row as canonical JSON (RFC 8785), one a line, the lines in order; no newline behind the last."""
    written = (json.dumps(row.written(), ensure_ascii=False, sort_keys=True, separators=(",", ":")) for row in rows)
    return sha256(b"\n".join(sorted(line.encode() for line in written))).hexdigest()


LAW = Law(packaged_texts())
