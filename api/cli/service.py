"""`lethe serve`, `lethe worker`, `lethe migrate`, `lethe rebuild`: the program as a service, and its upkeep."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal

import structlog
import typer
import uvicorn

from api.bootstrap import Instance, embedded_server, embedded_urls, make_work
from api.cli.checks import examine, failed
from api.cli.checks_safety import HARD_CHECKS
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import AccountOption, JsonFlag, instance_of, ledger_of, settings
from api.cli.output import Output, counted
from api.http.app import create_app
from api.http.server import server_config
from api.settings import Settings
from ledger.errors import SettingsRefused
from ledger.migrate import migrate_ledger, migrate_vault
from projections.rebuild import REBUILDABLE, rebuild

STOP_SECONDS_MAX: Final = 30  # a request under way may finish; then the server goes
BACKLOG: Final = 2048
ProjectionName = Literal["standing", "campaign_view", "change_feed", "observed"]

log = structlog.get_logger("lethe.cli")


def serve(
    host: Annotated[str | None, typer.Option(help="Default: LETHE_HOST.", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Default: LETHE_PORT; 0 picks a free one.", show_default=False)
    ] = None,
    worker: Annotated[
        bool | None,
        typer.Option("--worker/--no-worker", help="Run a worker in this process as well. Default: on a laptop."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve the HTTP API and its docs page, until interrupted."""
    output = Output(as_json)
    found = settings()
    refuse_unsafe(found)
    beside = found.environment != "production" if worker is None else worker
    chosen = found.port if port is None else port

    def ready(url: str) -> None:
        said = f"Serving on {url}. Docs: {url}/docs. Stop with Ctrl-C."
        output.answer({"url": url, "docs": f"{url}/docs", "worker": beside}, said)

    with instance_of(found) as instance:
        serve_instance(instance, host=host or found.host, port=chosen, worker=beside, ready=ready)


def run_worker(as_json: JsonFlag = False) -> None:
    """Keep projections up to date, publish the logs and finish erasures, until stopped.

    Any number of workers may run.
    """
    output = Output(as_json)
    found = settings()
    refuse_unsafe(found)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with instance_of(found) as instance:
        output.answer({"working": True}, "Working. Stop with Ctrl-C.")
        work = make_work(instance)
        worker = work.pop("worker")
        with _beside(work, stop):
            worker(stop)


def migrate(as_json: JsonFlag = False) -> None:
    """Bring both databases up to date.

    Runs as their owner: LETHE_LEDGER_OWNER_URL and LETHE_VAULT_OWNER_URL.
    """
    output = Output(as_json)
    found = settings()
    if found.ledger_url is None and found.ledger_owner_url is None:
        with embedded_server(found) as server:
            embedded_urls(server)
        output.answer({"ledger": [], "vault": []}, "The embedded databases are up to date.")
        return
    if found.ledger_owner_url is None or found.vault_owner_url is None:
        raise SettingsRefused("Migrations run as the owner: set LETHE_LEDGER_OWNER_URL and LETHE_VAULT_OWNER_URL.")
    applied = {
        "ledger": migrate_ledger(found.ledger_owner_url, login=False),
        "vault": migrate_vault(found.vault_owner_url, login=False),
    }
    said = [f"{name}: {', '.join(names) if names else 'up to date'}" for name, names in applied.items()]
    output.answer(applied, *said)


def rebuild_projection(
    name: Annotated[ProjectionName, typer.Argument(help=f"One of {', '.join(REBUILDABLE)}.")],
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Build a projection again, while the old one serves.

    It comes from the log alone. What was erased stays erased.
    """
    output = Output(as_json)
    with ledger_of(account) as (instance, ledger):
        ledger.account()
        with output.progress(f"Rebuilding {name}") as bar:
            done = rebuild(ledger, instance.rebuilder, name, bar.to)
    output.answer(
        {"rebuilt": done.projection, "position": done.position},
        f"Rebuilt {done.projection} from {counted(done.position, 'event')}; the new one serves.",
    )


def refuse_unsafe(found: Settings) -> None:
    """In production, refuse to start while a promise does not hold. Raises `CommandFailed`."""
    if found.environment != "production":
        return
    bad = failed(examine(found, HARD_CHECKS), hard_only=True)
    if bad:
        said = "; ".join(f"{finding.check}: {finding.seen}" for finding in bad)
        raise CommandFailed(ExitCode.SETTINGS, "unsafe", f"Not started. {said}. For what to do, run: lethe doctor")


def serve_instance(
    instance: Instance,
    *,
    host: str,
    port: int,
    worker: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve a running instance until interrupted. `ready` is told the URL once the port is ours."""
    config = server_config(create_app(instance), host=host, port=port)
    beside = make_work(instance) if worker else {}
    with _listening(host, port) as listener, _beside(beside, threading.Event()):
        url = _url(listener)
        ready(url)
        _run(uvicorn.Server(config), listener)
        log.info("stopped")


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run until a signal comes. The server lets requests end, then raises the signal again for us to take."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # From here on clients wait rather than being turned away.
    except OSError:
        listener.close()
        raise CommandFailed(
            ExitCode.REFUSED,
            "port_taken",
            f"Port {port} of {host} cannot be had. Take another: --port 0 picks a free one.",
        ) from None
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    address: Any = listener.getsockname()
    host = address[0] if ":" not in address[0] else f"[{address[0]}]"
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{address[1]}"  # noqa: S104  shown, not bound


@contextmanager
def _beside(work: Mapping[str, Callable[[threading.Event], None]], stop: threading.Event) -> Iterator[None]:
    """Each of these in a thread of its own for the length of the block."""
    threads = [
        threading.Thread(target=run, args=(stop,), name=f"lethe-{name}", daemon=True) for name, run in work.items()
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(STOP_SECONDS_MAX)
