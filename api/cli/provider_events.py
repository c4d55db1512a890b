"""Reads what mail providers told us, as NDJSON in the shape of `POST /v1/feedback`: one event a line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, TextIO, get_args

import orjson

from api.imports.errors import ImportFileError
from ledger.feedback import FeedbackEvent, FeedbackKind

LINE_CHARACTERS_MAX: Final = 65_536  # who needs it: one event, of which a clicked link is the longest part
TEXT_CHARACTERS_MAX: Final = 4_096
KINDS: Final[tuple[str, ...]] = get_args(FeedbackKind)
OPTIONAL_TEXTS: Final = ("event_id", "ip", "user_agent", "url")


class BadEvent(ValueError):
    """One line is no feedback event; the text says what is missing and repeats no value."""


def read_events(text: TextIO, rejected: list[tuple[int, str]]) -> Iterator[FeedbackEvent]:
    """The events of a file; `index` is the line. Lines that are none go to `rejected`. Raises `ImportFileError`."""
    number = 0
    while True:
        try:
            line = text.readline(LINE_CHARACTERS_MAX)
        except UnicodeDecodeError:
            raise ImportFileError(f"After line {number} the feedback is not UTF-8; save it as UTF-8.") from None
        if not line:
            return
        number += 1
        if len(line) == LINE_CHARACTERS_MAX and not line.endswith("\n"):
            raise ImportFileError(f"Line {number} has more than {LINE_CHARACTERS_MAX} characters; is this NDJSON?")
        if not line.strip():
            continue
        try:
            yield event_of(number, line)
        except BadEvent as error:
            rejected.append((number, str(error)))


def event_of(number: int, line: str) -> FeedbackEvent:
    """The event of one line. Raises `BadEvent`."""
    try:
        held = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise BadEvent("not a JSON object on one line") from None
    if not isinstance(held, dict):
        raise BadEvent("not a JSON object on one line")
    kind, bounce_type = held.get("kind"), held.get("bounce_type")
    if not isinstance(held.get("message_id"), str):
        raise BadEvent("message_id is missing: the opaque id that the authorisation gave")
    if kind not in KINDS:
        raise BadEvent(f"kind is one of {', '.join(KINDS)}")
    if bounce_type not in (None, "hard", "soft"):
        raise BadEvent("bounce_type is hard or soft")
    return FeedbackEvent(
        number,
        held["message_id"],
        kind,
        _time(held.get("occurred_at")),
        bounce_type=bounce_type,
        **{name: _text(held, name) for name in OPTIONAL_TEXTS},
    )


def _time(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadEvent("occurred_at is a time with an offset, such as 2026-11-21T20:15:00Z")
    return moment.astimezone(UTC)


def _text(held: dict[str, Any], name: str) -> str | None:
    value = held.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > TEXT_CHARACTERS_MAX):
        raise BadEvent(f"{name} is text of at most {TEXT_CHARACTERS_MAX} characters")
    return value
