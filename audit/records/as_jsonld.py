"""A record of processing as JSON-LD in the Data Privacy Vocabulary: `dpv:ROPA` with its processes and entities.

What Article 30 asks for is said in DPV's terms. What the ledger observed, and the findings, have none: they stand as
data under `lethe:observed` and `lethe:findings`, whole. The context stands inside the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from typing import Any, Final

from audit.dpv import GDPR, PERSONAL_DATA, context, moment, not_available, place, urn, without_none
from audit.records.model import (
    Activity,
    Coded,
    Measure,
    Party,
    PartyRole,
    Recipient,
    RecordsOfProcessing,
    Safeguard,
    TimeLimit,
    Transfer,
)

ERASED: Final = "The keys that sealed it are destroyed."

PARTY_TYPES: Final[dict[PartyRole, str]] = {
    "controller": "dpv:DataController",
    "controller_representative": "dpv:Representative",
    "controller_dpo": "dpv:DataProtectionOfficer",
    "joint_controller": "dpv:DataController",
    "processor": "dpv:DataProcessor",
    "processor_representative": "dpv:Representative",
    "processor_dpo": "dpv:DataProtectionOfficer",
}
RECIPIENT_TYPES: Final = {
    "processor": "dpv:DataProcessor",
    "sub_processor": "dpv:DataSubProcessor",
    "authority": "dpv:Authority",
}
LAWFUL_BASES: Final = {
    "consent": "eu-gdpr:A6-1-a",
    "contract": "eu-gdpr:A6-1-b",
    "legal_obligation": "eu-gdpr:A6-1-c",
    "vital_interests": "eu-gdpr:A6-1-d",
    "public_task": "eu-gdpr:A6-1-e",
    "legitimate_interests": "eu-gdpr:A6-1-f",
}
MECHANISMS: Final = {"adequacy": "eu-gdpr:A45-3", "scc": "eu-gdpr:A46-2-c", "bcr": "eu-gdpr:A46-2-b"}
SUBJECTS: Final = {"contact": "dpv:Subscriber", "account_holder": "dpv:Customer", "visitor": "dpv:Visitor"}


def record_jsonld(record: RecordsOfProcessing) -> dict[str, Any]:
    """The document; every value of it is JSON's."""
    maker = RecordNodes(record)
    document = without_none(
        {
            "@context": context(),
            "@id": maker.iri("record", f"{record.as_of.on.isoformat()}-{record.as_of.meaning}"),
            "@type": "dpv:ROPA",
            "dct:title": "Records of processing activities (GDPR Art. 30)",
            "dct:identifier": f"{record.tenant}/{record.as_of.on.isoformat()}/{record.as_of.meaning}",
            "dct:created": moment(record.made_at),
            "lethe:asOf": record.as_of.on.isoformat(),
            "lethe:asOfMeaning": record.as_of.meaning,
            "lethe:position": record.position,
            "lethe:policy": f"{record.pack} {record.pack_version}",
            "dct:publisher": maker.parties("processor" if record.operator else "controller"),
            "dpv:hasApplicableLaw": GDPR,
            "dpv:hasEntity": [
                *(maker.party(party) for party in record.parties),
                *(maker.recipient(recipient) for recipient in maker.every_recipient()),
            ],
            "dpv:hasTechnicalOrganisationalMeasure": [maker.safeguard(safeguard) for safeguard in record.safeguards],
            "dpv:hasProcess": [maker.process(activity) for activity in (*record.activities, *record.retired)],
        }
    )
    findings = [_data(asdict(finding)) for finding in record.findings]
    return document | {"lethe:observed": _data(asdict(record.observed)), "lethe:findings": findings}


