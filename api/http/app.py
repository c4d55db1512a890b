"""The HTTP application: every operation behind one door, problems for every error, and a page that explains it.

`create_app(instance)` wires the parts of this room. It holds no state of its own beyond caches and budgets, so any
number of processes may serve the same databases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager
from typing import Any, Final

from anyio import CapacityLimiter
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from api.bootstrap import Instance
from api.http.auth import Door
from api.http.background import ErasureRunner, watch_gate
from api.http.checks import CheckDesk
from api.http.docs_page import docs_endpoint
from api.http.limits import TokenBuckets
from api.http.metrics import Metrics
from api.http.observing import Observing
from api.http.openapi import TAGS, VERSION, components, operation_details
from api.http.operation import Desk, Operation, OperationRoute, answer_error, json_answer
from api.http.routes import (
    account,
    account_holders,
    authorisations,
    bundles,
    campaigns,
    certificates,
    consent_documents,
    consents,
    contacts,
    erasures,
    events,
    feedback,
    holds,
    log,
    past,
    permissions,
    policy,
    processing_records,
    proofs,
    records,
    registers,
    rights,
    suppressions,
    trail,
)
from api.http.routes.health import health_endpoints

API_VERSION: Final = "1"
THREADS: Final = 64
"""Blocking work at a time. Many wait for the same lock, and group commit lets them share a transaction."""

STREAMS: Final = 16
"""NDJSON bodies read at a time; each holds a thread for as long as its client takes."""

# The permission check comes first: routes are tried in order, and this one is asked most.
OPERATIONS: Final[tuple[Operation, ...]] = (
    *past.OPERATIONS,
    *permissions.OPERATIONS,
    *contacts.OPERATIONS,
    *consents.OPERATIONS,
    *campaigns.OPERATIONS,
    *authorisations.OPERATIONS,
    *feedback.OPERATIONS,
    *suppressions.OPERATIONS,
    *records.OPERATIONS,
    *rights.OPERATIONS,
    *erasures.OPERATIONS,
    *certificates.OPERATIONS,
    *holds.OPERATIONS,
    *events.OPERATIONS,
    *trail.OPERATIONS,
    *consent_documents.OPERATIONS,
    *bundles.OPERATIONS,
    *proofs.OPERATIONS,
    *registers.OPERATIONS,
    *processing_records.OPERATIONS,
    *policy.OPERATIONS,
    *account.OPERATIONS,
    *account_holders.OPERATIONS,
)

ABOUT: Final = (
    "A compliance and consent ledger for email marketing. Every contact, consent, send and deletion is an event that "
    "is never changed; personal data inside is sealed under keys that can be destroyed. No address ever stands in a "
    "URL, and no error repeats what was sent."
)


def create_app(instance: Instance) -> FastAPI:
    """The application on a running instance."""
    metrics = Metrics()
    threads = CapacityLimiter(THREADS)
    desk = Desk(
        instance=instance,
        door=Door(instance, threads),
        rates=TokenBuckets(instance.settings.requests_per_minute),
        checks=CheckDesk(),
        erasures=ErasureRunner(instance),
        threads=threads,
        streams=CapacityLimiter(STREAMS),
    )
    instance.services.on_key_revoked.append(desk.door.forget_key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch_gate(instance))
        yield
        watching.cancel()
        await desk.erasures.drain()
        desk.checks.close()

    app = FastAPI(
        title="Lethe",
        version=API_VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.desk = desk
    _add_routes(app, desk, metrics)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_middleware(Observing, metrics=metrics, settings=instance.settings)
    return app


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        tags = [{"name": name, "description": text} for name, text in TAGS.items()]
        document = get_openapi(
            title="Lethe", version=API_VERSION, openapi_version=VERSION, description=ABOUT, routes=app.routes, tags=tags
        )
        for path in document["paths"].values():
            for method in path.values():
                method["responses"].pop("422", None)
        document["components"] = components(OPERATIONS)
        app.openapi_schema = document
    return app.openapi_schema


def _add_routes(app: FastAPI, desk: Desk, metrics: Metrics) -> None:
    for operation in OPERATIONS:
        app.router.routes.append(
            OperationRoute(
                operation.path,
                _described,
                operation=operation,
                desk=desk,
                methods=[operation.method],
                name=operation.operation_id,
                operation_id=operation.operation_id,
                summary=operation.summary,
                description=operation.description,
                tags=[operation.tag],
                status_code=operation.status,
                response_model=None,
                openapi_extra=operation_details(operation),
            )
        )
    app.router.routes.extend(log.log_routes(desk))
    for path, endpoint in health_endpoints(desk.instance, metrics).items():
        app.add_route(path, endpoint, include_in_schema=False)
    app.add_route("/docs", docs_endpoint(lambda: openapi_document(app)), include_in_schema=False)

    async def document(_: Request) -> Response:
        return json_answer(openapi_document(app))

    app.add_route("/openapi.json", document, include_in_schema=False)


async def _described() -> None:
    """What FastAPI inspects in place of an operation: no parameters; the document names them itself."""


async def _answer_http_exception(request: Request, error: Exception) -> Response:
    """What the router refuses. It names the methods of the first route only; a path may have several."""
    response = answer_error(error, "unmatched")
    if response.status_code == 405:
        methods = {m for route in request.app.routes for m in _methods(route, request.scope)}
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def _methods(route: BaseRoute, scope: Scope) -> Set[str]:
    """The methods that a route takes for this path."""
    if not isinstance(route, Route) or route.matches(scope)[0] is Match.NONE:
        return set()
    return route.methods or set()
