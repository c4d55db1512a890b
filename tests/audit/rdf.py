"""JSON-LD through a processor that did not write it: what a document says as RDF, and whether all of it came through.

The terms that our documents may use are listed here with where they are published. A term that is on no list, or one
that the processor could not resolve, fails.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Any, Final

import orjson
import pytest
from rdflib import RDF, Graph, Literal, URIRef
from rdflib.term import Node

RELATIVE: Final = "https://relative.invalid/"
"""The base that is given to the processor: whatever begins with it was no whole IRI in the document."""

DPV: Final = "https://w3id.org/dpv#"
PD: Final = "https://w3id.org/dpv/pd#"
LOC: Final = "https://w3id.org/dpv/loc#"
LEGAL_EU: Final = "https://w3id.org/dpv/legal/eu#"
EU_GDPR: Final = "https://w3id.org/dpv/legal/eu/gdpr#"
DPV_27560: Final = "https://w3id.org/dpv/schema/dpv-27560#"
DCT: Final = "http://purl.org/dc/terms/"
SKOS: Final = "http://www.w3.org/2004/02/skos/core#"
RDFS: Final = "http://www.w3.org/2000/01/rdf-schema#"
SCHEMA: Final = "https://schema.org/"
XSD: Final = "http://www.w3.org/2001/XMLSchema#"
LETHE: Final = "urn:x-lethe:"

# DPV 2.2, by the module of the vocabulary that defines them (github.com/w3c/dpv, 2.2/dpv/modules/*.csv).
PUBLISHED: Final[Mapping[str, str]] = {
    DPV: """
        Recipient DataController DataProcessor DataSubProcessor DataProtectionOfficer ThirdParty hasDataController
        hasDataProcessor hasDataProtectionOfficer hasRecipient
        Representative hasEntity hasName hasAddress hasRepresentative
        Authority
        DataSubject Subscriber Customer Visitor hasDataSubject
        Country hasJurisdiction hasApplicableLaw hasLocation hasThirdCountry
        NotAvailable hasApplicability hasJustification UntilEventDuration hasDuration hasIdentifier
        PersonalDataProcess Process hasProcess
        Purpose Marketing hasPurpose
        Collect Store Use Transfer hasProcessing
        PersonalData hasPersonalData
        StorageDeletion StorageLocation hasStorageCondition DataSubjectDataSource hasDataSource
        TechnicalOrganisationalMeasure hasTechnicalOrganisationalMeasure hasRecordOfActivity
        ROPA ConsentRecord ConsentReceipt SafeguardForDataTransfer
        ConsentNotice hasNotice
        LegalBasis Consent DataTransferLegalBasis hasLegalBasis hasIndicationMethod isIndicatedAtTime isIndicatedBy
        ConsentRequested ConsentGiven ConsentRefused ConsentWithdrawn RenewedConsentGiven
        ConsentStatusInvalidForProcessing
        ExpressedConsent
        WithdrawConsent hasConsentControl hasConsentStatus
        DataSubjectRight hasRight isExercisedAt
    """,
    PD: "EmailAddress Name Tracking Financial",  # 2.2/pd/modules
    LEGAL_EU: "law-GDPR",  # 2.2/legal/eu/modules/eu.csv; the guides' eu-gdpr:GDPR is defined nowhere
    EU_GDPR: """
        A6-1-a A6-1-b A6-1-c A6-1-d A6-1-e A6-1-f
        A45-3 A46-2-b A46-2-c
        A7-3 A15 A16 A17 A18 A20 A77
    """,  # 2.2/legal/eu/gdpr/modules: legal_basis, legal_basis_data_transfer, rights
    DPV_27560: "record record-eu-gdpr receipt receipt-eu-gdpr",  # schema/dpv-27560.ttl
    # DCMI Metadata Terms, those whose values may be literals or whose values we give as IRIs.
    DCT: "conformsTo created description identifier language publisher title",
    SKOS: "broader",
    RDFS: "comment",
    SCHEMA: "ContactPoint contactPoint email employee recipient telephone url version",  # schema.org/version/latest
    str(RDF): "type value JSON",
    XSD: "date dateTime integer boolean",
}
TERMS: Final = frozenset(f"{space}{name}" for space, names in PUBLISHED.items() for name in names.split())

ASSIGNED: Final = frozenset({"CH", "DE", "FR", "GB", "IE", "IN", "US"})
"""Countries that the tests name; each is in 2.2/loc/modules/locations.csv."""

TYPED: Final[Mapping[str, type]] = {
    f"{DCT}created": datetime,
    f"{DPV}isIndicatedAtTime": datetime,
    f"{LETHE}recordedAt": datetime,
    f"{LETHE}asOf": date,
    f"{LETHE}declaredOn": date,
    f"{LETHE}changedOn": date,
    f"{LETHE}retiredOn": date,
    f"{LETHE}position": int,
    f"{LETHE}allowedNow": bool,
    f"{LETHE}inForce": bool,
    f"{LETHE}imported": bool,
}
DATA: Final = frozenset({"lethe:observed", "lethe:findings"})


def as_rdf(document: Any, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """What a document says. Nothing is fetched for it."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("The processor went to the network.")

    with monkeypatch.context() as patched, warnings.catch_warnings():
        patched.setattr(socket, "create_connection", refuse)
        patched.setattr(socket.socket, "connect", refuse)
        warnings.simplefilter("ignore", DeprecationWarning)  # rdflib 7.6 warns of its own parser.
        return Graph().parse(data=orjson.dumps(document), format="json-ld", publicID=RELATIVE)


