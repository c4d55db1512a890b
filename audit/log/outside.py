"""How a log stands with others: what is served, how far witnesses are behind, and since when who fails."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from audit.log.attempts import Attempt, attempts
from audit.log.served import served
from audit.log.store import latest_checkpoint
from audit.log.timestamps import TimestampAuthority
from audit.log.witness_policy import WitnessPolicy

SELECT_LAST_STAMP = """
SELECT size, stamped_at FROM log_timestamp WHERE tenant_id = %s AND series = %s ORDER BY size DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One who is asked: its name, the last size that it is known to have answered for, and since when it fails, why."""

    kind: str
    name: str
    size: int
    failing_since: datetime | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Outside:
    """`served_size` is what readers see; `published_size` what was signed; None in `stamped_*`: never stamped."""

    published_size: int
    served_size: int
    witnesses_needed: int
    asked: tuple[Asked, ...]
    stamped_size: int | None
    stamped_at: datetime | None

    @property
    def behind_events(self) -> int:
        """How many published events wait for witnesses before they are served."""
        return self.published_size - self.served_size


def outside_status(
    connection: Connection[Any], tenant: UUID, policy: WitnessPolicy, authority: TimestampAuthority | None
) -> Outside:
    """How one log stands with those that the settings name."""
    latest = latest_checkpoint(connection, tenant)
    if latest is None:
        return Outside(0, 0, policy.needed, tuple(_never(policy, authority)), None, None)
    shown = served(connection, tenant, policy)
    tried: dict[tuple[str, str], Attempt] = {(a.kind, a.asked): a for a in attempts(connection, tenant, latest.series)}
    asked = [_asked(one, tried.get((one.kind, key))) for one, key in _everybody(policy, authority)]
    stamp = connection.execute(SELECT_LAST_STAMP, (tenant, latest.series)).fetchone()
    stamped_size, stamped_at = stamp or (None, None)
    size = shown.checkpoint.size if shown is not None else 0
    return Outside(latest.size, size, policy.needed, tuple(asked), stamped_size, stamped_at)


def _everybody(policy: WitnessPolicy, authority: TimestampAuthority | None) -> list[tuple[Asked, str]]:
    """All whom the settings name, and the key that their attempts are kept under."""
    named = [(Asked("witness", one.key.name, 0, None, None), str(one.key)) for one in policy.witnesses]
    if authority is not None:
        named.append((Asked("timestamp", authority.url, 0, None, None), authority.url))
    return named


def _never(policy: WitnessPolicy, authority: TimestampAuthority | None) -> list[Asked]:
    return [one for one, _ in _everybody(policy, authority)]


def _asked(one: Asked, last: Attempt | None) -> Asked:
    if last is None:
        return one
    why = last.outcome if last.failed else None
    return Asked(one.kind, one.name, 0 if last.failed else last.size, last.failing_since, why)
