"""A record of processing as one page of HTML. It loads nothing and runs nothing: its style is inside it, allowed by
its hash, so that it can be kept as a file and opened anywhere."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib import resources
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from audit.records.as_pdf import AS_CARDS, TOLD_ELSEWHERE
from audit.records.model import RecordsOfProcessing
from audit.records.table_shape import text_of
from audit.records.tables import MEANINGS, tables_of

STYLE: Final = (resources.files("api") / "static" / "records.css").read_text(encoding="utf-8")
CONTENT_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)

_pages: Final = Environment(
    loader=PackageLoader("api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def record_page(record: RecordsOfProcessing) -> str:
    """The record as one page."""
    return _pages.get_template("records_of_processing.html").render(
        record=record,
        tables=[table for table in tables_of(record) if table.name not in TOLD_ELSEWHERE],
        cards=AS_CARDS,
        meaning=MEANINGS[record.as_of.meaning],
        style=STYLE,
        text=text_of,
    )
