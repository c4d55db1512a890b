"""Consent records and receipts as JSON-LD, by DPV's profile of ISO/IEC TS 27560:2023.

One record is about one person, one purpose and one channel; its consent statuses are the person's acts, each with
its position in the log. A receipt is a wrapper around records, made for the person. A field that the profile asks for
and the ledger does not have is there all the same: as `dpv:NotAvailable`, with the reason.

The person is named by their pseudonymous id only. A receipt has a random id that stands nowhere else, so that the
digest which the log keeps of it cannot be met by guessing at what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from audit.consents.acts import ConsentAct, PersonsWords, Said
from audit.dpv import GDPR, context, moment, not_available, place, urn, without_none
from audit.records.as_jsonld import RecordNodes
from audit.records.model import Party, RecordsOfProcessing
from domain.personal import Erased, Unopened
from domain.scope import is_transactional
from domain.subject import ConsentGranted, ConsentRefused, ConsentRequested, ConsentWithdrawn

SCHEMA: Final = "https://w3id.org/dpv/schema/dpv-27560"
CONSENT_BASIS: Final = "consent"
UNDETERMINED: Final = "und"
"""The language of a notice, where nobody recorded it (ISO 639-2)."""

SAID_ALREADY: Final = "said_already"
NOT_DECLARED: Final = "No activity of the register of processing rests on consent and says it."
NO_CONTACT: Final = "The register names no contact of the controller."
NO_NOTICE: Final = "What the person was shown was not recorded."
NOT_OPENED: Final = "Sealed. It is opened for the account's officers only."
NO_COUNTRY: Final = "The account says no country."
NO_ADDRESS: Final = "The register names no address."
NO_LOCATION: Final = "The register does not say where data is stored."

RIGHTS: Final = {
    "A7-3": "Right to withdraw consent",
    "A15": "Right of access",
    "A16": "Right to rectification",
    "A17": "Right to erasure",
    "A18": "Right to restriction of processing",
    "A20": "Right to data portability",
    "A77": "Right to lodge a complaint with a supervisory authority",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a record says of the controller: the account's record of processing, its country, and whether GDPR holds."""

    processing: RecordsOfProcessing
    country: str | None
    gdpr: bool


def consent_records(words: PersonsWords, around: Surroundings) -> dict[str, Any]:
    """Every record about what one person said, in one document."""
    maker = _Maker(words, around)
    return {"@context": context(), "@graph": [maker.record(said) for said in words.said]}


def consent_receipt(words: PersonsWords, around: Surroundings, receipt_id: UUID, made_at: datetime) -> dict[str, Any]:
    """A receipt for the person: their records, wrapped. `receipt_id` is random and kept by nobody else."""
    maker = _Maker(words, around)
    return without_none(
        {
            "@context": context(),
            "@id": urn(receipt_id),
            "@type": "dpv:ConsentReceipt",
            "dct:identifier": str(receipt_id),
            "dct:conformsTo": _schema("receipt", around),
            "dct:created": moment(made_at),
            "dct:publisher": maker.controllers(),
            "schema:recipient": urn(words.subject),
            "dpv:hasRecordOfActivity": [maker.record(said) for said in words.said],
        }
    )


def _schema(kind: str, around: Surroundings) -> str:
    return f"{SCHEMA}#{kind}-eu-gdpr" if around.gdpr else f"{SCHEMA}#{kind}"


