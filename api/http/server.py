"""The server: uvicorn, with a protocol that answers clients who stop in the middle of a body.

A client that closes its sending side before its body is complete has half a request in our hands. uvicorn drops the
connection; but what came before the cut was done and has to be answered (FAULTS 22), so the connection is kept until
the answer is out. What cannot be parsed as HTTP is answered with a problem like everything else.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api.http.limits import BODY_CUT
from api.http.problems import CONTENT_TYPE, MALFORMED, Problem

KEEP_ALIVE_SECONDS: Final = 30
CONNECTIONS_MAX: Final = 2000
"""Connections at a time; more are answered 503. Far above any campaign system's needs, below the file limit."""

DRAIN_SECONDS_MAX: Final = 30
"""How long requests under way may take when the server stops."""


class LetheProtocol(HttpToolsProtocol):
    """HTTP/1.1 with half-closed connections kept for their answers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn logs URLs as soon as anybody gives its logger a handler; ours are written by `observing`.
        self.access_log = False

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio asks for a bool; uvicorn declares None.
        """The client sends no more. An incomplete body is marked as cut, and the connection stays until the answer."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return None
        cycle.keep_alive = False
        if cycle.more_body:
            cycle.scope["state"][BODY_CUT] = "seen"
            cycle.more_body = False
            cycle.message_event.set()
        return True

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so as a problem."""
        content = orjson.dumps(Problem(MALFORMED, "This is not a valid HTTP request.").as_json())
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {len(content)}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()


def server_config(app: FastAPI, *, host: str, port: int) -> uvicorn.Config:
    """How the application is served, by `lethe serve` and in tests."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=LetheProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
        limit_concurrency=CONNECTIONS_MAX,
        backlog=2048,
    )
