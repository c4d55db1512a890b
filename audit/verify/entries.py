"""The events of a bundle: `entries.tsv`, one line for each, in order of position.

    <position> TAB <entry>

An entry is canonical JSON, in which a tab or a newline cannot stand as it is. Its bytes are the leaf of the log's tree:
they are hashed as they stand here, and nothing is read from them that was not hashed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from audit.verify.canonical import parse_canonical
from audit.verify.errors import BundleRefused

FILE: Final = "entries.tsv"
ENTRY_VERSION: Final = 1
ENTRY_BYTES_MAX: Final = 65_535
"""In the log's bundles of entries each stands behind a length of two bytes."""

POSITION_DIGITS_MAX: Final = 19
LINE_BYTES_MAX: Final = POSITION_DIGITS_MAX + 1 + ENTRY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: where it stands in the log (from 1), its exact bytes, and what they say."""

    position: int
    content: bytes
    said: dict[str, Any]

    @property
    def plain(self) -> dict[str, Any]:
        """The fields that are not personal."""
        plain = self.said["plain"]
        assert isinstance(plain, dict)
        return plain

    @property
    def index(self) -> int:
        """The index of its leaf, from 0."""
        return self.position - 1


def entries_of(lines: Iterable[bytes], tenant: str) -> Iterator[Entry]:
    """The events in these lines. Raises `BundleRefused` for one that is none, or stands where it cannot."""
    before, recorded_before = 0, ""
    for line in lines:
        number, _, content = line.partition(b"\t")
        position = parse_position(number, FILE)
        if position <= before:
            raise BundleRefused("An event stands twice, or behind a later one.", FILE, position)
        said = parse_canonical(content, FILE, position)
        _require_entry(said, position)
        if said.get("tenant") != tenant:
            raise BundleRefused("This is an event of another tenant than the bundle's.", FILE, position)
        if said["recorded_at"] < recorded_before:
            raise BundleRefused(f"It was recorded before event {before}, and stands behind it.", FILE, position)
        before, recorded_before = position, said["recorded_at"]
        yield Entry(position, content, said)


def parse_position(number: bytes, file: str) -> int:
    """A position as it begins a line. Raises `BundleRefused`."""
    if not number.isdigit() or number.startswith(b"0") or len(number) > POSITION_DIGITS_MAX:
        raise BundleRefused("A line does not begin with the position of an event.", file)
    return int(number)


def is_id(value: object) -> bool:
    """Whether this is an id as entries write them."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def is_time(value: object) -> bool:
    """Whether this is a time as entries write them, of a day and hour that there are."""
    if not isinstance(value, str) or _TIME.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _require_entry(said: dict[str, Any], position: int) -> None:
    written, version = said.get("v"), said.get("version")
    plain, sealed = said.get("plain"), said.get("sealed", {})
    if (
        not (type(written) is int and written == ENTRY_VERSION)
        or not (is_id(said.get("id")) and is_id(said.get("stream")))
        or not (type(version) is int and version > 0 and isinstance(plain, dict) and isinstance(sealed, dict))
        or not (isinstance(said.get("topic"), str) and is_time(said.get("recorded_at")))
        or not is_time(said.get("occurred_at"))
    ):
        raise BundleRefused("This is no entry of the version that this verifier knows.", FILE, position)


_ID: Final = re.compile(r"[0-9a-f]{32}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
"""Times are written in UTC and always this long, so that their texts sort as they do."""