class RecordNodes:
    """Makes the nodes of one record; ids are those of the account's registers."""

    def __init__(self, record: RecordsOfProcessing) -> None:
        self._record = record

    def iri(self, kind: str, key: str) -> str:
        """The IRI of an entry: the account's, and where it stands in its registers (RFC 8141, f-component)."""
        return f"{urn(self._record.tenant)}#{kind}/{key}"

    def parties(self, *roles: PartyRole) -> list[str]:
        """The IRIs of who holds one of these roles."""
        return [self.iri("party", party.key) for role in roles for party in self._record.party(role)]

    def every_recipient(self) -> Iterator[Recipient]:
        """Each recipient once, whether in force or named by an activity only."""
        named = (r for activity in (*self._record.activities, *self._record.retired) for r in activity.recipients)
        yield from {recipient.key: recipient for recipient in (*named, *self._record.recipients)}.values()

    def party(self, party: Party) -> dict[str, Any]:
        """Who is answerable, with contacts. A representative and an officer are tied to whom they act for."""
        acting = party.role in ("controller", "processor")
        node = {
            "@id": self.iri("party", party.key),
            "@type": PARTY_TYPES[party.role],
            "dct:identifier": party.key,
            "dpv:hasName": party.name,
            "schema:employee": party.person,
            "dpv:hasAddress": party.address,
            "schema:contactPoint": _contact(party),
            "dpv:hasJurisdiction": place(party.country) if party.country else None,
            "dpv:hasRepresentative": self.parties(_representative_of(party.role)) if acting else None,
            "dpv:hasDataProtectionOfficer": self.parties(_officer_of(party.role)) if acting else None,
        }
        return without_none(node | (not_available(ERASED) if party.erased else {}))

    def recipient(self, recipient: Recipient) -> dict[str, Any]:
        """Who data is disclosed to."""
        node = {
            "@id": self.iri("recipient", recipient.key),
            "@type": ["dpv:Recipient", RECIPIENT_TYPES.get(recipient.kind.code, "dpv:ThirdParty")],
            "dct:identifier": recipient.key,
            "lethe:kind": recipient.kind.words,
            "dpv:hasName": recipient.name,
            "dct:description": recipient.category,
            "dpv:hasLocation": [place(country) for country in recipient.countries],
            "dpv:hasThirdCountry": [place(country) for country in recipient.third_countries],
        }
        return without_none(node | (not_available(ERASED) if recipient.erased else {}))

    def safeguard(self, safeguard: Safeguard) -> dict[str, Any]:
        """What makes transfers to some countries lawful."""
        node = {
            "@id": self.iri("safeguard", safeguard.key),
            "@type": "dpv:SafeguardForDataTransfer",
            "dct:identifier": safeguard.key,
            "lethe:kind": safeguard.mechanism.words,
            "dct:title": safeguard.title,
            "dpv:hasThirdCountry": [place(country) for country in safeguard.countries],
            "lethe:documentSha256": safeguard.document_sha256,
            "lethe:copyFrom": safeguard.where,
        }
        return without_none(node | (not_available(ERASED) if safeguard.erased else {}))

    def process(self, activity: Activity) -> dict[str, Any]:
        """One processing activity. In a row of Art. 30(2) its purposes say the categories of processing."""
        node = {
            "@id": self.iri("activity", activity.key),
            "@type": "dpv:PersonalDataProcess",
            "dct:identifier": activity.key,
            "dct:title": activity.name,
            "lethe:article": "30(1)" if activity.role == "controller" else "30(2)",
            "lethe:declaredOn": activity.declared_on.isoformat(),
            "lethe:changedOn": activity.changed_on.isoformat(),
            "lethe:retiredOn": activity.retired_on.isoformat() if activity.retired_on else None,
            "lethe:wordsFrom": activity.source,
            "rdfs:comment": activity.note,
            "dpv:hasDataController": self.parties("controller", "joint_controller"),
            "dpv:hasDataProcessor": self.parties("processor") if activity.role == "processor" else None,
            "dpv:hasPurpose": [{"@type": "dpv:Purpose", "dct:description": words} for words in activity.purposes],
            "dpv:hasDataSubject": [_subject(subject) for subject in activity.subjects],
            "dpv:hasPersonalData": [_category(category) for category in activity.categories],
            "dpv:hasRecipient": [self.iri("recipient", recipient.key) for recipient in activity.recipients],
            "dpv:hasLegalBasis": [_basis(basis) for basis in activity.lawful_bases],
            "dpv:hasProcessing": [self.transfer(transfer) for transfer in activity.transfers],
            "dpv:hasStorageCondition": [_time_limit(limit) for limit in activity.time_limits],
            "dpv:hasTechnicalOrganisationalMeasure": [_measure(measure) for measure in activity.measures],
        }
        return without_none(node | (not_available(ERASED) if activity.erased else {}))

    def transfer(self, transfer: Transfer) -> dict[str, Any]:
        """A transfer to a third country, with its safeguard or the lack of one."""
        node = {
            "@type": "dpv:Transfer",
            "dpv:hasRecipient": self.iri("recipient", transfer.recipient),
            "dpv:hasThirdCountry": place(transfer.country),
        }
        if transfer.mechanism is None:
            return node | {"dpv:hasLegalBasis": not_available("No safeguard is declared for this transfer.")}
        basis = {
            "@type": MECHANISMS.get(transfer.mechanism.code, "dpv:DataTransferLegalBasis"),
            "dct:identifier": transfer.safeguard,
            "dct:title": transfer.title or transfer.mechanism.words,
            "lethe:documentSha256": transfer.document_sha256,
            "lethe:copyFrom": transfer.where,
        }
        return node | {"dpv:hasLegalBasis": without_none(basis)}


