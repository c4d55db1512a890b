"""Records of processing as CSV, XLSX, PDF, HTML and JSON-LD: every value comes out again, nothing runs, no warning."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
import subprocess
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import openpyxl
import orjson
import pytest

from api.record_forms import FORMS, RecordForm, file_name
from api.records_page import CONTENT_POLICY, STYLE, record_page
from audit.dpv import context
from audit.formulas import neutralised
from audit.records.as_csv import UnknownTable, record_csv, record_zip, table_csv, title_of
from audit.records.as_jsonld import record_jsonld
from audit.records.as_pdf import ATTACHED, TOLD_ELSEWHERE, record_pdf
from audit.records.as_xlsx import CELL_CHARACTERS_MAX, fitting, record_xlsx
from audit.records.model import EXTRAS, RecordsOfProcessing
from audit.records.observed_tables import TODAY_ONLY
from audit.records.table_shape import ERASED, Table, text_of
from audit.records.tables import tables_of
from tests.audit.sample_record import EMPTY, FORMULA, RECORD
from tests.pdfs import pages, streams, words

OFFICE_SECONDS_MAX = 110
TO_CSV = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
FROM_CSV = "--infilter=Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false"
NO_JAVA = "Warning: failed to launch javaldx - java may not function correctly\n"
"""What LibreOffice says where no Java is installed, whatever the file."""


def table(record: RecordsOfProcessing, name: str) -> Table:
    """One table of a record."""
    return next(found for found in tables_of(record) if found.name == name)


def office(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """LibreOffice without a screen, with a profile of its own. It is given files, and nothing in them leads out."""
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", "--norestore", *arguments]
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=OFFICE_SECONDS_MAX,
            cwd=folder,
            env={**os.environ, "HOME": str(folder)},
            check=True,
        )
    except FileNotFoundError:
        pytest.fail("LibreOffice is missing: install libreoffice-calc-nogui. Must-show 7 is not shown without it.")


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What LibreOffice complained about."""
    return done.stderr.replace(NO_JAVA, "").strip()


def rows_of(content: bytes) -> list[list[str]]:
    """The rows of a CSV file with a byte order mark."""
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def expected(found: Table, *, between: str, plain: bool = False) -> list[list[str]]:
    """What a sheet or file should hold, as text."""
    head = [title_of(found, column) for column in found.columns]
    defused = (lambda text: text) if plain else neutralised
    rows = [[defused(text_of(cell, between=between)) for cell in row] for row in found.rows]
    if not rows and plain and found.empty:
        rows = [[found.empty, *[""] * (len(head) - 1)]]
    return [head, *rows]


# What is in it --------------------------------------------------------------------------------------------------------


def test_every_row_has_a_cell_for_every_column() -> None:
    """Given a record with everything, and one with nothing, then no table has a row that is too long or too short."""
    for record in (RECORD, EMPTY):
        for found in tables_of(record):
            assert {len(row) for row in found.rows} <= {len(found.columns)}, found.name
            assert found.rows or found.empty, found.name
    assert len({found.name for found in tables_of(RECORD)}) == len(tables_of(RECORD))


def test_every_text_of_the_record_stands_in_some_table() -> None:
    """Given a record, when all its tables are read, then no word, code, day or number of the model is missing."""
    there = " ".join(text_of(cell, between=" ") for found in tables_of(RECORD) for row in found.rows for cell in row)
    left_out = {"kind", "role", "key", "code", "meaning", "safeguard", "severity"}

    def walk(value: Any, name: str) -> Iterator[tuple[str, Any]]:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            for field in dataclasses.fields(value):
                yield from walk(getattr(value, field.name), field.name)
        elif isinstance(value, tuple):
            for one in value:
                yield from walk(one, name)
        elif value is not None and not isinstance(value, bool) and name not in left_out:
            yield name, value

    missing = [(name, value) for name, value in walk(RECORD, "record") if text_of(value) not in there]
    topics = {"first_on", "last_on"}
    assert [found for found in missing if found[0] not in topics] == []


