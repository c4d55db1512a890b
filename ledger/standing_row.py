"""A subject as the inline projection knows it: who it is and how it stands, and the bytes that are sealed for it.

    subject (16) | kid (16) | handle (16) | link generation (2) | link key (32) | standing, a JSON list

A row is read for every recipient of every campaign and every piece of feedback. Most uses need two of its fields,
so what was read is kept as bytes and taken apart when a field is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from domain.standing import Standing

_PERSON_BYTES = 16 + 16 + 16 + 2 + 32


@dataclass(slots=True)
class Person:
    """The secrets that belong to one living subject: its stream, its kid, and its link key with the handle."""

    subject: bytes
    kid: bytes
    handle: bytes
    link_key: bytes
    link_generation: int


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
        """A row from the bytes that `pack` gave."""
        return StandingRow(fingerprint, None, None, packed)

    def pack(self) -> bytes:
        """The bytes of this row."""
        person = self.person
        generation = person.link_generation.to_bytes(2, "big")
        fixed = person.subject + person.kid + person.handle + generation + person.link_key
        return fixed + orjson.dumps(self.standing.to_row())

    @property
    def person(self) -> Person:
        """Who it is."""
        if self._person is None:
            packed = self._packed
            generation = int.from_bytes(packed[48:50], "big")
            self._person = Person(packed[:16], packed[16:32], packed[32:48], packed[50:82], generation)
        return self._person

    @property
    def standing(self) -> Standing:
        """How the subject stands."""
        if self._standing is None:
            self._standing = Standing.from_row(orjson.loads(self._packed[_PERSON_BYTES:]))
        return self._standing

    @property
    def handle(self) -> bytes:
        """The person's handle."""
        return self._packed[32:48] if self._person is None else self._person.handle

    @property
    def link_key(self) -> bytes:
        """The person's link key."""
        return self._packed[50:82] if self._person is None else self._person.link_key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandingRow) and (
            (self.fingerprint, self.person, self.standing) == (other.fingerprint, other.person, other.standing)
        )

    __hash__ = None  # type: ignore[assignment]  # Rows are compared, never keyed by.
