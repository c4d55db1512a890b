"""Consent records and receipts, and records of processing as files, over HTTP and on the command line."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from api.bootstrap import Instance
from api.record_forms import FORMS
from domain.access import ExportProduced, PersonalDataViewed
from ledger.application import Ledger
from tests.acts import add, emails, willing
from tests.api.cli_support import CommandLine
from tests.api.conftest import Api

pytestmark = pytest.mark.store

ANNA = "anna@example.com"


@pytest.fixture
def cli(instance: Instance, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """The command line on a fresh account with two people."""
    willing(ledger, emails(2))
    return CommandLine(instance, ledger, tmp_path, monkeypatch)


# Consent records over HTTP --------------------------------------------------------------------------------------------


def test_officers_get_records_with_what_was_shown_and_auditors_without(api: Api) -> None:
    """Given a consent, when its record is asked for, then an officer sees the evidence, an auditor that it is there,
    and both looks are recorded."""
    api.add(ANNA)
    for scope, seen in (("officer", True), ("auditor", False)):
        end = api.end_of_log()
        answer = api.call("POST", "/v1/consents/records", {"email": ANNA}, scope=scope)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/ld+json"
        assert ("192.0.2.7" in answer.text) is seen
        assert ANNA not in answer.text
        (record,) = answer.json()["@graph"]
        assert record["dct:conformsTo"].endswith("#record-eu-gdpr")
        written = [event.topic for event in api.ledger.log.select_log(end + 1, 9)]
        assert written == ([ExportProduced.TOPIC, PersonalDataViewed.TOPIC] if seen else [ExportProduced.TOPIC])


def test_a_receipt_is_for_officers_and_its_digest_is_in_the_log(api: Api) -> None:
    """Given a consent, when an officer makes a receipt, then its digest is in the log; nobody else may make one."""
    api.add(ANNA)
    answer = api.call("POST", "/v1/consents/receipts", {"email": ANNA, "purpose": "newsletter"}, scope="officer")
    assert answer.json()["@type"] == "dpv:ConsentReceipt"
    said = json.loads(api.ledger.log.select_log(api.end_of_log() - 1, 1)[0].state)["plain"]
    assert said["digest"] == hashlib.sha256(answer.content).hexdigest()
    for scope in ("auditor", "campaign"):
        assert api.call("POST", "/v1/consents/receipts", {"email": ANNA}, scope=scope).status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"email": "nobody@example.com"}, 404),
        ({"email": "silent@example.com"}, 404),
        ({"email": ANNA, "purpose": "offers"}, 404),
        ({"email": "no address"}, 422),
        ({"email": ANNA, "purpose": "NO PURPOSE"}, 422),
        ({}, 422),
    ],
)
def test_where_there_is_none_the_answer_says_so(api: Api, body: dict[str, Any], status: int) -> None:
    """Given nobody, somebody who said nothing, or nonsense, then the answer is a problem, and nothing is recorded."""
    api.add(ANNA)
    api.add("silent@example.com", consent=False)
    end = api.end_of_log()
    answer = api.call("POST", "/v1/consents/records", body, scope="officer")
    assert answer.status_code == status, answer.text
    assert api.end_of_log() == end
    assert "example.com" not in answer.text


# On the command line --------------------------------------------------------------------------------------------------


def test_a_receipt_is_written_into_a_private_file(cli: CommandLine) -> None:
    """Given an address on standard input, when a receipt is made, then only its owner may read the file, and the log
    knows its digest."""
    said = cli.json("consent", "receipt", "--email", "-", "--out", "receipt.jsonld", stdin=emails(1)[0])
    path = cli.folder / "receipt.jsonld"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (said["records"], said["acts"], said["opened"]) == (1, 1, 1)
    assert said["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(cli.ledger.log.select_log(cli.end() - 1, 1)[0].state)["plain"]["digest"] == said["sha256"]


def test_records_go_to_standard_output_and_can_stay_closed(cli: CommandLine) -> None:
    """Given no file, when records are made closed, then the JSON-LD is all that stands on standard output."""
    found = json.loads(cli("consent", "record", "--email", emails(1)[0], "--closed"))
    assert found["@graph"][0]["@type"] == "dpv:ConsentRecord"
    assert "192.0.2.1" not in json.dumps(found)
    assert "192.0.2.1" in cli("consent", "record", "--email", emails(1)[0])
    assert cli.json("consent", "record", "--email", emails(1)[0], code=2)["error"] == "out_needed"


def test_a_refusal_leaves_no_file_and_no_record(cli: CommandLine) -> None:
    """Given somebody unknown, somebody silent, or two at once, then nothing is written and nothing recorded."""
    add(cli.ledger, ["silent@example.com"])
    end = cli.end()
    for who, code, name in (
        ("nobody@example.com", 5, "unknown_contact"),
        ("silent@example.com", 5, "nothing_said"),
        ("\n".join(emails(2)), 2, "one_address"),
    ):
        told = cli.json("consent", "receipt", "--email", "-", "--out", "x", stdin=who, code=code)
        assert told["error"] == name
    assert not (cli.folder / "x").exists()
    assert cli.end() == end


# Records of processing as files ---------------------------------------------------------------------------------------


def test_a_record_of_processing_can_be_had_in_every_form(api: Api) -> None:
    """Given an account, when its record is asked for by name or by Accept, then each form comes under its type."""
    api.add(ANNA)
    for name, form in FORMS.items():
        by_name = api.call("GET", f"/v1/processing-records?format={name}", scope="auditor")
        plain = form.media_type.partition(";")[0]
        by_type = api.call("GET", "/v1/processing-records", scope="auditor", headers={"Accept": plain})
        for answer in (by_name, by_type):
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == form.media_type
            assert answer.headers["vary"] == "Accept"
        assert ("content-disposition" in by_name.headers) == (name != "html")
    book = openpyxl.load_workbook(
        io.BytesIO(api.call("GET", "/v1/processing-records?format=xlsx", scope="officer").content)
    )
    assert "activities" in book.sheetnames
    page = api.call("GET", "/v1/processing-records?format=html", scope="officer")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("text/html,application/json;q=0.9", "text/html; charset=utf-8"),
        ("application/pdf;q=0.2, application/ld+json;q=0.7", "application/ld+json"),
        ("application/pdf;q=0", "application/json"),
        ("application/pdf;q=much", "application/json"),
        ("image/png", "application/json"),
        (",".join(["x/y"] * 60) + ",application/pdf", "application/json"),
    ],
)
def test_the_form_that_is_wanted_most_is_given(api: Api, accept: str, expected: str) -> None:
    """Given an Accept header, then the form of the highest quality is chosen, and JSON where none is named."""
    answer = api.call("GET", "/v1/processing-records", scope="auditor", headers={"Accept": accept})
    assert answer.headers["content-type"] == expected


def test_an_unknown_form_is_refused(api: Api) -> None:
    """Given a form that there is not, then the answer names those there are."""
    answer = api.call("GET", "/v1/processing-records?format=docx", scope="auditor")
    assert answer.status_code == 422
    assert "xlsx" in answer.json()["detail"]
    assert api.call("GET", "/v1/processing-records?format=pdf", scope="campaign").status_code == 403


def test_the_command_writes_the_form_that_is_named(cli: CommandLine) -> None:
    """Given a file's name or a format, when the record is shown, then it is written so, for its owner only."""
    for name, start in (("a.xlsx", b"PK"), ("a.zip", b"PK"), ("a.pdf", b"%PDF"), ("a.html", b"<!doctype")):
        said = cli.json("processing", "show", "--out", name)
        path = cli.folder / name
        assert path.read_bytes().lstrip().startswith(start)
        assert said["bytes"] == path.stat().st_size
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with zipfile.ZipFile(cli.folder / "a.zip") as archive:
        assert "03-activities.csv" in archive.namelist()
    document = json.loads(cli("processing", "show", "--format", "jsonld"))
    assert document["@type"] == "dpv:ROPA"
    assert cli.json("processing", "show", "--out", "a.docx", code=2)["error"] == "format_needed"
    assert cli.json("processing", "show", "--format", "pdf", code=2)["error"] == "out_needed"
    assert cli.json("processing", "show", "--out", "a.pdf", code=1)["error"] == "file_exists"
