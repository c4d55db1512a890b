"""RFC 3161 timestamps of checkpoints: every day, and soon after anything was destroyed.

A token says that a checkpoint existed at a time, by the word of an authority outside the house. After a destruction a
checkpoint is stamped that covers its facts and its certificate, so that neither can be dated back. The token is
verified against the roots that the settings name before it is kept; what fails is logged, shown, and tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import structlog
from psycopg import Connection

from audit.log.attempts import Attempt, attempts, note_attempt
from audit.log.calls import Post, checked_url
from audit.log.errors import NoAnswer, StampRefused
from audit.log.store import PublishedCheckpoint, latest_checkpoint
from audit.verify.errors import TimestampRefused
from audit.verify.note import split_note
from audit.verify.timestamp import TOKEN_BYTES_MAX, open_timestamp, timestamp_request
from domain import keys, subject
from ledger.application import Ledger
from ledger.errors import SettingsRefused
from projections.log import every_version, windows

STAMP_EVERY: Final = timedelta(days=1)
STAMP_AGAIN_AFTER: Final = timedelta(minutes=1)
"""Who needs it: an authority that is asked by an account where somebody is erased every second."""

SCAN_WINDOW_EVENTS: Final = 20_000
SCAN_WINDOWS_MAX: Final = 50
"""Who needs it: the other accounts, which wait while one that grew by millions is looked through."""

ROOTS_BYTES_MAX: Final = 1024 * 1024
"""Who needs it: a file of root certificates, a few kilobytes each."""

DESTRUCTIONS: Final = (
    subject.KeysDestroyed.TOPIC,
    keys.PeriodKeyDestroyed.TOPIC,
    keys.SubjectKeysExpired.TOPIC,
    keys.AccountHoldersErased.TOPIC,
    keys.ClassKeysDestroyed.TOPIC,
    keys.EpochKeyDestroyed.TOPIC,
    keys.CertificateIssued.TOPIC,
)
"""The facts after which a checkpoint is stamped without waiting for the day's end."""

KIND: Final = "timestamp"
QUERY: Final = "application/timestamp-query"
REPLY: Final = "application/timestamp-reply"

SELECT_LAST_STAMP = """
SELECT size FROM log_timestamp WHERE tenant_id = %s AND series = %s AND authority = %s ORDER BY size DESC LIMIT 1
"""
SELECT_FIRST_OF = """
SELECT position FROM event WHERE tenant_id = %s AND position > %s AND position <= %s AND topic = ANY(%s)
ORDER BY position LIMIT 1
"""
INSERT_TIMESTAMP = """
INSERT INTO log_timestamp (tenant_id, series, size, authority, token, stamped_at) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, series, size, authority) DO NOTHING
"""

log = structlog.get_logger("lethe.log")


@dataclass(frozen=True, slots=True)
class TimestampAuthority:
    """Who is asked, and the root certificates (PEM) that its tokens must lead to."""

    url: str
    roots_pem: bytes

    @classmethod
    def parse(cls, url: str | None, roots: Path | None) -> Self | None:
        """The authority of the settings, None where none is named. Raises `SettingsRefused`."""
        if url is None:
            return None
        if roots is None:
            raise SettingsRefused("LETHE_TIMESTAMP_URL needs LETHE_TIMESTAMP_ROOTS beside it: a file in PEM.")
        try:
            with roots.open("rb") as file:
                pem = file.read(ROOTS_BYTES_MAX + 1)
        except OSError:
            raise SettingsRefused("The file of LETHE_TIMESTAMP_ROOTS cannot be read.") from None
        if len(pem) > ROOTS_BYTES_MAX or b"-----BEGIN CERTIFICATE-----" not in pem:
            raise SettingsRefused("The file of LETHE_TIMESTAMP_ROOTS holds no certificates in PEM.")
        return cls(checked_url(url, "LETHE_TIMESTAMP_URL"), pem)


