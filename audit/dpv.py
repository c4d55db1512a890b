"""The W3C Data Privacy Vocabulary (DPV 2) as JSON-LD: the context that every document of ours carries inside itself.

No context is fetched from anywhere: a document can be read without a network, and nobody learns that it is. Prefixes
are those of the DPV guides. A term that names a thing is typed as an IRI; words stay text, and where DCMI wants a thing
and we have words, the term is one of ours. `tests/audit/rdf.py` lists each term with where it is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from domain.countries import ASSIGNED

PREFIXES: Final[dict[str, str]] = {
    "dpv": "https://w3id.org/dpv#",
    "pd": "https://w3id.org/dpv/pd#",
    "loc": "https://w3id.org/dpv/loc#",
    "legal-eu": "https://w3id.org/dpv/legal/eu#",
    "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
    "dct": "http://purl.org/dc/terms/",
    "skos": "http://www.w3.org/2004/02/skos/core#",
    "schema": "https://schema.org/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "rdfs": "http://www.w3.org/2000/01/rdf-schema#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "lethe": "urn:x-lethe:",
}
"""`lethe` holds what no vocabulary has a word for: positions of the log, and what the ledger observed."""

PERSONAL_DATA: Final[dict[str, tuple[str, ...]]] = {
    "identity": ("pd:EmailAddress", "pd:Name"),
    "engagement": ("pd:Tracking",),
    "engagement_technical": ("pd:Tracking",),
    "usage": ("pd:Tracking",),
    "access_log": ("pd:Tracking",),
    "billing": ("pd:Financial",),
}
"""What DPV calls the retention classes; any other is personal data and no more."""

GDPR: Final = "legal-eu:law-GDPR"
"""The Regulation. The guides of DPV say `eu-gdpr:GDPR`, which no published vocabulary defines."""

IRIS: Final = (
    *("dct:conformsTo", "dct:publisher", "skos:broader", "schema:recipient"),
    *("dpv:hasDataSubject", "dpv:hasDataController", "dpv:hasDataProcessor"),
    *("dpv:hasRepresentative", "dpv:hasDataProtectionOfficer", "dpv:hasRecipient", "dpv:hasJurisdiction"),
    *("dpv:hasLocation", "dpv:hasApplicableLaw", "dpv:hasLegalBasis", "dpv:hasPurpose", "dpv:hasPersonalData"),
    *("dpv:hasProcessing", "dpv:hasProcess", "dpv:hasNotice", "dpv:hasRight", "dpv:hasConsentControl"),
    *("dpv:hasConsentStatus", "dpv:hasEntity", "dpv:hasStorageCondition", "dpv:isIndicatedBy", "dpv:hasDataSource"),
    *("dpv:hasTechnicalOrganisationalMeasure", "dpv:hasApplicability", "dpv:hasRecordOfActivity"),
    "dpv:hasThirdCountry",
)
"""Properties whose values are things: a text there is an IRI, or a prefixed name of one."""

DATES: Final = ("lethe:asOf", "lethe:declaredOn", "lethe:changedOn", "lethe:retiredOn")
TIMES: Final = ("dct:created", "dpv:isIndicatedAtTime", "lethe:recordedAt")
DATA: Final = ("lethe:observed", "lethe:findings")
"""Values that are data of ours, kept whole as JSON and not read as statements."""


def context() -> dict[str, Any]:
    """The context of a document."""
    typed: dict[str, Any] = {name: {"@id": name, "@type": "@id"} for name in IRIS}
    typed |= {name: {"@id": name, "@type": "xsd:date"} for name in DATES}
    typed |= {name: {"@id": name, "@type": "xsd:dateTime"} for name in TIMES}
    typed |= {name: {"@id": name, "@type": "@json"} for name in DATA}
    return {"@version": 1.1, **PREFIXES, **typed}


def place(country: str) -> str | dict[str, Any]:
    """A country; DPV knows those of ISO 3166-1, any other is described by its code."""
    return f"loc:{country}" if country in ASSIGNED else {"@type": "dpv:Country", "dct:identifier": country}


def urn(value: UUID) -> str:
    """An id as an IRI (RFC 9562)."""
    return f"urn:uuid:{value}"


def moment(value: datetime) -> str:
    """A time as ISO 8601 in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def not_available(reason: str, **more: Any) -> dict[str, Any]:
    """Where something belongs that is not there, and why: DPV's word for a form's empty field."""
    return {**more, "dpv:hasApplicability": "dpv:NotAvailable", "dpv:hasJustification": reason}


def without_none(node: Mapping[str, Any]) -> dict[str, Any]:
    """A node without what it does not have. One value stands alone, as in the guides; an empty list is nothing."""
    return {name: _single(value) for name, value in node.items() if value is not None and value != []}


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value