def test_every_field_of_article_30_has_a_column() -> None:
    """Given Art. 30(1) and 30(2), then each of their points is named by a table that is no extra."""
    named = " ".join(found.article for found in tables_of(RECORD) if not found.extra)
    for point in (
        "30(1)(a)",
        "30(1)(b)",
        "30(1)(d)",
        "30(1)(e)",
        "30(1)(f)",
        "30(1)(g)",
        "30(2)(a)",
        "30(2)(c)",
        "30(2)(d)",
    ):
        assert point in named, point
    columns = {column.title: column.extra for column in table(RECORD, "activities").columns}
    assert not columns["Categories of data subjects"]  # 30(1)(c)
    assert not columns["Categories of personal data"]
    assert not {c.title: c.extra for c in table(RECORD, "processing-for-others").columns}["Categories of processing"]


def test_what_the_article_does_not_ask_for_is_marked() -> None:
    """Given the model's extras, then each is an extra column or an extra table."""
    columns = {column.title: column.extra for column in table(RECORD, "activities").columns}
    assert sorted(EXTRAS) == ["findings", "lawful_bases", "measures.code", "observed", "source"]
    assert columns["Lawful bases"]
    assert columns["Words from"]
    assert {column.title: column.extra for column in table(RECORD, "measures").columns}["Code"]
    for name in ("observed-categories", "observed-recipients", "retention", "oldest-keys", "findings"):
        assert table(RECORD, name).extra


def test_erased_words_say_so_and_codes_remain() -> None:
    """Given entries whose keys are destroyed, then the tables say erased beside the codes."""
    recipient = table(RECORD, "recipients").rows[1]
    assert (recipient[2], recipient[5]) == (ERASED, ("FR",))
    assert table(RECORD, "retired").rows[0][1] == ERASED
    assert table(RECORD, "parties").rows[2][:3] == ("Joint controller", ERASED, None)
    assert table(EMPTY, "about").rows[0][1] == ERASED


def test_what_only_today_can_tell_is_no_empty_table() -> None:
    """Given a record as of an earlier day, then it says why there are no living keys in it."""
    assert table(EMPTY, "oldest-keys").empty == TODAY_ONLY
    assert TODAY_ONLY in record_page(EMPTY)


# CSV ------------------------------------------------------------------------------------------------------------------


def test_csv_holds_every_cell_and_none_that_runs() -> None:
    """Given a record with formulas in its texts, when it is CSV, then all cells are there and spreadsheets run none."""
    for found in tables_of(RECORD):
        content = table_csv(found)
        assert content.startswith(b"\xef\xbb\xbf")
        assert rows_of(content) == expected(found, between="; ")
        for row in rows_of(content):
            assert not [cell for cell in row if re.match(r"[=+\-@\t\r]", cell)], found.name
    purposes = rows_of(record_csv(RECORD, "purposes"))
    assert ["newsletter", f"'{FORMULA}"] in purposes
    with pytest.raises(UnknownTable, match="purposes"):
        record_csv(RECORD, "nonsense")


def test_the_zip_has_every_table_and_the_same_bytes_each_time() -> None:
    """Given a record, when it is packed twice, then the zips are equal and hold one file for each table, in order."""
    packed = record_zip(RECORD)
    assert packed == record_zip(RECORD)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [f"{n:02}-{found.name}.csv" for n, found in enumerate(tables_of(RECORD), 1)]
        assert archive.read(names[0]) == table_csv(tables_of(RECORD)[0])


# XLSX -----------------------------------------------------------------------------------------------------------------


