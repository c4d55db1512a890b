"""Every event by itself and in its place: position, time, canonical form, columns against entry, sealed parts.

`Events.check` is the inner loop of `fsck`: it runs once for every event ever recorded, so it is one function with
everything it needs in local names. Whatever is wrong is looked at again, slowly, to say what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import orjson

from audit.fsck.lies import Lie, LogLies, shown
from audit.fsck.rows import Row
from audit.fsck.versions import PARTITIONS, Versions, pack
from ledger.entry import ENTRY_BYTES_MAX, entry_time, pack_sealed, unpack_sealed
from ledger.errors import TamperError

PLACE: Final = ("tenant", "stream", "version", "topic", "recorded_at")
"""What an entry says of itself and its row says again."""

TIMES_BEGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Where PostgreSQL counts microseconds from."""

_place = itemgetter(*PLACE)


class Events:
    """The events of one log from its beginning on. `facts` has the plain fields of those whose topics are asked for."""

    def __init__(self, tenant: UUID, versions: Versions, topics: Iterable[str]) -> None:
        self._tenant = tenant.hex
        self._versions = versions
        self._topics = frozenset(topics)
        self.position = 0
        self.facts: list[tuple[int, str, Mapping[str, Any]]] = []
        self._moment: bytes | None = None
        self._time = ""

    @property
    def recorded_at(self) -> bytes | None:
        """When the last event was recorded, as its row has it; None before the first."""
        return self._moment

    def check(self, rows: Iterable[Row], last: int) -> list[bytes]:
        """The leaf hashes of the rows up to position `last`, which follow those checked before. Raises `LogLies`."""
        tenant, topics, buckets = self._tenant, self._topics, self._versions.buckets
        loads, dumps, sort, place = orjson.loads, orjson.dumps, orjson.OPT_SORT_KEYS, _place
        leaves: list[bytes] = []
        keep, position, moment, time = leaves.append, self.position, self._moment, self._time
        for row in rows:
            at, stream, version, topic, recorded_at, entry, sealed = row
            position += 1
            if at != position:
                raise LogLies(_gap(at, position, stream))
            if recorded_at is None or recorded_at != moment:
                moment, time = recorded_at, _time(row, moment)
            try:
                told = loads(entry)
                if dumps(told, option=sort) != entry:
                    raise LogLies(_not_canonical(row))
                if place(told) != (tenant, stream.hex(), version, topic, time):
                    raise LogLies(_elsewhere(row, told, tenant, time))
                if type(told["version"]) is not int or topic is None:
                    raise LogLies(_elsewhere(row, told, tenant, time))
                if sealed is not None or "sealed" in told:
                    _check_sealed(row, told.get("sealed", {}))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise LogLies(_unreadable(row)) from None
            if topic in topics:
                self.facts.append((at, topic, told.get("plain", {})))
            keep(sha256(b"\x00" + entry).digest())
            buckets[hash(stream) % PARTITIONS] += pack(stream, at, version)
        if position != last:
            raise LogLies(Lie(position + 1, "gapless", f"Position {position + 1} is missing, and those behind it."))
        self.position, self._moment, self._time = position, moment, time
        self._versions.spill()
        return leaves


def _check_sealed(row: Row, digests: Mapping[str, str]) -> None:
    sealed = row[6]
    try:
        parts = unpack_sealed(sealed)
    except TamperError as error:
        raise LogLies(_about(row, "digest", str(error))) from None
    # Packed again they must be the same bytes: a part that stands twice would hide its first copy.
    if pack_sealed(parts) != sealed:
        raise LogLies(_about(row, "digest", "The sealed parts do not stand each once and in order of name."))
    found = {name: sha256(envelope).hexdigest() for name, envelope in parts.items()}
    if found != digests:
        name = next(name for name in sorted(found.keys() | digests.keys()) if found.get(name) != digests.get(name))
        raise LogLies(
            _about(
                row,
                "digest",
                f"The sealed part {shown(name)} is not the one that the entry was written with.",
                f"SHA-256 {shown(digests.get(name, 'of no part'))}",
                f"SHA-256 {found.get(name, 'of no part')}",
            )
        )


def _time(row: Row, before: bytes | None) -> str:
    """When the row was recorded, as its entry says it; raises where that is before the event before it."""
    moment = row[4]
    if moment is None:
        raise LogLies(_about(row, "recorded_at", "The row has no recorded_at."))
    try:
        if before is not None and _microseconds(moment) < _microseconds(before):
            raise LogLies(
                _about(
                    row,
                    "recorded_at",
                    "recorded_at runs backwards here.",
                    f"{entry_time(_datetime(before))} or later",
                    entry_time(_datetime(moment)),
                )
            )
        return entry_time(_datetime(moment))
    except OverflowError:
        raise LogLies(_about(row, "recorded_at", "recorded_at is no time that a calendar has.")) from None


def _gap(at: int, position: int, stream: bytes | None) -> Lie:
    if at < position:
        text = f"Two rows stand at position {at}."
        return Lie(at, "gapless", text, UUID(bytes=stream) if stream else None, "one row", "two or more")
    return Lie(position, "gapless", f"Position {position} is missing.", None, f"position {position}", f"position {at}")


def _not_canonical(row: Row) -> Lie:
    return _about(row, "canonical", "The entry is not written canonically (RFC 8785), so it is not what was written.")


def _unreadable(row: Row) -> Lie:
    if row[5] is None:
        text = f"There is no entry, or one of more than {ENTRY_BYTES_MAX} bytes, as none was ever written."
        return _about(row, "entry", text)
    return _about(row, "entry", "The entry cannot be read as one.")


def _elsewhere(row: Row, told: Mapping[str, Any], tenant: str, time: str) -> Lie:
    _, stream, version, topic, *_ = row
    for name, expected in zip(PLACE, (tenant, stream.hex(), version, topic, time), strict=True):
        found = told[name]
        if found != expected or type(found) is not type(expected):
            text = f"The entry was written for another row: its {name} is not that of the row."
            return _about(row, "place", text, shown(expected), shown(found))
    return _about(row, "place", "Neither the row nor the entry has a version and a topic.")


def _about(row: Row, rule: str, text: str, expected: str | None = None, found: str | None = None) -> Lie:
    return Lie(row[0], rule, text, UUID(bytes=row[1]) if row[1] is not None else None, expected, found)


def _microseconds(moment: bytes) -> int:
    return int.from_bytes(moment, "big", signed=True)


def _datetime(moment: bytes) -> datetime:
    return TIMES_BEGIN + timedelta(microseconds=_microseconds(moment))
