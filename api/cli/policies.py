"""`lethe policy`: what a policy pack says, whether it is well written, and how it is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import typer

from api.bootstrap import Instance
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import AccountOption, JsonFlag, chosen_ledger, instance_of
from api.cli.output import Output, counted
from api.policy_page import policy_json, policy_page
from ledger.application import Ledger, tenants
from retention.policy.adopting import pack_of
from retention.policy.figures import read_figures
from retention.policy.pack import Mistake, Pack, PackInvalid, load_pack, read_pack
from retention.policy.report import STATUS_WORDS, ClauseReport, KeptBy, PolicyReport, policy_report

policies = typer.Typer(help="Check policy packs, and report clause by clause how they are kept.")

SUFFIX: Final = ".toml"
TITLES: Final = ("clause", "status", "kept by", "figures")


@policies.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A policy pack of yours, in TOML.")],
    as_json: JsonFlag = False,
) -> None:
    """Read a policy pack and explain every mistake in it by its line. Changes nothing."""
    output = Output(as_json)
    try:
        pack = _read(file)
        mistakes = [_no_control(pack, number) for number in _without_control(pack)]
    except PackInvalid as error:
        pack, mistakes = None, list(error.mistakes)
    if as_json:
        found = [{"line": mistake.line, "text": mistake.text} for mistake in mistakes]
        output.line({"file": file.name, "valid": not mistakes, "mistakes": found, **_summary(pack)})
    for mistake in mistakes:
        output.say(f"{file.name}:{mistake.line}: {mistake.text}")
    if mistakes or pack is None:
        output.say(f"{counted(len(mistakes), 'mistake')}.")
        raise typer.Exit(ExitCode.REFUSED)
    output.say(f"{pack.title}, version {pack.version}: {counted(len(pack.clauses), 'clause')}, no mistake.")


@policies.command("report")
def report(
    pack: Annotated[str, typer.Argument(help="The name of a pack, such as mailkai, or a pack's file.")],
    account: AccountOption = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page into this file.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Report each clause of a policy with what keeps it, live figures, and what is late.

    Without --account it covers every account that lives under the policy.
    """
    output = Output(as_json)
    with instance_of() as instance:
        tenant, made = _report(instance, pack, account)
    if html is not None:
        with _writing(html):
            html.write_text(policy_page(made, tenant), encoding="utf-8")
        output.note(f"Wrote {html}.")
    if as_json:
        output.line(policy_json(made, tenant))
    else:
        _tell(output, made)
    if made.failed:
        raise typer.Exit(ExitCode.REFUSED)


def _report(instance: Instance, name: str, account: str | None) -> tuple[UUID | None, PolicyReport]:
    own = _read(Path(name)) if name.endswith(SUFFIX) else None
    if account is not None:
        ledger = chosen_ledger(instance, account)
        pack = own or _pack_of(ledger, name)
        ledgers, tenant = [ledger], ledger.tenant
    else:
        pack = own or load_pack(name)
        every = (instance.ledger(tenant) for tenant in tenants(instance.services.writer))
        ledgers, tenant = [ledger for ledger in every if ledger.account().pack == pack.name], None
    now = instance.services.clock()
    return tenant, policy_report(pack, read_figures(ledgers, instance.services.vault, now), now)


def _pack_of(ledger: Ledger, name: str) -> Pack:
    """The version of the pack that the account lives under; another pack than its own is a mix-up."""
    load_pack(name)
    state = ledger.account()
    if state.pack != name:
        raise CommandFailed(
            ExitCode.USAGE, "other_policy", f"This account lives under {state.pack}, not under {name}. Report that."
        )
    return pack_of(state)


def _tell(output: Output, made: PolicyReport) -> None:
    pack = made.pack
    covered = counted(len(made.figures.each), "account")
    output.say(f"{pack.title}, version {pack.version}, from {pack.effective_from} on: {covered}.")
    output.table(TITLES, [row for found in made.clauses for row in _rows(found)])
    output.say("")
    output.say(", ".join(f"{STATUS_WORDS[status]}: {count}" for status, count in made.counts.items() if count) + ".")
    if made.pending:
        output.say("No control yet: " + ", ".join(f"{name} ({n})" for name, n in made.pending.items()) + ".")
    if made.failed:
        output.note("The report fails: a clause has no control at all. Name one in the pack.")


def _rows(found: ClauseReport) -> Iterator[list[str]]:
    """A clause as rows of the table: each control on a row of its own, beside the figures in their order."""
    lines = [*found.figures.lines, *(f"LATE: {line}" for line in found.figures.late)]
    said = [f"{found.clause.number}  {found.clause.title}", STATUS_WORDS[found.status]]
    for by, line in zip_longest(found.kept_by, lines):
        yield [*said, "" if by is None else _kept_by(by), line or ""]
        said = ["", ""]


def _kept_by(by: KeptBy) -> str:
    if by.control is None:
        return f"{by.kind}: NO CONTROL"
    return f"{by.kind}: {by.control}{'' if by.built else ' (no control yet)'}"


def _read(file: Path) -> Pack:
    try:
        return read_pack(file)
    except OSError as error:
        said = os.strerror(error.errno or 0)
        raise CommandFailed(ExitCode.NOT_FOUND, "unreadable_file", f"{file.name} cannot be read: {said}.") from None


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        said = os.strerror(error.errno or 0)
        raise CommandFailed(ExitCode.NOT_FOUND, "unwritable_file", f"{file} cannot be written: {said}.") from None


def _without_control(pack: Pack) -> list[str]:
    return [clause.number for clause in pack.clauses if any(k.control is None for k in clause.keepings)]


def _no_control(pack: Pack, number: str) -> Mistake:
    said = f'Clause {number!r} has no control, so every report of this pack fails. Name one: control = "…".'
    return Mistake(pack.clause(number).line, said)


def _summary(pack: Pack | None) -> dict[str, object]:
    if pack is None:
        return {}
    return {"pack": pack.name, "version": pack.version, "clauses": len(pack.clauses), "digest": pack.digest}