def test_a_workbook_has_real_dates_and_numbers_and_a_frozen_head() -> None:
    """Given a workbook, when openpyxl reads it, then days are days, numbers are numbers, and texts are whole."""
    book = openpyxl.load_workbook(io.BytesIO(record_xlsx(RECORD)))
    assert book.sheetnames == [found.name for found in tables_of(RECORD)]
    for found in tables_of(RECORD):
        sheet = book[found.name]
        assert sheet.freeze_panes == "A2"
        assert [cell.value for cell in sheet[1]] == [title_of(found, column) for column in found.columns]
        assert sheet.column_dimensions["A"].width > 8
        for row, cells in zip(found.rows, sheet.iter_rows(min_row=2), strict=True):
            for value, cell in zip(row, cells, strict=True):
                assert _same(value, cell.value), (found.name, value, cell.value)
    assert (book["activities"].row_dimensions[2].height or 0) > (book["purposes"].row_dimensions[2].height or 0) > 0
    about = {row[0].value: row[1] for row in book["about"].iter_rows(min_row=2)}
    assert about["As of"].is_date
    assert about["Made at (UTC)"].value.isoformat() == "2026-11-21T20:15:07"
    assert about["Takes in the log up to position"].value == 123_456


def _same(value: Any, read: Any) -> bool:
    if isinstance(value, datetime):
        return bool(read == value.replace(tzinfo=None))
    if isinstance(value, date):
        return isinstance(read, datetime) and read.date() == value
    if isinstance(value, int) and not isinstance(value, bool):
        return bool(read == value)
    return bool((read or "") == text_of(value, between="\n"))


def test_nothing_in_a_workbook_runs_or_leads_anywhere() -> None:
    """Given texts that are formulas and links, when they are in a workbook, then it has strings and nothing else."""
    content = record_xlsx(RECORD)
    book = openpyxl.load_workbook(io.BytesIO(content))
    kinds = {cell.data_type for sheet in book for row in sheet.iter_rows() for cell in row}
    assert kinds <= {"s", "n", "d"}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        sheets = b"".join(archive.read(name) for name in names)
    assert not [name for name in names if "vba" in name.lower() or "external" in name.lower()]
    assert b"<f>" not in sheets
    assert b"<hyperlink " not in sheets.lower()
    assert record_xlsx(RECORD) == content


def test_a_text_that_no_cell_holds_is_cut_and_says_so() -> None:
    """Given a text longer than a cell, then it is cut to fit, with where the rest is; its own sheet has all of it."""
    long = "x" * (CELL_CHARACTERS_MAX + 5)
    assert fitting(long[:-5]) == long[:-5]
    assert "5 more characters" in fitting(long)
    assert len(fitting("x" * 10_000_000)) < 32_767
    many = tuple("p" * 3_900 + str(n) for n in range(20))
    activity = dataclasses.replace(RECORD.activities[0], purposes=many)
    book = openpyxl.load_workbook(io.BytesIO(record_xlsx(dataclasses.replace(RECORD, activities=(activity,)))))
    assert [row[1].value for row in book["purposes"].iter_rows(min_row=2)] == list(many)
    assert "more characters" in book["activities"]["C2"].value


def test_times_are_utc_in_every_form() -> None:
    """Given a record made by a clock of another zone, then the forms say the moment in UTC."""
    elsewhere = RECORD.made_at.astimezone(timezone(timedelta(hours=5, minutes=30)))
    record = dataclasses.replace(RECORD, made_at=elsewhere)
    assert record_csv(record, "about") == record_csv(RECORD, "about")
    assert record_xlsx(record) == record_xlsx(RECORD)
    assert record_jsonld(record)["dct:created"] == "2026-11-21T20:15:07Z"


def test_libreoffice_opens_the_workbook_without_a_word_and_shows_every_cell(tmp_path: Path) -> None:
    """Given the workbook, when LibreOffice opens it and writes each sheet as CSV, then it repairs nothing, warns of
    nothing, and every cell comes out as it went in (must-show 7)."""
    for record, name in ((RECORD, "full"), (EMPTY, "empty")):
        (tmp_path / f"{name}.xlsx").write_bytes(record_xlsx(record))
        done = office(tmp_path, "--convert-to", TO_CSV, "--outdir", "out", f"{name}.xlsx")
        assert said(done) == ""
        assert not re.search(r"repair|corrupt|damag|error", done.stdout, re.IGNORECASE)
        for found in tables_of(record):
            read = rows_of((tmp_path / "out" / f"{name}-{found.name}.csv").read_bytes())
            assert read == expected(found, between="\n", plain=True), found.name


