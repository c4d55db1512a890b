"""Layouts of identifiers (RFC 9562). Pure: whoever calls brings the clock and the random bytes.

No identifier here is derived from an address, and nothing is a UUIDv5.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def unix_ms(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return int(moment.timestamp() * 1000)


def uuid7_bytes(unix_ms: int, tail: bytes) -> bytes:
    """The 16 bytes of a UUIDv7: 48 bits of time, version, and 74 bits taken from the 10 bytes of `tail`."""
    return _uuid7_value(unix_ms, tail).to_bytes(16, "big")


def uuid7(unix_ms: int, tail: bytes) -> UUID:
    """A UUIDv7 from a time in milliseconds and 10 random (or keyed) bytes."""
    return UUID(int=_uuid7_value(unix_ms, tail))


def _uuid7_value(unix_ms: int, tail: bytes) -> int:
    value = (unix_ms & 0xFFFFFFFFFFFF) << 80 | int.from_bytes(tail[:10], "big")
    return value & _KEEP | _VERSION_AND_VARIANT


_KEEP = ~(0xF << 76 | 0x3 << 62)
_VERSION_AND_VARIANT = 0x7 << 76 | 0x2 << 62


def month_of(moment: datetime) -> str:
    """The calendar month (UTC) that a moment lies in, as `2026-11`: the usual period of a class."""
    return f"{moment.year:04d}-{moment.month:02d}"


def day_of(moment: datetime) -> str:
    """The calendar day (UTC) that a moment lies in, as `2026-11-21`."""
    return f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"


def previous_month(month: str) -> str:
    """The month before `2026-01` is `2025-12`."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year - 1:04d}-12" if number == 1 else f"{year:04d}-{number - 1:02d}"


def next_month(month: str) -> str:
    """The month after `2025-12` is `2026-01`."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + 1:04d}-01" if number == 12 else f"{year:04d}-{number + 1:02d}"


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly."""
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_micros(value: int) -> datetime:
    """The aware UTC datetime of a number of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=value)
