"""Consent records and receipts: what the 27560 profile of DPV asks for is there, and each act leads to its leaf."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from rdflib import RDF, URIRef

from api.bootstrap import Instance
from api.consent_documents import consent_document
from audit.attacks.links import LinksAttack
from audit.consents import acts as consent_acts
from audit.consents.acts import NothingSaid, TooManyActs, words_of
from audit.consents.documents import NO_NOTICE, NOT_OPENED, Surroundings, consent_receipt, consent_records
from domain.access import ROUNDED_TO_MIN, ExportProduced, PersonalDataViewed
from domain.ids import month_of
from domain.merkle import leaf_hash
from domain.register import declare
from domain.register_shape import statement
from domain.standing import SOFT_OPT_IN
from domain.subject import Action
from domain.subject_commands import CorrectContact, RecordConsent, SayNo
from ledger.application import Ledger
from ledger.embedded import EmbeddedPostgres
from ledger.errors import KeyDestroyed, UnknownSubject
from ledger.subjects import Act
from projections.history import EventUnreadable
from projections.worker import catch_up
from retention.certificates.store import certificate, exported
from retention.daily import run_daily
from retention.erasure.erasing import finish_erasures
from tests.acts import add, emails, person, say, topics, willing
from tests.audit.rdf import DPV, as_rdf, require_sound
from tests.audit.sample_record import RECORD
from tests.support import SettableClock

pytestmark = pytest.mark.store

ANNA = "anna@example.com"
SHOWN = {
    "method": "double_opt_in",
    "ip": "192.0.2.7",
    "form": "https://acme.example/join",
    "wording": "Send me the newsletter.",
    "notice_version": "2026-03",
}
AROUND = Surroundings(RECORD, "DE", gdpr=True)
BARE = Surroundings(dataclasses.replace(RECORD, parties=(), activities=(), recipients=()), None, gdpr=False)

KINDS_OF_NODES = (
    *("ConsentRecord", "ConsentReceipt", "ConsentNotice", "DataSubject", "DataController"),
    *("ConsentRequested", "ConsentGiven", "ConsentWithdrawn", "ConsentRefused", "RenewedConsentGiven"),
)
"""A node is of one of these at most."""

# What the guide to DPV's profile of ISO/IEC TS 27560 says MUST be present, by the node that it stands in.
RECORD_FIELDS = (
    *("@id", "@type", "dct:identifier", "dct:conformsTo", "dpv:hasDataSubject", "dpv:hasDataController"),
    *("dpv:hasNotice", "dpv:hasProcess", "dpv:hasConsentControl", "dpv:hasJurisdiction", "dpv:hasRight"),
    *("dpv:hasEntity", "dpv:hasLegalBasis", "dpv:hasConsentStatus"),
)
PROCESS_FIELDS = ("dpv:hasPurpose", "dpv:hasPersonalData", "dpv:hasRecipient", "dpv:hasStorageCondition")
STATUS_FIELDS = ("@type", "dpv:isIndicatedAtTime", "dpv:isIndicatedBy", "dpv:hasDuration")
ENTITY_FIELDS = ("@id", "@type", "dpv:hasIdentifier", "dpv:hasName", "dpv:hasAddress", "schema:contactPoint")
RECEIPT_FIELDS = ("@id", "@type", "dct:identifier", "dct:conformsTo", "dct:created", "dpv:hasRecordOfActivity")


def listed(value: Any) -> list[Any]:
    """One or several values, as a list."""
    return value if isinstance(value, list) else [value]


def require_profile(record: dict[str, Any], *, gdpr: bool) -> None:
    """Fail for a record that lacks a field which the profile asks for."""
    assert set(RECORD_FIELDS) <= record.keys(), set(RECORD_FIELDS) - record.keys()
    assert record["@type"] == "dpv:ConsentRecord"
    wanted = "https://w3id.org/dpv/schema/dpv-27560#record" + ("-eu-gdpr" if gdpr else "")
    assert record["dct:conformsTo"] == wanted
    assert str(UUID(record["dct:identifier"])) == record["dct:identifier"]
    for notice in listed(record["dpv:hasNotice"]):
        assert notice["@type"] == "dpv:ConsentNotice"
        assert notice["dct:language"]
        assert "dct:description" in notice or notice["dpv:hasJustification"]
    for process in listed(record["dpv:hasProcess"]):
        assert set(PROCESS_FIELDS) <= process.keys()
        assert any(
            "StorageLocation" in str(c["@type"]) for c in listed(process["dpv:hasStorageCondition"]) if "@type" in c
        )
    for status in listed(record["dpv:hasConsentStatus"]):
        assert set(STATUS_FIELDS) <= status.keys()
        assert status["dpv:isIndicatedAtTime"].endswith("Z")
    for entity in listed(record["dpv:hasEntity"]):
        assert set(ENTITY_FIELDS) <= entity.keys()
    known = {entity["@id"] for entity in listed(record["dpv:hasEntity"])}
    assert set(listed(record["dpv:hasDataController"])) <= known


def made(ledger: Ledger, *, opened: bool = True, around: Surroundings = AROUND, **asked: Any) -> list[dict[str, Any]]:
    """The records about Anna, as they are read back."""
    document = consent_records(words_of(ledger, ANNA, opened=opened, **asked), around)
    return list(orjson.loads(orjson.dumps(document))["@graph"])


@pytest.fixture
def told(ledger: Ledger, clock: SettableClock) -> Ledger:
    """Anna was asked, agreed, withdrew, agreed again; and refused another purpose."""
    clock.set(datetime.now(UTC) + timedelta(days=1))
    add(ledger, [ANNA], first_name="Anna")
    words: list[tuple[Action, dict[str, str]]] = [
        *(("request", SHOWN), ("grant", SHOWN), ("withdraw", {"method": "link"}), ("grant", SHOWN))
    ]
    for action, evidence in words:
        clock.advance(timedelta(hours=1))
        say(ledger, [ANNA], action, evidence=evidence)
    say(ledger, [ANNA], "refuse", purpose="offers", evidence=None)
    return ledger


def test_a_record_has_every_field_that_the_profile_asks_for(told: Ledger) -> None:
    """Given a controller that declared everything, and one that declared nothing, then both records are complete:
    what the ledger does not have is said to be missing, and why."""
    for around, gdpr in ((AROUND, True), (BARE, False)):
        newsletter, offers = made(told, around=around)
        require_profile(newsletter, gdpr=gdpr)
        require_profile(offers, gdpr=gdpr)
    bare, _ = made(told, around=BARE)
    assert bare["dpv:hasJurisdiction"]["dpv:hasApplicability"] == "dpv:NotAvailable"
    assert "dpv:hasApplicableLaw" not in bare


def test_its_statuses_are_the_history_with_a_leaf_for_each_act(told: Ledger) -> None:
    """Given what Anna said, then the statuses are in DPV's words and in order, and each leads to its event's leaf."""
    newsletter, offers = made(told)
    statuses = newsletter["dpv:hasConsentStatus"]
    assert [listed(status["@type"])[0] for status in statuses] == [
        "dpv:ConsentRequested",
        "dpv:ConsentGiven",
        "dpv:ConsentWithdrawn",
        "dpv:ConsentGiven",
    ]
    assert offers["dpv:hasConsentStatus"]["@type"] == "dpv:ConsentRefused"
    for status in statuses:
        (event,) = told.log.select_log(status["lethe:position"], 1)
        assert status["lethe:leafHash"] == leaf_hash(event.state).hex()
        assert UUID(status["@id"].removeprefix("urn:uuid:")).hex == orjson.loads(event.state)["id"]
    assert statuses[0]["dpv:isIndicatedBy"] == newsletter["dpv:hasDataController"]
    assert statuses[1]["dpv:isIndicatedBy"] == newsletter["dpv:hasDataSubject"]["@id"]
    assert statuses[1]["dpv:hasIndicationMethod"] == "double_opt_in"
    assert (newsletter["lethe:allowedNow"], offers["lethe:allowedNow"]) == (True, False)


def test_a_grant_on_a_grant_renews_and_one_without_effect_is_no_consent(told: Ledger) -> None:
    """Given two grants one after the other, and one that is dated before a withdrawal, then the second renews, and the
    last is marked as not valid for processing, with the reason."""
    say(told, [ANNA], "grant", evidence=SHOWN)
    say(told, [ANNA], "withdraw")
    say(told, [ANNA], "grant", evidence=SHOWN, at=told.clock() - timedelta(hours=3))
    newsletter, _ = made(told)
    *_, renewed, _, late = newsletter["dpv:hasConsentStatus"]
    assert renewed["@type"] == ["dpv:RenewedConsentGiven", "dpv:ExpressedConsent"]
    assert late["@type"] == "dpv:ConsentStatusInvalidForProcessing"
    assert late["lethe:withoutEffect"] == "not_later_than_withdrawal"
    assert not newsletter["lethe:allowedNow"]


def test_who_is_asked_again_has_taken_nothing_back(told: Ledger) -> None:
    """Given a request after a grant, then it stands in the record as one without effect; the first one does not."""
    say(told, [ANNA], "request", evidence=SHOWN)
    newsletter, _ = made(told)
    first, *_, last = newsletter["dpv:hasConsentStatus"]
    assert (last["@type"], last["lethe:withoutEffect"]) == ("dpv:ConsentRequested", "said_already")
    assert "lethe:withoutEffect" not in first
    assert newsletter["lethe:allowedNow"]


def test_it_says_what_was_shown_where_that_is_opened(told: Ledger) -> None:
    """Given evidence, when an officer asks, then words and version are there, once for the acts that share them; when
    it stays closed, or was never given, then the reason is."""
    newsletter, offers = made(told)
    shown, unknown = newsletter["dpv:hasNotice"]
    assert (shown["dct:description"], shown["schema:version"]) == (SHOWN["wording"], "2026-03")
    assert unknown["dpv:hasJustification"] == NO_NOTICE
    assert offers["dpv:hasNotice"]["dpv:hasJustification"] == NO_NOTICE
    assert newsletter["dpv:hasConsentStatus"][1]["lethe:evidence"]["lethe:ip"] == "192.0.2.7"
    closed, _ = made(told, opened=False)
    assert closed["dpv:hasNotice"]["dpv:hasJustification"] == NOT_OPENED
    assert closed["dpv:hasConsentStatus"][1]["lethe:evidence"]["dpv:hasJustification"] == NOT_OPENED
    assert "192.0.2.7" not in orjson.dumps(closed).decode()


def test_it_names_the_person_by_their_id_only(told: Ledger) -> None:
    """Given a record, then neither the address nor the name stands in it."""
    for text in (orjson.dumps(made(told)).decode(), orjson.dumps(made(told, opened=False)).decode()):
        assert "anna" not in text.lower()
    subject = UUID(bytes=person(told, ANNA).person.subject)
    assert made(told)[0]["dpv:hasDataSubject"]["dct:identifier"] == str(subject)


def test_it_names_nobody_else(told: Ledger, instance: Instance) -> None:
    """Given a controller whose register names natural persons, and somebody else who agreed as well, then neither their
    names nor anything of the other stand in a receipt, and no look at the names is recorded (GDPR Art. 15(4))."""
    for key, role, name in (("acme", "controller", "Ada Lovelace"), ("dpo", "controller_dpo", "Bo Officer")):
        values = {"key": key, "role": role, "name": "Acme GmbH", "email": "privacy@acme.example", "person": name}
        stated = statement("party", values)
        told.registers.change(lambda held, stated=stated: declare(held, stated), actor="cli")  # type: ignore[misc]
    (other,) = emails(1)
    willing(told, [other])
    before = topics(told)
    receipt = consent_document(instance, told, "receipt", ANNA, opened=True, actor="cli").content.decode()
    assert topics(told)[len(before) :] == [ExportProduced.TOPIC, PersonalDataViewed.TOPIC]
    stranger = str(UUID(bytes=person(told, other).person.subject))
    for word in ("Lovelace", "Bo Officer", stranger, other):
        assert word not in receipt
    assert "privacy@acme.example" in receipt
    assert not any("Beispiel" in orjson.dumps(record).decode() for record in made(told))


def test_the_word_in_force_is_marked(told: Ledger) -> None:
    """Given acts of which one arrived late, then the one that the rules go by is marked: RDF keeps no order, and the
    times alone would tell another story."""
    say(told, [ANNA], "withdraw", at=told.clock() - timedelta(minutes=90))
    newsletter, offers = made(told)
    statuses = newsletter["dpv:hasConsentStatus"]
    in_force = [status for status in statuses if status.get("lethe:inForce")]
    assert in_force == [statuses[-1]]
    assert in_force[0]["@type"] == "dpv:ConsentWithdrawn"
    assert in_force[0]["dpv:isIndicatedAtTime"] < max(status["dpv:isIndicatedAtTime"] for status in statuses)
    assert offers["dpv:hasConsentStatus"]["lethe:inForce"] is True
    say(told, [ANNA], "request", evidence=SHOWN)
    again = made(told)[0]["dpv:hasConsentStatus"]
    assert [status["@id"] for status in again if status.get("lethe:inForce")] == [in_force[0]["@id"]]


def test_who_has_not_confirmed_is_only_asked(ledger: Ledger, clock: SettableClock) -> None:
    """Given a double opt-in that nobody confirmed, then the record has the request, and nothing may be sent."""
    add(ledger, [ANNA])
    say(ledger, [ANNA], "request", evidence=SHOWN)
    (record,) = made(ledger)
    assert record["dpv:hasConsentStatus"]["@type"] == "dpv:ConsentRequested"
    assert (record["lethe:allowedNow"], record["lethe:ruleNow"]) == (False, "consent_not_confirmed")
    require_profile(record, gdpr=True)


def test_a_permission_that_is_no_consent_is_no_record(ledger: Ledger) -> None:
    """Given a soft opt-in that the controller declared, then there is no consent to give a receipt of."""
    add(ledger, [ANNA])
    ledger.act(Act(RecordConsent("newsletter", "email", "grant", basis=SOFT_OPT_IN), address=ANNA, actor="cli"))
    with pytest.raises(NothingSaid):
        words_of(ledger, ANNA, opened=True)


def test_words_go_with_the_person_and_not_with_the_address(told: Ledger) -> None:
    """Given an address that changed, then the new one leads to all that was said; given a person who was erased and
    came back, then the address leads to what was said since, and to nothing before."""
    told.act(Act(CorrectContact(email="new@example.com"), address=ANNA, actor="cli"))
    moved = words_of(told, "new@example.com", opened=True)
    assert sum(len(said.acts) for said in moved.said) == 5
    told.erasures.intend(["new@example.com"], reason="subject_request", actor="cli")
    finish_erasures(told)
    for address in (ANNA, "new@example.com"):
        with pytest.raises(UnknownSubject):
            words_of(told, address, opened=True)
    add(told, [ANNA])
    say(told, [ANNA], "refuse", evidence=SHOWN)
    back = words_of(told, ANNA, opened=True)
    assert [len(said.acts) for said in back.said] == [1]
    assert back.subject != moved.subject


def test_controller_recipients_and_limits_come_from_the_register(told: Ledger) -> None:
    """Given activities that rest on consent, then their data, recipients and time limits are in the process."""
    newsletter = made(told)[0]
    process = newsletter["dpv:hasProcess"]
    base = f"urn:uuid:{RECORD.tenant}#"
    assert newsletter["dpv:hasDataController"] == [f"{base}party/acme", f"{base}party/lost"]
    assert newsletter["dpv:hasDataProcessor"] == f"{base}party/lethe"
    assert process["dpv:hasRecipient"] == [f"{base}recipient/mailer", f"{base}recipient/old"]
    assert [data["dct:identifier"] for data in process["dpv:hasPersonalData"]] == ["identity", "engagement"]
    assert process["dpv:hasStorageCondition"][0]["dct:description"] == "24 months after the month"
    assert process["dpv:hasPurpose"]["dct:identifier"] == "newsletter"
    assert {"eu-gdpr:A7-3", "eu-gdpr:A17"} <= {right["@type"][1] for right in newsletter["dpv:hasRight"]}


def test_both_documents_come_through_a_processor_whole(told: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a history and its documents, opened or not, by a controller that declared everything or nothing, when they
    become RDF, then all of it is there, in published terms, and record, acts and receipt are different things."""
    for opened, around in ((True, AROUND), (False, AROUND), (True, BARE)):
        words = words_of(told, ANNA, opened=opened)
        kept = consent_records(words, around)
        receipt = consent_receipt(words, around, UUID(int=7), told.clock())
        for document in (kept, receipt):
            graph = as_rdf(document, monkeypatch)
            require_sound(document, graph)
            made_of = {kind: set(graph.subjects(RDF.type, URIRef(f"{DPV}{kind}"))) for kind in KINDS_OF_NODES}
            assert len(made_of["ConsentRecord"]) == len(words.said) == 2
            assert len(made_of["ConsentReceipt"]) == (document is receipt)
            assert sum(len(found) for found in made_of.values()) == len(set().union(*made_of.values()))
            about = set(graph.objects(None, URIRef(f"{DPV}hasDataSubject")))
            assert about == {URIRef(f"urn:uuid:{words.subject}")}


