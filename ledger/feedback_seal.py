"""Sealing what is personal in feedback, before the lock: a whole chunk at a time, one class after the other.

The person's keys are those of the link generation that led to the message, and stand nowhere in the event; what
comes after its period was destroyed is refused at the door. Envelopes are packed as `ledger.entry.pack_sealed` packs
them, in order of class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from uuid import UUID

from domain.personal import Engagement, EngagementTechnical
from ledger.entry import canonical, part_header
from ledger.errors import PeriodDestroyed
from ledger.feedback_events import ENGAGEMENT_KINDS, TOPICS, FeedbackEvent
from ledger.feedback_match import Matched
from ledger.keys.keyring import Keyring
from ledger.sealing import length_prefixed, scope_key, seal_with_aad

DaysOfUse = dict[int, dict[bytes, date]]
"""The last day (UTC) on which a person opened or clicked, by link generation and kid."""


def days_of_use(items: Sequence[Matched]) -> DaysOfUse:
    """The last day on which each person opened or clicked."""
    days: DaysOfUse = {}
    for item in items:
        if item.event.kind in ENGAGEMENT_KINDS:
            kid, day = item.kid, item.moment.day
            of_generation = days.get(item.generation)
            if of_generation is None:
                of_generation = days[item.generation] = {}
            before = of_generation.get(kid)
            if before is None or before < day:
                of_generation[kid] = day
    return days


def seal_parts(keyring: Keyring, tenant: UUID, items: Sequence[Matched], days: DaysOfUse) -> None:
    """Seal what is personal in these events, making keys where they are needed. `days` starts the new ones' clocks."""
    for retention_class, personal_part in _PERSONAL_PARTS:
        wanted, plaintexts = [], []
        for item in items:
            values = personal_part(item.event)
            if values and not item.late:
                wanted.append(item)
                plaintexts.append(canonical(values))
        if wanted:
            _ClassSealer(keyring, tenant, retention_class, wanted, days).seal(wanted, plaintexts)


@dataclass(slots=True)
class _Kind:
    """What all events of one kind, month and link generation share: the period's key and how their AAD ends."""

    period_key: bytes
    late: str
    keys: Mapping[bytes, bytes]
    aad_ends: bytes
    scopes: dict[bytes, bytes] = field(default_factory=dict)


class _ClassSealer:
    """Seals the parts of one class in one chunk."""

    def __init__(
        self, keyring: Keyring, tenant: UUID, retention_class: str, items: Sequence[Matched], days: DaysOfUse
    ) -> None:
        self._keyring = keyring
        self._class = retention_class
        self._aad_begins = length_prefixed(tenant.bytes) + _SIXTEEN_BYTES
        self._kinds: dict[tuple[str, str, int], _Kind] = {}
        kids: dict[int, set[bytes]] = {}
        for item in items:
            kids.setdefault(item.generation, set()).add(item.kid)
        self._keys = {  # Each new one's clock is started; a destroyed one is absent.
            generation: keyring.subject_keys(
                retention_class, of_generation, generation=generation, used_on=days[generation]
            )
            for generation, of_generation in kids.items()
        }

    def seal(self, items: Sequence[Matched], plaintexts: Sequence[bytes]) -> None:
        """Add the part of this class to each of these."""
        kinds, begins, header = self._kinds, self._aad_begins, part_header(self._class)
        digest_begins = f'"{self._class}":"'.encode()
        for item, plaintext in zip(items, plaintexts, strict=True):
            name = (item.event.kind, item.moment.month, item.generation)
            kind = kinds.get(name) or self._kind(name)
            if kind.late:
                item.late = kind.late
                continue
            kid, event_id = item.kid, item.event_id
            scope = kind.scopes.get(kid)
            if scope is None:
                key = kind.keys.get(kid)
                if key is None:
                    item.keyless = True  # Destroyed since it was read: the fence drops it, or whoever writes it.
                    continue
                scope = kind.scopes[kid] = scope_key(key, kind.period_key)
            aad = b"".join((begins, item.stream, _SIXTEEN_BYTES, event_id, kind.aad_ends))
            envelope = seal_with_aad(scope, plaintext, aad, event_id)
            item.sealed += header + len(envelope).to_bytes(4, "big") + envelope
            comma = b"," if item.digests else b""
            item.digests += comma + digest_begins + sha256(envelope).hexdigest().encode() + b'"'

    def _kind(self, name: tuple[str, str, int]) -> _Kind:
        event_kind, month, generation = name
        period_key, late = b"", ""
        try:
            period_key = self._keyring.period_key(self._class, month)
        except PeriodDestroyed as error:
            late = str(error)
        of_class = self._class.encode()
        topic, binding = TOPICS[event_kind].encode(), generation.to_bytes(2, "big")
        ends = length_prefixed(of_class, topic, of_class, month.encode(), binding)
        kind = self._kinds[name] = _Kind(period_key, late, self._keys[generation], ends)
        return kind


_SIXTEEN_BYTES = (16).to_bytes(2, "big")


def _technical_part(event: FeedbackEvent) -> dict[str, str]:
    if event.kind not in ENGAGEMENT_KINDS:
        return {}
    part = {}
    if event.ip is not None:
        part["ip"] = event.ip
    if event.user_agent is not None:
        part["user_agent"] = event.user_agent
    return part


def _clicked_part(event: FeedbackEvent) -> dict[str, str]:
    return {"url": event.url} if event.kind == "clicked" and event.url is not None else {}


_PERSONAL_PARTS: tuple[tuple[str, Callable[[FeedbackEvent], dict[str, str]]], ...] = (
    (Engagement.name, _clicked_part),
    (EngagementTechnical.name, _technical_part),
)
"""In order of name, as they are packed."""
