"""Generations of link keys, kept by the clock: a new one opens well before the old one is due (Mailenium 5.2).

Under a pack whose clock is the last engagement, a person's link and engagement keys die some two years after it,
while the person lives on and is mailed. What they are mailed by then has to stand under a key of its own. So the next
generation opens in the month that ends at least `DAYS_BEFORE_DUE_MIN` days before the old one is due; from the next
month on it serves, and the old one only answers for what was sent before (docs/adr/0016).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from domain.ids import next_month
from ledger.application import Ledger
from ledger.keys.keyring import LINK
from ledger.keys.vault import DUE_PER_PAGE
from ledger.link_generations import PersonGeneration, first_month_after
from projections.alone import alone
from retention.policy.clocks import Clocked, first_day_of, last_anchor_due

DAYS_BEFORE_DUE_MIN: Final = 62
"""Days between the end of the last month that a generation serves and its due day. A one-off campaign registered on
that month's last day authorises for 30 days more, and an authorisation may be used for one; what is sent last then
still has 31 days to be delivered, opened and clicked."""


def open_due_generations(ledger: Ledger, rule: Clocked, today: date) -> int:
    """Open the next generation of every link key that comes due soon under this rule; returns for how many.

    `rule` is the pack's for the class `link`. Does nothing while another process is at it. Safe to kill and to run
    again.
    """
    if rule.clock != "last_engagement" or rule.keep is None:
        return 0
    last_on = last_anchor_due(rule, opens_up_to(today))
    if last_on is None:
        return 0
    with alone(ledger.services.writer, f"link generations {ledger.tenant}") as ours:
        return _open_all(ledger, last_on) if ours else 0


def close_generations(ledger: Ledger, persons: Sequence[PersonGeneration]) -> int:
    """After the keys (kid, link, generation) were destroyed: no standing row knows them any more; returns how many did.

    Whoever had no newer generation gets one in the same step. Idempotent.
    """
    return ledger.links.close(persons)


def opens_up_to(today: date) -> date:
    """The last due day for which the next generation has to open now: a month later would be too late."""
    serves_from = first_month_after(datetime(today.year, today.month, today.day, tzinfo=UTC))
    return first_day_of(next_month(serves_from)) + timedelta(days=DAYS_BEFORE_DUE_MIN - 1)


def _open_all(ledger: Ledger, last_on: date) -> int:
    opened, after = 0, (b"", 0)
    while True:
        page = ledger.services.vault.keys_due(ledger.tenant, LINK, last_on, after=after)
        if page:
            opened += ledger.links.open_next([(due.holder, due.generation) for due in page])
            after = (page[-1].holder, page[-1].generation)
        if len(page) < DUE_PER_PAGE:
            return opened
