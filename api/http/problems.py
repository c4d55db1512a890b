"""Problems: what every error becomes on its way out (RFC 9457). The only place that knows HTTP statuses of errors.

`PROBLEM_TYPES` lists every type; `ERRORS` is the one table from exceptions to types (STYLE 10). A type's URI is a
place in the documentation page that this server serves itself. `detail` is the text of our own exceptions, which
say what to do and never hold a personal value; an exception that is not in the table is answered without a word of
its own, under an id that stands in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http.strict_json import MalformedJson
from audit.bundles.model import BundleErased, CannotBundle, LogBehind, NothingToBundle, PeriodBackwards
from audit.consents.acts import NothingSaid, TooManyActs
from audit.log import errors as log_errors
from audit.records.record import RecordRefused
from domain.account import AccountRefused
from domain.address import InvalidAddress
from domain.campaign import CampaignNotOpen
from domain.hold import HoldRefused
from domain.register import RegisterRefused
from domain.scope import InvalidScope
from domain.subject_commands import CommandRefused
from ledger import errors as ledger_errors
from ledger.entry import EntryTooLong
from projections.errors import CursorTooOld
from projections.history import EventUnreadable, UnknownKind
from retention.certificates.store import UnknownCertificate
from retention.policy.pack import PackError

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
"""Who needs it: clients during a restart or a failover; the pool gives up on a database after ten seconds."""

ERRORS_SHOWN_MAX: Final = 20
"""Who needs it: a body that is wrong in ten thousand places is answered in a few kilobytes."""


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A kind of problem: its place in the documentation, its status, and what it means to the caller."""

    name: str
    status: int
    title: str
    meaning: str

    @property
    def uri(self) -> str:
        """The type URI: a reference into the documentation page."""
        return f"/docs#problem-{self.name}"


def _type(name: str, status: int, title: str, meaning: str) -> ProblemType:
    made = ProblemType(name, status, title, meaning)
    PROBLEM_TYPES[name] = made
    return made


PROBLEM_TYPES: dict[str, ProblemType] = {}

MALFORMED = _type(
    "malformed-body", 400, "The body cannot be read", "The bytes are not the JSON or NDJSON that they say they are."
)
BAD_HEADER = _type("bad-header", 400, "A header cannot be read", "Mend the header that the detail names.")
UNAUTHENTICATED = _type(
    "unauthenticated", 401, "No valid API key", "Send Authorization: Bearer with a key of `lethe apikey create`."
)
FORBIDDEN = _type("forbidden", 403, "This API key may not do this", "Use a key that has one of the scopes named.")
NOT_FOUND = _type("not-found", 404, "There is nothing here", "The path or the id in it is not known to this account.")
UNKNOWN_RECIPIENT = _type(
    "unknown-recipient", 404, "No such contact", "Add the contact first; a forgotten person is not known any more."
)
METHOD = _type("method-not-allowed", 405, "Not with this method", "Use a method of the Allow header.")
TIMEOUT = _type("body-timeout", 408, "The body came too slowly", "Nothing was done. Send it again.")
CONFLICT = _type("conflict", 409, "It cannot be done as things stand", "The detail says what stands against it.")
HOLD_TOO_LATE = _type(
    "hold-too-late",
    409,
    "The hold comes too late",
    "What it speaks of was intended for destruction first; `certificate` names it as long as anything leads there.",
)
ERASED = _type(
    "erased",
    410,
    "Nothing leads there any more",
    "What was asked for was erased, or its time is over. What was handed out before stays valid.",
)
CURSOR_TOO_OLD = _type(
    "cursor-too-old", 410, "The cursor is too old", "Start without a cursor and take the whole list once."
)
TOO_LARGE = _type("too-large", 413, "Too much in one request", "Split the request, or send NDJSON where it is taken.")
MEDIA_TYPE = _type("media-type", 415, "Not in this media type", "Send one of the media types that the detail names.")
INVALID = _type("invalid-request", 422, "The request is not as it should be", "Mend what the errors name.")
IDEMPOTENCY = _type(
    "idempotency-mismatch", 422, "The Idempotency-Key was used otherwise", "Use a new key for a new request."
)
RATE_LIMIT = _type("rate-limit", 429, "Too many requests", "Wait as long as Retry-After says.")
INTERNAL = _type("internal", 500, "Something went wrong here", "Tell whoever runs this server the id.")
INCIDENT = _type(
    "incident",
    500,
    "The ledger's data is not as it was written",
    "A key is missing without a tombstone, or sealed bytes were changed. This is never an erasure: tell whoever "
    "runs this server at once.",
)
UNAVAILABLE = _type(
    "unavailable", 503, "Not available now", "The detail says what was done. Send it again after Retry-After."
)


