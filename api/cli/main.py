"""The command `lethe`: every group and command, put together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import typer

from api.cli import (
    accounts,
    backups,
    campaigns,
    certificates,
    demo,
    doctor,
    erasing,
    holds,
    lists,
    policies,
    records,
    retention,
    service,
    simulating,
    subjects,
    suppressions,
    trail,
    vault,
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
    "rebuild": service.rebuild_projection,
    "backup": backups.backup,
    "restore": backups.restore,
    "reopen": backups.reopen,
    "doctor": doctor.doctor,
}
GROUPS: Final[dict[str, typer.Typer]] = {
    "account": accounts.accounts,
    "apikey": accounts.apikeys,
    "contacts": lists.contacts,
    "consents": lists.consents,
    "campaign": campaigns.campaigns,
    "subject": subjects.subjects,
    "suppressions": suppressions.suppressions,
    "records": records.records,
    "hold": holds.holds,
    "policy": policies.policies,
    "retention": retention.retention,
    "vault": vault.vault,
    "certificate": certificates.certificates,
}

retention.retention.command("simulate")(simulating.simulate_pack)

for name, command in COMMANDS.items():
    app.command(name)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name, no_args_is_help=True)


if __name__ == "__main__":
    app()
