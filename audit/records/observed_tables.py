"""The tables of what the ledger observed, and of where that differs from what was declared. All of them are extras."""

from __future__ import annotations

from typing import Final

from audit.records.model import (
    Enforced,
    Finding,
    ObservedCategory,
    ObservedRecipient,
    OldestKey,
    RecordsOfProcessing,
)
from audit.records.table_shape import Column, Row, Table

TODAY_ONLY: Final = "The vault knows the keys of today, so only a record as of today can tell this."


def observed_tables(record: RecordsOfProcessing) -> tuple[Table, ...]:
    """In the order of a record."""
    return (
        _categories(record),
        _recipients(record),
        _enforced(record),
        _oldest_keys(record),
        _findings(record),
    )


def _categories(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Category", 28), Column("Code", 20), Column("Events", 12)),
        *(Column("First on", 12), Column("Last on", 12), Column("Declared by", 26), Column("Kinds of events", 50)),
    )

    def row(seen: ObservedCategory) -> Row:
        kinds = tuple(f"{topic.topic}: {topic.events}" for topic in seen.topics)
        return (
            *(seen.category.words, seen.category.code, seen.events, seen.first_on, seen.last_on),
            *(seen.declared_by or "not declared", kinds),
        )

    rows = tuple(row(seen) for seen in record.observed.categories)
    return _extra("observed-categories", "Categories of data really stored", columns, rows, "Nothing is stored yet.")


def _recipients(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Seen as", 24), Column("What", 40), Column("Events", 12)),
        *(Column("First on", 12), Column("Last on", 12), Column("Declared as", 26)),
    )

    def row(seen: ObservedRecipient) -> Row:
        return (seen.code, seen.words, seen.events, seen.first_on, seen.last_on, seen.declared_as or "not declared")

    rows = tuple(row(seen) for seen in record.observed.recipients)
    return _extra("observed-recipients", "Recipients really used", columns, rows, "Nothing went to anybody yet.")


def _enforced(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Category", 24), Column("Clause of the policy", 20), Column("Keys destroyed", 14)),
        *(Column("Destructions", 12), Column("Last on", 12), Column("Periods", 50)),
    )

    def row(done: Enforced) -> Row:
        return (done.category, done.clause, done.keys, done.destructions, done.last_on, done.periods)

    rows = tuple(row(done) for done in record.observed.enforced)
    return _extra("retention", "Retention really enforced", columns, rows, "No key was destroyed yet.")


def _oldest_keys(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Category", 24), Column("Keys of", 12), Column("Living keys", 12), Column("Oldest", 14)),
        *(Column("Clause of the policy", 20), Column("Due on", 12), Column("Overdue", 12)),
    )

    def row(key: OldestKey) -> Row:
        return (key.category, key.kind, key.keys, key.oldest, key.clause, key.due_on, key.overdue)

    known = record.observed.oldest_keys
    rows = tuple(row(key) for key in known or ())
    empty = TODAY_ONLY if known is None else "There is no key."
    return _extra("oldest-keys", "Oldest living keys", columns, rows, empty)


def _findings(record: RecordsOfProcessing) -> Table:
    columns = (
        *(Column("Severity", 12), Column("What differs", 50), Column("What to do", 50), Column("About", 24)),
        *(Column("Since", 12), Column("Clause of the policy", 20), Column("Code", 24)),
    )

    def row(finding: Finding) -> Row:
        words = (finding.severity, finding.words, finding.what_to_do, finding.about)
        return (*words, finding.since, finding.clause, finding.code)

    rows = tuple(row(finding) for finding in record.findings)
    empty = "What was declared and what the ledger observed do not differ."
    return _extra("findings", "Findings", columns, rows, empty)


def _extra(name: str, title: str, columns: tuple[Column, ...], rows: tuple[Row, ...], empty: str) -> Table:
    return Table(name, title, "", columns, rows, empty, extra=True)
