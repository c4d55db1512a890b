"""Operations: what one endpoint is, said once, for the router, for the OpenAPI document and for the door.

An operation names its scopes, its body and its answer. `OperationRoute` is a FastAPI route whose handler is ours:
caller, rate, then the operation itself, with every exception turned into a problem; there is no dependency tree to
solve for each request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, ParamSpec, TypeVar
from uuid import UUID

import orjson
import structlog
from anyio import CapacityLimiter, to_thread
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from api.bootstrap import Instance
from api.http.auth import Caller, Door
from api.http.background import ErasureRunner
from api.http.bodies import idempotency_key, json_body
from api.http.checks import CheckDesk
from api.http.limits import TokenBuckets, require_rate
from api.http.problems import INTERNAL, NOT_FOUND, Problem, RequestRefused, problem_of
from api.http.replays import REPLAYED_HEADER
from ledger.application import Ledger
from ledger.idempotency import IdempotentPart

CAMPAIGN: Final = "campaign"
OFFICER: Final = "officer"
AUDITOR: Final = "auditor"

CALLER_STATE: Final = "lethe_caller"
JSON_OPTIONS: Final = orjson.OPT_UTC_Z

log = structlog.get_logger("lethe.http")

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Desk:
    """What operations share within one process."""

    instance: Instance
    door: Door
    rates: TokenBuckets
    checks: CheckDesk
    erasures: ErasureRunner
    threads: CapacityLimiter
    streams: CapacityLimiter


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter or path segment, for the document."""

    name: str
    place: str
    schema: dict[str, Any]
    description: str


@dataclass(frozen=True)
class Operation:
    """One endpoint.

    `ndjson` is the model of a line where NDJSON is taken, `streamed` that of a line where it is answered;
    `media_types` are others that the answer can be had in; `answer` is None where it cannot be had as JSON.
    """

    method: str
    path: str
    operation_id: str
    summary: str
    description: str
    tag: str
    scopes: frozenset[str]
    respond: Callable[[Call], Awaitable[Response]]
    body: type[BaseModel] | None
    answer: type[BaseModel] | None
    status: int
    ndjson: type[BaseModel] | None = None
    rows: tuple[type[BaseModel], ...] = ()
    streamed: type[BaseModel] | None = None
    keyed: bool = False
    parameters: tuple[Parameter, ...] = ()
    media_types: tuple[str, ...] = ()

    @cached_property
    def body_adapter(self) -> TypeAdapter[Any]:
        """The body's checker, built once."""
        assert self.body is not None
        return TypeAdapter(self.body)


def operation(
    method: str, path: str, operation_id: str, **parts: Any
) -> Callable[[Callable[[Call], Awaitable[Response]]], Operation]:
    """Make an operation of the function below; its docstring is the description."""
    parts.setdefault("status", 200)
    parts.setdefault("body", None)
    scopes = frozenset(parts.pop("scopes"))

    def declare(respond: Callable[[Call], Awaitable[Response]]) -> Operation:
        text = " ".join((respond.__doc__ or "").split())
        return Operation(method, path, operation_id, description=text, scopes=scopes, respond=respond, **parts)

    return declare


@dataclass(slots=True)
class Call:
    """One request that was let in."""

    request: Request
    caller: Caller
    operation: Operation
    desk: Desk
    ledger: Ledger

    @property
    def actor(self) -> str:
        """The name that facts are recorded under."""
        return self.caller.actor

    async def body(self) -> tuple[Any, bytes]:
        """The checked JSON body and its bytes."""
        return await json_body(self.request, self.operation.body_adapter, self.desk.instance.settings.body_bytes_max)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run blocking work in a thread."""
        return await to_thread.run_sync(lambda: work(*args, **kwargs), limiter=self.desk.threads)

    def path_id(self, name: str) -> UUID:
        """An id of the path. Raises the problem for anything that is none: there is nothing with such an id."""
        try:
            return UUID(self.request.path_params[name])
        except ValueError:
            raise RequestRefused(NOT_FOUND, "There is nothing with this id in this account.") from None

    def part(self, content: bytes) -> IdempotentPart | None:
        """The request as an idempotent part, None without Idempotency-Key. `content` is what must be the same."""
        key = idempotency_key(self.request.headers)
        if key is None:
            return None
        return IdempotentPart.of(self.caller.tenant, self.operation.path, key, content)


def json_answer(value: Any, status: int = 200, *, replayed: bool = False) -> Response:
    """An answer as JSON."""
    headers = {REPLAYED_HEADER: "true"} if replayed else None
    return Response(orjson.dumps(value, option=JSON_OPTIONS), status, headers, "application/json")


class OperationRoute(APIRoute):
    """A route that runs an operation: the door, the rate, the work, and one place where exceptions become problems."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        self.operation: Operation = kwargs.pop("operation")
        self.desk: Desk = kwargs.pop("desk")
        super().__init__(path, endpoint, **kwargs)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler: no dependencies, no response model."""
        operation, desk = self.operation, self.desk
        scopes, path, respond = operation.scopes, operation.path, operation.respond

        async def handle(request: Request) -> Response:
            try:
                desk.instance.watch.require_open()
                caller = await desk.door.admit(request, scopes, path)
                request.scope[CALLER_STATE] = caller.key_id
                require_rate(desk.rates, (caller.tenant, caller.key_id))
                ledger = desk.instance.held_ledger(caller.tenant)
                if ledger is None:
                    ledger = await to_thread.run_sync(desk.instance.ledger, caller.tenant, limiter=desk.threads)
                return await respond(Call(request, caller, operation, desk, ledger))
            except Exception as error:  # noqa: BLE001  The edge: every exception becomes a problem, unknown ones logged.
                return answer_error(error, path)

        return handle


def answer_error(error: Exception, route: str) -> Response:
    """The answer that an exception becomes."""
    return reported(error, route).response()


def reported(error: Exception, route: str) -> Problem:
    """The problem of an exception; one with an id is logged under it, by type and place and without its text."""
    problem = problem_of(error)
    if "id" in problem.members:
        level = log.error if problem.kind is INTERNAL else log.critical
        level("request_failed", id=problem.members["id"], route=route, error=type(error).__name__, at=_places(error))
    return problem


def _places(error: Exception) -> list[str]:
    """Where it was raised: files, lines and functions, never values. The innermost dozen."""
    places = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return places[-12:]
