"""Canonical JSON (RFC 8785 without numbers that have a point), as entries, manifests and claims are written.

There is one spelling of each value only, so whoever reads compares bytes: no key stands twice, nothing is hidden in
spaces, and no two programs can read different things.
"""

from __future__ import annotations

import json
from typing import Any, Final

from audit.verify.errors import BundleRefused


def canonical(value: Any) -> bytes:
    """The one spelling of a value: keys in order, no spaces, UTF-8."""
    return _ENCODER.encode(value).encode()


def parse_canonical(content: bytes, file: str, position: int | None = None) -> dict[str, Any]:
    """The object in these bytes. Raises `BundleRefused` unless they are its one spelling."""
    try:
        value = _DECODER.decode(content.decode())
        same = type(value) is dict and canonical(value) == content
    except (ValueError, RecursionError):
        same, value = False, None
    if not same:
        raise BundleRefused("This is not the one spelling (canonical JSON) of an object.", file, position)
    assert isinstance(value, dict)
    return value


def _no_fraction(_: str) -> float:
    raise ValueError("Nothing here has a point in it.")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder(parse_float=_no_fraction, parse_constant=_no_fraction)
