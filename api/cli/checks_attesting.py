"""The checks of what others say about the logs: that witnesses cosign, and that checkpoints are stamped."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from psycopg import Connection

from api.cli.checks import Check, Finding, Patient, State
from audit.log.timestamps import TimestampAuthority
from audit.log.witness_policy import WitnessPolicy
from ledger.errors import SettingsRefused

ATTESTING_WARNED: Final = timedelta(minutes=10)
ATTESTING_FAILED: Final = timedelta(days=1)

# Of those that the settings name now; the worst account comes first.
SELECT_FAILING: Final = """
SELECT tenant_id, asked, outcome, failing_since, incident, count(*) OVER ()
FROM lethe.log_attempt WHERE kind = %s AND asked = ANY(%s) AND failing_since IS NOT NULL
ORDER BY incident DESC, failing_since LIMIT 1
"""
COUNT_ASKED: Final = """
SELECT count(DISTINCT tenant_id) FROM lethe.log_attempt WHERE kind = %s AND asked = ANY(%s)
"""


def check_witnesses(patient: Patient) -> Iterator[Finding]:
    """The witnesses that the settings name cosign what is published."""
    name = "log: witnesses"
    try:
        policy = WitnessPolicy.parse(patient.settings.witnesses, patient.settings.witnesses_needed)
    except SettingsRefused as refused:
        yield Finding(name, "fail", str(refused), "Mend the setting; until then nothing starts.", hard=True)
        return
    if not policy.witnesses:
        yield Finding(name, "ok", "none is asked; a rewritten log shows to those who keep checkpoints themselves")
        return
    for _, connection in patient.on("writer"):
        seen = f"{len(policy.witnesses)} asked, {policy.needed} needed"
        yield _finding(name, seen, connection, "witness", policy.names)


def check_timestamps(patient: Patient) -> Iterator[Finding]:
    """The timestamp authority that the settings name stamps what is published."""
    name, settings = "log: timestamps", patient.settings
    try:
        authority = TimestampAuthority.parse(settings.timestamp_url, settings.timestamp_roots)
    except SettingsRefused as refused:
        yield Finding(name, "fail", str(refused), "Mend the setting; until then nothing starts.", hard=True)
        return
    if authority is None:
        yield Finding(name, "ok", "no authority is asked")
        return
    for _, connection in patient.on("writer"):
        yield _finding(name, "one authority asked", connection, "timestamp", [authority.url])


def _finding(name: str, seen: str, connection: Connection[Any], kind: str, asked: list[str]) -> Finding:
    values = (kind, asked)
    row = connection.execute(SELECT_FAILING.encode(), values).fetchone()
    if row is None:
        found = connection.execute(COUNT_ASKED.encode(), values).fetchone()
        return Finding(name, "ok", f"{seen}, none failing, for {found[0] if found else 0:,} accounts")
    tenant, who, outcome, since, incident, failing = row
    if incident:
        advice = "Two histories of one log have been told, or a restore lost events. Keep everything. Run: lethe fsck"
        return Finding(name, "fail", f"account {tenant}: {outcome}", advice)
    age = datetime.now(UTC) - since
    state: State = "fail" if age > ATTESTING_FAILED else "warn" if age > ATTESTING_WARNED else "ok"
    minutes = age.total_seconds() / 60
    said = f"{failing:,} fail, the longest for {minutes:,.0f} minutes: {_short(who)}. {outcome}"
    return Finding(name, state, said, "" if state == "ok" else "It is asked again by itself; see lethe log status.")


def _short(asked: str) -> str:
    """The name in a verifier key; an address as it is."""
    return asked.partition("+")[0]


ATTESTING_CHECKS: Final[tuple[Check, ...]] = (check_witnesses, check_timestamps)
