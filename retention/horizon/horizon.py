"""The backup horizon, kept on schedule: epochs are opened, rolled, verified, and their keys destroyed on their day.

What is destroyed here leaves the tables at once; in the write-ahead log, in dead tuples, replicas and backups it stays
wrapped under the epoch key of its time. That key is destroyed R days after everything living was renewed out of it, on
the day that certificates named when the epoch was opened (DESIGN section 6; Mailenium 5.2).

One process rolls at a time, in steps of one batch; any number of processes may try, and one that is killed leaves the
rest to whoever comes next. No epoch key is destroyed before its roll was verified and its day has come (FAULTS 10).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from ledger.application import Ledger, LedgerServices, tenants
from ledger.custody.provider import Destruction
from ledger.errors import EpochInUse, Unavailable
from ledger.keys.epochs import Epoch, EpochBook
from ledger.keys.rolling import RollStep, VaultRoll, wraps_by_epoch
from projections.alone import alone
from projections.standing_roll import NO_TENANT, StandingRoll, count_behind, tenants_behind
from retention.horizon.epoch_facts import tell
from retention.horizon.orphans import collect_orphans, days_looked_at

ROLL: Final = "epoch roll"
TENANTS_PER_PAGE: Final = 1_000
STEPS_PER_TURN: Final = 20
"""Batches that a worker renews before its other work has its turn: a second or two."""

PAUSE_SECONDS: Final = 1.0
LOOK_EVERY_SECONDS: Final = 10.0
RETURNED_EVERY_SECONDS: Final = 3_600.0
"""Copies that came back are refused from the first second on, and asking KMS for them takes some calls."""

RETRY_SECONDS: Final = 600.0
"""After a roll that failed: it begins again from the start, so not at every turn."""

TENANTS_REMEMBERED_MAX: Final = 100_000


class RollRunning(Exception):
    """Another process is renewing everything into the next epoch."""


@dataclass(frozen=True, slots=True)
class EpochState:
    """One epoch as it stands: how many wraps are under it, and what should have been done by now, if anything."""

    epoch: Epoch
    wraps: int
    age_days: int
    overdue: str


@dataclass(frozen=True, slots=True)
class HorizonState:
    """Where everything stands. `horizon` is when what is destroyed now is gone from every enumerated copy."""

    epochs: tuple[EpochState, ...]
    roll_due_at: datetime
    accounts_behind: int
    horizon: date

    @property
    def overdue(self) -> list[str]:
        """What should have been done by now."""
        return [state.overdue for state in self.epochs if state.overdue]


def horizon_of(ledger: Ledger, now: datetime) -> date:
    """The day after which no enumerated copy opens what is destroyed now: what a certificate states."""
    return ledger.services.epochs.horizon(now)


class Horizon:
    """The epochs of one installation: their state, the roll, and the end of their keys."""

    def __init__(self, services: LedgerServices) -> None:
        self._services = services
        self._vault_pool = services.vault.pool
        self._provider = services.vault.provider
        self._book: EpochBook = services.epochs

    @property
    def book(self) -> EpochBook:
        """The book of epochs."""
        return self._book

    def enter(self) -> list[Epoch]:
        """Every epoch, oldest first; none while the vault is empty."""
        return self._book.enter(self._services.due_clock.earlier())

    def state(self) -> HorizonState:
        """Every epoch, oldest first. Enters a vault into the book that is older than it."""
        now = self._services.due_clock.earlier()
        epochs = self._book.adopt(now)
        wraps = wraps_by_epoch(self._vault_pool)
        due_at = self._book.roll_due_at(epochs)
        newest = epochs[-1].number
        states = tuple(
            EpochState(e, wraps.get(e.number, 0), (now - e.opened_at).days, overdue(e, newest, due_at, now))
            for e in epochs
        )
        return HorizonState(states, due_at, count_behind(self._services.writer, newest), self._book.horizon(now))

    def roll_is_due(self) -> bool:
        """Whether the current epoch has lasted long enough, or an earlier roll was cut off. Raises `ClocksApart`."""
        now = self._services.due_clock()
        epochs = self._book.adopt(now)
        return self._book.roll_due_at(epochs) <= now or any(epoch.verified_at is None for epoch in epochs[:-1])

    def to_renew(self) -> int:
        """How many wraps a roll renews now, about: what a progress bar counts towards."""
        return sum(wraps_by_epoch(self._vault_pool).values())

    def roll(self) -> Iterator[RollStep]:
        """Open the next epoch, renew everything into it and verify that; gives a step after each batch.

        Goes on with a roll that was cut off. Raises `RollRunning` while another process is at it, `RollIncomplete`,
        `TamperError` and `KeyMissing` where something does not open: the old key is kept then.
        """
        services, clock = self._services, self._services.due_clock
        with alone(self._vault_pool, ROLL) as ours:
            if not ours:
                raise RollRunning("Another process rolls the epoch. Wait for it to end: lethe vault status.")
            into = self._book.begin(clock())
            vault = VaultRoll(self._vault_pool, self._provider, into)
            yield from vault.renew_all()
            for tenant in self._behind(into):
                standing = self._standing(tenant, into)
                standing.open()
                yield from standing.renew_all()
            self._book.close_rolled(into, clock.earlier())
            yield from vault.verify()
            # Again all that are behind: an account that was opened in between may have been told an older epoch.
            while behind := tenants_behind(services.writer, into, TENANTS_PER_PAGE):
                for tenant in behind:
                    yield from self._finish(self._standing(tenant, into))
            self._book.close_verified(into, clock.earlier())
            yield from self._collect_orphans()

    def due_for_destruction(self) -> list[int]:
        """Epochs whose key is to be destroyed today, and those whose destroyed key came back to all its places.

        Raises `ClocksApart`, as `require_destroyable` does: what is destroyed is destroyed by two clocks.
        """
        now = self._services.due_clock()
        living = self._provider.living()
        return [
            epoch.number
            for epoch in self._book.adopt(now)
            if epoch.verified_at is not None
            and epoch.destroy_on <= now.date()
            and (epoch.destroyed_at is None or epoch.number in living)
        ]

    def returned(self) -> list[int]:
        """Destroyed epochs of which a copy is there again: in one folder, or in KMS by a cancelled deletion."""
        back = {copy.epoch for copy in self._provider.returned()}
        over = [epoch.number for epoch in self._book.all() if epoch.destroyed_at is not None]
        return [number for number in over if number in back]

    def require_destroyable(self, number: int) -> Epoch:
        """The epoch, if its key may be destroyed. Raises `UnknownEpoch`, `EpochInUse`, `EpochNotDue`, `ClocksApart`."""
        epoch = self._book.require_destroyable(number, self._services.due_clock())
        if epoch.destroyed_at is None:
            left = VaultRoll(self._vault_pool, self._provider, number + 1).left()
            behind = count_behind(self._services.writer, number + 1)
            if left or behind:
                raise EpochInUse(
                    f"{left} keys and rows of {behind} accounts are under epoch {number} or an older one, though it "
                    "was rolled: they came back from a backup. Renew them first: lethe vault roll."
                )
        return epoch

    def destroy(self, number: int) -> Destruction:
        """Destroy an epoch's key in every copy, for good. Idempotent. Raises as `require_destroyable`."""
        self.require_destroyable(number)
        destruction = self._provider.destroy(number)
        self._provider.forget_cached()
        self._book.close_destroyed(destruction, self._services.due_clock.earlier())
        return destruction

    def run_due(self) -> None:
        """Everything that is due now, to its end. Raises as `roll` and `destroy` do."""
        if self.roll_is_due():
            for _ in self.roll():
                continue
        for number in (*self.due_for_destruction(), *self.returned()):
            self.destroy(number)

    def _collect_orphans(self) -> Iterator[RollStep]:
        made = days_looked_at(self._services.due_clock.earlier(), self._book.terms.days)
        for tenant in tenants(self._services.writer):
            collected = collect_orphans(self._services, tenant, made)
            if collected:
                yield RollStep("collect orphans", collected)

    def _behind(self, into: int) -> Iterator[UUID]:
        """Every tenant that has rows under an older epoch, page by page."""
        after = NO_TENANT
        while page := tenants_behind(self._services.writer, into, TENANTS_PER_PAGE, after=after):
            yield from page
            after = page[-1]

    def _finish(self, standing: StandingRoll) -> Iterator[RollStep]:
        if standing.open():
            yield from standing.renew_all()
        yield from standing.verify()
        standing.close()

    def _standing(self, tenant: UUID, into: int) -> StandingRoll:
        return StandingRoll(self._services.writer, self._provider, tenant, into)


