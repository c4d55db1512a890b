"""The backup horizon as arithmetic: settings that would break a promise are refused, with the figures."""

from __future__ import annotations

import pytest

from ledger.errors import SettingsRefused
from ledger.keys.horizon import HORIZON_DAYS_MAX, require_horizon


@pytest.mark.parametrize(
    ("days", "kept", "delay", "promised", "horizon"),
    [
        (7, 21, 0, None, 28),
        (7, 23, 0, None, 30),
        (7, 23, 0, 30, 30),
        (7, 7, 16, 30, 30),
        (1, 1, 0, 2, 2),
        (7, 23, 0, 90, 30),
    ],
)
def test_settings_within_the_promise_are_taken(
    days: int, kept: int, delay: int, promised: int | None, horizon: int
) -> None:
    """Given an epoch, its time kept and a delay whose sum is allowed, then the horizon is that sum."""
    assert require_horizon(days, kept, delay, promised) == horizon


@pytest.mark.parametrize(
    ("days", "kept", "delay", "promised", "figures"),
    [
        (7, 24, 0, None, ("31 days", "at most 30", "7 (LETHE_EPOCH_DAYS)", "24 (LETHE_EPOCH_KEPT_DAYS)", "at most 23")),
        (7, 21, 16, None, ("44 days", "at most 30", "16 (until", "may be at most 7")),
        (7, 21, 0, 20, ("28 days", "at most 20", "may be at most 13")),
        (7, 24, 0, 90, ("31 days", "at most 30")),
        (20, 1, 16, None, ("37 days", "Shorten LETHE_EPOCH_DAYS")),
    ],
)
def test_settings_that_break_the_promise_are_refused_with_figures(
    days: int, kept: int, delay: int, promised: int | None, figures: tuple[str, ...]
) -> None:
    """Given a sum of one day or more too many, then it is refused, and the message says every figure and what helps."""
    with pytest.raises(SettingsRefused) as refused:
        require_horizon(days, kept, delay, promised)
    assert [figure for figure in figures if figure not in str(refused.value)] == []


@pytest.mark.parametrize(("days", "kept"), [(0, 21), (7, 0), (-1, 5)])
def test_an_epoch_of_no_days_is_refused(days: int, kept: int) -> None:
    """Given an epoch without a day, or a key that is not kept for one, then it is refused."""
    with pytest.raises(SettingsRefused, match="at least 1"):
        require_horizon(days, kept, 0)


def test_the_program_itself_allows_what_mailenium_promises() -> None:
    """Mailenium 5.2 promises backups of at most 30 days; nothing here runs with more."""
    assert HORIZON_DAYS_MAX == 30
