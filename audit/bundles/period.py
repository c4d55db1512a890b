"""A period: every event between two positions, or recorded between two times. Nothing can be left out unseen."""

from __future__ import annotations

from datetime import datetime

from audit.bundles.model import Collected, NothingToBundle, PeriodBackwards, positions_of, require_room
from audit.bundles.reading import end_of, position_at
from ledger.application import Ledger


def collect_period(
    ledger: Ledger,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    first: int | None = None,
    last: int | None = None,
) -> Collected:
    """Every event recorded at or after `since` and before `until`, at positions from `first` to `last` included.

    Raises `NothingToBundle` for an empty period, `PeriodBackwards`, and `CannotBundle` for one that is too long.
    """
    if (since is not None and until is not None and since >= until) or (first or 1) > (last or first or 1):
        raise PeriodBackwards
    end = end_of(ledger)
    begin = max(1, first or 1)
    stop = min(end, last if last is not None else end)
    if since is not None:
        begin = max(begin, position_at(ledger, since, end))
    if until is not None:
        stop = min(stop, position_at(ledger, until, end) - 1)
    if begin > stop:
        raise NothingToBundle("Nothing was recorded in this period.")
    require_room(stop - begin + 1)
    return Collected(
        kind="period",
        asked={"first": begin, "last": stop} | _times(since, until),
        positions=positions_of(range(begin, stop + 1)),
        claims={"kind": "period", "complete": {"positions": [begin, stop]}},
        title="A period of the log",
        words=("Every event of the account between two positions of its log. One that is missing would be seen.",),
    )


def _times(since: datetime | None, until: datetime | None) -> dict[str, str]:
    given = {"from": since, "to": until}
    return {name: moment.isoformat() for name, moment in given.items() if moment is not None}
