"""Evidence bundles and send receipts over HTTP: one zip, recorded before its first byte is sent.

The address of a person and the token of a message stand in bodies, never in a URL. What is wrong with the question is
a problem with a status, because everything is read, proven and recorded before the answer begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from anyio import to_thread
from pydantic import Field, field_validator, model_validator
from starlette.responses import Response, StreamingResponse

from api.bundling import collected_by_id, proof_source
from api.http.bodies import Body, Email, Moment, ShortText
from api.http.bulk import require_stream_place
from api.http.operation import AUDITOR, OFFICER, Call, operation
from api.http.problems import FORBIDDEN, TOO_LARGE, RequestRefused
from api.http.routes.events import OPENERS
from api.http.spool import Spool
from audit.bundles.making import Prepared, prepared_bundle
from audit.bundles.model import Collected
from audit.bundles.period import collect_period
from audit.bundles.person import collect_person
from audit.bundles.send import collect_send
from ledger.application import Ledger

ZIP: Final = "application/zip"
DIGEST_HEADER: Final = "Lethe-Manifest-Sha256"

BUNDLE_ENTRIES_OVER_HTTP_MAX: Final = 100_000
"""Who needs it: the client, who waits until everything is read; the command line makes larger ones."""

Kind = Literal["person", "campaign", "request", "destruction", "period"]


class BundleBody(Body):
    """What to collect. Each kind is asked for in its own way."""

    kind: Kind
    email: Email | None = Field(default=None, description="For a person: their address.")
    id: str | None = Field(default=None, description="For a campaign, a request or a destruction: its id.")
    since: Moment | None = Field(default=None, alias="from", description="For a period: recorded at or after.")
    until: Moment | None = Field(default=None, alias="to", description="For a period: recorded before.")
    first: int | None = Field(default=None, ge=1, description="For a period: from this position on.")
    last: int | None = Field(default=None, ge=1, description="For a period: up to this position, included.")
    open: bool = Field(default=False, description="Show sealed parts opened; for officers, and recorded.")

    @field_validator("id")
    @classmethod
    def _an_id(cls, value: str | None) -> str | None:
        try:
            return value if value is None else str(UUID(value))
        except ValueError:
            raise ValueError("write an id as a UUID") from None

    @model_validator(mode="after")
    def _fits(self) -> BundleBody:
        given = {name for name in ("email", "id", "since", "until", "first", "last") if getattr(self, name) is not None}
        wanted = {"person": {"email"}, "period": {"since", "until", "first", "last"}}.get(self.kind, {"id"})
        if given - wanted or (self.kind != "period" and given != wanted):
            raise ValueError("a person is named by email, a period by from, to, first and last, all others by id")
        return self


class ReceiptBody(Body):
    """The message to prove."""

    message_id: ShortText = Field(description="As authorising answered it; it stands in the mail.")
    open: bool = Field(default=False, description="Show sealed parts opened; for officers, and recorded.")
    link: bool = Field(
        default=True,
        description="Show which mail it was. That discloses which other messages of its month are the same person's.",
    )


@operation(
    "POST",
    "/v1/bundles",
    "makeBundle",
    summary="Make an evidence bundle",
    tag="log",
    scopes=(OFFICER, AUDITOR),
    body=BundleBody,
    answer=None,
    media_types=(ZIP,),
)
async def make_bundle(call: Call) -> Response:
    """A zip with the events of a person, a campaign, a request, a destruction or a period, and all that proves them to
    somebody who trusts neither us nor our code. Officers may have sealed parts opened. Making one is itself an event.
    Up to 100,000 events; the command line makes larger ones."""
    body, _ = await call.body()

    def collect(ledger: Ledger) -> Collected:
        if body.kind == "person":
            return collect_person(ledger, body.email)
        if body.kind == "period":
            return _period(ledger, body.since, body.until, body.first, body.last)
        return collected_by_id(ledger, body.kind, UUID(body.id))

    return await _zip(call, collect, opened=body.open)


@operation(
    "POST",
    "/v1/receipts",
    "makeReceipt",
    summary="Prove one message",
    tag="log",
    scopes=(OFFICER, AUDITOR),
    body=ReceiptBody,
    answer=None,
    media_types=(ZIP,),
)
async def make_receipt(call: Call) -> Response:
    """A send receipt: that the message was allowed, on which word of the person and under which rules, and that nothing
    stood between, each with its proof. Once the person is erased or the time of the message is over no new receipt can
    be made; those made before still verify."""
    body, _ = await call.body()
    return await _zip(call, lambda ledger: collect_send(ledger, body.message_id, link=body.link), opened=body.open)


async def _zip(call: Call, collect: Callable[[Ledger], Collected], *, opened: bool) -> Response:
    if opened and not call.caller.may(OPENERS):
        raise RequestRefused(FORBIDDEN, "Only officers open sealed parts. Leave out open, or use an officer's key.")
    require_stream_place(call)
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Prepared] = loop.create_future()
    spool = Spool()

    def make() -> None:
        try:
            collected = collect(call.ledger)
            if len(collected.positions) > BUNDLE_ENTRIES_OVER_HTTP_MAX:
                raise RequestRefused(TOO_LARGE, _TOO_LARGE.format(len(collected.positions)))
            source = proof_source(call.desk.instance)
            with prepared_bundle(call.ledger, collected, source, opened=opened, actor=call.actor) as made:
                loop.call_soon_threadsafe(ready.set_result, made)
                made.write(_Into(spool))
        finally:
            spool.end()

    work = asyncio.ensure_future(to_thread.run_sync(make, limiter=call.desk.streams))
    work.add_done_callback(lambda done: done.cancelled() or done.exception())  # Nobody waits once the client is gone.
    await asyncio.wait((ready, work), return_when=asyncio.FIRST_COMPLETED)
    if not ready.done():
        await work  # Raises what stood in the way.
    made = ready.result()
    headers = {
        "Content-Disposition": f'attachment; filename="bundle-{made.manifest["kind"]}.zip"',
        DIGEST_HEADER: made.manifest_sha256,
    }
    return StreamingResponse(_blocks(spool, work), headers=headers, media_type=ZIP)


class _Into:
    """Where the zip is written to: the answer that waits for its client."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def write(self, content: bytes, /) -> None:
        if content:
            self._spool.put(content)


async def _blocks(spool: Spool, work: asyncio.Future[None]) -> AsyncIterator[bytes]:
    """The zip as it is written. One that breaks off has no end, and is not taken for a whole one."""
    try:
        while (block := await spool.take()) is not None:
            yield block
        await work
    finally:
        spool.close()


def _period(
    ledger: Ledger, since: datetime | None, until: datetime | None, first: int | None, last: int | None
) -> Collected:
    return collect_period(ledger, since=since, until=until, first=first, last=last)


_TOO_LARGE: Final = (
    "This bundle would hold {:,} events, and over HTTP it holds at most "
    f"{BUNDLE_ENTRIES_OVER_HTTP_MAX:,}. Ask for less, or make it on the command line: lethe bundle."
)

OPERATIONS = (make_bundle, make_receipt)