def test_a_receipt_wraps_the_records(told: Ledger) -> None:
    """Given a receipt, then it has the fields of one, and the same records as they are kept."""
    words = words_of(told, ANNA, opened=True)
    receipt = consent_receipt(words, AROUND, UUID(int=7), told.clock())
    assert set(RECEIPT_FIELDS) <= receipt.keys()
    assert receipt["@type"] == "dpv:ConsentReceipt"
    assert receipt["dct:conformsTo"] == "https://w3id.org/dpv/schema/dpv-27560#receipt-eu-gdpr"
    assert consent_receipt(words, BARE, UUID(int=7), told.clock())["dct:conformsTo"].endswith("#receipt")
    assert receipt["schema:recipient"] == f"urn:uuid:{words.subject}"
    assert orjson.loads(orjson.dumps(receipt["dpv:hasRecordOfActivity"])) == made(told)


def test_an_objection_shows_beside_a_consent(told: Ledger) -> None:
    """Given a consent and a later objection, then the record says that nothing may be sent now, and by which rule."""
    told.act(Act(SayNo("objection", "marketing"), address=ANNA, actor="cli"))
    (newsletter,) = made(told, purpose="newsletter")
    assert (newsletter["lethe:allowedNow"], newsletter["lethe:ruleNow"]) == (False, "objection")


