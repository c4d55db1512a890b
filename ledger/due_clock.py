"""The clock by which things fall due: what is destroyed is destroyed by two clocks, not by one.

A machine whose clock jumps ahead would destroy a month, or an epoch key, years before its time, and nothing brings
that back. So where the program runs on real time, the vault's own server is asked what time it is as well, and the
earlier of the two counts. Clocks that are far apart are not decided between: one of them is wrong, and whoever looks
after the machines must say which. What is late by an hour is done an hour later; what is early is lost.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from ledger.connections import Pool
from ledger.errors import ClocksApart
from ledger.ports import Clock

CLOCKS_APART_MAX: Final = timedelta(hours=1)
SELECT_NOW = "SELECT clock_timestamp()"


class DueClock:
    """Tells what time it is, at the earliest. A simulated clock (`real_time` false) is believed as it is."""

    def __init__(self, clock: Clock, vault: Pool, *, real_time: bool) -> None:
        self._clock = clock
        self._vault = vault
        self._real_time = real_time

    def __call__(self) -> datetime:
        """The earlier of the program's time and that of the vault's server. Raises `ClocksApart`."""
        ours, theirs = self._both()
        if abs(ours - theirs) > CLOCKS_APART_MAX:
            raise ClocksApart(
                f"By this machine's clock it is {ours:%Y-%m-%d %H:%M} UTC, by that of the vault's server "
                f"{theirs:%Y-%m-%d %H:%M} UTC. While they are more than an hour apart nothing is destroyed, rolled or "
                "planned. Let both machines keep time (NTP); then it goes on by itself."
            )
        return min(ours, theirs)

    def earlier(self) -> datetime:
        """As calling it, however far the clocks are apart: for what only looks."""
        return min(self._both())

    def _both(self) -> tuple[datetime, datetime]:
        ours = self._clock()
        if not self._real_time:
            return ours, ours
        with self._vault.transaction() as connection:
            row = connection.execute(SELECT_NOW).fetchone()
        assert row is not None
        theirs: datetime = row[0]
        return ours, theirs
