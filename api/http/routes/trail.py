"""The audit trail as a stream over HTTP: a section of the log as NDJSON or CSV, in memory that does not grow with it.

The body is sent as it is read, window by window; between two windows no transaction is open, and a client that does
not read stops the reading. An answer that breaks off has no end mark, so that it cannot be taken for a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from anyio import to_thread
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from api.http.bodies import NDJSON, Answer, Body, Moment, ShortText
from api.http.operation import AUDITOR, OFFICER, Call, Desk, operation
from api.http.problems import FORBIDDEN, INVALID, UNAVAILABLE, RequestRefused
from api.http.routes.events import KINDS_MAX, OPENERS
from audit.trail.export import TrailExport
from audit.trail.lines import Form
from audit.trail.section import Section, SectionRefused, section_of

CSV: Final = "text/csv"
POSITIONS_MAX: Final = 1 << 62
"""No log gets that long; larger numbers do not fit the database."""

LAST_HEADER: Final = "Lethe-Last-Position"
MEDIA_TYPES: Final[dict[Form, str]] = {"csv": f"{CSV}; charset=utf-8; header=present", "ndjson": NDJSON}


class TrailBody(Body):
    """Which section of the log, in which form."""

    format: Form = "ndjson"
    since: Moment | None = Field(default=None, alias="from", description="Recorded at or after.")
    until: Moment | None = Field(default=None, alias="to", description="Recorded before.")
    topics: list[ShortText] = Field(
        default_factory=list,
        max_length=KINDS_MAX,
        description="Such as consent, consent.granted or consent.granted.v1.",
    )
    after: int = Field(default=0, ge=0, lt=POSITIONS_MAX, description="Go on after this position.")
    opened: bool = Field(
        default=False,
        description="Opens sealed parts of persons' own events; for officers, and recorded before each piece is sent.",
    )


class TrailLine(Answer):
    """One event. SHA-256 over a zero byte and the bytes of `entry` as they stand here is its leaf in the log."""

    position: int
    entry: dict[str, Any] = Field(description="The entry, byte for byte as it stands in the log.")
    opened: dict[str, Any] | None = Field(
        default=None, description="Where it was asked for: each sealed field as value, sealed or erased."
    )


@operation(
    "POST",
    "/v1/trail",
    "exportTrail",
    summary="Export the audit trail",
    tag="events",
    scopes=(OFFICER, AUDITOR),
    body=TrailBody,
    answer=None,
    streamed=TrailLine,
    media_types=(CSV,),
)
async def export_trail(call: Call) -> Response:
    """A section of the log in its order, one event a line, as long as it is. The header `Lethe-Last-Position` is what
    to ask `after` next time. As CSV (RFC 4180, UTF-8 without a byte order mark) it has a line of column names, and
    cells that a spreadsheet would run get a leading apostrophe. Every export is recorded, unless all that it found
    are records of such exports; therefore it is no GET."""
    body, _ = await call.body()
    if body.opened and not call.caller.may(OPENERS):
        raise RequestRefused(FORBIDDEN, "Only officers open sealed parts. Leave out opened, or use an officer's key.")
    section = await call.run(_section, call, body)
    form: Form = body.format
    export = TrailExport(call.ledger, section, form, opened=body.opened, actor=call.actor)
    stream = _streamed(call.desk, export.blocks())
    first = await anext(stream, b"")  # What is wrong with the first window is still a problem with a status.
    headers = {LAST_HEADER: str(section.last), "Content-Disposition": f'attachment; filename="trail.{form}"'}
    return StreamingResponse(_after(first, stream), headers=headers, media_type=MEDIA_TYPES[form])


def _section(call: Call, body: TrailBody) -> Section:
    try:
        return section_of(call.ledger, kinds=body.topics, since=body.since, until=body.until, after=body.after)
    except SectionRefused as error:
        raise RequestRefused(INVALID, str(error)) from None


async def _after(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for block in rest:
            yield block
    finally:
        await rest.aclose()


async def _streamed(desk: Desk, blocks: Generator[bytes]) -> AsyncGenerator[bytes]:
    """Blocks as a thread gives them. However it ends, the export gets to record what was handed out."""
    async with _place(desk):
        try:
            while (block := await to_thread.run_sync(next, blocks, None, limiter=desk.threads)) is not None:
                yield block
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(blocks.close, limiter=desk.threads)


@asynccontextmanager
async def _place(desk: Desk) -> AsyncIterator[None]:
    """One of the streams that this process serves at a time. Raises the problem when there is none left."""
    borrower = object()
    try:
        desk.streams.acquire_on_behalf_of_nowait(borrower)
    except anyio.WouldBlock:
        raise RequestRefused(UNAVAILABLE, "Too many streams are being served. Ask again after Retry-After.") from None
    try:
        yield
    finally:
        desk.streams.release_on_behalf_of(borrower)


OPERATIONS = (export_trail,)
