"""`lethe register`: what the account states about its processing (GDPR Art. 30): declare, amend, retire, list, seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, get_args

import typer

from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, AccountOption, JsonFlag, ledger_of, open_text
from api.cli.output import Output, counted
from api.processing import record_entries_shown
from api.register_files import FILE_CHARACTERS_MAX, entries_said, entry_row, statements_in
from domain.facts import Fact, opened
from domain.register import ENDINGS, KIND_OF, KINDS, EntryRetired, Kind, RegisterFact, amend, declare, in_turn
from domain.register import retire as retirement
from ledger.registers import Changed
from retention.policy.seeding import Seeded, seed

registers = typer.Typer(help="The registers: activities, recipients, safeguards of transfers, and who is answerable.")

TITLES: Final = ("kind", "key", "name", "since", "changed", "words")

FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Entries in TOML or JSON, in tables as a policy pack has them: party, safeguard, recipient, activity. "
        "- is standard input.",
    ),
]
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help=f"One of {', '.join(KINDS)}.")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The entry's key.")]
SinceOption = Annotated[
    str | None,
    typer.Option(metavar="YYYY-MM-DD", help="The day from which it has been true; now without it.", show_default=False),
]


@registers.command("declare")
def declare_entries(
    file: FileArgument, since: SinceOption = None, account: AccountOption = None, as_json: JsonFlag = False
) -> None:
    """Enter new entries, all of a file or none.

    What stands there in the same words already is left as it is.
    """
    _state(file, since, account, as_json, amending=False)


@registers.command("amend")
def amend_entries(
    file: FileArgument, since: SinceOption = None, account: AccountOption = None, as_json: JsonFlag = False
) -> None:
    """Describe entries anew, all of a file or none; each is given whole.

    To start from what stands there: lethe register show KIND KEY > FILE.
    """
    _state(file, since, account, as_json, amending=True)


@registers.command("retire")
def retire_entry(
    kind: KindArgument,
    key: KeyArgument,
    reason: Annotated[str, typer.Option(help=f"One of {', '.join(ENDINGS)}.")] = "ended",
    since: SinceOption = None,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End an entry. What was stated of it stays in the log."""
    output = Output(as_json)
    of_kind = _kind(kind)
    with ledger_of(account) as (_, ledger):
        changed = ledger.registers.change(
            lambda register: retirement(register, of_kind, key, reason), actor=ACTOR, since=day_of_option(since)
        )
    _tell(output, changed, same=f"The {kind} {key} was retired before.")


@registers.command("show")
def show_entry(kind: KindArgument, key: KeyArgument, account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Show one entry whole, as the JSON that declare and amend take."""
    output = Output(as_json)
    of_kind = _kind(kind)
    with ledger_of(account) as (_, ledger):
        entry = ledger.registers.state().entry(of_kind, key)
        if entry is None:
            raise CommandFailed(ExitCode.NOT_FOUND, "not_declared", f"There is no {kind} of this key.")
        record_entries_shown(ledger, [entry], actor=ACTOR)
    output.line(entries_said([entry]))


@registers.command("list")
def list_entries(
    kind: Annotated[str | None, typer.Option(help=f"One of {', '.join(KINDS)}.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Retired entries as well.")] = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the entries in force."""
    output = Output(as_json)
    kinds: Sequence[Kind] = KINDS if kind is None else (_kind(kind),)
    with ledger_of(account) as (_, ledger):
        ledger.account()
        register = ledger.registers.state()
        entries = [entry for of in kinds for entry in (register.of_kind(of) if every else register.in_force(of))]
        if as_json:
            record_entries_shown(ledger, entries, actor=ACTOR)
    if as_json:
        for entry in entries:
            output.line(entry_row(entry))
        return
    rows = []
    for entry in entries:
        words = f"of {entry.stated.source}" if entry.stated.source else "your own"
        if not entry.in_force:
            words = f"retired on {entry.retired_at:%Y-%m-%d}: {entry.ending}"
        days = (entry.declared_at.date(), entry.changed_at.date())
        rows.append((entry.kind, entry.key, opened(entry.stated.name), *days, words))
    output.table(TITLES, rows)
    output.say(f"{counted(len(entries), 'entry', 'entries')}.")


@registers.command("seed")
def seed_registers(account: AccountOption = None, as_json: JsonFlag = False) -> None:
    """Begin the registers with what the account's policy pack says.

    It can be repeated: what you amended or retired is left as it is, and named.
    """
    output = Output(as_json)
    with ledger_of(account) as (_, ledger):
        found = seed(ledger, actor=ACTOR)
    output.answer(_seeded_row(found), *_seeded_said(found))


def _state(file: Path, since: str | None, account: str | None, as_json: bool, *, amending: bool) -> None:
    output = Output(as_json)
    day = day_of_option(since)
    stated = statements_in(_read(file))
    with ledger_of(account) as (_, ledger):
        decide = in_turn([_decision(one, amending=amending) for one in stated])
        changed = ledger.registers.change(decide, actor=ACTOR, since=day)
    _tell(output, changed, same="Everything stands there in these words already.")


def _decision(stated: RegisterFact, *, amending: bool) -> Any:
    return lambda register: (amend if amending else declare)(register, stated)


def _tell(output: Output, changed: Changed, *, same: str) -> None:
    names = [_name(fact) for fact in changed.facts]
    output.answer({"recorded": names}, *(f"{name}." for name in names) if names else (same,))


def _name(fact: Fact) -> str:
    what = fact.TOPIC.split(".")[1].rpartition("_")[2]
    if isinstance(fact, EntryRetired):
        return f"{what} {fact.kind} {fact.key}"
    assert isinstance(fact, RegisterFact)
    return f"{what} {KIND_OF[type(fact)]} {fact.key}"


def _seeded_row(found: Seeded) -> dict[str, Any]:
    return {
        "pack": found.pack,
        "version": found.version,
        "declared": found.declared,
        "amended": found.amended,
        "same": found.same,
        "left": found.left,
    }


def _seeded_said(found: Seeded) -> list[str]:
    numbers = f"{len(found.declared)} declared, {len(found.amended)} amended, {len(found.same)} as they were"
    said = [f"From {found.pack} {found.version}: {numbers}, {len(found.left)} left as they are."]
    return said + [f"  {name}: {why}" for name, why in found.left.items()]


def _kind(text: str) -> Kind:
    for kind in get_args(Kind):
        if kind == text:
            found: Kind = kind
            return found
    raise CommandFailed(ExitCode.USAGE, "unknown_kind", f"A kind is one of {', '.join(KINDS)}.")


def day_of_option(text: str | None) -> date | None:
    """A day from the command line, None where none was given. Raises `CommandFailed`."""
    return None if text is None else day_of(text)


def day_of(text: str) -> date:
    """A day from the command line. Raises `CommandFailed`."""
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise CommandFailed(ExitCode.USAGE, "invalid_day", "Write a day as YYYY-MM-DD.")


def _read(file: Path) -> str:
    with open_text(file) as text:
        try:
            return text.read(FILE_CHARACTERS_MAX + 1)
        except UnicodeDecodeError:
            raise CommandFailed(
                ExitCode.REFUSED, "unreadable_file", "The file is not UTF-8; save it as UTF-8."
            ) from None
