"""Sealed parts of a bundle's events: that the envelopes are those of the entries, and what was opened is in them.

    sealed.tsv          <position> TAB <part> TAB <base64 of the envelope>
    disclosed.ndjson    one object a line: what is said of a part
        {position, part, class, period, binding, key, opened}        opened, with the key that shows it
        {position, part, opened, unprovable}                         opened, of an envelope that no single key opens
        {position, part, erased: {certificate, when, why}}           its keys were destroyed
        {position, part, not_disclosed}                              left closed, and why

Both are in order of position and part, and say something of a part once. So both are read along with the entries, and
nothing is kept. An entry holds the SHA-256 of each envelope: the log vouches for it. The key of an opened part is
checked against the commitment in the envelope (docs/adr/0027), and what it opens against what is shown.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from audit.verify.canonical import canonical, parse_canonical
from audit.verify.entries import Entry, is_time, parse_position
from audit.verify.envelope import SealedAt, open_disclosed, sealed_digest
from audit.verify.errors import BundleRefused, CheckUnavailable, VerificationRefused

SEALED: Final = "sealed.tsv"
DISCLOSED: Final = "disclosed.ndjson"
LINE_BYTES_MAX: Final = 4 << 20
"""A record's content has at most 32,768 characters, which sealed, padded and written in base64 stay far below this."""

UNDISCLOSED_VERSION: Final = 1
"""Envelopes whose commitment no single key can be checked against."""

OPENED: Final = frozenset({"position", "part", "class", "period", "binding", "key", "opened"})
UNPROVABLE: Final = frozenset({"position", "part", "opened", "unprovable"})
ERASED: Final = frozenset({"position", "part", "erased"})
NOT_DISCLOSED: Final = frozenset({"position", "part", "not_disclosed"})


@dataclass(slots=True)
class PartsSeen:
    """How many sealed parts the entries have, and what became of them."""

    sealed: int = 0
    envelopes: int = 0
    opened: int = 0
    unprovable: int = 0
    erased: int = 0
    not_disclosed: int = 0


@dataclass(frozen=True, slots=True)
class SealedPart:
    """One line of `sealed.tsv`."""

    position: int
    part: str
    envelope: bytes


@dataclass(frozen=True, slots=True)
class SaidOfPart:
    """One line of `disclosed.ndjson`."""

    position: int
    part: str
    said: dict[str, Any]


@dataclass(slots=True)
class Parts:
    """Reads both files along with the entries, which come in order."""

    sealed: Iterable[bytes]
    disclosed: Iterable[bytes]
    seen: PartsSeen = field(default_factory=PartsSeen)
    _sealed: _InOrder[SealedPart] = field(init=False)
    _said: _InOrder[SaidOfPart] = field(init=False)

    def __post_init__(self) -> None:
        self._sealed = _InOrder(SEALED, _sealed_parts(self.sealed))
        self._said = _InOrder(DISCLOSED, _said_of_parts(self.disclosed))

    def check(self, entry: Entry) -> None:
        """Check what stands of one event. Raises `BundleRefused`."""
        digests = entry.said.get("sealed", {})
        self.seen.sealed += len(digests)
        envelopes: dict[str, bytes] = {}
        for sealed in self._sealed.of(entry.position):
            if digests.get(sealed.part) != sealed_digest(sealed.envelope):
                text = f"The sealed part {sealed.part!r} is not the one that the entry was written with."
                raise BundleRefused(text, SEALED, entry.position)
            envelopes[sealed.part] = sealed.envelope
        self.seen.envelopes += len(envelopes)
        for one in self._said.of(entry.position):
            if one.part not in digests:
                raise BundleRefused(f"The event has no sealed part {one.part!r}.", DISCLOSED, entry.position)
            self._check_said(entry, one, envelopes.get(one.part))

    def finish(self) -> PartsSeen:
        """What was seen, after the last entry. Raises `BundleRefused` for a line of an event that is not here."""
        self._sealed.require_end()
        self._said.require_end()
        return self.seen

    def _check_said(self, entry: Entry, one: SaidOfPart, envelope: bytes | None) -> None:
        form = one.said.keys()
        if form == ERASED:
            _require_erased(one)
            self.seen.erased += 1
        elif form == NOT_DISCLOSED:
            if not isinstance(one.said["not_disclosed"], str):
                raise BundleRefused(f"It is not said why {one.part!r} is left closed.", DISCLOSED, entry.position)
            self.seen.not_disclosed += 1
        elif envelope is None:
            raise BundleRefused(f"The part {one.part!r} is shown opened, and not sealed.", DISCLOSED, entry.position)
        elif form == UNPROVABLE:
            if envelope[0] != UNDISCLOSED_VERSION:
                text = f"The part {one.part!r} is shown without the key that opens it, and such a key there is."
                raise BundleRefused(text, DISCLOSED, entry.position)
            self.seen.unprovable += 1
        elif form == OPENED:
            _require_opened(entry, one, envelope)
            self.seen.opened += 1
        else:
            raise BundleRefused(f"What is said of the part {one.part!r} is nothing known.", DISCLOSED, entry.position)


