"""Attacks on plan files: every field changed, every type put in its place, and files that are no plans at all."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
import pytest

from ledger.application import Ledger
from retention.plans.file import read_plan, signed
from retention.plans.model import PlanError
from tests.retention.plans import DUE, a_month_of_engagement, planned
from tests.support import SettableClock

STRANGE: list[Any] = [None, True, 0, -1, 1.5, 2**63, "", "x", "\u20ac", [], [[]], {}, {"a": 1}]
FILES = [
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b'{"format":"lethe-retention-plan"}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"format":"lethe-retention-plan","account":1.5}',
]


@pytest.fixture
def raw(ledger: Ledger, clock: SettableClock) -> bytes:
    """Given a signed plan with an item."""
    a_month_of_engagement(ledger, clock)
    clock.set(DUE)
    made = signed(ledger, planned(ledger))
    assert orjson.loads(made)["items"]
    return made


def test_no_field_of_a_plan_can_be_changed(ledger: Ledger, raw: bytes) -> None:
    """Given a signed plan, when any field holds something else, or is gone, or one is added, then it is refused."""
    row = orjson.loads(raw)
    for place in [*row, "more"]:
        for value in STRANGE:
            if place in row and row[place] == value and type(row[place]) is type(value):
                continue
            _refused(ledger, {**row, place: value})
        _refused(ledger, {name: held for name, held in row.items() if name != place} if place in row else {})
    for item in range(len(row["items"])):
        for name in row["items"][item]:
            for value in STRANGE:
                changed = orjson.loads(raw)
                if changed["items"][item][name] == value and type(changed["items"][item][name]) is type(value):
                    continue
                changed["items"][item][name] = value
                _refused(ledger, changed)


def test_what_is_no_plan_is_refused_in_words(ledger: Ledger) -> None:
    """Given bytes that are no plan, when they are read, then it is a PlanError and nothing else."""
    for file in FILES:
        with pytest.raises(PlanError):
            read_plan(ledger, file)


def test_another_account_of_the_same_program_cannot_use_it(ledger: Ledger, raw: bytes) -> None:
    """Given a plan, when its account is rewritten to another one's, then that one's key does not know it."""
    other = Ledger(uuid4(), ledger.services)
    other.open_account(name="Other", pack="mailkai", country="DE", minimum_age=16, actor="cli")
    with pytest.raises(PlanError):
        read_plan(other, raw)
    _refused(other, orjson.loads(raw) | {"account": other.tenant.hex})


def _refused(ledger: Ledger, row: Any) -> None:
    with pytest.raises(PlanError):
        read_plan(ledger, orjson.dumps(row))
