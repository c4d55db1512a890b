"""What living keys compute: ids of messages, records and exports, handles, and the holders of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from audit.attacks.links.graph import Value
from audit.attacks.links.values import value_of
from domain.personal import HoldReference, Identity
from domain.records import RECORD_CLASSES
from ledger.exports import export_stream_id
from ledger.hold_book import hold_tag
from ledger.keys.keyring import LINK
from ledger.keys.names import TENANT_HOLDER, KeyName
from ledger.links import handle_of, link_scope, message_id, records_kid_of
from ledger.record_streams import record_stream_id
from ledger.sealing import scope_key

Keys = Mapping[KeyName, bytes]


def of_holder(keys: Keys, campaigns: Sequence[bytes], months: Iterable[str]) -> Iterator[tuple[bytes, Iterator[Value]]]:
    """For each person whose keys live, what these compute with those of everybody."""
    months = sorted(months)
    for name, key in keys.items():
        if name.holder == TENANT_HOLDER:
            continue
        if name.retention_class == LINK:
            # Under a name with a month a legal hold keeps K_link itself.
            yield name.holder, _message_ids(key, campaigns) if name.period else linked(keys, key, campaigns)
        if name.retention_class == Identity.name:
            yield name.holder, _derived(key, months)
        if name.retention_class in RECORD_CLASSES:
            yield name.holder, _record_streams(keys, name, key)


def hold_tag_of(keys: Keys, kid: bytes) -> Iterator[Value]:
    """What a legal hold's row would know the holder of these keys by."""
    key = keys.get(KeyName(TENANT_HOLDER, HoldReference.name))
    if key is not None and kid:
        yield "bytes", hold_tag(key, kid)


def linked(keys: Keys, link_key: bytes, campaigns: Sequence[bytes]) -> Iterator[Value]:
    """Every message id that a person's link key gives with the living months' keys."""
    months = [k for n, k in keys.items() if n.retention_class == LINK and n.holder == TENANT_HOLDER]
    for month_key in months:
        yield from _message_ids(link_scope(link_key, month_key), campaigns)


def scope_of(keys: Keys, retention_class: str, period: str) -> bytes | None:
    """The key of a class and a period of everybody's, if both halves live."""
    subject = keys.get(KeyName(TENANT_HOLDER, retention_class))
    key = keys.get(KeyName(TENANT_HOLDER, retention_class, period))
    return scope_key(subject, key) if subject and key else None


def _record_streams(keys: Keys, name: KeyName, key: bytes) -> Iterator[Value]:
    """Every stream of records that a person's key of a class gives with the living periods' keys."""
    if name.period:  # What a legal hold keeps of one period.
        yield "bytes", record_stream_id(key, name.period)
        return
    for other, of_period in keys.items():
        if (other.holder, other.retention_class) == (TENANT_HOLDER, name.retention_class) and other.period:
            yield "bytes", record_stream_id(scope_key(key, of_period), other.period)


def _message_ids(scope: bytes, campaigns: Sequence[bytes]) -> Iterator[Value]:
    return (("bytes", message_id(scope, campaign)) for campaign in campaigns)


def _derived(identity_key: bytes, months: Iterable[str]) -> Iterator[Value]:
    """What an identity key gives: the handle, the kid of the person's records, the streams of exports about them."""
    yield from (("bytes", export_stream_id(identity_key, month)) for month in months)
    yield from value_of(handle_of(identity_key))
    yield from value_of(records_kid_of(identity_key))
