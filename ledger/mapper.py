"""The sealing mapper: facts to entries and sealed parts, and back.

It subclasses eventsourcing's `Mapper` and not its `Cipher`, because a cipher sees neither whose data it seals nor
the place it will stand in. All personal fields of one class in one event share one envelope.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from domain.facts import (
    BY_SUBJECT_AND_MONTH,
    Fact,
    SealedBy,
    current_class,
    opened,
    personal_fields,
    plain_fields,
    upcast,
)
from domain.ids import day_of, month_of
from domain.personal import Erased, Unopened
from ledger.entry import (
    ENTRY_VERSION,
    canonical,
    check_digests,
    entry_time,
    hex_id,
    pack_sealed,
    parse_entry_time,
    unpack_sealed,
)
from ledger.errors import TamperError
from ledger.keys.keyring import Keyring
from ledger.keys.vault import FOR_EVER, TENANT_HOLDER, KeyName
from ledger.sealing import SealedPlace, disclosed_key, envelope_kid, open_envelope, scope_key, seal


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose keys seal: a person's kid, and for message streams the link generation they are bound to.

    For records it is the person's records kid, and which generation of their key of that class it is; for records
    about nobody the holder of their day, where their class has a clock.
    """

    kid: bytes = b""
    link_generation: int = 1


NO_HOLDER = Holder()
_ANYBODY = bytes(16)


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that is ready but for its version and its time, which are filled in under the head lock.

    `entry` holds every other field of the entry; `stream` and `event` are 16 bytes each.
    """

    stream: bytes
    topic: str
    entry: dict[str, Any]
    sealed: bytes | None = None

    def finish(self, version: int, recorded_at: str) -> bytes:
        """The canonical bytes of the entry."""
        return canonical(self.entry | {"version": version, "recorded_at": recorded_at})


@dataclass(frozen=True)
class LedgerEvent(StoredEvent):
    """A stored event of this ledger: `state` is the entry, `sealed` the packed envelopes."""

    sealed: bytes | None = None
    position: int | None = None
    recorded_at: datetime | None = None
    draft: Draft | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Where a sealed part stands, and the event key (32 bytes) that opens it alone."""

    place: SealedPlace
    key: bytes


