"""Rounds: asks others about every account's newest checkpoint, in a thread beside the worker, and never in its way.

Whoever is asked may be slow or down. So neither the sequencer nor a projection waits here, and witnesses and the
timestamp authority have a thread each. Of several workers one goes round; the others look whether it still does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Final
from uuid import UUID

import structlog

from ledger.application import Ledger, tenants
from ledger.connections import Pool
from ledger.errors import LedgerError, Unavailable
from projections.alone import alone

ROUND_SECONDS: Final = 1.0
"""Who needs it: readers under a policy that asks for witnesses, who are served what was cosigned and no more."""

BACK_OFF_SECONDS_MAX: Final = 30.0

log = structlog.get_logger("lethe.log")


@dataclass(frozen=True, slots=True)
class Rounds:
    """Does `ask` for every account, again and again, as the only one of all workers."""

    name: str
    writer: Pool
    ledger_of: Callable[[UUID], Ledger]
    ask: Callable[[Ledger], object]

    def run(self, stop: Event) -> None:
        """Go round until `stop` is set."""
        pause = ROUND_SECONDS
        while not stop.wait(pause):
            try:
                self.once(stop)
                pause = ROUND_SECONDS
            except Unavailable:
                pause = min(pause * 2, BACK_OFF_SECONDS_MAX)

    def once(self, stop: Event | None = None) -> bool:
        """One round; False while another worker is at it. Raises `Unavailable`; what else fails is logged."""
        with alone(self.writer, f"log {self.name}") as ours:
            if not ours:
                return False
            for tenant in tenants(self.writer):
                if stop is not None and stop.is_set():
                    break
                self._ask(tenant)
        return True

    def _ask(self, tenant: UUID) -> None:
        try:
            self.ask(self.ledger_of(tenant))
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001  The edge of a thread: one account must not stop the others.
            _log_failure(error, self.name, tenant)


def _log_failure(error: Exception, name: str, tenant: UUID) -> None:
    """Our own errors carry no personal value; of any other only the kind is logged."""
    text = str(error) if isinstance(error, LedgerError) else type(error).__name__
    log.error("asking_others_failed", name=name, tenant=str(tenant), error=text)
