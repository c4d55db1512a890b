"""Feedback that could not be matched: kept aside under the day's feed key, and shown as long as that lives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from domain.ids import day_of, unix_ms, uuid7_bytes
from domain.personal import Erased, Feed
from ledger.entry import entry_time
from ledger.feedback_events import FeedbackEvent
from ledger.feedback_match import Unmatched
from ledger.keys.keyring import Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.sealing import open_box, scope_key, seal_box

INSERT_PARKED = """
INSERT INTO lethe.parked_feedback (tenant_id, parked_id, reason, feed_day, sealed) VALUES (%s, %s, %s, %s, %s)
"""
SELECT_PARKED = """
SELECT parked_id, reason, feed_day, sealed, parked_at FROM lethe.parked_feedback
WHERE tenant_id = %s ORDER BY parked_id LIMIT %s
"""

ParkedRow = tuple[UUID, UUID, str, str, bytes]


def sealed_rows(keyring: Keyring, tenant: UUID, unmatched: Sequence[Unmatched], now: datetime) -> list[ParkedRow]:
    """The rows of events that nobody was found for, sealed."""
    day = day_of(now)
    names = (KeyName(TENANT_HOLDER, Feed.name), KeyName(TENANT_HOLDER, Feed.name, day))
    keys = keyring.ensure(names)
    scope = scope_key(keys[names[0]], keys[names[1]])
    rows = []
    for event, reason in unmatched:
        parked_id = uuid7_bytes(unix_ms(now), os.urandom(10))
        rows.append((tenant, UUID(bytes=parked_id), reason, day, seal_box(scope, _parked_form(event), parked_id)))
    return rows


def park(connection: Connection[Any], rows: Sequence[ParkedRow]) -> None:
    """Put these rows aside."""
    connection.cursor().executemany(INSERT_PARKED, rows)


def read_parked(connection: Connection[Any], keyring: Keyring, tenant: UUID, limit: int) -> list[dict[str, Any]]:
    """What was put aside, oldest first; `event` is None where the feed key of its day is gone."""
    found = []
    for parked_id, reason, day, sealed, parked_at in connection.execute(SELECT_PARKED, (tenant, limit)).fetchall():
        scope = keyring.opening_scope(TENANT_HOLDER, Feed.name, day)
        held = None if isinstance(scope, Erased) else orjson.loads(open_box(scope, bytes(sealed), parked_id.bytes))
        found.append({"parked_id": str(parked_id), "reason": reason, "parked_at": parked_at, "event": held})
    return found


def _parked_form(event: FeedbackEvent) -> bytes:
    held: Mapping[str, Any] = {
        "message_id": event.message_id,
        "kind": event.kind,
        "occurred_at": entry_time(event.occurred_at),
        "event_id": event.event_id,
        "bounce_type": event.bounce_type,
    }
    return orjson.dumps(held)
