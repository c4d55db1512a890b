"""The forms in which a record of processing can be had, for the command line and for the HTTP API alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import orjson

from api.records_page import record_page
from audit.records.as_csv import record_zip
from audit.records.as_jsonld import record_jsonld
from audit.records.as_pdf import record_pdf
from audit.records.as_xlsx import record_xlsx
from audit.records.model import RecordsOfProcessing

RecordForm = Literal["html", "csv", "xlsx", "pdf", "jsonld"]


class Form(NamedTuple):
    """How a form is made, what it is called on the wire, and how its file's name ends."""

    render: Callable[[RecordsOfProcessing], bytes]
    media_type: str
    suffix: str


FORMS: Final[dict[RecordForm, Form]] = {
    "html": Form(lambda record: record_page(record).encode(), "text/html; charset=utf-8", "html"),
    "csv": Form(record_zip, "application/zip", "zip"),
    "xlsx": Form(record_xlsx, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    "pdf": Form(record_pdf, "application/pdf", "pdf"),
    "jsonld": Form(lambda record: orjson.dumps(record_jsonld(record)), "application/ld+json", "jsonld"),
}


def file_name(record: RecordsOfProcessing, form: RecordForm) -> str:
    """What a file with a record is called: the day it speaks of, and nothing of the account."""
    return f"records-of-processing-{record.as_of.on.isoformat()}.{FORMS[form].suffix}"
