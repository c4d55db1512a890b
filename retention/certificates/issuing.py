"""Certificates of destruction: what is said of keys that went, signed, in two stages (DESIGN section 6).

    stage 1    unreachable: issued with `KeysDestroyed`, and again when the day is over, with the day's list of keys
    stage 2    unrecoverable from the enumerated copies: issued when the epoch keys are destroyed

A certificate holds no personal data, and nothing that leads from whoever holds it to the events of the person
(invariant I11): its id is random, its times are days, and its list of keys is that of several erasures of one day.
What it says of a person's data is what the account's pack says of everybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

from domain.category import ACCOUNT_HOLDER
from domain.personal import Identity
from domain.subject import ACCOUNT_CLOSURE
from ledger.application import Ledger
from ledger.certificate_format import FORMAT, FORMAT_VERSION
from ledger.erasures import UnfinishedErasure
from ledger.signing import ALGORITHM, verify_key
from retention.certificates import text
from retention.certificates.epoch_dates import EpochDates, epoch_dates
from retention.certificates.exports import ExportListed
from retention.certificates.store import ERASURE, UNREACHABLE, UNRECOVERABLE, Certificate, signed
from retention.policy.outcomes import Kept, cause_of, destroyed_classes, kept_classes, pack_of
from retention.policy.pack import Pack

PERSONS_KEYS: Final = "the keys to one person's data"

SUPPRESSION_KEPT: Final = Kept(
    "suppression", "17(3)(b), 17(3)(e)", "A fingerprint of the address, so that it is not mailed again."
)


NOES_KEPT: Final = Kept(
    "suppression",
    "17(3)(b), 17(3)(e)",
    "Only where the person had said no to being written to: a fingerprint of the address with that no.",
)


def prepare_to_sign(ledger: Ledger) -> None:
    """Make the account's signing key where there is none yet: not under a lock."""
    verify_key(ledger.keyring)


def erasure_certificate(
    ledger: Ledger, erasure: UnfinishedErasure, day: date, kept: Iterable[str], exports: Sequence[ExportListed] = ()
) -> Certificate:
    """Stage 1 for one erased person. `kept` are the classes of which the person has a key that outlives them.

    `exports` are those about this person alone, which are out of reach; those about many persons come with the list.
    """
    dates = epoch_dates(ledger.services, ledger.clock())
    account = ledger.account()
    pack = pack_of(account)
    outcomes = kept_classes(account, erasure.cause)
    horizon = dates.horizon
    document = {
        **certificate_head(ledger, erasure.certificate_id, day),
        "about": {
            "kind": ERASURE,
            "cause": cause_of(erasure.cause),
            "reason": erasure.cause,
            "ground": text.GROUNDS.get(erasure.cause, text.GROUNDS["other"]),
            "asked_on": erasure.requested_at.date().isoformat(),
            "pack": account.pack,
            "pack_version": account.pack_version,
            "clauses": _clauses(pack, erasure.cause),
        },
        "statements": [text.unreachable(day, PERSONS_KEYS), text.until_horizon(horizon), text.DIGEST_TO_COME],
        "horizon": horizon.isoformat(),
        "keys": {"classes": list(destroyed_classes(outcomes)), "list": None},
        "kept": [_kept(one) for one in _kept_of_person(outcomes, kept, erasure.cause)],
        "copies": text.copies_to_come(dates.places, horizon),
        "inventory": text.inventory(
            horizon,
            text.exports_on_the_day(bool(exports)),
            of_person=True,
            suppressed=erasure.cause != ACCOUNT_CLOSURE,
        ),
        "exports": list(exports),
        "acknowledgements": text.acknowledged_by_erasure(day),
        "windows": text.windows_of_erasure(day),
        "still_possible": text.still_possible(None, exported=bool(exports)),
    }
    return signed(ledger, document=document, kind=ERASURE, day=day, epoch=dates.newest)


