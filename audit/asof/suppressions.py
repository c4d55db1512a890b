"""The suppression list as it stood at a moment of the past, folded from the log.

An entry names its address by a sealed fingerprint, so nothing in the log can be asked for one address: the list's
facts are read once, in pages, and held by fingerprint. It is as large as the list itself.

Whoever was erased is unmailable from the intent on, and the list's fact follows within a day. In between only the
table knew it: the fingerprints of the intent are sealed under a day key that is gone (docs/explanation). Who has the
address now came after that erasure, so for them its entry stood from the first, whenever its fact was recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from typing import Final

from audit.asof.moments import Moment
from domain.facts import opened
from domain.ids import micros
from domain.standing import Suppression
from domain.suppression import SuppressionImposed, SuppressionLifted
from ledger.application import Ledger
from projections.suppression import end_of_day_us, since_date

EVENTS_PER_PAGE = 2_000

ERASED: Final = "erased"
_DAY_CHARACTERS: Final = len("2026-11-21")
_TOPICS = (SuppressionImposed.TOPIC, SuppressionLifted.TOPIC)


@dataclass(frozen=True, slots=True)
class _Change:
    """One fact of the list about one address. `cause` is None where an entry made by hand was lifted.

    `true_from` is when it was so, by the day that the entry names; `since_us` the end of that day.
    """

    position: int
    recorded_at: datetime
    true_from: datetime
    scope: str
    cause: str | None
    since_us: int


@dataclass(slots=True)
class SuppressionHistory:
    """Every change of the list, by fingerprint, in the order of the log."""

    _changes: dict[bytes, list[_Change]] = field(default_factory=dict)

    def at_position(self, fingerprints: Iterable[bytes], before: int) -> list[Suppression]:
        """The entries of a living person's fingerprints as they stood right before a position of the log."""
        return self._folded(c for c in self._of(fingerprints) if c.position < before or c.cause == ERASED)

    def at(self, fingerprints: Iterable[bytes], moment: Moment, *, known: bool) -> list[Suppression]:
        """The entries of one address's fingerprints at a moment. `known`: a living person had it by then."""
        changes = self._of(fingerprints)
        if moment.meaning == "occurred":
            changes = sorted(changes, key=lambda change: (change.true_from, change.position))
            return self._folded(c for c in changes if c.true_from <= moment.at or (known and c.cause == ERASED))
        return self._folded(c for c in changes if c.recorded_at <= moment.at or (known and c.cause == ERASED))

    def _of(self, fingerprints: Iterable[bytes]) -> Sequence[_Change]:
        found = [change for fingerprint in fingerprints for change in self._changes.get(fingerprint, ())]
        return sorted(found, key=lambda change: change.position)

    @staticmethod
    def _folded(changes: Iterable[_Change]) -> list[Suppression]:
        entries: dict[tuple[str, str], _Change] = {}
        for change in changes:
            if change.cause is not None:
                key = (change.scope, change.cause)
                held = entries.get(key, change)
                entries[key] = replace(change, since_us=max(held.since_us, change.since_us))
            elif (held := entries.get((change.scope, "manual"), change)).position < change.position:
                del entries[change.scope, "manual"]  # What was imposed after it was lifted stands, since whenever.
        return [Suppression(scope, cause, change.since_us) for (scope, cause), change in entries.items()]


def read_suppressions(ledger: Ledger, only: Iterable[bytes] | None = None) -> SuppressionHistory:
    """The whole history of an account's list, as far as its keys live; or of some fingerprints, and no more is held."""
    wanted = None if only is None else frozenset(only)
    changes: dict[bytes, list[_Change]] = {}
    position = 0
    while True:
        page = ledger.log.select_log(position, EVENTS_PER_PAGE, topics=_TOPICS, inclusive_of_start=False)
        for event in page:
            fact = ledger.sealing.open(event)
            assert isinstance(fact, SuppressionImposed | SuppressionLifted)
            change = _change(fact)
            for fingerprint in map(bytes.fromhex, opened(fact.fingerprints) or ()):
                if wanted is None or fingerprint in wanted:
                    changes.setdefault(fingerprint, []).append(change)
        if len(page) < EVENTS_PER_PAGE:
            return SuppressionHistory(changes)
        position = page[-1].position or 0


def _change(fact: SuppressionImposed | SuppressionLifted) -> _Change:
    assert fact.recorded_at is not None
    where = (fact.position or 0, fact.recorded_at)
    if isinstance(fact, SuppressionLifted):
        return _Change(*where, fact.occurred_at, fact.scope, None, micros(fact.occurred_at))
    since = since_date(fact.since)
    true_from = fact.occurred_at
    if len(fact.since) == _DAY_CHARACTERS and since < true_from.astimezone(UTC).date():
        true_from = datetime.combine(since, time(), UTC)  # An erasure's entry keeps its month, which tells no more.
    return _Change(*where, true_from, fact.scope, fact.reason, end_of_day_us(since))
