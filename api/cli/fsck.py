"""`lethe fsck`: recompute whole logs from their rows to their roots, and stop at the first lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer

from api.bootstrap import Instance, running
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import JsonFlag, require_files, settings
from api.cli.output import Output, counted, shown
from audit.fsck import Brought, LogLies, Outside, Trust, Whole, require_whole_log
from audit.verify.errors import VerificationRefused
from audit.verify.note import NOTE_BYTES_MAX, VerifierKey
from ledger.application import tenants
from ledger.errors import UnknownAccount


def fsck(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A checkpoint that somebody kept: proves that a log was cut off or rewritten since. May be repeated.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VKEY",
            help="The log's verifier key as you know it, for --checkpoint: without it the log's own facts name the "
            "keys. May be repeated.",
            show_default=False,
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            envvar="LETHE_ACCOUNT",
            metavar="ID",
            help="The account's id. Without it the log of every account is checked.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check whole logs: every row, tile, checkpoint and signature.

    Ends with 6 where a log is not whole, and says which event is the first that is not what it should be.
    """
    output = Output(as_json)
    brought = _brought(checkpoint or [], key or [])
    # Also behind a gate that is shut: what is wrong with the log is what somebody wants to know then.
    with running(settings(), application="lethe-cli", gated=False) as instance:
        whole = [_check(instance, output, tenant, brought) for tenant in _chosen(instance, account, brought)]
    if not whole:
        output.say("There is no account yet, and so no log.")
    if not all(whole):
        raise typer.Exit(ExitCode.INCIDENT)


def _check(instance: Instance, output: Output, tenant: UUID, brought: Sequence[Brought]) -> bool:
    """Check one log and say what came of it; returns whether it is whole."""
    outside = held_outside(instance, tenant, brought)
    try:
        with output.progress(f"Checking the log of {tenant}") as bar:
            found = require_whole_log(instance.urls.writer, tenant, outside, told=bar.to)
    except LogLies as lies:
        output.answer(
            {"account_id": tenant, "whole": False, "lie": lies.lie.as_object()},
            f"The log of {tenant} is NOT whole.",
            f"  {shown(lies.lie.said())}",
            "  This is where it stopped; what lies behind was not looked at. Keep the database as it is, and compare "
            "it with a backup.",
            *(
                [f"  Whether only tiles are wrong: lethe log mend-tiles --account {tenant} --dry-run"]
                if of_tiles(lies)
                else []
            ),
        )
        return False
    except VerificationRefused as refused:
        raise CommandFailed(ExitCode.REFUSED, "checkpoint_refused", str(refused)) from None
    output.answer(_as_object(found), *_sentences(found))
    return True


def held_outside(instance: Instance, tenant: UUID, brought: Sequence[Brought] = ()) -> Outside:
    """What is held against a log. Custody is read before the log: it never has more than was committed."""
    heads, checkpoints = instance.custody.kept_heads(), instance.custody.kept_checkpoints()
    authority = instance.timestamp_authority
    trust = Trust(instance.witnesses.keys, authority.roots_pem if authority is not None else None)
    return Outside(heads.get(tenant), checkpoints.get(tenant), brought, trust)


def of_tiles(lies: LogLies) -> bool:
    """Whether the lie is about a stored tile, which the events can give again."""
    return lies.lie.rule == "tile"


def _as_object(found: Whole) -> dict[str, Any]:
    return {
        "account_id": found.tenant,
        "whole": True,
        "events": found.events,
        "root": found.root.hex(),
        "published": found.published,
        "tiles": found.tiles,
        **asdict(found.counts),
        "kept": found.kept,
    }


def _sentences(found: Whole) -> list[str]:
    counts, behind = found.counts, found.events - found.published
    sentences = [
        f"The log of {found.tenant} is whole: {counted(found.events, 'event')}, root {found.root.hex()}.",
        (
            f"  Published up to {found.published:,}: {counted(counts.checkpoints, 'checkpoint')}, "
            f"{counted(found.tiles, 'tile')}, {counted(counts.cosignatures, 'cosignature')}, "
            f"{counted(counts.timestamps, 'timestamp')}; kept outside and in agreement: {found.kept}."
        ),
    ]
    if behind:
        sentences.append(
            f"  At the end, not published yet: {counted(behind, 'event')}. No signature covers what is not published."
        )
    if counts.cosignatures_by_others:
        sentences.append(
            f"  Of witnesses that the settings do not name: {counted(counts.cosignatures_by_others, 'cosignature')}."
        )
    if counts.timestamps_without_roots:
        sentences.append(
            f"  Not checked, without LETHE_TIMESTAMP_ROOTS: {counted(counts.timestamps_without_roots, 'timestamp')}."
        )
    return sentences


def _brought(files: Sequence[Path], keys: Sequence[str]) -> list[Brought]:
    """The checkpoints that were named, each believed under these keys."""
    require_files(files)
    if keys and not files:
        raise CommandFailed(
            ExitCode.USAGE, "checkpoint_needed", "--key says whose signature a checkpoint needs: add --checkpoint FILE."
        )
    try:
        trusted = tuple(VerifierKey.parse(text) for text in keys)
        found = [Brought(_bytes_of(file), trusted) for file in files]
        for one in found:
            one.checkpoint()
    except VerificationRefused as refused:
        raise CommandFailed(ExitCode.REFUSED, "checkpoint_refused", str(refused)) from None
    return found


def _bytes_of(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(NOTE_BYTES_MAX + 1)


def _chosen(instance: Instance, account: str | None, brought: Sequence[Brought]) -> list[UUID]:
    """The accounts whose logs are checked: the one named, those that the checkpoints are of, or all."""
    custody = instance.custody
    known = {*tenants(instance.services.writer), *custody.kept_heads(), *custody.kept_checkpoints()}
    if account is not None:
        try:
            tenant = UUID(account)
        except ValueError:
            raise CommandFailed(
                ExitCode.USAGE, "invalid_account", "An account's id is a UUID, as `lethe account list` shows it."
            ) from None
        if tenant not in known:
            raise UnknownAccount("There is no account with this id here, and none was known in custody.")
        return [tenant]
    if brought:
        origins = [one.checkpoint().origin for one in brought]
        known = {tenant for tenant in known if any(tenant.hex in origin for origin in origins)}
        if len(known) != 1:
            raise CommandFailed(
                ExitCode.USAGE, "account_needed", "The checkpoints are not of one account here. Say which: --account."
            )
    return sorted(known)
