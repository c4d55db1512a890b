"""Bodies: what comes in is checked against pydantic models, strictly, and an error never repeats what was sent.

An envelope that is wrong refuses the request whole (422). A row of a bulk request that is wrong is rejected alone,
by its index, and the good rows are kept (FAULTS 22).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import ErrorDetails
from starlette.requests import Request

from api.http.limits import ROWS_MAX, read_body, too_many_rows
from api.http.problems import BAD_HEADER, INVALID, MALFORMED, MEDIA_TYPE, RequestRefused
from api.http.strict_json import parse_json
from domain.category import CATEGORIES
from domain.scope import InvalidScope, checked_purpose, checked_scope

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

EMAIL_CHARACTERS_MAX: Final = 1000
NAMES: set[str] = set()
"""The names of every field of every body: what an error's location may be written with."""


class Body(BaseModel):
    """A body or a row of one: strict, closed, and silent about what was sent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        NAMES.update(cls.model_fields)


class Answer(BaseModel):
    """An answer, for the documentation; what is sent is written by hand for speed."""

    model_config = ConfigDict(extra="forbid")


B = TypeVar("B", bound=BaseModel)


# Values ---------------------------------------------------------------------------------------------------------------


def _moment(value: Any) -> datetime:
    if isinstance(value, str) and _is_moment(value):
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise ValueError("write a time with its offset, such as 2026-11-21T20:15:00Z (RFC 3339)")


def _past_date(value: str) -> str:
    try:
        day = date.fromisoformat(value) if _is_day(value) else None
    except ValueError:
        day = None
    if day is None or not date(1880, 1, 1) <= day <= datetime.now(UTC).date():
        raise ValueError("write a day of the past as YYYY-MM-DD")
    return value


def _country(value: str) -> str:
    if not _is_country(value):
        raise ValueError("write two letters (ISO 3166-1 alpha-2), such as DE")
    return value.upper()


def _purpose(value: str) -> str:
    try:
        return checked_purpose(value)
    except InvalidScope as error:
        raise ValueError(str(error)) from None


def _scope(value: str) -> str:
    try:
        return checked_scope(value)
    except InvalidScope as error:
        raise ValueError(str(error)) from None


def _category(value: str) -> str:
    if value not in CATEGORIES:
        raise ValueError(f"write one of {', '.join(CATEGORIES)}")
    return value


_is_moment = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII).fullmatch
_is_day = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII).fullmatch
_is_country = re.compile(r"[A-Za-z]{2}").fullmatch

Moment = Annotated[
    datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation")
]
BirthDate = Annotated[str, AfterValidator(_past_date), WithJsonSchema({"type": "string", "format": "date"})]
Country = Annotated[str, AfterValidator(_country), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z]{2}$"})]
Purpose = Annotated[
    str, AfterValidator(_purpose), WithJsonSchema({"type": "string", "pattern": "^[a-z][a-z0-9_.:-]{0,63}$"})
]
Scope = Annotated[
    str,
    AfterValidator(_scope),
    WithJsonSchema({"type": "string", "pattern": "^(all|marketing|purpose:[a-z][a-z0-9_.:-]{0,63})$"}),
]
Email = Annotated[
    str,
    StringConstraints(max_length=EMAIL_CHARACTERS_MAX),
    WithJsonSchema({"type": "string", "maxLength": EMAIL_CHARACTERS_MAX, "examples": ["anna@example.com"]}),
]
"""Checked by `domain.address` where it is used, so that a bad address rejects its row and not the request."""

ShortText = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LongText = Annotated[str, StringConstraints(max_length=5000)]
Category = Annotated[str, AfterValidator(_category), WithJsonSchema({"type": "string", "enum": list(CATEGORIES)})]


def rows_schema(row: str | None, *, or_text: bool = False) -> WithJsonSchema:
    """How an array of rows is documented; each row is checked by itself later.

    `row` is the row model's name, None for rows that are texts.
    """
    text: dict[str, Any] = {"type": "string", "maxLength": EMAIL_CHARACTERS_MAX}
    reference = {"$ref": f"#/components/schemas/{row}"}
    items = text if row is None else {"oneOf": [text, reference]} if or_text else reference
    return WithJsonSchema({"type": "array", "minItems": 1, "maxItems": ROWS_MAX, "items": items})


# Reading --------------------------------------------------------------------------------------------------------------


def media_type(request: Request) -> str:
    """The media type of the body, in lower case. Raises the problem for another charset or a compressed body."""
    value = request.headers.get("content-type", "")
    essence, _, parameters = value.partition(";")
    for parameter in parameters.split(";"):
        name, _, charset = parameter.strip().lower().partition("=")
        if name == "charset" and charset.strip('"') not in ("utf-8", "utf8"):
            raise RequestRefused(MALFORMED, "The body says it is in another charset. Send it in UTF-8.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestRefused(MEDIA_TYPE, "Compressed bodies are not taken. Send it without Content-Encoding.")
    return essence.strip().lower()


def require_json(request: Request, *, or_ndjson: bool = False) -> bool:
    """Whether the body is NDJSON rather than JSON. Raises the problem for anything else."""
    essence = media_type(request)
    if essence == JSON:
        return False
    if or_ndjson and essence == NDJSON:
        return True
    taken = f"{JSON} or {NDJSON}" if or_ndjson else JSON
    raise RequestRefused(MEDIA_TYPE, f"Send the body as {taken}, and say so in Content-Type.")


async def json_body(request: Request, model: TypeAdapter[B], bytes_max: int) -> tuple[B, bytes]:
    """The checked body and its bytes. Raises the problem that names what is wrong, without its values."""
    require_json(request)
    raw = await read_body(request, bytes_max)
    return checked(raw, model), raw


def checked(raw: bytes, model: TypeAdapter[B]) -> B:
    """A body of this model. Raises `MalformedJson` or the problem."""
    value = parse_json(raw)
    try:
        return model.validate_python(value)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError, within: str = "") -> RequestRefused:
    """The problem for values that do not fit: where, and what is expected; never what was sent."""
    found = [
        {"location": within + location(details), "expected": expectation(details)}
        for details in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return RequestRefused(INVALID, "The body does not have the shape that the documentation gives.", errors=found)


def location(details: ErrorDetails) -> str:
    """Where the error is, as a JSON pointer whose unknown names are masked: they may be anything a client wrote."""
    parts = [str(part) if isinstance(part, int) or part in NAMES else "…" for part in details["loc"]]
    return "/" + "/".join(parts)


def expectation(details: ErrorDetails) -> str:
    """What was expected. pydantic's texts name the rule, and with `hide_input_in_errors` no value."""
    if details["type"] == "extra_forbidden":
        return "there is no such field; the documentation at /docs lists them all"
    text = details["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def require_rows(rows: Sequence[Any]) -> None:
    """Raise the problem for an array that is empty or too long."""
    if len(rows) > ROWS_MAX:
        raise too_many_rows()
    if not rows:
        raise RequestRefused(INVALID, "The array is empty. Send at least one row.")


class Rows(Generic[B]):
    """Checks rows one by one, so that a bad one is rejected alone."""

    def __init__(self, model: type[B]) -> None:
        self._adapter = TypeAdapter(model)

    def check(self, rows: Iterable[tuple[int, Any]], rejected: list[tuple[int, str]]) -> list[tuple[int, B]]:
        """The good rows with their indexes; the others go to `rejected` with the reason."""
        good = []
        for index, row in rows:
            try:
                good.append((index, self._adapter.validate_python(row)))
            except ValidationError as error:
                rejected.append((index, row_reason(error)))
        return good


def row_reason(error: ValidationError) -> str:
    """One sentence on what is wrong with a row, without its values."""
    details = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = location(details).strip("/").replace("/", ".")
    return f"{place}: {expectation(details)}" if place else expectation(details)


def idempotency_key(headers: Mapping[str, str]) -> str | None:
    """The Idempotency-Key, None if there is none. Raises the problem for one that is empty or too long."""
    value = headers.get("idempotency-key")
    if value is None:
        return None
    if not 1 <= len(value) <= 255 or not value.isascii() or not value.isprintable():
        raise RequestRefused(BAD_HEADER, "Idempotency-Key is 1 to 255 visible ASCII characters, such as a UUID.")
    return value
