"""The command `lethe`: every group and command, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from api.cli import (
    accounts,
    asof,
    backups,
    bundles,
    campaigns,
    certificates,
    consent,
    demo,
    doctor,
    erasing,
    fsck,
    holds,
    lists,
    mending,
    policies,
    processing,
    proving,
    records,
    registers,
    retention,
    service,
    simulating,
    subjects,
    suppressions,
    trail,
    trail_export,
    transparency,
    vault,
    verifying,
)
from api.cli.failures import MEANINGS, FailingGroup

EXIT_CODES: Final = "Exit codes: " + ". ".join(f"{int(code)} {meaning}" for code, meaning in MEANINGS.items()) + "."

app = typer.Typer(
    cls=FailingGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Lethe, a consent ledger that remembers every act and can forget every person. "
    "Settings come from the environment (LETHE_…); without any it runs on an embedded PostgreSQL in .lethe.",
    epilog=EXIT_CODES,
)

COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "serve": service.serve,
    "worker": service.run_worker,
    "demo": demo.demo,
    "migrate": service.migrate,
    "authorise": campaigns.authorise,
    "feedback": campaigns.feedback,
    "erase": erasing.erase,
    "signing-key": certificates.signing_key,
    "events": trail.events,
    "prove": proving.prove,
    "receipt": bundles.receipt,
    "replay": asof.replay,
    "rebuild": service.rebuild_projection,
    "backup": backups.backup,
    "restore": backups.restore,
    "reopen": backups.reopen,
    "verify": verifying.verify,
    "doctor": doctor.doctor,
    "fsck": fsck.fsck,
}
GROUPS: Final[dict[str, typer.Typer]] = {
    "account": accounts.accounts,
    "apikey": accounts.apikeys,
    "contacts": lists.contacts,
    "consents": lists.consents,
    "consent": consent.consent,
    "campaign": campaigns.campaigns,
    "subject": subjects.subjects,
    "suppressions": suppressions.suppressions,
    "records": records.records,
    "trail": trail_export.trail,
    "log": transparency.log,
    "bundle": bundles.bundles,
    "hold": holds.holds,
    "register": registers.registers,
    "processing": processing.processing,
    "policy": policies.policies,
    "retention": retention.retention,
    "vault": vault.vault,
    "certificate": certificates.certificates,
}

retention.retention.command("simulate")(simulating.simulate_pack)
subjects.subjects.command("as-of")(asof.as_of)
transparency.log.command("export")(proving.export)
transparency.log.command("mend-tiles")(mending.mend_tiles)

for name, command in COMMANDS.items():
    app.command(name)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name, no_args_is_help=True)


if __name__ == "__main__":
    app()
