"""The hard checks: settings, hardware, roles, tenants apart, migrations, silent logs, durability.

Those of what lies outside the databases are in `api/cli/checks_keys.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from api.cli.checks import LEDGER_ROLES, Check, Finding, Patient, State
from api.cli.checks_keys import KEY_CHECKS
from api.settings import Settings
from ledger.embedded import SILENT_LOG
from ledger.errors import SettingsRefused
from ledger.migrate import pending
from ledger.sealing import require_aes_hardware

MAY_CHANGE_EVENTS: Final = """
SELECT p.name FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS p(name)
WHERE has_table_privilege('lethe.event', p.name)
UNION ALL SELECT 'UPDATE of a column' WHERE has_any_column_privilege('lethe.event', 'UPDATE')
UNION ALL SELECT 'everything: it is a superuser' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL SELECT 'everything: it owns the table' FROM pg_class
    WHERE oid = 'lethe.event'::regclass AND pg_has_role(relowner, 'MEMBER')
"""
TOMBSTONES_MAY_GO: Final = """
SELECT p.name FROM unnest(ARRAY['UPDATE', 'DELETE', 'TRUNCATE']) AS p(name)
WHERE has_table_privilege('lethe_vault.tombstone', p.name)
"""
SEEN_WITHOUT_TENANT: Final = "SELECT count(*) FROM (SELECT 1 FROM lethe_read.event LIMIT 1) AS e"
READS_THE_TABLE: Final = "SELECT has_table_privilege('lethe.event', 'SELECT')"
SELECT_SETTING: Final = "SELECT setting FROM pg_settings WHERE name = %s"
# What may stand in the log is asked of every role, since a setting can be loosened for one role or database alone.
AUTO_EXPLAIN: Final = "SELECT current_setting('auto_explain.log_min_duration', true)"
DURABLE: Final = {
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "synchronous_commit": ("on", "remote_write", "remote_apply", "local"),
}
ALSO_SILENT: Final = {"log_min_error_statement": ("panic", "fatal")}


def check_settings(patient: Patient) -> Iterator[Finding]:
    """Production needs databases of its own, and key folders that somebody chose."""
    settings = patient.settings
    if not patient.production:
        where = "an embedded server" if settings.ledger_url is None else "the databases named"
        yield Finding("settings", "ok", f"laptop, on {where}", hard=True)
        return
    chosen = _folders_chosen(settings)
    if not chosen:
        name = "LETHE_KEY_FOLDERS" if settings.key_provider == "file" else "LETHE_CUSTODY_FOLDERS"
        what = "the keys" if settings.key_provider == "file" else "the journal of tombstones"
        yield Finding(
            "settings",
            "fail",
            f"production, and {name} is unset: {what} would lie in LETHE_DATA_DIR",
            "Name at least two folders on different disks, neither of them in a database's backup.",
            hard=True,
        )
    ledger, vault = (_server(url) for url in (patient.urls.writer, patient.urls.vault))
    if ledger == vault:
        yield Finding(
            "settings",
            "fail",
            "the vault is on the ledger's server: they share WAL and base backups",
            "Give LETHE_VAULT_URL a server of its own, so that no backup holds both.",
            hard=True,
        )
    elif chosen:
        yield Finding("settings", "ok", "production; ledger and vault are on two servers", hard=True)


def check_hardware(patient: Patient) -> Iterator[Finding]:
    """AES-256-GCM is promised, and taken only where the processor has it."""
    try:
        require_aes_hardware()
    except SettingsRefused as error:
        yield Finding("AES hardware", "fail", str(error), "Run Lethe on a processor with AES instructions.", hard=True)
    else:
        yield Finding("AES hardware", "ok", "the processor has AES instructions", hard=True)


def check_append_only(patient: Patient) -> Iterator[Finding]:
    """No role that the program signs in with can change an event (I2), or take a tombstone away (I5)."""
    for role, connection in patient.on(*LEDGER_ROLES):
        yield _powers(f"append-only: {role}", connection, MAY_CHANGE_EVENTS, "event")
    for role, connection in patient.on("vault"):
        yield _powers(f"append-only: {role}", connection, TOMBSTONES_MAY_GO, "tombstone")


def check_tenants_apart(patient: Patient) -> Iterator[Finding]:
    """The reader sees nothing until it says which tenant it reads for (I10)."""
    for _, connection in patient.on("reader"):
        seen = _value(connection, SEEN_WITHOUT_TENANT)
        reads_all = _value(connection, READS_THE_TABLE)
        if seen or reads_all:
            what = "sees events without naming a tenant" if seen else "may read the event table past its views"
            advice = "Revoke what was granted to lethe_reader by hand; the migrations grant what it needs."
            yield Finding("tenants apart", "fail", f"the reader {what}", advice, hard=True)
        else:
            yield Finding("tenants apart", "ok", "the reader sees nothing without a tenant", hard=True)


def check_migrations(patient: Patient) -> Iterator[Finding]:
    """Both databases have every migration of this version."""
    for role, database in (("writer", "ledger"), ("vault", "vault")):
        for _, connection in patient.on(role):
            missing = pending(connection, database)
            if missing:
                seen = f"{len(missing)} to be applied, first {missing[0]}"
                yield Finding(f"migrations: {database}", "fail", seen, "Run: lethe migrate", hard=True)
            else:
                yield Finding(f"migrations: {database}", "ok", "up to date", hard=True)


def check_silent_logs(patient: Patient) -> Iterator[Finding]:
    """The servers' own logs repeat no statement, no parameter and no detail of an error (I4)."""
    for role, connection in patient.on(*LEDGER_ROLES, "vault"):
        loose = []
        for name, wanted in SILENT_LOG.items():
            found = _value(connection, SELECT_SETTING, name)
            if found not in ALSO_SILENT.get(name, (wanted,)):
                loose.append(f"{name} is {found}, not {wanted}")
        explained = _value(connection, AUTO_EXPLAIN)
        if explained not in (None, "", "-1"):
            loose.append("auto_explain logs statements")
        if loose:
            advice = "Set them as in deploy/postgres/lethe.conf, for the server and for every role, and reload."
            yield Finding(f"silent log: {role}", "fail", "; ".join(loose), advice, hard=True)
        else:
            yield Finding(f"silent log: {role}", "ok", "no statement, parameter or detail is logged", hard=True)


