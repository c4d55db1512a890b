"""The transparency log over HTTP, as C2SP tlog-tiles lays it out: static files, made from rows when asked for.

    /log/{tenant}/checkpoint                     the signed checkpoint, with its cosignatures
    /log/{tenant}/tile/<level>/<number>[.p/<w>]  hashes
    /log/{tenant}/tile/entries/<number>[.p/<w>]  entries, for auditors of the account

`/log/{tenant}` is the origin of the account's first series; a later one, which only an accepted loss opens, has its
number behind. Checkpoints and hashes say nothing of anybody and are public unless LETHE_LOG_PUBLIC says otherwise.
These paths are the specification's, so they are no operations of ours and stand outside of the OpenAPI document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Final
from uuid import UUID

from anyio import to_thread
from fastapi.routing import APIRoute
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response

from api.bootstrap import Instance
from api.http.limits import TokenBuckets, require_rate
from api.http.operation import AUDITOR, CALLER_STATE, Desk, answer_error
from api.http.problems import NOT_FOUND, RequestRefused
from audit.log.entry_bundles import entry_bundle
from audit.log.errors import LogContradiction, TileMissing
from audit.log.reading import reading
from audit.log.served import served
from audit.log.store import PublishedCheckpoint, tile_reader
from audit.verify.errors import TileRefused, VerificationRefused
from audit.verify.merkle import HASH_BYTES
from audit.verify.tiles import ENTRIES, TILE_WIDTH, ProvenTiles, TileName, width_at

CHECKPOINT: Final = "text/plain; charset=utf-8"
OCTETS: Final = "application/octet-stream"
FULL_TILE_SECONDS: Final = 31_536_000
"""How long a full tile may be kept by caches: it never changes, and a year is what they take for ever."""

AUDITORS: Final = frozenset({AUDITOR})

_TENANT: Final = re.compile(r"[0-9a-f]{32}")
_HYPHENATED: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SERIES: Final = re.compile(r"[1-9][0-9]{0,4}")
SERIES_MAX: Final = 32_767
"""Who needs it: the column that holds the number; no log was ever lost so often."""

Answer = Callable[[Instance, UUID, int, TileName | None], Response]


class LogRoute(APIRoute):
    """A route of the log: the gate, the door where it is not public, the rate, and the answer."""

    def __init__(self, path: str, desk: Desk, rates: TokenBuckets, answer: Answer) -> None:
        self.desk, self.rates, self.answer = desk, rates, answer
        super().__init__(path, _described, methods=["GET"], name=path, include_in_schema=False, response_model=None)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler: every exception becomes a problem."""
        desk, path = self.desk, self.path

        async def handle(request: Request) -> Response:
            try:
                desk.instance.watch.require_open()
                tenant, series, name = _place(request)
                await self._admit(request, tenant, name)
                return await to_thread.run_sync(self.answer, desk.instance, tenant, series, name, limiter=desk.threads)
            except Exception as error:  # noqa: BLE001  The edge: every exception becomes a problem.
                return answer_error(error, path)

        return handle

    async def _admit(self, request: Request, tenant: UUID, name: TileName | None) -> None:
        """Entries are for auditors of the account; hashes and checkpoints for everybody, unless the settings differ."""
        entries = name is not None and name.level == ENTRIES
        if self.desk.instance.settings.log_public and not entries:
            require_rate(self.rates, tenant)
            return
        caller = await self.desk.door.admit(request, AUDITORS, self.path)
        request.scope[CALLER_STATE] = caller.key_id
        require_rate(self.desk.rates, (caller.tenant, caller.key_id))
        if caller.tenant != tenant:
            raise _nothing()


def log_routes(desk: Desk) -> list[LogRoute]:
    """The routes of every account's log."""
    # Buckets of their own: strangers who ask for many logs must not fill those of API keys.
    rates = TokenBuckets(desk.instance.settings.requests_per_minute)
    return [
        LogRoute("/log/{tenant}/checkpoint", desk, rates, _checkpoint),
        LogRoute("/log/{tenant}/tile/{name:path}", desk, rates, _tile),
        LogRoute("/log/{tenant}/{series}/checkpoint", desk, rates, _checkpoint),
        LogRoute("/log/{tenant}/{series}/tile/{name:path}", desk, rates, _tile),
    ]


async def _described() -> None:
    """What FastAPI inspects: no parameters."""


def _place(request: Request) -> tuple[UUID, int, TileName | None]:
    """Which log, which series, and which tile: every number has one spelling, and all others are not there."""
    asked = request.path_params
    series = asked.get("series", "1")
    if _HYPHENATED.fullmatch(asked["tenant"]):
        raise RequestRefused(NOT_FOUND, "A log is named by its account's id in 32 hex digits, without hyphens.")
    if not _TENANT.fullmatch(asked["tenant"]) or not _SERIES.fullmatch(series) or int(series) > SERIES_MAX:
        raise _nothing()
    if "series" in asked and series == "1":  # The first series has no number in its origin.
        raise _nothing()
    if "name" not in asked:
        return UUID(hex=asked["tenant"]), int(series), None
    try:
        return UUID(hex=asked["tenant"]), int(series), TileName.parse(f"tile/{asked['name']}")
    except TileRefused:
        raise _nothing() from None


def _checkpoint(instance: Instance, tenant: UUID, series: int, _: TileName | None) -> Response:
    with reading(instance.services.reader, tenant) as connection:
        found = served(connection, tenant, instance.witnesses, series=series)
    if found is None:
        raise RequestRefused(NOT_FOUND, "There is no such log here, or nothing of it was published yet.")
    return Response(found.note.encode(), headers={"Content-Type": CHECKPOINT, "Cache-Control": "no-store"})


def _tile(instance: Instance, tenant: UUID, series: int, name: TileName | None) -> Response:
    assert name is not None
    with reading(instance.services.reader, tenant) as connection:
        found = served(connection, tenant, instance.witnesses, series=series)
        if found is None or name.width > width_at(name.level, name.number, found.checkpoint.size):
            raise _nothing()
        content = _content(connection, found.checkpoint, name)
    public = instance.settings.log_public and name.level != ENTRIES
    return Response(content, headers={"Content-Type": OCTETS, "Cache-Control": _caching(name, public=public)})


def _content(connection: Connection[Any], checkpoint: PublishedCheckpoint, name: TileName) -> bytes:
    """A tile, or the entries under one, after it was seen to lead to the signed root: caches would keep a false one."""
    tenant, series = checkpoint.tenant, checkpoint.series
    proven = ProvenTiles(tile_reader(connection, tenant, series=series), checkpoint.size, checkpoint.root)
    try:
        hashes = proven.tile(0 if name.level == ENTRIES else name.level, name.number)
    except (TileMissing, VerificationRefused) as refused:
        raise LogContradiction(f"{name.path()} is not what was published. {refused} Run: lethe fsck") from None
    if name.level == ENTRIES:
        return entry_bundle(connection, tenant, name.number, name.width, series=series)
    return hashes[: name.width * HASH_BYTES]


def _caching(name: TileName, *, public: bool) -> str:
    if name.width < TILE_WIDTH:
        return "no-store"
    return f"{'public' if public else 'private'}, max-age={FULL_TILE_SECONDS}"


def _nothing() -> RequestRefused:
    return RequestRefused(NOT_FOUND, "There is no such log here, or it has no such tile.")
