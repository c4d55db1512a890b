"""What can go wrong in the ledger. Messages say what to do; none of them carries a personal value."""

from __future__ import annotations


class LedgerError(Exception):
    """The root of this folder's errors."""


class KeyMissing(LedgerError):
    """A key is neither in the vault nor among the tombstones: an incident, never an erasure (I6)."""


class TamperError(LedgerError):
    """Sealed bytes do not belong where they stand, or were changed."""


class PeriodDestroyed(LedgerError):
    """Data arrived after the time of its period; the period's key is gone and is never made again."""


class KeyDestroyed(LedgerError):
    """Sealing was asked for under a key that has a tombstone."""


class UnknownAccount(LedgerError):
    """No account with this id exists here."""


class UnknownCampaign(LedgerError):
    """No campaign with this id exists in this account."""


class UnknownSubject(LedgerError):
    """No living subject of this account has this address."""


class InvalidToken(LedgerError):
    """A message id that this account never gave out, or that was changed."""


class IdempotencyMismatch(LedgerError):
    """The Idempotency-Key was used before with another body."""


class Unavailable(LedgerError):
    """A database does not answer; nothing of the command was done, and it can be sent again."""


class SettingsRefused(LedgerError):
    """A setting would break a promise; the program does not start with it."""