def check_durability(patient: Patient) -> Iterator[Finding]:
    """What is acknowledged is on disk."""
    for role, connection in patient.on("writer", "vault"):
        loose = [
            f"{name} is {found}"
            for name, wanted in DURABLE.items()
            if (found := _value(connection, SELECT_SETTING, name)) not in wanted
        ]
        if loose:
            state: State = "fail" if patient.production else "warn"
            advice = "Set them to on: otherwise a power cut loses what was acknowledged, and keys with it."
            yield Finding(f"durability: {role}", state, "; ".join(loose), advice, hard=patient.production)
        else:
            yield Finding(f"durability: {role}", "ok", "what is acknowledged is on disk", hard=patient.production)


HARD_CHECKS: Final[tuple[Check, ...]] = (
    check_settings,
    check_hardware,
    check_append_only,
    check_tenants_apart,
    check_migrations,
    check_silent_logs,
    check_durability,
    *KEY_CHECKS,
)


def _folders_chosen(settings: Settings) -> bool:
    """Somebody chose where what is kept outside the databases lies: epoch keys in files, and the journal."""
    return bool(settings.key_folders or (settings.custody_folders and settings.key_provider != "file"))


def _powers(name: str, connection: Connection[Any], statement: str, what: str) -> Finding:
    powers = list(dict.fromkeys(row[0] for row in connection.execute(statement)))
    if powers:
        seen = f"{connection.info.user} may do this to an {what}: {', '.join(powers)}".replace("an tomb", "a tomb")
        advice = "Sign in with the role that the migrations made, and revoke what was granted by hand."
        return Finding(name, "fail", seen, advice, hard=True)
    return Finding(
        name, "ok", f"{connection.info.user} cannot change a {what}".replace("a event", "an event"), hard=True
    )


def _server(url: str) -> tuple[str, str]:
    parts = conninfo_to_dict(url)
    return str(parts.get("hostaddr") or parts.get("host") or ""), str(parts.get("port") or "5432")


def _value(connection: Connection[Any], statement: str, *values: object) -> Any:
    row = connection.execute(statement.encode(), values).fetchone()
    return row[0] if row else None
