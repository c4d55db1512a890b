"""What can go wrong in the ledger. Messages say what to do; none of them carries a personal value."""

from __future__ import annotations


class LedgerError(Exception):
    """The root of this folder's errors."""


class KeyMissing(LedgerError):
    """A key is neither in the vault nor among the tombstones: an incident, never an erasure (I6)."""


class TamperError(LedgerError):
    """Sealed bytes do not belong where they stand, or were changed."""


class NotDisclosable(LedgerError):
    """A sealed part cannot be disclosed singly: only the key of everything of its person and month would open it."""


class PeriodDestroyed(LedgerError):
    """Data arrived after the time of its period; the period's key is gone and is never made again."""


class KeyDestroyed(LedgerError):
    """Sealing was asked for under a key that has a tombstone."""


class DestructionTooEarly(LedgerError):
    """A key was to be destroyed before the time that it must be kept at least has run."""


class EpochInUse(LedgerError):
    """An epoch key was to be destroyed while it is still needed."""


class EpochNotDue(LedgerError):
    """An epoch key was to be destroyed before its day."""


class ClocksApart(LedgerError):
    """This machine's clock and the vault's server's differ so much that nothing is destroyed by either."""


class JournalLost(LedgerError):
    """The journal of tombstones has fewer lines than the vault has tombstones: an incident."""


class UnknownEpoch(LedgerError):
    """No epoch of this number was ever opened here."""


class RollIncomplete(LedgerError):
    """Something could not be renewed into the new epoch; the old epoch's key is still needed."""


class UnknownAccount(LedgerError):
    """No account with this id exists here."""


class UnknownCampaign(LedgerError):
    """No campaign with this id exists in this account."""


class UnknownSubject(LedgerError):
    """No living subject of this account has this address."""


class UnknownHold(LedgerError):
    """No legal hold with this id exists in this account."""


class HoldTooLate(LedgerError):
    """A hold was asked for on what is being destroyed, or is destroyed already: the intent was recorded first.

    `certificate` is the id under which the destruction is certified; None where nothing leads to it any more.
    """

    def __init__(self, text: str, certificate: str | None) -> None:
        super().__init__(text if certificate is None else f"{text} Certificate: {certificate}.")
        self.certificate = certificate


class InvalidToken(LedgerError):
    """A message id that this account never gave out, or that was changed."""


class IdempotencyMismatch(LedgerError):
    """The Idempotency-Key was used before with another body."""


class Unavailable(LedgerError):
    """A database or a place of keys does not answer; nothing of the command was done, and it can be sent again."""


class SettingsRefused(LedgerError):
    """A setting would break a promise; the program does not start with it."""


class RowOutdated(Unavailable):
    """The standing of an account was written in an older form than this program reads; it must be built again."""


class GateShut(LedgerError):
    """The databases were restored, and may hold what was destroyed: nothing is served until the gate is opened."""
