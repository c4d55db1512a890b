"""Which form of an answer is wanted: by name in the query, or by the Accept header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.requests import Request

from api.http.problems import INVALID, RequestRefused

ACCEPT_PARTS_MAX: Final = 50
"""Who needs it: a browser names about ten media types."""


def form_of(request: Request, offered: Sequence[tuple[str, str]], *, usual: str) -> str:
    """The name of the form that is asked for; `offered` are names with their media types, `usual` where none is named.

    `?format=` wins. Among media types that are wanted alike the one that stands first in the header wins.
    """
    named = request.query_params.get("format")
    if named is not None:
        if named not in dict(offered):
            raise RequestRefused(INVALID, f"format is one of {', '.join(name for name, _ in offered)}.")
        return named
    types = {media_type.partition(";")[0]: name for name, media_type in offered}
    best, found = 0.0, usual
    for part in request.headers.get("accept", "").split(",", ACCEPT_PARTS_MAX)[:ACCEPT_PARTS_MAX]:
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type in types and (wanted := quality(parameters)) > best:
            best, found = wanted, types[media_type]
    return found


def quality(parameters: list[str]) -> float:
    """How much a media type is wanted, by its parameters: 1 where they do not say, 0 where they say nonsense."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
