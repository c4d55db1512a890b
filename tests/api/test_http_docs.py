"""The OpenAPI document and the page made of it: valid, complete, stable, and without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from api.http.app import OPERATIONS
from api.http.problems import PROBLEM_TYPES
from domain.permission import RULES
from tests.api.conftest import Api

WITHOUT_BODY = (
    "/v1/campaigns/{id}/closure",
    "/v1/account/termination",
    "/v1/account/reactivation",
    "/v1/registers/seeds",
)
OPERATION_IDS = {
    "keepRecords",
    "checkPermission",
    "standingAsOf",
    "reportPolicy",
    "addAccountHolder",
    "addContacts",
    "correctContact",
    "recordConsents",
    "registerCampaign",
    "getCampaign",
    "closeCampaign",
    "authoriseSends",
    "recordFeedback",
    "listParkedFeedback",
    "lookUpSuppressions",
    "followSuppressions",
    "suppressAddresses",
    "liftSuppression",
    "recordObjection",
    "restrictProcessing",
    "erasePerson",
    "placeHold",
    "widenHold",
    "releaseHold",
    "listHolds",
    "terminateAccount",
    "reactivateAccount",
    "getErasure",
    "getErasureCertificate",
    "getCertificate",
    "deleteContacts",
    "getDeletion",
    "declareRegisterEntries",
    "amendRegisterEntries",
    "retireRegisterEntry",
    "seedRegisters",
    "listRegisterEntries",
    "getProcessingRecord",
    "compareProcessingRecords",
    "searchEvents",
    "proveEvent",
    "makeBundle",
    "makeReceipt",
    "exportTrail",
    "makeConsentRecords",
    "makeConsentReceipt",
}
SCHEMA_WORDS = {"$ref", "type", "anyOf", "oneOf", "const", "enum", "properties", "title", "description"}


@pytest.fixture
def document(api: Api) -> Any:
    """The document as it is served."""
    return api.get("/openapi.json", scope="")


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Method, path and details of each operation."""
    for path, methods in document["paths"].items():
        for method, details in methods.items():
            yield method, path, details


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from walk(child)
    elif isinstance(value, list):
        for child in value:
            yield from walk(child)


def test_operation_ids_are_stable_and_unique(document: Any) -> None:
    """Clients are generated from these names: a change here breaks them, and needs this list to change."""
    ids = [details["operationId"] for _, _, details in operations(document)]
    assert len(ids) == len(set(ids))
    assert set(ids) == OPERATION_IDS
    assert len(ids) == len(OPERATIONS)


def test_document_is_openapi_3_1(document: Any) -> None:
    """The members that the specification asks for, in the form it asks for."""
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"].keys() >= {"title", "version"}
    for method, path, details in operations(document):
        assert method in ("get", "post", "patch")
        assert details["summary"]
        assert details["description"]
        named = {p["name"] for p in details.get("parameters", ()) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", path))
        assert all(p["required"] for p in details.get("parameters", ()) if p["in"] == "path")
        assert all("schema" in p for p in details.get("parameters", ()))
        places = [(p["in"], p["name"]) for p in details.get("parameters", ())]
        assert len(places) == len(set(places))
        assert any(re.fullmatch(r"2\d\d", status) for status in details["responses"])
        for response in details["responses"].values():
            assert response["description"]
            assert all("schema" in content for content in response["content"].values())
        assert details["responses"]["default"]["content"].keys() == {"application/problem+json"}
        assert ("requestBody" in details) == (method != "get" and path not in WITHOUT_BODY)
        assert details["security"] == [{"apiKey": []}]


def test_every_reference_leads_somewhere(document: Any) -> None:
    """No dangling `$ref`, and every schema says something."""
    schemas = document["components"]["schemas"]
    references = [found["$ref"] for found in walk(document) if "$ref" in found]
    assert references
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= schemas.keys()
    assert all(schema.keys() & SCHEMA_WORDS for schema in schemas.values())


def test_bodies_are_closed(document: Any) -> None:
    """What is not named is refused, and the document says so."""
    for _, _, details in operations(document):
        for content in details.get("requestBody", {}).get("content", {}).values():
            name = content["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["additionalProperties"] is False


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        held = dict(attrs)
        self.attributes |= held.keys()
        if held.get("id"):
            self.ids.append(str(held["id"]))
        for name in ("href", "src"):
            if held.get(name):
                self.links.append(str(held[name]))


def test_docs_page_needs_nothing(api: Api) -> None:
    """No script, no handler, no outside resource; its policy allows its own style by hash and nothing else."""
    answer = api.call("GET", "/docs", scope="")
    page = Page()
    page.feed(answer.text)
    assert answer.headers["content-type"].startswith("text/html")
    assert "script" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on") or name == "style"]
    assert not [link for link in page.links if not link.startswith(("#", "/"))]
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_docs_page_explains_everything(api: Api, document: Any) -> None:
    """Every operation, every shape, every problem type where its URI points, every rule."""
    answer = api.call("GET", "/docs", scope="")
    page = Page()
    page.feed(answer.text)
    ids = set(page.ids)
    assert ids >= OPERATION_IDS
    assert {f"shape-{name}" for name in document["components"]["schemas"]} <= ids
    for kind in PROBLEM_TYPES.values():
        assert kind.uri.removeprefix("/docs#") in ids
    assert all(f"<code>{rule}</code>" in answer.text for rule in RULES)
