"""`lethe backup`, `lethe restore` and `lethe reopen`: both databases into one file, back again, and serving again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from api.bootstrap import Instance, running
from api.cli.failures import CommandFailed, ExitCode
from api.cli.options import ACTOR, DryRunFlag, JsonFlag, settings
from api.cli.output import Output, counted
from ledger.application import tenants
from ledger.backup.gate import keep_heads
from ledger.backup.restoring import read_summary
from ledger.backup.restoring import restore as restore_backup
from ledger.backup.writing import LEDGER, VAULT, Database, write_backup
from projections.standing import InlineStanding
from retention.restoring.reopening import Gatekeeper, Opening

Only = Literal["ledger", "vault"]


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist yet.", show_default=False)],
    as_json: JsonFlag = False,
) -> None:
    """Back up both databases into one encrypted file.

    It can be read until the epoch key of today is destroyed, and by nobody after that: whatever is destroyed in the
    meantime dies in the backup too.
    """
    output = Output(as_json)
    if file.exists():
        raise CommandFailed(ExitCode.USAGE, "file_exists", "The file exists already. Give the backup a new name.")
    with running(settings(), application="lethe-backup") as instance:
        keep_heads(instance.services.writer, instance.custody, tenants(instance.services.writer))
        instance.services.epochs.adopt(instance.services.due_clock.earlier())
        with output.progress("Backing up") as bar:
            summary = write_backup(
                file,
                _databases(instance),
                instance.services.vault.provider,
                now=instance.services.clock(),
                notes=instance.custody.count(),
                progress=lambda _, rows: bar.advance(rows),
            )
    size = file.stat().st_size
    rows = sum(summary.rows.values())
    output.answer(
        {
            "file": str(file),
            "bytes": size,
            "backup_id": summary.backup_id,
            "epoch": summary.epoch,
            "rows": summary.rows,
            "accounts": len(summary.heads),
        },
        f"Wrote {file}: {counted(rows, 'row')} of {counted(len(summary.heads), 'account')}, {size:,} bytes, encrypted "
        f"under epoch {summary.epoch}. Once that epoch's key is destroyed, nobody can read it.",
    )


def restore(
    file: Annotated[Path, typer.Argument(help="The backup.", show_default=False)],
    only: Annotated[
        Only | None, typer.Option(help="Restore one of the two databases; the other one stays as it is.")
    ] = None,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup into empty databases. They stay shut until `lethe reopen`.

    The whole file is checked before anything is written. --dry-run checks it and says what it holds.
    """
    output = Output(as_json)
    if not file.is_file():
        raise CommandFailed(ExitCode.NOT_FOUND, "unknown_file", "There is no such file. Give the path of a backup.")
    with running(settings(), application="lethe-restore", gated=False) as instance:
        provider = instance.services.vault.provider
        if dry_run:
            summary = read_summary(file, provider)
            output.answer({"dry_run": True, **summary}, *_held_said(summary))
            return
        chosen = [database for database in _databases(instance) if only in (None, database.name)]
        with output.progress("Restoring") as bar:
            summary = restore_backup(
                file,
                chosen,
                provider,
                now=instance.services.clock(),
                progress=lambda _, rows: bar.advance(rows),
            )
    output.answer(
        {"restored": [database.name for database in chosen], **summary},
        *_held_said(summary),
        "Restored, and shut: nothing is served yet. Next: lethe reopen --dry-run.",
    )


def reopen(
    accept_loss: Annotated[
        str | None,
        typer.Option(
            "--accept-loss",
            metavar="REASON",
            help="Open although events or keys that had been recorded are missing. The reason is recorded.",
        ),
    ] = None,
    journal_lost: Annotated[
        bool,
        typer.Option(
            "--journal-lost",
            help="With --accept-loss: open although the journal of tombstones was lost, so that what was destroyed "
            "since the backup comes back. The log keeps that.",
        ),
    ] = False,
    dry_run: DryRunFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Open a restored ledger again: destroy anew what was destroyed since the backup, match the logs, then serve."""
    output = Output(as_json)
    with running(settings(), application="lethe-reopen", gated=False) as instance:
        services = instance.services
        keeper = Gatekeeper(
            services.writer, services.vault, instance.custody, InlineStanding(services.vault.provider), instance.ledger
        )
        opening = keeper.look() if dry_run else keeper.open(reason=accept_loss, actor=ACTOR, journal_lost=journal_lost)
    output.answer({"dry_run": dry_run, **_opening_told(opening)}, *_opening_said(opening, dry_run=dry_run))


def _databases(instance: Instance) -> tuple[Database, Database]:
    return Database(LEDGER, instance.services.writer), Database(VAULT, instance.vault_pool)


def _held_said(summary: dict[str, Any]) -> list[str]:
    events = sum(position for position, _ in summary["heads"].values())
    return [
        (
            f"Backup {summary['backup_id']} of {summary['created_at'][:19]}Z, epoch {summary['epoch']}: "
            f"{counted(len(summary['heads']), 'account')}, {counted(events, 'event')}."
        )
    ]


def _opening_told(opening: Opening) -> dict[str, Any]:
    return {
        "shut": opening.state.shut,
        "restored": [restored._asdict() for restored in opening.state.restored],
        "tombstones_replayed": opening.tombstones,
        "persons_forgotten": sum(len(account.to_forget) for account in opening.accounts),
        "keys_missing": sum(account.keys_missing for account in opening.accounts),
        "logs_behind": [
            {"account": log.tenant, "at": log.position, "kept": log.kept.position, "rewritten": log.rewritten}
            for log in opening.state.behind
        ],
        "journal_lost": opening.journal_lost is not None,
        "loses": opening.loses,
    }


def _opening_said(opening: Opening, *, dry_run: bool) -> list[str]:
    if not opening.state.shut:
        return ["The gate is open: nothing was restored that does not serve already."]
    told = _opening_told(opening)
    would = "would be" if dry_run else "were"
    said = [
        *(restored.said() for restored in opening.state.restored),
        (
            f"{counted(opening.tombstones, 'tombstone')} {would} replayed, and {told['persons_forgotten']:,} persons, "
            f"whose keys were destroyed since the backup, {would} forgotten again."
        ),
        *(log.said() for log in opening.state.behind),
        *([opening.journal_lost] if opening.journal_lost is not None else []),
    ]
    if told["keys_missing"]:
        said.append(f"{counted(told['keys_missing'], 'key')} that the ledger needs are missing from the vault.")
    if dry_run:
        needed = "--accept-loss REASON" + (" and --journal-lost" if opening.journal_lost is not None else "")
        said.append(f"Opening needs {needed}." if opening.loses else "Nothing is lost. Next: lethe reopen.")
    else:
        said.append("The gate is open. Each account's log says that it was restored.")
    return said
