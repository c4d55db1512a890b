"""Reads a plain CSV of contacts, or one of consents, row by row in bounded memory.

Both take what spreadsheets write: UTF-8 or UTF-16 with BOM, ``,`` ``;`` or tab, any line ends, quotes
and line breaks inside cells. Column names are flexible (``columns.py``). A row that cannot be taken is
yielded as :class:`RejectedRow` with its line and reason, and the next one is read. Formula cells such
as ``=cmd|...`` are kept as data; they are made harmless where we write CSV (``rejects.py``).

A file that cannot be read at all raises :class:`ImportFileError` at the call, before any row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from api.imports.cells import UnreadableCell, country, iso_date, tag_list, utc_time
from api.imports.columns import CONTACT_FIELDS, EMAIL, described, field_columns, unique_names
from api.imports.errors import ImportFileError
from api.imports.rows import EVIDENCE_KEYS, ConsentAction, ConsentRow, ContactRow, RejectedRow
from api.imports.sources import Source, TextSource, text_source
from api.imports.tables import Table, open_table
from domain.address import InvalidAddress, deliverable_address

CONSENT_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "email": EMAIL,
    "purpose": frozenset({"purpose"}),
    "channel": frozenset({"channel"}),
    "action": frozenset({"action", "consent"}),
    "occurred_at": frozenset({"occurred at", "time", "timestamp", "date", "datetime"}),
    "ip": frozenset({"ip", "ip address"}),
    "user_agent": frozenset({"user agent", "useragent"}),
    "form": frozenset({"form", "form url", "form name"}),
    "wording": frozenset({"wording", "consent text"}),
    "notice_version": frozenset({"notice version", "policy version"}),
    "method": frozenset({"method"}),
}

_ACTIONS: Final[Mapping[str, ConsentAction]] = {
    "request": "request",
    "requested": "request",
    "grant": "grant",
    "granted": "grant",
    "refuse": "refuse",
    "refused": "refuse",
    "withdraw": "withdraw",
    "withdrawn": "withdraw",
}


def read_contacts(source: Source, *, file: str | None = None) -> Iterator[ContactRow | RejectedRow]:
    """Yield a row for each contact of a CSV file with at least an e-mail column.

    ``file`` names the file in rows and messages when ``source`` is a stream. Columns other than those of
    CONTACT_FIELDS become ``custom``, under the name as given, where they are not empty.
    """
    text = text_source(source, file)
    _require(text, CONTACT_FIELDS, "email")
    return _contacts(text)


def read_consents(
    source: Source, *, file: str | None = None, purpose: str | None = None, channel: str = "email"
) -> Iterator[ConsentRow | RejectedRow]:
    """Yield a row for each act of consent of a CSV file with e-mail and action columns.

    ``purpose`` and ``channel`` stand in where the file has no such column or an empty cell; without
    ``purpose`` the column is required. Times without an offset are UTC. Other columns are passed over.
    """
    text = text_source(source, file)
    _require(text, CONSENT_FIELDS, "email", "action", *(() if purpose else ("purpose",)))
    return _consents(text, purpose or "", channel)


def _require(text: TextSource, fields: Mapping[str, frozenset[str]], *needed: str) -> None:
    with open_table(text) as table:
        found = field_columns(table.header, fields)
        missing = [name for name in needed if name not in found]
        if missing:
            raise ImportFileError(
                f"{text.name} has no column {' and no column '.join(map(repr, missing))}:"
                f" {described(table.header)}. Name the column that holds it in the first line."
            )


def _contacts(text: TextSource) -> Iterator[ContactRow | RejectedRow]:
    with open_table(text) as table:
        columns = ContactColumns(table, field_columns(table.header, CONTACT_FIELDS))
        for row in table.rows():
            if isinstance(row, RejectedRow):
                yield row
                continue
            try:
                contact = columns.contact(row.line, row.cells)
            except (InvalidAddress, UnreadableCell) as error:
                yield table.rejected(row.line, str(error), row.cells)
            else:
                yield contact


class ContactColumns:
    """Which column of a table means which field of a contact."""

    def __init__(self, table: Table, columns: Mapping[str, int]) -> None:
        self._file = table.file
        self._header = table.header
        names = unique_names(table.header)
        self._email = columns["email"]
        self._columns = columns
        known = set(columns.values())
        self._custom = [(names[index], index) for index in range(len(names)) if index not in known]

    def contact(self, line: int, cells: list[str]) -> ContactRow:
        """Raises :class:`InvalidAddress` or :class:`UnreadableCell`."""
        custom = {name: value for name, index in self._custom if (value := cells[index])}
        return ContactRow(
            line=line,
            file=self._file,
            email=deliverable_address(cells[self._email]),
            first_name=self._value(cells, "first_name"),
            last_name=self._value(cells, "last_name"),
            phone=self._value(cells, "phone"),
            country=country(self._value(cells, "country") or ""),
            birth_date=iso_date(self._value(cells, "birth_date") or "", "birth_date"),
            category=self._value(cells, "category"),
            source=self._value(cells, "source"),
            custom=custom,
            tags=tag_list(self._value(cells, "tags") or ""),
            cells=cells,
            header=self._header,
        )

    def _value(self, cells: list[str], field: str) -> str | None:
        index = self._columns.get(field)
        return None if index is None else cells[index].strip() or None


def _consents(text: TextSource, purpose: str, channel: str) -> Iterator[ConsentRow | RejectedRow]:
    with open_table(text) as table:
        columns = field_columns(table.header, CONSENT_FIELDS)
        for row in table.rows():
            if isinstance(row, RejectedRow):
                yield row
                continue
            cells = {field: row.cells[index].strip() for field, index in columns.items()}
            try:
                consent = ConsentRow(
                    line=row.line,
                    file=table.file,
                    email=deliverable_address(cells["email"]),
                    purpose=_purpose(cells.get("purpose") or purpose),
                    channel=(cells.get("channel") or channel).lower(),
                    action=_action(cells["action"]),
                    occurred_at=utc_time(cells.get("occurred_at", ""), "occurred_at"),
                    evidence={key: value for key in EVIDENCE_KEYS if (value := cells.get(key, ""))},
                    cells=row.cells,
                    header=table.header,
                )
            except (InvalidAddress, UnreadableCell) as error:
                yield table.rejected(row.line, str(error), row.cells)
            else:
                yield consent


def _purpose(cell: str) -> str:
    if not cell:
        raise UnreadableCell("purpose: say what the consent is for, such as newsletter")
    return cell


def _action(cell: str) -> ConsentAction:
    action = _ACTIONS.get(cell.casefold())
    if action is None:
        raise UnreadableCell("action: write one of request, grant, refuse, withdraw")
    return action
