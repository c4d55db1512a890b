"""JSON as it has to be for a record that others will rely on: one meaning, or refused (RFC 8259, I-JSON RFC 7493).

A repeated member name means different things to different readers, `NaN` and `Infinity` are no JSON, and lone
surrogates cannot be stored. Each is refused here, before anything looks at what the body says. No message of this
module repeats a part of the body.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import orjson

DEPTH_MAX: Final = 16
"""Who needs it: no body of this API nests deeper than five; deep ones are attacks on parsers."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class MalformedJson(ValueError):
    """The bytes are not JSON that is accepted here; the message says what is wrong and where, and repeats nothing."""


def parse_json(raw: bytes) -> Any:
    """The value of strict JSON in UTF-8. Raises `MalformedJson`."""
    try:
        text = raw.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise MalformedJson(f"Byte {error.start} is not UTF-8. Send JSON in UTF-8.") from None
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedJson(f"The JSON breaks off or is wrong at {place}: {error.msg.lower()}.") from None
    except MalformedJson:
        raise
    except (ValueError, RecursionError):
        raise MalformedJson("The JSON is nested too deeply, or holds a number that is too long.") from None
    if "\\u" in text:
        _refuse_lone_surrogates(raw)
    _refuse_depth(value)
    return value


def _decode(text: str) -> Any:
    return _DECODER.decode(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) < len(pairs):
        raise MalformedJson("An object names a member twice. Name each member once.")
    return held


def _constant(_: str) -> Any:
    raise MalformedJson("NaN and Infinity are no JSON. Leave the member out where there is no number.")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise MalformedJson("A number is larger than JSON readers agree on (IEEE 754 double).")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_number)


def _refuse_lone_surrogates(raw: bytes) -> None:
    try:
        orjson.loads(raw.removeprefix(_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError:
        raise MalformedJson("A \\u escape stands for half a character. Escape both halves, or send UTF-8.") from None


def _refuse_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    raise MalformedJson(f"The JSON is nested more than {DEPTH_MAX} levels deep.")
