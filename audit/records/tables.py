"""A record of processing as tables: what the CSV, XLSX, PDF and HTML forms all show, in one order and one wording.

A table says which point of GDPR Article 30 it answers. What the Article does not ask for is marked as an extra, a
whole table or single columns of one.
"""

from __future__ import annotations

from typing import Final

from audit.records.declared_tables import declared_tables
from audit.records.model import RecordsOfProcessing
from audit.records.observed_tables import observed_tables
from audit.records.table_shape import ERASED, Column, Row, Table

MEANINGS: Final = {
    "recorded": "as the ledger knew it by the end of this day (UTC)",
    "occurred": "as it was by the end of this day (UTC), as far as is known by now",
}


def tables_of(record: RecordsOfProcessing) -> tuple[Table, ...]:
    """Every table of a record, in order; the first says what it is a record of."""
    return (_about(record), *declared_tables(record), *observed_tables(record))


def _about(record: RecordsOfProcessing) -> Table:
    rows: list[Row] = [
        ("Account", record.account_name or ERASED),
        ("Account id", str(record.tenant)),
        ("Kind of account", "the platform's own" if record.operator else "a controller's"),
        ("As of", record.as_of.on),
        ("Meaning", MEANINGS[record.as_of.meaning]),
        ("Made at (UTC)", record.made_at),
        ("Takes in the log up to position", record.position),
        ("Observed up to position", record.observed.counted_to),
        ("Policy", f"{record.pack_title} ({record.pack}, version {record.pack_version})"),
        ("Retention last carried out on", record.observed.last_plan_on),
        ("Persons erased", record.observed.erasures),
        ("Last person erased on", record.observed.last_erasure_on),
        ("Activities in force", len(record.activities)),
        ("Findings", sum(finding.severity == "finding" for finding in record.findings)),
        ("Extras", "what Article 30 does not ask for is marked (extra)"),
    ]
    columns = (Column("What", 32), Column("Value", 60))
    return Table("about", "About this record", "Art. 30", columns, tuple(rows), "")
