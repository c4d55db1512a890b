"""What becomes of each class when a person is erased: the pack of the account says it, class by class and cause.

Kept is only what the pack keeps under a limb of GDPR Art. 17(3), and what the vault itself refuses to destroy before
its time. An account whose pack is not here any more keeps what tax law keeps, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from domain.account import Account
from domain.personal import Billing, Content, Feed, HoldReference
from domain.records import RECORD_CLASSES
from domain.subject import ACCOUNT_CLOSURE
from ledger.keys.keyring import LINK
from retention.policy.pack import Cause, Pack, UnknownPack, load_pack

DELETED_BY_CONTROLLER: Final = "deleted_by_controller"

PERSON_CLASSES: Final = frozenset({"identity", "consent", "engagement", "engagement_technical", LINK})
"""The classes of which a person's own kid holds keys; their records kid holds `RECORD_CLASSES`."""

ABOUT_NOBODY: Final = frozenset({Content.name, HoldReference.name, Feed.name})
"""Kept classes of which an erased person has no key: the controller's own words, and what ends by itself in days."""

TAX_LIMB: Final = "17(3)(b)"
TAX_WHY: Final = "Tax and accounting law ask for these records; they are destroyed when their time has run."


@dataclass(frozen=True, slots=True)
class Kept:
    """A class that outlives an erasure, the limb of Art. 17(3) it is kept under, and why."""

    retention_class: str
    limb: str | None
    why: str


def cause_of(reason: str) -> Cause:
    """The cause, as packs know it, of an erasure for this reason."""
    if reason == ACCOUNT_CLOSURE:
        return "account_closure"
    return "deleted_by_controller" if reason == DELETED_BY_CONTROLLER else "erasure"


def kept_classes(account: Account, reason: str, minimums: Collection[str] = (Billing.name,)) -> Mapping[str, Kept]:
    """The classes that outlive an erasure in this account, by name. `minimums` are those that the vault guards."""
    pack = pack_of(account)
    kept = {name: Kept(name, TAX_LIMB, TAX_WHY) for name in minimums}
    if pack is None:
        return kept
    cause = cause_of(reason)
    for name in pack.kept_on(cause) - ABOUT_NOBODY:
        outcome = pack.outcomes[name, cause]
        kept[name] = Kept(name, outcome.limb, outcome.why or "")
    return kept


def destroyed_classes(kept: Mapping[str, Kept]) -> tuple[str, ...]:
    """The classes of which every key of the person goes."""
    return tuple(sorted(PERSON_CLASSES.union(RECORD_CLASSES) - kept.keys()))


def pack_of(account: Account) -> Pack | None:
    """The version of the pack that the account lives under; None where it is not here."""
    try:
        return load_pack(account.pack, account.pack_version)
    except UnknownPack:
        return None
