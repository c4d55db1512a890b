"""What `lethe doctor` looks at: is this installation as the design needs it, and is anything left undone?

Each check gives a finding that says what was seen and, where it is not well, what to do. Hard checks are promises
(append-only roles, silent logs, private keys, …): with one of them failing, `lethe serve` does not start in
production. A check that cannot be made has failed; nothing here changes what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import psycopg
from psycopg import Connection

from api.bootstrap import DatabaseUrls, embedded_server, embedded_urls, given_urls
from api.settings import Settings
from ledger.errors import LedgerError

State = Literal["ok", "warn", "fail"]
CONNECT_SECONDS_MAX: Final = 5
TENANTS_LOOKED_AT_MAX: Final = 1000  # who needs it: doctor answers in seconds, also for a platform


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. `advice` says what to do, where something is to be done."""

    check: str
    state: State
    seen: str
    advice: str = ""
    hard: bool = False


@dataclass(slots=True)
class Patient:
    """What the checks look at. `connections` are those that could be made, by role."""

    settings: Settings
    urls: DatabaseUrls
    connections: dict[str, Connection[Any]] = field(default_factory=dict)

    @property
    def production(self) -> bool:
        """Whether promises are made to others here."""
        return self.settings.environment == "production"

    def on(self, *roles: str) -> list[tuple[str, Connection[Any]]]:
        """The connections of these roles, as far as there are any."""
        return [(role, self.connections[role]) for role in roles if role in self.connections]


Check = Callable[[Patient], Iterator[Finding]]

LEDGER_ROLES: Final = ("writer", "reader", "rebuilder")
ROLES: Final = (*LEDGER_ROLES, "vault")
_URL_OF: Final = {"writer": "LEDGER"}


def examine(settings: Settings, checks: tuple[Check, ...]) -> list[Finding]:
    """Every finding, in the order of the checks. Starts the embedded server where there is no other."""
    with ExitStack() as stack:
        found: list[Finding] = []
        try:
            if settings.ledger_url is None:
                server = stack.enter_context(embedded_server(settings))
                patient = Patient(settings, embedded_urls(server))
            else:
                patient = Patient(settings, given_urls(settings))
        except LedgerError as error:
            return [
                Finding("settings", "fail", str(error), "Set what is missing; see the list of settings.", hard=True)
            ]
        for role in ROLES:
            found.append(_connected(patient, role, stack))
        for check in checks:
            found += _made(check, patient)
        return found


def failed(findings: list[Finding], *, hard_only: bool = False) -> list[Finding]:
    """The findings that make the doctor fail."""
    return [f for f in findings if f.state == "fail" and (f.hard or not hard_only)]


def _connected(patient: Patient, role: str, stack: ExitStack) -> Finding:
    try:
        connection = psycopg.connect(
            getattr(patient.urls, role),
            autocommit=True,
            connect_timeout=CONNECT_SECONDS_MAX,
            application_name="lethe-doctor",
        )
    except psycopg.Error:
        return Finding(
            f"database: {role}",
            "fail",
            "no answer, or the sign-in was refused",
            f"Check LETHE_{_URL_OF.get(role, role.upper())}_URL, that the server runs, and the role's password.",
            hard=True,
        )
    patient.connections[role] = stack.enter_context(connection)
    version = connection.info.server_version
    seen = f"answers: PostgreSQL {version // 10000}.{version % 10000} as {connection.info.user}"
    return Finding(f"database: {role}", "ok", seen, hard=True)


def _made(check: Check, patient: Patient) -> list[Finding]:
    try:
        return list(check(patient))
    except psycopg.Error as error:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        seen = f"could not be looked at: {type(error).__name__}"
        return [Finding(name, "fail", seen, "Run lethe migrate; then look into the server's log.", hard=True)]
