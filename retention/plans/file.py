"""Plan files: canonical JSON that the account has signed, and every reason to refuse one.

Whoever reads a plan may mail it, keep it, print it; what they cannot do is change it. A plan is refused where its
signature does not fit, where it is of another account or another version of the pack, and where it is old: what was
due a week ago is due today, and a new plan says what else is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from ledger.application import Ledger
from ledger.entry import canonical
from ledger.signing import SIGNATURE_BYTES, SignatureRefused, sign, verify, verify_key
from retention.plans.model import Plan, PlanError
from retention.policy.pack import Pack

FORMAT: Final = "lethe-retention-plan"
FORMAT_VERSION: Final = 1
CONTEXT: Final = b"lethe.retention-plan.v1"

PLAN_AGE_DAYS_MAX: Final = 7
"""Days for which a plan can be applied."""

PLAN_BYTES_MAX: Final = 16 * 1024 * 1024
"""The largest plan file read: a plan of a hundred thousand days, many times what an account can have."""


class PlanInvalid(PlanError):
    """A file that is no plan, or that somebody changed."""


class PlanRefused(PlanError):
    """A plan that is genuine and must not be applied as things stand. `reason` is a stable code."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def signed(ledger: Ledger, plan: Plan) -> bytes:
    """The bytes of the plan's file."""
    row = {"format": FORMAT, "format_version": FORMAT_VERSION, **plan.to_row()}
    signature = sign(ledger.keyring, CONTEXT, canonical(row))
    return canonical(row | {"signature": signature.hex()}) + b"\n"


def read_plan(ledger: Ledger, raw: bytes) -> Plan:
    """The plan of a file's bytes, as this account signed it. Raises `PlanInvalid`, and `PlanRefused` for another's."""
    row = _parsed(raw)
    if row.get("account") != ledger.tenant.hex:
        raise PlanRefused("plan_of_another_account", "This plan is of another account. Apply it there, with --account.")
    try:
        signature = bytes.fromhex(row.pop("signature"))
    except (KeyError, TypeError, ValueError):
        signature = bytes(SIGNATURE_BYTES)
    try:
        verify(verify_key(ledger.keyring), CONTEXT, canonical(row), signature)
    except SignatureRefused:
        raise PlanInvalid(
            "The plan was changed after it was signed, or was never signed here. Make a new one: lethe retention plan."
        ) from None
    try:
        plan = Plan.from_row(row)
    except (KeyError, TypeError, ValueError):
        raise PlanInvalid("The plan's format is not one that this version of Lethe knows. Make a new one.") from None
    if plan.digest != row.get("digest"):
        raise PlanInvalid("The plan's digest does not fit what it says. Make a new one: lethe retention plan.")
    return plan


def read_plan_file(ledger: Ledger, path: Path) -> Plan:
    """As `read_plan`, from a file."""
    if path.stat().st_size > PLAN_BYTES_MAX:
        raise PlanInvalid(f"A plan file has at most {PLAN_BYTES_MAX:,} bytes; this is something else.")
    return read_plan(ledger, path.read_bytes())


def require_fresh(plan: Plan, pack: Pack, now: datetime) -> None:
    """Raise `PlanRefused` for a plan of another version of the pack, from the future, or too old."""
    if (plan.pack, plan.pack_version, plan.pack_digest) != (pack.name, pack.version, pack.digest):
        raise PlanRefused(
            "pack_changed",
            f"The plan was made under version {plan.pack_version} of {plan.pack}, and the account lives under version "
            f"{pack.version} of {pack.name}. Make a new plan.",
        )
    if plan.as_of > now.date():
        raise PlanRefused(
            "plan_from_the_future",
            f"The plan is for {plan.as_of}, and by the ledger's clock it is {now.date()}. Look at the clocks.",
        )
    if now - plan.made_at > timedelta(days=PLAN_AGE_DAYS_MAX):
        raise PlanRefused(
            "plan_too_old", f"A plan can be applied for {PLAN_AGE_DAYS_MAX} days; this one is older. Make a new plan."
        )


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError:
        row = None
    if not isinstance(row, Mapping) or row.get("format") != FORMAT:
        raise PlanInvalid("This file is no retention plan. Make one: lethe retention plan --out FILE.")
    return dict(row)
