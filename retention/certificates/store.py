"""Certificates as rows: one per certificate, in its newest revision, and the lists of keys that they name.

Rows that could be told apart by when they were written are written anew, many at a time, in order of their random
ids: see `retention/erasure/days.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

import orjson
from psycopg import Connection

from ledger.application import Ledger
from ledger.certificate_format import CONTEXT
from ledger.entry import canonical
from ledger.errors import LedgerError
from ledger.signing import sign

ERASURE: Final = "erasure"
PLAN: Final = "plan"
UNREACHABLE: Final = 1
UNRECOVERABLE: Final = 2

INSERT_CERTIFICATES: Final = """
INSERT INTO lethe.certificate
    (tenant_id, certificate_id, kind, day, stage, revision, epoch, list_id, document, signature)
SELECT %s, n.* FROM unnest(%s::uuid[], %s::text[], %s::date[], %s::smallint[], %s::smallint[], %s::int[], %s::uuid[],
    %s::bytea[], %s::bytea[]) AS n
"""
DELETE_CERTIFICATES: Final = "DELETE FROM lethe.certificate WHERE tenant_id = %s AND certificate_id = ANY(%s)"
_COLUMNS: Final = "certificate_id, kind, day, stage, revision, epoch, list_id, document, signature"
SELECT_CERTIFICATES: Final = f"""
SELECT {_COLUMNS} FROM lethe.certificate WHERE tenant_id = %s AND certificate_id = ANY(%s) ORDER BY certificate_id
"""
SELECT_WAITING: Final = f"""
SELECT {_COLUMNS} FROM lethe.certificate
WHERE tenant_id = %s AND stage = 1 AND epoch <= %s AND (revision > 1 OR kind = 'plan')
ORDER BY epoch, certificate_id LIMIT %s
"""
SELECT_OF_DAY: Final = f"""
SELECT {_COLUMNS} FROM lethe.certificate WHERE tenant_id = %s AND day = %s AND certificate_id > %s
ORDER BY certificate_id LIMIT %s
"""
SELECT_BY_ERASURE: Final = """
SELECT certificate_id, state FROM lethe.erasure WHERE tenant_id = %s AND erasure_id = %s
"""
INSERT_LIST: Final = "INSERT INTO lethe.destruction_list (tenant_id, list_id, day, document) VALUES (%s, %s, %s, %s)"
SELECT_LIST: Final = "SELECT document FROM lethe.destruction_list WHERE tenant_id = %s AND list_id = %s"


class UnknownCertificate(LedgerError):
    """No certificate has this id in this account, or none is due."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate in one revision. `epoch` is the newest one that the destroyed keys were wrapped under."""

    certificate_id: UUID
    kind: str
    day: date
    stage: int
    revision: int
    epoch: int
    list_id: UUID | None
    document: Mapping[str, Any]
    signature: bytes


def signed(
    ledger: Ledger, *, document: Mapping[str, Any], kind: str, day: date, epoch: int, list_id: UUID | None = None
) -> Certificate:
    """A document with the account's signature; id, stage and revision are the document's own."""
    signature = sign(ledger.keyring, CONTEXT, canonical(document))
    certificate_id, stage, revision = UUID(document["id"]), document["stage"], document["revision"]
    return Certificate(certificate_id, kind, day, stage, revision, epoch, list_id, document, signature)


def insert_certificates(connection: Connection[Any], tenant: UUID, certificates: Iterable[Certificate]) -> None:
    """Write certificates, in order of their ids."""
    ordered = sorted(certificates, key=lambda c: c.certificate_id)
    columns = [
        [c.certificate_id for c in ordered],
        [c.kind for c in ordered],
        [c.day for c in ordered],
        [c.stage for c in ordered],
        [c.revision for c in ordered],
        [c.epoch for c in ordered],
        [c.list_id for c in ordered],
        [canonical(c.document) for c in ordered],
        [c.signature for c in ordered],
    ]
    connection.execute(INSERT_CERTIFICATES, (tenant, *columns))


def replace_certificates(connection: Connection[Any], tenant: UUID, certificates: Sequence[Certificate]) -> None:
    """Write newer revisions of certificates as new rows."""
    connection.execute(DELETE_CERTIFICATES, (tenant, [c.certificate_id for c in certificates]))
    insert_certificates(connection, tenant, certificates)


def read_certificates(connection: Connection[Any], tenant: UUID, ids: Iterable[UUID]) -> dict[UUID, Certificate]:
    """The certificates of these ids, as far as they exist."""
    rows = connection.execute(SELECT_CERTIFICATES, (tenant, sorted(ids)))
    return {row[0]: _certificate(row) for row in rows}


def waiting_certificates(connection: Connection[Any], tenant: UUID, epoch: int, limit: int) -> list[Certificate]:
    """Certificates of stage 1 whose keys were wrapped under this epoch at the latest."""
    return [_certificate(row) for row in connection.execute(SELECT_WAITING, (tenant, epoch, limit))]


def certificates_of_day(
    connection: Connection[Any], tenant: UUID, day: date, after: UUID, limit: int
) -> list[Certificate]:
    """The certificates of keys destroyed on a day, by id."""
    return [_certificate(row) for row in connection.execute(SELECT_OF_DAY, (tenant, day, after, limit))]


def certificate(ledger: Ledger, certificate_or_erasure: UUID) -> Certificate:
    """The certificate of this id, or of this erasure. Raises `UnknownCertificate`, and says why."""
    with ledger.services.writer.transaction() as connection:
        row = connection.execute(SELECT_BY_ERASURE, (ledger.tenant, certificate_or_erasure)).fetchone()
        wanted = row[0] if row is not None and row[0] is not None else certificate_or_erasure
        found = read_certificates(connection, ledger.tenant, [wanted])
    if wanted in found:
        return found[wanted]
    raise UnknownCertificate(_WHY.get(row[1] if row is not None else "", _WHY[""]))


def insert_list(connection: Connection[Any], tenant: UUID, keys: Mapping[str, Any]) -> None:
    """Write a list of destroyed keys."""
    connection.execute(INSERT_LIST, (tenant, UUID(keys["id"]), date.fromisoformat(keys["day"]), canonical(keys)))


def exported(ledger: Ledger, held: Certificate) -> dict[str, Any]:
    """A certificate as it leaves the house: document, signature, key, and the list that it names."""
    keys = None
    if held.list_id is not None:
        with ledger.services.writer.transaction() as connection:
            row = connection.execute(SELECT_LIST, (ledger.tenant, held.list_id)).fetchone()
        keys = orjson.loads(bytes(row[0])) if row is not None else None
    return {
        "certificate": held.document,
        "signature": held.signature.hex(),
        "public_key": held.document["signer"]["public_key"],
        "destroyed_keys": keys,
    }


def _certificate(row: tuple[Any, ...]) -> Certificate:
    certificate_id, kind, day, stage, revision, epoch, list_id, document, signature = row
    held = orjson.loads(bytes(document))
    return Certificate(certificate_id, kind, day, stage, revision, epoch, list_id, held, bytes(signature))


_WHY: Final = {
    "": "There is no certificate with this id in this account.",
    "intended": "The keys are being destroyed. The certificate is issued when that is done; ask again in a moment.",
    "held": "A legal hold keeps this person's data. Nothing is destroyed, and nothing certified, until it is released.",
    "nothing_held": "Nothing was held of this address, so no key was destroyed and there is nothing to certify.",
    "keys_destroyed": "These keys were destroyed by a version that issued no certificates.",
}
