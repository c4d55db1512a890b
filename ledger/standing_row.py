"""A subject as the inline projection knows it: who it is and how it stands, and the bytes that are sealed for it.

    format (1) | subject (16) | kid (16) | handle (16) | records kid (16)
    | link generation (2) | its first link month (2) | its link key (32)
    | first link month (2) and link key (32) of the generation before
    | standing, a JSON list

A row is read for every recipient of every campaign and every piece of feedback. Most uses need two of its fields,
so what was read is kept as bytes and taken apart when a field is asked for. Link months are two bytes that sort
(`ledger.links.month_number`), so that finding the key of a month compares and parses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from domain.standing import Standing
from ledger.errors import RowOutdated
from ledger.sealing import KEY_BYTES

ROW_FORMAT = 2
"""Rows of the first format began with a subject's id, a UUIDv7, whose first byte is 1 until the year 2039."""

ALWAYS = bytes(2)
"""The first link month of a person's first generation: it serves every month before the second."""

NO_KEY = bytes(KEY_BYTES)
"""In place of a link key that was destroyed, or of the one before the first."""

_SUBJECT = slice(1, 17)
_KID = slice(17, 33)
_HANDLE = slice(33, 49)
_RECORDS_KID = slice(49, 65)
_GENERATION = slice(65, 67)
_FIRST_MONTH = slice(67, 69)
_LINK_KEY = slice(69, 101)
_FIRST_MONTH_BEFORE = slice(101, 103)
_LINK_KEY_BEFORE = slice(103, 135)
_PERSON_BYTES = 135


@dataclass(slots=True)
class Person:
    """The secrets that belong to one living subject: its stream, its two kids, its handle, and its link keys.

    The link key of `link_generation` serves the link months from `link_from` on, the one of the generation before it
    the months from `link_from_before` to there. Older generations are only in the vault.
    """

    subject: bytes
    kid: bytes
    handle: bytes
    records_kid: bytes
    link_key: bytes
    link_generation: int = 1
    link_from: bytes = ALWAYS
    link_from_before: bytes = ALWAYS
    link_key_before: bytes = NO_KEY


def _packed_person(person: Person) -> bytes:
    return b"".join(
        (
            bytes((ROW_FORMAT,)),
            *(person.subject, person.kid, person.handle, person.records_kid),
            *(person.link_generation.to_bytes(2, "big"), person.link_from, person.link_key),
            *(person.link_from_before, person.link_key_before),
        )
    )


class StandingRow:
    """One row: the fingerprint it is found by, the person, and the standing."""

    __slots__ = ("_packed", "_person", "_standing", "fingerprint")

    def __init__(
        self, fingerprint: bytes, person: Person | None, standing: Standing | None, packed: bytes = b""
    ) -> None:
        self.fingerprint = fingerprint
        self._person = person
        self._standing = standing
        self._packed = packed

    @staticmethod
    def unpacked(fingerprint: bytes, packed: bytes) -> StandingRow:
        """A row from the bytes that `pack` gave. Raises `RowOutdated` for those of an older format."""
        if packed[0] != ROW_FORMAT:
            raise RowOutdated(
                "The standing of this account was written by an older version. Build it again: lethe rebuild standing."
            )
        return StandingRow(fingerprint, None, None, packed)

    def pack(self) -> bytes:
        """The bytes of this row."""
        return (self._packed[:_PERSON_BYTES] or _packed_person(self.person)) + orjson.dumps(self.standing.to_row())

    def restated(self, fingerprint: bytes, standing: Standing) -> StandingRow:
        """The same person with another standing, and perhaps another address."""
        return StandingRow(fingerprint, self._person, standing, self._packed[:_PERSON_BYTES])

    @property
    def person(self) -> Person:
        """Who it is."""
        if self._person is None:
            packed = self._packed
            self._person = Person(
                subject=packed[_SUBJECT],
                kid=packed[_KID],
                handle=packed[_HANDLE],
                records_kid=packed[_RECORDS_KID],
                link_key=packed[_LINK_KEY],
                link_generation=int.from_bytes(packed[_GENERATION], "big"),
                link_from=packed[_FIRST_MONTH],
                link_from_before=packed[_FIRST_MONTH_BEFORE],
                link_key_before=packed[_LINK_KEY_BEFORE],
            )
        return self._person

    @property
    def standing(self) -> Standing:
        """How the subject stands."""
        if self._standing is None:
            self._standing = Standing.from_row(orjson.loads(self._packed[_PERSON_BYTES:]))
        return self._standing

    @property
    def subject(self) -> bytes:
        """The person's stream."""
        return self._packed[_SUBJECT] if self._person is None else self._person.subject

    @property
    def kid(self) -> bytes:
        """The kid of the person's own stream and messages."""
        return self._packed[_KID] if self._person is None else self._person.kid

    @property
    def handle(self) -> bytes:
        """The person's handle."""
        return self._packed[_HANDLE] if self._person is None else self._person.handle

    def link_key_for(self, month: bytes) -> bytes | None:
        """The person's link key for a link month (`month_number`); None where this row has none."""
        if self._person is None:
            packed = self._packed
            if packed[_FIRST_MONTH] <= month:
                key = packed[_LINK_KEY]
            else:
                key = packed[_LINK_KEY_BEFORE] if packed[_FIRST_MONTH_BEFORE] <= month else NO_KEY
        else:
            person = self._person
            if person.link_from <= month:
                key = person.link_key
            else:
                key = person.link_key_before if person.link_from_before <= month else NO_KEY
        return None if key == NO_KEY else key

    def link_for(self, month: bytes) -> tuple[bytes, int] | None:
        """The link key for a link month and its generation; None where it was destroyed, or is older than this row."""
        key = self.link_key_for(month)
        if key is None:
            return None
        if self._person is None:
            packed = self._packed
            return key, int.from_bytes(packed[_GENERATION], "big") - (month < packed[_FIRST_MONTH])
        return key, self._person.link_generation - (month < self._person.link_from)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandingRow) and (
            (self.fingerprint, self.person, self.standing) == (other.fingerprint, other.person, other.standing)
        )

    __hash__ = None  # type: ignore[assignment]  # Rows are compared, never keyed by.