# Who may have one, and what is recorded -------------------------------------------------------------------------------


def test_making_one_is_recorded_as_a_look_and_as_an_export(told: Ledger, instance: Instance) -> None:
    """Given a receipt, when it is made, then the log holds the look, and the export with the digest of the file; a
    record, which holds nothing random, leaves no digest."""
    document = consent_document(instance, told, "receipt", ANNA, opened=True, actor="cli")
    assert document.digest == sha256(document.content).hexdigest()
    export, view = told.log.select_log(len(topics(told)) - 1, 2)
    assert (export.topic, view.topic) == (ExportProduced.TOPIC, PersonalDataViewed.TOPIC)
    assert orjson.loads(view.state)["plain"] == {"what": "consent.receipt", "parts_opened": ROUNDED_TO_MIN}
    assert 0 < document.opened < ROUNDED_TO_MIN
    assert UUID(bytes=person(told, ANNA).person.subject).hex.encode() not in export.state + view.state
    said = orjson.loads(export.state)["plain"]
    assert said == {
        "kind": "consent.receipt",
        "what": "one person",
        "entries": ROUNDED_TO_MIN,
        "opened": ROUNDED_TO_MIN,
        "digest": document.digest,
    }
    other = consent_document(instance, told, "receipt", ANNA, opened=True, actor="cli")
    assert other.digest != document.digest
    assert consent_document(instance, told, "record", ANNA, opened=True, actor="cli").digest is None
    assert "digest" not in orjson.loads(told.log.select_log(len(topics(told)) - 1, 1)[0].state)["plain"]