class _Maker:
    """Makes the nodes of the documents about one person."""

    def __init__(self, words: PersonsWords, around: Surroundings) -> None:
        self._subject = urn(words.subject)
        self._around = around
        self._processing = around.processing
        self._nodes = RecordNodes(around.processing)
        self._basis = "eu-gdpr:A6-1-a" if around.gdpr else "dpv:Consent"
        self._activities = [
            activity
            for activity in around.processing.of_role("controller")
            if any(basis.code == CONSENT_BASIS for basis in activity.lawful_bases)
        ]

    def record(self, said: Said) -> dict[str, Any]:
        """One record. Its id is made from the first act's, so that it is the same whenever the record is made."""
        first, last = said.acts[0].fact, said.acts[-1].fact
        notices = _notices(said)
        node = {
            "@id": f"{urn(first.event_id)}#record",
            "@type": "dpv:ConsentRecord",
            "dct:identifier": str(first.event_id),
            "dct:conformsTo": _schema("record", self._around),
            "dct:created": _time(first.recorded_at),
            "lethe:recordedAt": _time(last.recorded_at),
            "dpv:hasDataSubject": {
                "@id": self._subject,
                "@type": "dpv:DataSubject",
                "dct:identifier": self._subject.removeprefix("urn:uuid:"),
            },
            "dpv:hasDataController": self.controllers(),
            "dpv:hasDataProcessor": self._nodes.parties("processor"),
            "dpv:hasJurisdiction": self._jurisdiction(),
            "dpv:hasApplicableLaw": GDPR if self._around.gdpr else None,
            "dpv:hasLegalBasis": self._basis,
            "dpv:hasNotice": list({notice["@id"]: notice for notice in notices.values()}.values()),
            "dpv:hasProcess": self._process(said),
            "dpv:hasConsentControl": self._withdrawing(),
            "dpv:hasRight": self._rights(),
            "dpv:hasEntity": list(self._entities()),
            "dpv:hasConsentStatus": self._statuses(said, notices),
            "lethe:allowedNow": said.now.allowed,
            "lethe:ruleNow": said.now.rule,
        }
        return without_none(node)

    def controllers(self) -> list[str]:
        """Who decides; the account itself where the register names nobody."""
        return self._nodes.parties("controller", "joint_controller") or [self._unnamed()]

    def _unnamed(self) -> str:
        return self._nodes.iri("party", "controller")

    def _jurisdiction(self) -> Any:
        country = self._around.country
        return place(country) if country else not_available(NO_COUNTRY)

    def _process(self, said: Said) -> dict[str, Any]:
        purpose = {
            "@type": "dpv:Purpose",
            "dct:identifier": said.purpose,
            "dct:title": f"{said.purpose} by {said.channel}",
            "skos:broader": None if is_transactional(said.purpose) else "dpv:Marketing",
        }
        each = [self._nodes.process(activity) for activity in self._activities]
        return {
            "@type": "dpv:Process",
            "dpv:hasPurpose": without_none(purpose),
            "dpv:hasLegalBasis": self._basis,
            "dpv:hasDataSource": "dpv:DataSubjectDataSource",
            "dpv:hasProcessing": ["dpv:Collect", "dpv:Store", "dpv:Use"],
            "dpv:hasPersonalData": _gathered(each, "dpv:hasPersonalData"),
            "dpv:hasRecipient": _gathered(each, "dpv:hasRecipient"),
            "dpv:hasStorageCondition": [
                *_listed(_gathered(each, "dpv:hasStorageCondition")),
                not_available(NO_LOCATION, **{"@type": "dpv:StorageLocation"}),
            ],
        }

    def _contact(self) -> str | None:
        parties = self._processing.party("controller")
        return next((found for party in parties if (found := party.website or party.email)), None)

    def _withdrawing(self) -> dict[str, Any]:
        control = {"@type": "dpv:WithdrawConsent", "dct:title": "Tell the controller, at any time and without a reason"}
        contact = self._contact()
        return not_available(NO_CONTACT, **control) if contact is None else control | {"dpv:isExercisedAt": contact}

    def _rights(self) -> list[dict[str, Any]]:
        contact = self._contact()
        if not self._around.gdpr:
            right = {"@type": "dpv:DataSubjectRight", "dct:title": RIGHTS["A7-3"], "dpv:isExercisedAt": contact}
            return [without_none(right)]
        return [
            without_none(
                {
                    "@type": ["dpv:DataSubjectRight", f"eu-gdpr:{article}"],
                    "dct:title": title,
                    "dpv:isExercisedAt": None if article == "A77" else contact,
                }
            )
            for article, title in RIGHTS.items()
        ]

    def _entities(self) -> Iterator[dict[str, Any]]:
        """Who stands in the record: controllers, processors, their officers, and every recipient that it names.

        Natural persons who act for them do not: a receipt is for somebody else (GDPR Art. 15(4)).
        """
        parties = [replace(party, person=None) for party in self._processing.parties]
        yield from (_reachable(self._nodes.party(party)) for party in parties)
        if not any(_decides(party) for party in parties):
            name = self._processing.account_name
            node = {"@id": self._unnamed(), "@type": "dpv:DataController", "dpv:hasName": name}
            yield _reachable(without_none(node))
        named = {recipient.key: recipient for activity in self._activities for recipient in activity.recipients}
        yield from (_reachable(self._nodes.recipient(recipient)) for recipient in named.values())

    def _statuses(self, said: Said, notices: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
        """The acts in the order of the log, which a graph does not keep: the one that the rules go by is marked."""
        made, in_force = [], None
        given = spoken = False
        for act in said.acts:
            asked = isinstance(act.fact, ConsentRequested)
            node = self._status(act, renewed=given) | {"dpv:hasNotice": notices[act.position]["@id"]}
            made.append(node)
            if asked and spoken:
                # Who is asked again after they have spoken has taken nothing back by that.
                node["lethe:withoutEffect"] = SAID_ALREADY
            elif act.counts:
                in_force = node
            if act.counts and not asked:
                given, spoken = isinstance(act.fact, ConsentGranted), True
        if in_force is not None:
            in_force["lethe:inForce"] = True
        return made

    def _status(self, act: ConsentAct, *, renewed: bool) -> dict[str, Any]:
        fact = act.fact
        node = {
            "@id": urn(fact.event_id),
            "@type": _state(act, renewed=renewed),
            "dpv:isIndicatedAtTime": moment(fact.occurred_at),
            "dpv:isIndicatedBy": self.controllers() if isinstance(fact, ConsentRequested) else self._subject,
            "dpv:hasIndicationMethod": fact.method or not_available("How it was said was not recorded."),
            "dpv:hasDuration": _duration(act),
            "lethe:recordedAt": _time(fact.recorded_at),
            "lethe:position": act.position,
            "lethe:leafHash": act.leaf.hex(),
            "lethe:evidence": _evidence(act),
            "lethe:withoutEffect": None if act.counts else getattr(fact, "reason", None),
            "lethe:imported": True if getattr(fact, "imported", False) else None,
        }
        return without_none(node)


def _decides(party: Party) -> bool:
    return party.role in ("controller", "joint_controller")


def _reachable(node: dict[str, Any]) -> dict[str, Any]:
    """An entity with all that the profile wants of one; what the register does not say is said to be missing."""
    wanted = {
        "dpv:hasName": not_available("The register names nobody, or the name is erased."),
        "dpv:hasAddress": not_available(NO_ADDRESS),
        "schema:contactPoint": not_available(NO_CONTACT),
    }
    return wanted | node | {"dpv:hasIdentifier": node["@id"]}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _gathered(each: list[dict[str, Any]], name: str) -> Any:
    """What the activities that rest on consent say of one thing, each saying once."""
    found: list[Any] = []
    for process in each:
        found += [one for one in _listed(process.get(name, [])) if one not in found]
    return found or not_available(NOT_DECLARED)


def _state(act: ConsentAct, *, renewed: bool) -> Any:
    """DPV's word for an act. A grant that lifts nothing is none of its states of consent: it is only not valid."""
    fact = act.fact
    if isinstance(fact, ConsentRequested):
        return "dpv:ConsentRequested"
    if isinstance(fact, ConsentRefused):
        return "dpv:ConsentRefused"
    if isinstance(fact, ConsentWithdrawn):
        return "dpv:ConsentWithdrawn"
    if not act.counts:
        return "dpv:ConsentStatusInvalidForProcessing"
    return ["dpv:RenewedConsentGiven" if renewed else "dpv:ConsentGiven", "dpv:ExpressedConsent"]


def _duration(act: ConsentAct) -> dict[str, Any]:
    """How long the state holds: until the person says otherwise. No law here sets an end to it."""
    said = "until the person decides" if isinstance(act.fact, ConsentRequested) else "until the person says otherwise"
    return {"@type": "dpv:UntilEventDuration", "rdf:value": said}


def _notices(said: Said) -> dict[int, dict[str, Any]]:
    """The notice that each act refers to, by the act's position. What reads alike is one notice."""
    known: dict[tuple[str | None, ...], dict[str, Any]] = {}
    return {act.position: known.setdefault(_shown_to(act), _notice(act)) for act in said.acts}


def _shown_to(act: ConsentAct) -> tuple[str | None, ...]:
    evidence = act.evidence
    if isinstance(evidence, Mapping):
        return (evidence.get("notice_version"), evidence.get("wording"))
    return (_why_not(evidence), None, None)


def _notice(act: ConsentAct) -> dict[str, Any]:
    node = {"@id": f"{urn(act.fact.event_id)}#notice", "@type": "dpv:ConsentNotice", "dct:language": UNDETERMINED}
    evidence = act.evidence
    if isinstance(evidence, Mapping) and (evidence.get("notice_version") or evidence.get("wording")):
        version, wording = evidence.get("notice_version"), evidence.get("wording")
        return without_none(node | {"schema:version": version, "dct:description": wording})
    return not_available(NO_NOTICE if isinstance(evidence, Mapping) else _why_not(evidence), **node)


def _evidence(act: ConsentAct) -> Any:
    evidence = act.evidence
    if evidence is None:
        return None
    if not isinstance(evidence, Mapping):
        return not_available(_why_not(evidence))
    return without_none({f"lethe:{name}": value for name, value in evidence.items()})


def _why_not(evidence: Erased | Unopened | None) -> str:
    if isinstance(evidence, Unopened):
        return NOT_OPENED
    if isinstance(evidence, Erased):
        return f"Erased on {evidence.when:%Y-%m-%d}: {evidence.why}."
    return NO_NOTICE


def _time(value: datetime | None) -> str | None:
    return None if value is None else moment(value)
