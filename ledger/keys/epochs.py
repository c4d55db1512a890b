"""The book of epochs: when each was opened, rolled, verified and destroyed, and the day that certificates state.

The database says which epoch is written under, and the key provider only holds the keys. A writer reads the newest
epoch under a lock that the opening of the next one waits for; so from the moment an epoch is opened nobody writes
under the one before it, whatever a process still remembers of the provider (FAULTS 7a).

`destroy_on` is settled when an epoch is opened: its first day, its length and R days. It is what certificates state as
the backup horizon, so it only ever moves to an earlier day, when an epoch is rolled before its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from psycopg import Connection
from psycopg.types.json import Jsonb

from ledger.connections import Pool
from ledger.custody.provider import Destruction, EpochKeyProvider
from ledger.errors import EpochInUse, EpochNotDue, UnknownEpoch
from ledger.keys.epoch_keys import (
    SELECT_IN_USE,
    epoch_commitment,
    key_at_hand,
    living_or_first,
    note_commitments,
    require_epoch_keys,
)

_LOCK: Final = "hashtextextended('lethe epoch', 0)"
WRITING_EPOCH: Final = f"pg_advisory_xact_lock_shared({_LOCK})"
"""Part of a SELECT: the right to write under the newest epoch, held until the end of the transaction."""

OPENING_EPOCH: Final = f"SELECT pg_advisory_xact_lock({_LOCK})"
ROLLED: Final = "coalesce((SELECT max(epoch) FROM lethe_vault.epoch WHERE verified_at IS NOT NULL), 0) AS rolled"
"""A column for what reads wraps: nothing is left at this epoch or before."""

SELECT_NEWEST = "SELECT epoch, commitment FROM lethe_vault.epoch ORDER BY epoch DESC LIMIT 1"
SELECT_EPOCHS = """
SELECT epoch, opened_at, destroy_on, rolled_at, verified_at, destroyed_at, destruction FROM lethe_vault.epoch
ORDER BY epoch
"""
SELECT_FIRST_DAY = "SELECT min(created_on) FROM lethe_vault.wrapped_key"
INSERT_EPOCH = """
INSERT INTO lethe_vault.epoch (epoch, opened_at, destroy_on, commitment) VALUES (%s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
SET_ROLLED = """
UPDATE lethe_vault.epoch SET rolled_at = %s, destroy_on = least(destroy_on, %s)
WHERE epoch < %s AND rolled_at IS NULL
"""
SET_VERIFIED = """
UPDATE lethe_vault.epoch SET verified_at = %s WHERE epoch < %s AND rolled_at IS NOT NULL AND verified_at IS NULL
"""
SET_DESTROYED = """
UPDATE lethe_vault.epoch SET destroyed_at = %s, destruction = %s WHERE epoch = %s AND destroyed_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class EpochTerms:
    """How long an epoch lasts, how long its key is kept after it, and what its place takes to let it go; in days."""

    days: int
    kept_days: int
    delay_days: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch. `destruction` says, once its key is destroyed, what was done to each copy."""

    number: int
    opened_at: datetime
    destroy_on: date
    rolled_at: datetime | None
    verified_at: datetime | None
    destroyed_at: datetime | None
    destruction: dict[str, Any] | None

    @property
    def state(self) -> str:
        """In one word: open, rolled, verified or destroyed."""
        if self.destroyed_at is not None:
            return "destroyed"
        if self.verified_at is not None:
            return "verified"
        return "open" if self.rolled_at is None else "rolled"


class EpochBook:
    """The epochs of one vault."""

    def __init__(self, pool: Pool, provider: EpochKeyProvider, terms: EpochTerms) -> None:
        self._pool = pool
        self._provider = provider
        self.terms = terms

    def all(self) -> list[Epoch]:
        """Every epoch, oldest first; empty until `adopt` or `begin` was called once."""
        with self._pool.transaction() as connection:
            return [Epoch(*row) for row in connection.execute(SELECT_EPOCHS)]

    def enter(self, now: datetime) -> list[Epoch]:
        """As `adopt`, but an empty vault stays empty, so that a backup can be restored into it."""
        with self._pool.transaction() as connection:
            row = connection.execute(SELECT_IN_USE).fetchone()
        return self.adopt(now) if row is not None and row[0] else []

    def adopt(self, now: datetime) -> list[Epoch]:
        """As `all`. A vault that is older than its book is entered with the day of its oldest key.

        Raises `KeyMissing` where such a vault has no key, `TamperError` where it has another's.
        """
        found = self.all()
        if found:
            return found
        with self._pool.transaction() as connection:
            connection.execute(OPENING_EPOCH)
            living = living_or_first(connection, self._provider)
            require_epoch_keys(connection, self._provider)
            row = connection.execute(SELECT_FIRST_DAY).fetchone()
            opened_at = min(_midnight(row[0]), now) if row and row[0] else now
            ends_at = max(opened_at + timedelta(days=self.terms.days), now)
            destroy_on = (ends_at + timedelta(days=self.terms.kept_days)).date()
            for number in living:
                self._insert(connection, number, opened_at, destroy_on)
        return self.all()

    def require_keys(self) -> None:
        """Raises `KeyMissing` or `TamperError` unless the keys at hand are those of this vault. For every start."""
        with self._pool.transaction() as connection:
            note_commitments(connection, require_epoch_keys(connection, self._provider))

    def begin(self, now: datetime) -> int:
        """The epoch to renew everything into: the newest while one before it is not verified, else a new one.

        Its key is durable in every copy before its row says so; killed in between, the next call goes on from there.
        """
        epochs = self.adopt(now)
        self.require_keys()
        newest, held = epochs[-1], self._provider.current()
        if newest.number >= held and any(epoch.verified_at is None for epoch in epochs[:-1]):
            return newest.number
        # A restored vault is behind its provider, and goes straight to the provider's newest epoch.
        target = max(newest.number + 1, held)
        if target > held:
            self._provider.create(target)
        return self._open(newest, target, now)

    def close_rolled(self, into: int, now: datetime) -> None:
        """Everything before epoch `into` was renewed."""
        kept_until = (now + timedelta(days=self.terms.kept_days)).date()
        with self._pool.transaction() as connection:
            connection.execute(SET_ROLLED, (now, kept_until, into))

    def close_verified(self, into: int, now: datetime) -> None:
        """Everything was seen to open under `into` or later; from here on older wraps are refused when read."""
        with self._pool.transaction() as connection:
            connection.execute(SET_VERIFIED, (now, into))

    def close_destroyed(self, destruction: Destruction, now: datetime) -> None:
        """The key of an epoch is destroyed in every copy."""
        copies = [
            {"place": copy.place, "method": copy.method, "gone_after_days": copy.gone_after_days}
            for copy in destruction.copies
        ]
        with self._pool.transaction() as connection:
            connection.execute(SET_DESTROYED, (now, Jsonb({"copies": copies}), destruction.epoch))

    def require_destroyable(self, number: int, now: datetime) -> Epoch:
        """The epoch, if its key may be destroyed now. Raises `UnknownEpoch`, `EpochInUse` or `EpochNotDue`."""
        epochs = self.adopt(now)
        epoch = next((epoch for epoch in epochs if epoch.number == number), None)
        if epoch is None:
            known = ", ".join(str(one.number) for one in epochs)
            raise UnknownEpoch(f"There is no epoch {number} here. Known are: {known}.")
        if epoch.destroyed_at is not None:
            return epoch
        if epoch.verified_at is None:
            what = "is the current one" if epoch is epochs[-1] else "is not rolled and verified"
            raise EpochInUse(
                f"Epoch {number} {what}: living keys open with its key alone. Renew them first: lethe vault roll."
            )
        if now.date() < epoch.destroy_on:
            raise EpochNotDue(
                f"The key of epoch {number} is kept until {epoch.destroy_on}, so that backups of its time can be "
                "restored. It is destroyed on that day."
            )
        return epoch

    def horizon(self, now: datetime) -> date:
        """The day after which no enumerated copy opens what is destroyed now.

        Where a roll is so late that the day has passed, the days that a key is kept count from now.
        """
        current = self.adopt(now)[-1]
        gone = current.destroy_on
        if gone <= now.date():
            gone = (now + timedelta(days=self.terms.kept_days)).date()
        return gone + timedelta(days=self.terms.delay_days)

    def roll_due_at(self, epochs: Sequence[Epoch]) -> datetime:
        """When the current epoch has lasted long enough."""
        return roll_due_at(epochs[-1], self.terms.days)

    def _open(self, newest: Epoch, target: int, now: datetime) -> int:
        """The rows of `target` and, in a restored vault, of the epochs between; waits for writers under way."""
        step = timedelta(days=self.terms.days)
        living = [number for number in self._provider.living() if newest.number < number <= target]
        with self._pool.transaction() as connection:
            connection.execute(OPENING_EPOCH)
            found = connection.execute(SELECT_NEWEST).fetchone()
            assert found is not None
            if found[0] >= target:
                return int(found[0])  # Another process was faster.
            for number in living:
                destroy_on = (now + step + timedelta(days=self.terms.kept_days)).date()
                if number < target:  # Opened before the restore, no later than one length after the other.
                    destroy_on = min(destroy_on, newest.destroy_on + (number - newest.number) * step)
                self._insert(connection, number, now, destroy_on)
        return target

    def _insert(self, connection: Connection[Any], number: int, opened_at: datetime, destroy_on: date) -> None:
        commitment = epoch_commitment(self._provider.key(number))
        connection.execute(INSERT_EPOCH, (number, opened_at, destroy_on, commitment))


def newest_epoch(connection: Connection[Any], provider: EpochKeyProvider) -> int:
    """The epoch that wraps are written under. The caller holds `WRITING_EPOCH` where it goes on to write.

    Raises `KeyMissing` where its key is not at hand, `TamperError` where another is.
    """
    row = connection.execute(SELECT_NEWEST).fetchone()
    if row is None:
        return living_or_first(connection, provider)[-1]
    epoch, commitment = int(row[0]), row[1]
    key_at_hand(provider, epoch, commitment)
    return epoch


def roll_due_at(current: Epoch, epoch_days: int) -> datetime:
    """When an epoch has lasted long enough."""
    return current.opened_at + timedelta(days=epoch_days)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
