"""Interleaved rounds: contenders take turns, and each is judged by its median.

Raw COPY alone swings by half between runs on a small machine (a checkpoint, a neighbour, the disk's cache). What
runs in turns meets the same weather, and the median forgets the worst of it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter

Contender = Callable[[int], float]
"""Runs one round, by its number, and returns a rate or a time. What it must prepare it does not count."""


def interleaved(contenders: Mapping[str, Contender], rounds: int, *, warm_up: bool = True) -> dict[str, list[float]]:
    """What each contender gave in each round. The first to run changes from round to round.

    Round numbers start at 0; the warm-up is round -1 and is not in the result.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(-1 if warm_up else 0, rounds):
        turn = max(number, 0) % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            gc.freeze()  # What the bench itself holds is no burden of whoever runs next.
            value = contenders[name](number)
            if number >= 0:
                found[name].append(value)
    return found


def medians(found: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each contender's rounds."""
    return {name: median(values) for name, values in found.items()}


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = perf_counter()
    work()
    return perf_counter() - start


def rate(count: int, work: Callable[[], object]) -> float:
    """`count` per second of `work`."""
    return count / seconds(work)
