"""Shapes that several answers share, for the documentation."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from api.http.bodies import Answer


class ReceiptAnswer(Answer):
    """The positions of the log that a request took, first and last. Others' events may stand between them."""

    first: int
    last: int


class RejectedRow(Answer):
    """A row that was not taken, by its index (for NDJSON the number of its line), counted from 0."""

    index: int
    reason: str


class PositionAnswer(Answer):
    """Where the fact stands in the log; null where nothing changed."""

    position: int | None


class ErrorPlace(Answer):
    """One place of a body that is not as it should be. It never repeats what was sent."""

    location: str = Field(description="A JSON pointer; names that the API does not know are masked.")
    expected: str


class ProblemAnswer(Answer):
    """A problem (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ErrorPlace] | None = None
    reason: str | None = Field(default=None, description="A stable code, where a command was refused.")
    certificate: str | None = Field(
        default=None, description="What a hold came too late for; null where nothing leads there any more."
    )
    id: UUID | None = Field(default=None, description="What to look for in this server's log.")
