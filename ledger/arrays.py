"""Arrays of bytes as query parameters, in PostgreSQL's binary array format.

A chunk asks for thousands of fingerprints or stream ids at a time, and the general list adapter spends more time on
them than the database does. `Bytes16Array` is a bytea[], `Uuid16Array` a uuid[]; both are built by one join.
`BytesArray` is a bytea[] of values of any length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format

_BYTEA_OID, _BYTEA_ARRAY_OID = 17, 1001
_UUID_OID, _UUID_ARRAY_OID = 2950, 2951
_HEADER = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i")
_LENGTH_16 = struct.pack(">i", 16)


class Bytes16Array:
    """A bytea[] of values of 16 bytes each."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[bytes]) -> None:
        self.values = list(values)


class BytesArray:
    """A bytea[] of values of any length."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[bytes]) -> None:
        self.values = list(values)


class Uuid16Array(Bytes16Array):
    """A uuid[] of values of 16 bytes each."""

    __slots__ = ()


class _Bytes16Dumper(Dumper):
    format = Format.BINARY
    oid = _BYTEA_ARRAY_OID
    element_oid = _BYTEA_OID

    def dump(self, obj: Bytes16Array) -> bytes:
        values = obj.values
        if not values:
            return struct.pack(">iiI", 0, 0, self.element_oid)
        header = _HEADER.pack(1, 0, self.element_oid, len(values), 1)
        return header + _LENGTH_16 + _LENGTH_16.join(values)


class _BytesDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEA_ARRAY_OID

    def dump(self, obj: BytesArray) -> bytes:
        values = obj.values
        if not values:
            return struct.pack(">iiI", 0, 0, _BYTEA_OID)
        parts = [_HEADER.pack(1, 0, _BYTEA_OID, len(values), 1)]
        for value in values:
            parts.append(_LENGTH.pack(len(value)))
            parts.append(value)
        return b"".join(parts)


class _Uuid16Dumper(_Bytes16Dumper):
    oid = _UUID_ARRAY_OID
    element_oid = _UUID_OID


def register_arrays(connection: Connection[Any]) -> None:
    """Let this connection take both kinds of array as parameters."""
    connection.adapters.register_dumper(Bytes16Array, _Bytes16Dumper)
    connection.adapters.register_dumper(BytesArray, _BytesDumper)
    connection.adapters.register_dumper(Uuid16Array, _Uuid16Dumper)
