"""Record streams: where the records about a person stand, which is written nowhere and computed from their keys.

    K           two-key rule on the person's key of the class (holder: their records kid) and the period's key
    stream id   UUIDv7 layout: the period's first moment, then 74 bits of BLAKE2b(key = K)

One person has one stream per class and period. Destroy the person's key or the period's, and nothing leads there
(invariant I11); the records of other classes are found as before. A person whom a hold protects keeps K itself after
the period's key went, and so the way.

Records about nobody have no person's key whose clock could run. Those of a class with such a clock (support, billing)
are sealed under a key of their day: its holder is computed from the account's own key of the class, so that it is found
again for the next one, and it stands in the envelope, so that the record opens by itself. The clock of that key stands
on the day from the beginning, and a plan finds it like a person's. Those of other classes end with their period.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime
from hashlib import blake2b
from uuid import UUID

from domain.ids import unix_ms, uuid7_bytes
from domain.records import RECORD_CLASSES
from ledger.keys.keyring import Keyring
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.mapper import Holder
from ledger.sealing import scope_key

STREAM_PERSON = b"lethe.rec.v1"
NOBODY_PERSON = b"lethe.nobody.v1"
HOLDER_BYTES = 16
TAIL_BYTES = 10
AFTER_EVERY_PERIOD = "9999-99"

SELECT_LIVING_NAMES = """
SELECT class, period, generation FROM lethe_vault.wrapped_key
WHERE tenant_id = %s AND holder = %s AND class = ANY(%s) ORDER BY class, period, generation
"""


def record_stream_id(scope: bytes, period: str) -> bytes:
    """The 16 bytes of the stream of one person's records of a class and period, from their K."""
    tail = blake2b(b"", key=scope, digest_size=TAIL_BYTES, person=STREAM_PERSON).digest()
    return uuid7_bytes(unix_ms(_first_moment(period)), tail)


def holder_of_day(own_key: bytes, day: date) -> bytes:
    """Whose keys seal the records about nobody of a day; `own_key` is the account's own key of their class."""
    return blake2b(day.isoformat().encode(), key=own_key, digest_size=HOLDER_BYTES, person=NOBODY_PERSON).digest()


class RecordStreams:
    """Finds the record streams of one tenant's persons. Nothing is created by looking."""

    def __init__(self, tenant: UUID, keyring: Keyring) -> None:
        self._tenant = tenant
        self._keyring = keyring

    def of(self, records_kid: bytes, classes: Collection[str] = RECORD_CLASSES) -> dict[UUID, Holder]:
        """Every stream in which there may be records about a person, with whose keys open it.

        One hash for each class, generation and living period: up to 84 months of billing, 730 days of each log. Also
        finds what is kept of an erased person, whose records kid only their kept keys still name.
        """
        names = self._living_names(records_kid, classes)
        if not names:
            return {}
        return {
            UUID(bytes=record_stream_id(scope, period)): Holder(records_kid, generation)
            for scope, period, generation in self._scopes(names)
        }

    def _scopes(self, names: list[KeyName]) -> Iterator[tuple[bytes, str, int]]:
        """K, period and generation of everything that these keys of one person open."""
        own = [name for name in names if not name.period]
        periods = {
            name.retention_class: self._keyring.vault.living_periods(
                self._tenant, name.retention_class, AFTER_EVERY_PERIOD
            )
            for name in own
        }
        wanted = [*names, *(KeyName(TENANT_HOLDER, c, period) for c, living in periods.items() for period in living)]
        keys = self._keyring.find(wanted).keys
        for name in names:
            if name.period and name in keys:
                yield keys[name], name.period, name.generation
        for name in own:
            for period in periods[name.retention_class]:
                of_period = KeyName(TENANT_HOLDER, name.retention_class, period)
                if name in keys and of_period in keys:
                    yield scope_key(keys[name], keys[of_period]), period, name.generation

    def _living_names(self, records_kid: bytes, classes: Collection[str]) -> list[KeyName]:
        with self._keyring.vault.pool.transaction() as connection:
            rows = connection.execute(SELECT_LIVING_NAMES, (self._tenant, records_kid, sorted(classes))).fetchall()
        return [KeyName(records_kid, *row) for row in rows]


def _first_moment(period: str) -> datetime:
    """When a month (`2026-11`) or a day (`2026-11-21`) begins."""
    year, month, *day = map(int, period.split("-"))
    return datetime(year, month, day[0] if day else 1, tzinfo=UTC)
