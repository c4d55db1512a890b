"""One event as a line of CSV or of NDJSON.

An NDJSON line holds the entry byte for byte as it stands in the log, so that SHA-256(0x00 || entry) of any line is
its leaf in the transparency log. A CSV line has the same values in columns. Of sealed parts both name what is there;
what was opened for the export stands apart, under `opened`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import orjson

from audit.formulas import neutralised
from domain.facts import UnknownTopic
from domain.personal import Erased
from ledger.application import Ledger
from ledger.errors import KeyMissing, TamperError
from ledger.mapper import LedgerEvent
from projections.history import EventUnreadable, personal_values

Form = Literal["csv", "ndjson"]

COLUMNS: Final = (
    *("position", "recorded_at", "occurred_at", "kind", "stream", "version", "event_id", "actor"),
    *("command", "cause", "rules", "plain", "sealed"),
)
OPENED_COLUMN: Final = "opened"


class OpenedEvent(NamedTuple):
    """An event, and the sealed fields as far as they may be shown: None where they were not asked for."""

    event: LedgerEvent
    opened: Mapping[str, Any] | None = None

    @property
    def parts_opened(self) -> int:
        """How many sealed fields are shown with their values."""
        return sum(value is not None and not isinstance(value, Erased) for value in (self.opened or {}).values())


def opened_event(ledger: Ledger, event: LedgerEvent) -> OpenedEvent:
    """An event with its sealed fields. Whose message or record it is stands nowhere, so those stay closed.

    Raises `EventUnreadable` where a key is missing, or the bytes are not those that were written.
    """
    if event.sealed is None:
        return OpenedEvent(event, {})
    assert event.position is not None
    try:
        fact = ledger.sealing.open(event)
    except (KeyMissing, TamperError, UnknownTopic) as error:
        raise EventUnreadable(event.position, error) from error
    return OpenedEvent(event, dict(personal_values(fact)))


def head(form: Form, *, opened: bool) -> bytes:
    """What stands before the first line."""
    if form == "ndjson":
        return b""
    return _csv([[*COLUMNS, OPENED_COLUMN] if opened else COLUMNS])


def lines(form: Form, events: Sequence[OpenedEvent]) -> bytes:
    """Events as lines."""
    return _RENDERED[form](events)


def _as_ndjson(events: Sequence[OpenedEvent]) -> bytes:
    return b"".join(orjson.dumps(_line(event), option=orjson.OPT_APPEND_NEWLINE) for event in events)


def _line(found: OpenedEvent) -> dict[str, Any]:
    line: dict[str, Any] = {"position": found.event.position, "entry": orjson.Fragment(found.event.state)}
    if found.opened is not None:
        line["opened"] = {name: _shown(value) for name, value in found.opened.items()}
    return line


def _as_csv(events: Sequence[OpenedEvent]) -> bytes:
    return _csv([_row(event) for event in events])


def _row(found: OpenedEvent) -> list[Any]:
    entry = orjson.loads(found.event.state)
    row = [
        found.event.position,
        entry["recorded_at"],
        entry["occurred_at"],
        entry["topic"],
        _id(entry["stream"]),
        entry["version"],
        _id(entry["id"]),
        neutralised(entry["actor"]),
        _id(entry.get("command")),
        _id(entry.get("cause")),
        neutralised(entry.get("rules") or ""),
        neutralised(orjson.dumps(entry["plain"]).decode()),
        neutralised(" ".join(sorted(entry.get("sealed", ())))),
    ]
    if found.opened is not None:
        row.append(orjson.dumps({name: _shown(value) for name, value in found.opened.items()}).decode())
    return row


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _id(value: str | None) -> str:
    return "" if value is None else str(UUID(hex=value))


def _shown(value: Any) -> Any:
    if isinstance(value, Erased):
        return {"erased": {"when": value.when, "why": value.why, "certificate": value.certificate}}
    return {"sealed": True} if value is None else {"value": value}


_RENDERED: Final[dict[Form, Callable[[Sequence[OpenedEvent]], bytes]]] = {"csv": _as_csv, "ndjson": _as_ndjson}
