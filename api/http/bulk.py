"""One way for bulk requests whose answer is one JSON object: rows as a JSON array, or as NDJSON lines."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from api.http.bodies import require_json, require_rows
from api.http.ndjson import LineFeed, beside
from api.http.operation import Call, json_answer
from api.http.problems import UNAVAILABLE, RequestRefused
from api.http.rows import RowWork, parsed_lines


def require_stream_place(call: Call) -> None:
    """Raise the problem when as many NDJSON bodies are being read as this process has threads for."""
    if call.desk.streams.available_tokens < 1:
        raise RequestRefused(UNAVAILABLE, "Too many NDJSON bodies are being read. Send it again after Retry-After.")


async def bulk_answer(call: Call, work: RowWork[Any], array: str | None, *, lines: bool = False) -> Response:
    """Carry out a bulk request. `array` is the body's member that holds the rows."""
    if lines and require_json(call.request, or_ndjson=True):
        return await _from_lines(call, work)
    body, raw = await call.body()
    rows = getattr(body, array or "")
    require_rows(rows)
    part = call.part(raw)
    gathered = work.gather()
    await call.run(work.carry_out, call.ledger, list(enumerate(rows)), actor=call.actor, part=part, gathered=gathered)
    return json_answer(gathered.answer(), replayed=gathered.was_replayed)


async def _from_lines(call: Call, work: RowWork[Any]) -> Response:
    require_stream_place(call)
    feed, gathered, part = LineFeed(call.request), work.gather(), call.part(b"")

    def carry_out() -> None:
        rows = parsed_lines(feed.lines(), gathered)
        work.carry_out(call.ledger, rows, actor=call.actor, part=part, gathered=gathered, cut=lambda: feed.ended_early)

    failure = await beside(feed, carry_out, call.desk.streams)
    if failure is not None:
        raise failure
    answer = gathered.answer()
    if feed.ended_early:
        answer["ended_early"] = True
    return json_answer(answer, replayed=gathered.was_replayed)
