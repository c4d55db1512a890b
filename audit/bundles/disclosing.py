"""Opening what a bundle may show: per sealed part the event key that opens it alone, or why it is not shown.

A key that is disclosed opens one part of one event (docs/adr/0027). What was erased says so, with the day and what it
is certified under. Fingerprints and feed addresses are never opened. Whose a message or record is stands nowhere: its
parts open where the bundle is about that person, and are named as not disclosed elsewhere.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from audit.verify.envelope import SealedAt, open_disclosed
from domain.personal import Erased, Unopened
from ledger.application import Ledger
from ledger.entry import entry_time, unpack_sealed
from ledger.errors import NotDisclosable
from ledger.mapper import Disclosure, Holder, LedgerEvent
from projections.history import NEVER_OPENED
from projections.identity import find_identity_keys

ANOTHERS: Final = "whose this is stands nowhere; it opens in the bundle of its person"
WITHHELD: Final = "never opened: it serves the suppression list or the change feed only"
UNPROVABLE: Final = "envelope version 1"
"""Sealed before single parts could be disclosed: only the key of everything of its month would show it (0027)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One sealed part of one event, as a line of `disclosed.ndjson` says it."""

    position: int
    name: str
    said: Mapping[str, Any]

    @property
    def opened(self) -> bool:
        """Whether it is shown opened."""
        return "opened" in self.said

    def line(self) -> dict[str, Any]:
        """The line."""
        return {"position": self.position, "part": self.name, **self.said}


def disclosed_parts(ledger: Ledger, events: Iterable[LedgerEvent], holders: Mapping[UUID, Holder]) -> Iterator[Part]:
    """Every sealed part of these events, opened as far as it may be. Raises `KeyMissing`, `TamperError`: incidents."""
    page = list(events)
    find_identity_keys(ledger.keyring, page)
    for event in page:
        envelopes = unpack_sealed(event.sealed)
        if not envelopes:
            continue
        assert isinstance(event.originator_id, UUID)
        assert event.position is not None
        found = _disclosed(ledger, event, holders.get(event.originator_id))
        for name in sorted(envelopes):
            if found is None and name not in NEVER_OPENED:
                yield Part(event.position, name, _unprovable(ledger, event, name))
            else:
                yield Part(event.position, name, _said(found or {}, name, envelopes[name]))


def _disclosed(ledger: Ledger, event: LedgerEvent, holder: Holder | None) -> Mapping[str, Any] | None:
    """What a stranger needs to open each part; None where all of the event was sealed in the older way."""
    try:
        return ledger.sealing.disclose(event, holder)
    except NotDisclosable:
        return None


def _unprovable(ledger: Ledger, event: LedgerEvent, name: str) -> dict[str, Any]:
    """A part of the older envelopes: shown without a key, where it opens by itself."""
    values = ledger.sealing.open_part(event, name)
    if isinstance(values, Erased):
        return _erased(values)
    return {"not_disclosed": ANOTHERS} if isinstance(values, Unopened) else {"opened": values, "unprovable": UNPROVABLE}


def _erased(way: Erased) -> dict[str, Any]:
    return {"erased": {"certificate": way.certificate, "when": entry_time(way.when), "why": way.why}}


def _said(found: Mapping[str, Any], name: str, envelope: bytes) -> dict[str, Any]:
    if name in NEVER_OPENED:
        return {"not_disclosed": WITHHELD}
    way = found[name]
    if isinstance(way, Erased):
        return _erased(way)
    if not isinstance(way, Disclosure):
        return {"not_disclosed": ANOTHERS}
    place = way.place
    at = SealedAt(
        *(place.tenant, place.stream, place.event, place.part, place.topic),
        *(place.retention_class, place.period, place.binding),
    )
    # Opened as the verifier will open it, so that nothing is handed out which it would refuse.
    plaintext = open_disclosed(envelope, way.key, at)
    return {
        "class": place.retention_class,
        "period": place.period,
        "binding": place.binding.hex(),
        "key": b64encode(way.key).decode(),
        "opened": orjson.loads(plaintext),
    }