class SealingMapper(Mapper[UUID]):
    """Maps the facts of one tenant. Sealing creates keys where needed; opening never does."""

    def __init__(self, tenant: UUID, keyring: Keyring) -> None:
        super().__init__(transcoder=JSONTranscoder())
        self._tenant = tenant
        self._tenant_hex = tenant.hex
        self._keyring = keyring

    def draft(self, fact: Fact, holder: Holder = NO_HOLDER) -> Draft:
        """The entry and sealed parts of a fact whose header is filled in but for version and `recorded_at`."""
        fact_class, values = type(fact), fact.__dict__
        plain = {}
        for name in plain_fields(fact_class):
            value = values[name]
            if value is not None:
                plain[name] = value if type(value) in _WRITTEN_AS_THEY_ARE else _plain(value)
        parts = self._seal_parts(fact, holder)
        stream = fact.originator_id
        entry: dict[str, Any] = {
            "v": ENTRY_VERSION,
            "tenant": self._tenant_hex,
            "id": fact.event_id.hex,
            "stream": stream.hex,
            "topic": fact.TOPIC,
            "occurred_at": entry_time(fact.occurred_at),
            "actor": fact.actor,
            "plain": plain,
        }
        if fact.command is not None:
            entry["command"] = fact.command.hex
        if fact.cause is not None:
            entry["cause"] = fact.cause.hex
        if fact.rules is not None:
            entry["rules"] = fact.rules
        if not parts:
            return Draft(stream.bytes, fact.TOPIC, entry)
        entry["sealed"] = {name: sha256(envelope).hexdigest() for name, envelope in parts.items()}
        return Draft(stream.bytes, fact.TOPIC, entry, pack_sealed(parts))

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> LedgerEvent:
        """A fact of a stream that no person holds (account, campaign, suppression, access), ready to append."""
        assert isinstance(domain_event, Fact)
        draft = self.draft(domain_event)
        return LedgerEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=draft.topic,
            state=canonical(draft.entry),
            sealed=draft.sealed,
            draft=draft,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Fact:
        """The fact of a stored event, opened as far as its envelopes tell whose it is."""
        return self.open(stored_event)

    def open(self, stored_event: StoredEvent, holder: Holder | None = None, *, personal: bool = True) -> Fact:
        """The fact of a stored event. Personal fields hold the value, `Erased`, or `Unopened`.

        `holder` is the person a message was for, where the caller knows it; `personal=False` opens nothing.
        Raises `TamperError` if the sealed bytes do not fit the entry, `KeyMissing` for a key without tombstone.
        """
        assert isinstance(stored_event, LedgerEvent)
        entry, envelopes = self._checked(stored_event)
        fact_class = current_class(entry["topic"])
        parts = {
            part: self._open_part(fact_class, entry, part, envelope, holder) if personal else Unopened()
            for part, envelope in envelopes.items()
        }
        _, stored = upcast(entry["topic"], {"plain": entry["plain"], "parts": parts})
        values: dict[str, Any] = dict(stored["plain"])
        for part, value in stored["parts"].items():
            fields = [n for n, c in personal_fields(fact_class).items() if c == part]
            if isinstance(value, Erased | Unopened):
                values.update(dict.fromkeys(fields, value))
            else:
                values.update(value)
        return fact_class.model_validate(
            values
            | {
                "originator_id": UUID(entry["stream"]),
                "originator_version": entry["version"],
                "event_id": UUID(entry["id"]),
                "occurred_at": parse_entry_time(entry["occurred_at"]),
                "recorded_at": parse_entry_time(entry["recorded_at"]),
                "actor": entry["actor"],
                "command": entry.get("command"),
                "cause": entry.get("cause"),
                "rules": entry.get("rules"),
                "position": stored_event.position,
            }
        )

    def open_part(self, stored_event: LedgerEvent, part: str) -> dict[str, Any] | Erased | Unopened:
        """The fields of one part as they were sealed, for those who want no more of an event. Raises as `open`.

        Nothing is lifted to a newer topic: only for events of a topic that is read as it was written.
        """
        entry, envelopes = self._checked(stored_event)
        if part not in envelopes:
            return {}
        return self._open_part(current_class(entry["topic"]), entry, part, envelopes[part], None)

    def disclose(
        self, stored_event: LedgerEvent, holder: Holder | None = None
    ) -> dict[str, Disclosure | Erased | Unopened]:
        """What a stranger needs to open each sealed part of an event, and nothing else of its person, by part.

        `holder` as for opening. Raises `TamperError`, `KeyMissing`, `NotDisclosable`.
        """
        entry, envelopes = self._checked(stored_event)
        found: dict[str, Disclosure | Erased | Unopened] = {}
        for part, envelope in envelopes.items():
            way = self._place_and_scope(current_class(entry["topic"]), entry, part, envelope, holder)
            if isinstance(way, tuple):
                place, scope = way
                found[part] = Disclosure(place, disclosed_key(scope, envelope, place))
            else:
                found[part] = way
        return found

    def _checked(self, stored_event: LedgerEvent) -> tuple[dict[str, Any], dict[str, bytes]]:
        """The entry and the envelopes of an event. Raises `TamperError` if one is not where it was written."""
        entry = _read_entry(stored_event.state)
        self._check_place(entry, stored_event)
        envelopes = unpack_sealed(stored_event.sealed)
        check_digests(entry, envelopes)
        return entry, envelopes

    def keys_needed(self, stored_event: LedgerEvent) -> set[KeyName]:
        """The keys that opening an event takes, as far as the event itself tells: not whose message or record it is."""
        entry = _read_entry(stored_event.state)
        fact_class = current_class(entry["topic"])
        occurred_at = parse_entry_time(entry["occurred_at"])
        needed: set[KeyName] = set()
        for part, envelope in unpack_sealed(stored_event.sealed).items():
            by = _sealed_by(fact_class, part).holder
            kid = envelope_kid(envelope)
            subject, period = self._names(fact_class, part, occurred_at, Holder(kid or _ANYBODY))
            needed |= {subject, period} if kid or by not in ("message", "record") else {period}
        return needed

    def _check_place(self, entry: dict[str, Any], stored: StoredEvent) -> None:
        place = tuple(entry.get(name) for name in ("tenant", "stream", "version", "topic"))
        assert isinstance(stored.originator_id, UUID)
        if place != (self._tenant_hex, stored.originator_id.hex, stored.originator_version, stored.topic):
            raise TamperError("An entry does not stand in the row it was written for.")

    def _seal_parts(self, fact: Fact, holder: Holder) -> dict[str, bytes]:
        by_class: dict[str, dict[str, Any]] = {}
        held = fact.__dict__
        for name, retention_class in personal_fields(type(fact)).items():
            value = opened(held[name])
            if value is not None:
                by_class.setdefault(retention_class, {})[name] = _plain(value)
        parts = {}
        for retention_class, values in by_class.items():
            subject, period = self._names(type(fact), retention_class, fact.occurred_at, holder)
            keys = self._keyring.ensure((subject, period))
            sealed_by = _sealed_by(type(fact), retention_class)
            place = SealedPlace(
                self._tenant.bytes,
                fact.originator_id.bytes,
                fact.event_id.bytes,
                retention_class,
                fact.TOPIC,
                retention_class,
                period.period,
                _binding(sealed_by, holder),
            )
            kid = holder.kid if _kid_stands(sealed_by, getattr(fact, "about_person", True)) else b""
            scope = scope_key(keys[subject], keys[period])
            parts[retention_class] = seal(scope, orjson.dumps(values, option=orjson.OPT_SORT_KEYS), place, kid)
        return parts

    def _open_part(
        self, fact_class: type[Fact], entry: dict[str, Any], part: str, envelope: bytes, holder: Holder | None
    ) -> dict[str, Any] | Erased | Unopened:
        found = self._place_and_scope(fact_class, entry, part, envelope, holder)
        if not isinstance(found, tuple):
            return found
        place, scope = found
        values = orjson.loads(open_envelope(scope, envelope, place))
        assert isinstance(values, dict)
        return values

    def _place_and_scope(
        self, fact_class: type[Fact], entry: dict[str, Any], part: str, envelope: bytes, holder: Holder | None
    ) -> tuple[SealedPlace, bytes] | Erased | Unopened:
        """Where a part stands and the key K that opens it, as far as it can be had."""
        sealed_by = _sealed_by(fact_class, part)
        if _kid_stands(sealed_by, entry["plain"].get("about_person", False)):
            holder = Holder(envelope_kid(envelope))
        elif sealed_by.holder == "tenant":
            holder = NO_HOLDER
        if holder is None:
            return Unopened()
        occurred_at = parse_entry_time(entry["occurred_at"])
        subject, period = self._names(fact_class, part, occurred_at, holder)
        scope = self._keyring.opening_scope(subject.holder, part, period.period, generation=subject.generation)
        if isinstance(scope, Erased):
            return scope
        place = SealedPlace(
            self._tenant.bytes,
            bytes.fromhex(entry["stream"]),
            bytes.fromhex(entry["id"]),
            part,
            entry["topic"],
            part,
            period.period,
            _binding(sealed_by, holder),
        )
        return place, scope

    def _names(
        self, fact_class: type[Fact], retention_class: str, occurred_at: datetime, holder: Holder
    ) -> tuple[KeyName, KeyName]:
        sealed_by = _sealed_by(fact_class, retention_class)
        kid = TENANT_HOLDER if sealed_by.holder == "tenant" else holder.kid
        if sealed_by.holder in ("subject", "message") and not kid:
            raise AssertionError(f"{fact_class.__name__} seals under a person's keys, and no person was given.")
        generation = holder.link_generation if sealed_by.holder in ("message", "record") else 1
        if sealed_by.period == "ever":
            period = FOR_EVER
        else:
            period = day_of(occurred_at) if sealed_by.period == "day" else month_of(occurred_at)
        return KeyName(kid, retention_class, "", generation), KeyName(TENANT_HOLDER, retention_class, period)


def _read_entry(state: bytes) -> dict[str, Any]:
    try:
        entry = orjson.loads(state)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise TamperError("The entry of an event is not the JSON it was written as.")
    return entry


def _sealed_by(fact_class: type[Fact], retention_class: str) -> SealedBy:
    return fact_class.SEALED_BY.get(retention_class, BY_SUBJECT_AND_MONTH)


def _kid_stands(sealed_by: SealedBy, about_person: bool) -> bool:
    """Whether an envelope names its kid: in persons' own streams, and where a record is about nobody (maybe empty)."""
    return sealed_by.holder == "subject" or (sealed_by.holder == "record" and not about_person)


def _binding(sealed_by: SealedBy, holder: Holder) -> bytes:
    if sealed_by.holder == "subject":
        return holder.kid
    return holder.link_generation.to_bytes(2, "big") if sealed_by.holder == "message" else b""


_WRITTEN_AS_THEY_ARE = frozenset({str, bool, int})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return entry_time(value.astimezone(UTC))
    if isinstance(value, UUID):
        return hex_id(value)
    return value