def require_sound(document: Any, graph: Graph) -> None:
    """Fail for a document of which a part was dropped, left relative, mistyped, or said in a term that is not there."""
    for term in {term for triple in graph for term in triple}:
        _require_known(term)
    for subject, predicate, value in graph:
        if isinstance(value, Literal):
            assert value.ill_typed is not True, (predicate, value)
            _require_typed(str(predicate), value)
        assert subject != value, ("two things have one name", subject, predicate)
    context = document["@context"]
    for name, value in said(document):
        predicate = RDF.type if name == "@type" else URIRef(whole(name, context))
        how = context.get(name, {}) if name != "@type" else {"@type": "@id"}
        found = set(graph.objects(None, predicate))
        assert found, (name, "was dropped")
        if value is None:
            continue
        if how.get("@type") == "@id":
            assert URIRef(whole(value, context)) in found, (name, value, "was dropped")
        else:
            assert any(_same(literal, value) for literal in found), (name, value, "was dropped")


def said(document: Any) -> Iterator[tuple[str, Any]]:
    """Every name with each of its plain values; None for a node, and for data that is not read as statements."""
    if isinstance(document, list):
        for one in document:
            yield from said(one)
    if not isinstance(document, dict):
        return
    for name, value in document.items():
        if name in ("@context", "@id"):
            continue
        if name == "@graph":
            yield from said(value)
            continue
        if name in DATA:
            yield name, None
            continue
        for one in value if isinstance(value, list) else [value]:
            yield name, None if isinstance(one, dict) else one
            yield from said(one)


def whole(name: str, context: Mapping[str, Any]) -> str:
    """A prefixed name as a whole IRI; a whole IRI as it is."""
    prefix, _, rest = name.partition(":")
    space = context.get(prefix)
    return f"{space}{rest}" if isinstance(space, str) and not rest.startswith("//") else name


def _same(node: Node, value: Any) -> bool:
    if not isinstance(node, Literal):
        return False
    if isinstance(value, str) and isinstance(node.value, datetime):
        return bool(node.value == datetime.fromisoformat(value))
    if isinstance(value, bool | int):
        return bool(node.value == value and type(node.value) is type(value))
    return str(node) == str(value)


def _require_known(term: Node) -> None:
    iri = str(term.datatype) if isinstance(term, Literal) and term.datatype is not None else str(term)
    if isinstance(term, Literal) and term.datatype is None:
        return
    if isinstance(term, URIRef | Literal):
        assert not iri.startswith(RELATIVE), ("relative", iri)
        assert " " not in iri, iri
        ours = iri.startswith((LETHE, "urn:uuid:"))
        country = iri.startswith(LOC) and iri.removeprefix(LOC) in ASSIGNED
        assert ours or country or iri in TERMS, ("in no vocabulary", iri)


def _require_typed(predicate: str, value: Literal) -> None:
    wanted = TYPED.get(predicate)
    if wanted is None:
        assert value.datatype is None or value.datatype == RDF.JSON, (predicate, value)
        return
    assert type(value.value) is wanted, (predicate, value, value.datatype)
