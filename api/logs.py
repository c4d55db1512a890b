"""Logs by structlog: JSON lines in production, a readable console on a laptop; never a personal value (I4).

What may stand in a log line is decided by type. Numbers, times, ids and names pass; a `Personal` value is masked; an
object of any other kind is refused, because nobody can tell what its text would say: the line then carries the name
of its type. Text that looks like an address is masked as well, should a library ever put one into a message. Of an
exception the line keeps its type and where it happened, and its text only where it is one of our own errors, which
are written to carry no value.

Lines go to standard error; standard output belongs to answers.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from api.settings import Settings
from domain.personal import Erased, Personal, Unopened
from ledger.errors import LedgerError
from projections.errors import ProjectionError

MASK: Final = "‹personal›"
ADDRESS_MASK: Final = "‹address›"
TEXT_CHARACTERS_MAX: Final = 2_000  # a log line is no place for documents
ITEMS_MAX: Final = 50
DEPTH_MAX: Final = 4
FRAMES_MAX: Final = 30

_looks_like_an_address = re.compile(r"[^\s@<>\"'(),;:=/]+@[^\s@<>\"'(),;:=/]+")
_PLAIN: Final = (bool, int, float, type(None))
_TEXTUAL: Final = (UUID, datetime, date, time, timedelta, Path)


def configure_logs(settings: Settings) -> None:
    """Set up structlog and the standard library's logging for this process."""
    production = settings.environment == "production"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_values,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer() if production else structlog.dev.ConsoleRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = StderrHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # Requests are logged by route template in api/http; a server's own access log would repeat URLs. What else it
    # tells is what the command has said already.
    for name in ("uvicorn.access", "uvicorn.error", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)


class StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is when the line comes."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.stream = sys.stderr
        super().emit(record)


def without_values(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The structlog processor: every value of the line made fit to be kept, by its type."""
    safe: EventDict = {}
    for name, value in event.items():
        if name in ("_record", "_from_structlog"):
            safe[name] = value
        elif name == "exc_info":
            safe["exception"] = _exception(value)
        elif name not in ("stack_info", "positional_args"):
            safe[name] = fit(value)
    return safe


def fit(value: object, depth: int = 0) -> object:
    """A value as it may stand in a log line."""
    if isinstance(value, Personal):
        return MASK
    if isinstance(value, Erased | Unopened):
        return f"‹{type(value).__name__.lower()}›"
    if isinstance(value, Enum):
        return fit(value.value, depth)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, str):
        return _looks_like_an_address.sub(ADDRESS_MASK, value[:TEXT_CHARACTERS_MAX])
    if isinstance(value, _TEXTUAL):
        return str(value)
    if isinstance(value, BaseException):
        return _said(value)
    if depth < DEPTH_MAX and isinstance(value, Mapping):
        return {str(fit(k, depth + 1)): fit(v, depth + 1) for k, v in list(value.items())[:ITEMS_MAX]}
    if depth < DEPTH_MAX and isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [fit(item, depth + 1) for item in list(value)[:ITEMS_MAX]]
    return f"‹refused: {type(value).__name__}›"


def _exception(value: object) -> object:
    """The type, our own text, and the places of an exception, outermost first."""
    error = value[1] if isinstance(value, tuple) else value if isinstance(value, BaseException) else sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return None
    return {"type": type(error).__name__, "text": _said(error), "at": places(error.__traceback__)}


def _said(error: BaseException) -> str:
    if isinstance(error, LedgerError | ProjectionError):
        return str(fit(str(error)))
    return type(error).__name__


def places(trace: TracebackType | None) -> list[str]:
    """The frames of a traceback as `file:line function`, without a line of source and without locals."""
    frames = traceback.extract_tb(trace, limit=-FRAMES_MAX)
    return [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames]
