"""Opening many persons' identity parts: the keys of a whole batch are fetched at once, before anything is opened.

`SealingMapper.open` asks the keyring for each part. Left to itself that is one question to the vault per person; with
the keys of a batch on lease it is none.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from domain.ids import month_of
from domain.personal import Identity
from ledger.entry import parse_entry_time, unpack_sealed
from ledger.keys.keyring import Keyring
from ledger.keys.vault import TENANT_HOLDER, KeyName
from ledger.mapper import LedgerEvent
from ledger.sealing import envelope_kid


def kid_of(event: LedgerEvent) -> bytes | None:
    """Whose keys seal the identity part of an event; None where it has none."""
    envelope = unpack_sealed(event.sealed).get(Identity.name)
    return None if envelope is None else envelope_kid(envelope)


def find_identity_keys(keyring: Keyring, events: Iterable[LedgerEvent], *more: str) -> None:
    """Put on lease what opening the identity parts of these events takes, and the persons' keys of `more` classes."""
    names: set[KeyName] = set()
    for event in events:
        kid = kid_of(event)
        if kid is None:
            continue
        month = month_of(parse_entry_time(orjson.loads(event.state)["occurred_at"]))
        names.add(KeyName(TENANT_HOLDER, Identity.name, month))
        names.update(KeyName(kid, retention_class) for retention_class in (Identity.name, *more))
    keyring.find(names)
