"""Serves one application with uvicorn: `no-op`, the contender, or `lethe`. Both in the same way, one process each.

python -m bench.http_serve no-op|lethe PORT
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import uvicorn
from fastapi import FastAPI

HOST = "127.0.0.1"


def no_op_app() -> FastAPI:
    """One synchronous endpoint that reads nothing and does nothing."""
    app = FastAPI()

    @app.post("/no-op")
    def no_op() -> dict[str, bool]:
        return {"allowed": True}

    return app


def main() -> None:
    """Serve until told to stop."""
    which, port = sys.argv[1], int(sys.argv[2])
    with ExitStack() as stack:
        if which == "no-op":
            app = no_op_app()
        else:
            from api.bootstrap import running  # noqa: PLC0415  The no-op server must not pay for what it does not use.
            from api.http.app import create_app  # noqa: PLC0415
            from api.settings import Settings  # noqa: PLC0415

            app = create_app(stack.enter_context(running(Settings(), application="lethe-bench-http")))
        uvicorn.run(app, host=HOST, port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
