"""What came of asking others: kept per witness and authority, so that status and doctor can say who fails since when.

A failure changes nothing about the log. It is written down, asked again later and ever more rarely, and shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from psycopg import Connection

Kind = Literal["witness", "timestamp"]

DONE: Final = "done"
RETRY_SECONDS_MIN: Final = 2.0
RETRY_SECONDS_MAX: Final = 300.0
"""Who needs it: whoever is down is asked a few times in the first minute, and found again five minutes after a day."""

SELECT_ATTEMPTS = """
SELECT kind, asked, outcome, size, tried_at, failing_since, incident FROM log_attempt
WHERE tenant_id = %s AND series = %s ORDER BY kind, asked
"""
UPSERT_ATTEMPT = """
INSERT INTO log_attempt AS held (tenant_id, series, kind, asked, outcome, size, tried_at, failing_since, incident)
VALUES (%(tenant)s, %(series)s, %(kind)s, %(asked)s, %(outcome)s, %(size)s, %(at)s, %(since)s, %(incident)s)
ON CONFLICT (tenant_id, series, kind, asked) DO UPDATE SET
    outcome = EXCLUDED.outcome, size = EXCLUDED.size, tried_at = EXCLUDED.tried_at, incident = EXCLUDED.incident,
    failing_since = CASE WHEN EXCLUDED.failing_since IS NULL THEN NULL
                         ELSE least(held.failing_since, EXCLUDED.failing_since) END
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last time somebody was asked about a checkpoint: `outcome` is `done`, or why not and what to do.

    `incident`: what was answered says that two histories of this log have been told.
    """

    kind: Kind
    asked: str
    outcome: str
    size: int
    tried_at: datetime
    failing_since: datetime | None
    incident: bool

    @property
    def failed(self) -> bool:
        """Whether it came to nothing."""
        return self.failing_since is not None

    def is_due_again(self, now: datetime) -> bool:
        """Whether to ask again: after a failure later and later, as long again as it has been failing.

        An attempt that lies ahead was made by a clock that was wrong: nobody waits for its time to come.
        """
        if self.failing_since is None:
            return True
        failing_seconds = (self.tried_at - self.failing_since).total_seconds()
        pause = timedelta(seconds=min(max(failing_seconds, RETRY_SECONDS_MIN), RETRY_SECONDS_MAX))
        return not self.tried_at <= now < self.tried_at + pause


def attempts(connection: Connection[Any], tenant: UUID, series: int) -> Sequence[Attempt]:
    """The last attempt of each, witnesses last."""
    return [Attempt(*row) for row in connection.execute(SELECT_ATTEMPTS, (tenant, series))]


def note_attempt(
    connection: Connection[Any],
    tenant: UUID,
    series: int,
    kind: Kind,
    asked: str,
    *,
    size: int,
    at: datetime,
    failure: str | None = None,
    incident: bool = False,
) -> None:
    """Write down what came of it; the first failure of a row of them keeps its time."""
    wanted = {"tenant": tenant, "series": series, "kind": kind, "asked": asked, "size": size, "at": at}
    outcome, since = (DONE, None) if failure is None else (failure, at)
    wanted |= {"outcome": outcome, "since": since, "incident": incident}
    connection.execute(UPSERT_ATTEMPT, wanted)
