"""Options that many commands share, and what they lead to: settings, a running instance, an account's ledger."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TextIO
from uuid import UUID

import typer

from api.bootstrap import Instance, running
from api.cli.failures import AS_JSON, CommandFailed, ExitCode
from api.cli.output import Output
from api.logs import configure_logs
from api.settings import Settings
from ledger.application import Ledger, tenants
from ledger.errors import UnknownAccount

ACTOR: Final = "cli"
STDIN: Final = "-"
ADDRESSES_MAX: Final = 10_000  # who needs it: a plan that a person still reads before it is applied


def _note_json(context: typer.Context, value: bool) -> bool:
    context.meta[AS_JSON] = value
    return value


JsonFlag = Annotated[
    bool,
    typer.Option("--json", help="Answer in JSON on standard output, and nothing else there.", callback=_note_json),
]
AccountOption = Annotated[
    str | None,
    typer.Option(
        "--account",
        envvar="LETHE_ACCOUNT",
        metavar="ID",
        help="The account's id. Not needed while there is only one.",
        show_default=False,
    ),
]
EmailOption = Annotated[
    list[str] | None,
    typer.Option(
        "--email",
        metavar="ADDRESS",
        help="An address; may be repeated. What stands on a command line can be seen in the machine's list of "
        "processes, so prefer --file, or --email - to read standard input.",
        show_default=False,
    ),
]
AddressFileOption = Annotated[
    Path | None,
    typer.Option("--file", help="A file with one address a line; - is standard input.", show_default=False),
]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Show what would be destroyed, and change nothing.")]


def settings() -> Settings:
    """The settings, with logs set up by them."""
    found = Settings()
    configure_logs(found)
    # A pool's own warnings about a database that is gone only repeat what the command says itself.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    return found


@contextmanager
def instance_of(found: Settings | None = None) -> Iterator[Instance]:
    """A running instance for one command."""
    with running(found or settings(), application="lethe-cli") as instance:
        yield instance


@contextmanager
def ledger_of(account: str | None) -> Iterator[tuple[Instance, Ledger]]:
    """A running instance and the ledger of the account meant. Raises `CommandFailed` where none is."""
    with instance_of() as instance:
        yield instance, chosen_ledger(instance, account)


def chosen_ledger(instance: Instance, account: str | None) -> Ledger:
    """The account named, or the only one there is. Raises `UnknownAccount` or `CommandFailed`."""
    known = tenants(instance.services.writer)
    if account is not None:
        try:
            tenant = UUID(account)
        except ValueError:
            raise CommandFailed(
                ExitCode.USAGE, "invalid_account", "An account's id is a UUID, as `lethe account list` shows it."
            ) from None
        if tenant not in known:  # Asked first: making a ledger makes its keys.
            raise UnknownAccount("There is no account with this id here. Open it first: lethe account open.")
        return instance.ledger(tenant)
    if len(known) == 1:
        return instance.ledger(known[0])
    if not known:
        raise CommandFailed(
            ExitCode.NOT_FOUND, "no_account", "There is no account yet. Open one: lethe account open --help."
        )
    raise CommandFailed(
        ExitCode.USAGE,
        "account_needed",
        f"There are {len(known)} accounts. Say which with --account ID or LETHE_ACCOUNT; see lethe account list.",
    )


def campaign_id(text: str) -> UUID:
    """A campaign's id from the command line. Raises `CommandFailed`."""
    try:
        return UUID(text)
    except ValueError:
        raise CommandFailed(
            ExitCode.USAGE, "invalid_campaign", "A campaign's id is a UUID, as `lethe campaign create` gave it."
        ) from None


def addresses(emails: Sequence[str] | None, file: Path | None) -> list[str]:
    """The addresses meant: from options, a file, standard input, or asked for at a terminal."""
    found = [email for email in emails or () if email != STDIN]
    if STDIN in (emails or ()) or (file is not None and str(file) == STDIN):
        found += _lines(sys.stdin)
    elif file is not None:
        with open_text(file) as text:
            found += _lines(text)
    if not found and not emails and file is None and sys.stdin.isatty():
        found = [typer.prompt("Address", err=True)]
    if not found:
        raise CommandFailed(
            ExitCode.USAGE,
            "no_address",
            "Give an address: --file FILE, --email - for standard input, or --email ADDRESS.",
        )
    if len(found) > ADDRESSES_MAX:
        raise CommandFailed(
            ExitCode.USAGE, "too_many_addresses", f"At most {ADDRESSES_MAX:,} addresses at once; split the file."
        )
    return found


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file in UTF-8, or standard input for `-`. Raises `CommandFailed` where it cannot be read."""
    if str(path) == STDIN:
        yield sys.stdin
        return
    try:
        text = path.open(encoding="utf-8-sig", newline=None)
    except OSError as error:
        raise CommandFailed(
            ExitCode.NOT_FOUND, "unreadable_file", f"{path.name} cannot be read: {os.strerror(error.errno or 0)}."
        ) from None
    with text:
        yield text


def require_files(paths: Sequence[Path]) -> None:
    """Raise `CommandFailed` for the first path that does not exist."""
    for path in paths:
        if not path.exists():
            raise CommandFailed(ExitCode.NOT_FOUND, "unreadable_file", f"There is no file {path}.")


def confirm(
    output: Output,
    question: str,
    *,
    yes: bool,
    refusal: str = "This destroys data. Look at it with --dry-run, then add --yes.",
) -> None:
    """Ask before something is destroyed; where nobody can be asked, `--yes` has to say it."""
    if yes:
        return
    if not sys.stdin.isatty() or output.as_json:
        raise CommandFailed(ExitCode.USAGE, "not_confirmed", refusal)
    if not typer.confirm(question, err=True):
        raise typer.Abort


def _lines(text: TextIO) -> list[str]:
    try:
        return [line.strip() for line in text if line.strip()]
    except UnicodeDecodeError:
        raise CommandFailed(
            ExitCode.REFUSED, "unreadable_file", "The addresses are not UTF-8; save the file as UTF-8."
        ) from None