def test_of_a_forgotten_person_there_is_none(told: Ledger, instance: Instance) -> None:
    """Given an erasure, then nothing leads from the address to a record any more, nor while it is under way."""
    row = person(told, ANNA)
    told.erasures.intend([ANNA], reason="subject_request", actor="cli")
    with pytest.raises((UnknownSubject, KeyDestroyed)):
        consent_document(instance, told, "receipt", ANNA, opened=True, actor="cli")
    finish_erasures(told)
    with pytest.raises(UnknownSubject):
        consent_document(instance, told, "record", ANNA, opened=True, actor="cli")
    with pytest.raises(KeyDestroyed):
        told.exports.record(row, "consent.receipt", "x", entries=0, opened=0, actor="cli", digest=None)


def test_what_is_recorded_of_a_receipt_leads_nowhere_after_an_erasure(
    told: Ledger, instance: Instance, server: EmbeddedPostgres, clock: SettableClock
) -> None:
    """Given documents that were made of somebody among twenty, when they are erased and the days are over, then their
    address leads to none of their events, and their certificate lists what had left the house (I11)."""
    willing(told, emails(20))
    consent_document(instance, told, "record", ANNA, opened=True, actor="cli")
    consent_document(instance, told, "receipt", ANNA, opened=True, actor="cli")
    clock.advance(timedelta(hours=3))
    (status, *_) = told.erasures.intend([ANNA], reason="subject_request", actor="cli")
    finish_erasures(told)
    listed_exports = exported(told, certificate(told, status.erasure_id))["certificate"]["exports"]
    assert sorted(one["kind"] for one in listed_exports) == ["consent.receipt", "consent.record"]
    clock.advance(timedelta(days=9))
    run_daily(told)
    catch_up(told)
    attack = LinksAttack(
        ledger_url=server.url("lethe_ledger"),
        vault_url=server.url("lethe_vault"),
        provider=told.services.vault.provider,
        tenant=told.tenant,
    )
    assert attack.leads(ANNA, receipts=[status.erasure_id]) == []