def test_libreoffice_opens_the_csv_files_and_shows_every_cell(tmp_path: Path) -> None:
    """Given the CSV files, when LibreOffice opens each and writes a workbook, then every cell comes out again and no
    formula came to be (must-show 7)."""
    with zipfile.ZipFile(io.BytesIO(record_zip(RECORD))) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    done = office(tmp_path, FROM_CSV, "--convert-to", "xlsx", "--outdir", "out", *names)
    assert said(done) == ""
    for name, found in zip(names, tables_of(RECORD), strict=True):
        book = openpyxl.load_workbook(tmp_path / "out" / Path(name).with_suffix(".xlsx"))
        sheet = book.active
        assert sheet is not None
        wanted = expected(found, between="; ")
        for row, cells in zip(wanted, sheet.iter_rows(max_col=len(found.columns)), strict=True):
            assert [_shown(cell.value) for cell in cells] == row, found.name
        assert {cell.data_type for row in sheet.iter_rows() for cell in row} <= {"s", "n", "d"}


def _shown(value: Any) -> str:
    return text_of(value.date() if isinstance(value, datetime) and value.hour == value.second == 0 else _utc(value))


def _utc(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def test_the_control_a_workbook_that_is_damaged_is_not_opened(tmp_path: Path) -> None:
    """Given a workbook with a sheet cut short, when LibreOffice is asked, then no sheet comes out whole (the control
    of the tests above: they would notice)."""
    damaged = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(record_xlsx(RECORD))) as whole, zipfile.ZipFile(damaged, "w") as cut:
        for name in whole.namelist():
            content = whole.read(name)
            cut.writestr(name, content[: len(content) // 2] if name.endswith("sheet2.xml") else content)
    (tmp_path / "damaged.xlsx").write_bytes(damaged.getvalue())
    done = office(tmp_path, "--convert-to", TO_CSV, "--outdir", "out", "damaged.xlsx")
    path = tmp_path / "out" / "damaged-parties.csv"
    read = rows_of(path.read_bytes()) if path.exists() else []
    assert said(done) or read != expected(table(RECORD, "parties"), between="\n", plain=True)


# PDF ------------------------------------------------------------------------------------------------------------------


def test_a_pdf_shows_the_record_and_holds_it_for_machines() -> None:
    """Given a record, when it is drawn, then its words are on paper, the JSON-LD is inside, and the bytes repeat."""
    content = record_pdf(RECORD)
    assert content == record_pdf(RECORD)
    seen = words(content)
    for text in ("Newsletter to customers", "21 November 2026", "Amazon SES", "none is declared", "Art. 30(1)(f)"):
        assert text in seen, text
    for found in tables_of(RECORD):
        assert (found.name in TOLD_ELSEWHERE) != (found.title in seen or found.name == "about"), found.name
    (held,) = [stream for stream in streams(content) if stream.startswith(b"{")]
    assert orjson.loads(held) == record_jsonld(RECORD)
    assert ATTACHED.encode() in content
    assert record_pdf(EMPTY)


def test_a_very_long_record_can_be_drawn() -> None:
    """Given as many words as a register takes, when they are drawn, then there are pages enough and no error."""
    activity = dataclasses.replace(RECORD.activities[0], purposes=tuple("word " * 800 for _ in range(60)))
    findings = tuple(dataclasses.replace(RECORD.findings[0], words="y" * 4_000) for _ in range(3))
    content = record_pdf(dataclasses.replace(RECORD, activities=(activity,), findings=findings))
    assert pages(content) > 10
    assert words(content).count("y") > 3 * 4_000


def test_a_record_of_many_years_can_be_drawn() -> None:
    """Given twenty years of months that retention destroyed, when they are drawn, then each stands on the paper, in
    rows that go on from page to page."""
    periods = tuple(f"{2026 + number // 12}-{number % 12 + 1:02}" for number in range(240))
    enforced = dataclasses.replace(RECORD.observed.enforced[0], periods=periods)
    observed = dataclasses.replace(RECORD.observed, enforced=(enforced,))
    text = words(record_pdf(dataclasses.replace(RECORD, observed=observed)))
    assert [period for period in periods if period not in text] == []


def test_no_day_is_torn_on_paper() -> None:
    """Given a narrow column of days beside wide ones of words, when it is drawn, then each day stands in one piece."""
    assert "2026-11-01 5.1" in words(record_pdf(RECORD)), "the finding's `since`, then its clause"


# HTML -----------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data


def test_the_page_says_everything_and_runs_nothing() -> None:
    """Given texts that are markup, when they stand on the page, then they are text; there is no script and no link
    that leads out, and the policy allows the page's own style by its hash only."""
    page = Page()
    page.feed(record_page(RECORD))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "img", "iframe", "form", "b", "object"}
    assert not [
        attributes for _, attributes in page.tags if any(n.startswith("on") or n == "style" for n in attributes)
    ]
    assert all((a.get("href") or "#").startswith("#") for _, a in page.tags)
    assert CONTENT_POLICY.count("sha256-") == 1
    assert "unsafe" not in CONTENT_POLICY
    there = re.sub(r"\s+", " ", page.text.replace(",", ""))
    for found in tables_of(RECORD):
        for row in found.rows if found.name not in TOLD_ELSEWHERE else ():
            for cell in row:
                for text in cell if isinstance(cell, tuple) else (text_of(cell),):
                    assert re.sub(r"\s+", " ", text.replace(",", "")).strip() in there, (found.name, text)


def test_the_page_can_be_read_by_everybody() -> None:
    """Given the page, then its heads have scopes, its parts have names that exist, and its language is said (WCAG)."""
    for record in (RECORD, EMPTY):
        page = Page()
        page.feed(record_page(record))
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert ("html", {"lang": "en"}) in page.tags
        assert all(a.get("scope") in ("col", "row") for tag, a in page.tags if tag == "th")
        assert [tag for tag, _ in page.tags].count("h1") == 1
        pointed = [a[n] for _, a in page.tags for n in ("aria-labelledby",) if n in a]
        assert set(pointed) <= set(ids)
        assert {str(a["href"])[1:] for tag, a in page.tags if tag == "a"} <= set(ids)
        scrolled = [a for _, a in page.tags if a.get("class") == "wide"]
        assert all(a.get("tabindex") == "0" and a.get("role") == "region" for a in scrolled)


def test_words_keep_their_own_direction_and_lines() -> None:
    """Given words from right to left beside words from left to right, and an address of several lines, then each stands
    by itself on the page, so that neither moves the other's signs, and its line ends show (Unicode TR 9)."""
    arabic = "الرسالة الإخبارية (عملاء) 2026: C++"
    activity = dataclasses.replace(RECORD.activities[0], name=arabic, purposes=(arabic, "To tell"))
    page = record_page(dataclasses.replace(RECORD, account_name=arabic, activities=(activity,)))
    assert page.count(f"<bdi>{arabic}</bdi>") == page.count(arabic) >= 4
    assert "<bdi>Weg 1\n10115 Berlin</bdi>" in page
    assert re.search(r"bdi \{[^}]*white-space: pre-line", STYLE)


def test_a_record_that_is_not_counted_to_its_end_is_not_called_good() -> None:
    """Given a record without findings, then its page says so in green; while the log goes on behind what was counted,
    it says how far that is, and nothing is green."""
    whole = dataclasses.replace(
        EMPTY, observed=dataclasses.replace(EMPTY.observed, counted_to=EMPTY.position), findings=()
    )
    good, behind = record_page(whole), record_page(EMPTY)
    assert 'class="tile good"' in good
    assert "without a gap" not in good
    assert 'class="tile good"' not in behind
    assert "up to position 123,400 of 123,456" in behind
    assert "findings so far" in behind


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(scheme: int) -> None:
    """Given the colours of both schemes, then each text has a contrast of at least 4.5 on each ground it stands on."""
    block = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
    pairs = [(text, ground) for text in ("ink", "soft", "link") for ground in ("paper", "panel")]
    pairs += [("good", "good-bg"), ("bad", "bad-bg"), ("mark", "mark-bg"), ("bad", "paper")]
    for text, ground in pairs:
        one, other = sorted((_luminance(colours[text]), _luminance(colours[ground])), reverse=True)
        assert (one + 0.05) / (other + 0.05) >= 4.5, (text, ground)


# JSON-LD --------------------------------------------------------------------------------------------------------------


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every node of a document, but not inside data of ours."""
    if isinstance(value, dict):
        yield value
        for name, held in value.items():
            if name not in ("@context", "lethe:observed", "lethe:findings"):
                yield from nodes(held)
    elif isinstance(value, list):
        for one in value:
            yield from nodes(one)


@pytest.mark.parametrize("record", [RECORD, EMPTY], ids=["full", "empty"])
def test_every_name_of_the_document_is_defined_in_it(record: RecordsOfProcessing) -> None:
    """Given the JSON-LD, then its context is inside, each prefix is bound in it, and each IRI leads to a node or to a
    vocabulary (expanded by hand: no network)."""
    document = orjson.loads(orjson.dumps(record_jsonld(record)))
    bound = document["@context"]
    assert bound == orjson.loads(orjson.dumps(context()))
    assert all(isinstance(value, str | dict | float) for value in bound.values())
    ids = {node["@id"] for node in nodes(document) if "@id" in node}
    for node in nodes(document):
        for name, value in node.items():
            if name.startswith("@"):
                types = value if isinstance(value, list) else [value]
                assert name != "@type" or all(t.partition(":")[0] in bound for t in types), types
                continue
            assert name.partition(":")[0] in bound, name
            how = bound.get(name)
            if isinstance(how, dict) and how["@type"] == "@id":
                for iri in value if isinstance(value, list) else [value]:
                    if isinstance(iri, str):
                        assert iri in ids or iri.partition(":")[0] in bound, (name, iri)


def test_the_document_says_what_article_30_asks_for_in_dpv() -> None:
    """Given a record, then its rows are processes with purposes, data, subjects, recipients, transfers and limits."""
    document = record_jsonld(RECORD)
    assert document["@type"] == "dpv:ROPA"
    newsletter, hosting, ended = document["dpv:hasProcess"]
    assert newsletter["lethe:article"] == "30(1)"
    assert [purpose["dct:description"] for purpose in newsletter["dpv:hasPurpose"]] == list(
        RECORD.activities[0].purposes
    )
    assert newsletter["dpv:hasLegalBasis"]["@type"] == "eu-gdpr:A6-1-a"
    assert newsletter["dpv:hasPersonalData"][0]["skos:broader"] == ["pd:EmailAddress", "pd:Name"]
    us, gb = newsletter["dpv:hasProcessing"]
    assert us["dpv:hasLegalBasis"]["@type"] == "eu-gdpr:A46-2-c"
    assert gb["dpv:hasLegalBasis"]["dpv:hasApplicability"] == "dpv:NotAvailable"
    assert hosting["lethe:article"] == "30(2)"
    assert hosting["dpv:hasDataProcessor"] == "urn:uuid:0a1b2c3d-0000-7000-8000-000000000001#party/lethe"
    assert ended["dpv:hasJustification"]
    assert document["lethe:observed"]["counted_to"] == 123_400
    assert [finding["code"] for finding in document["lethe:findings"]] == ["undeclared_category", "pack_differs"]
    assert record_jsonld(EMPTY)["lethe:findings"] == []


# All forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_can_be_had(form: RecordForm) -> None:
    """Given a record, when each form is made, then it is bytes under a name that says the day and no account."""
    assert FORMS[form].render(RECORD)
    assert FORMS[form].render(EMPTY)
    assert file_name(RECORD, form) == f"records-of-processing-2026-11-21.{FORMS[form].suffix}"
