"""What a retention plan says: what is due, under which clause, what a hold keeps back, and the digest that fixes it.

A plan names classes, periods and numbers of persons; it names nobody. Whose keys an item is about is fixed by a keyed
digest over the sorted list of holder, generation and last day (docs/adr/0020), so that the plan shown is the plan
applied (invariant I9) and a plan file that is mailed around leads to no one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from domain.keys import Action
from ledger.entry import canonical, entry_time

DESTROY_PERIOD: Final = "destroy_period"
DESTROY_PERSONS: Final = "destroy_persons"
DESTROY_CLASS: Final = "destroy_class"
ERASE_HOLDERS: Final = "erase_holders"


class PlanError(Exception):
    """The root of what can go wrong with plans."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What is kept back: how many persons (None: the whole item), by which holds, and why in a word.

    `holds` is empty where a hold has ended and what had waited for it is not done yet.
    """

    holds: tuple[str, ...]
    why: str
    persons: int | None = None


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One thing to be destroyed.

    `last_on` is the last day that a person's key may have been kept alive on; `persons_digest` fixes whose keys are
    meant (hex). `escrow` says that held persons' keys of the period are set aside first. An item about account holders
    is about whole persons, each of whom is erased: `last_on` is the last day that their accounts may have ended on.
    """

    item: str
    action: Action
    retention_class: str
    clause: str
    due_on: date
    period: str | None = None
    persons: int | None = None
    persons_digest: str | None = None
    last_on: date | None = None
    aggregate_first: bool = False
    minimum: bool = False
    closes_account: bool = False
    held: HeldBack | None = None


@dataclass(frozen=True, slots=True)
class Touched:
    """How many events and persons an item touches. None is "not counted": counting would have taken too long."""

    events: int | None
    persons: int | None


@dataclass(frozen=True)
class Plan:
    """What is due in one account on one day, under one version of its pack.

    `kept_back` are items that are due and are not done because holds keep all of them. `touched` is by item, and is
    told for whoever reads the plan; the digest does not cover it.
    """

    plan_id: UUID
    tenant: UUID
    pack: str
    pack_version: int
    pack_digest: str
    as_of: date
    made_at: datetime
    position: int
    items: tuple[PlanItem, ...]
    kept_back: tuple[PlanItem, ...]
    touched: Mapping[str, Touched]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that decides what is destroyed: equal digests destroy the same keys."""
        said = {
            "account": self.tenant.hex,
            "pack": self.pack,
            "pack_version": self.pack_version,
            "pack_digest": self.pack_digest,
            "as_of": self.as_of.isoformat(),
            "items": [item_row(item) for item in self.items],
            "kept_back": [item_row(item) for item in self.kept_back],
        }
        return sha256(canonical(said)).hexdigest()

    def to_row(self) -> dict[str, Any]:
        """The plan for a file or for machines."""
        return {
            "plan_id": self.plan_id.hex,
            "account": self.tenant.hex,
            "pack": self.pack,
            "pack_version": self.pack_version,
            "pack_digest": self.pack_digest,
            "as_of": self.as_of.isoformat(),
            "made_at": entry_time(self.made_at),
            "position": self.position,
            "items": [item_row(item) | touched_row(self.touched.get(item.item)) for item in self.items],
            "kept_back": [item_row(item) for item in self.kept_back],
            "digest": self.digest,
        }

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Plan:
        """The plan of a row. Raises `KeyError`, `TypeError` or `ValueError` for anything that is none."""
        return Plan(
            UUID(row["plan_id"]),
            UUID(row["account"]),
            str(row["pack"]),
            int(row["pack_version"]),
            str(row["pack_digest"]),
            date.fromisoformat(row["as_of"]),
            datetime.fromisoformat(row["made_at"]),
            int(row["position"]),
            tuple(_item(item) for item in row["items"]),
            tuple(_item(item) for item in row["kept_back"]),
            {item["item"]: Touched(item["events_touched"], item["persons_touched"]) for item in row["items"]},
        )


def item_row(item: PlanItem) -> dict[str, Any]:
    """An item for a file, days as ISO dates; what is absent is left out."""
    return _present(asdict(item))


def touched_row(touched: Touched | None) -> dict[str, Any]:
    """What an item touches, for a file; null is not counted."""
    found = touched or Touched(None, None)
    return {"events_touched": found.events, "persons_touched": found.persons}


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in values.items():
        if value is None or value is False:
            continue
        if isinstance(value, date):
            row[name] = value.isoformat()
        elif isinstance(value, Mapping):
            row[name] = _present(value)
        elif isinstance(value, tuple):
            row[name] = list(value)
        else:
            row[name] = value
    return row


def _item(row: Mapping[str, Any]) -> PlanItem:
    held = row.get("held")
    last_on = row.get("last_on")
    return PlanItem(
        item=row["item"],
        action=row["action"],
        retention_class=row["retention_class"],
        clause=row["clause"],
        due_on=date.fromisoformat(row["due_on"]),
        period=row.get("period"),
        persons=row.get("persons"),
        persons_digest=row.get("persons_digest"),
        last_on=date.fromisoformat(last_on) if last_on else None,
        aggregate_first=row.get("aggregate_first", False),
        minimum=row.get("minimum", False),
        closes_account=row.get("closes_account", False),
        held=HeldBack(tuple(held["holds"]), held["why"], held.get("persons")) if held else None,
    )


def ordered(items: Iterable[PlanItem]) -> tuple[PlanItem, ...]:
    """Items in the order in which they are done: periods oldest first, persons, account holders, whole classes."""
    rank = {DESTROY_PERIOD: 0, DESTROY_PERSONS: 1, ERASE_HOLDERS: 2, DESTROY_CLASS: 3}
    return tuple(sorted(items, key=lambda item: (rank[item.action], item.period or "", item.item)))
