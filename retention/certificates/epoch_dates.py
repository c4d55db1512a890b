"""The days that certificates state: until when an epoch key may open what was destroyed, and since when none does.

Read from the book of epochs (`ledger/keys/epochs.py`). A key that is destroyed now was wrapped under the newest epoch,
or under an older one that was not rolled yet; when the keys of all of these are destroyed, nothing opens its wraps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from ledger.application import LedgerServices
from ledger.keys.epoch_keys import FIRST_EPOCH
from ledger.keys.epochs import Epoch

Copy = dict[str, str]


@dataclass(frozen=True, slots=True)
class EpochDates:
    """The epochs of a vault as they stand now.

    `newest` is the one that wraps are written under, `horizon` the day that is stated of what is destroyed now.
    """

    epochs: tuple[Epoch, ...]
    newest: int
    horizon: date
    places: tuple[str, ...]

    def gone_up_to(self) -> int:
        """The newest epoch of which neither its own key nor that of an older one is left; 0 where there is none."""
        left = [epoch.number for epoch in self.epochs if epoch.destroyed_at is None]
        gone = [epoch.number for epoch in self.epochs if epoch.destroyed_at is not None]
        return max((number for number in gone if not left or number < min(left)), default=0)

    def unrecoverable_from(self, epoch: int, destroyed_on: date) -> tuple[date, list[Copy]]:
        """Since when nothing opens wraps of these epochs, and what was done to each copy of their keys.

        Keys of epochs that were destroyed before the keys in question have no part in it.
        """
        day, copies = destroyed_on, []
        for one in _destroyed_since(self.epochs, epoch, destroyed_on):
            assert one.destroyed_at is not None
            for copy in (one.destruction or {}).get("copies", ()):
                gone = one.destroyed_at.date() + timedelta(days=copy["gone_after_days"])
                day = max(day, gone)
                told = {"place": copy["place"], "method": copy["method"], "gone_from": gone.isoformat()}
                copies.append({"epoch": str(one.number), **told})
        return day, copies


def epoch_dates(services: LedgerServices, now: datetime) -> EpochDates:
    """The epochs of this installation, read now. Where its book is not begun yet, the longest time that it allows."""
    book, provider = services.epochs, services.vault.provider
    epochs = tuple(book.all())
    if epochs:
        return EpochDates(epochs, epochs[-1].number, book.horizon(now), provider.copies())
    terms = book.terms
    latest = now.date() + timedelta(days=terms.days + terms.kept_days + terms.delay_days)
    return EpochDates((), max(provider.living(), default=FIRST_EPOCH), latest, provider.copies())


def _destroyed_since(epochs: Sequence[Epoch], up_to: int, day: date) -> list[Epoch]:
    return [e for e in epochs if e.number <= up_to and e.destroyed_at is not None and e.destroyed_at.date() >= day]
