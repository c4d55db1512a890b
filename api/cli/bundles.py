"""`lethe bundle` and `lethe receipt`: evidence as one file, for somebody who trusts neither us nor our code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from api.bundling import collected_by_id, proof_source
from api.cli.failures import CommandFailed, ExitCode
from api.cli.files import new_file
from api.cli.options import ACTOR, AccountOption, AddressFileOption, EmailOption, JsonFlag, addresses, ledger_of
from api.cli.output import Output, counted
from api.cli.trail import SinceOption, UntilOption, moment
from audit.bundles.making import prepared_bundle
from audit.bundles.model import VIEWED, Collected
from audit.bundles.period import collect_period
from audit.bundles.person import collect_person
from audit.bundles.reading import Progress, events_at
from audit.bundles.send import collect_send
from ledger.application import Ledger
from ledger.entry import unpack_sealed

bundles = typer.Typer(help="Make an evidence bundle: a zip that others check offline.")

OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where to write the zip. It must not exist yet.", show_default=False),
]
OpenFlag = Annotated[
    bool,
    typer.Option("--open", help="Show sealed parts opened, each with the key that opens it alone. That is recorded."),
]
CountOnly = Annotated[bool, typer.Option("--dry-run", help="Show how much would be in it. Nothing is made.")]

Collect = Callable[[Ledger, Progress], Collected]


@bundles.command("person")
def person(
    email: EmailOption = None,
    file: AddressFileOption = None,
    out: OutOption = None,
    opened: OpenFlag = False,
    dry_run: CountOnly = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Everything of one person who lives: their own events, their messages and records, and earlier exports."""
    asked = addresses(email, file)
    if len(asked) > 1:
        raise CommandFailed(ExitCode.USAGE, "one_address", "A bundle is about one person; name one address.")
    _made(lambda ledger, _: collect_person(ledger, asked[0]), out, opened, dry_run, account, as_json)


def _add_by_id(kind: str, metavar: str, words: str) -> None:
    """One of the commands that differ in nothing but what the id is of."""

    def by_id(
        text: str = typer.Argument(metavar=metavar),  # Not `Annotated`: that is read where `metavar` is unknown.
        out: OutOption = None,
        opened: OpenFlag = False,
        dry_run: CountOnly = False,
        account: AccountOption = None,
        as_json: JsonFlag = False,
    ) -> None:
        try:
            wanted = UUID(text)
        except ValueError:
            raise CommandFailed(
                ExitCode.USAGE, f"invalid_{kind}", "An id is a UUID, as it was answered or shown."
            ) from None

        def collect(ledger: Ledger, progress: Progress) -> Collected:
            return collected_by_id(ledger, kind, wanted, progress)

        _made(collect, out, opened, dry_run, account, as_json)

    by_id.__doc__ = words
    bundles.command(kind)(by_id)


_add_by_id("campaign", "CAMPAIGN", "A campaign with every decision about its messages and what became of them.")
_add_by_id(
    "request",
    "ID",
    "What became of a request: an erasure or a deletion by its id, or a command by the id that its events name.",
)
_add_by_id(
    "destruction",
    "ID",
    "What a certificate of destruction rests on, by its id, or by that of the erasure or the plan.",
)


@bundles.command("period")
def period(
    since: SinceOption = None,
    until: UntilOption = None,
    first: Annotated[
        int | None, typer.Option("--first", min=1, help="From this position on.", show_default=False)
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", min=1, help="Up to this position, included.", show_default=False)
    ] = None,
    out: OutOption = None,
    opened: OpenFlag = False,
    dry_run: CountOnly = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Every event between two times or two positions; the whole log where neither is given."""
    begin, end = moment(since), moment(until)

    def collect(ledger: Ledger, _: Progress) -> Collected:
        return collect_period(ledger, since=begin, until=end, first=first, last=last)

    _made(collect, out, opened, dry_run, account, as_json)


def receipt(
    message_id: Annotated[
        str,
        typer.Argument(metavar="MESSAGE_ID", help="The message_id that authorising answered; it stands in the mail."),
    ],
    out: OutOption = None,
    opened: OpenFlag = False,
    link: Annotated[
        bool,
        typer.Option(
            "--link/--no-link",
            help="Show which mail it was. That discloses which other messages of its month are the same person's.",
        ),
    ] = True,
    dry_run: CountOnly = False,
    account: AccountOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Prove one message: that it was allowed, on which word of the person, and that nothing stood between."""
    _made(lambda ledger, _: collect_send(ledger, message_id, link=link), out, opened, dry_run, account, as_json)


def _made(collect: Collect, out: Path | None, opened: bool, dry_run: bool, account: str | None, as_json: bool) -> None:
    output = Output(as_json)
    if dry_run:
        _count(output, collect, account)
        return
    if out is None:
        raise CommandFailed(ExitCode.USAGE, "out_needed", "Name the file: --out FILE; or look first: --dry-run.")
    with ledger_of(account) as (instance, ledger), new_file(out) as file:
        ledger.account()
        with output.progress("Collecting") as bar:
            collected = collect(ledger, bar.to)
        source = proof_source(instance)
        with (
            output.progress("Reading", len(collected.positions)) as bar,
            prepared_bundle(ledger, collected, source, opened=opened, actor=ACTOR, progress=bar.to) as made,
        ):
            written = made.write(file)
    counts = made.counts
    answer = {
        "file": str(out),
        "kind": collected.kind,
        "events": counts.entries,
        "sealed_parts": counts.sealed_parts,
        "opened": counts.opened,
        "erased": counts.erased,
        "not_disclosed": counts.not_disclosed,
        "bytes": written,
        "manifest_sha256": made.manifest_sha256,
        "log": made.manifest["origin"],
        "size": made.manifest["size"],
    }
    shown = f"{counts.opened:,} of {counted(counts.sealed_parts, 'sealed part')} opened"
    erased = f", {counts.erased:,} erased" if counts.erased else ""
    output.answer(
        answer,
        f"Wrote {out}: {counted(counts.entries, 'event')}, {shown}{erased}, {counted(written, 'byte')}.",
        f"Proven for the checkpoint of size {made.manifest['size']:,}. Check it: lethe verify {out} --key KEY",
    )


def _count(output: Output, collect: Collect, account: str | None) -> None:
    """How much would be in it. That somebody looked at one person is recorded, as a search by address is (I8)."""
    with ledger_of(account) as (_, ledger):
        ledger.account()
        with output.progress("Collecting") as bar:
            collected = collect(ledger, bar.to)
        if collected.person is not None:
            # It names nobody: the export that follows it would be theirs, by its neighbourhood (ADR 0033).
            ledger.record_view(VIEWED[collected.kind], subject=None, parts_opened=0, actor=ACTOR)
        topics, sealed = Counter[str](), 0
        for page in events_at(ledger, collected.positions):
            topics.update(event.topic for event in page)
            sealed += sum(len(unpack_sealed(event.sealed)) for event in page)
    entries = len(collected.positions)
    told = {"kind": collected.kind, "events": entries, "sealed_parts": sealed, "topics": dict(sorted(topics.items()))}
    output.answer(told, f"{counted(entries, 'event')}, {counted(sealed, 'sealed part')}. Nothing was made.")
    output.table(["topic", "events#"], sorted(topics.items()))
