"""Reading streams inside an append: versions and message states, which are only believed under the lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from psycopg import Connection

from domain.message import MessageStream
from ledger.arrays import Uuid16Array

SELECT_STREAMS = """
SELECT uuid_send(e.stream_id), version, topic, position, entry FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT stream_id, version, topic, position, entry FROM lethe.event
    WHERE tenant_id = %s AND stream_id = n.stream_id ORDER BY tenant_id, stream_id, version
) AS e
"""
SELECT_VERSION = """
SELECT version FROM lethe.event WHERE tenant_id = %s AND stream_id = %s
ORDER BY tenant_id DESC, stream_id DESC, version DESC LIMIT 1
"""
SELECT_VERSIONS = """
SELECT uuid_send(n.stream_id), e.version FROM unnest(%s) AS n(stream_id), LATERAL (
    SELECT version FROM lethe.event WHERE tenant_id = %s AND stream_id = n.stream_id
    ORDER BY tenant_id DESC, stream_id DESC, version DESC LIMIT 1
) AS e
"""


def read_message_streams(connection: Connection[Any], tenant: UUID, ids: Sequence[bytes]) -> dict[bytes, MessageStream]:
    """The states of these message streams, by the 16 bytes of their ids; a stream without events is absent."""
    found: dict[bytes, MessageStream] = {}
    if not ids:
        return found
    values = (Uuid16Array(ids), tenant)
    for stream_id, version, topic, position, entry in connection.execute(SELECT_STREAMS, values, binary=True):
        stream = found.get(stream_id)
        if stream is None:
            stream = found[stream_id] = MessageStream()
        stream.apply(topic, orjson.loads(entry)["plain"], version, position)
    return found


def next_version(connection: Connection[Any], tenant: UUID, stream: UUID) -> int:
    """The version that the next event of a stream takes."""
    row = connection.execute(SELECT_VERSION, (tenant, stream)).fetchone()
    return 1 + (row[0] if row and row[0] else 0)


def read_versions(connection: Connection[Any], tenant: UUID, ids: Sequence[bytes]) -> dict[bytes, int]:
    """The last version of each of these streams, by the 16 bytes of its id; a stream without events is absent."""
    if not ids:
        return {}
    rows = connection.execute(SELECT_VERSIONS, (Uuid16Array(ids), tenant), binary=True)
    return {bytes(stream_id): version for stream_id, version in rows}
