"""What ledger and vault know of processing: categories stored, recipients used, retention enforced, oldest keys.

The counts come from the projection `observed`, what was destroyed from the facts of the retention plans, and the
living keys from the vault. The vault knows the keys of today only, so a record as of an earlier day does not tell them.
Nothing personal is opened.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from audit.asof.moments import Meaning, Moment
from audit.records.model import Coded, Enforced, ObservedCategory, ObservedRecipient, ObservedTopic, OldestKey
from audit.records.terms import KeyKind, PolicyTerms
from domain.account import Account
from domain.facts import Fact
from domain.keys import ClassKeysDestroyed, DestructionIntended, PeriodKeyDestroyed, PlanApplied, SubjectKeysExpired
from domain.register_shape import CATEGORIES_OF_DATA
from ledger.application import Ledger
from ledger.keys.names import TENANT_HOLDER
from projections.observed import SENDERS_TOLD, Counted, Seen, observed

PLANS_READ_MAX: Final = 20_000
"""Who needs it: an account with a plan every day for fifty years."""

PLANS_PER_READ: Final = 100
"""Plans whose facts are in memory at once."""

SELECT_PLANS: Final = """
SELECT DISTINCT plan_id FROM lethe_read.destruction_intent WHERE tenant_id = %s ORDER BY plan_id LIMIT %s
"""
SELECT_ERASURES: Final = """
SELECT count(*), max(finished_at) FROM lethe_read.erasure WHERE tenant_id = %s AND finished_at < %s
"""
SELECT_LIVING: Final = """
SELECT class, holder = %s, period <> '', count(*), min(period COLLATE "C"), min(last_on)
FROM lethe_vault.wrapped_key WHERE tenant_id = %s GROUP BY 1, 2, 3
"""
SELECT_HOLDS: Final = "SELECT count(*) FROM lethe_read.legal_hold WHERE tenant_id = %s AND released_at IS NULL"

WORDS: Final[Mapping[str, str]] = {
    "sender": "a sending system that reported dispatches",
    "export": "an export that left the house",
    "feed": "senders who are told whom not to mail any more (GDPR Art. 19)",
}


@dataclass(slots=True)
class LivingKeys:
    """The living keys of one category: those of periods, those of persons, and held persons' own of a period.

    `own_keys` are the account's: what is about nobody is sealed under them, as what is about a person is under theirs.
    """

    period_keys: int = 0
    oldest_period: str | None = None
    own_keys: int = 0
    person_keys: int = 0
    oldest_last_on: date | None = None
    escrowed: int = 0

    @property
    def readable(self) -> bool:
        """Whether anything of it can be opened: every part needs two keys, of its period and of whom it is about."""
        return bool((self.period_keys and (self.person_keys or self.own_keys)) or self.escrowed)


@dataclass(frozen=True, slots=True)
class Living:
    """All living keys by category, as of now, and how many legal holds are active."""

    by_category: Mapping[str, LivingKeys]
    holds: int

    def readable(self, category: str) -> bool:
        """Whether something of a category can be opened."""
        found = self.by_category.get(category)
        return found is not None and found.readable


@dataclass(slots=True)
class Retained:
    """What retention did: by category and clause; when a plan was last applied; how many persons were erased."""

    enforced: tuple[Enforced, ...] = ()
    last_plan_on: date | None = None
    erasures: int = 0
    last_erasure_on: date | None = None


@dataclass(slots=True)
class _Done:
    periods: list[str] = field(default_factory=list)
    keys: int = 0
    destructions: int = 0
    last_on: date = date.min


def counted(ledger: Ledger, on: date, meaning: Meaning) -> Counted:
    """What was seen by the end of a day."""
    return observed(ledger.services.reader, ledger.tenant, on, meaning)


def categories(seen: Iterable[Seen], declared_by: Mapping[str, tuple[str, ...]]) -> tuple[ObservedCategory, ...]:
    """The categories really stored, each with its topics."""
    by_category: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        if one.category:
            by_category[one.category].append(one)
    return tuple(_category(name, by_category[name], declared_by) for name in sorted(by_category))


def _category(name: str, seen: list[Seen], declared_by: Mapping[str, tuple[str, ...]]) -> ObservedCategory:
    return ObservedCategory(
        category=Coded(name, CATEGORIES_OF_DATA.get(name, name)),
        events=sum(one.count for one in seen),
        first_on=min(one.first_on for one in seen),
        last_on=max(one.last_on for one in seen),
        topics=tuple(ObservedTopic(one.topic, one.count, one.first_on, one.last_on) for one in seen),
        declared_by=declared_by.get(name, ()),
    )


def recipients(seen: Iterable[Seen], seen_as: Mapping[str, tuple[str, ...]]) -> tuple[ObservedRecipient, ...]:
    """Where data really went. `seen_as`: the codes of each declared recipient, by its key."""
    by_code: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        if one.code:
            by_code[one.code].append(one)
    return tuple(
        ObservedRecipient(
            code=code,
            words=_words(code),
            events=sum(one.count for one in by_code[code]),
            first_on=min(one.first_on for one in by_code[code]),
            last_on=max(one.last_on for one in by_code[code]),
            declared_as=tuple(key for key, patterns in sorted(seen_as.items()) if _named(code, patterns)),
        )
        for code in sorted(by_code)
    )


def _named(code: str, patterns: Iterable[str]) -> bool:
    return any(code == pattern or (pattern.endswith("*") and code.startswith(pattern[:-1])) for pattern in patterns)


def _words(code: str) -> str:
    kind, _, rest = code.partition(":")
    said = WORDS.get(kind, kind)
    return said if code == SENDERS_TOLD else f"{said}: {rest}"


# Retention ------------------------------------------------------------------------------------------------------------


def retained(ledger: Ledger, moment: Moment) -> Retained:
    """What retention and erasure did by a moment, from the facts of the plans."""
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        plans = [row[0] for row in connection.execute(SELECT_PLANS, (ledger.tenant, PLANS_READ_MAX))]
        values = (ledger.tenant, moment.at + timedelta(microseconds=1))
        row = connection.execute(SELECT_ERASURES, values).fetchone()
    assert row is not None
    found = Retained(erasures=row[0], last_erasure_on=_day(row[1]))
    done: dict[tuple[str, str], _Done] = defaultdict(_Done)
    for facts in _by_plan(ledger, plans, moment):
        _take_plan(facts, done, found)
    found.enforced = tuple(
        Enforced(category, clause, tuple(sorted(of.periods)), of.keys, of.destructions, of.last_on)
        for (category, clause), of in sorted(done.items())
    )
    return found


def _by_plan(ledger: Ledger, plans: list[UUID], moment: Moment) -> Iterable[list[Fact]]:
    for start in range(0, len(plans), PLANS_PER_READ):
        some = plans[start : start + PLANS_PER_READ]
        by_plan: dict[UUID, list[Fact]] = defaultdict(list)
        for event in ledger.log.select_streams(some):
            fact = ledger.sealing.open(event, personal=False)
            by_plan[fact.originator_id].append(fact)
        for plan in some:
            yield moment.told(by_plan[plan])


def _take_plan(facts: list[Fact], done: dict[tuple[str, str], _Done], found: Retained) -> None:
    intents = {fact.item: fact for fact in facts if isinstance(fact, DestructionIntended)}
    for fact in facts:
        day = _day(fact.occurred_at)
        assert day is not None
        if isinstance(fact, PlanApplied):
            found.last_plan_on = max(found.last_plan_on or day, day)
        elif isinstance(fact, PeriodKeyDestroyed | SubjectKeysExpired | ClassKeysDestroyed) and fact.item in intents:
            of = done[fact.retention_class, intents[fact.item].clause]
            of.destructions += 1
            of.last_on = max(of.last_on, day)
            if isinstance(fact, PeriodKeyDestroyed):
                of.periods.append(fact.period)
            of.keys += 1 if isinstance(fact, PeriodKeyDestroyed) else fact.keys


# Living keys ----------------------------------------------------------------------------------------------------------


def living(ledger: Ledger) -> Living:
    """The living keys of an account, as of now."""
    found: dict[str, LivingKeys] = {}
    with ledger.services.vault.pool.transaction() as connection:
        _add_living(connection, ledger.tenant, found)
    with ledger.services.reader.tenant(ledger.tenant) as connection:
        row = connection.execute(SELECT_HOLDS, (ledger.tenant,)).fetchone()
    assert row is not None
    return Living(found, row[0])


def _add_living(connection: Connection[Any], tenant: UUID, found: dict[str, LivingKeys]) -> None:
    for name, of_tenant, of_period, count, oldest, last_on in connection.execute(
        SELECT_LIVING, (TENANT_HOLDER, tenant)
    ):
        if name not in CATEGORIES_OF_DATA:
            continue
        known = found.setdefault(name, LivingKeys())
        if of_tenant and of_period:
            known.period_keys, known.oldest_period = count, oldest
        elif of_period:
            known.escrowed = count
        elif of_tenant:
            known.own_keys = count
        else:
            known.person_keys, known.oldest_last_on = count, last_on


def oldest_keys(known: Living, terms: PolicyTerms, account: Account, today: date) -> tuple[OldestKey, ...]:
    """The oldest living keys of each category, and whether they are overdue."""
    ended = _day(account.terminated_at)
    found = []
    for category, keys in sorted(known.by_category.items()):
        if keys.oldest_period is not None:
            found.append(_oldest(terms, category, "period", keys.period_keys, keys.oldest_period, today))
        if keys.oldest_last_on is not None:
            found.append(_oldest(terms, category, "person", keys.person_keys, keys.oldest_last_on.isoformat(), today))
        if ended is not None and (keys.period_keys or keys.person_keys):
            count = keys.period_keys + keys.person_keys
            found.append(_oldest(terms, category, "account", count, ended.isoformat(), today))
    return tuple(found)


def _oldest(terms: PolicyTerms, category: str, kind: KeyKind, count: int, oldest: str, today: date) -> OldestKey:
    due = terms.due(category, kind, oldest)
    return OldestKey(
        category,
        kind,
        count,
        oldest,
        None if due is None else due.clause,
        None if due is None else due.on,
        overdue=due is not None and due.on < today,
    )


def _day(moment: datetime | None) -> date | None:
    return None if moment is None else moment.astimezone(UTC).date()


def end_of(day: date) -> datetime:
    """The last instant of a day (UTC)."""
    return datetime.combine(day, time.max, UTC)
