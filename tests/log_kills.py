"""A child process that publishes logs and dies by kill -9 at a step that the test names."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from uuid import UUID

from api.bootstrap import running
from api.settings import Settings
from audit.fsck import mending
from tests.child_kills import die_at


def die_while_publishing(settings: Settings, place: str, call: int, after: bool) -> None:
    """Publish; the process kills itself before or after the n-th call of `module:owner.name`."""
    with running(settings) as instance:
        die_at(place, call, after)
        instance.sequencer.publish()


def publish_until_told(settings: Settings, folder: str) -> None:
    """Publish again and again until a file `stop` appears; leaves a file of its own when it has begun.

    Ends badly if anything could not be published meanwhile.
    """
    with running(settings) as instance:
        Path(folder, f"begun-{os.getpid()}").touch()
        while not Path(folder, "stop").exists():
            assert instance.sequencer.publish().failed == 0


def nothing(*_: object) -> None:
    """Nobody watches."""


def die_while_mending(settings: Settings, tenant: UUID, owner_url: str, call: int, after: bool) -> None:
    """Mend a log's tiles, one in a transaction; the process kills itself before or inside the n-th of them."""
    setattr(mending, "TILES_PER_TRANSACTION", 1)  # noqa: B010  It is final to everybody else.
    real, calls = mending._write, iter(range(1, 1000))

    def dying(*arguments: Any) -> None:
        fatal = next(calls) == call
        if fatal and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)
        if fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    with running(settings) as instance, mending.tile_plan(instance.urls.writer, tenant) as plan:
        setattr(mending, "_write", dying)  # noqa: B010
        mending.mend(owner_url, plan, begun=nothing, told=nothing)
