"""Consent records and receipts, wired: collected, made, and recorded before they are handed out (I8)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal
from uuid import UUID

import orjson

from api.bootstrap import Instance
from api.processing import surroundings
from audit.consents.acts import EXPORT_KINDS, words_of
from audit.consents.documents import Surroundings, consent_receipt, consent_records
from audit.records.record import records_of_processing
from domain.access import rounded_up
from domain.law import rules_on
from ledger.application import Ledger

Kind = Literal["record", "receipt"]

LD_JSON: Final = "application/ld+json"
GDPR_REGIME: Final = "eu"
"""The rules of the countries in which Regulation (EU) 2016/679 holds; see `domain/law/countries.toml`."""


@dataclass(frozen=True, slots=True)
class ConsentDocument:
    """A document as it is handed out: how many records and acts are in it, and how much evidence was opened for it."""

    content: bytes
    records: int
    acts: int
    opened: int
    digest: str | None


def consent_document(
    instance: Instance,
    ledger: Ledger,
    kind: Kind,
    email: str,
    *,
    purpose: str | None = None,
    opened: bool,
    actor: str,
) -> ConsentDocument:
    """The records about one person, or a receipt of them. That it is made is recorded, as a look and as an export.

    Raises what `words_of` does, and `KeyDestroyed` for somebody who is being forgotten.
    """
    words = words_of(ledger, email, purpose=purpose, opened=opened)
    country = ledger.account().country
    processing = records_of_processing(ledger, surroundings(instance), observing=False)
    gdpr = rules_on(processing.as_of.on).regime_of(country).name == GDPR_REGIME
    around = Surroundings(processing, country, gdpr)
    if kind == "receipt":
        document = consent_receipt(words, around, UUID(bytes=os.urandom(16), version=4), ledger.clock())
    else:
        document = consent_records(words, around)
    content = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    # A receipt has a random id, so nobody meets its digest by guessing; a record has nothing that is random.
    digest = sha256(content).hexdigest() if kind == "receipt" else None
    acts = sum(len(said.acts) for said in words.said)
    # The export stands where only the person's key finds it, and the look beside it names no subject: ADR 0033.
    called = EXPORT_KINDS[kind]
    ledger.exports.record(
        words.person, called, "one person", entries=acts, opened=words.opened, actor=actor, digest=digest
    )
    if words.opened:
        ledger.record_view(called, subject=None, parts_opened=rounded_up(words.opened), actor=actor)
    return ConsentDocument(content, len(words.said), acts, words.opened, digest)