def listed(
    ledger: Ledger,
    held: Certificate,
    named: Mapping[str, Any] | None,
    exports: Sequence[ExportListed],
    issued_on: date,
) -> Certificate:
    """The next revision of stage 1, which names the list of keys of its day.

    `exports` are those about many persons, the same for everybody on the list.
    """
    own = held.document.get("exports", [])
    state = text.exports_listed_by_then(bool(own), of_many=bool(exports))
    changes: dict[str, Any] = {
        "keys": {**held.document["keys"], "list": named},
        "statements": [*held.document["statements"][:2], text.DIGEST_IN_LOG],
        "exports": [*own, *exports],
        "inventory": text.with_exports(held.document["inventory"], state),
    }
    if named is not None:
        erasures = named["erasures"]
        changes["still_possible"] = text.still_possible(erasures, exported=bool(own), of_many=bool(exports))
    list_id = UUID(named["id"]) if named is not None else None
    return _revised(ledger, held, issued_on, changes, list_id)


def unrecoverable(ledger: Ledger, held: Certificate, dates: EpochDates, issued_on: date) -> Certificate:
    """Stage 2: the epoch keys are gone."""
    day, copies = dates.unrecoverable_from(held.epoch, held.day)
    unreachable, _, digest = held.document["statements"]
    suppressed = held.document["about"].get("reason") != ACCOUNT_CLOSURE
    changes = {
        "stage": UNRECOVERABLE,
        "unrecoverable_from": day.isoformat(),
        "statements": [unreachable, text.unrecoverable(day), digest],
        "copies": copies,
        "inventory": text.inventory(
            day,
            text.exports_said(held.document["inventory"]),
            of_person=held.kind == ERASURE,
            suppressed=suppressed,
        ),
    }
    return _revised(ledger, held, issued_on, changes, held.list_id)


def certificate_head(ledger: Ledger, certificate_id: UUID, day: date) -> dict[str, Any]:
    """What every certificate begins with."""
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "id": str(certificate_id),
        "account": str(ledger.tenant),
        "stage": UNREACHABLE,
        "revision": 1,
        "issued_on": day.isoformat(),
        "unreachable_from": day.isoformat(),
        "unrecoverable_from": None,
        "signer": {"algorithm": ALGORITHM, "public_key": verify_key(ledger.keyring).hex()},
    }


def _revised(
    ledger: Ledger, held: Certificate, issued_on: date, changes: Mapping[str, Any], list_id: UUID | None
) -> Certificate:
    again = {"revision": held.revision + 1, "issued_on": issued_on.isoformat()}
    document = {**held.document, **changes, **again}
    return signed(ledger, document=document, kind=held.kind, day=held.day, epoch=held.epoch, list_id=list_id)


def _kept_of_person(outcomes: Mapping[str, Kept], kept: Iterable[str], reason: str) -> list[Kept]:
    """The suppression, which every erased person leaves, and what of their data the law keeps.

    It is the same for everybody: whether an account holder had said no to anything is not told here.
    """
    held = [outcomes[name] for name in sorted(set(kept) & outcomes.keys()) if name != SUPPRESSION_KEPT.retention_class]
    if reason == ACCOUNT_CLOSURE:
        return [NOES_KEPT, *held]
    return [outcomes.get(SUPPRESSION_KEPT.retention_class, SUPPRESSION_KEPT), *held]


def _kept(one: Kept) -> dict[str, str | None]:
    limb = f"GDPR Art. {one.limb}" if one.limb else None
    return {"class": one.retention_class, "limb": limb, "why": one.why}


def _clauses(pack: Pack | None, reason: str) -> list[str]:
    """The clauses that the erasure keeps."""
    if pack is None:
        return []
    if reason == ACCOUNT_CLOSURE:
        rule = pack.closure_of(Identity.name, ACCOUNT_HOLDER)
        return [rule.clause] if rule is not None else []
    return [clause.number for clause in pack.clauses if _enforces_erasure(clause)]


def _enforces_erasure(clause: Any) -> bool:
    return any(keeping.control == "erasure" for keeping in clause.keepings)
