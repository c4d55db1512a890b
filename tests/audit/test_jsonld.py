"""Our JSON-LD, read by a processor of somebody else's: nothing is dropped, fetched, relative, or in unknown terms."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest
from rdflib import RDF, URIRef

from audit.dpv import context
from audit.records.as_jsonld import record_jsonld
from audit.records.model import RecordsOfProcessing
from tests.audit.rdf import DPV, RELATIVE, as_rdf, require_sound
from tests.audit.sample_record import EMPTY, RECORD

BASE = f"urn:uuid:{RECORD.tenant}#"


@pytest.mark.parametrize("record", [RECORD, EMPTY], ids=["full", "empty"])
def test_a_record_of_processing_comes_through_whole(
    record: RecordsOfProcessing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a record, when its JSON-LD becomes RDF, then all of it is there, in terms that are published."""
    document = record_jsonld(record)
    graph = as_rdf(document, monkeypatch)
    require_sound(document, graph)
    assert graph.value(predicate=RDF.type, object=URIRef(f"{DPV}ROPA")) == URIRef(f"{BASE}record/2026-11-21-recorded")


def test_every_entry_of_the_registers_is_one_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a record, then what is named in one place is the thing that is described in another."""
    graph = as_rdf(record_jsonld(RECORD), monkeypatch)
    named = {node for _, _, node in graph if isinstance(node, URIRef) and str(node).startswith("urn:uuid:")}
    assert named
    for node in named:
        assert (node, RDF.type, None) in graph, node


def test_the_data_of_ours_stays_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given observations and findings, then they stand in the graph as the same JSON."""
    document = record_jsonld(RECORD)
    graph = as_rdf(document, monkeypatch)
    for name in ("observed", "findings"):
        (value,) = graph.objects(None, URIRef(f"urn:x-lethe:{name}"))
        assert orjson.loads(str(value)) == orjson.loads(orjson.dumps(document[f"lethe:{name}"]))


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        ({"invented": "x"}, "dropped"),
        ({"dpv:hasInvention": "x"}, "in no vocabulary"),
        ({"dpv:hasRecipient": "mailer"}, "relative"),
        ({"lethe:asOf": "yesterday"}, "asOf"),
        ({"dct:created": 7}, "created"),
        ({"dpv:hasApplicableLaw": "loc:ZZ"}, "in no vocabulary"),
    ],
)
def test_a_fault_would_be_found(spoiled: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a document with a fault of each kind, then it is found (control)."""
    document = record_jsonld(RECORD) | spoiled
    with pytest.raises(AssertionError, match=why):
        require_sound(document, as_rdf(document, monkeypatch))


def test_a_context_elsewhere_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a context behind an address, then the processor's way to it is barred and seen (control)."""
    with pytest.raises(AssertionError, match="network"):
        as_rdf({"@context": "http://127.0.0.1:9/context", "@id": RELATIVE}, monkeypatch)
    assert all(not isinstance(value, str) or ":" in value for value in context().values())


def test_a_country_that_the_vocabulary_does_not_know_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given a code that an older register took and no list has, then it stands as a country with that code."""
    mailer = dataclasses.replace(RECORD.recipients[0], countries=("DE", "UK", "XK"), third_countries=("UK", "XK"))
    document = record_jsonld(dataclasses.replace(RECORD, recipients=(mailer,), activities=()))
    graph = as_rdf(document, monkeypatch)
    require_sound(document, graph)
    places = set(graph.objects(URIRef(f"{BASE}recipient/mailer"), URIRef(f"{DPV}hasLocation")))
    codes = {str(graph.value(place, URIRef("http://purl.org/dc/terms/identifier"))) for place in places}
    assert codes == {"None", "UK", "XK"}, "loc:DE is a thing of the vocabulary and needs no description."


def test_texts_of_every_script_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given words from right to left, of other planes and with line ends, then they are the same as RDF."""
    words = 'رسالة إخبارية עברית 𝕃 🜁 \\ "q" \n <https://x.example> @en ^^xsd:date'
    activity = dataclasses.replace(RECORD.activities[0], name=words, note=words)
    document = record_jsonld(dataclasses.replace(RECORD, activities=(activity,)))
    graph = as_rdf(document, monkeypatch)
    require_sound(document, graph)
    assert str(graph.value(URIRef(f"{BASE}activity/newsletter"), URIRef("http://purl.org/dc/terms/title"))) == words
