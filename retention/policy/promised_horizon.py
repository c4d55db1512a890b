"""The shortest backup horizon that any account here was promised (Mailenium 5.2).

An account promises what its pack says. Settings can change after it adopted the pack; so it is asked again at each
start. One question reads the account streams of all tenants, a few rows each.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import structlog
from psycopg import Connection

from domain.account import FIRST_PACK_VERSION, AccountOpened, PackAdopted
from retention.policy.pack import UnknownPack, load_pack

_log = structlog.get_logger(__name__)

SELECT_NEWEST_PACKS = """
SELECT DISTINCT ON (h.tenant_id) h.tenant_id, e.entry FROM lethe.head h
JOIN lethe.event e ON e.tenant_id = h.tenant_id AND e.stream_id = h.tenant_id AND e.topic = ANY(%s)
ORDER BY h.tenant_id, e.version DESC
"""


def promised_horizon_days(connection: Connection[Any]) -> int | None:
    """The least days that a pack in use here promises; None where no pack in use states a horizon.

    A pack whose file is gone states none here: whoever asks for the account itself is told that it is missing. Nor
    does an account whose own event was changed; `lethe fsck` names it, and it keeps nobody else from working.
    """
    promised = {_horizon_days(*pack) for pack in set(packs_in_use(connection).values())}
    return min((days for days in promised if days is not None), default=None)


def packs_in_use(connection: Connection[Any]) -> dict[UUID, tuple[str, int]]:
    """The name and version of the pack that each account lives under."""
    topics = [AccountOpened.TOPIC, PackAdopted.TOPIC]
    found = {}
    for tenant, entry in connection.execute(SELECT_NEWEST_PACKS, (topics,)):
        try:
            said = orjson.loads(entry)["plain"]
            found[tenant] = (said["pack"], said.get("pack_version", FIRST_PACK_VERSION))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            _log.error("account_event_damaged", tenant=str(tenant), look="lethe fsck")
    return found


def _horizon_days(name: str, version: int) -> int | None:
    try:
        return load_pack(name, version).horizon_days
    except UnknownPack:
        return None
