"""The backup horizon as arithmetic: how long after its destruction a key could still be had from some backup.

A key destroyed on the first day of an epoch lies in backups of the vault under that epoch's key. The epoch ends after
its length, its key is kept R days more so that backups can be restored, and the place of the key may take a delay to
let it go. The sum is the horizon that certificates state (DESIGN section 6; Mailenium policy 5.2).
"""

from __future__ import annotations

from ledger.errors import SettingsRefused

HORIZON_DAYS_MAX = 30
"""The longest horizon that the program runs with, whatever a pack allows."""


def horizon_of(epoch_days: int, kept_days: int, delay_days: int) -> int:
    """Days until nothing destroyed today can be had from any enumerated copy."""
    return epoch_days + kept_days + delay_days


def require_horizon(epoch_days: int, kept_days: int, delay_days: int, horizon_days: int | None = None) -> int:
    """The horizon in days. Raises `SettingsRefused`, with the figures, where it is longer than allowed.

    `horizon_days` is what an adopted pack promises; without it, the program's own maximum counts, which always holds.
    """
    if epoch_days < 1 or kept_days < 1:
        raise SettingsRefused("LETHE_EPOCH_DAYS and LETHE_EPOCH_KEPT_DAYS must be at least 1.")
    allowed = min(HORIZON_DAYS_MAX, horizon_days if horizon_days is not None else HORIZON_DAYS_MAX)
    horizon = horizon_of(epoch_days, kept_days, delay_days)
    if horizon > allowed:
        raise SettingsRefused(_explained(epoch_days, kept_days, delay_days, allowed))
    return horizon


def _explained(epoch_days: int, kept_days: int, delay_days: int, allowed: int) -> str:
    left = allowed - epoch_days - delay_days
    advice = (
        f"With these, LETHE_EPOCH_KEPT_DAYS may be at most {left}."
        if left >= 1
        else "Shorten LETHE_EPOCH_DAYS, or choose key copies that go sooner."
    )
    return (
        f"A destroyed key could be had from a backup for {horizon_of(epoch_days, kept_days, delay_days)} days, and at "
        f"most {allowed} are promised: {epoch_days} (LETHE_EPOCH_DAYS) + {kept_days} (LETHE_EPOCH_KEPT_DAYS) + "
        f"{delay_days} (until the place of the epoch keys lets them go). {advice}"
    )
