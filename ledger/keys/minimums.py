"""Minimums: what must not be destroyed yet, whoever asks and by whatever path (Mailkai 8, Mailenium 5.1: billing).

The vault looks at the keys it is told to destroy. A person's key of such a class must have stood still for the whole
time, a month's key must have ended that long ago. Time is the earlier of the program's clock and that of the vault's
own server, where the program runs on real time, so that one wrong clock destroys nothing early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from ledger.errors import DestructionTooEarly
from ledger.keys.names import FOR_EVER, TENANT_HOLDER, KeyName

MinimumMonths = Callable[[UUID], Mapping[str, int]]
"""For a tenant: how many months a class must be kept at least, by class."""

STATUTORY: Mapping[str, int] = {"billing": 84}
"""Both policies keep billing for seven years after the last transaction."""

# A minimum is due on the day after it has run (docs/reference/policy-packs.md).
SELECT_EARLY = """
SELECT k.class FROM lethe_vault.wrapped_key k
WHERE k.tenant_id = %s AND k.class = %s AND k.holder = ANY(%s) AND k.period = ''
    AND (%s::int[] IS NULL OR k.generation = ANY(%s::int[]))
    AND (k.last_on + make_interval(months => %s))::date >= %s LIMIT 1
"""
SELECT_EARLY_OF_CLASS = """
SELECT class FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND class = %s AND (last_on + make_interval(months => %s))::date >= %s LIMIT 1
"""
SELECT_EARLY_PERIOD = """
SELECT n.period FROM unnest(%s::text[]) AS n(period)
WHERE ((CASE WHEN length(n.period) > 7 THEN n.period::date
        ELSE ((n.period || '-01')::date + interval '1 month' - interval '1 day')::date END)
    + make_interval(months => %s))::date >= %s LIMIT 1
"""
SELECT_NOW = "SELECT now()"


def statutory(_: UUID) -> Mapping[str, int]:
    """What holds where nothing else is known of a tenant."""
    return STATUTORY


class Minimums:
    """The guard of one vault. `real_time` says whether the clock of the vault's server counts as well.

    `promised` tells what a tenant's pack says beyond the statute.
    """

    def __init__(self, promised: MinimumMonths = statutory, *, real_time: bool = False) -> None:
        self._promised = promised
        self.real_time = real_time

    def months_of(self, tenant: UUID) -> Mapping[str, int]:
        """The minimums of a tenant, by class: the pack's or the statute's, whichever is longer.

        To be asked before the vault's transaction, because it may ask a ledger.
        """
        promised = self._promised(tenant)
        return {name: max(promised.get(name, 0), STATUTORY.get(name, 0)) for name in promised.keys() | STATUTORY.keys()}

    def require_names(
        self,
        connection: Connection[Any],
        tenant: UUID,
        minimums: Mapping[str, int],
        names: Sequence[KeyName],
        when: datetime,
    ) -> None:
        """Raise `DestructionTooEarly` if the time of any of these keys has not run."""
        for retention_class, months in minimums.items():
            mine = [name for name in names if name.retention_class == retention_class]
            if not mine:
                continue
            today = self._now(connection, when).date()
            periods = [n.period for n in mine if n.holder == TENANT_HOLDER and n.period not in ("", FOR_EVER)]
            if periods and connection.execute(SELECT_EARLY_PERIOD, (periods, months, today)).fetchone():
                raise _too_early(retention_class, months)
            holders = sorted({name.holder for name in mine if not name.period})
            generations = sorted({name.generation for name in mine if not name.period})
            values = (tenant, retention_class, holders, generations, generations, months, today)
            if holders and connection.execute(SELECT_EARLY, values).fetchone():
                raise _too_early(retention_class, months)

    def require_holder(
        self,
        connection: Connection[Any],
        tenant: UUID,
        minimums: Mapping[str, int],
        holder: bytes,
        keep: frozenset[str],
        when: datetime,
    ) -> None:
        """Raise `DestructionTooEarly` if one person's keys are of a class whose time has not run, and is not kept."""
        for retention_class, months in minimums.items():
            if retention_class in keep:
                continue
            today = self._now(connection, when).date()
            values = (tenant, retention_class, [holder], None, None, months, today)
            if connection.execute(SELECT_EARLY, values).fetchone():
                raise _too_early(retention_class, months)

    def require_class(
        self,
        connection: Connection[Any],
        tenant: UUID,
        minimums: Mapping[str, int],
        retention_class: str,
        when: datetime,
    ) -> None:
        """Raise `DestructionTooEarly` if any key of a class was kept alive by something too young."""
        months = minimums.get(retention_class)
        if months is None:
            return
        today = self._now(connection, when).date()
        if connection.execute(SELECT_EARLY_OF_CLASS, (tenant, retention_class, months, today)).fetchone():
            raise _too_early(retention_class, months)

    def _now(self, connection: Connection[Any], when: datetime) -> datetime:
        if not self.real_time:
            return when
        row = connection.execute(SELECT_NOW).fetchone()
        assert row is not None
        theirs: datetime = row[0]
        return min(when, theirs)


def _too_early(retention_class: str, months: int) -> DestructionTooEarly:
    return DestructionTooEarly(
        f"Data of class {retention_class} is kept for at least {months} months, and these are not over for every key "
        "that was to be destroyed. Nothing was destroyed. If the plan says otherwise, look at the clocks of this "
        "machine and of the vault's server."
    )