class HorizonKeeper:
    """The worker's chore: does what is due, some batches at a time, and tells each account's log."""

    def __init__(self, horizon: Horizon) -> None:
        self._horizon = horizon
        self._rolling: Iterator[RollStep] | None = None
        self._look_at = self._look_for_returned_at = 0.0
        self._epochs: list[Epoch] = []
        self._told: dict[UUID, list[Epoch]] = {}

    def keep(self, ledger: Ledger) -> None:
        """Go on with the roll, destroy what is due, and tell this account what happened. Cheap when nothing did."""
        self._go_on()
        if self._told.get(ledger.tenant) != self._epochs:
            tell(ledger, self._epochs)
            if len(self._told) >= TENANTS_REMEMBERED_MAX:
                self._told.clear()
            self._told[ledger.tenant] = self._epochs

    def _go_on(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY_SECONDS
        if not self._horizon.enter():
            return
        if self._rolling is None and self._horizon.roll_is_due():
            self._rolling = self._horizon.roll()
        if self._rolling is not None:
            self._roll_some(self._rolling)
        for number in self._horizon.due_for_destruction():
            self._horizon.destroy(number)
        self._epochs = self._horizon.book.all()
        if time.monotonic() >= self._look_for_returned_at:
            self._look_for_returned_at = time.monotonic() + RETURNED_EVERY_SECONDS
            for number in self._horizon.returned():
                self._horizon.destroy(number)

    def _roll_some(self, rolling: Iterator[RollStep]) -> None:
        try:
            for _ in range(STEPS_PER_TURN):
                if next(rolling, None) is None:
                    self._rolling = None
                    return
            self._look_at = time.monotonic() + PAUSE_SECONDS
        except RollRunning:
            self._rolling = None
        except Unavailable:
            self._rolling = None
            raise
        except BaseException:
            self._rolling = None
            self._look_at = time.monotonic() + RETRY_SECONDS
            raise


def overdue(epoch: Epoch, newest: int, due_at: datetime, now: datetime) -> str:
    """What should have been done about an epoch by now, with a day's grace; empty where nothing is late."""
    if epoch.destroyed_at is not None:
        return ""
    if epoch.number == newest:
        late = (now - due_at).days
        return f"epoch {newest} should have been rolled {late} days ago" if late >= 1 else ""
    late = (now.date() - epoch.destroy_on).days
    if late >= 1:
        return f"the key of epoch {epoch.number} should have been destroyed {late} days ago"
    opened_late = epoch.verified_at is None and (now - due_at).days >= 0
    return f"the roll of epoch {epoch.number} was never finished" if opened_late else ""