class RequestRefused(Exception):
    """A request that this room turns away, with its problem type, headers and further members of the problem."""

    def __init__(
        self,
        kind: ProblemType,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = dict(headers or {})
        self.errors = list(errors[:ERRORS_SHOWN_MAX])


ERRORS: Final[tuple[tuple[type[Exception], ProblemType], ...]] = (
    (MalformedJson, MALFORMED),
    (ledger_errors.Unavailable, UNAVAILABLE),
    (ledger_errors.GateShut, UNAVAILABLE),
    (ledger_errors.UnknownCampaign, NOT_FOUND),
    (ledger_errors.UnknownAccount, NOT_FOUND),
    (UnknownCertificate, NOT_FOUND),
    (NothingSaid, NOT_FOUND),
    (TooManyActs, CONFLICT),
    (NothingToBundle, NOT_FOUND),
    (BundleErased, ERASED),
    (LogBehind, UNAVAILABLE),
    (log_errors.NothingPublished, NOT_FOUND),
    (log_errors.TileMissing, NOT_FOUND),
    (log_errors.NoSuchPosition, NOT_FOUND),
    (log_errors.NotPublishedYet, UNAVAILABLE),
    (log_errors.LogContradiction, INCIDENT),
    (ledger_errors.UnknownHold, NOT_FOUND),
    (ledger_errors.UnknownSubject, UNKNOWN_RECIPIENT),
    (ledger_errors.IdempotencyMismatch, IDEMPOTENCY),
    (ledger_errors.PeriodDestroyed, CONFLICT),
    (ledger_errors.KeyDestroyed, CONFLICT),
    (ledger_errors.InvalidToken, INVALID),
    (ledger_errors.KeyMissing, INCIDENT),
    (ledger_errors.TamperError, INCIDENT),
    (EventUnreadable, INCIDENT),
    (CampaignNotOpen, CONFLICT),
    (CommandRefused, CONFLICT),
    (InvalidAddress, INVALID),
    (InvalidScope, INVALID),
    (UnknownKind, INVALID),
    (EntryTooLong, TOO_LARGE),
    (CursorTooOld, CURSOR_TOO_OLD),
    (PackError, CONFLICT),
)
"""From exceptions to problem types. Subclasses are covered by their parents; the first line that fits counts."""

_CONFLICTS: Final = frozenset({"declared_already", "not_declared", "in_use", "before_the_account"})
"""Reasons of registers and records that speak of how things stand, and not of the request."""

_REFUSAL_TYPES: Final = {"unknown_recipient": UNKNOWN_RECIPIENT}
_BY_STATUS: Final = {404: NOT_FOUND, 405: METHOD, 413: TOO_LARGE}


@dataclass(slots=True)
class Problem:
    """One problem on its way out."""

    kind: ProblemType
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The members of RFC 9457, and ours."""
        kind = self.kind
        return {"type": kind.uri, "title": kind.title, "status": kind.status, "detail": self.detail, **self.members}

    def response(self) -> Response:
        """The answer."""
        headers = dict(self.headers)
        if self.kind.status == 503:
            headers.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
        return Response(orjson.dumps(self.as_json()), self.kind.status, headers, CONTENT_TYPE)


def problem_of(error: Exception) -> Problem:
    """The problem that an exception becomes. One that nobody foresaw becomes `internal`, with an id for the log."""
    if isinstance(error, RequestRefused):
        return Problem(error.kind, str(error), {"errors": error.errors} if error.errors else {}, error.headers)
    if isinstance(error, AccountRefused):
        return Problem(CONFLICT, str(error), {"reason": error.reason})
    if isinstance(error, ledger_errors.HoldTooLate):
        return Problem(HOLD_TOO_LATE, str(error), {"certificate": error.certificate})
    if isinstance(error, HoldRefused):
        kind = CONFLICT if error.reason in ("hold_active", "hold_released") else INVALID
        return Problem(kind, str(error), {"reason": error.reason})
    if isinstance(error, RegisterRefused | RecordRefused):
        return Problem(CONFLICT if error.reason in _CONFLICTS else INVALID, str(error), {"reason": error.reason})
    if isinstance(error, CommandRefused):
        kind = _REFUSAL_TYPES.get(error.reason, CONFLICT)
        return Problem(kind, str(error), {"reason": error.reason})
    if isinstance(error, PeriodBackwards):
        return Problem(INVALID, str(error), {"reason": error.reason})
    if isinstance(error, CannotBundle) and not isinstance(error, NothingToBundle | BundleErased):
        kind = TOO_LARGE if error.reason in ("too_many_events", "too_many_streams") else CONFLICT
        return Problem(kind, str(error), {"reason": error.reason})
    if isinstance(error, HTTPException):
        return _of_status(error)
    for error_class, kind in ERRORS:
        if isinstance(error, error_class):
            members = {"id": str(uuid4())} if kind is INCIDENT else {}
            return Problem(kind, str(error), members)
    detail = "The request failed for a reason that nobody foresaw. It is logged under this id."
    return Problem(INTERNAL, detail, {"id": str(uuid4())})


def _of_status(error: HTTPException) -> Problem:
    kind = _BY_STATUS.get(error.status_code, NOT_FOUND)
    details = {
        NOT_FOUND.name: "There is nothing at this path. The documentation at /docs lists every path.",
        METHOD.name: "This path does not know the method. Use one of the Allow header.",
        TOO_LARGE.name: "The body is too large. Split it.",
    }
    return Problem(kind, details[kind.name], headers=dict(error.headers or {}))
