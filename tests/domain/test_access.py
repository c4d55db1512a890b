"""Counts of what is about one person are told so coarsely that they fit everybody with a short history."""

from __future__ import annotations

import pytest

from domain.access import ROUNDED_TO_MIN, rounded_up


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, 0), (1, 16), (15, 16), (16, 16), (17, 32), (32, 32), (33, 64), (1_000, 1_024), (1_025, 2_048)],
)
def test_a_count_is_rounded_up(count: int, told: int) -> None:
    """Given a count, then nothing stays nothing, and the rest is the next power of two, sixteen at least."""
    assert rounded_up(count) == told
    assert rounded_up(told) == told
    assert told in (0, *range(ROUNDED_TO_MIN, 4_096))
