"""What every desk of a tenant works with: the log, the inline projections, keys, sealing, fingerprints, the time.

A desk takes the commands about one thing (subjects, suppressions, authorisations, feedback, erasures).
`ledger/application.py` makes the tools of a tenant once and hands them to its desks.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ledger.append import Appender
from ledger.fingerprints import Fingerprinter
from ledger.keys.keyring import Keyring
from ledger.mapper import SealingMapper
from ledger.ports import Clock, StandingBook


@dataclass(frozen=True, slots=True)
class DeskTools:
    """The tools of one tenant."""

    tenant: UUID
    appender: Appender
    book: StandingBook
    keyring: Keyring
    mapper: SealingMapper
    fingerprinter: Fingerprinter
    clock: Clock


class Desk:
    """The base of every desk: its tools at hand."""

    def __init__(self, tools: DeskTools) -> None:
        self._tenant = tools.tenant
        self._appender = tools.appender
        self._book = tools.book
        self._keyring = tools.keyring
        self._mapper = tools.mapper
        self._fingerprint = tools.fingerprinter
        self._clock = tools.clock
