"""`lethe demo`: the whole story on a database of its own, then the API to play with."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from api.bootstrap import Instance, running
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, JsonFlag, settings
from api.cli.output import Output
from api.cli.service import serve_instance
from api.demo.audience import Controller
from api.demo.story import Story, went_well
from api.demo.telling import Teller
from api.settings import Settings
from ledger.application import API_SCOPES
from ledger.embedded import EmbeddedPostgres

CONTACTS_MIN: Final = 50  # fewer would leave some chapters without a single example
CONTACTS_MAX: Final = 1_000_000
MARKER: Final = ".a-demo-of-lethe"


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the story, and serve nothing.")] = False,
    contacts: Annotated[
        int, typer.Option(min=CONTACTS_MIN, max=CONTACTS_MAX, help="How many people to make up.")
    ] = 20_000,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Use this new folder, and leave it for you to look at. Default: demo in LETHE_DATA_DIR, "
            "which the next demo wipes.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to serve on; 0 picks a free one.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Watch Lethe do its whole job, on a database of its own.

    Two shops import their lists, record consents, send campaigns, forget a person, and prove it.
    """
    output = Output(as_json)
    found = settings()
    folder = keep or found.data_dir / "demo"
    _clear(folder, wipe=keep is None)
    (folder / "files").mkdir()
    teller = Teller(output)
    teller.say("This is Lethe. The ledger remembers every act, and can forget every person.")
    with ExitStack() as stack:
        with teller.progress("Starting PostgreSQL"):
            instance = stack.enter_context(running(_own_settings(found, folder), application="lethe-demo"))
        story = Story(instance, folder / "files", contacts, teller)
        summary = story.tell()
        good = went_well(summary)
        teller.say("")
        teller.verdict(good, _closing(good, summary["seconds"], folder))
        if as_json:
            output.line(summary)
        if good and not once:
            _serve(instance, story.controllers[0], teller, port)
    if not good:
        raise typer.Exit(ExitCode.REFUSED)


def _own_settings(found: Settings, folder: Path) -> Settings:
    """The demo's own database and keys, whatever the environment names for others."""
    data_dir = folder / "lethe"
    own = {
        "data_dir": data_dir,
        "key_folders": [data_dir / "keys-a", data_dir / "keys-b"],
        "environment": "laptop",
        "ledger_url": None,
        "reader_url": None,
        "rebuilder_url": None,
        "vault_url": None,
    }
    return found.model_copy(update=own)


def _clear(folder: Path, *, wipe: bool) -> None:
    """An empty folder that is marked as a demo's. Wipes only what a demo made. Raises `CommandFailed`."""
    if folder.exists() and any(folder.iterdir()):
        if not wipe or not (folder / MARKER).exists():
            raise CommandFailed(
                ExitCode.REFUSED, "folder_in_use", f"{folder} is not empty. Name a new folder: lethe demo --keep FOLDER"
            )
        if EmbeddedPostgres(folder / "lethe" / "postgres").running:
            raise CommandFailed(
                ExitCode.REFUSED,
                "demo_running",
                f"A demo is running in {folder}. Stop it, or: lethe demo --keep FOLDER",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def _closing(good: bool, seconds: float, folder: Path) -> str:
    if not good:
        return f"Something did not hold; see the crosses above. The databases are in {folder}."
    return f"Every promise held, in {seconds:.0f} seconds. Databases, keys and files are in {folder}."


def _serve(instance: Instance, controller: Controller, teller: Teller, port: int) -> None:
    """Serve what the story left, with a key to try it."""
    key = controller.ledger.issue_api_key(API_SCOPES, actor=ACTOR)

    def ready(url: str) -> None:
        teller.chapter("Now it is yours")
        teller.say(f"The API of {controller.name} is served on {url}, with its docs page: {url}/docs")
        teller.say(f"An API key for it, which ends with this demo: {key}")
        teller.say("For example:")
        body = '{"email": "nobody@example.com", "purpose": "newsletter", "channel": "email"}'
        teller.copied(f"curl -s {url}/v1/permissions/check -H 'Authorization: Bearer {key}' --json '{body}'")
        teller.say("Stop with Ctrl-C.")

    serve_instance(instance, host="127.0.0.1", port=port, worker=True, ready=ready)
