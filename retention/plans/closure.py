"""After an account's end: what is left lying about of classes whose keys are gone is swept up in the background.

The destruction of a class takes its period keys, and from then on nothing of it opens. Persons' own keys of the class
are useless then, and so are the rows that projections keep of it; both go in batches, while the projections of the
classes that live on (billing) keep working. As long as a hold is not closed nothing is swept: whoever is held, or was
to be erased and waits, is found through these keys and rows. Each batch looks again, under the head lock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Final

from domain.account import Account
from domain.personal import Feed, Identity, SuppressionData
from ledger.append import LockedTenant
from ledger.application import Ledger
from ledger.keys.names import EVERY_GENERATION, TENANT_HOLDER, TOMBSTONE_ALL, KeyName
from retention.policy.clocks import due_on
from retention.policy.pack import PACK_CLASSES, ClosureRule, Pack

ROWS_PER_DELETE: Final = 5_000

PROJECTIONS_OF_CLASS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    Identity.name: (
        ("standing", "generation, fingerprint"),
        ("contact_alias", "generation, fingerprint"),
    ),
    SuppressionData.name: (("suppression", "generation, fingerprint, scope, cause"),),
    Feed.name: (
        ("suppression_change", "generation, position"),
        ("parked_feedback", "parked_id"),
        ("idempotency", "key_hash, part"),
    ),
}
"""Which rows are about a class: table, and the rest of its primary key."""

SELECT_HOLDS = "SELECT 1 FROM lethe.legal_hold WHERE tenant_id = %s AND closed_at IS NULL LIMIT 1"
DELETE_ROWS = """
DELETE FROM lethe.{table} WHERE tenant_id = %s AND ({key}) IN (
    SELECT {key} FROM lethe.{table} WHERE tenant_id = %s LIMIT %s)
"""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many keys of persons and how many rows of projections went."""

    keys: int = 0
    rows: int = 0


def closing_days(account: Account, pack: Pack) -> list[tuple[ClosureRule, date]]:
    """When what is due after this account's termination, soonest first; empty while the account runs."""
    if account.terminated_at is None:
        return []
    ended = account.terminated_at.date()
    days = [(rule, due_on(rule, ended)) for rule in pack.closure.values()]
    return sorted(days, key=lambda row: (row[1], row[0].retention_class))


def sweep_closed_classes(ledger: Ledger) -> Swept:
    """Delete what is left of every class that was destroyed whole. Cheap where there is none; safe to run again."""
    if ledger.accounts.state().closed_at is None:
        return Swept()
    keys = rows = 0
    for retention_class in destroyed_classes(ledger):
        for table, key in PROJECTIONS_OF_CLASS.get(retention_class, ()):
            rows += _in_batches(ledger, _delete_rows(ledger, table, key))
        keys += _in_batches(ledger, _purge_keys(ledger, retention_class))
    return Swept(keys, rows)


def _in_batches(ledger: Ledger, delete: Callable[[LockedTenant], int]) -> int:
    """Delete until nothing is left, or somebody is held; returns how many went."""
    total, deleted = 0, 1
    while deleted:
        with ledger.appender.locked() as locked:
            deleted = 0 if _is_held(locked) else delete(locked)
        total += deleted
    return total


def _is_held(locked: LockedTenant) -> bool:
    return locked.connection.execute(SELECT_HOLDS, (locked.tenant,)).fetchone() is not None


def _purge_keys(ledger: Ledger, retention_class: str) -> Callable[[LockedTenant], int]:
    return lambda _: ledger.services.vault.purge_class(ledger.tenant, retention_class, limit=ROWS_PER_DELETE)


def _delete_rows(ledger: Ledger, table: str, key: str) -> Callable[[LockedTenant], int]:
    statement = DELETE_ROWS.format(table=table, key=key).encode()
    values = (ledger.tenant, ledger.tenant, ROWS_PER_DELETE)
    return lambda locked: locked.connection.execute(statement, values).rowcount


def destroyed_classes(ledger: Ledger) -> list[str]:
    """The classes that a closure destroyed whole: everything of the account and of everybody in it."""
    names = [KeyName(TENANT_HOLDER, name, TOMBSTONE_ALL, EVERY_GENERATION) for name in sorted(PACK_CLASSES)]
    found = ledger.services.vault.find(ledger.tenant, names)
    return [name.retention_class for name in names if name in found.tombstones]
