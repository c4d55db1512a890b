"""What can go wrong with the published log."""

from __future__ import annotations

from ledger.errors import LedgerError


class LogError(LedgerError):
    """Something about the published log was refused."""


class NothingPublished(LogError):
    """There is no checkpoint yet."""


class TileMissing(LogError):
    """A tile that the log does not have."""


class LogContradiction(LogError):
    """What is to be signed contradicts what was signed: nothing is published until somebody has looked."""


class LogKeyRefused(LogError):
    """A change of the log's keys that would leave it without a signature, or that names no key."""


class NoAnswer(LogError):
    """Somebody outside who was asked about a checkpoint did not answer, or answered too much or too slowly."""


class WitnessRefused(LogError):
    """A witness did not cosign, or what it answered is no cosignature of its key."""


class WitnessHoldsMore(WitnessRefused):
    """A witness holds a longer log of this origin than was ever published here, or another one: an incident."""


class StampRefused(LogError):
    """A timestamp authority gave no token that holds."""


class NotPublishedYet(LogError):
    """An event is recorded and stands under no served checkpoint yet; it will in a moment."""


class NoSuchPosition(LogError):
    """The log does not reach this position."""


class FolderRefused(LogError):
    """A folder holds something else than an older export of this log."""
