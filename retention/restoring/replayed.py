"""What is left to do in an account when a restored vault knows its tombstones again, before anything is served.

    kept keys   what the law keeps of erased persons moves to new holders again: the journal names the old ones beside
                the kid of the erased person's stream (invariant I11, docs/adr/0019)
    hours       an older ledger has hourly counts of months whose keys are gone
    closure     an older ledger does not know that its account was closed, and holds rows of everybody in it

Each can be repeated.
"""

from __future__ import annotations

from datetime import timedelta

from domain.account import Account
from domain.ids import month_of
from domain.records import RECORD_CLASSES
from ledger.application import Ledger
from ledger.erasures import RETENTION_ACTOR
from ledger.keys.names import TENANT_HOLDER, KeyName
from retention.plans.aggregates import MONTH_CHARACTERS, forget_hours
from retention.plans.closure import destroyed_classes, sweep_closed_classes
from retention.policy.outcomes import pack_of
from retention.policy.pack import Pack


def finish_replay(ledger: Ledger) -> None:
    """Do all of it for one account."""
    ledger.services.vault.rehome_again(ledger.tenant, RECORD_CLASSES)
    account = ledger.accounts.state()
    pack = pack_of(account)
    if pack is not None:
        _forget_hours(ledger, account, pack)
    _close_again(ledger, account, pack)
    sweep_closed_classes(ledger)


def _forget_hours(ledger: Ledger, account: Account, pack: Pack) -> None:
    published = [name for name, rule in pack.rules.items() if rule.aggregate_first]
    floors = ledger.services.vault.floors(ledger.tenant, published)
    if floors:
        forget_hours(ledger, month_of(account.opened_at), max(floors.values())[:MONTH_CHARACTERS])


def _close_again(ledger: Ledger, account: Account, pack: Pack | None) -> None:
    """A class that is destroyed whole was destroyed by a closure, and not before its days had run."""
    classes = destroyed_classes(ledger)
    if not classes or account.closed_at is not None:
        return
    names = {name: KeyName(TENANT_HOLDER, name) for name in classes}
    tombstones = ledger.services.vault.find(ledger.tenant, list(names.values())).tombstones
    ended = [ledger.clock()]
    for retention_class, name in names.items():
        rule = pack.closure.get(retention_class) if pack is not None else None
        if rule is not None and not rule.keep.months and name in tombstones:
            ended.append(tombstones[name].when - timedelta(days=rule.keep.days))
    ledger.accounts.close_again(min(ended), actor=RETENTION_ACTOR)
