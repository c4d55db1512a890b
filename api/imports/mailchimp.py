"""Reads a Mailchimp audience export as it comes: the zip, the unpacked folder, or its CSV files.

The export is three files known by the first word of their names: ``subscribed_…``, ``unsubscribed_…``
and ``cleaned_…`` (and sometimes ``nonsubscribed_…``, people who only ever got receipts). Each begins
with the audience's own fields, in any order and language, and ends with the tool's technical columns
from ``MEMBER_RATING`` on (FORMATS.md). Times are UTC. What a row of each file becomes:

- subscribed: a :class:`ContactRow`, and consent as far as the file can prove it. OPTIN_TIME and
  CONFIRM_TIME: a request and a grant, two facts with two sets of evidence (double opt-in; GDPR Art. 7(1)).
  OPTIN_TIME alone: a grant. No OPTIN_TIME: somebody imported the address, so no consent, whatever
  CONFIRM_TIME says.
- nonsubscribed: a contact without consent.
- unsubscribed and cleaned: a :class:`SuppressionRow` and no contact. A row whose date cannot be read
  still suppresses, without the date, and is reported too: a "no" is never lost over a typing error.

Suppressions are read first, so that nobody is mailable for a moment on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Literal

from api.imports.cells import UnreadableCell, country, iso_date, tag_list, utc_time
from api.imports.columns import CONTACT_FIELDS, described, field_columns, unique_names
from api.imports.errors import ImportFileError
from api.imports.mailchimp_files import ExportFile, Kind, export_files
from api.imports.rows import (
    SCOPE_ALL,
    SCOPE_MARKETING,
    ConsentAction,
    ConsentRow,
    ContactRow,
    ImportRow,
    RejectedRow,
    SuppressionRow,
)
from api.imports.tables import Row, Table, open_table
from domain.address import InvalidAddress, canonical_address, deliverable_address

SAMPLE_ROWS_MAX: Final = 200  # rows looked at to find an e-mail column whose name says nothing
CHANNEL: Final = "email"
TECHNICAL: Final = frozenset(
    {
        *("MEMBER_RATING", "OPTIN_TIME", "OPTIN_IP", "CONFIRM_TIME", "CONFIRM_IP", "LATITUDE", "LONGITUDE"),
        *("GMTOFF", "DSTOFF", "TIMEZONE", "CC", "REGION", "LAST_CHANGED", "LEID", "EUID", "NOTES", "TAGS"),
        *("UNSUB_TIME", "UNSUB_CAMPAIGN_TITLE", "UNSUB_CAMPAIGN_ID", "UNSUB_REASON", "UNSUB_REASON_OTHER"),
        *("CLEAN_TIME", "CLEAN_CAMPAIGN_TITLE", "CLEAN_CAMPAIGN_ID"),
    }
)
_NEEDED: Final[dict[Kind, str]] = {
    "subscribed": "OPTIN_TIME",
    "unsubscribed": "UNSUB_TIME",
    "cleaned": "CLEAN_TIME",
    "nonsubscribed": "LEID",
}
_USER_FIELDS: Final = ("first_name", "last_name", "phone", "birth_date")


def read_mailchimp(source: Path | Sequence[Path] | BinaryIO, *, purpose: str = "newsletter") -> Iterator[ImportRow]:
    """Yield the rows of an export: a zip, a folder, one of its CSV files or several of them.

    An open binary file must be a zip. ``purpose`` is what the opt-ins were for; the export does not say.
    Raises :class:`ImportFileError` at the call for whatever makes a file unreadable.
    """
    files = export_files(source)
    for export in files:
        with open_table(export.text) as table:
            Columns(table, export.kind)
    return _rows(files, purpose)


def _rows(files: list[ExportFile], purpose: str) -> Iterator[ImportRow]:
    for export in files:
        with open_table(export.text) as table:
            columns = Columns(table, export.kind)
            for row in columns.buffered_rows:
                yield from _row_of(columns, row, purpose)
            for row in columns.rows:
                yield from _row_of(columns, row, purpose)


def _row_of(columns: Columns, row: Row | RejectedRow, purpose: str) -> list[ImportRow]:
    if isinstance(row, RejectedRow):
        return [row]
    try:
        match columns.kind:
            case "subscribed":
                contact = columns.contact(row)
                return [contact, *columns.consents(row, contact.email, purpose)]
            case "nonsubscribed":
                return [columns.contact(row)]
            case "unsubscribed":
                return columns.suppression(row, "unsubscribed", SCOPE_MARKETING, "UNSUB")
            case "cleaned":
                return columns.suppression(row, "hard_bounce", SCOPE_ALL, "CLEAN")
    except (InvalidAddress, UnreadableCell) as error:
        return [columns.table.rejected(row.line, str(error), row.cells)]


class Columns:
    """What the columns of one export file mean. ``buffered_rows`` come before ``rows``."""

    def __init__(self, table: Table, kind: Kind) -> None:
        self.table = table
        self.kind = kind
        self.rows = table.rows()
        self.buffered_rows: list[Row | RejectedRow] = []
        header = table.header
        start = self._technical_start(header)
        # A few exports repeat a technical column: the first that is not empty counts.
        self._technical: dict[str, list[int]] = {}
        for index in range(start, len(header)):
            self._technical.setdefault(header[index].strip().upper(), []).append(index)
        found = field_columns(header[:start], CONTACT_FIELDS)
        self._email = found["email"] if "email" in found else self._email_by_content(start)
        # A user field called Country often holds words; the tool's own CC is the code.
        self._fields: dict[str, int] = {name: found[name] for name in _USER_FIELDS if name in found}
        named = {self._email, *self._fields.values()}
        names = unique_names(header[:start])
        self._custom = [(names[index], index) for index in range(start) if index not in named]
        self._custom += [
            (header[index].strip(), index)
            for index in range(start, len(header))
            if header[index].strip().upper() not in TECHNICAL
        ]

    def contact(self, row: Row) -> ContactRow:
        """Raises :class:`InvalidAddress` or :class:`UnreadableCell`."""
        custom = {name: value for name, index in self._custom if (value := row.cells[index])}
        if notes := self._technical_value(row, "NOTES"):
            custom["notes"] = notes
        birth_date = None
        try:
            birth_date = iso_date(self._field(row, "birth_date") or "", "birth_date")
        except UnreadableCell:  # the tool's own birthdays are MM/DD, without a year
            index = self._fields["birth_date"]
            custom[self.table.header[index].strip()] = row.cells[index]
        code = self._technical_value(row, "CC")
        return ContactRow(
            line=row.line,
            file=self.table.file,
            email=deliverable_address(row.cells[self._email]),
            first_name=self._field(row, "first_name"),
            last_name=self._field(row, "last_name"),
            phone=self._field(row, "phone"),
            country=country(code),
            birth_date=birth_date,
            category=None,
            source=None,
            custom=custom,
            tags=tag_list(self._technical_value(row, "TAGS")),
            cells=row.cells,
            header=self.table.header,
        )

    def consents(self, row: Row, email: str, purpose: str) -> list[ConsentRow]:
        """None, a grant, or a request and a grant. Raises :class:`UnreadableCell`."""
        opted_in = utc_time(self._technical_value(row, "OPTIN_TIME"), "OPTIN_TIME")
        confirmed = utc_time(self._technical_value(row, "CONFIRM_TIME"), "CONFIRM_TIME")
        if opted_in is None:
            return []
        if confirmed is not None and confirmed < opted_in:
            raise UnreadableCell("CONFIRM_TIME is before OPTIN_TIME: correct the two times")

        def act(action: ConsentAction, ip_column: str, method: str) -> ConsentRow:
            ip = self._technical_value(row, ip_column)
            evidence = {"ip": ip} if ip else {}
            at = confirmed if ip_column == "CONFIRM_IP" else opted_in
            evidence["method"] = method
            place = (row.line, self.table.file, email)
            return ConsentRow(*place, purpose, CHANNEL, action, at, evidence, row.cells, self.table.header)

        if confirmed is None:
            return [act("grant", "OPTIN_IP", "single_opt_in")]
        return [act("request", "OPTIN_IP", "double_opt_in"), act("grant", "CONFIRM_IP", "double_opt_in")]

    def suppression(
        self, row: Row, cause: Literal["unsubscribed", "hard_bounce"], scope: str, prefix: str
    ) -> list[ImportRow]:
        """The suppression, and a rejection besides where its date cannot be read."""
        email = deliverable_address(row.cells[self._email])
        also: list[ImportRow] = []
        since = None
        try:
            since = utc_time(self._technical_value(row, f"{prefix}_TIME"), f"{prefix}_TIME")
        except UnreadableCell as error:
            reason = f"suppressed, but without its date. {error}"
            also.append(self.table.rejected(row.line, reason, row.cells))
        reason = self._technical_value(row, f"{prefix}_REASON")
        other = self._technical_value(row, f"{prefix}_REASON_OTHER")
        suppression = SuppressionRow(
            line=row.line,
            file=self.table.file,
            email=email,
            cause=cause,
            scope=scope,
            since=since,
            campaign=self._technical_value(row, f"{prefix}_CAMPAIGN_ID") or None,
            reason=": ".join(filter(None, (reason, other))) or None,
            cells=row.cells,
            header=self.table.header,
        )
        return [suppression, *also]

    def _technical_start(self, header: list[str]) -> int:
        names = [name.strip().upper() for name in header]
        needed = _NEEDED[self.kind]
        if needed not in names:
            raise ImportFileError(
                f"{self.table.file} is named like a Mailchimp export but has no column {needed}:"
                f" {described(header)}. Export it again with all columns, or import it as a plain CSV."
            )
        if "MEMBER_RATING" in names:
            return len(names) - 1 - names[::-1].index("MEMBER_RATING")
        start = names.index(needed)
        while start > 0 and names[start - 1] in TECHNICAL:
            start -= 1
        return start

    def _email_by_content(self, start: int) -> int:
        """The user's column with the most valid addresses in the first rows, if it is most of them."""
        for row in self.rows:
            self.buffered_rows.append(row)
            if len(self.buffered_rows) == SAMPLE_ROWS_MAX:
                break
        sample = [row.cells for row in self.buffered_rows if isinstance(row, Row)]
        counts = [sum(_is_address(cells[index]) for cells in sample) for index in range(start)]
        best = max(range(start), key=counts.__getitem__, default=0)
        if not sample and not self.buffered_rows:
            return 0  # a file without rows: an empty audience is no fault
        if not counts or counts[best] * 2 <= len(sample):
            raise ImportFileError(
                f"{self.table.file} has no column of e-mail addresses: {described(self.table.header)}."
                " Name it 'Email Address' in the first line."
            )
        return best

    def _field(self, row: Row, name: str) -> str | None:
        index = self._fields.get(name)
        return None if index is None else row.cells[index].strip() or None

    def _technical_value(self, row: Row, name: str) -> str:
        for index in self._technical.get(name, ()):
            if value := row.cells[index].strip():
                return value
        return ""


def _is_address(cell: str) -> bool:
    try:
        canonical_address(cell)
    except InvalidAddress:
        return False
    return True