def _contact(party: Party) -> dict[str, Any] | None:
    known = {"schema:email": party.email, "schema:telephone": party.phone, "schema:url": party.website}
    contact = without_none({"@type": "schema:ContactPoint", **known})
    return contact if len(contact) > 1 else None


def _representative_of(role: PartyRole) -> PartyRole:
    return "controller_representative" if role == "controller" else "processor_representative"


def _officer_of(role: PartyRole) -> PartyRole:
    return "controller_dpo" if role == "controller" else "processor_dpo"


def _subject(subject: Coded) -> dict[str, Any]:
    broader = SUBJECTS.get(subject.code)
    node = {"@type": "dpv:DataSubject", "skos:broader": broader, **_coded(subject)}
    return without_none(node)


def _category(category: Coded) -> dict[str, Any]:
    broader = list(PERSONAL_DATA.get(category.code, ("dpv:PersonalData",)))
    return without_none({"@type": "dpv:PersonalData", "skos:broader": broader, **_coded(category)})


def _basis(basis: Coded) -> dict[str, Any]:
    return {"@type": LAWFUL_BASES.get(basis.code, "dpv:LegalBasis"), **_coded(basis)}


def _coded(coded: Coded) -> dict[str, Any]:
    return {"dct:identifier": coded.code, "dct:title": coded.words}


def _time_limit(limit: TimeLimit) -> dict[str, Any]:
    node = {
        "@type": "dpv:StorageDeletion",
        "dct:identifier": limit.category,
        "dct:description": limit.words,
        "lethe:clause": limit.clause,
        "lethe:policySays": limit.pack_words,
    }
    return without_none(node)


def _measure(measure: Measure) -> dict[str, Any]:
    node = {
        "@type": "dpv:TechnicalOrganisationalMeasure",
        "dct:identifier": measure.code,
        "dct:description": measure.words,
        "lethe:contradicted": measure.contradicted,
    }
    return without_none(node)


def _data(value: Any) -> Any:
    """Plain values of the model as JSON's."""
    if isinstance(value, Mapping):
        return {name: _data(held) for name, held in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_data(held) for held in value]
    if isinstance(value, datetime):
        return moment(value)
    return value.isoformat() if isinstance(value, date) else value
