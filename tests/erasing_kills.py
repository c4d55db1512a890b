"""A child process that finishes erasures and dies by kill -9 at a step that the test names."""

from __future__ import annotations

from uuid import UUID

from api.bootstrap import running
from api.settings import Settings
from retention.erasure.erasing import finish_erasures
from tests.child_kills import die_at


def die_while_erasing(settings: Settings, tenant: UUID, place: str, call: int, after: bool) -> None:
    """Finish erasures; the process kills itself before or after the n-th call of `module:owner.name`."""
    with running(settings) as instance:
        ledger = instance.ledger(tenant)
        die_at(place, call, after)
        finish_erasures(ledger)
