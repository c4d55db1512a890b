"""A child process that really dies by kill -9, at a step that the test names."""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any


def die_at(place: str, call: int, after: bool) -> None:
    """From now on this process kills itself before or after the n-th call of `module:owner.name`."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for one in owners:
        owner = getattr(owner, one)
    real, calls = getattr(owner, name), iter(range(1, 1000))

    def dying(*arguments: Any, **more: Any) -> Any:
        fatal = next(calls) == call
        if fatal and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*arguments, **more)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(owner, name, dying)
