"""The suppression list as it stood at a moment of the past, folded from the log.

An entry names its address by a sealed fingerprint, so nothing in the log can be asked for one address: the list's
facts are read once, in pages, and held by fingerprint. It is as large as the list itself.

Whoever was erased is unmailable from the intent on, and the list's facts follow when the day is closed. Until then the
intent tells what they will say; afterwards its fingerprints are sealed under a day key that is gone (docs/explanation).
Who has the address now came after that erasure, so for them what it left stood from the first, whenever it was
recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from typing import Final

from audit.asof.moments import Moment
from domain.facts import Fact, opened
from domain.ids import micros, month_of
from domain.standing import Suppression
from domain.subject import ErasureIntended
from domain.suppression import SuppressionImposed, SuppressionLifted
from ledger.application import Ledger
from projections.suppression import end_of_day_us, since_date

EVENTS_PER_PAGE = 2_000

_DAY_CHARACTERS: Final = len("2026-11-21")
_TOPICS = (SuppressionImposed.TOPIC, SuppressionLifted.TOPIC, ErasureIntended.TOPIC)


@dataclass(frozen=True, slots=True)
class _Change:
    """One fact of the list about one address. `cause` is None where an entry made by hand was lifted.

    `true_from` is when it was so, by the day that the entry names; `since_us` the end of that day. `left` is what an
    erasure left behind: whoever has the address now came later.
    """

    position: int
    recorded_at: datetime
    true_from: datetime
    scope: str
    cause: str | None
    since_us: int
    left: bool = False


@dataclass(slots=True)
class SuppressionHistory:
    """Every change of the list, by fingerprint, in the order of the log."""

    _changes: dict[bytes, list[_Change]] = field(default_factory=dict)

    def at_position(self, fingerprints: Iterable[bytes], before: int) -> list[Suppression]:
        """The entries of a living person's fingerprints as they stood right before a position of the log."""
        return self._folded(c for c in self._of(fingerprints) if c.position < before or c.left)

    def at(self, fingerprints: Iterable[bytes], moment: Moment, *, known: bool) -> list[Suppression]:
        """The entries of one address's fingerprints at a moment. `known`: a living person had it by then."""
        changes = self._of(fingerprints)
        if moment.meaning == "occurred":
            changes = sorted(changes, key=lambda change: (change.true_from, change.position))
            return self._folded(c for c in changes if c.true_from <= moment.at or (known and c.left))
        return self._folded(c for c in changes if c.recorded_at <= moment.at or (known and c.left))

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
            for fingerprint, change in _changes(ledger.sealing.open(event)):
                if wanted is None or fingerprint in wanted:
                    changes.setdefault(fingerprint, []).append(change)
        if len(page) < EVENTS_PER_PAGE:
            return SuppressionHistory(changes)
        position = page[-1].position or 0


def _changes(fact: Fact) -> Iterator[tuple[bytes, _Change]]:
    """What one fact says of each fingerprint; nothing once its key is gone."""
    if isinstance(fact, ErasureIntended):
        month = month_of(fact.occurred_at)
        for listed, scope, cause in fact.entries():
            yield bytes.fromhex(listed), _imposed(fact, scope, cause, month)
        return
    assert isinstance(fact, SuppressionImposed | SuppressionLifted)
    change = (
        _lifted(fact) if isinstance(fact, SuppressionLifted) else _imposed(fact, fact.scope, fact.reason, fact.since)
    )
    for fingerprint in map(bytes.fromhex, opened(fact.fingerprints) or ()):
        yield fingerprint, change


def _lifted(fact: SuppressionLifted) -> _Change:
    return _Change(*_place(fact), fact.occurred_at, fact.scope, None, micros(fact.occurred_at))


def _imposed(fact: Fact, scope: str, cause: str, since: str) -> _Change:
    first, true_from, left = since_date(since), fact.occurred_at, len(since) < _DAY_CHARACTERS
    if not left and first < true_from.astimezone(UTC).date():
        true_from = datetime.combine(first, time(), UTC)  # An erasure's entry keeps its month, which tells no more.
    return _Change(*_place(fact), true_from, scope, cause, end_of_day_us(first), left)


def _place(fact: Fact) -> tuple[int, datetime]:
    assert fact.recorded_at is not None
    return fact.position or 0, fact.recorded_at
