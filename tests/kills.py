"""What kill -9 does, as far as one process can show it: work that is cut off at a step, so that it can be run again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Killed(BaseException):
    """Nothing below catches it."""


def kill(patched: pytest.MonkeyPatch, owner: Any, step: str, *, after: bool = False) -> None:
    """From now on, die at a step of `owner`, before or after it was done."""
    real = getattr(owner, step)

    def killed(*arguments: Any, **more: Any) -> Any:
        if after:
            real(*arguments, **more)
        raise Killed

    patched.setattr(owner, step, killed)


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, owner: Any, step: str, *, after: bool = False) -> Iterator[None]:
    """A block that has to die at a step of `owner`; behind it the step is whole again."""
    with monkeypatch.context() as patched:
        kill(patched, owner, step, after=after)
        with pytest.raises(Killed):
            yield