def _require_opened(entry: Entry, one: SaidOfPart, envelope: bytes) -> None:
    said, entry_said = one.said, entry.said
    try:
        place = SealedAt(
            bytes.fromhex(entry_said["tenant"]),
            bytes.fromhex(entry_said["stream"]),
            bytes.fromhex(entry_said["id"]),
            one.part,
            entry_said["topic"],
            _text(said["class"]),
            _text(said["period"]),
            bytes.fromhex(said["binding"]),
        )
        plaintext = open_disclosed(envelope, _base64(said["key"]), place)
        # Byte by byte: one field that stands twice in what was sealed would be read otherwise by another program.
        shown = canonical(said["opened"]) == plaintext
    except CheckUnavailable:
        raise
    except VerificationRefused as refused:
        raise BundleRefused(f"The part {one.part!r}: {refused}", DISCLOSED, one.position) from refused
    except (TypeError, ValueError, RecursionError):
        text = f"The part {one.part!r} has a key, binding, class or period that is none."
        raise BundleRefused(text, DISCLOSED, one.position) from None
    if not shown:
        text = f"The part {one.part!r} is shown with other values than its sealed envelope holds."
        raise BundleRefused(text, DISCLOSED, one.position)


def _require_erased(one: SaidOfPart) -> None:
    erased = one.said["erased"]
    known = isinstance(erased, dict) and erased.keys() == {"certificate", "when", "why"}
    if not known or not is_time(erased["when"]) or any(not isinstance(value, str | None) for value in erased.values()):
        raise BundleRefused(f"The part {one.part!r} is said to be erased in no known way.", DISCLOSED, one.position)


class _OfPart(Protocol):
    @property
    def position(self) -> int: ...

    @property
    def part(self) -> str: ...


_Row = TypeVar("_Row", bound=_OfPart)


class _InOrder(Generic[_Row]):
    """Rows of one file, handed out by position; they ascend by position and part."""

    def __init__(self, file: str, rows: Iterator[_Row]) -> None:
        self._file = file
        self._rows = rows
        self._next = next(rows, None)

    def of(self, position: int) -> Iterator[_Row]:
        while self._next is not None and self._next.position <= position:
            row, self._next = self._next, next(self._rows, None)
            if row.position < position:
                raise BundleRefused("The event of this line is not in the bundle.", self._file, row.position)
            later = self._next
            if later is not None and (later.position, later.part) <= (row.position, row.part):
                text = f"Two things are said of the part {later.part!r}, or the lines are out of order."
                raise BundleRefused(text, self._file, later.position)
            yield row

    def require_end(self) -> None:
        if self._next is not None:
            raise BundleRefused("The event of this line is not in the bundle.", self._file, self._next.position)


def _sealed_parts(lines: Iterable[bytes]) -> Iterator[SealedPart]:
    for line in lines:
        pieces = line.split(b"\t")
        position = parse_position(pieces[0], SEALED)
        try:
            part, encoded = pieces[1].decode(), pieces[2].decode("ascii")
            envelope = _base64(encoded)
        except (IndexError, ValueError):
            envelope, part = b"", ""
        if len(pieces) != 3 or not part or not envelope:
            raise BundleRefused("A line is not a position, a part and an envelope in base64.", SEALED, position)
        yield SealedPart(position, part, envelope)


def _said_of_parts(lines: Iterable[bytes]) -> Iterator[SaidOfPart]:
    for line in lines:
        said = parse_canonical(line, DISCLOSED)
        position, part = said.get("position"), said.get("part")
        if type(position) is not int or not isinstance(part, str):
            raise BundleRefused("A line does not say which part of which event it speaks of.", DISCLOSED)
        yield SaidOfPart(position, part, said)


def _base64(encoded: Any) -> bytes:
    """Base64 that is spelt in the one way. Raises `ValueError`."""
    try:
        decoded = b64decode(encoded, validate=True)
    except (Base64Error, TypeError):
        raise ValueError("Not base64.") from None
    if b64encode(decoded).decode() != encoded:
        raise ValueError("Not spelt as base64 spells it.")
    return decoded


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
