"""A record of processing on paper: each activity as a sheet of its own words, then what the ledger observed.

For whoever has to show it to an authority (GDPR Art. 30(4)). The same record gives the same bytes, whenever and
wherever it is drawn. The built-in faces draw Latin letters only; the JSON-LD form is attached inside, whole.
"""

from __future__ import annotations

from typing import Final

import orjson

from audit.records.as_csv import EXTRA, title_of
from audit.records.as_jsonld import record_jsonld
from audit.records.model import RecordsOfProcessing
from audit.records.table_shape import Table, text_of
from audit.records.tables import MEANINGS, tables_of
from projections.paper.days import long_day
from projections.paper.page import PALE, SAND, Paper

TITLE: Final = "Records of processing activities"
FOOT: Final = (
    "Days are UTC. (extra): not asked for by Article 30. "
    "The attached record for machines has the letters that stand here as question marks."
)

LABEL_MM: Final = 62

AS_CARDS: Final = frozenset({"activities", "processing-for-others"})
"""Tables too wide for paper: each row becomes a list of labels and values."""

AS_FACTS: Final = frozenset({"about"})

TOLD_ELSEWHERE: Final = frozenset({"purposes", "recipients"})
"""Tables that say row by row what the activities' own sheets and the list of all recipients say; to read, once does."""

ATTACHED: Final = "records-of-processing.jsonld"


def record_pdf(record: RecordsOfProcessing) -> bytes:
    """The PDF of a record, with its JSON-LD form attached."""
    account = record.account_name or str(record.tenant)
    paper = Paper(TITLE, f"{account}, as of {record.as_of.on.isoformat()}", FOOT, record.made_at, across=True)
    paper.add_page()
    tables = {table.name: table for table in tables_of(record)}
    _front(paper, record, tables["about"])
    for table in tables.values():
        if table.name in AS_CARDS:
            _cards(paper, table)
        elif table.name not in AS_FACTS | TOLD_ELSEWHERE:
            _table(paper, table)
    content = orjson.dumps(record_jsonld(record), option=orjson.OPT_INDENT_2)
    said = "The record for machines (JSON-LD, Data Privacy Vocabulary)"
    paper.attach(ATTACHED, content, said, record.made_at)
    return paper.drawn()


def _front(paper: Paper, record: RecordsOfProcessing, about: Table) -> None:
    paper.band("L E T H E", TITLE)
    paper.paragraph(f"As of {long_day(record.as_of.on)}, {MEANINGS[record.as_of.meaning]}.", 11)
    for label, value in about.rows:
        paper.fact(text_of(label), text_of(value), LABEL_MM)


def _cards(paper: Paper, table: Table) -> None:
    _heading(paper, table)
    for row in table.rows:
        name = table.columns[1]
        assert name.title == "Activity"
        paper.bar(text_of(row[1]))
        for column, cell in zip(table.columns, row, strict=True):
            if column is not name and text_of(cell):
                paper.fact(title_of(table, column), text_of(cell, between="\n"), LABEL_MM, aside=column.extra)
        paper.ln(3)


def _table(paper: Paper, table: Table) -> None:
    _heading(paper, table)
    if not table.rows:
        return
    paper.rows(
        [column.title if table.extra else title_of(table, column) for column in table.columns],
        [[text_of(cell, between="\n") for cell in row] for row in table.rows],
        [column.width for column in table.columns],
        fill=SAND if table.extra else PALE,
    )


def _heading(paper: Paper, table: Table) -> None:
    """A part's title with the point of Article 30 that it answers; where there are no rows, what that means."""
    paper.heading(table.title + (EXTRA if table.extra else ""), table.article)
    if not table.rows:
        paper.paragraph(table.empty, 9)
