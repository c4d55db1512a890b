"""What living keys open: sealed parts of events, boxes in other tables, and tokens inside whatever was opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import orjson

from audit.attacks.links.computed import Keys, scope_of
from audit.attacks.links.graph import Value
from audit.attacks.links.values import ID_BYTES, texts_of, value_of, values_in
from domain.personal import Feed, Personal, SuppressionData
from ledger.errors import InvalidToken, LedgerError, TamperError
from ledger.keys.keyring import CLASSES_OF_MESSAGES, LINK
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.keys.vault import FOR_EVER
from ledger.links import NO_OCCURRENCE, open_token, parse_token
from ledger.mapper import Holder, LedgerEvent, SealingMapper
from ledger.sealing import open_box


def opened_parts(keys: Keys, row: Mapping[str, Any], mapper: SealingMapper) -> Iterator[Value]:
    """What living keys open of one event. A message's parts are tried with the keys of every living person."""
    if row["sealed"] is None:
        return
    stored = LedgerEvent(row["stream_id"], row["version"], row["topic"], row["entry"], row["sealed"])
    holders: list[Holder | None] = [None]
    if row["topic"].startswith("message."):
        names = [n for n in keys if n.holder and n.retention_class in CLASSES_OF_MESSAGES]
        holders += sorted({Holder(name.holder, name.generation) for name in names}, key=repr)
    if row["topic"].startswith("record."):
        holders += sorted({Holder(n.holder, n.generation) for n in keys if n.holder}, key=repr)
    for holder in holders:
        try:
            fact = mapper.open(stored, holder)
        except LedgerError:
            continue
        held = [
            value.reveal() for name in type(fact).model_fields if isinstance(value := getattr(fact, name), Personal)
        ]
        # A stream of records is tied to its kid by its computed id; that of a message only by what opens it.
        if held and holder is not None and row["topic"].startswith("message."):
            yield "bytes", holder.kid
        yield from values_in(held)


def opened_row(keys: Keys, tenant: UUID, table: str, row: Mapping[str, Any]) -> Iterator[Value]:
    """What living keys open of one row of another table."""
    if table in ("certificate", "destruction_list"):
        yield from values_in(orjson.loads(row["document"]))
    box, aad, scope = None, b"", None
    if table == "erasure" and row["reference"]:
        box, aad, scope = row["reference"], row["erasure_id"].bytes, scope_of(keys, SuppressionData.name, FOR_EVER)
    elif table == "parked_feedback":
        box, aad, scope = row["sealed"], row["parked_id"].bytes, scope_of(keys, Feed.name, row["feed_day"])
    elif table == "suppression_change" and row["address"]:
        box, scope = row["address"], scope_of(keys, Feed.name, row["feed_day"])
        aad = b"suppression_change" + tenant.bytes + row["position"].to_bytes(8, "big")
    if box is None or scope is None:
        return
    try:
        plaintext = open_box(scope, box, aad)
    except TamperError:
        return
    if table == "erasure":
        for at in range(0, len(plaintext), ID_BYTES):
            yield from value_of(plaintext[at : at + ID_BYTES])
        return
    try:
        held = orjson.loads(plaintext)
    except ValueError:
        held = plaintext.decode(errors="replace")
    yield from values_with_tokens(keys, held)


def values_with_tokens(keys: Keys, held: Any) -> Iterator[Value]:
    """What something shows, and what the tokens in it open to."""
    yield from values_in(held)
    for text in texts_of(held):
        try:
            month, _ = parse_token(text)
            key = keys.get(KeyName(TENANT_HOLDER, LINK, month))
            if key is not None:
                opened = open_token(text, key)
                yield from value_of(opened.handle)
                if opened.occurrence != NO_OCCURRENCE:
                    yield "bytes", opened.occurrence
        except InvalidToken:
            continue