@dataclass(slots=True)
class Stamping:
    """Has checkpoints stamped. Remembers how far each log was looked through, so that no event is read twice."""

    authority: TimestampAuthority
    post: Post
    _quiet_to: dict[tuple[UUID, int], int] = field(default_factory=dict)

    def __call__(self, ledger: Ledger) -> bool:
        """Have the newest checkpoint of a tenant stamped if that is due; returns whether it was."""
        now = ledger.clock()
        with ledger.services.writer.connection() as connection:
            checkpoint = latest_checkpoint(connection, ledger.tenant)
            if checkpoint is None or not self._is_due(connection, checkpoint, now):
                return False
        stamped_at, token, failure = None, b"", None
        try:
            stamped_at, token = self._token(checkpoint)
        except (NoAnswer, StampRefused) as refused:
            failure = str(refused)
            log.warning("checkpoint_not_stamped", tenant=str(ledger.tenant), authority=self.authority.url, why=failure)
        tenant, series, size, url = checkpoint.tenant, checkpoint.series, checkpoint.size, self.authority.url
        with ledger.services.writer.transaction() as connection:
            if stamped_at is not None:
                connection.execute(INSERT_TIMESTAMP, (tenant, series, size, url, token, stamped_at))
            note_attempt(connection, tenant, series, KIND, url, size=size, at=now, failure=failure)
        return stamped_at is not None

    def _is_due(self, connection: Connection[Any], checkpoint: PublishedCheckpoint, now: datetime) -> bool:
        """Whether a day is over, or something was destroyed since the last stamp; not within a minute of it."""
        tenant, series = checkpoint.tenant, checkpoint.series
        last = self._last_attempt(connection, checkpoint)
        if last is not None and last.failed:
            return last.is_due_again(now)
        row = connection.execute(SELECT_LAST_STAMP, (tenant, series, self.authority.url)).fetchone()
        if row is None or last is None:
            return True
        if row[0] >= checkpoint.size or last.tried_at <= now < last.tried_at + STAMP_AGAIN_AFTER:
            return False
        if now < last.tried_at:  # By a clock that was ahead.
            return True
        return now >= last.tried_at + STAMP_EVERY or self._destroyed_since(connection, checkpoint, row[0])

    def _last_attempt(self, connection: Connection[Any], checkpoint: PublishedCheckpoint) -> Attempt | None:
        every = attempts(connection, checkpoint.tenant, checkpoint.series)
        return next((a for a in every if (a.kind, a.asked) == (KIND, self.authority.url)), None)

    def _destroyed_since(self, connection: Connection[Any], checkpoint: PublishedCheckpoint, size: int) -> bool:
        """Whether the checkpoint covers a fact of destruction that stands after `size`."""
        place = (checkpoint.tenant, checkpoint.series)
        after = max(size, self._quiet_to.get(place, 0))
        last = min(checkpoint.size, after + SCAN_WINDOW_EVENTS * SCAN_WINDOWS_MAX)
        for start, end in windows(after, last, SCAN_WINDOW_EVENTS):
            values = (checkpoint.tenant, start, end, every_version(DESTRUCTIONS))
            if connection.execute(SELECT_FIRST_OF, values).fetchone() is not None:
                return True
            self._quiet_to[place] = end
        return False

    def _token(self, checkpoint: PublishedCheckpoint) -> tuple[datetime, bytes]:
        """When the authority says the checkpoint was there, and its whole answer, verified."""
        text, _ = split_note(checkpoint.note.encode())
        request = timestamp_request(text)
        answer = self.post(self.authority.url, QUERY, request.content, TOKEN_BYTES_MAX)
        if answer.status != 200 or answer.media_type != REPLY:
            raise StampRefused(f"The timestamp authority answered {answer.status} {answer.media_type or 'of no type'}.")
        try:
            stamped = open_timestamp(answer.body, text, self.authority.roots_pem, nonce=request.nonce)
        except TimestampRefused as refused:
            raise StampRefused(str(refused)) from None
        return stamped.at, answer.body
