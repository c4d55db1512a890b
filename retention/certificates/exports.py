"""What had left the house before keys were destroyed, as certificates list it: no finer than a month.

    about one person      found by their identity key while it lives, and counted on their own certificate
    about many persons    in which sealed parts were opened: they may hold something of whoever is erased later

The second are the same for everybody on one list of keys. They are listed from the day on which the first of its keys
was made to the end of the day on which the last went, and not from the first event of a person to the erasure: the
month in which somebody came would point at their events, which stay in the log (invariant I11). The list of keys has
these days already, so the exports beside it tell nothing more (docs/adr/0039).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from ledger.application import Ledger
from ledger.exports import PastExport

ABOUT_PERSON: Final = "person"
ABOUT_MANY: Final = "many"

ExportListed = dict[str, Any]
"""Exports of one kind in one month: `about`, `kind`, `month`, `opened` (whether parts were open), `count`.

Rows of certificates from before there was an `about` are about the person.
"""


def exports_listed(exports: Iterable[PastExport]) -> list[ExportListed]:
    """What a certificate says of exports about its person: by nothing that stands in the log beside it."""
    counted = Counter(exports)
    return [
        {"about": ABOUT_PERSON, "kind": one.kind, "month": one.month, "opened": one.opened, "count": count}
        for one, count in sorted(counted.items(), key=lambda item: (item[0].month, item[0].kind, item[0].opened))
    ]


def exports_of_many(ledger: Ledger, since: date | None, until: datetime) -> list[ExportListed]:
    """The exports about many persons in which parts were opened; without a day, since the account was opened."""
    found = ledger.exports.opened_between(midnight(since) if since is not None else None, until)
    return [
        {"about": ABOUT_MANY, "kind": one.kind, "month": one.month, "opened": True, "count": one.count} for one in found
    ]


def is_of_many(row: Mapping[str, Any]) -> bool:
    """Whether a row of a certificate is of exports about many persons."""
    return row.get("about") == ABOUT_MANY


def midnight(day: date) -> datetime:
    """The first moment of a day (UTC)."""
    return datetime.combine(day, time(), UTC)


def end_of(day: date) -> datetime:
    """The last moment of a day (UTC)."""
    return midnight(day + timedelta(days=1)) - timedelta(microseconds=1)