def test_who_said_nothing_has_no_record(ledger: Ledger) -> None:
    """Given a contact without a word, or without one on this purpose, then that is the answer."""
    add(ledger, [ANNA])
    with pytest.raises(NothingSaid):
        words_of(ledger, ANNA, opened=True)
    willing(ledger, emails(1))
    with pytest.raises(NothingSaid):
        words_of(ledger, emails(1)[0], purpose="offers", opened=True)


def test_more_than_one_document_holds_is_refused(told: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given more acts than are held in memory at once, then it is refused, and says what to ask for instead."""
    monkeypatch.setattr(consent_acts, "ACTS_MAX", 4)
    with pytest.raises(TooManyActs, match="bundle"):
        words_of(told, ANNA, opened=True)


def test_changed_evidence_is_an_incident(told: Ledger, server: EmbeddedPostgres) -> None:
    """Given sealed evidence that was changed, then no record is made of it, and the position is named."""
    position = next(e.position for e in told.log.select_log(None, 100) if e.topic == "consent.granted.v1")
    with psycopg.connect(server.url("lethe_ledger"), autocommit=True) as connection:
        connection.execute("ALTER TABLE lethe.event DISABLE TRIGGER ALL")
        connection.execute(
            "UPDATE lethe.event SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) "
            "WHERE tenant_id = %s AND position = %s",
            (told.tenant, position),
        )
        connection.execute("ALTER TABLE lethe.event ENABLE TRIGGER ALL")
    with pytest.raises(EventUnreadable) as refused:
        words_of(told, ANNA, opened=True)
    assert refused.value.position == position


def test_evidence_whose_period_is_over_says_erased(told: Ledger) -> None:
    """Given a consent whose month's key is destroyed, then its acts stay with their leaves, and the evidence says when
    and why it went."""
    now = told.clock()
    for month in {month_of(now), month_of(now - timedelta(days=1))}:
        told.services.vault.destroy_period(told.tenant, "consent", month, when=now, cause="its time was over")
        told.keyring.forget_period("consent", month)
    newsletter, _ = made(told)
    why = newsletter["dpv:hasConsentStatus"][1]["lethe:evidence"]["dpv:hasJustification"]
    assert why == f"Erased on {now:%Y-%m-%d}: its time was over."
    assert newsletter["dpv:hasConsentStatus"][1]["lethe:leafHash"]
    require_profile(newsletter, gdpr=True)
