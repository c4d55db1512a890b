"""A child process that finishes erasures and dies by kill -9 at a step that the test names."""

from __future__ import annotations

import importlib
import os
import signal
from typing import Any
from uuid import UUID

from api.bootstrap import running
from api.settings import Settings
from retention.erasure.erasing import finish_erasures


def die_while_erasing(settings: Settings, tenant: UUID, place: str, call: int, after: bool) -> None:
    """Finish erasures; the process kills itself before or after the n-th call of `module:owner.name`."""
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
        ledger = instance.ledger(tenant)
        setattr(owner, name, dying)
        finish_erasures(ledger)
