"""A child process that publishes logs and dies by kill -9 at a step that the test names."""

from __future__ import annotations

import importlib
import os
import signal
from pathlib import Path
from typing import Any

from api.bootstrap import running
from api.settings import Settings


def die_while_publishing(settings: Settings, place: str, call: int, after: bool) -> None:
    """Publish; the process kills itself before or after the n-th call of `module:owner.name`."""
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

    with running(settings) as instance:
        setattr(owner, name, dying)
        instance.sequencer.publish()


def publish_until_told(settings: Settings, folder: str) -> None:
    """Publish again and again until a file `stop` appears; leaves a file of its own when it has begun.

    Ends badly if anything could not be published meanwhile.
    """
    with running(settings) as instance:
        Path(folder, f"begun-{os.getpid()}").touch()
        while not Path(folder, "stop").exists():
            assert instance.sequencer.publish().failed == 0
